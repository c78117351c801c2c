"""Reading colour images, depth images and matrices; what is wrong with one becomes a phrase.

The phrases become reasons for skipping a frame, so they start with "its" and name no path.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError

NO_READING = 65535
"""What several cameras store where they measured nothing, besides 0."""


def read_color(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an image file."""
    return decode_color(_bytes(path, "image"))


def decode_color(data: bytes) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of the bytes of an image file."""
    return np.asarray(_decoded(data, "image", "RGB"), dtype=np.uint8)


def read_depth(path: Path, units: float, far: float | None = None) -> npt.NDArray[np.float32]:
    """(H, W) float32 metres of a 16 bit image, 0 where nothing was measured or beyond `far`.

    Args:
        path: an image of one channel of 16 bits; 0 and 65535 mean that nothing was measured.
        units: stored values in one metre.
        far: metres.
    """
    return depth_metres(decode_plane(_bytes(path, "depth image"), "depth image"), units, far)


def depth_metres(
    stored: npt.NDArray[Any], units: float, far: float | None = None
) -> npt.NDArray[np.float32]:
    """(H, W) float32 metres of stored depths, 0 where nothing was measured or beyond `far`."""
    if stored.dtype.kind == "f":
        unknown = ~np.isfinite(stored) | (stored <= 0)
    else:
        unknown = (stored <= 0) | (stored >= NO_READING)
    metres = np.where(unknown, 0, stored).astype(np.float32) / np.float32(units)
    if far is not None:
        metres[metres > far] = 0
    return metres


def read_plane(path: Path, what: str) -> npt.NDArray[np.int64]:
    """(H, W) whole numbers of an image of one channel, such as labels."""
    return decode_plane(_bytes(path, what), what, least_bits=8)


def decode_plane(data: bytes, what: str, least_bits: int = 16) -> npt.NDArray[np.int64]:
    """(H, W) whole numbers of the bytes of an image file of one channel."""
    image = _decoded(data, what, None)
    # "I" is what older versions of the library make of 16 bit images.
    if image.mode not in ("I;16", "I;16B", "I", *(("L", "P", "1") if least_bits <= 8 else ())):
        raise SasError(f"its {what} is no image of one channel of {least_bits} bits")
    return np.asarray(image).astype(np.int64)


def read_matrix(path: Path, size: int, what: str) -> npt.NDArray[np.float64]:
    """The upper left (size, size) float64 of a text file of at least as many rows and columns."""
    text = _bytes(path, what).decode("latin-1").replace(",", " ")
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    try:
        rows = [[float(word) for word in words] for words in lines if words]
        matrix = np.array([row[:size] for row in rows[:size]], dtype=np.float64)
    except ValueError:
        matrix = np.zeros(0)
    if matrix.shape != (size, size):
        raise SasError(f"its {what} is not a {size} x {size} matrix")
    return matrix


def read_intrinsics(path: Path) -> npt.NDArray[np.float64]:
    """(3, 3) float64 of a text file with a 3 x 3 or 4 x 4 camera matrix.

    Raises:
        SasError: names the file, since without it no frame can be used.
    """
    try:
        return read_matrix(path, 3, "camera matrix")
    except SasError as error:
        raise SasError(f"The intrinsics {path} cannot be used: {error}.") from error


def _bytes(path: Path, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise SasError(f"its {what} is missing") from error
    except OSError as error:
        raise SasError(f"its {what} cannot be read ({error.strerror or error})") from error


def _decoded(data: bytes, what: str, mode: str | None) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise SasError(
            'images are read with pillow, which is not installed: pip install "sas_ros[training]"'
        ) from error
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return image.convert(mode) if mode else image.copy()
    # A damaged file raises whatever its decoder comes across.
    except Exception as error:
        raise SasError(f"its {what} is damaged or cut off") from error
