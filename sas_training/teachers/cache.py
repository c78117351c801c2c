"""What a teacher said about a frame, kept by model, settings and image content.

The key of a frame is the SHA-256 of the teacher's description, its text encoder where it has one,
and the image's pixels. Another file name of the same image finds the same answer; other weights or
settings never do. A file that is damaged counts as none and is made anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.errors import SasError
from sas_training.fusion.multiview import FeatureSource, PixelFeatures
from sas_training.teachers import mask_files, pixel_files
from sas_training.teachers.mask_files import MaskFile
from sas_training.teachers.pixel_files import PixelFile
from sas_training.teachers.teacher import (
    DenseFeatures,
    Image,
    LabelledMask,
    MaskTeacher,
    PixelTeacher,
    check_image,
    images_a_call,
)

KEY_VERSION = 1
"""Part of every key: raise it when the same teacher begins to say something else."""


def image_hash(image: Image) -> str:
    """SHA-256 of an image's size and pixels (height, width, 3) uint8."""
    digest = hashlib.sha256(f"{image.shape[0]} {image.shape[1]}\n".encode())
    digest.update(np.ascontiguousarray(check_image(image)).tobytes())
    return digest.hexdigest()


def frame_key(teacher: PixelTeacher | MaskTeacher, sha256: str) -> str:
    """What the teacher says about the image of that hash is kept under: hexadecimal, 64 letters.

    Raises `SasError` when the teacher's settings are not plain JSON.
    """
    about: dict[str, Any] = {
        "version": KEY_VERSION,
        "teacher": teacher.description.to_json(),
        "text_encoder": getattr(teacher, "text_encoder", ""),
        "image": sha256,
    }
    try:
        text = json.dumps(about, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SasError(f"A teacher's settings must be plain JSON: {error}.") from None
    return hashlib.sha256(text.encode()).hexdigest()


class FrameCache:
    """A folder of answers: `FOLDER/ab/abcd....pixels.safetensors` or `.masks.json` with its PNGs.

    Args:
        folder: made when the first answer is kept.
        batch: images that a teacher is asked about at once; teachers of masks that are best asked
            about more (`images_a_call`) are asked about so many.

    Attributes:
        found, made: frames that were there already, and that a teacher was asked about.
    """

    def __init__(self, folder: Path, batch: int = 4) -> None:
        if batch < 1:
            raise SasError(f"A batch has one image or more, not {batch}.")
        self.folder, self.batch = Path(folder), batch
        self.found = self.made = 0

    def features(self, teacher: PixelTeacher, images: Sequence[Image]) -> list[DenseFeatures]:
        """Features of each image: from the folder where they are there, else made and kept."""
        hashes = [image_hash(image) for image in images]
        paths = [self.path(teacher, sha256, pixel_files.SUFFIX) for sha256 in hashes]
        result = [self._features_at(teacher, path) for path in paths]
        for numbers in self._batches(result):
            made = teacher.features([images[number] for number in numbers])
            for number, dense in zip(numbers, made, strict=True):
                about = teacher.description.to_json()
                kept = PixelFile(dense, about, teacher.text_encoder, hashes[number])
                kept.save(paths[number])
                result[number] = dense
        return [dense for dense in result if dense is not None]

    def masks(
        self, teacher: MaskTeacher, images: Sequence[Image]
    ) -> list[tuple[LabelledMask, ...]]:
        """Masks of each image: from the folder where they are there, else made and kept."""
        hashes = [image_hash(image) for image in images]
        paths = [self.path(teacher, sha256, mask_files.SUFFIX) for sha256 in hashes]
        result = [_masks_at(path, image) for path, image in zip(paths, images, strict=True)]
        for numbers in self._batches(result, images_a_call(teacher)):
            made = teacher.masks([images[number] for number in numbers])
            for number, masks in zip(numbers, made, strict=True):
                height, width = images[number].shape[:2]
                about = teacher.description.to_json()
                MaskFile(masks, height, width, about, hashes[number]).save(paths[number])
                result[number] = masks
        return [masks for masks in result if masks is not None]

    def pixel_features(self, teacher: PixelTeacher, image: Image) -> PixelFeatures:
        """Features of every pixel of one image, as `fuse_views` takes them."""
        return self.features(teacher, [image])[0].at_pixels(*image.shape[:2])

    def path(self, teacher: PixelTeacher | MaskTeacher, sha256: str, suffix: str) -> Path:
        """Where the answer about the image of that hash lies, or would."""
        key = frame_key(teacher, sha256)
        return self.folder / key[:2] / (key + suffix)

    def _batches(self, result: Sequence[object], least: int = 1) -> Iterator[list[int]]:
        missing = [number for number, one in enumerate(result) if one is None]
        self.found += len(result) - len(missing)
        batch = max(self.batch, least)
        for start in range(0, len(missing), batch):
            numbers = missing[start : start + batch]
            yield numbers
            self.made += len(numbers)

    def _features_at(self, teacher: PixelTeacher, path: Path) -> DenseFeatures | None:
        try:
            dense = PixelFile.load(path).features
        except SasError:
            return None
        return dense if dense.channels == teacher.channels else None


def feature_source(
    teacher: PixelTeacher, image: Callable[[int], Image], cache: FrameCache
) -> FeatureSource:
    """A teacher as `fuse_views` takes it.

    Args:
        teacher: of pixels.
        image: the image of the view of that number.
        cache: keeps what it says, so that several walks over the views ask it once.
    """

    def read(number: int) -> PixelFeatures | None:
        found = cache.pixel_features(teacher, image(number))
        nothing = found.valid is not None and not bool(found.valid.any())
        return None if nothing else found

    settings = {"teacher": teacher.description.to_json(), "text_encoder": teacher.text_encoder}
    return FeatureSource(teacher.description.name, teacher.channels, read, settings)


def _masks_at(path: Path, image: Image) -> tuple[LabelledMask, ...] | None:
    try:
        kept = MaskFile.load(path)
    except SasError:
        return None
    return kept.masks if (kept.height, kept.width) == image.shape[:2] else None
