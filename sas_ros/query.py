"""One question to one scene: text and its embedding in, objects or a reason why not out.

Pure: no ROS, no clock but a stopwatch, no text encoder (embeddings come in ready). What is found is
decided by objects, not by single elements: NOT_FOUND means that no connected piece with enough
points reaches the threshold.
"""

from __future__ import annotations

import math
import time
import unicodedata
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.instances import ObjectInstance, find_instances
from sas_ros.language.calibration import Calibration
from sas_ros.language.prompts import normalise_text
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.matching import match_words, smallest_object
from sas_ros.observation import Cloud, SceneFeatures
from sas_ros.seen import seen_instead
from sas_ros.word_scores import scene_scores

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

MAX_INSTANCES, MIN_POINTS = 10, 20
"""Defaults of the node and the command line: objects in an answer, points of an object."""

MAX_TEXT_BYTES = 1000
MAX_NEGATIVES = 64


class QueryStatus(IntEnum):
    """The status values of `sas_msgs/srv/Query`."""

    OK = 0
    NOT_FOUND = 1
    NO_DATA = 2
    STALE = 3
    BUSY = 4
    INVALID = 5
    NOT_ACTIVE = 6


@dataclass(frozen=True, eq=False)
class RegionOfInterest:
    """A box to look in, in the source frame.

    Attributes:
        center: (3,) float64 metres.
        rotation: (3, 3) float64, the box's axes as columns.
        size: (3,) float64 metres, full lengths along those axes.
    """

    center: Float64Array
    rotation: Float64Array
    size: Float64Array

    def contains(self, points: Float64Array) -> npt.NDArray[np.bool_]:
        """(n,) bool: which of `points` (n, 3), metres, source frame, lie in the box."""
        local = (points - self.center) @ self.rotation
        return np.asarray((np.abs(local) <= np.asarray(self.size) / 2).all(axis=1))


@dataclass(frozen=True)
class TextQuery:
    """What somebody asks.

    Attributes:
        text: what to look for.
        negatives: words that compete with it, besides the vocabulary.
        threshold: probability an element needs, (0, 1]; 0 takes the default.
        max_instances: at most this many objects; 0 takes the default.
        roi: where to look; None is everywhere.
    """

    text: str
    negatives: tuple[str, ...] = ()
    threshold: float = 0.0
    max_instances: int = 0
    roi: RegionOfInterest | None = None


@dataclass(frozen=True, eq=False)
class QueryAnswer:
    """What came out.

    Attributes:
        status: OK or NOT_FOUND from `answer`; INVALID for a question that is not one.
        message: why, in a sentence; empty when OK.
        best_score: OK: the highest score of an instance. NOT_FOUND: the highest probability that
            as many points reach as an object needs.
        alternatives: (label, score) of what was seen instead, best first: cosine to the query times
            mean confidence of the label here.
        instances: best first.
        probability: (M,) float32 per element, 0 outside the region of interest; None when INVALID.
        timing_ms: "match" and "cluster", milliseconds.
    """

    status: QueryStatus
    message: str = ""
    best_score: float = 0.0
    alternatives: tuple[tuple[str, float], ...] = ()
    instances: tuple[ObjectInstance, ...] = ()
    probability: Float32Array | None = None
    timing_ms: dict[str, float] = field(default_factory=dict)


def check_text(query: TextQuery) -> str | None:
    """Return None when the question can be asked, else the sentence that says why not.

    Any script is legal. Checked are text and negatives (not empty, at most 1000 bytes of UTF-8,
    no control characters besides white space), threshold, number of instances and region.
    """
    problem = _text_problem("text to look for", query.text)
    if problem is not None:
        return problem
    if len(query.negatives) > MAX_NEGATIVES:
        return (
            f"The query has {len(query.negatives)} negatives; at most {MAX_NEGATIVES} are allowed."
        )
    for number, negative in enumerate(query.negatives, start=1):
        problem = _text_problem(f"negative {number}", negative)
        if problem is not None:
            return problem
    if not 0 <= query.threshold <= 1:  # also refuses NaN
        return (
            f"The threshold is {query.threshold:g}; it must be a probability in (0, 1], "
            "or 0 for the default."
        )
    if query.max_instances < 0:
        return f"The largest number of instances is {query.max_instances}; it must not be negative."
    return None if query.roi is None else _region_problem(query.roi)


def _text_problem(what: str, text: str) -> str | None:
    try:
        length = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return f"The {what} is not valid Unicode."
    if length > MAX_TEXT_BYTES:
        return f"The {what} has {length} bytes; at most {MAX_TEXT_BYTES} are allowed."
    for character in text:
        if unicodedata.category(character) == "Cc" and not character.isspace():
            return f"The {what} holds the control character U+{ord(character):04X}; remove it."
    if not any(unicodedata.category(c)[0] in "LNPS" for c in normalise_text(text)):
        return f"The {what} is empty; say what to look for."
    return None


