"""The table out of images, masks, and what teachers call the pixels: equations 3 and 4.

For class j and teacher m the IoU of "m calls it j" with the mask, on every image of j. `macro` is
the mean of the images' IoU (the paper), `micro` the ratio of the sums (the released code). It is
the IoU of the class alone: background counts nowhere. Whoever made images and masks: the same
function serves synthetic images with pseudo masks and true ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.capability.class_maps import Caller
from sas_training.capability.files import read_mask
from sas_training.capability.table import CapabilityTable, Measurement
from sas_training.teachers.images import read_image
from sas_training.teachers.teacher import Image, images_a_call

RESAMPLES = 2000
LEVEL = 0.95
LEAST_IMAGES = 5
"""Of a class, for a bootstrap over images to say anything: the draws of fewer are too alike."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Example:
    """An image of a class and where the class is, in memory or in files.

    Attributes:
        name: of the image, different within its class.
        image: (H, W, 3) uint8 RGB, or its file.
        mask: (H, W) bool, or its PNG.
    """

    name: str
    image: Image | Path
    mask: npt.NDArray[np.bool_] | Path

    def read(self) -> tuple[Image, npt.NDArray[np.bool_]]:
        """Image and mask; raises `SasError` when they are missing or of different sizes."""
        image = read_image(self.image) if isinstance(self.image, Path) else self.image
        mask = read_mask(self.mask) if isinstance(self.mask, Path) else self.mask
        if mask.shape != image.shape[:2]:
            raise SasError(
                f"The mask {self.mask if isinstance(self.mask, Path) else self.name} is "
                f"{mask.shape[1]} x {mask.shape[0]}, its image {image.shape[1]} x {image.shape[0]}."
            )
        return image, mask


@dataclass(frozen=True, eq=False)
class Scores:
    """What was counted.

    Attributes:
        teachers: T names.
        images: class -> names of its n images.
        overlap, union: class -> (T, n) int64 pixels.
    """

    teachers: tuple[str, ...]
    images: Mapping[str, tuple[str, ...]]
    overlap: Mapping[str, Counts]
    union: Mapping[str, Counts]

    def each(self, name: str) -> npt.NDArray[np.float64]:
        """(T, n) IoU of the images of a class; 0 where mask and answer are both empty."""
        overlap, union = self.overlap[name], self.union[name]
        return np.asarray(overlap / np.maximum(union, 1), dtype=np.float64)

    def pooled(self, name: str) -> npt.NDArray[np.float64]:
        """(T,) sum of the overlaps over the sum of the unions."""
        overlap, union = (one[name].sum(axis=1) for one in (self.overlap, self.union))
        return np.asarray(overlap / np.maximum(union, 1), dtype=np.float64)


def count(
    teachers: Mapping[str, Caller],
    vocabulary: Sequence[str],
    examples: Mapping[str, Sequence[Example]],
    *,
    batch: int = 4,
    folder: Callable[[str, str], Path] | None = None,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = lambda work: work,
) -> Scores:
    """Ask teachers about the images of every class, and count pixels.

    Args:
        teachers: name -> teacher with the vectors of the vocabulary.
        vocabulary: K words that pixels may be called.
        examples: class of the vocabulary -> its images.
        batch: images that a teacher is asked about at once.
        folder: (teacher, class) -> where answers are kept; None: nowhere.
        progress: shows how far a list of work is, as tqdm does.

    Raises:
        SasError: a class that is no word, or an image that cannot be read.
    """
    unknown = [name for name in examples if name not in vocabulary]
    if unknown:
        raise SasError(f"The class {unknown[0]!r} is no word of the vocabulary.")
    work = [
        (name, start) for name, given in examples.items() for start in range(0, len(given), batch)
    ]
    shape = {name: (len(teachers), len(given)) for name, given in examples.items()}
    overlap = {name: np.zeros(one, dtype=np.int64) for name, one in shape.items()}
    union = {name: np.zeros(one, dtype=np.int64) for name, one in shape.items()}
    _look_ahead(teachers, examples, folder)
    for name, start in progress(work):
        part = examples[name][start : start + batch]
        read = [one.read() for one in part]
        for row, (title, caller) in enumerate(teachers.items()):
            paths = [folder(title, name) / f"{one.name}.png" if folder else None for one in part]
            maps = caller.maps([image for image, _ in read], paths)
            for number, ((_, mask), found) in enumerate(zip(read, maps, strict=True)):
                called = found == vocabulary.index(name)
                overlap[name][row, start + number] = np.count_nonzero(called & mask)
                union[name][row, start + number] = np.count_nonzero(called | mask)
    names = {name: tuple(one.name for one in given) for name, given in examples.items()}
    return Scores(tuple(teachers), names, overlap, union)


