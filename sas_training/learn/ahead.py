"""Teachers that are best asked about many images at once, before the walk over a scene's frames.

The walk asks about one frame after the other. A program would load its model for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sas_ros.errors import SasError
from sas_training.alignment.aligned import AlignedTeacher
from sas_training.scenes.scene import Frames
from sas_training.teachers.teacher import Image, PixelTeacher, images_a_call

MOST_BYTES = 256 << 20
"""Of the images of a block."""


def look_ahead(frames: Frames, teachers: Sequence[PixelTeacher]) -> None:
    """Have teachers of masks say what they will be asked for in the walk, so that it is cached.

    Only those that are best asked about several images at once; others wait for the walk. Frames
    that cannot be used are left out, and those that show no point are not known yet: they are asked
    about too.
    """
    several = [
        one for one in teachers if isinstance(one, AlignedTeacher) and images_a_call(one) > 1
    ]
    if not several:
        return
    for block in _blocks(frames, max(images_a_call(one) for one in several)):
        for teacher in several:
            teacher.masks(block)


def _blocks(frames: Frames, most: int) -> Iterator[list[Image]]:
    block: list[Image] = []
    for number in range(len(frames)):
        try:
            image = frames[number].image
        except SasError:
            continue  # counted among the frames
        if block and (len(block) == most or (len(block) + 1) * image.nbytes > MOST_BYTES):
            yield block
            block = []
        block.append(image)
    if block:
        yield block
