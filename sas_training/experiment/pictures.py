"""Frames of generated rooms as the teachers see them: half as large, with a label for each cell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_training.experiment.network import CELL
from sas_training.scenes.procedural.frames import frame_path, read_frame

HALF = 2
"""A teacher's pixel is the mean of 2 x 2 pixels of a frame."""

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class LabelledPictures:
    """Pictures of a teacher's training.

    Attributes:
        images: (P, H, W, 3) uint8.
        labels: (P, H / 2, W / 2) uint8, 255 ignored.
        objects: (P, H / 2, W / 2) int64, a number for each object of each room.
    """

    images: Picture
    labels: npt.NDArray[np.uint8]
    objects: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)


def halved(image: Picture) -> Picture:
    """(H, W, 3) to (H / 2, W / 2, 3): means of 2 x 2 pixels."""
    rows, columns = image.shape[0] // HALF, image.shape[1] // HALF
    blocks = image[: rows * HALF, : columns * HALF].reshape(rows, HALF, columns, HALF, 3)
    return np.asarray(np.rint(blocks.mean(axis=(1, 3))), dtype=np.uint8)


def cells(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What lies in the middle of each cell of `halved` pictures, of values (H, W) of a frame."""
    step = HALF * CELL
    return values[step // 2 :: step, step // 2 :: step]


def labelled_pictures(folder: Path, rooms: int, frames: int) -> LabelledPictures:
    """The first `frames` frames of the first `rooms` rooms of `sas world make --frames`.

    Raises:
        SasError: one is missing or damaged.
    """
    images, labels, objects = [], [], []
    for room in range(rooms):
        for number in range(frames):
            frame = read_frame(frame_path(folder, room, number))
            images.append(halved(frame.color))
            labels.append(cells(frame.labels))
            objects.append(cells(frame.instances).astype(np.int64) + (room << 16))
    return LabelledPictures(np.stack(images), np.stack(labels), np.stack(objects))