def _look_ahead(
    teachers: Mapping[str, Caller],
    examples: Mapping[str, Sequence[Example]],
    folder: Callable[[str, str], Path] | None,
) -> None:
    """Ask teachers that are best asked about many images at once about those of all classes."""
    every = [(name, one) for name, given in examples.items() for one in given]
    for title, caller in teachers.items():
        most = images_a_call(caller.teacher)
        for start in range(0, len(every) if most > 1 else 0, most):
            part = every[start : start + most]
            paths = [
                folder(title, name) / f"{one.name}.png" if folder else None for name, one in part
            ]
            caller.look_ahead([one.read()[0] for _, one in part], paths)


def table_of(
    scores: Scores,
    made: Measurement,
    *,
    zero: Sequence[str] = (),
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> CapabilityTable:
    """The table with bootstrap intervals of both measures; images of a class are drawn anew, for
    all teachers and both measures alike.

    Args:
        scores: counted; a class without any image is left out.
        made: goes into the table.
        zero: classes that are no things to make images of, such as `other`; their capability is 0,
            as in published tables.
        seed: of the bootstrap.
        resamples: draws.
        level: confidence of the intervals.

    Raises:
        SasError: no class has any image.
    """
    measured = [name for name, images in scores.images.items() if images and name not in zero]
    if not measured:
        raise SasError("No class has an image that a teacher could be measured with.")
    names = (*measured, *zero)
    macro = np.zeros((len(scores.teachers), len(names)))
    micro = np.zeros_like(macro)
    ends, pooled_ends = np.zeros((2, *macro.shape, 2))
    for column, name in enumerate(measured):
        each, drawn = scores.each(name), ((seed, column), resamples, level)
        macro[:, column] = each.mean(axis=1)
        micro[:, column] = scores.pooled(name)
        ends[:, column] = interval(each, *drawn)
        pooled_ends[:, column] = pooled_interval(scores.overlap[name], scores.union[name], *drawn)
    return CapabilityTable(
        teachers=scores.teachers,
        classes=names,
        scores=macro,
        pooled=micro,
        intervals=ends,
        pooled_intervals=pooled_ends,
        level=level,
        made=made,
    )


def interval(
    each: npt.NDArray[np.float64], seed: Sequence[int], resamples: int, level: float
) -> npt.NDArray[np.float64]:
    """(T, 2) ends of the bootstrap interval of the means of `each` (T, n) over images; 0 and 1
    where there are fewer than `LEAST_IMAGES`."""
    if each.shape[1] < LEAST_IMAGES:
        return np.tile([0.0, 1.0], (len(each), 1))
    return _ends(each[:, _draws(each.shape[1], seed, resamples)].mean(axis=2), level)


def pooled_interval(
    overlap: Counts, union: Counts, seed: Sequence[int], resamples: int, level: float
) -> npt.NDArray[np.float64]:
    """The same of the sums of `overlap` (T, n) over the sums of `union` (T, n), on the same draws
    of images; a draw without a single pixel counts as 0."""
    if overlap.shape[1] < LEAST_IMAGES:
        return np.tile([0.0, 1.0], (len(overlap), 1))
    rows = _draws(overlap.shape[1], seed, resamples)
    both, either = (counts[:, rows].sum(axis=2) for counts in (overlap, union))
    return _ends(both / np.maximum(either, 1), level)


def _draws(images: int, seed: Sequence[int], resamples: int) -> npt.NDArray[np.int64]:
    """(resamples, n) images, each row n of n with replacement."""
    rng = np.random.default_rng(list(seed))
    return rng.integers(images, size=(resamples, images))


def _ends(values: npt.NDArray[np.float64], level: float) -> npt.NDArray[np.float64]:
    """(T, 2) ends of the middle `level` of `values` (T, resamples)."""
    return np.asarray(np.quantile(values, ((1 - level) / 2, (1 + level) / 2), axis=1).T)


def measure(
    teachers: Mapping[str, Caller],
    vocabulary: Sequence[str],
    examples: Mapping[str, Sequence[Example]],
    made: Measurement | None = None,
    *,
    zero: Sequence[str] = (),
    seed: int = 0,
    batch: int = 4,
) -> CapabilityTable:
    """`count` and `table_of` in one: from images and masks, whoever made them, to the table."""
    scores = count(teachers, vocabulary, examples, batch=batch)
    return table_of(scores, made or Measurement(), zero=zero, seed=seed)
