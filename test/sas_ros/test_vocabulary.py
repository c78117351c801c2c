"""Vocabularies: what they accept, how they look words up, how they change and travel."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary, distinct_colors


def unit_rows(count: int, width: int = 8, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make(*names: str, things: tuple[bool, ...] | None = None, seed: int = 0) -> Vocabulary:
    flags = things if things is not None else (True,) * len(names)
    return Vocabulary(names, unit_rows(len(names), seed=seed), flags, distinct_colors(len(names)))


def test_lookup_ignores_case_and_white_space() -> None:
    vocabulary = make("chair", "shower curtain")
    assert vocabulary.index("  Shower\t CURTAIN ") == 1
    assert vocabulary.index("shower") is None
    np.testing.assert_array_equal(vocabulary.embedding("Chair"), vocabulary.embeddings[0])
    assert vocabulary.embedding("elephant") is None
    assert len(vocabulary) == 2 and vocabulary.dim == 8


def test_arrays_are_read_only_copies() -> None:
    rows = unit_rows(2)
    vocabulary = Vocabulary(("a", "b"), rows, (True, True), distinct_colors(2))
    rows[0] = 0
    assert np.linalg.norm(vocabulary.embeddings[0]) == pytest.approx(1)
    with pytest.raises(ValueError):
        vocabulary.embeddings[0, 0] = 3


@pytest.mark.parametrize(
    ("names", "rows", "things", "colors", "words"),
    [
        ((), unit_rows(0), (), 0, "at least one name"),
        (("a", " A "), unit_rows(2), (True, True), 2, "twice"),
        (("a", "  "), unit_rows(2), (True, True), 2, "empty"),
        (("a", "b"), unit_rows(3), (True, True), 2, r"shape \(2, C\)"),
        (("a",), 2 * unit_rows(1), (True,), 1, "unit length"),
        (("a",), np.full((1, 4), np.nan), (True,), 1, "unit length"),
        (("a", "b"), unit_rows(2), (True,), 2, "thing flags"),
        (("a", "b"), unit_rows(2), (True, True), 1, "colours"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    names: tuple[str, ...], rows: np.ndarray, things: tuple[bool, ...], colors: int, words: str
) -> None:
    with pytest.raises(SasError, match=words):
        Vocabulary(names, rows, things, distinct_colors(colors))


def test_new_labels_keep_what_is_known_of_old_ones() -> None:
    old = make("floor", "chair", things=(False, True))
    new = old.with_labels(["lamp", "Floor", "chair"], unit_rows(3, seed=1))
    assert new.names == ("lamp", "Floor", "chair")
    assert new.things == (True, False, True)
    np.testing.assert_array_equal(new.colors[1:], old.colors)
    assert len(np.unique(new.colors, axis=0)) == 3
    assert new.version == old.version + 1
    assert old.names == ("floor", "chair")


def test_new_labels_of_another_encoder_are_refused() -> None:
    with pytest.raises(SasError, match="width 5"):
        make("chair").with_labels(["lamp"], unit_rows(1, width=5))


def test_joining_adds_only_missing_words() -> None:
    labels = make("chair", "lamp", seed=3)
    trained = make("floor", "Chair", "wall", things=(False, True, False))
    both = labels.joined(trained)
    assert both.names == ("chair", "lamp", "floor", "wall")
    assert both.things == (True, True, False, False)
    np.testing.assert_array_equal(both.embeddings[:2], labels.embeddings)
    np.testing.assert_array_equal(both.embeddings[3], trained.embeddings[2])
    with pytest.raises(SasError, match="joined"):
        labels.joined(Vocabulary(("x",), unit_rows(1, 5), (True,), distinct_colors(1)))


def test_metadata_round_trip_through_json() -> None:
    vocabulary = make("floor", "стул", things=(False, True))
    metadata = json.loads(json.dumps(vocabulary.to_metadata()))
    again = Vocabulary.from_metadata(metadata, vocabulary.embeddings)
    assert again.to_metadata() == vocabulary.to_metadata()
    np.testing.assert_array_equal(again.embeddings, vocabulary.embeddings)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-300, 300) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(deadline=None, derandomize=True)
@given(key=st.sampled_from(["names", "things", "colors", "version"]), value=JSON)
def test_broken_metadata_is_refused_with_a_sentence(key: str, value: object) -> None:
    vocabulary = make("floor", "chair")
    for metadata in ({**vocabulary.to_metadata(), key: value}, {key: value}):
        try:
            Vocabulary.from_metadata(metadata, vocabulary.embeddings)
        except SasError as error:
            assert str(error).endswith((".", "it."))


@settings(deadline=None, derandomize=True, max_examples=25)
@given(count=st.integers(0, 3000))
def test_colors_are_distinct_and_never_black(count: int) -> None:
    colors = distinct_colors(count)
    assert len(np.unique(colors, axis=0)) == count
    assert not (colors.sum(axis=1) == 0).any()


def test_calibration_round_trip_and_limits() -> None:
    calibration = Calibration(temperature=25, threshold=0.4)
    metadata = json.loads(json.dumps(calibration.to_metadata()))
    assert Calibration.from_metadata(metadata) == calibration
    for change in ({"temperature": 0.0}, {"threshold": 0.0}, {"threshold": float("nan")}):
        with pytest.raises(SasError):
            Calibration.from_metadata({**metadata, **change})
    with pytest.raises(SasError, match="same_meaning_floor"):
        Calibration(same_meaning_floor=1.5)
    with pytest.raises(SasError, match='"threshold"'):
        Calibration.from_metadata({"temperature": 3})
