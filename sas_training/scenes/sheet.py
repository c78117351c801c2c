"""A picture of scenes: a frame, its depth, the cloud from above, and what fusion makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.gravity import resolve_up
from sas_ros.observation import Cloud
from sas_ros.pictures import render_cloud
from sas_ros.pictures.drawing import draw_text
from sas_training.scenes.fusing import ColorAgreement
from sas_training.scenes.procedural.sheet import depth_colors, fitted
from sas_training.scenes.scene import Scene

Picture = npt.NDArray[np.uint8]

_PAPER, _INK = (250, 250, 251), (40, 44, 50)
_GAP = 6
_LARGE = 30.0
"""Metres; a scene that is larger across is drawn from above, not as a room without a ceiling."""


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet and what it shows."""

    title: str
    picture: Picture


def panels_of(
    scene: Scene,
    size: tuple[int, int],
    agreement: ColorAgreement | None = None,
    up: npt.NDArray[np.float64] | None = None,
) -> list[Panel]:
    """The pictures of a scene, each (height, width, 3) of `size` (width, height).

    The first usable frame after the middle of the recording, its depth (near warm, far cool, black
    where unknown), the cloud from above and, with `agreement`, the cloud in fused colours. Without
    `up` it is that of the scene, or estimated.
    """
    panels = []
    for number in range(len(scene.frames) // 2, len(scene.frames)):
        try:
            frame = scene.frames[number]
        except SasError:
            continue
        rows, columns = frame.image.shape[:2]
        panels.append(Panel(f"frame {frame.name}, {columns} x {rows}", framed(frame.image, size)))
        if frame.depth is not None:
            known = 100 * float((frame.depth > 0).mean())
            picture = framed(depth_colors(frame.depth), size)
            panels.append(Panel(f"its depth, known for {known:.0f} %", picture))
        break
    up = scene.up if up is None else up
    if up is None:
        up = resolve_up(Cloud(scene.points, scene.colors), None).direction
    view = "top" if float(np.ptp(scene.points, axis=0).max()) > _LARGE else "room"
    cloud = render_cloud(scene.points, scene.colors, up=up, size=size, view=view)
    panels.append(Panel(f"{scene.name}, {len(scene.points)} points", cloud))
    if agreement is not None:
        fused = render_cloud(scene.points, agreement.colors, up=up, size=size, view=view)
        title = f"colours fused from {len(scene.frames)} frames, off by {agreement.mean_error:.1f}"
        panels.append(Panel(title, fused))
    return panels


def draw_panels(rows: Sequence[Sequence[Panel]], size: tuple[int, int]) -> Picture:
    """Put the panels of each scene in a row; raises `SasError` where there are none."""
    if not any(rows):
        raise SasError("There is nothing to draw.")
    width, height = size
    text = max(8.0, height / 26)
    title = round(2.6 * text)
    most = max(len(row) for row in rows)
    sheet = np.empty((len(rows) * (height + title) + _GAP, most * (width + _GAP) + _GAP, 3), "f4")
    sheet[:] = _PAPER
    for number, row in enumerate(rows):
        top = number * (height + title)
        for place, panel in enumerate(row):
            left = place * (width + _GAP) + _GAP
            draw_text(sheet, panel.title, left, top + title / 2, text, _INK)
            sheet[top + title : top + title + height, left : left + width] = panel.picture
    return np.asarray(np.clip(np.round(sheet), 0, 255).astype(np.uint8))


def framed(image: Picture, size: tuple[int, int]) -> Picture:
    """An image of any shape in the middle of a picture of `size`, as large as fits."""
    width, height = size
    rows, columns = image.shape[:2]
    scale = min(width / columns, height / rows)
    inner = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    result = np.full((height, width, 3), 225, dtype=np.uint8)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    result[top : top + inner[1], left : left + inner[0]] = fitted(image, inner)
    return result
