"""What a scene shows of each word of the vocabulary, and what to name when a query finds nothing.

Scattered elements are no sight of anything: some half metre must hold as many elements of a word as
an object needs. Finding the objects themselves would cost ten times as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.matching import same_meaning
from sas_ros.observation import ElementLabels, SceneFeatures
from sas_ros.word_scores import WordScores

Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

MAX_ALTERNATIVES = 5
_SIGHT = 0.5  # metres
_MOST_BINS = 1_000_000


@dataclass(frozen=True, eq=False)
class Sights:
    """What is there of each of K words; immutable.

    Attributes:
        points: (K,) float64 number of points with that label.
        confidence: (K,) float64 mean confidence of those points, 0 where there are none.
        densest: (K,) int64 most elements of that label within one cube of half a metre.
    """

    points: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    densest: IntArray


def seen_instead(
    scene: SceneFeatures,
    scores: WordScores,
    inside: npt.NDArray[np.bool_] | None,
    query: Float32Array,
    calibration: Calibration,
    min_points: int,
    own: Vocabulary | None,
) -> tuple[tuple[str, float], ...]:
    """Labels of at least `min_points` points, most like the query first; things before stuff.

    Args:
        scores: of the scene, with the vocabulary in force.
        inside: (M,) elements to look at; None for all.
        query: (C,) unit embedding; words that mean the same are not named.
        own: the words the student was trained with, where the vocabulary is another.

    Returns:
        (word, cosine to the query times mean confidence), at most `MAX_ALTERNATIVES`.
    """
    vocabulary = scores.vocabulary
    if inside is None:
        key = (vocabulary, scores.temperature)
        sights = scene.kept.get("sights", key, lambda: _sights(scene, scores.labels, vocabulary))
    else:
        sights = _sights(scene, scores.labels, vocabulary, inside)
    similarity = np.maximum(vocabulary.embeddings @ np.asarray(query, dtype=np.float32), 0.0)
    present = (sights.points >= min_points) & (sights.densest >= calibration.min_elements)
    present &= ~same_meaning(query, vocabulary, calibration, own)
    things = np.array(vocabulary.things)
    if (present & things).any():
        present &= things
    score = np.clip(similarity * sights.confidence, 0.0, 1.0)
    chosen = np.flatnonzero(present)
    chosen = chosen[np.argsort(-score[chosen], kind="stable")][:MAX_ALTERNATIVES]
    return tuple((vocabulary.names[int(k)], float(score[k])) for k in chosen)


def _sights(
    scene: SceneFeatures,
    labels: ElementLabels,
    vocabulary: Vocabulary,
    inside: npt.NDArray[np.bool_] | None = None,
) -> Sights:
    count = len(vocabulary)
    weights = scene.points_per_element.astype(np.float64)
    if inside is not None:
        weights *= inside
    points = np.bincount(labels.label, weights=weights, minlength=count).astype(np.float64)
    total = np.bincount(labels.label, weights=weights * labels.confidence, minlength=count)
    there = weights > 0
    return Sights(
        points,
        total / np.maximum(points, 1),
        densest(scene.positions[there], labels.label[there], count),
    )


def densest(positions: Float32Array, labels: IntArray, count: int) -> IntArray:
    """(count,) for each label the most elements of it that one cell of `_SIGHT` holds."""
    cells = np.floor(positions / _SIGHT).astype(np.int64)
    cells -= cells.min(axis=0, initial=0)
    size = cells.max(axis=0, initial=0) + 1
    key = ((cells[:, 0] * size[1] + cells[:, 1]) * size[2] + cells[:, 2]) * count + labels
    # Counted in Python's whole numbers: a stray element a thousand kilometres away is far.
    bins = int(size[0]) * int(size[1]) * int(size[2]) * count
    if bins <= _MOST_BINS:
        return np.asarray(np.bincount(key, minlength=bins).reshape(-1, count).max(axis=0))
    pairs, counts = np.unique(key, return_counts=True)
    densest = np.zeros(count, dtype=np.int64)
    np.maximum.at(densest, pairs % count, counts)
    return densest
