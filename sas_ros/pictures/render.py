"""A picture of a cloud: from a view that suits it, lit, with boxes and a legend."""

from __future__ import annotations

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
from sas_ros.pictures.splat import close_holes, point_spacing, splat
from sas_ros.pictures.view import choose_view

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
            the sensor stood, raised a little), "top" (a floor plan), or "auto".
        boxes: drawn over the points, dashed where something hides them.
        legend: (text, colour) pairs.
        background: "light" or "dark".

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        SasError: no finite point, colours that do not fit, or an unknown view or background.
    """
    if view not in ("auto", "room", "sensor", "top") or background not in ("light", "dark"):
        raise SasError(
            'A picture has view "auto", "room", "sensor" or "top" and background "light" or '
            f'"dark", not {view!r} and {background!r}.'
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
    spacing = point_spacing(places)
    chosen = choose_view(places, spacing, view, size, area)
    kept = chosen.keep
    image, depth = _draw_points(
        places[kept], tints[kept], spacing[kept], chosen.camera, size, background
    )
    for box in boxes:
        _draw_box(image, depth, chosen.camera, box.corners() @ to_up.T, box)
    _draw_labels(image, chosen.camera, to_up, boxes)
    _draw_legend(image, legend, background)
    return np.asarray(np.clip(np.round(image), 0, 255).astype(np.uint8))


def height_colors(heights: Float64Array) -> npt.NDArray[np.uint8]:
    """(N, 3) uint8: from a cool low through a pale middle to a warm high colour."""
    low, high = np.percentile(heights, (2, 98))
    place = np.clip((heights - low) / max(float(high - low), 1e-9), 0.0, 1.0)
    stops = np.array([[62, 92, 138], [108, 158, 172], [205, 205, 180], [222, 160, 104]], float)
    at = np.linspace(0.0, 1.0, len(stops))
    channels = [np.interp(place, at, stops[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)


def _picture_area(
    size: tuple[int, int], legend: Sequence[tuple[str, Color]]
) -> npt.NDArray[np.float64]:
    """Left, top, right, bottom of what the legend leaves to the cloud."""
    width, height = size
    border = _MARGIN * min(size)
    left = _legend_box(legend, _text_height(size))[1] + border if legend else 0.0
    return np.array([left + border, border, width - border, height - border])


def _draw_points(
    places: Float64Array,
    tints: npt.NDArray[np.uint8],
    spacing: Float64Array,
    camera: Camera,
    size: tuple[int, int],
    background: str,
) -> tuple[Image, Image]:
    """The lit points over the background (H, W, 3), and their depth (H, W), inf where none is."""
    # Drawn with twice as many rows and columns, and then averaged.
    width, height = 2 * size[0], 2 * size[1]
    pixels, depth = camera.project(places)
    focal = 2 * camera.focal
    radius = 0.9 * spacing * focal / np.maximum(depth, 1e-3)
    shown = splat(2 * pixels, depth, radius, focal, (width, height))
    shown = close_holes(shown, int(np.clip(1.6 * np.median(radius), 2, 12)))
    right, _, forward = camera.axes
    level = np.array([-forward[0], -forward[1], 0.0])
    level /= max(float(np.linalg.norm(level)), 1e-9)
    light = _LIGHT[0] * right - _LIGHT[1] * level + _LIGHT[2] * np.array([0.0, 0.0, 1.0])
    bright = 0.62 + 0.46 * lambert(places, camera.eye, light / np.linalg.norm(light))
    lit = np.clip(tints * bright[:, None], 0, 255).astype(np.float32)
    solid = shown >= 0
    deep = np.full(shown.shape, np.inf, np.float32)
    deep[solid] = depth[shown[solid]]
    roughness = 1.4 * float(np.median(spacing / np.maximum(depth, 1e-3)))
    shade = eye_dome(deep, min(roughness, 0.02))
    top, bottom = (np.array(tone, np.float32) for tone in (_PAPER, _NIGHT)[background == "dark"])
    ground = np.linspace(0.0, 1.0, size[1], dtype=np.float32)[:, None, None]
    paper = np.broadcast_to(top + (bottom - top) * ground, (size[1], size[0], 3))
    image = np.zeros((size[1], size[0], 3), np.float32)
    near = np.full((size[1], size[0]), np.inf, np.float32)
    for quarter in ((slice(i, None, 2), slice(j, None, 2)) for i, j in np.ndindex(2, 2)):
        empty = ~solid[quarter]
        tone = lit[shown[quarter]]
        tone *= shade[quarter][..., None]
        tone[empty] = paper[empty]
        image += tone
        np.minimum(near, deep[quarter], out=near)
    image /= 4
    return image, near


def _draw_box(image: Image, depth: Image, camera: Camera, corners: Float64Array, box: Box) -> None:
    thickness = max(1.6, min(image.shape[:2]) / 420)
    pieces = [
        piece
        for first in range(8)
        for second in (first | 1, first | 2, first | 4)
        if second != first
        for piece in _edge_pieces(depth, camera, corners[first], corners[second])
    ]
    # A dark seam first, so that a box stands out from things of its own colour.
    seam = np.asarray(box.color) // 5
    for start, end, opacity in pieces:
        draw_line(image, start, end, thickness + 2.0, seam, 0.35 * opacity)
    for start, end, opacity in pieces:
        draw_line(image, start, end, thickness, box.color, opacity)


def _edge_pieces(
    depth: Image, camera: Camera, start: Float64Array, end: Float64Array
) -> list[tuple[Float64Array, Float64Array, float]]:
    """An edge in short pieces with opacities: dashed and faint where something is in front."""
    rough, rough_depth = camera.project(np.stack([start, end]))
    if rough_depth.min() < 0.05:
        return []
    count = int(np.clip(np.hypot(*(rough[1] - rough[0])) / 12, 1, 200))
    pixels, deep = camera.project(start + (end - start) * np.linspace(0.0, 1.0, count + 1)[:, None])
    pieces = []
    for index in range(count):
        column, row = (int(value) for value in (pixels[index] + pixels[index + 1]) / 2)
        inside = 0 <= row < depth.shape[0] and 0 <= column < depth.shape[1]
        hidden = inside and depth[row, column] < (deep[index] + deep[index + 1]) / 2 - 0.06
        if not hidden or index % 2:
            pieces.append((pixels[index], pixels[index + 1], 0.45 if hidden else 1.0))
    return pieces


def _draw_labels(image: Image, camera: Camera, to_up: Float64Array, boxes: Sequence[Box]) -> None:
    height = _text_height((image.shape[1], image.shape[0])) * 0.9
    taken: list[tuple[float, float, float, float]] = []
    for box in boxes:
        if not box.label:
            continue
        pixels, depth = camera.project(box.corners() @ to_up.T)
        if depth.min() < 0.05:
            continue
        alpha = text_alpha(box.label, height)
        rows, columns = round(height * 2.1), alpha.shape[1] + round(height * 1.4)
        left = float(np.clip(pixels[:, 0].mean() - columns / 2, 4, image.shape[1] - columns - 4))
        top = float(np.clip(pixels[:, 1].min() - rows - 6, 4, image.shape[0] - rows - 4))
        while any(
            left < other[2]
            and other[0] < left + columns
            and top < other[3]
            and other[1] < top + rows
            for other in taken
        ):
            top += rows + 3
        taken.append((left, top, left + columns, top + rows))
        blend(image, round(top), round(left), panel_alpha(rows, columns, rows / 3, 0.88), box.color)
        bright = float(np.dot(np.asarray(box.color, float), (0.299, 0.587, 0.114))) > 140
        ink = (20, 22, 26) if bright else (255, 255, 255)
        draw_text(image, box.label, left + height * 0.7, top + rows / 2, height, ink)


def _text_height(size: tuple[int, int]) -> float:
    return max(8.0, min(size) / 70)


def _legend_box(legend: Sequence[tuple[str, Color]], height: float) -> tuple[int, int]:
    """Rows and columns of the legend's panel."""
    widest = max(text_alpha(text, height).shape[1] for text, _ in legend)
    return round((len(legend) * 2.2 + 1.2) * height), round(widest + 4.6 * height)


def _draw_legend(image: Image, legend: Sequence[tuple[str, Color]], background: str) -> None:
    if not legend:
        return
    height = _text_height((image.shape[1], image.shape[0]))
    rows, columns = _legend_box(legend, height)
    edge = round(_MARGIN * min(image.shape[:2]))
    panel, ink = (
        ((255, 255, 255), (40, 44, 50)) if background == "light" else ((30, 33, 39), (230,) * 3)
    )
    blend(image, edge, edge, panel_alpha(rows, columns, height * 0.8, 0.85), panel)
    for number, (text, color) in enumerate(legend):
        middle = edge + (0.6 + 2.2 * number + 1.1) * height
        swatch = round(1.4 * height)
        alpha = panel_alpha(swatch, swatch, swatch / 3.5, 1.0)
        blend(image, round(middle - swatch / 2), round(edge + height), alpha, color)
        draw_text(image, text, edge + 3.2 * height, middle, height, ink)
