"""A folder of what a teacher said about images, one file per image, named after it.

What `sas teach` writes: NAME.pixels.safetensors, or NAME.masks.json with its PNG files. Run again,
it keeps the files of the same teacher, settings and image, and makes all others anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sas_ros.errors import SasError
from sas_training.teachers import mask_files, pixel_files
from sas_training.teachers.cache import image_hash
from sas_training.teachers.images import read_image
from sas_training.teachers.mask_files import MaskFile
from sas_training.teachers.pixel_files import PixelFile
from sas_training.teachers.teacher import Image, PixelTeacher, Teacher


@dataclass(frozen=True)
class Taught:
    """What became of an image: the file, and whether it was made or had been there."""

    image: Path
    output: Path
    made: bool


def teach(
    teacher: Teacher,
    images: Sequence[Path],
    folder: Path,
    batch: int = 4,
    progress: Callable[[Iterable[Path]], Iterable[Path]] = lambda paths: paths,
) -> Iterator[Taught]:
    """Ask a teacher about image files and write what it says, a batch at a time.

    Args:
        teacher: of pixels or masks.
        images: files; their names without suffix must differ.
        folder: made when it is not there.
        batch: images asked about at once.
        progress: wraps the image files, as tqdm does.

    Raises:
        SasError: two images of one name, an image that cannot be read, or the teacher's own.
    """
    suffix = pixel_files.SUFFIX if isinstance(teacher, PixelTeacher) else mask_files.SUFFIX
    targets: dict[Path, Path] = {}
    for path in images:
        target = folder / (path.stem + suffix)
        if target in targets:
            raise SasError(f"{targets[target]} and {path} would both be written to {target}.")
        targets[target] = path
    names = {path: target for target, path in targets.items()}
    waiting: list[tuple[Path, Image, str]] = []
    for path in progress(images):
        image = read_image(path)
        sha256 = image_hash(image)
        if _is_there(names[path], teacher, sha256):
            yield Taught(path, names[path], False)
            continue
        waiting.append((path, image, sha256))
        if len(waiting) >= batch:
            yield from _ask(teacher, waiting, names)
            waiting = []
    yield from _ask(teacher, waiting, names)


def _ask(
    teacher: Teacher, waiting: list[tuple[Path, Image, str]], names: dict[Path, Path]
) -> Iterator[Taught]:
    if not waiting:
        return
    about, images = teacher.description.to_json(), [image for _, image, _ in waiting]
    files: list[PixelFile | MaskFile] = []
    if isinstance(teacher, PixelTeacher):
        for (_, _, sha256), dense in zip(waiting, teacher.features(images), strict=True):
            files.append(PixelFile(dense, about, teacher.text_encoder, sha256))
    else:
        for (_, image, sha256), masks in zip(waiting, teacher.masks(images), strict=True):
            height, width = image.shape[:2]
            files.append(MaskFile(tuple(masks), height, width, about, sha256))
    for (path, _, _), file in zip(waiting, files, strict=True):
        file.save(names[path])
        yield Taught(path, names[path], True)


def _is_there(path: Path, teacher: Teacher, sha256: str) -> bool:
    """Whether the file is whole, and of this teacher and image."""
    try:
        if isinstance(teacher, PixelTeacher):
            about, image = pixel_files.read_about(path)
        else:
            file = MaskFile.load(path)
            about, image = file.teacher, file.image_sha256
    except SasError:
        return False
    # As JSON, because lists come back for tuples.
    wanted = json.loads(json.dumps(teacher.description.to_json()))
    return bool(about == wanted and image == sha256)
