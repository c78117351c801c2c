"""Whether a program keeps to the protocol of `program.py`: what its author runs first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sas_ros.errors import SasError
from sas_training.teachers.program import Program
from sas_training.teachers.teacher import Image, LabelledMask


def sample_images() -> list[Image]:
    """Images of several sizes, odd ones too: noise, black, a lit square."""
    rng = np.random.default_rng(0)
    square = np.full((48, 33, 3), 30, np.uint8)
    square[10:30, 8:20] = (250, 240, 230)
    noise = rng.integers(0, 256, (40, 64, 3), dtype=np.uint8)
    return [noise, np.zeros((31, 47, 3), np.uint8), square]


def check_program(command: Sequence[str], timeout: float = 600.0) -> list[str]:
    """Run a program on small images; returns what was tried, a line each.

    It must describe itself, answer for every image in the image's size, give the same answer a
    second time and for an image alone, and, if it captions, a caption for every mask it is given,
    overlapping ones too.

    Raises:
        SasError: the first thing it does wrong.
    """
    program = Program.ask(command, timeout)
    done = [f"describes itself: {program.name}, {program.model}, {program.licence}"]
    images = sample_images()
    if "segment" in program.tasks:
        first = program.answer("segment", images)
        again = program.answer("segment", images)
        alone = program.answer("segment", images[-1:])
        counts = [len(one.masks) for one in first]
        done.append(f"segments {len(images)} images: {counts} masks")
        for one, other in zip([*first, first[-1]], [*again, alone[0]], strict=True):
            if not _same(one.masks, other.masks):
                raise SasError(
                    f"The program {program.name!r} answers otherwise when it is asked again, or "
                    "about an image alone; fix its seeds, and let no image depend on another."
                )
        done.append("answers the same when asked again, and about an image alone")
    if "caption" in program.tasks:
        masks = [_overlapping(image) for image in images]
        kept = program.answer("caption", images, masks)
        for given, found in zip(masks, kept, strict=True):
            if len(given) != len(found.masks) or not all(one.caption for one in found.masks):
                raise SasError(
                    f"The program {program.name!r} did not return each mask that it was given "
                    "with a caption."
                )
        done.append(f"captions {sum(map(len, masks))} masks")
    return done


def _overlapping(image: Image) -> list[LabelledMask]:
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    parts = [rows < height // 2, columns < width // 2, (rows == 0) & (columns == 0)]
    return [LabelledMask(one, f"part {number}", 0.5) for number, one in enumerate(parts)]


def _same(one: Sequence[LabelledMask], other: Sequence[LabelledMask]) -> bool:
    return len(one) == len(other) and all(
        (a.label, a.score) == (b.label, b.score) and np.array_equal(a.mask, b.mask)
        for a, b in zip(one, other, strict=True)
    )
