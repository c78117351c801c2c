"""Which elements are meant: point features against words.

How a query is scored (`match_probability`). The query stands for itself and for the vocabulary
words that mean the same; all other vocabulary words and the user's negatives compete with it. An
element's probability is the share of the query's side in a softmax over scaled cosines

    p = sum_same exp(s cos(f, t)) / (sum_same exp(s cos(f, t)) + sum_other exp(s cos(f, t)))

with f the element's feature and s the calibrated temperature. With r_c = cos(query, word c) and
`best` the largest of them, word c means the same when r_c >= max(floor, best - margin). Where the
student knows phrases (`sas_ros.language.phrases`), r_c is the largest cosine with the word or a
phrase that means it, and `best` counts phrases that mean no word too: next to one of those, nothing
is meant. So "chair" scores exactly as the label chair does, "couch" as sofa does, "something to sit
on" as chair and sofa together, and "elephant", near to no word, competes with all of them alone and
loses.

Why the words on the query's side count and not only the query: a student that was trained with
the words puts its features near them, less near to what people really say. On simulated features
for the 20 ScanNet names with MiniLM embeddings, 102 synonyms and descriptions find their elements
with a mean F1 of 0.52 by the query alone and 0.58 together with its words (at equal temperature and
threshold), while 97 % and 96 % of 66 things that no word means are not found.

What does not depend on the query is computed once per scene, see `sas_ros.word_scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.observation import ElementLabels
from sas_ros.word_scores import WordScores, check_width, cosines, word_scores

Float32Array = npt.NDArray[np.float32]

IDENTICAL = 0.999
"""Texts with at least this cosine are the same text (spelling differs in case or white space)."""

_ROUNDING = 1e-6

_AS_GOOD = 0.005
"""Calibration takes the middle of all choices within this of the best: the best one is luck."""


def same_meaning(
    query: Float32Array,
    vocabulary: Vocabulary,
    calibration: Calibration,
    own: Vocabulary | None = None,
) -> npt.NDArray[np.bool_]:
    """(K,) bool: the vocabulary words that mean the same as `query` (C,), a unit embedding.

    Meaning is decided by the words the student was trained with, `own`: two texts mean the same
    when they stand for one of them in common. Without `own` these are the vocabulary. A label that
    was added later ("couch" beside "sofa") must not count, or the query "couch" would find itself
    alone at cosine 1 and compete with the very word the student puts its features near.
    """
    query = np.asarray(query, dtype=np.float32)
    if own is None or own is vocabulary:
        return np.asarray(_stands_for(query[None], vocabulary, calibration)[0])
    meant = _stands_for(query[None], own, calibration)[0]
    words = _stands_for(vocabulary.embeddings, own, calibration)
    identical = vocabulary.embeddings @ query >= IDENTICAL
    return np.asarray((words & meant).any(axis=1) | identical)


def smallest_object(query: Float32Array, calibration: Calibration, own: Vocabulary) -> int:
    """Elements that an object needs to answer `query` (C,): the least that any of the student's
    `own` words it stands for needs, the calibration's `min_elements` where it stands for none."""
    if not calibration.word_elements:
        return calibration.min_elements
    meant = _stands_for(np.asarray(query, dtype=np.float32)[None], own, calibration)[0]
    sizes = [calibration.elements_of(own.names[word]) for word in np.flatnonzero(meant)]
    return min(sizes, default=calibration.min_elements)


def _stands_for(
    texts: Float32Array, own: Vocabulary, calibration: Calibration
) -> npt.NDArray[np.bool_]:
    """(n, K) bool: which of the student's words each of `texts` (n, C) stands for."""
    similarity, best = _closeness(texts, own)
    needed = np.maximum(calibration.same_meaning_floor, best - calibration.same_meaning_margin)
    return np.asarray(similarity >= needed - _ROUNDING)


def _closeness(texts: Float32Array, own: Vocabulary) -> tuple[Float32Array, Float32Array]:
    """(n, K) cosine of `texts` (n, C) with each word or the nearest phrase that means it, and
    (n, 1) the largest cosine with any word or phrase."""
    similarity = texts @ own.embeddings.T
    best = similarity.max(axis=1, keepdims=True)
    if own.phrases is None:
        return similarity, best
    by_phrase, nearest = own.phrases.nearest(texts, len(own))
    return np.maximum(similarity, by_phrase), np.maximum(best, nearest[:, None])


def query_sides(
    query: Float32Array,
    vocabulary: Vocabulary,
    negatives: Float32Array | None,
    calibration: Calibration,
    own: Vocabulary | None = None,
) -> tuple[Float32Array, Float32Array]:
    """Return the embeddings on the query's side (a, C), a >= 1, and those competing (b, C).

    A negative that is the query itself is ignored; a vocabulary word that is a negative competes
    even when it means the same as the query ("armchair" without "chair").
    """
    same, mine, others = _sides(query, vocabulary, negatives, calibration, own)
    words = np.concatenate([mine, vocabulary.embeddings[same]])
    return words, np.concatenate([vocabulary.embeddings[~same], others])


