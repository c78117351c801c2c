"""Coordinates and colours of any number type -> what a `Cloud` holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.observation import Float32Array, Float64Array

FAR = 4000.0
"""Metres. Clouds whose median coordinate is beyond it are stored relative to an origin, because
float32 has steps of half a millimetre there and coarser ones further out."""
ORIGIN_STEP = 1000.0
"""Metres. Origins are multiples of it, so that one site keeps one origin from cloud to cloud."""


def cloud_points(columns: Sequence[npt.NDArray[Any]]) -> tuple[Float32Array, Float64Array]:
    """Join three coordinate columns into (N, 3) float32 points and their (3,) origin, metres.

    Args:
        columns: x, y, z; each (height, width) of any float type, byte order and stride.
    """
    origin = _origin(columns)
    height, width = columns[0].shape
    points = np.empty((height, width, 3), np.float32)
    # A finite float64 beyond float32 becomes Inf, which is what it is to a robot.
    with np.errstate(over="ignore", invalid="ignore"):
        for axis, values in enumerate(columns):
            if origin[axis]:
                points[..., axis] = values.astype(np.float64) - origin[axis]
            else:
                points[..., axis] = values
    return points.reshape(-1, 3), origin


def _origin(columns: Sequence[npt.NDArray[Any]]) -> Float64Array:
    """Zero, or the cloud's middle in whole steps where its coordinates are too large."""
    height, width = columns[0].shape
    row_skip = 1 + height // 32
    skip = 1 + math.ceil(height / row_skip) * width // 8192
    middle = np.zeros(3)
    for axis, values in enumerate(columns):
        sample = values[::row_skip, ::skip]
        sample = sample[np.isfinite(sample)].astype(np.float64)
        if not len(sample):  # the few looked at are all invalid; look at all
            sample = values[np.isfinite(values)].astype(np.float64)
        middle[axis] = np.median(sample) if len(sample) else 0.0
    # Beyond 1e300 the rounding itself could overflow; such values are no places on earth.
    if not FAR < np.abs(middle).max() < 1e300:
        return np.zeros(3)
    return np.asarray(np.round(middle / ORIGIN_STEP) * ORIGIN_STEP + 0.0)


def cloud_colors(colors: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Turn (N, 3) colours of any number type and range into uint8.

    Bytes are taken as they are. Other numbers are 0..1 when floats that stay below 2 (a picture of
    0..255 would be black), 0..65535 when integers above 255, else 0..255. What is not finite
    becomes 0, what is outside the range is clipped.
    """
    if colors.dtype == np.uint8:
        return np.array(colors)
    floats = colors.astype(np.float64)
    finite = np.isfinite(floats)
    if not finite.all():
        floats = np.where(finite, floats, 0.0)
    largest = float(floats.max(initial=0.0))
    if colors.dtype.kind == "f" and largest < 2.0:
        floats = np.round(floats * 255.0)
    elif colors.dtype.kind in "iu" and largest > 255.0:
        floats = np.floor(floats / 256.0)
    return np.asarray(np.clip(np.round(floats), 0.0, 255.0).astype(np.uint8))
