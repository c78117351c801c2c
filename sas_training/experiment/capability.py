"""The teachers' capability for each class, measured on pictures of single objects.

For class j and teacher m: the foreground IoU of the pixels that m's features call j with those that
show j, over pictures of one thing in a plain room (`single_objects`). `macro` is the mean of the
pictures' IoU (the paper's equations 3 and 4), `micro` the ratio of sums (the released code).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sas_training.capability.table import CapabilityTable, Measurement
from sas_training.distill.words import class_text
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.single_objects import ObjectPicture
from sas_training.experiment.sources import class_map
from sas_training.experiment.words import Words
from sas_training.teachers.teacher import PixelTeacher

_RESAMPLES = 200


def measure_capability(
    teachers: Mapping[str, PixelTeacher],
    words: Words,
    pictures: Iterable[Sequence[ObjectPicture]],
    images: int,
    seed: int,
) -> CapabilityTable:
    """The table of some teachers.

    Args:
        pictures: of every class, `images` of each.
        seed: of the pictures and of the bootstrap of the intervals.
    """
    names = SCANNET20.names
    overlap = np.zeros((len(teachers), len(names), images))
    union = np.zeros_like(overlap)
    for label, of_class in enumerate(pictures):
        for number, picture in enumerate(of_class):
            for row, teacher in enumerate(teachers.values()):
                called = class_map(teacher, picture.image, words) == label
                overlap[row, label, number] = np.count_nonzero(called & picture.mask)
                union[row, label, number] = np.count_nonzero(called | picture.mask)
    each = overlap / np.maximum(union, 1)
    return CapabilityTable(
        teachers=tuple(teachers),
        classes=tuple(class_text(name) for name in names),
        scores=each.mean(axis=2),
        pooled=overlap.sum(axis=2) / np.maximum(union.sum(axis=2), 1),
        intervals=_intervals(each, seed),
        made=Measurement(
            seeds=(seed,),
            models={name: teacher.description.model for name, teacher in teachers.items()},
            images_per_class=images,
            notes={"pictures": "single objects in plain generated rooms, true masks"},
        ),
    )


def _intervals(each: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    """(T, K, 2) 95 % bootstrap intervals of the means over the last axis."""
    rng = np.random.default_rng((seed, 32))
    rows = rng.integers(each.shape[2], size=(_RESAMPLES, each.shape[2]))
    means = each[:, :, rows].mean(axis=3)
    return np.moveaxis(np.quantile(means, (0.025, 0.975), axis=2), 0, -1)


def random_capability(table: CapabilityTable, seed: int) -> CapabilityTable:
    """A control: a table of the same teachers and classes with scores drawn from 0 to 1."""
    rng = np.random.default_rng((seed, 33))
    return CapabilityTable(
        teachers=table.teachers,
        classes=table.classes,
        scores=rng.random(table.scores.shape),
        pooled=rng.random(table.scores.shape),
        made=Measurement(notes={"control": "drawn at random", "seed": seed}),
    )
