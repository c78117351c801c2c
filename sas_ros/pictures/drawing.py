"""Lines, boxes and text over a picture, all anti-aliased."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sas_ros.observation import Float64Array
from sas_ros.pictures.font import text_alpha

Image = npt.NDArray[np.float32]
Color = Sequence[int] | npt.NDArray[np.integer]


def blend(image: Image, top: int, left: int, alpha: Image, color: Color) -> None:
    """Paint `color` through a coverage mask with its corner at (top, left)."""
    y0, x0 = max(top, 0), max(left, 0)
    y1 = min(top + alpha.shape[0], image.shape[0])
    x1 = min(left + alpha.shape[1], image.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    part = alpha[y0 - top : y1 - top, x0 - left : x1 - left, None]
    image[y0:y1, x0:x1] += (np.asarray(color, np.float32) - image[y0:y1, x0:x1]) * part


def draw_line(
    image: Image, start: Float64Array, end: Float64Array, width: float, color: Color, opacity: float
) -> None:
    """Draw a line with round ends between two pixels (x, y)."""
    low = np.floor(np.minimum(start, end) - width).astype(int)
    high = np.ceil(np.maximum(start, end) + width).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, [image.shape[1], image.shape[0]])
    if (low >= high).any():
        return
    x = np.arange(low[0], high[0])[None, :] + 0.5 - start[0]
    y = np.arange(low[1], high[1])[:, None] + 0.5 - start[1]
    step = end - start
    along = np.clip((x * step[0] + y * step[1]) / max(float(step @ step), 1e-9), 0.0, 1.0)
    distance = np.hypot(x - along * step[0], y - along * step[1])
    alpha = np.clip(width / 2 - distance + 0.5, 0.0, 1.0).astype(np.float32) * np.float32(opacity)
    blend(image, int(low[1]), int(low[0]), alpha, color)


def panel_alpha(height: int, width: int, radius: float, opacity: float) -> Image:
    """Coverage of a rectangle with round corners."""
    y = np.abs(np.arange(height) + 0.5 - height / 2)[:, None] - (height / 2 - radius)
    x = np.abs(np.arange(width) + 0.5 - width / 2)[None, :] - (width / 2 - radius)
    distance = np.hypot(np.maximum(x, 0.0), np.maximum(y, 0.0)) + np.minimum(np.maximum(x, y), 0.0)
    return np.asarray((np.clip(radius - distance + 0.5, 0.0, 1.0) * opacity).astype(np.float32))


def draw_text(
    image: Image, text: str, left: float, middle: float, height: float, color: Color
) -> int:
    """Draw text from `left`, its capitals centred on the row `middle`; returns its width."""
    alpha = text_alpha(text, height)
    # The capitals' middle is 4 of the glyph's 10 units from its top.
    blend(image, round(middle - 0.4 * alpha.shape[0]), round(left), alpha, color)
    return int(alpha.shape[1])
