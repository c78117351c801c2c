"""Fusion of teachers: against the equations written out for one point at a time, in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_training.capability.table import CapabilityTable
from sas_training.fusion.capability_fusion import (
    RULES,
    FusionSettings,
    capability_weights,
    fuse_teachers,
)
from sas_training.fusion.features import PointFeatures

NAMES = ("wall", "chair", "sofa", "other")
TEXT = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]], dtype=np.float32)


def test_a_teacher_that_is_not_fused_joins_no_intervals() -> None:
    """Its interval covers those of the two that are, which are far from each other."""
    words = ("wall", "chair", "sofa")
    means, ends = [0.8, 0.2, 0.5], [(0.7, 0.9), (0.1, 0.3), (0.0, 1.0)]
    table = CapabilityTable(
        ("a", "b", "unfused"),
        words,
        np.repeat(np.array(means)[:, None], 3, axis=1),
        intervals=np.repeat(np.array(ends)[:, None], 3, axis=1),
    )
    mask = np.ones(1, dtype=bool)
    said = [
        PointFeatures(np.array([row], dtype=np.float16), mask, name, "room")
        for name, row in (("a", [1, 0, 0]), ("b", [0, 1, 0]))
    ]
    apart = FusionSettings(tau=0.5, certainty="separate")
    found = fuse_teachers(said, TEXT[:3], words, table, apart)
    expected = fuse_teachers(said, TEXT[:3], words, table, FusionSettings(tau=0.5))
    np.testing.assert_array_equal(found.features, expected.features)
    assert found.features[0, 0] > found.features[0, 1]


def cls(feature: Any) -> int:
    """Index of the largest dot product, the first of equal ones."""
    products = [
        sum(float(a) * float(b) for a, b in zip(feature, word, strict=True)) for word in TEXT
    ]
    return products.index(max(products))


def softmax(values: list[float], tau: float) -> list[float]:
    top = max(values)
    powers = [math.exp((value - top) / tau) for value in values]
    return [power / sum(powers) for power in powers]


def paper(own: list[Any], score: list[Any], tau: float) -> Any:
    """Equations of 4.1: P_m is the mean capability of m for the classes that are named."""
    named = [cls(feature) for feature in own]
    confidence = [sum(row[c] for c in named) / len(named) for row in score]
    return sum(w * f for w, f in zip(softmax(confidence, tau), own, strict=True))


def released(own: list[Any], score: list[Any], tau: float, first_is_there: bool) -> Any:
    """4.2: sums, normalised to one over the teachers; the first one's `other` stays alone."""
    named = [cls(feature) for feature in own]
    if first_is_there and NAMES[named[0]] == "other":
        return own[0]
    q = [sum(row[c] for c in named) for row in score]
    q = [value / sum(q) for value in q] if sum(q) > 0 else [0.0] * len(q)
    return sum(w * f for w, f in zip(softmax(q, tau), own, strict=True))


def linear(own: list[Any]) -> Any:
    return sum(max(float(np.dot(f, word)) for word in TEXT) * f for f in own)


def by_hand(
    vectors: Any, seen: Any, scores: Any, settings: FusionSettings
) -> list[tuple[int, Any]]:
    """(source code, fused feature) of each point."""
    result = []
    for point in range(seen.shape[1]):
        there = [m for m in range(len(seen)) if seen[m, point]]
        own = [vectors[m, point].astype(np.float64) for m in there]
        if settings.unit:
            own = [f / np.linalg.norm(f) if np.linalg.norm(f) > 0 else f for f in own]
        score = [scores[m] for m in there]
        if len(own) < 2:
            fused = own[0] if own else None
        elif settings.rule == "capability":
            fused = paper(own, score, settings.tau)
        elif settings.rule == "released":
            fused = released(own, score, settings.tau, 0 in there)
        elif settings.rule == "addition":
            fused = sum(own)
        else:
            fused = linear(own)
        result.append((sum(2**m for m in there), fused))
    return result


def teacher(name: str, vectors: Any, seen: Any, scene: str = "room") -> PointFeatures:
    return PointFeatures(vectors[seen].astype(np.float16), seen, name, scene)


def table_of(scores: Any, names: tuple[str, ...] = NAMES) -> CapabilityTable:
    return CapabilityTable(tuple(f"t{m}" for m in range(len(scores))), names, scores)


