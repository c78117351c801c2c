"""How a student's answers are calibrated, on generated rooms that it was not trained on.

Four numbers come from `sas_ros.matching.calibrate`. Then each word gets the size an object of it
needs: what a student gets wrong lies mostly in small pieces, and a bed of twenty voxels is none.

The rooms are painted and bent as in training before a question is asked. A student is surer of
generated rooms than of real ones; what suits those that it finds hard comes nearer to what suits
real ones, without looking at any.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_ros.files import whole_files
from sas_ros.language.calibration import Calibration
from sas_ros.language.encoder import TextEncoder
from sas_ros.matching import KnownPhrases, LabelledElements, calibrate, query_quality
from sas_ros.observation import Up
from sas_ros.query import MIN_POINTS, TextQuery, answer
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_training.distill.augment import AugmentConfig, distort, recolour
from sas_training.distill.dataset import voxel_labels
from sas_training.distill.phrases import known_phrases
from sas_training.evaluation.labelled import IGNORED, AnnotatedScan, read_objects
from sas_training.evaluation.labels import LabelSet
from sas_training.evaluation.scoring import THERE_POINTS, evaluate, expand

ABSENT_FOUND_GOAL = 0.05
"""Share of the absent words of the vocabulary that may be found, in scans not fitted to. One in ten
is the aim for whatever people ask; free text adds mistakes of its own."""

SIZES = (1, 4, 8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320)
"""Elements that an object may be asked to have."""

PRICES = tuple(0.25 * 1.25**step for step in range(21))
"""What a false find costs, in right answers; the first that reaches the goal is taken."""

THRESHOLDS = (0.75, 0.8, 0.85, 0.9, 0.95)
"""Tried beside the one that answers best over voxels, where they are above it: a higher one lets
objects be smaller."""

_CALIBRATION_VOXELS = 60_000
_MOSTLY = 0.5
_SHARED = 2.0
"""A word's own counts are joined by so many questions answered as those for all words are: a class
with two examples says little about its size."""


def calibrate_bundle(
    bundle: StudentBundle,
    labels: LabelSet,
    encoder: TextEncoder,
    folder: Path,
    threshold: float | None = None,
) -> tuple[StudentBundle, dict[str, Any]]:
    """The bundle with phrases, calibration and metrics in its provenance; and the metrics.

    Args:
        bundle: a student whose words are the classes of `labels`, in their order.
        folder: `rooms/*.npz` and, optionally, `views/*.npz`, or labelled scans themselves.
        threshold: taken instead of the one that these rooms ask for.

    Raises `SasError` when words and labels differ, nothing in the folder can be used, or there are
    fewer than two labelled scans.
    """
    if tuple(bundle.vocabulary.names) != labels.names:
        raise SasError(
            f"The words of the student {bundle.name!r} are not the classes of {labels.name}, so "
            "that scans with these labels cannot calibrate it."
        )
    rooms = folder / "rooms" if (folder / "rooms").is_dir() else folder
    files = expand([rooms])
    if len(files) < 2:
        raise SasError(
            f"{rooms} holds {len(files)} labelled scan; sizes are chosen on one half of the scans "
            "and measured on the other: give at least 2 rooms."
        )
    views = whole_files(folder / "views", "*.npz")[: len(files)]
    phrases, kept = known_phrases(bundle.vocabulary, encoder, bundle.prompt)
    bundle = replace(bundle, vocabulary=replace(bundle.vocabulary, phrases=kept))
    segmenter = Segmenter(bundle, device="cpu")
    elements = labelled_elements(segmenter, files, labels)
    known = KnownPhrases(phrases.embeddings, phrases.meant)
    first = calibrate(elements, bundle.vocabulary, known)
    higher = [value for value in THRESHOLDS if value > first.threshold]
    tried = [first.threshold, *higher] if threshold is None else [threshold]
    candidates = [replace(first, threshold=value) for value in tried]
    asked = [
        found_objects(segmenter, group, candidates, labels) for group in (files, views) if group
    ]
    sized = [
        with_sizes(candidate, [group[number] for group in asked], bundle.vocabulary.names)
        for number, candidate in enumerate(candidates)
    ]
    calibration, absent_found, right = best_of(sized)
    quality = query_quality(elements, bundle.vocabulary, known, calibration)
    score = evaluate(segmenter, files, labels.name, _up())
    metrics = {
        "held_out_rooms": len(files),
        "held_out_views": len(views),
        "held_out_miou_present": round(score["miou_present"], 4),
        "query_f1": round(quality.f1, 4),
        "query_not_found": round(quality.not_found, 4),
        "present_words_found": round(right, 4),
        "absent_words_found": round(absent_found, 4),
        "goal_reached": absent_found <= ABSENT_FOUND_GOAL,
        "calibration": calibration.to_metadata(),
    }
    provenance = {**bundle.provenance, "metrics": metrics}
    return replace(bundle, calibration=calibration, provenance=provenance), metrics


def _up() -> Up:
    return Up(np.array([0.0, 0.0, 1.0]), "parameter")


def harder_scan(path: Path, label_set: LabelSet) -> AnnotatedScan:
    """A labelled scan, painted and bent as in training; the same for the same name and points."""
    scan = read_objects(path, label_set)
    rng = np.random.default_rng((zlib.crc32(path.name.encode()), len(scan.points)))
    config = AugmentConfig()
    colors = scan.colors
    if colors is not None:
        objects = scan.labels if scan.instances is None else scan.instances
        painted = recolour(scan.points, colors, objects, config, rng)
        colors = np.clip(painted, 0, 255).astype(np.uint8)
    return replace(scan, points=distort(scan.points, config, rng), colors=colors)


def labelled_elements(
    segmenter: Segmenter, files: Sequence[Path], label_set: LabelSet
) -> LabelledElements:
    """Voxels of the first rooms, made harder, with the majority label of their points."""
    features, labels, scenes = [], [], []
    voxels = 0
    for number, path in enumerate(files):
        scan = harder_scan(path, label_set)
        scene = segmenter.segment(scan.cloud, _up())
        majority = voxel_labels(
            scene.element_of_point.astype(np.int64),
            scan.labels,
            len(segmenter.bundle.vocabulary),
            len(scene.positions),
        )
        features.append(scene.features)
        labels.append(majority)
        scenes.append(np.full(len(majority), number))
        voxels += len(majority)
        if voxels > _CALIBRATION_VOXELS:
            break
    return LabelledElements(torch.cat(features), np.concatenate(labels), np.concatenate(scenes))


@dataclass(frozen=True, eq=False)
class FoundObjects:
    """What questions for each of K words find in each of S scans, for each of `SIZES`.

    Attributes:
        there, absent: (S, K) bool, at least `THERE_POINTS` true points, or none at all.
        found: (S, K, len(SIZES)) bool, some object is that large.
        right: (S, K, len(SIZES)) bool, and most labelled points of all those are of the class.
    """

    there: npt.NDArray[np.bool_]
    absent: npt.NDArray[np.bool_]
    found: npt.NDArray[np.bool_]
    right: npt.NDArray[np.bool_]

    def half(self, odd: int) -> FoundObjects:
        """The scans with even numbers, or with odd ones."""
        rows = slice(odd, None, 2)
        return FoundObjects(self.there[rows], self.absent[rows], self.found[rows], self.right[rows])


def found_objects(
    segmenter: Segmenter,
    files: Sequence[Path],
    calibrations: Sequence[Calibration],
    label_set: LabelSet,
) -> list[FoundObjects]:
    """Ask every scan, made harder, for every word of the vocabulary; its words are the classes.

    One result for each of `calibrations`.
    """
    vocabulary = segmenter.bundle.vocabulary
    sizes = np.array(SIZES)
    shape = (len(files), len(vocabulary))
    there, absent = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    found, right = (np.zeros((len(calibrations), *shape, len(SIZES)), np.bool_) for _ in range(2))
    for row, path in enumerate(files):
        scan = harder_scan(path, label_set)
        cloud, truth = scan.cloud, scan.labels
        scene = segmenter.segment(cloud, _up())
        for word, name in enumerate(vocabulary.names):
            count = np.count_nonzero(truth == word)
            there[row, word], absent[row, word] = count >= THERE_POINTS, count == 0
            for number, calibration in enumerate(calibrations):
                result = answer(
                    scene,
                    cloud,
                    TextQuery(name),
                    vocabulary.embeddings[word],
                    None,
                    vocabulary,
                    calibration,
                    default_max_instances=64,
                    min_points=MIN_POINTS,
                )
                pieces = [truth[piece.point_indices] for piece in result.instances]
                elements = np.array([len(piece.elements) for piece in result.instances], np.int64)
                hits = np.array([np.count_nonzero(piece == word) for piece in pieces])
                known = np.array([np.count_nonzero(piece != IGNORED) for piece in pieces])
                large = elements[:, None] >= sizes
                found[number, row, word] = large.any(axis=0)
                total = (hits[:, None] * large).sum(axis=0)
                most = total >= _MOSTLY * (known[:, None] * large).sum(axis=0)
                right[number, row, word] = (total > 0) & most
    return [FoundObjects(there, absent, *both) for both in zip(found, right, strict=True)]


class Sized(NamedTuple):
    """A calibration with sizes, and what it reaches in scans that the sizes were not fitted to.

    Its threshold, unlike the sizes, was chosen with the very scans that the shares are of.
    """

    calibration: Calibration
    absent_found: float
    """Share of the absent words that are found, in the worst group of scans."""
    right: float
    """Share of the words that are there and rightly found, mean of the groups."""


def best_of(candidates: Sequence[Sized]) -> Sized:
    """The most right answers among those that keep to `ABSENT_FOUND_GOAL`; where none does, the
    fewest false ones."""
    keeping = [one for one in candidates if one.absent_found <= ABSENT_FOUND_GOAL]
    if not keeping:
        return min(candidates, key=lambda one: one.absent_found)
    return max(keeping, key=lambda one: one.right)


def with_sizes(
    calibration: Calibration, groups: Sequence[FoundObjects], words: Sequence[str]
) -> Sized:
    """The calibration with the sizes of objects.

    Each word's size is the one with the most right answers less what its false finds cost. They
    cost what makes at most `ABSENT_FOUND_GOAL` of the absent words be found, in the worst of the
    groups: fused rooms, which show things whole, and single frames, which show parts. That share
    is measured on each half of the scans with the sizes that suit the other half.
    """
    for price in PRICES:
        shares = np.array([_shares(number, groups, price) for number in range(len(groups))])
        if shares[:, 0].max() <= ABSENT_FOUND_GOAL:
            break
    worth = _worth(groups, price)
    sizes = tuple((word, SIZES[k]) for word, k in zip(words, worth.argmax(axis=1), strict=True))
    common = SIZES[int(_worth(groups, 1.0).sum(axis=0).argmax())]
    sized = replace(calibration, min_elements=common, word_elements=sizes)
    return Sized(sized, float(shares[:, 0].max()), float(shares[:, 1].mean()))


def _shares(number: int, groups: Sequence[FoundObjects], price: float) -> tuple[float, float]:
    """Of one group, the share of the absent words that are found and of those there that are found
    rightly, where each half is asked with the other half's sizes."""
    false = absent = right = there = 0
    for half in (0, 1):
        best = _worth([group.half(half) for group in groups], price).argmax(axis=1)
        other, words = groups[number].half(1 - half), np.arange(len(best))
        false += int((other.found[:, words, best] & other.absent).sum())
        right += int((other.right[:, words, best] & other.there).sum())
        absent += int(other.absent.sum())
        there += int(other.there.sum())
    return false / max(absent, 1), right / max(there, 1)


def _worth(groups: Sequence[FoundObjects], price: float) -> npt.NDArray[np.float64]:
    """(K, len(SIZES)): right answers less `price` times false finds, shares summed over groups."""
    worth = np.zeros((groups[0].found.shape[1], len(SIZES)))
    for group in groups:
        right = (group.right & group.there[..., None]).sum(axis=0)
        false = (group.found & group.absent[..., None]).sum(axis=0)
        there, absent = max(int(group.there.sum()), 1), max(int(group.absent.sum()), 1)
        worth += (right + _SHARED * right.sum(axis=0) / there) / there
        worth -= price * (false + _SHARED * false.sum(axis=0) / absent) / absent
    return worth
