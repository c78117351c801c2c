"""Reading photographs and mask images with Pillow, which is imported here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_training.teachers.teacher import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp")
_GREY = ("1", "L", "P", "I;16", "I;16B", "I")
_DEPTH = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Modes of one channel of more than 8 bits; as colours they would be cut off at 255."""


def pillow() -> Any:
    """The module `PIL.Image`; raises `SasError` where Pillow is missing."""
    try:
        from PIL import Image as module
    except ImportError:
        raise SasError("Images are read with Pillow; install it with: pip install pillow") from None
    return module


def read_image(path: Path) -> Image:
    """Colours of an image file, (height, width, 3) uint8 RGB, in the file's own orientation.

    A camera's note on how to turn the picture (EXIF) is ignored: intrinsics belong to the pixels as
    they are stored.

    Raises:
        SasError: no such file, none that Pillow can read, or of one channel of more than 8 bits.
    """
    with _opened(path) as image:
        if image.mode in _DEPTH:
            raise SasError(
                f"{path} has one channel of more than 8 bits: it is a depth image or the like, no "
                "photograph. Give the photographs without it."
            )
        return np.array(image.convert("RGB"), dtype=np.uint8)


def read_grey(path: Path, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Numbers of a PNG with one channel of up to 16 bits, (height, width) int64.

    Args:
        path: the file; a palette image gives its indices, a black and white one 0 and 1.
        size: (height, width) it must have.

    Raises:
        SasError: no such file, another size, several channels, or not readable.
    """
    with _opened(path) as image:
        if (image.height, image.width) != tuple(size):
            raise SasError(
                f"{path} is {image.width} x {image.height} pixels, but its image is "
                f"{size[1]} x {size[0]}."
            )
        if image.mode not in _GREY:
            raise SasError(f"{path} is an image of kind {image.mode}; masks have one channel.")
        return np.array(image, dtype=np.int64)


def write_grey(path: Path, values: npt.NDArray[np.uint8]) -> None:
    """Write (height, width) uint8 as a PNG with one channel, atomically."""
    module = pillow()
    with atomic_path(path) as temporary:
        module.fromarray(np.ascontiguousarray(values, np.uint8)).save(temporary, "PNG")


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Image files themselves, and those that lie in folders, sorted by name.

    Raises:
        SasError: a path that is not there, or nothing found.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        elif path.is_file():
            found.append(path)
        else:
            raise SasError(f"There is no image and no folder at {path}.")
    if not found:
        raise SasError(f"There are no images in {', '.join(map(str, paths))}.")
    return found


class _opened:
    """An image file as a context; everything that Pillow raises becomes a sentence."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> Any:
        module = pillow()
        if not self.path.is_file():
            raise SasError(f"There is no image at {self.path}.")
        try:
            self.image = module.open(self.path)
        except Exception as error:
            raise self._unreadable(error) from error
        return self.image

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.image.close()
        if isinstance(error, Exception) and not isinstance(error, SasError):
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> SasError:
        return SasError(
            f"{self.path} is no readable image ({type(error).__name__}); it may be cut off."
        )
