"""A picture of a cloud: from a view that suits it, lit, with boxes and a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.gravity import rotation_to_z_up
from sas_ros.observation import Float64Array
from sas_ros.pictures.camera import Camera
from sas_ros.pictures.drawing import Color, Image, blend, draw_line, draw_text, panel_alpha
from sas_ros.pictures.font import text_alpha
from sas_ros.pictures.shading import eye_dome, lambert
from sas_ros.pictures.splat import point_spacing, splat
from sas_ros.pictures.view import choose_view

_FINER = 2  # pixels are drawn this many times finer and then averaged
_MARGIN = 0.04
_LIGHT = (0.35, -0.45, 0.82)  # towards it: right, toward the viewer, up

_PAPER = ((252, 252, 253), (226, 229, 234))
_NIGHT = ((40, 44, 52), (18, 20, 24))


@dataclass(frozen=True)
class Box:
    """A box to draw.

    Attributes:
        center: (3,) metres, in the frame of the points.
        rotation: (3, 3) whose columns are the box's axes.
        size: (3,) full lengths, metres.
        color: (3,) 0 to 255.
        label: drawn above it; "" for none.
    """

    center: npt.NDArray[np.floating[Any]]
    rotation: npt.NDArray[np.floating[Any]]
    size: npt.NDArray[np.floating[Any]]
    color: Color = (255, 255, 255)
    label: str = ""

    def corners(self) -> Float64Array:
        """(8, 3) corners; two of them share an edge when their numbers differ in one bit."""
        signs = np.array([[(i >> axis & 1) - 0.5 for axis in range(3)] for i in range(8)])
        rotation = np.asarray(self.rotation, np.float64)
        return np.asarray(signs * np.asarray(self.size) @ rotation.T + np.asarray(self.center))


def render_cloud(
    points: npt.NDArray[np.floating[Any]],
    colors: npt.NDArray[np.uint8] | None,
    *,
    up: npt.NDArray[np.floating[Any]] | Sequence[float],
    size: tuple[int, int] = (1280, 960),
    view: str = "auto",
    boxes: Sequence[Box] = (),
    legend: Sequence[tuple[str, Color]] = (),
    background: str = "light",
) -> npt.NDArray[np.uint8]:
    """Draw a cloud. The same arguments give the same picture, to the last bit.

    Args:
        points: (N, 3) metres in any frame; rows that are not finite are left out. If a sensor saw
            them from one place, that place should be the origin.
        colors: (N, 3) uint8, or None to colour by height.
        up: (3,) in the frame of the points.
        size: width and height in pixels.
        view: "room" (from above, without the ceiling and the walls in front), "sensor" (from where
            the sensor stood, raised a little), or "auto".
        boxes: drawn over the points, dashed where something hides them.
        legend: (text, colour) pairs.
        background: "light" or "dark".

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        SasError: no finite point, colours that do not fit, or an unknown view or background.
    """
    if view not in ("auto", "room", "sensor") or background not in ("light", "dark"):
        raise SasError(
            f'A picture has view "auto", "room" or "sensor" and background "light" or "dark", '
            f"not {view!r} and {background!r}."
        )
    points = np.asarray(points)
    valid = np.isfinite(points).all(axis=1)
    if not valid.any():
        raise SasError("A cloud without finite points cannot be drawn.")
    if colors is not None and np.shape(colors) != (len(points), 3):
        raise SasError(f"{len(points)} points need as many colours, not {np.shape(colors)}.")
    to_up = rotation_to_z_up(up)
    places = points[valid].astype(np.float64) @ to_up.T
    tints = height_colors(places[:, 2]) if colors is None else np.asarray(colors)[valid]
    area = _picture_area(size, legend)
    chosen = choose_view(places, view, size, area)
    places, tints = places[chosen.keep], tints[chosen.keep]
    image, depth = _draw_points(places, tints, chosen.camera, size, background)
    for box in boxes:
        _draw_box(image, depth, chosen.camera, box.corners() @ to_up.T, box)
    _draw_labels(image, chosen.camera, to_up, boxes)
    _draw_legend(image, legend, background)
    return np.asarray(np.clip(np.round(image), 0, 255).astype(np.uint8))