def _sides(
    query: Float32Array,
    vocabulary: Vocabulary,
    negatives: Float32Array | None,
    calibration: Calibration,
    own: Vocabulary | None,
) -> tuple[npt.NDArray[np.bool_], Float32Array, Float32Array]:
    """The words (K,) on the query's side, and what is compared besides the vocabulary: the query
    (1, C), or nothing (0, C) where it is a word, and the negatives (n, C)."""
    query = np.asarray(query, dtype=np.float32)
    same = same_meaning(query, vocabulary, calibration, own)
    if negatives is None or len(negatives) == 0:
        negatives = np.empty((0, len(query)), dtype=np.float32)
    negatives = np.asarray(negatives, dtype=np.float32)
    negatives = negatives[negatives @ query < IDENTICAL]
    if len(negatives):
        repeated = (vocabulary.embeddings @ negatives.T >= IDENTICAL).any(axis=1)
        same &= ~repeated
    # The query is left out where it is one of the words: counted twice it would gain log 2.
    is_word = bool((vocabulary.embeddings[same] @ query >= IDENTICAL).any())
    return same, query[None][: 0 if is_word else 1], negatives


def match_probability(
    features: torch.Tensor,
    query: Float32Array,
    vocabulary: Vocabulary,
    negatives: Float32Array | None,
    calibration: Calibration,
    own: Vocabulary | None = None,
) -> Float32Array:
    """Return (M,) float32: how probably each element is what the query means.

    Args:
        features: (M, C) unit rows, float16 or float32, on any device. The product is computed
            there; only the (M,) probabilities come back.
        query: (C,) unit embedding of the text.
        vocabulary: words that compete, unless they mean the same.
        negatives: (n, C) unit embeddings of words that always compete, or None.
        calibration: temperature and what counts as the same meaning.
        own: the words the student was trained with, where the vocabulary is another.

    Raises `SasError` when features and embeddings have different widths.
    """
    check_width(features, np.asarray(query).shape[-1], "the query")
    scores = word_scores(features, vocabulary, calibration.temperature)
    return match_words(scores, query, negatives, calibration, own)


def match_words(
    scores: WordScores,
    query: Float32Array,
    negatives: Float32Array | None,
    calibration: Calibration,
    own: Vocabulary | None = None,
) -> Float32Array:
    """`match_probability` of elements whose words were compared already, at the temperature of
    `calibration`: the features are read once for the query, and not at all when it is a word."""
    check_width(scores.features, np.asarray(query).shape[-1], "the query")
    sides = _sides(query, scores.vocabulary, negatives, calibration, own)
    return scores.probability(*sides)


def label_elements(
    features: torch.Tensor, vocabulary: Vocabulary, temperature: float
) -> ElementLabels:
    """Return the most probable vocabulary word of each element of `features` (M, C) unit rows.

    The confidence is the word's probability in a softmax over `temperature` times the cosines.
    Raises `SasError` when features and vocabulary have different widths.
    """
    return word_scores(features, vocabulary, temperature).labels


@dataclass(frozen=True, eq=False)
class LabelledElements:
    """Elements whose classes are known, of one or more scenes: what calibration looks at.

    Attributes:
        features: (M, C) unit rows.
        labels: (M,) int64 vocabulary indices; anything outside the vocabulary is ignored.
        scene: (M,) int64 which scene each element belongs to.
    """

    features: torch.Tensor
    labels: npt.NDArray[np.int64]
    scene: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class KnownPhrases:
    """Phrases with what they mean, (P, C) unit embeddings and P sets of vocabulary indices.

    An empty set means that no word of the vocabulary is meant ("elephant").
    """

    embeddings: Float32Array
    meant: Sequence[frozenset[int]]


@dataclass(frozen=True)
class QueryQuality:
    """How well known phrases are answered, each in [0, 1].

    Attributes:
        f1: mean F1 over elements, of phrases whose object is in the scene.
        not_found: share of phrases whose object is not there that find (almost) nothing.
    """

    f1: float
    not_found: float

    @property
    def balanced(self) -> float:
        """The mean of both."""
        return (self.f1 + self.not_found) / 2


def query_quality(
    elements: LabelledElements,
    vocabulary: Vocabulary,
    phrases: KnownPhrases,
    calibration: Calibration,
    *,
    enough: int = 20,
) -> QueryQuality:
    """Measure queries on labelled elements; fewer than `enough` elements in a scene are nothing."""
    probability = _phrase_probability(elements, vocabulary, phrases, calibration)
    return _quality(elements, phrases, probability, calibration.threshold, enough)


