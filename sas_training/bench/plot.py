"""A small plot with logarithmic axes, drawn with our own lines and letters."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.pictures.drawing import draw_line, draw_text

_WIDTH, _HEIGHT = 420, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 40, 36
_INK, _GRID = (60, 60, 60), (215, 215, 215)


@dataclass(frozen=True)
class Curve:
    """Values over points, all positive, and an RGB colour."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: tuple[int, int, int]


def plot_log_log(title: str, curves: Sequence[Curve]) -> npt.NDArray[np.uint8]:
    """(320, 420, 3) uint8 RGB: curves over points, with a dashed line of slope one."""
    image = np.full((_HEIGHT, _WIDTH, 3), 255.0, np.float32)
    x_low, x_high = _decades([value for curve in curves for value in curve.x])
    y_low, y_high = _decades([value for curve in curves for value in curve.y])
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def place(x: float, y: float) -> npt.NDArray[np.float64]:
        across = (np.log10(x) - x_low) / (x_high - x_low)
        up = (np.log10(y) - y_low) / (y_high - y_low)
        return np.array([_LEFT + across * (right - _LEFT), bottom - up * (bottom - _TOP)])

    for decade in range(x_low, x_high + 1):
        ends = place(10.0**decade, 10.0**y_low), place(10.0**decade, 10.0**y_high)
        draw_line(image, *ends, 1.0, _GRID, 1.0)
        draw_text(image, _number(decade), ends[0][0] - 14, bottom + 14, 9.0, _INK)
    for decade in range(y_low, y_high + 1):
        ends = place(10.0**x_low, 10.0**decade), place(10.0**x_high, 10.0**decade)
        draw_line(image, *ends, 1.0, _GRID, 1.0)
        draw_text(image, _number(decade), 8, ends[0][1], 9.0, _INK)
    first = curves[0]
    steps = np.geomspace(first.x[0], first.x[-1], 41)
    linear = [place(x, first.y[-1] * x / first.x[-1]) for x in steps]
    for start, end in zip(linear[::2], linear[1::2], strict=False):
        if start[1] < bottom:
            draw_line(image, start, end, 1.0, _INK, 0.7)
    for number, curve in enumerate(curves):
        corners = [place(x, y) for x, y in zip(curve.x, curve.y, strict=True)]
        for start, end in itertools.pairwise(corners):
            draw_line(image, start, end, 2.0, curve.color, 1.0)
        for corner in corners:
            draw_line(image, corner, corner, 6.0, curve.color, 1.0)
        draw_text(image, curve.name, _LEFT + 10, _TOP + 12 + 16 * number, 10.0, curve.color)
    draw_text(image, title, _LEFT, 18, 11.0, _INK)
    draw_text(image, "points", right - 44, bottom - 10, 9.0, _INK)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = int(np.floor(np.log10(min(values)))), int(np.ceil(np.log10(max(values))))
    return low, max(high, low + 1)


def _number(decade: int) -> str:
    """10**decade as people write it: 0.01, 10, 100k, 10M."""
    for factor, letter in ((6, "M"), (3, "k")):
        if decade >= factor:
            return f"{10 ** (decade - factor)}{letter}"
    return f"{10.0**decade:g}"