def _region_problem(roi: RegionOfInterest) -> str | None:
    center, size = np.asarray(roi.center), np.asarray(roi.size)
    rotation = np.asarray(roi.rotation)
    if center.shape != (3,) or size.shape != (3,) or rotation.shape != (3, 3):
        return "The region of interest needs a centre and a size of 3 numbers and 3 x 3 axes."
    if not (np.isfinite(center).all() and np.isfinite(size).all() and np.isfinite(rotation).all()):
        return "The region of interest holds numbers that are not finite."
    if (size <= 0).any():
        return "The size of the region of interest must be above 0 m in all three directions."
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-3:
        return "The axes of the region of interest must be perpendicular and of unit length."
    return None


def answer(
    scene: SceneFeatures,
    cloud: Cloud,
    query: TextQuery,
    query_embedding: Float32Array,
    negative_embeddings: Float32Array | None,
    vocabulary: Vocabulary,
    calibration: Calibration,
    *,
    default_threshold: float | None = None,
    default_max_instances: int,
    min_points: int,
    own: Vocabulary | None = None,
) -> QueryAnswer:
    """Answer `query` about `scene`, the features of `cloud`.

    What does not depend on the query is kept with the scene: the first answer takes longer, unless
    `sas_ros.word_scores.scene_scores` was called before with this vocabulary and temperature.

    Args:
        query_embedding: (C,) unit embedding of the query's text.
        negative_embeddings: (n, C) unit embeddings of its negatives, or None.
        vocabulary: words that compete, and that alternatives are named from.
        calibration: temperature and default threshold of the student.
        default_threshold: used where the query has none; None takes the calibration's.
        default_max_instances: used where the query has none.
        min_points: fewer points are no object.
        own: the words the student was trained with, where the vocabulary is another.

    Returns:
        An answer with status OK, NOT_FOUND or INVALID (see `check_text`). The region of interest
        is resolved per element: an element is in it when its centre is.

    Raises `SasError` when scene, cloud and embeddings do not belong together.
    """
    problem = check_text(query)
    if problem is not None:
        return QueryAnswer(QueryStatus.INVALID, problem)
    if len(scene.element_of_point) != len(cloud.points):
        raise SasError(
            f"The scene was made from a cloud of {len(scene.element_of_point)} points, but this "
            f"one has {len(cloud.points)}."
        )
    text = normalise_text(query.text)
    threshold = query.threshold or default_threshold or calibration.threshold
    min_points = max(min_points, 1)

    started = time.perf_counter()
    scores = scene_scores(scene, vocabulary, calibration.temperature)
    probability = match_words(scores, query_embedding, negative_embeddings, calibration, own)
    inside: npt.NDArray[np.bool_] | None = None
    if query.roi is not None:
        inside = query.roi.contains(scene.positions.astype(np.float64) + scene.origin)
        probability = np.where(inside, probability, np.float32(0))
    matched = time.perf_counter()
    instances = find_instances(
        scene,
        cloud,
        probability,
        label=text,
        threshold=threshold,
        max_instances=query.max_instances or default_max_instances,
        min_points=min_points,
        min_elements=smallest_object(query_embedding, calibration, own or vocabulary),
    )
    clustered = time.perf_counter()
    timing = {"match": 1e3 * (matched - started), "cluster": 1e3 * (clustered - matched)}
    if instances:
        return QueryAnswer(
            QueryStatus.OK,
            best_score=max(instance.score for instance in instances),
            instances=tuple(instances),
            probability=probability,
            timing_ms=timing,
        )
    points = scene.points_per_element if inside is None else scene.points_per_element * inside
    best = score_of_enough_points(probability, points, min_points)
    alternatives = seen_instead(
        scene, scores, inside, query_embedding, calibration, min_points, own
    )
    return QueryAnswer(
        QueryStatus.NOT_FOUND,
        message=_not_found(text, best, threshold, alternatives, inside),
        best_score=best,
        alternatives=alternatives,
        probability=probability,
        timing_ms=timing,
    )


def score_of_enough_points(
    probability: Float32Array, points: npt.NDArray[np.int64], enough: int
) -> float:
    """The probability that the best `enough` points all reach: one stray element is no evidence."""
    holding = np.flatnonzero(points)
    if len(holding) > enough:  # each holds a point or more: the best `enough` elements suffice
        holding = holding[np.argpartition(-probability[holding], enough - 1)[:enough]]
    order = holding[np.argsort(-probability[holding], kind="stable")]
    reached = int(np.searchsorted(np.cumsum(points[order]), enough))
    return float(probability[order[reached]]) if reached < len(order) else 0.0


def _not_found(
    text: str,
    best: float,
    threshold: float,
    alternatives: tuple[tuple[str, float], ...],
    inside: npt.NDArray[np.bool_] | None,
) -> str:
    if inside is not None and not inside.any():
        return "The region of interest holds no points of this cloud."
    where = "here" if inside is None else "in the region of interest"
    if best >= threshold:
        reason = "what matches lies in pieces too small to be an object"
    else:
        # Rounded down, so that the text never says 0.50 < 0.50.
        reason = f"best score {math.floor(100 * best) / 100:.2f} < {threshold:.2f}"
    names = ", ".join(name for name, _ in alternatives)
    return f"No '{text}' {where} ({reason})" + (f"; I do see {names}." if names else ".")
