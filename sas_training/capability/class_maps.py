"""What a teacher calls every pixel of an image: the word of the vocabulary it is closest to.

Pixel teachers speak for themselves, mask teachers through text (`sas_training.alignment`). Answers
are kept as PNG beside the run, by teacher, vocabulary and image content, so that other pseudo masks
or rules need no teacher again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_training.alignment.aligned import AlignedTeacher
from sas_training.capability.files import read_plane
from sas_training.jobs import key_of
from sas_training.teachers.cache import image_hash
from sas_training.teachers.images import pillow
from sas_training.teachers.teacher import DenseFeatures, Image, PixelTeacher, images_a_call

ClassMap = npt.NDArray[np.int64]
SILENT = -1
"""Where a teacher says nothing."""


def class_map(
    dense: DenseFeatures, text: npt.NDArray[np.float32], height: int, width: int
) -> ClassMap:
    """(height, width) the row of `text` (K, C) with the largest product, -1 where nothing is said.

    Cells are compared, and every pixel takes the answer of the cell that it lies in.
    """
    grid = dense.features.permute(1, 2, 0)
    if grid.shape[2] != text.shape[1]:
        raise SasError(
            f"The teacher's features are {grid.shape[2]} wide, the words' vectors {text.shape[1]}; "
            "they are not of one text encoder."
        )
    rows = torch.from_numpy(text)
    best = torch.stack([(part.float() @ rows.T).argmax(dim=-1) for part in grid])
    if dense.valid is not None:
        best = torch.where(dense.valid, best, SILENT)
    places = [
        torch.arange(pixels, dtype=torch.float64).add(0.5).mul(scale).floor().long()
        for pixels, scale in (
            (height, dense.rows_per_pixel),
            (width, dense.columns_per_pixel),
        )
    ]
    if int(places[0][-1]) >= best.shape[0] or int(places[1][-1]) >= best.shape[1]:
        raise SasError("The teacher's features do not cover the image; they are of another one.")
    return np.asarray(best[places[0][:, None], places[1][None]].numpy(), dtype=np.int64)


@dataclass(eq=False)
class Caller:
    """A teacher with a vocabulary.

    Attributes:
        teacher: of pixels, or one of masks seen through text.
        text: (K, C) float32 unit rows of the words.
        look: longest side in pixels that the teacher is shown; 0: images as they are.
        found, made: images whose answer was there already, and that the teacher was asked about.
    """

    teacher: PixelTeacher
    text: npt.NDArray[np.float32]
    look: int = 0
    found: int = field(default=0, init=False)
    made: int = field(default=0, init=False)

    @property
    def key(self) -> str:
        """Of everything that answers depend on besides the image."""
        words = hashlib.sha256(np.round(self.text, 4).tobytes()).hexdigest()
        about = self.teacher.description.to_json()
        return key_of(about, self.teacher.text_encoder, words, list(self.text.shape), self.look)

    def maps(self, images: Sequence[Image], paths: Sequence[Path | None]) -> list[ClassMap]:
        """What every pixel of some images is called, (H, W) each.

        Args:
            images: (H, W, 3) uint8 each.
            paths: for each, the PNG it is kept in, or None; the image's hash is put into the name.
        """
        result: list[ClassMap | None] = []
        files = [self._file(image, path) for image, path in zip(images, paths, strict=True)]
        for image, file in zip(images, files, strict=True):
            result.append(_read(file, image.shape[:2], len(self.text)))
        missing = [number for number, one in enumerate(result) if one is None]
        self.found += len(images) - len(missing)
        self.made += len(missing)
        if missing:
            shown = [_fitted(images[number], self.look) for number in missing]
            answers = self.teacher.features(shown)
            for number, seen, dense in zip(missing, shown, answers, strict=True):
                own = class_map(dense, self.text, *seen.shape[:2])
                made = _nearest(own, images[number].shape[:2])
                result[number] = made
                file = files[number]
                if file is not None:
                    _write(file, made, len(self.text))
        return [one for one in result if one is not None]

    def look_ahead(self, images: Sequence[Image], paths: Sequence[Path | None]) -> None:
        """Have a teacher that is best asked about many images at once say what `maps` will ask it;
        others wait. Arguments as there."""
        if not isinstance(self.teacher, AlignedTeacher) or images_a_call(self.teacher) == 1:
            return
        files = [self._file(image, path) for image, path in zip(images, paths, strict=True)]
        shown = [
            _fitted(image, self.look)
            for image, file in zip(images, files, strict=True)
            if file is None or not file.exists()
        ]
        if shown:
            self.teacher.masks(shown)

    @staticmethod
    def _file(image: Image, path: Path | None) -> Path | None:
        return None if path is None else path.with_name(f"{path.stem}-{image_hash(image)[:12]}.png")


def _fitted(image: Image, longest: int) -> Image:
    """An image with its longest side at so many pixels, bilinear; 0: itself."""
    height, width = image.shape[:2]
    if longest == 0 or max(height, width) == longest:
        return image
    size = [max(1, round(side * longest / max(height, width))) for side in (width, height)]
    module = pillow()
    small = module.fromarray(image).resize(tuple(size), module.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.uint8)


def _nearest(values: ClassMap, shape: tuple[int, ...]) -> ClassMap:
    """A map at another size, every pixel from the one its centre lies in."""
    if values.shape == shape:
        return values
    row, column = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(shape, values.shape, strict=True)
    )
    return np.asarray(values[row[:, None], column[None]], dtype=np.int64)


def _write(path: Path, values: ClassMap, classes: int) -> None:
    """A PNG of one channel, the class plus 1, 0 for silence; 16 bits for more than 254 classes."""
    kind: Any = np.uint8 if classes < 255 else np.uint16
    with atomic_path(path) as temporary:
        pillow().fromarray((values + 1).astype(kind)).save(temporary, "PNG")


def _read(path: Path | None, shape: tuple[int, ...], classes: int) -> ClassMap | None:
    """A file of `_write`; None where there is none that fits."""
    if path is None or not path.is_file():
        return None
    try:
        values = read_plane(path) - 1
    except SasError:
        return None
    return values if values.shape == shape and values.max() < classes else None
