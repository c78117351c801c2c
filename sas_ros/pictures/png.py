"""PNG files, written with the standard library."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_write


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode an (H, W, 3) uint8 RGB image.

    Raises:
        SasError: the array is no such image.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise SasError(
            f"A picture must be (H, W, 3) uint8 and not empty; got {image.shape} {image.dtype}."
        )
    height, width = image.shape[:2]
    # Filter 1 stores each pixel minus its left neighbour, which packs smooth pictures far better.
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = 1
    flat = image.reshape(height, 3 * width)
    rows[:, 1:4] = flat[:, :3]
    rows[:, 4:] = flat[:, 3:] - flat[:, :-3]

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 6)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def write_png(path: Path | str, image: npt.NDArray[np.uint8]) -> None:
    """Write an (H, W, 3) uint8 RGB image as a PNG file, atomically.

    Raises:
        SasError: the array is no such image.
    """
    atomic_write(Path(path), encode_png(image))
