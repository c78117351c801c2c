"""The pictures the priors learn from: rendered once, kept on disk, cut into squares when read.

Of each class pictures of one thing in a plain room (`experiment.single_objects`) with the true
mask; and frames of furnished rooms with the mask of everything in them. Held-out rooms, teachers
and capability pictures of the experiment use other seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sas_ros.errors import SasError
from sas_ros.files import UNREADABLE, atomic_path
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.pictures import HALF, Picture, halved
from sas_training.experiment.single_objects import object_picture
from sas_training.jobs import Job, Workers, key_of
from sas_training.priors.settings import PicturesSettings
from sas_training.scenes.procedural.manifest import WORLD_VERSION

VERSION = 1
"""Raised when the same settings begin to give other pictures."""
AT_ONCE = 20
"""Pictures of a file."""

LEAST_SIDE = 72
"""Pixels of a rendered picture (160 x 120) across the smallest square cut from it."""
AROUND = 1.15
"""How much larger than the thing a square is at least, where the picture allows it."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ObjectPictures:
    """Squares with one thing each.

    Attributes:
        images: (P, S, S, 3) uint8.
        masks: (P, S, S) bool, where the class is.
        classes: (P,) its id in ScanNet-20.
    """

    images: Picture
    masks: Mask
    classes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class RoomPictures:
    """Frames of furnished rooms, as rendered.

    Attributes:
        images: (P, H, W, 3) uint8.
        regions: (P, H, W) int32, a number for each thing and each surface of the room, 0 for what
            is neither.
    """

    images: Picture
    regions: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.images)


def pictures_folder(run: Path, seed: int) -> Path:
    """Where the pictures of a run lie."""
    return run / f"pictures-{key_of(VERSION, WORLD_VERSION, seed)}"


def render(folder: Path, settings: PicturesSettings, seed: int, workers: Workers) -> None:
    """Make the files that are missing."""
    jobs = [
        Job(path, _render_objects, (path, name, start, count, seed))
        for name in settings.names
        for start, count, path in _object_files(folder, name, settings.per_class)
    ]
    workers.do("pictures of things", jobs)
    rooms = [(index, _room_file(folder, index, settings.frames)) for index in range(settings.rooms)]
    workers.do(
        "pictures of rooms",
        [Job(path, _render_room, (path, index, settings.frames, seed)) for index, path in rooms],
    )


def _room_file(folder: Path, index: int, frames: int) -> Path:
    return folder / f"room-{index:04d}-{frames}.npz"


def _object_files(folder: Path, name: str, count: int) -> list[tuple[int, int, Path]]:
    """First number, number of pictures and path of each file of a class."""
    stem = name.replace(" ", "-")
    parts = [(start, min(AT_ONCE, count - start)) for start in range(0, count, AT_ONCE)]
    return [(start, n, folder / f"{stem}-{start:05d}-{n}.npz") for start, n in parts]


def _render_objects(path: Path, name: str, start: int, count: int, seed: int) -> None:
    label = SCANNET20.id_of(name)
    taken = [object_picture(name, (seed, 71, label, start + k)) for k in range(count)]
    images, masks = np.stack([p.image for p in taken]), np.stack([p.mask for p in taken])
    _save(path, images=images, masks=masks)


def _render_room(path: Path, index: int, frames: int, seed: int) -> None:
    images, regions = room_frames(index, frames, seed)
    _save(path, images=images, regions=regions)


def room_frames(index: int, frames: int, seed: int) -> tuple[Picture, npt.NDArray[np.int32]]:
    """Frames of a furnished room: pictures (F, H, W, 3) and regions (F, H, W), see
    `RoomPictures`; the same for the same index and seed."""
    from sas_training.scenes.procedural.frames import shoot_room
    from sas_training.scenes.procedural.rooms import make_room

    rng = np.random.default_rng((seed, 72, index))
    shots = shoot_room(make_room(rng), rng, frames)
    images = np.stack([halved(shot.color) for shot in shots])
    # A surface has no number of its own: those of its classes, behind those of the things.
    regions = [
        np.where(
            shot.instances > 0,
            shot.instances.astype(np.int32),
            70_000 + shot.labels.astype(np.int32),
        )
        for shot in shots
    ]
    ignored = [(shot.instances == 0) & (shot.labels == 255) for shot in shots]
    named = np.where(np.stack(ignored), 0, np.stack(regions))[:, ::HALF, ::HALF]
    return images, np.asarray(named, dtype=np.int32)


