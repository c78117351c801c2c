"""Scatter plots of measured against true capabilities, and of the difference of two teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.pictures.drawing import draw_line, draw_text

_SIDE, _LEFT, _TOP, _GAP, _BOTTOM = 360, 56, 60, 84, 50
_INK, _GRID = (60, 60, 60), (215, 215, 215)
_APART = (70, 10)
"""Pixels to the right and down that a name takes."""
_FAR = 0.2
"""How far off the diagonal a name is worth its room."""
_RADIUS = 3.5
_COLORS = ((196, 132, 60), (52, 110, 168), (92, 148, 92))


def draw_agreement(
    entries: Sequence[Mapping[str, Any]],
    link: str,
    what: str,
    teachers: Sequence[str],
    pair: Sequence[str],
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: left every teacher and class, right the difference of `pair`.

    Names stand beside what is furthest off, on the left off the diagonal, as far as there is room.

    Args:
        entries: of `per_class` in the result.
        link: whose capabilities are shown against `true`.
        what: that link is, in words.
    """
    width = _LEFT + 2 * _SIDE + _GAP + 24
    image = np.full((_TOP + _SIDE + _BOTTOM, width, 3), 255.0, np.float32)
    left = _Axes(image, _LEFT, 0.0, 1.0)
    left.draw("true IoU in held-out rooms", f"measured: {what}")
    off = []
    for number, name in enumerate(teachers):
        color = _COLORS[number % len(_COLORS)]
        draw_text(image, name, _LEFT + 110.0 * number, 24, 11.0, color)
        for entry in entries:
            x, y = entry["true"][name], entry[link][name]
            left.dot(x, y, color)
            off.append((abs(x - y), x, y, entry["class"], color))
    for far, x, y, name, color in sorted(off, reverse=True):
        if far > _FAR:
            left.text(x, y, name, color)
    first, second = pair
    dots = []
    for entry in entries:
        x, y = (entry[what][first] - entry[what][second] for what in ("true", link))
        dots.append((max(abs(x), abs(y)), x, y, entry["class"]))
    limit = np.ceil(5 * max(dots, default=(0.0,))[0]) / 5 or 1.0
    right = _Axes(image, _LEFT + _SIDE + _GAP, -limit, limit)
    right.draw(f"true: {first} - {second}", "measured")
    for _, x, y, name in sorted(dots, reverse=True):
        right.dot(x, y, _INK)
        right.text(x, y, name, _INK)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


class _Axes:
    """A square of values from `low` to `high` both ways."""

    def __init__(self, image: npt.NDArray[np.float32], at: float, low: float, high: float) -> None:
        self._image, self._at, self._low, self._high = image, at, low, high
        self._named: list[npt.NDArray[np.float64]] = []

    def _place(self, x: float, y: float) -> npt.NDArray[np.float64]:
        size = self._high - self._low
        across, up = (x - self._low) / size, (y - self._low) / size
        return np.array([self._at + across * _SIDE, _TOP + (1 - up) * _SIDE])

    def _line(self, start: tuple[float, float], end: tuple[float, float], color: Any) -> None:
        draw_line(self._image, self._place(*start), self._place(*end), 1.0, color, 1.0)

    def draw(self, below: str, above: str) -> None:
        low, high = self._low, self._high
        for tick in np.linspace(low, high, 5):
            self._line((tick, low), (tick, high), _GRID)
            self._line((low, tick), (high, tick), _GRID)
            x, _ = self._place(tick, low)
            _, y = self._place(low, tick)
            draw_text(
                self._image, f"{tick.round(3) + 0:g}", float(x) - 8, _TOP + _SIDE + 14, 9.0, _INK
            )
            draw_text(self._image, f"{tick.round(3) + 0:g}", self._at - 34, float(y), 9.0, _INK)
        self._line((low, low), (high, high), _INK)
        draw_text(self._image, below, self._at, _TOP + _SIDE + 34, 10.0, _INK)
        draw_text(self._image, above, self._at, _TOP - 12, 10.0, _INK)

    def dot(self, x: float, y: float, color: tuple[int, int, int]) -> None:
        across, down = self._place(x, y)
        rows, columns = np.ogrid[: self._image.shape[0], : self._image.shape[1]]
        # A pixel at the edge is covered in part.
        inside = _RADIUS + 0.5 - np.hypot(rows - down, columns - across)
        cover = np.clip(inside, 0.0, 1.0)[..., None]
        self._image[:] = self._image * (1 - cover) + np.array(color, np.float32) * cover

    def text(self, x: float, y: float, words: str, color: tuple[int, int, int]) -> None:
        """Beside a point; left away where an earlier one would be written over."""
        place = self._place(x, y) + np.array([6.0, -5.0])
        if not any((np.abs(place - other) < _APART).all() for other in self._named):
            self._named.append(place)
            draw_text(self._image, words, float(place[0]), float(place[1]), 8.0, color)