def fuse(vectors: Any, seen: Any, scores: Any, settings: FusionSettings) -> PointFeatures:
    teachers = [teacher(f"t{m}", vectors[m], seen[m]) for m in range(len(seen))]
    return fuse_teachers(teachers, TEXT, NAMES, table_of(scores), settings)


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(2, 4),
    points=st.integers(1, 30),
    rule=st.sampled_from(RULES),
    tau=st.sampled_from([0.02, 0.05, 1.0]),
    normalise=st.sampled_from([None, False, True]),
    chunk=st.sampled_from([1, 7, 65_536]),
)
def test_fusion_is_the_equations(
    seed: int,
    count: int,
    points: int,
    rule: str,
    tau: float,
    normalise: bool | None,
    chunk: int,
) -> None:
    rng = np.random.default_rng(seed)
    # Small whole numbers: many ties between classes, exact in every precision.
    vectors = rng.integers(-2, 3, (count, points, 3)).astype(np.float32)
    seen = rng.random((count, points)) < 0.7
    scores = rng.random((count, len(NAMES)))
    scores[:, -1] = 0
    settings = FusionSettings(rule, tau=tau, normalise=normalise, chunk=chunk)
    result = fuse(vectors, seen, scores, settings)
    expected = by_hand(vectors, seen, scores, settings)
    assert result.sources is not None
    assert result.sources.tolist() == [code for code, _ in expected]
    assert result.mask.tolist() == seen.any(axis=0).tolist()
    means = [fused for code, fused in expected if code]
    if means:
        np.testing.assert_allclose(result.features, np.array(means), rtol=2e-3, atol=2e-3)


@given(seed=st.integers(0, 10**6), count=st.integers(2, 3))
def test_real_valued_features_are_fused_the_same(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 20, 3)).astype(np.float16).astype(np.float32)
    products = np.sort(vectors @ TEXT.T, axis=-1)
    assume((products[..., -1] - products[..., -2]).min() > 1e-4)
    seen = np.ones((count, 20), dtype=bool)
    scores = rng.random((count, len(NAMES)))
    for rule in RULES:
        settings = FusionSettings(rule)
        found = fuse(vectors, seen, scores, settings).features
        expected = [fused for _, fused in by_hand(vectors, seen, scores, settings)]
        np.testing.assert_allclose(found, np.array(expected), rtol=2e-3, atol=2e-3)


def two(first: list[float], second: list[float], scores: Any, rule: str, **more: Any) -> Any:
    """The fused feature of one point that two teachers saw."""
    vectors = np.array([[first], [second]], dtype=np.float32)
    settings = FusionSettings(rule, **more)
    return fuse(vectors, np.ones((2, 1), bool), np.asarray(scores), settings).features[0]


GOOD_AT_CHAIRS = [[0.2, 0.9, 0.2, 0.0], [0.2, 0.1, 0.2, 0.0]]


def test_the_teacher_that_knows_the_classes_wins() -> None:
    """(0.9 + 0.2) / 2 against (0.1 + 0.2) / 2, tau 0.05: weights 0.9997 and 0.0003."""
    fused = two([0, 1, 0], [0, 0, 1], GOOD_AT_CHAIRS, "capability")
    weight = 1 / (1 + math.exp(-(0.55 - 0.15) / 0.05))
    np.testing.assert_allclose(fused, [0, weight, 1 - weight], atol=1e-3)


def test_the_released_weights_are_those_of_relative_confidences() -> None:
    """q = (0.55, 0.45) gives (0.88, 0.12)."""
    scores = [[0, 0.55, 0, 0], [0, 0.45, 0, 0]]
    fused = two([0, 1, 0], [0, 1, 0.5], scores, "released")
    np.testing.assert_allclose(fused, [0, 1, 0.12 * 0.5], atol=2e-3)


def test_equal_capabilities_are_equal_weights() -> None:
    fused = two([1, 0, 0], [0, 1, 0], np.full((2, 4), 0.5), "capability")
    np.testing.assert_allclose(fused, [0.5, 0.5, 0], atol=1e-3)


