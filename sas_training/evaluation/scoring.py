"""A student against labelled scans: its labels, and its answers."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import whole_files
from sas_ros.language.prompts import text_key
from sas_ros.observation import Up
from sas_ros.query import MAX_INSTANCES, MIN_POINTS, QueryStatus, TextQuery, answer
from sas_ros.segmenter import Segmenter
from sas_training.evaluation.labelled import SCANNET_VERTICES, AnnotatedScan, read_objects
from sas_training.evaluation.labels import LABEL_SETS, LabelSet
from sas_training.evaluation.metrics import ConfusionMatrix
from sas_training.evaluation.protocol import ProtocolWords

THERE_POINTS = 50
"""Points of a class that make it part of a scan when it is asked for."""

_SAME_WORD = (
    ("refrigerator", "refridgerator", "fridge"),  # NYU40 and Matterport3D misspell it
    ("otherfurniture", "other furniture", "other"),
    ("nightstand", "night stand"),
    ("doorway", "door way"),
    ("television", "tv"),
    ("trash can", "garbage bin"),
    ("exercise equipment", "excercise equipment"),
    ("footrest", "foot rest"),
    ("teapot", "tea pot"),
)
"""Spellings under which label sets and students have the same class."""

IntArray = npt.NDArray[np.int64]

Predict = Callable[[str, AnnotatedScan], IntArray]
"""The class ids (N,) of the points of a scan, given with its name, as `ConfusionMatrix.add` takes
them."""


@dataclass(frozen=True, eq=False)
class ScanScore:
    """One scan's part of a score.

    Attributes:
        name: of the scan; of a file its path as it was given.
        sha256: of its points as little-endian float32 and its class ids as little-endian int64,
            before any were left out: it tells the data, whatever file they are stored in.
        matrix: of this scan alone.
    """

    name: str
    sha256: str
    matrix: ConfusionMatrix

    def summary(self) -> dict[str, Any]:
        """JSON-able figures of this scan."""
        figures = self.matrix.summary()
        keys = ("points", "classes_present", "miou_present", "macc", "accuracy")
        return {"scan": self.name, "sha256": self.sha256, **{k: figures[k] for k in keys}}


@dataclass(frozen=True, eq=False)
class Scores:
    """Labels of several scans against the true ones.

    Attributes:
        matrix: over all scans.
        scans: one entry a scan, in the order given.
    """

    matrix: ConfusionMatrix
    scans: tuple[ScanScore, ...]

    def summary(self) -> dict[str, Any]:
        """`ConfusionMatrix.summary` with `per_scan`."""
        return {**self.matrix.summary(), "per_scan": [scan.summary() for scan in self.scans]}


def expand(paths: list[Path]) -> list[Path]:
    """Files as given, folders as their sorted `.npz`, `.pth` and ScanNet rooms; raises SasError
    when nothing is there."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            patterns = ("*.npz", "*.pth", f"*{SCANNET_VERTICES}")
            found = whole_files(path, *patterns)
            if not found:
                raise SasError(
                    f"The folder {path} holds no .npz or .pth files and no ScanNet rooms."
                )
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise SasError(f"There is no file or folder {path}.")
    return files


def evaluate(segmenter: Segmenter, files: list[Path], labels: str, up: Up) -> dict[str, Any]:
    """A student's own words against labelled scans; keys as in `Scores.summary`, and
    `words_without_class`."""
    predict = student_predictions(segmenter, labels, up)
    label_set = LABEL_SETS[labels]
    summary = score_scans(read_files(files, label_set), label_set, predict).summary()
    return {**summary, "words_without_class": list(words_without_class(segmenter, labels))}


def read_files(files: Sequence[Path], labels: LabelSet) -> Iterator[tuple[str, AnnotatedScan]]:
    """Path and scan of each file, read one after the other; raises SasError for one that cannot be
    read, see `read_objects`."""
    for path in files:
        yield str(path), read_objects(path, labels)


def score_scans(
    scans: Iterable[tuple[str, AnnotatedScan]],
    labels: LabelSet,
    predict: Predict,
    *,
    share: float = 1.0,
    seed: int = 0,
) -> Scores:
    """One confusion matrix over all scans, and one of each.

    Args:
        scans: names and scans, as from `read_files`.
        labels: the classes that are scored.
        predict: labels a scan.
        share: of the points of each scan that are kept, 0 < share <= 1, as a sparser sensor would
            see it: the others are neither shown nor scored.
        seed: of that choice, which also depends on the name of the scan without its folder.

    Raises:
        SasError: another share, no scan; and what reading and labelling raise.
    """
    if not 0 < share <= 1:
        raise SasError(f"The share of points must be above 0 and at most 1, not {share:g}.")
    total, scores = ConfusionMatrix(labels.names), []
    for name, scan in scans:
        sha256 = content_hash(scan)
        if share < 1:
            scan = thinned(scan, share, (seed, zlib.crc32(Path(name).name.encode())))
        matrix = ConfusionMatrix(labels.names)
        matrix.add(scan.labels, predict(name, scan))
        total.merge(matrix)
        scores.append(ScanScore(name, sha256, matrix))
    if not scores:
        raise SasError("There is no scan to score.")
    return Scores(total, tuple(scores))


