"""The table as a picture: a bar and an interval for every row, with our own lines and letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.pictures.drawing import draw_line, draw_text

_WIDTH, _LEFT, _RIGHT, _TOP, _LINE, _BOTTOM = 580, 196, 60, 44, 24, 34
_INK, _GRID = (60, 60, 60), (215, 215, 215)
_COLORS = {"2d": (196, 132, 60), "3d": (52, 110, 168)}
_CONTROL = (160, 160, 160)
_CONTROLS = ("2d/oracle", "2d/random-capability", "3d/superpoint-cosine")


def draw_chart(title: str, rows: Sequence[dict[str, Any]]) -> npt.NDArray[np.uint8]:
    """(H, 580, 3) uint8 RGB: mIoU in per cent of the `rows` of a result, 2D and 3D, controls grey.

    The thin line on a bar is its interval, the short strokes are the repetitions.
    """
    height = _TOP + _LINE * len(rows) + _BOTTOM
    image = np.full((height, _WIDTH, 3), 255.0, np.float32)
    most = max(0.1, *(row["high"] for row in rows), *(max(row["per_seed"]) for row in rows))
    top = np.ceil(10 * most) / 10

    def across(value: float) -> float:
        return float(_LEFT + value / top * (_WIDTH - _LEFT - _RIGHT))

    def line(
        start: tuple[float, float],
        end: tuple[float, float],
        width: float,
        color: tuple[int, int, int],
    ) -> None:
        draw_line(image, np.array(start), np.array(end), width, color, 1.0)

    foot = height - _BOTTOM
    for tick in range(round(10 * top) + 1):
        x = across(tick / 10)
        line((x, _TOP - 6), (x, foot), 1.0, _GRID)
        draw_text(image, f"{10 * tick}", x - 6, foot + 12, 9.0, _INK)
    for number, row in enumerate(rows):
        y = _TOP + (number + 0.5) * _LINE
        color = _CONTROL if row["name"] in _CONTROLS else _COLORS[row["name"][:2]]
        draw_text(image, row["name"], 10, y, 10.0, _INK)
        line((across(0) + 6, y), (max(across(row["miou_mean"]) - 6, across(0) + 6), y), 12.0, color)
        line((across(row["low"]), y), (across(row["high"]), y), 2.0, _INK)
        for value in row["per_seed"]:
            line((across(value), y - 4), (across(value), y + 4), 1.5, _INK)
        draw_text(image, f"{100 * row['miou_mean']:.1f}", _WIDTH - 46, y, 10.0, _INK)
    draw_text(image, title, 10, 18, 11.0, _INK)
    draw_text(image, "mIoU, %", _WIDTH - 66, foot + 24, 9.0, _INK)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
