"""Contact sheets: what a class's images look like on their way to the table, and the chart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sas_ros.pictures.drawing import draw_line, draw_text
from sas_training.capability.class_maps import ClassMap
from sas_training.capability.files import read_mask, read_plane
from sas_training.capability.samples import Sample
from sas_training.capability.table import CapabilityTable
from sas_training.scenes.procedural.sheet import fitted
from sas_training.scenes.sheet import Panel, draw_panels
from sas_training.teachers.images import read_image

Picture = npt.NDArray[np.uint8]

SIDE = 176
MOST = 8
"""Images of a sheet that have a row of their own."""
MORE = 92
"""Further images, of which only the mask is shown."""
COLUMNS = 8
"""Of these, side by side."""
_MASK, _COARSE, _TEACHER = (235, 75, 60), (250, 190, 40), (40, 120, 215)
_POINT = (255, 255, 255)
_BARS = ((52, 110, 168), (196, 132, 60), (92, 148, 92), (150, 98, 160), (120, 120, 120))


def class_sheet(
    samples: Sequence[Sample],
    said: Mapping[str, Callable[[Sample], ClassMap]] | None = None,
    label: int = -1,
) -> Picture:
    """A row for each of the first images of one class: image, attention, masks, teachers. Below
    them the masks of up to `MORE` others, side by side.

    Args:
        samples: of the class, at least one.
        said: teacher -> what it calls the pixels of a sample's image.
        label: number of the class in the vocabulary.
    """
    rows = []
    for one in samples[:MOST]:
        image = read_image(one.image)
        mask = read_mask(one.mask)
        title = f"{one.name} {one.reason or 'used'}"
        row = [Panel(title, _fit(image))]
        if one.attention is not None:
            row.append(Panel("attention", _fit(_heat(image, read_plane(one.attention) / 255))))
        if one.coarse is not None:
            picture = painted(image, one.coarse(), _COARSE)
            points = one.quality.points if one.quality else ()
            row.append(Panel("coarse mask, points", _dots(_fit(picture), points, image.shape)))
        score = one.quality.score if one.quality else None
        about = "mask" if score is None else f"mask, sure {score:.2f}"
        row.append(Panel(about, _fit(painted(image, mask, _MASK))))
        for teacher, call in (said or {}).items():
            called = call(one) == label
            both, either = (int(np.count_nonzero(p)) for p in (called & mask, called | mask))
            iou = both / max(1, either)
            row.append(Panel(f"{teacher} {iou:.2f}", _fit(painted(image, called, _TEACHER))))
        rows.append(row)
    others = [_masked(one) for one in samples[MOST : MOST + MORE]]
    rows += [others[start : start + COLUMNS] for start in range(0, len(others), COLUMNS)]
    return draw_panels(rows, (SIDE, SIDE))


def _masked(sample: Sample) -> Panel:
    """An image with its mask."""
    picture = painted(read_image(sample.image), read_mask(sample.mask), _MASK)
    return Panel(f"{sample.name} {sample.reason or 'used'}", _fit(picture))


def painted(image: Picture, mask: npt.NDArray[np.bool_], color: tuple[int, int, int]) -> Picture:
    """An image with a mask half covered by a colour, the rest darker."""
    wide = image.astype(np.float32)
    mixed = np.where(mask[..., None], (wide + np.array(color, np.float32)) / 2, wide * 0.6)
    return np.asarray(np.round(mixed), dtype=np.uint8)


def _heat(image: Picture, share: npt.NDArray[np.float64]) -> Picture:
    """An image over which attention from 0 to 1 glows."""
    glow = np.stack([share, share**2, share**6], axis=-1) * 255
    return np.asarray(np.clip(0.35 * image + 0.65 * glow, 0, 255).astype(np.uint8))


def _fit(image: Picture) -> Picture:
    return np.asarray(fitted(image, (SIDE, SIDE)), dtype=np.uint8)


def _dots(picture: Picture, points: Sequence[tuple[int, int]], shape: tuple[int, ...]) -> Picture:
    """Points of an image of another size, as crosses."""
    drawn = picture.astype(np.float32)
    for x, y in points:
        middle = np.array([(x + 0.5) * SIDE / shape[1], (y + 0.5) * SIDE / shape[0]])
        for step in (np.array([5.0, 0.0]), np.array([0.0, 5.0])):
            draw_line(drawn, middle - step, middle + step, 2.0, _POINT, 1.0)
    return np.asarray(np.clip(np.round(drawn), 0, 255).astype(np.uint8))


def draw_table(table: CapabilityTable, title: str, without: Sequence[str] = ()) -> Picture:
    """(H, 640, 3) uint8 RGB: a bar for every class and teacher, with its interval as a line.

    Args:
        without: classes that are not drawn.
    """
    classes = [name for name in table.classes if name not in without]
    bar, left, right, top, width = 13, 190, 56, 62, 640
    step = bar * len(table.teachers) + 9
    height = top + step * len(classes) + 34
    image = np.full((height, width, 3), 255.0, np.float32)
    ink, grid = (60, 60, 60), (215, 215, 215)

    def across(value: float) -> float:
        return left + value * (width - left - right)

    def line(
        start: tuple[float, float], end: tuple[float, float], thick: float, color: Sequence[int]
    ) -> None:
        draw_line(image, np.array(start), np.array(end), thick, color, 1.0)

    for tick in range(6):
        x = across(tick / 5)
        line((x, top - 4), (x, height - 30), 1.0, grid)
        draw_text(image, f"{tick / 5:.1f}", x - 8, height - 20, 9.0, ink)
    for row, name in enumerate(classes):
        column = table.classes.index(name)
        begin = top + row * step
        draw_text(image, name[:24], 10, begin + bar * len(table.teachers) / 2, 10.0, ink)
        for number in range(len(table.teachers)):
            y = begin + (number + 0.5) * bar
            score = float(table.scores[number, column])
            color = _BARS[number % len(_BARS)]
            line((across(0) + 4, y), (max(across(score) - 4, across(0) + 4), y), 9.0, color)
            if table.intervals is not None:
                low, high = (float(end) for end in table.intervals[number, column])
                line((across(low), y), (across(high), y), 2.0, ink)
            draw_text(image, f"{score:.2f}", width - 44, y, 9.0, ink)
    draw_text(image, title, 10, 16, 11.0, ink)
    place = left
    for number, teacher in enumerate(table.teachers):
        line((place, 40), (place + 14, 40), 9.0, _BARS[number % len(_BARS)])
        place += 24 + draw_text(image, teacher, place + 22, 40, 10.0, ink) + 14
    return np.asarray(np.clip(np.round(image), 0, 255).astype(np.uint8))