def _save(path: Path, **arrays: npt.NDArray[np.generic]) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def _load(path: Path, *names: str) -> list[npt.NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in names]
    except UNREADABLE as error:
        raise SasError(f"{path} holds no pictures ({error}); remove it.") from error


def object_pictures(folder: Path, settings: PicturesSettings, seed: int) -> ObjectPictures:
    """The pictures of things that `render` has made, `settings.crops` squares of each.

    Raises:
        SasError: a file is missing or damaged.
    """
    images, masks, classes = [], [], []
    for name in settings.names:
        label = SCANNET20.id_of(name)
        for start, count, path in _object_files(folder, name, settings.per_class):
            whole, true = _load(path, "images", "masks")
            rng = np.random.default_rng((seed, 73, label, start))
            for number in range(count):
                for _ in range(settings.crops):
                    cut = square_around(np.asarray(true[number], bool), rng)
                    image, mask = cut_square(whole[number], true[number], cut, settings.size)
                    images.append(image)
                    masks.append(mask)
                    classes.append(label)
    return ObjectPictures(np.stack(images), np.stack(masks), np.array(classes, dtype=np.int64))


def room_pictures(folder: Path, settings: PicturesSettings) -> RoomPictures:
    """The frames of rooms that `render` has made; raises SasError like `object_pictures`."""
    parts = [
        _load(_room_file(folder, index, settings.frames), "images", "regions")
        for index in range(settings.rooms)
    ]
    images = np.concatenate([part[0] for part in parts])
    regions = np.concatenate([part[1] for part in parts])
    return RoomPictures(np.asarray(images, np.uint8), np.asarray(regions, np.int32))


# ------------------------------------------------------------------------------------------ squares
def square_around(mask: Mask, rng: np.random.Generator) -> tuple[int, int, int]:
    """A square (top, left, side) of a picture that holds what `mask` (H, W) shows, if it can.

    At least `LEAST_SIDE` pixels and `AROUND` times the thing, at most as high as the picture.
    """
    height, width = mask.shape
    most = min(height, width)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        rows, columns = np.arange(height), np.arange(width)
    extent = max(int(np.ptp(rows)), int(np.ptp(columns))) + 1
    least = int(np.clip(max(LEAST_SIDE, AROUND * extent), 1, most))
    side = int(rng.integers(least, most + 1))
    corner = []
    for found, room in ((rows, height), (columns, width)):
        # Anywhere the thing is inside; around its middle where it is larger than the square.
        ends = sorted((int(found[-1]) + 1 - side, int(found[0])))
        low, high = (int(np.clip(end, 0, room - side)) for end in ends)
        corner.append(int(rng.integers(low, high + 1)))
    return corner[0], corner[1], side


def cut_square(
    image: npt.NDArray[np.generic],
    mask: npt.NDArray[np.generic],
    cut: tuple[int, int, int],
    size: int,
) -> tuple[Picture, Mask]:
    """The square (top, left, side) of an image (H, W, 3) and a mask, `size` pixels across."""
    top, left, side = cut
    part = np.ascontiguousarray(image[top : top + side, left : left + side], dtype=np.uint8)
    small = Image.fromarray(part).resize((size, size), Image.Resampling.BOX)
    at = ((np.arange(size) + 0.5) * side / size).astype(np.int64)
    shown = mask[top : top + side, left : left + side][at[:, None], at]
    return np.asarray(small, dtype=np.uint8), np.asarray(shown, dtype=np.bool_)
