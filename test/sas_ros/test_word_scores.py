"""What is kept of a scene's words: the formula it stands for, and that it is computed once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros import word_scores as module
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.matching import IDENTICAL, label_elements, match_probability, match_words, same_meaning
from sas_ros.observation import Kept, SceneFeatures, SourceHeader, Up
from sas_ros.word_scores import cosines, scene_scores, word_scores

WIDTH = 12


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), dtype=np.float32)


def words(generator: np.random.Generator, count: int, shared: float = 0.0) -> Vocabulary:
    rows = unit(generator.normal(size=(count, WIDTH)) + shared)
    names = tuple(f"word {k}" for k in range(count))
    return Vocabulary(names, rows, (True,) * count, distinct_colors(count))


def transcribed(
    features: np.ndarray,
    query: np.ndarray,
    vocabulary: Vocabulary,
    negatives: np.ndarray,
    calibration: Calibration,
    own: Vocabulary | None,
) -> np.ndarray:
    """The formula of `sas_ros.matching` in float64, one softmax over everything."""
    same = same_meaning(query, vocabulary, calibration, own)
    negatives = np.array([row for row in negatives if row @ query < IDENTICAL]).reshape(-1, WIDTH)
    for position, word in enumerate(vocabulary.embeddings):
        if any(word @ row >= IDENTICAL for row in negatives):
            same[position] = False
    mine = list(vocabulary.embeddings[same])
    if not any(word @ query >= IDENTICAL for word in mine):
        mine.append(query)
    others = [*vocabulary.embeddings[~same], *negatives]
    texts = np.array([*mine, *others], dtype=np.float64)
    logits = calibration.temperature * (features.astype(np.float64) @ texts.T)
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(share[:, : len(mine)].sum(axis=1) / share.sum(axis=1))


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    seed=st.integers(0, 100_000),
    count=st.integers(1, 8),
    kind=st.sampled_from(["word", "synonym", "between", "stranger"]),
    negatives=st.lists(st.sampled_from(["word", "query", "stranger"]), max_size=7),
    temperature=st.sampled_from([0.01, 1.0, 39.0, 100.0, 1000.0]),
    shared=st.sampled_from([0.0, 1.0]),
    foreign=st.booleans(),
    half=st.booleans(),
)
def test_probability_is_the_formula(
    seed: int,
    count: int,
    kind: str,
    negatives: list[str],
    temperature: float,
    shared: float,
    foreign: bool,
    half: bool,
) -> None:
    generator = np.random.default_rng(seed)
    vocabulary = words(generator, count, shared)
    own = words(generator, 5, shared) if foreign else None
    first, last = vocabulary.embeddings[0], vocabulary.embeddings[-1]
    stranger = unit(generator.normal(size=WIDTH))
    query = {
        "word": first,
        "synonym": unit(first + 0.3 * stranger),
        "between": unit(first + last),
        "stranger": stranger,
    }[kind]
    pool = {"word": last, "query": query}
    rows = [pool.get(name, unit(generator.normal(size=WIDTH))) for name in negatives]
    competing = np.array(rows, dtype=np.float32).reshape(-1, WIDTH)
    # Some elements are the query itself or its opposite: cosines far above and below the words'.
    features = unit(np.concatenate([generator.normal(size=(20, WIDTH)), [query, -query, last]]))
    if half:
        features = features.astype(np.float16)
    calibration = Calibration(temperature=temperature, same_meaning_margin=0.3)
    kept = torch.from_numpy(features)
    found = match_probability(kept, query, vocabulary, competing, calibration, own)
    expected = transcribed(features, query, vocabulary, competing, calibration, own)
    # A cosine has an error of 1e-7, in half precision of 1e-3, which the temperature magnifies.
    error = 1e-3 if half else 1e-7
    np.testing.assert_allclose(found, expected, atol=1e-6 + error * temperature)
    assert found.dtype == np.float32 and ((found >= 0) & (found <= 1)).all()


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 100_000), temperature=st.floats(0.01, 200.0))
def test_labels_are_the_softmax_of_the_same_cosines(seed: int, temperature: float) -> None:
    generator = np.random.default_rng(seed)
    vocabulary = words(generator, 6)
    features = unit(generator.normal(size=(40, WIDTH)))
    labels = label_elements(torch.from_numpy(features), vocabulary, temperature)
    logits = temperature * (features.astype(np.float64) @ vocabulary.embeddings.T)
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    assert labels.label.dtype == np.int64 and labels.confidence.dtype == np.float32
    np.testing.assert_array_equal(labels.label, logits.argmax(axis=1))
    np.testing.assert_allclose(labels.confidence, share.max(axis=1), atol=1e-6 + 1e-7 * temperature)


GENERATOR = np.random.default_rng(0)
WORDS, OTHERS = words(GENERATOR, 5), words(GENERATOR, 3)
FEATURES = unit(GENERATOR.normal(size=(30, WIDTH)))


def scene() -> SceneFeatures:
    element = np.array([0, 0, -1, 3, 29], dtype=np.int32)
    return SceneFeatures(
        torch.from_numpy(FEATURES),
        np.zeros((30, 3), np.float32),
        element,
        SourceHeader(),
        Up(np.array([0.0, 0.0, 1.0])),
        np.zeros(3),
        0.1,
    )


def test_a_word_is_answered_without_the_features() -> None:
    scores = word_scores(torch.from_numpy(FEATURES), WORDS, 30.0)
    calibration = Calibration(temperature=30.0)
    blind = replace(scores, features=torch.full((30, WIDTH), torch.nan))
    word, negative = WORDS.embeddings[2], WORDS.embeddings[[4]]
    np.testing.assert_array_equal(
        match_words(blind, word, negative, calibration),
        match_words(scores, word, negative, calibration),
    )
    new = unit(word + 0.4 * WORDS.embeddings[0])
    assert np.isnan(match_words(blind, new, None, calibration)).all()


def test_scores_are_kept_with_the_scene_for_one_vocabulary_at_a_time() -> None:
    here = scene()
    first = scene_scores(here, WORDS, 30.0)
    assert scene_scores(here, WORDS, 30.0) is first
    assert scene_scores(scene(), WORDS, 30.0) is not first
    colder = scene_scores(here, WORDS, 10.0)
    assert colder.labels.confidence.max() < first.labels.confidence.max()
    other = scene_scores(here, OTHERS, 30.0)
    assert other.exponentials.shape == (3, 30) and scene_scores(here, OTHERS, 30.0) is other
    assert scene_scores(here, WORDS, 30.0) is not first


def test_what_is_kept_cannot_be_changed() -> None:
    here = scene()
    scores = scene_scores(here, WORDS, 30.0)
    assert here.points_per_element.tolist() == [2, 0, 0, 1] + 25 * [0] + [1]
    kept = [scores.exponentials, scores.total, scores.peak, here.points_per_element]
    for array in [*kept, scores.labels.label, scores.labels.confidence]:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    before = scores.exponentials.copy()
    for query in (WORDS.embeddings[0], unit(GENERATOR.normal(size=WIDTH))):
        match_words(scores, query, WORDS.embeddings[[1]], Calibration(temperature=30.0))
    np.testing.assert_array_equal(scores.exponentials, before)


def test_threads_that_ask_at_once_share_one_result() -> None:
    kept, barrier, made = Kept(), threading.Barrier(8), []

    def make() -> object:
        made.append(threading.get_ident())
        return object()

    def ask(_: int) -> object:
        barrier.wait(timeout=30)
        return kept.get("thing", ("key", 1), make)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len(made) == 1 and len(set(map(id, found))) == 1


def test_what_could_not_be_made_is_tried_again() -> None:
    kept = Kept()
    with pytest.raises(ZeroDivisionError):
        kept.get("thing", 1, lambda: 1 // 0)
    assert kept.get("thing", 1, lambda: "made") == "made"


@pytest.mark.parametrize("count", [0, 1, 2, 6])  # no text, few and many go different ways
def test_blocks_on_threads_give_what_one_gives(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.from_numpy(unit(GENERATOR.normal(size=(1001, WIDTH))))
    texts = unit(GENERATOR.normal(size=(count, WIDTH))) if count else np.empty((0, WIDTH))
    texts = texts.astype(np.float32)
    known = words(GENERATOR, 5)
    scores = module.word_scores(features, known, 30.0)
    same = np.array([True, False, True, False, False])
    mine, others = texts[: (count + 1) // 2], texts[(count + 1) // 2 :]
    whole = scores.probability(same, mine, others)
    monkeypatch.setattr(module, "_WORTH_THREADS", 0)
    monkeypatch.setattr(module, "_DOT_BLOCK", 100)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        spread = scores.probability(same, mine, others)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(spread, whole, atol=1e-6)
    columns = np.concatenate([known.embeddings, texts]).astype(np.float64)
    exponent = np.exp(30.0 * features.double().numpy() @ columns.T)
    side = np.concatenate([same, np.arange(count) < len(mine)])
    expected = exponent[:, side].sum(1) / exponent.sum(1)
    np.testing.assert_allclose(whole, expected, atol=1e-5)


@pytest.mark.parametrize("count", [1, 6])  # few texts and many are computed differently
def test_half_precision_gives_the_same_cosines(count: int) -> None:
    features = torch.from_numpy(unit(GENERATOR.normal(size=(1100, WIDTH)))).half()
    texts = unit(GENERATOR.normal(size=(count, WIDTH)))
    found = cosines(features, texts)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, texts @ features.float().numpy().T, atol=1e-3)
