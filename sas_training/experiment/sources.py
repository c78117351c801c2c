"""Both kinds of teacher as pixel teachers: what fusion and the capability table take.

A mask teacher goes through alignment by text, with the rule `label`: its words become sentences,
and their vectors are painted on its masks. Where it has no mask it says nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from sas_training.alignment.aligned import AlignedTeacher
from sas_training.experiment.teachers import SmallMaskTeacher, SmallPixelTeacher
from sas_training.experiment.words import Words
from sas_training.fusion.multiview import PixelFeatures
from sas_training.teachers.teacher import Image, PixelTeacher


def in_text_space(teacher: SmallPixelTeacher | SmallMaskTeacher, words: Words) -> PixelTeacher:
    """The teacher as one whose features can be compared with the vectors of `words`."""
    if isinstance(teacher, SmallPixelTeacher):
        return teacher
    return AlignedTeacher(teacher, words, mode="label", prompt=words.prompt)


def pixel_features(teacher: PixelTeacher, image: Image) -> PixelFeatures:
    """Features (H, W, C) of every pixel of an image."""
    return teacher.features([image])[0].at_pixels(*image.shape[:2])


def class_map(teacher: PixelTeacher, image: Image, words: Words) -> npt.NDArray[np.int64]:
    """(H, W) the class each pixel's feature is closest to, -1 where the teacher says nothing."""
    dense = teacher.features([image])[0]
    texts = torch.from_numpy(words.classes)
    grid = dense.features.permute(1, 2, 0)
    best = (grid.float() @ texts.T).argmax(dim=-1)
    if dense.valid is not None:
        best = torch.where(dense.valid, best, -1)
    rows, columns = (
        torch.arange(pixels).add(0.5).mul(scale).long()
        for pixels, scale in zip(
            image.shape[:2], (dense.rows_per_pixel, dense.columns_per_pixel), strict=True
        )
    )
    return np.asarray(best[rows[:, None], columns[None]].numpy(), dtype=np.int64)
