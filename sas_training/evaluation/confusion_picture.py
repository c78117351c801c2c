"""A picture of a confusion matrix: what is called what, in shares of the true class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sas_ros.pictures.drawing import blend, draw_text
from sas_ros.pictures.font import text_alpha
from sas_training.evaluation.metrics import ConfusionMatrix

_PAPER, _INK, _FAINT, _LINE = (255, 255, 255), (40, 44, 50), (120, 124, 130), (222, 224, 228)
_RIGHT, _WRONG = np.array([24, 122, 74], np.float32), np.array([200, 68, 30], np.float32)
_OUTSIDE, _NONE = "another word", "no prediction"
_MARGIN, _GAP = 14, 8  # pixels


def draw_confusion(matrix: ConfusionMatrix, title: str) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: a row for each class with true points, a column for each class that is
    there or was said, the same classes on the diagonal.

    A cell says which percentage of the row's points was called what the column is, and below it how
    many those are; from 25 columns on the percentage alone, from 49 on the colour alone. Beside
    each row stand its IoU and its points.
    """
    counts, row_names, column_names, rows = _shown(matrix)
    truth = counts.sum(axis=1)
    figures = matrix.summary()["per_class"]
    cell, text = _sizes(len(column_names))
    beside = [
        (f"{figures[matrix.names[row]]['iou']:.2f}", _short(int(total)))
        for row, total in zip(rows, truth, strict=True)
    ]
    left = _MARGIN + _widest([*row_names, "true"], text) + _GAP
    heading = _MARGIN + 26
    top = heading + _widest(column_names, text) + _GAP
    iou_at = left + cell * len(column_names) + 2 * _GAP
    points_at = iou_at + _widest(["IoU", *(iou for iou, _ in beside)], text) + 2 * _GAP
    wide = points_at + _widest(["points", *(points for _, points in beside)], text) + _MARGIN
    wide = max(wide, 2 * _MARGIN + text_alpha(title, 12.0).shape[1])
    image = np.empty((top + cell * len(row_names) + _MARGIN, wide, 3), np.float32)
    image[:] = _PAPER
    draw_text(image, title, _MARGIN, _MARGIN + 6, 12.0, _INK)
    for number, name in enumerate(column_names):
        _draw_upwards(image, name, left + cell * number + cell / 2, top - _GAP, text)
    for label, at in (("true", _MARGIN), ("IoU", iou_at), ("points", points_at)):
        draw_text(image, label, at, top - _GAP - text / 2, text, _FAINT)
    for number, name in enumerate(row_names):
        middle = top + cell * number + cell / 2
        end = left - _GAP - text_alpha(name, text).shape[1]
        draw_text(image, name, end, middle, text, _INK)
        draw_text(image, beside[number][0], iou_at, middle, text, _INK)
        draw_text(image, beside[number][1], points_at, middle, text, _FAINT)
        for column in range(len(column_names)):
            corner = (top + cell * number, left + cell * column)
            right = column == number
            _draw_cell(image, corner, cell, int(counts[number, column]), int(truth[number]), right)
    return np.asarray(np.clip(np.round(image), 0, 255).astype(np.uint8))


def _shown(
    matrix: ConfusionMatrix,
) -> tuple[npt.NDArray[np.int64], list[str], list[str], npt.NDArray[np.int64]]:
    """Counts of the rows and columns that are drawn, their names, and the classes of the rows."""
    size = len(matrix.names)
    every = np.concatenate([matrix.counts, matrix.without[:, None]], axis=1)
    there = every.sum(axis=1) > 0
    said = every.sum(axis=0) > 0
    rows = np.flatnonzero(there)
    columns = np.concatenate([rows, np.flatnonzero(said[:size] & ~there)])
    extra = [size + k for k in range(2) if said[size + k]]
    names = [*matrix.names, _OUTSIDE, _NONE]
    columns = np.concatenate([columns, np.array(extra, dtype=np.int64)]).astype(np.int64)
    counts = every[rows][:, columns]
    return counts, [names[k] for k in rows], [names[k] for k in columns], rows


def _sizes(columns: int) -> tuple[int, float]:
    """Sides of a cell and height of the names, pixels."""
    if columns <= 24:
        return 44, 11.0
    return (26, 10.0) if columns <= 48 else (12, 7.0)


def _draw_cell(
    image: npt.NDArray[np.float32],
    corner: tuple[int, int],
    cell: int,
    count: int,
    total: int,
    right: bool,
) -> None:
    top, left = corner
    share = count / max(total, 1)
    # The square root keeps small shares visible; a white cell is one that nobody fell into.
    strength = np.sqrt(share) if count else 0.0
    color = 255.0 + ((_RIGHT if right else _WRONG) - 255.0) * strength
    image[top : top + cell, left : left + cell] = _LINE
    image[top : top + cell - 1, left : left + cell - 1] = color
    if not count or cell < 20:
        return
    ink = _PAPER if strength > 0.6 else _INK
    percent = f"{100 * share:.0f}" if share >= 0.005 else "<1"
    large = 9.0 if cell > 30 else 8.0
    offset = 6 if cell > 30 else 0
    _draw_centred(image, percent, left + cell / 2, top + cell / 2 - offset, large, ink)
    if cell > 30:
        _draw_centred(image, _short(count), left + cell / 2, top + cell / 2 + 9, 6.5, ink)


def _draw_centred(
    image: npt.NDArray[np.float32],
    text: str,
    x: float,
    y: float,
    height: float,
    color: tuple[int, int, int],
) -> None:
    draw_text(image, text, x - text_alpha(text, height).shape[1] / 2, y, height, color)


def _draw_upwards(
    image: npt.NDArray[np.float32], text: str, x: float, bottom: float, height: float
) -> None:
    """Text that is read from below to above, its capitals centred on the column `x`."""
    alpha = np.rot90(text_alpha(text, height))
    top = round(bottom - alpha.shape[0])
    blend(image, top, round(x - 0.4 * alpha.shape[1]), np.ascontiguousarray(alpha), _INK)


def _widest(texts: list[str], height: float) -> int:
    return max(int(text_alpha(text, height).shape[1]) for text in texts)


def _short(count: int) -> str:
    """A count as people write it: 87, 1.2k, 34k, 1.5M."""
    for factor, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= factor:
            value = count / factor
            return f"{value:.1f}{letter}" if value < 9.95 else f"{value:.0f}{letter}"
    return str(count)