def calibrate(
    elements: LabelledElements,
    vocabulary: Vocabulary,
    phrases: KnownPhrases,
    *,
    enough: int = 20,
) -> Calibration:
    """Find the calibration of a student on held-out rooms, in three steps of one search each.

    1. Floor and margin: from the phrases' embeddings alone, so that the words found to mean the
       same are the words meant (mean F1 of the sets, and of nothing for phrases that mean nothing).
    2. Temperature: the labels' likelihood is highest (temperature scaling), which makes
       confidences frequencies.
    3. Threshold: `QueryQuality.balanced` is highest.

    Raises `SasError` when no element has a label, or no phrase means anything.
    """
    known = (elements.labels >= 0) & (elements.labels < len(vocabulary))
    if not known.any() or not any(phrases.meant):
        raise SasError(
            "Calibration needs labelled elements and phrases that mean a word of the vocabulary."
        )
    floor, margin = _best_same_meaning(vocabulary, phrases)
    rows = torch.from_numpy(np.flatnonzero(known))
    similar = cosines(elements.features[rows], vocabulary.embeddings).T.cpu()
    labels = torch.from_numpy(elements.labels[known])
    scales = np.geomspace(1.0, 100.0, 60)
    losses = [float(torch.nn.functional.cross_entropy(s * similar, labels)) for s in scales]
    found = Calibration(
        temperature=float(scales[int(np.argmin(losses))]),
        same_meaning_floor=floor,
        same_meaning_margin=margin,
    )
    probability = _phrase_probability(elements, vocabulary, phrases, found)
    thresholds = np.arange(0.1, 0.91, 0.05)
    quality = np.array(
        [_quality(elements, phrases, probability, t, enough).balanced for t in thresholds]
    )
    good = thresholds[quality >= quality.max() - _AS_GOOD]
    return replace(found, threshold=round(float(good[len(good) // 2]), 2))


def _best_same_meaning(vocabulary: Vocabulary, phrases: KnownPhrases) -> tuple[float, float]:
    meant = np.zeros((len(phrases.meant), len(vocabulary)), dtype=np.bool_)
    for row, words in enumerate(phrases.meant):
        meant[row, list(words)] = True
    something = meant.any(axis=1)
    rows = [_closeness(text[None], _new_to(vocabulary, text)) for text in phrases.embeddings]
    similarity, best = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    choices = [(f, m) for m in np.arange(0.0, 0.21, 0.02) for f in np.arange(0.3, 0.76, 0.01)]
    scores = np.empty(len(choices))
    for number, (floor, margin) in enumerate(choices):
        same = similarity >= np.maximum(floor, best - margin) - _ROUNDING
        total = same.sum(axis=1) + meant.sum(axis=1)
        f1 = np.where(total > 0, 2 * (same & meant).sum(axis=1) / np.maximum(total, 1), 1.0)
        parts = [f1[group].mean() for group in (something, ~something) if group.any()]
        scores[number] = np.mean(parts)
    good = np.array(choices)[scores >= scores.max() - _AS_GOOD]
    # A margin adds words that are less near than another: none where it does not pay.
    margin = good[:, 1].min()
    floors = good[good[:, 1] == margin, 0]
    return round(float(floors[len(floors) // 2]), 2), round(float(margin), 2)


def _phrase_probability(
    elements: LabelledElements,
    vocabulary: Vocabulary,
    phrases: KnownPhrases,
    calibration: Calibration,
) -> Float32Array:
    """(P, M) float32."""
    scores = word_scores(elements.features, vocabulary, calibration.temperature)
    return np.stack(
        [
            match_words(scores, phrase, None, calibration, _new_to(vocabulary, phrase))
            for phrase in phrases.embeddings
        ]
    )


def _new_to(vocabulary: Vocabulary, phrase: Float32Array) -> Vocabulary:
    """The vocabulary as if it did not know this phrase (C,): what it would make of a new one."""
    if vocabulary.phrases is None:
        return vocabulary
    return replace(vocabulary, phrases=vocabulary.phrases.other_than(phrase, IDENTICAL))


def _quality(
    elements: LabelledElements,
    phrases: KnownPhrases,
    probability: Float32Array,
    threshold: float,
    enough: int,
) -> QueryQuality:
    f1: list[float] = []
    not_found: list[bool] = []
    for number in np.unique(elements.scene):
        here = elements.scene == number
        labels = elements.labels[here]
        for meant, scores in zip(phrases.meant, probability[:, here], strict=True):
            right = np.isin(labels, list(meant))
            hits = scores >= threshold
            found = int(hits.sum()) >= enough
            if right.any():
                both = 2 * int((hits & right).sum()) / (int(hits.sum()) + int(right.sum()))
                f1.append(both if found else 0.0)
            else:
                not_found.append(not found)
    return QueryQuality(
        float(np.mean(f1)) if f1 else 0.0, float(np.mean(not_found)) if not_found else 1.0
    )
