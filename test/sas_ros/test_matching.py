"""Scores of queries and labels, on features as cross-entropy on cosines makes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.matching import (
    KnownPhrases,
    LabelledElements,
    calibrate,
    label_elements,
    match_probability,
    query_quality,
    query_sides,
    same_meaning,
)

NAMES = ("wall", "chair", "sofa", "table", "toilet")
WALL, CHAIR, SOFA, TABLE, TOILET = range(5)
WIDTH = 64
CALIBRATION = Calibration(temperature=30.0, threshold=0.5)


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def word_space() -> Vocabulary:
    """Words with a shared part, as text encoders give them: cosines of about 0.35."""
    rows = np.eye(len(NAMES), WIDTH) + 0.72 * np.eye(1, WIDTH, WIDTH - 1)
    things = (False, True, True, True, True)
    return Vocabulary(NAMES, unit(rows), things, distinct_colors(len(NAMES)))


VOCABULARY = word_space()


def like(*weights: tuple[int, float], own: float = 0.5) -> np.ndarray:
    """A text near some words: their weighted sum, the shared part and something of its own."""
    row = 0.72 * np.eye(1, WIDTH, WIDTH - 1)[0] + own * np.eye(1, WIDTH, 40)[0]
    for word, weight in weights:
        row[word] += weight
    return unit(row)


def seen(labels: np.ndarray, noise: float = 0.7, seed: int = 0) -> torch.Tensor:
    """Features of elements with these labels: the word without the shared part, and noise."""
    ideal = unit(VOCABULARY.embeddings - VOCABULARY.embeddings.mean(axis=0))
    generator = np.random.default_rng(seed)
    noisy = ideal[labels] + noise * generator.normal(size=(len(labels), WIDTH)) / np.sqrt(WIDTH)
    return torch.from_numpy(unit(noisy))


LABELS = np.repeat(np.arange(5), 60)
FEATURES = seen(LABELS)
COUCH = like((SOFA, 1.0))
SEAT = like((CHAIR, 0.7), (SOFA, 0.65))
ELEPHANT = like(own=1.0)


def match(query: np.ndarray, negatives: np.ndarray | None = None) -> np.ndarray:
    return match_probability(FEATURES, query, VOCABULARY, negatives, CALIBRATION)


def found(query: np.ndarray, negatives: np.ndarray | None = None) -> set[int]:
    """The classes most of whose elements reach the threshold."""
    hits = match(query, negatives) >= CALIBRATION.threshold
    return {k for k in range(5) if hits[LABELS == k].mean() > 0.5}


def test_exact_word_scores_as_the_label_does() -> None:
    labels = label_elements(FEATURES, VOCABULARY, CALIBRATION.temperature)
    assert (labels.label == LABELS).mean() > 0.95
    for word in range(5):
        probability = match(VOCABULARY.embeddings[word])
        assert probability.dtype == np.float32 and probability.shape == LABELS.shape
        mine = labels.label == word
        np.testing.assert_allclose(probability[mine], labels.confidence[mine], atol=1e-6)
        assert found(VOCABULARY.embeddings[word]) == {word}


def test_synonyms_and_descriptions_find_what_they_mean() -> None:
    assert same_meaning(COUCH, VOCABULARY, CALIBRATION).tolist() == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert found(COUCH) == {SOFA}
    assert same_meaning(SEAT, VOCABULARY, CALIBRATION).nonzero()[0].tolist() == [CHAIR, SOFA]
    assert found(SEAT) == {CHAIR, SOFA}


def test_absent_things_lose_everywhere() -> None:
    assert not same_meaning(ELEPHANT, VOCABULARY, CALIBRATION).any()
    assert match(ELEPHANT).max() < 0.1
    assert found(ELEPHANT) == set()


def test_negatives_compete_always() -> None:
    assert found(SEAT, VOCABULARY.embeddings[[CHAIR]]) == {SOFA}
    without, with_negative = match(COUCH), match(COUCH, like((SOFA, 0.9), own=0.8)[None])
    assert (with_negative <= without + 1e-6).all() and with_negative.mean() < without.mean()


def test_the_query_as_its_own_negative_is_ignored() -> None:
    np.testing.assert_array_equal(match(COUCH), match(COUCH, COUCH[None]))
    np.testing.assert_array_equal(match(COUCH), match(COUCH, np.empty((0, WIDTH), np.float32)))


def test_a_word_competes_or_speaks_for_the_query_never_both() -> None:
    for query in (COUCH, SEAT, ELEPHANT, VOCABULARY.embeddings[CHAIR]):
        mine, others = query_sides(query, VOCABULARY, None, CALIBRATION)
        assert len(mine) >= 1
        assert (mine @ others.T).max() < 0.999
        exact = (VOCABULARY.embeddings @ query).max() > 0.999
        assert len(mine) + len(others) == len(VOCABULARY) + (0 if exact else 1)


def test_half_precision_gives_the_same_answers() -> None:
    half = match_probability(FEATURES.half(), SEAT, VOCABULARY, None, CALIBRATION)
    np.testing.assert_allclose(half, match(SEAT), atol=0.03)


def test_no_element_is_no_problem() -> None:
    empty = torch.empty(0, WIDTH)
    assert match_probability(empty, COUCH, VOCABULARY, None, CALIBRATION).shape == (0,)
    assert label_elements(empty, VOCABULARY, 30.0).label.shape == (0,)


def test_widths_must_agree() -> None:
    with pytest.raises(SasError, match="width 3"):
        match_probability(FEATURES, np.eye(1, 3)[0], VOCABULARY, None, CALIBRATION)
    with pytest.raises(SasError, match="shape"):
        label_elements(torch.zeros(4, 3), VOCABULARY, 30.0)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(seed=st.integers(0, 10_000), negatives=st.integers(0, 4), temperature=st.floats(1e-3, 1000))
def test_probabilities_are_probabilities(seed: int, negatives: int, temperature: float) -> None:
    generator = np.random.default_rng(seed)
    query, *others = unit(generator.normal(size=(1 + negatives, WIDTH)))
    features = torch.from_numpy(unit(generator.normal(size=(30, WIDTH))))
    calibration = Calibration(temperature=temperature)
    competing = np.array(others).reshape(-1, WIDTH)
    probability = match_probability(features, query, VOCABULARY, competing, calibration)
    assert ((probability >= 0) & (probability <= 1)).all()
    order = generator.permutation(30)
    shuffled = match_probability(features[order], query, VOCABULARY, competing, calibration)
    np.testing.assert_allclose(shuffled, probability[order], atol=1e-5)


def known_phrases() -> KnownPhrases:
    words = [VOCABULARY.embeddings[k] for k in range(5)]
    phrases = [*words, COUCH, SEAT, ELEPHANT, like((TABLE, 0.2), own=1.2)]
    meant = [*({k} for k in range(5)), {SOFA}, {CHAIR, SOFA}, set(), set()]
    return KnownPhrases(np.array(phrases), [frozenset(words) for words in meant])


def test_calibration_separates_found_from_absent() -> None:
    scene = np.arange(len(LABELS)) % 3
    scene[LABELS == TOILET] = 0  # only one scene has a toilet
    elements = LabelledElements(seen(LABELS, noise=1.2, seed=1), LABELS, scene)
    calibration = calibrate(elements, VOCABULARY, known_phrases(), enough=5)
    fresh = LabelledElements(seen(LABELS, noise=1.2, seed=2), LABELS, scene)
    quality = query_quality(fresh, VOCABULARY, known_phrases(), calibration, enough=5)
    assert quality.f1 > 0.8 and quality.not_found > 0.9
    assert quality.balanced == pytest.approx((quality.f1 + quality.not_found) / 2)
    assert 1 < calibration.temperature < 100
    words = same_meaning(SEAT, VOCABULARY, calibration).nonzero()[0].tolist()
    assert words == [CHAIR, SOFA]


def test_confidence_is_the_share_that_is_right() -> None:
    generator = np.random.default_rng(3)
    true = generator.integers(0, 5, size=4000)
    shown = np.where(generator.random(4000) < 0.3, generator.integers(0, 5, size=4000), true)
    elements = LabelledElements(seen(shown, noise=1.0), true, np.zeros(4000, dtype=np.int64))
    calibration = calibrate(elements, VOCABULARY, known_phrases())
    labels = label_elements(elements.features, VOCABULARY, calibration.temperature)
    right = (labels.label == true).mean()
    assert labels.confidence.mean() == pytest.approx(right, abs=0.05)


def test_calibration_needs_something_to_look_at() -> None:
    ignored = LabelledElements(FEATURES, np.full(len(LABELS), 255), np.zeros(len(LABELS), np.int64))
    with pytest.raises(SasError, match="labelled elements"):
        calibrate(ignored, VOCABULARY, known_phrases())
