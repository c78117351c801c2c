"""Contact sheets of rooms: what a person looks at to see whether the world makes sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.pictures import label_colors, render_cloud
from sas_ros.pictures.drawing import blend, draw_text, panel_alpha
from sas_ros.pictures.font import text_alpha
from sas_training.evaluation.labels import SCANNET20

from .primitives import Array

Picture = npt.NDArray[np.uint8]

UNLABELLED = (128, 128, 128)
_PAPER = (250, 250, 251)
_INK = (40, 44, 50)
_GAP = 6  # pixels between panels
_MOST_ACROSS = 6  # pictures


@dataclass(frozen=True)
class SheetRow:
    """One room of a sheet: its title and its pictures, all of one size."""

    title: str
    pictures: list[Picture] = field(default_factory=list)


def colors_of(labels: Array) -> Picture:
    """Display colours (..., 3) of labels (...), grey where a label is none of the 20 classes."""
    table = np.full((256, 3), UNLABELLED, np.uint8)
    table[: len(SCANNET20)] = label_colors(SCANNET20.names)
    return np.asarray(table[np.clip(labels, 0, 255)])


def cloud_pictures(points: Array, labels: Array, size: tuple[int, int]) -> list[Picture]:
    """The cloud in class colours from straight above and obliquely, each (height, width, 3)."""
    colors = colors_of(labels)
    return [
        render_cloud(points, colors, up=(0.0, 0.0, 1.0), size=size, view=view)
        for view in ("top", "room")
    ]


def room_picture(points: Array, colors: Array, size: tuple[int, int]) -> Picture:
    """The cloud (N, 3) in its own colours (N, 3) uint8 obliquely from above, (height, width, 3)."""
    return render_cloud(points, colors, up=(0.0, 0.0, 1.0), size=size, view="room")


def depth_colors(depth: Array) -> Picture:
    """Depths (H, W) m as colours (H, W, 3): near warm, far cool, black where nothing is known."""
    known = np.isfinite(depth) & (depth > 0)
    place = np.clip((np.where(known, depth, 0.0) - 0.4) / 4.6, 0.0, 1.0)
    stops = np.array([[250, 226, 160], [226, 130, 96], [134, 70, 124], [44, 40, 90]], float)
    at = np.linspace(0.0, 1.0, len(stops))
    channels = [np.interp(place, at, stops[:, channel]) for channel in range(3)]
    return np.asarray((np.stack(channels, -1) * known[..., None]).astype(np.uint8))


def fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    """An image (H, W, 3) at another size (width, height): means of blocks, or nearest pixels."""
    width, height = size
    rows, columns = picture.shape[:2]
    if (rows, columns) == (height, width):
        return picture
    if rows % height == 0 and columns % width == 0:
        blocks = picture.reshape(height, rows // height, width, columns // width, 3)
        return np.asarray(blocks.mean((1, 3)).astype(np.uint8))
    row = np.arange(height) * rows // height
    column = np.arange(width) * columns // width
    return np.asarray(picture[row[:, None], column[None, :]])


def draw_sheet(rows: Sequence[SheetRow], labels: Array, size: tuple[int, int]) -> Picture:
    """Put rows of pictures under each other, short ones also side by side, over one legend.

    Args:
        rows: at least one; their pictures are fitted to `size`.
        labels: every label that occurs; the legend names those that are classes.
        size: width and height of a picture, pixels.

    Raises:
        SasError: there is nothing to draw.
    """
    if not rows or not any(row.pictures for row in rows):
        raise SasError("A contact sheet needs at least one room.")
    width, height = size
    text = max(8.0, height / 24)
    title = round(2.6 * text)
    most = max(len(row.pictures) for row in rows)
    across = min(max(1, _MOST_ACROSS // most), len(rows))
    block = most * (width + _GAP) + _GAP
    columns = across * block
    names = [(SCANNET20.names[k], k) for k in np.unique(labels) if k < len(SCANNET20)]
    legend = _legend(names, text, columns)
    body = -(-len(rows) // across) * (title + height) + _GAP
    sheet = np.empty((body + legend.shape[0], columns, 3), np.float32)
    sheet[:] = _PAPER
    for number, row in enumerate(rows):
        top, start = number // across * (title + height), number % across * block + _GAP
        draw_text(sheet, row.title, start, top + title / 2, text, _INK)
        for place, picture in enumerate(row.pictures):
            left = start + place * (width + _GAP)
            sheet[top + title : top + title + height, left : left + width] = fitted(picture, size)
    sheet[body:] = legend
    return np.asarray(np.clip(np.round(sheet), 0, 255).astype(np.uint8))


def _legend(names: Sequence[tuple[str, int]], text: float, columns: int) -> npt.NDArray[np.float32]:
    """Swatches and names in as many lines as they need, (rows, columns, 3)."""
    entries = [(name, colors_of(np.array(label))) for name, label in names]
    entries.append(("ignored", np.array(UNLABELLED, np.uint8)))
    line, places = round(2.2 * text), []
    left, lines = float(_GAP), 0
    for name, color in entries:
        span = text_alpha(name, text).shape[1] + 4.0 * text
        if left + span > columns and left > _GAP:
            left, lines = float(_GAP), lines + 1
        places.append((name, color, left, lines))
        left += span
    strip = np.empty((round((lines + 1.4) * line), columns, 3), np.float32)
    strip[:] = _PAPER
    for name, color, x, row in places:
        middle, swatch = (row + 0.6) * line, round(1.4 * text)
        mask = panel_alpha(swatch, swatch, swatch / 3.5, 1.0)
        blend(strip, round(middle - swatch / 2), round(x), mask, color)
        draw_text(strip, name, x + 2.0 * text, middle, text, _INK)
    return strip
