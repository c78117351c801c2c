"""What a 2D teacher is: a model that says something about the pixels of images.

A `PixelTeacher` gives dense features in the space of a text encoder. A `MaskTeacher` gives masks
with words; alignment through text (`sas_training.alignment`) makes a pixel teacher of it. Both take
a list of images at once, run without any network, and describe themselves well enough that what
they said can be kept and recognised (`FrameCache`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_training.fusion.multiview import PixelFeatures

Answer = TypeVar("Answer")
Image: TypeAlias = npt.NDArray[np.uint8]
"""(height, width, 3) uint8 RGB, as stored: rows downwards, no rotation applied."""


@dataclass(frozen=True)
class Description:
    """Who a teacher is; goes into the files of what it said.

    Attributes:
        name: of the teacher, as in the registry.
        model: which weights, so that others are told apart: `sha256:...` of the files, or a model
            id with its revision.
        settings: everything else that changes what it says, plain JSON.
    """

    name: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"name": self.name, "model": self.model, "settings": dict(self.settings)}


@dataclass(frozen=True, eq=False)
class DenseFeatures:
    """Features of the pixels of one image, on a grid of cells that may be coarser or finer.

    Attributes:
        features: (C, h, w) float16, of any length; best a view of (h, w, C) memory, as fusion
            gathers whole pixels.
        rows_per_pixel, columns_per_pixel: size of a pixel in cells: the pixel (r, c) lies in the
            cell (floor((r + 0.5) rows_per_pixel), floor((c + 0.5) columns_per_pixel)). Cells beyond
            the image (padding) are allowed.
        valid: (h, w) bool, False where the teacher says nothing; None: everywhere it does.

    Raises `SasError` when the parts do not fit together.
    """

    features: torch.Tensor
    rows_per_pixel: float = 1.0
    columns_per_pixel: float = 1.0
    valid: torch.Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.features.shape)
        if len(shape) != 3 or min(shape) == 0 or self.features.dtype != torch.float16:
            raise SasError(
                f"Dense features are {self.features.dtype} of shape {shape}; wanted is float16 of "
                "(channels, rows, columns), none of them 0."
            )
        for value in (self.rows_per_pixel, self.columns_per_pixel):
            if not (math.isfinite(value) and value > 0):
                raise SasError(f"A pixel cannot be {value} cells large.")
        if self.valid is not None and (
            self.valid.dtype != torch.bool or tuple(self.valid.shape) != shape[1:]
        ):
            raise SasError(
                f"The mask of dense features is {self.valid.dtype} of shape "
                f"{tuple(self.valid.shape)}; wanted is bool of {shape[1:]}."
            )

    @property
    def channels(self) -> int:
        """Width C of the features."""
        return int(self.features.shape[0])

    def at_pixels(self, height: int, width: int) -> PixelFeatures:
        """Features of every pixel of the image, as fusion takes them: of the cell it lies in.

        Raises `SasError` when the image is larger than what the cells cover.
        """
        grid = self.features.permute(1, 2, 0)
        rows = _cells(height, self.rows_per_pixel, grid.shape[0])
        columns = _cells(width, self.columns_per_pixel, grid.shape[1])
        if rows is None and columns is None:
            return PixelFeatures(grid, self.valid)
        every = torch.arange
        row_of = every(height) if rows is None else rows
        column_of = every(width) if columns is None else columns
        row_of, column_of = row_of.to(grid.device)[:, None], column_of.to(grid.device)[None]
        valid = None if self.valid is None else self.valid[row_of, column_of]
        return PixelFeatures(grid[row_of, column_of], valid)


def _cells(pixels: int, per_pixel: float, cells: int) -> torch.Tensor | None:
    """The cell of each pixel along one axis; None when every pixel is its own."""
    if per_pixel == 1.0 and cells == pixels:
        return None
    index = ((torch.arange(pixels, dtype=torch.float64) + 0.5) * per_pixel).floor().long()
    if int(index[-1]) >= cells:
        raise SasError(
            f"The features cover {cells} cells, but the image's {pixels} pixels need "
            f"{int(index[-1]) + 1}; they belong to another image."
        )
    return index


@dataclass(frozen=True, eq=False)
class LabelledMask:
    """A part of an image and the word for it.

    Attributes:
        mask: (height, width) bool with at least one pixel.
        label: the teacher's word, from its own list.
        score: how sure it is, 0 ... 1.
        caption: a sentence about the part, empty where there is none.

    Raises `SasError` when they are not like that.
    """

    mask: npt.NDArray[np.bool_]
    label: str
    score: float
    caption: str = ""

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.dtype != np.bool_:
            raise SasError(
                f"The mask of {self.label!r} is {self.mask.dtype} of shape {self.mask.shape}; "
                "wanted is bool of (height, width)."
            )
        if not self.label.strip():
            raise SasError("A mask has no label.")
        if not (math.isfinite(self.score) and 0 <= self.score <= 1):
            raise SasError(f"The mask of {self.label!r} has the score {self.score}, not 0 to 1.")
        if not self.mask.any():
            raise SasError(f"The mask of {self.label!r} has no pixel.")


@runtime_checkable
class PixelTeacher(Protocol):
    """Images to dense features in the space of a text encoder."""

    @property
    def description(self) -> Description: ...

    @property
    def channels(self) -> int:
        """Width C of the features."""
        ...

    @property
    def text_encoder(self) -> str:
        """Name of the text encoder whose vectors the features can be compared with, as
        `sas_ros.language.load_encoder` knows it: `open_clip:ViT-B-32-quickgelu`."""
        ...

    def features(self, images: Sequence[Image]) -> list[DenseFeatures]:
        """Features of each image, on the CPU; images may differ in size."""
        ...


class MaskTeacher(Protocol):
    """Images to masks with words."""

    @property
    def description(self) -> Description: ...

    def masks(self, images: Sequence[Image]) -> list[tuple[LabelledMask, ...]]:
        """Masks of each image, of its size; they may overlap, and leave pixels to nobody."""
        ...


Teacher: TypeAlias = PixelTeacher | MaskTeacher


def images_a_call(teacher: object) -> int:
    """How many images a teacher or captioner is best asked about at once: its attribute of that
    name, which is large where a call costs much, whatever the number of images; 1 without it."""
    return max(1, int(getattr(teacher, "images_a_call", 1)))


def by_size(
    images: Sequence[Image], ask: Callable[[list[Image]], Sequence[Answer]], together: int
) -> list[Answer]:
    """Answers to images of any sizes from a function that takes those of one size.

    Args:
        images: checked to be such.
        ask: gets at most `together` images of one size, and answers each.
        together: see there.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for number, image in enumerate(images):
        places.setdefault(check_image(image).shape, []).append(number)
    answers: dict[int, Answer] = {}
    for numbers in places.values():
        for start in range(0, len(numbers), together):
            part = numbers[start : start + together]
            answers.update(zip(part, ask([images[number] for number in part]), strict=True))
    return [answers[number] for number in range(len(images))]


def check_image(image: Image) -> Image:
    """The image itself, if it is one; raises `SasError` if not."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise SasError(
            f"An image must be (height, width, 3) uint8 and not empty; got {image.shape} "
            f"{image.dtype}."
        )
    return image
