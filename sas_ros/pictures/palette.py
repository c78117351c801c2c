"""Colours for class names that a person can tell apart and remember."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_KNOWN = {
    "wall": (186, 193, 204),
    "floor": (196, 164, 124),
    "ceiling": (225, 225, 218),
    "cabinet": (44, 120, 160),
    "bed": (240, 140, 150),
    "chair": (222, 68, 58),
    "sofa": (150, 84, 184),
    "couch": (150, 84, 184),
    "table": (245, 146, 46),
    "desk": (224, 196, 54),
    "door": (120, 82, 56),
    "window": (120, 202, 226),
    "bookshelf": (112, 138, 62),
    "picture": (228, 116, 204),
    "counter": (86, 176, 152),
    "curtain": (98, 104, 200),
    "refrigerator": (64, 78, 96),
    "shower curtain": (62, 160, 214),
    "toilet": (238, 226, 150),
    "sink": (34, 96, 214),
    "bathtub": (150, 216, 190),
    "lamp": (250, 214, 90),
    "plant": (60, 160, 70),
}
_STEPS = ((0.62, 0.90), (0.80, 0.70), (0.45, 0.80))  # saturation, value


def label_colors(names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """(K, 3) uint8: usual indoor classes have fixed colours, others take what is least used.

    The same names in the same order give the same colours.
    """
    candidates = np.array(
        [_hsv(hue / 24, saturation, value) for saturation, value in _STEPS for hue in range(24)]
    )
    colors = np.zeros((len(names), 3))
    taken = [np.array(_KNOWN[name], float) for name in names if name in _KNOWN]
    for index, name in enumerate(names):
        if name in _KNOWN:
            colors[index] = _KNOWN[name]
            continue
        away = np.full(len(candidates), np.inf)
        for other in taken:
            away = np.minimum(away, np.linalg.norm(candidates - other, axis=1))
        colors[index] = candidates[int(np.argmax(away))]
        taken.append(colors[index])
    return colors.astype(np.uint8)


def _hsv(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    ramp = np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1.0 * 6.0 - 3.0) - 1.0
    red, green, blue = 255 * value * (1 - saturation + saturation * np.clip(ramp, 0.0, 1.0))
    return float(red), float(green), float(blue)