def test_what_the_first_teacher_calls_other_is_left_alone_by_the_released_rule_only() -> None:
    scores = [[0.5, 0.5, 0.5, 0], [0.5, 0.9, 0.5, 0]]
    other, chair = [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    assert two(other, chair, scores, "released").tolist() == other
    assert two(other, chair, scores, "capability")[1] > 0.9
    # Only the second says so: fused, and the second's weight is not zero.
    fused = two(chair, other, scores, "released")
    assert fused[0] < 0 < fused[1]


def test_other_of_a_first_teacher_that_did_not_see_the_point_does_not_count() -> None:
    classes, seen = torch.tensor([[0, 1, 1]]), torch.tensor([[False, True, True]])
    weights = capability_weights(
        classes, seen, torch.tensor([[0.0, 0.5]] * 3), 0, FusionSettings("released")
    )
    assert weights.tolist() == [[0.0, 0.5, 0.5]]


def test_nobody_knowing_anything_is_equal_weights_not_nan() -> None:
    for rule in ("released", "capability"):
        fused = two([0, 1, 0], [0, 0, 1], np.zeros((2, 4)), rule)
        np.testing.assert_allclose(fused, [0, 0.5, 0.5], atol=1e-3)


def test_length_counts_in_the_released_form_only() -> None:
    scores = np.full((2, 4), 0.5)
    assert two([2, 0, 0], [0, 1, 0], scores, "released").tolist() == [1, 0.5, 0]
    assert two([2, 0, 0], [0, 1, 0], scores, "capability").tolist() == [0.5, 0.5, 0]
    assert two([2, 0, 0], [0, 1, 0], scores, "addition").tolist() == [1, 1, 0]
    assert two([2, 0, 0], [0, 1, 0], scores, "addition", normalise=False).tolist() == [2, 1, 0]


def test_what_one_teacher_alone_saw_is_its_feature() -> None:
    vectors = np.array([[[0, 2, 0]] * 4, [[0, 0, 0.5]] * 4], dtype=np.float32)
    seen = np.array([[True, False, True, False], [False, True, True, False]])
    for rule in RULES:
        result = fuse(vectors, seen, np.full((2, 4), 0.5), FusionSettings(rule))
        length = (2, 0.5) if rule == "released" else (1, 1)
        assert result.features[0].tolist() == [0, length[0], 0]
        assert result.features[1].tolist() == [0, 0, length[1]]
        assert result.sources is not None and result.sources.tolist() == [1, 2, 3, 0]


def test_the_result_says_how_it_was_made() -> None:
    vectors = np.ones((2, 3, 3), dtype=np.float32)
    result = fuse(vectors, np.ones((2, 3), bool), np.full((2, 4), 0.5), FusionSettings())
    assert (result.teacher, result.scene) == ("capability(t0, t1)", "room")
    assert result.settings["teachers"] == ["t0", "t1"] and result.settings["normalise"] is True


def test_only_other_may_be_missing_from_the_table() -> None:
    one = teacher("t0", np.ones((2, 3)), np.ones(2, bool))
    another = teacher("t1", np.ones((2, 3)), np.ones(2, bool))
    table = table_of(np.full((2, 3), 0.5), NAMES[:3])
    assert fuse_teachers([one, another], TEXT, NAMES, table).channels == 3
    with pytest.raises(SasError, match="no score for 'sofa'"):
        fuse_teachers([one, another], TEXT, NAMES, table_of(np.full((2, 2), 0.5), NAMES[:2]))
    with pytest.raises(SasError, match="no pooled"):
        fuse_teachers([one, another], TEXT, NAMES, table, FusionSettings(measure="micro"))


def test_what_does_not_belong_together_is_a_sentence() -> None:
    seen = np.ones(2, bool)
    one, another = (teacher(name, np.ones((2, 3)), seen) for name in ("t0", "t1"))
    table = table_of(np.full((2, 4), 0.5))
    cases: list[tuple[list[PointFeatures], Any, Any, str]] = [
        ([one], TEXT, NAMES, "2 to 8"),
        ([one] * 9, TEXT, NAMES, "2 to 8"),
        ([one, one], TEXT, NAMES, "twice"),
        ([one, teacher("t1", np.ones((3, 3)), np.ones(3, bool))], TEXT, NAMES, "3 points"),
        ([one, teacher("t1", np.ones((2, 4)), seen)], TEXT, NAMES, "4 channels"),
        ([one, teacher("t1", np.ones((2, 3)), seen, "hall")], TEXT, NAMES, "'hall'"),
        ([one, another], TEXT[:3], NAMES, "text features"),
        ([one, another], TEXT, ("a", "a", "b", "c"), "different words"),
        ([one, another], TEXT * np.nan, NAMES, "finite"),
    ]
    for teachers, text, names, sentence in cases:
        with pytest.raises(SasError, match=sentence):
            fuse_teachers(teachers, text, names, table)
    with pytest.raises(SasError, match="needs a capability table"):
        fuse_teachers([one, another], TEXT, NAMES)
    assert fuse_teachers(
        [one, another], TEXT, NAMES, settings=FusionSettings("addition")
    ).features.shape == (2, 3)


def test_a_sum_too_large_for_float16_is_a_sentence() -> None:
    with pytest.raises(SasError, match="too large"):
        two([60_000, 0, 0], [60_000, 0, 0], np.ones((2, 4)), "addition", normalise=False)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [({"rule": "mean"}, "linear"), ({"tau": 0.0}, "above 0"), ({"chunk": 0}, "one point")],
)
def test_settings_are_checked(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SasError, match=sentence):
        FusionSettings(**values)
