"""Pictures of single objects on disk: those of one class in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sas_ros.errors import SasError
from sas_ros.files import UNREADABLE, atomic_path
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.single_objects import ObjectPicture, object_picture


def make_pictures(path: Path, name: str, count: int, seed: int) -> None:
    """Make and write `count` pictures of a class, the same for the same `seed`."""
    label = SCANNET20.id_of(name)
    save_pictures(path, [object_picture(name, (seed, 31, label, n)) for n in range(count)])


def save_pictures(path: Path, pictures: Sequence[ObjectPicture]) -> None:
    """Write pictures of one size as npz: images (P, H, W, 3) uint8, masks (P, H, W) bool."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(
            stream,
            images=np.stack([one.image for one in pictures]),
            masks=np.stack([one.mask for one in pictures]),
        )


def load_pictures(path: Path) -> list[ObjectPicture]:
    """Read a file of `save_pictures`; raises SasError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            images, masks = stored["images"], stored["masks"]
    except UNREADABLE as error:
        raise SasError(f"{path} holds no pictures of objects: {error}; remove it.") from error
    fits = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3
    if not fits or masks.dtype != np.bool_ or masks.shape != images.shape[:3]:
        raise SasError(
            f"{path} holds images {images.shape} {images.dtype} and masks {masks.shape} "
            f"{masks.dtype}, not (P, H, W, 3) uint8 and (P, H, W) bool; remove it."
        )
    return [ObjectPicture(image, mask) for image, mask in zip(images, masks, strict=True)]