def student_predictions(
    segmenter: Segmenter, labels: str, up: Up, words: ProtocolWords | None = None
) -> Predict:
    """Labels scans with the student's own words, which become classes by name, or with the prompts
    of the label set.

    Raises SasError where the student knows no word of the label set.
    """
    vocabulary = segmenter.bundle.vocabulary if words is None else words.vocabulary
    to_class = classes_of_words(segmenter, labels) if words is None else words.to_class

    def predict(name: str, scan: AnnotatedScan) -> IntArray:
        scene = segmenter.segment(scan.cloud, up)
        predicted = to_class[segmenter.label(scene, vocabulary).label]
        element = scene.element_of_point
        return np.where(element >= 0, predicted[element], -1)

    return predict


def thinned(scan: AnnotatedScan, share: float, seed: Sequence[int]) -> AnnotatedScan:
    """A random `share` of the points, at least one, in their old order; the same of the same
    seed."""
    count = len(scan.points)
    kept = max(1, round(share * count))
    chosen = np.sort(np.random.default_rng(list(seed)).permutation(count)[:kept])
    return replace(
        scan,
        points=scan.points[chosen],
        labels=scan.labels[chosen],
        instances=None if scan.instances is None else scan.instances[chosen],
        colors=None if scan.colors is None else scan.colors[chosen],
    )


def content_hash(scan: AnnotatedScan) -> str:
    """SHA-256 of points and labels, see `ScanScore.sha256`."""
    digest = hashlib.sha256(np.ascontiguousarray(scan.points, "<f4").tobytes())
    digest.update(np.ascontiguousarray(scan.labels, "<i8").tobytes())
    return digest.hexdigest()


def colourless(predict: Predict) -> Predict:
    """The same of scans whose colours are hidden."""
    return lambda name, scan: predict(name, replace(scan, colors=None))


def ask_for_things(segmenter: Segmenter, files: list[Path], labels: str, up: Up) -> dict[str, int]:
    """Ask every scan for every thing of the vocabulary that the label set has, as a robot would.

    Returns the counts `there` and `absent` of questions for classes that have `THERE_POINTS` true
    points in the scan or not, and `found_there`, `found_absent`: how many were answered OK.
    """
    bundle = segmenter.bundle
    vocabulary, to_class = bundle.vocabulary, classes_of_words(segmenter, labels)
    asked = {"there": 0, "found_there": 0, "absent": 0, "found_absent": 0}
    for path in files:
        scan = read_objects(path, LABEL_SETS[labels])
        cloud, truth = scan.cloud, scan.labels
        scene = segmenter.segment(cloud, up)
        for index, name in enumerate(vocabulary.names):
            if not vocabulary.things[index] or to_class[index] < 0:
                continue
            result = answer(
                scene,
                cloud,
                TextQuery(name),
                vocabulary.embeddings[index],
                None,
                vocabulary,
                bundle.calibration,
                default_max_instances=MAX_INSTANCES,
                min_points=MIN_POINTS,
            )
            is_there = np.count_nonzero(truth == to_class[index]) >= THERE_POINTS
            case = "there" if is_there else "absent"
            asked[case] += 1
            asked[f"found_{case}"] += result.status == QueryStatus.OK
    return asked


def classes_of_words(segmenter: Segmenter, labels: str) -> IntArray:
    """(K,) class id of each word of the vocabulary; -1 for a word outside the label set, which is a
    miss wherever it is said.

    A word is a class by its name, or else by one of its prompt names, by what the data set calls it
    (`LabelSet.categories`), or by another spelling of one of these.
    """
    label_set = LABEL_SETS[labels]
    known: dict[str, int] = {}
    for groups in (
        [(name,) for name in label_set.names],
        label_set.prompt_names,
        label_set.categories,
    ):
        for number, group in enumerate(groups):
            for name in group:
                known.setdefault(text_key(name), number)
    for spellings in _SAME_WORD:
        classes_of_it = [known[word] for word in spellings if word in known]
        for word in spellings if classes_of_it else ():
            known.setdefault(word, classes_of_it[0])
    words = [text_key(name) for name in segmenter.bundle.vocabulary.names]
    classes = np.array([known.get(word, -1) for word in words])
    if (classes < 0).all():
        raise SasError(
            f"The student {segmenter.bundle.name!r} knows no word of the label set {labels!r}."
        )
    return classes


def words_without_class(segmenter: Segmenter, labels: str) -> tuple[str, ...]:
    """Words of the vocabulary that are no class of the label set."""
    names = segmenter.bundle.vocabulary.names
    classes = classes_of_words(segmenter, labels)
    return tuple(name for name, number in zip(names, classes, strict=True) if number < 0)
