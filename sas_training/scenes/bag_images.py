"""Pixels and depths of the image messages of a ROS bag."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.scenes.images import decode_color, decode_plane, depth_metres

COLOR_ENCODINGS = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "8UC3": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
    "8UC1": (1, (0, 0, 0)),
}
"""Encoding -> bytes of a pixel, and which of them are red, green and blue."""
DEPTH_UNITS = {"16UC1": 1000.0, "mono16": 1000.0, "32FC1": 1.0}
"""Encoding -> stored values in one metre."""


def color_of(message: Any) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an Image or CompressedImage; `SasError` where it is damaged."""
    if hasattr(message, "format"):
        return decode_color(bytes(message.data))
    if message.encoding not in COLOR_ENCODINGS:
        raise SasError(f"its image has the encoding {message.encoding!r}, which is not read")
    channels, places = COLOR_ENCODINGS[message.encoding]
    return np.ascontiguousarray(_pixels(message, np.dtype("u1"), channels)[..., list(places)])


def depth_of(message: Any, units: float | None, far: float | None) -> npt.NDArray[np.float32]:
    """(H, W) float32 metres of an Image or CompressedImage, 0 = unknown."""
    if hasattr(message, "format"):
        data = bytes(message.data)
        start = data.find(b"\x89PNG")  # compressed_depth_image_transport writes 12 bytes before it
        if start < 0 or "32FC1" in message.format:
            raise SasError(f"its depth image is {message.format!r}, which is not read")
        return depth_metres(decode_plane(data[start:], "depth image"), units or 1000.0, far)
    usual = DEPTH_UNITS.get(message.encoding)
    if usual is None:
        raise SasError(f"its depth image has the encoding {message.encoding!r}, which is not read")
    kind = np.dtype("f4" if message.encoding == "32FC1" else "u2")
    return depth_metres(_pixels(message, kind, 1)[..., 0], units or usual, far)


def _pixels(message: Any, kind: np.dtype[Any], channels: int) -> npt.NDArray[Any]:
    """(H, W, channels) of the bytes of an Image, whose rows may be padded."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    kind = kind.newbyteorder(">" if message.is_bigendian else "<")
    used = width * channels * kind.itemsize
    data = np.frombuffer(message.data, dtype=np.uint8)
    if step < used or len(data) < step * (height - 1) + used or not height * width:
        raise SasError("its image has fewer bytes than its size says")
    rows = np.lib.stride_tricks.as_strided(data, (height, used), (step, 1), writeable=False)
    pixels = np.ascontiguousarray(rows).view(kind).reshape(height, width, channels)
    return pixels.astype(kind.newbyteorder("="))
