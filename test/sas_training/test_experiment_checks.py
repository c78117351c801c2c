"""What explains the rows: capabilities against the truth, students against what they were told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sas_ros.errors import SasError
from sas_training.capability.table import CapabilityTable
from sas_training.distill.words import class_text
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.checks import (
    MOST_ROOMS,
    Learned,
    capability_figures,
    checked_rooms,
    learned_figures,
    learned_in_room,
)
from sas_training.experiment.figures import RowCounts
from sas_training.experiment.settings import TEACHERS
from sas_training.experiment.words import Words, make_words
from sas_training.fusion.features import PointFeatures

from encoders import HashEncoder  # isort: skip

NAMES = tuple(class_text(name) for name in SCANNET20.names)
TEMPERATURE = 0.04


def _words() -> Words:
    return make_words(HashEncoder(32), "a {} in a scene", ())


def _room(words: Words) -> tuple[PointFeatures, list[int]]:
    """Twelve points, the last two of them without features, and what the features say."""
    said = [0, 0, 0, 0, 1, 1, 1, 5, 5, 19]
    rng = np.random.default_rng(2)
    # Of any length, and leaning towards another word.
    rows = words.classes[said] * rng.uniform(0.2, 3, (10, 1)) + 0.1 * words.classes[7]
    mask = np.arange(12) < 10
    return PointFeatures(rows.astype(np.float16), mask, "fused", "room"), said


def test_a_student_is_compared_with_what_it_was_told() -> None:
    words = _words()
    features, said = _room(words)
    truth = np.array([0, 0, 1, 255, 1, 1, 1, 5, 5, 19, 3, 3])
    student = np.array([0, 0, 1, 0, 1, 1, 1, 5, -1, 0, 7, 7])
    found = learned_in_room(features, student, truth, words, TEMPERATURE)
    assert found.told.sum(axis=1)[[0, 1, 5, 19]].tolist() == [4, 3, 2, 1]
    assert found.told[0, 0] == 3 and found.told[0, 1] == 1 and found.told[5, 20] == 1
    assert found.teacher.sum() == found.student.sum() == 9
    assert found.teacher[1, 0] == 1 and found.student[1, 1] == 4
    for k in range(20):
        wanted = 0.0
        for row, word in zip(features.features.astype(np.float64), said, strict=True):
            if word == k:
                scaled = np.exp(words.classes @ row / np.linalg.norm(row) / TEMPERATURE)
                wanted += scaled[k] / scaled.sum()
        assert found.probability[k] == pytest.approx(wanted, rel=1e-5)
    row = learned_figures({"3d/x": [found]})["students"][0]
    assert row["agreement"] == pytest.approx(7 / 10)
    assert row["teacher_miou"] == pytest.approx((2 / 3 + 3 / 4 + 1 + 1) / 4)
    assert row["miou"] == pytest.approx((2 / 3 + 1 + 1 / 2 + 0) / 4)
    assert row["miou_against_teacher"] == pytest.approx((3 / 5 + 3 / 4 + 1 / 2 + 0) / 4)


def test_repetitions_are_averaged_and_words_that_nobody_says_have_no_probability() -> None:
    words = _words()
    features, said = _room(words)
    truth = np.zeros(12, np.int64)
    right = np.array([*said, 0, 0])
    parts = [learned_in_room(features, one, truth, words, 0.04) for one in (right, right + 1)]
    found = learned_figures({"3d/x": parts})
    assert found["students"][0]["agreement"] == 0.5
    assert found["told"]["wall"]["share"] == 0.4
    assert 0 < found["told"]["wall"]["probability"] <= 1
    assert found["told"]["bathtub"] == {"share": 0.0, "probability": None}
    twice = parts[0] + parts[1]
    assert twice.told.sum() == 20 and twice.told[0, 0] == 4


def test_a_comparison_is_written_and_read(tmp_path: Path) -> None:
    words = _words()
    features, said = _room(words)
    path = tmp_path / "one.npz"
    one = learned_in_room(features, np.array([*said, 0, 0]), np.zeros(12, np.int64), words, 0.04)
    one.save(path)
    again = Learned.load(path)
    assert all(np.array_equal(value, getattr(again, name)) for name, value in vars(one).items())
    with open(path, "wb") as stream:
        np.savez(stream, **{**vars(one), "told": one.told[:3]})
    with pytest.raises(SasError, match="is damaged"):
        Learned.load(path)
    path.write_bytes(b"PK")
    with pytest.raises(SasError, match="holds no comparison"):
        Learned.load(path)


def test_the_rooms_that_are_looked_at_are_spread_over_all() -> None:
    assert checked_rooms(3) == [0, 1, 2]
    assert checked_rooms(40) == list(range(0, 40, 4))
    assert len(checked_rooms(10_000)) == MOST_ROOMS


def test_capabilities_are_compared_with_the_iou_of_held_out_rooms() -> None:
    rng = np.random.default_rng(8)
    rows = {}
    for name in TEACHERS:
        counts = rng.integers(1, 50, (2, 3, 20, 21))
        counts[:, :, 19] = 0  # a class that is nowhere
        rows[f"2d/{name}"] = RowCounts(counts, counts)
    iou = np.zeros((len(TEACHERS), 20))
    for t, name in enumerate(TEACHERS):
        for counts in rows[f"2d/{name}"].everywhere.sum(axis=1):
            for k in range(20):
                union = counts[k].sum() + counts[:, k].sum() - counts[k, k]
                iou[t, k] += counts[k, k] / max(union, 1) / 2
    # Two repetitions that are only right together.
    off = rng.uniform(-0.01, 0.01, iou.shape)
    tables = [CapabilityTable(TEACHERS, NAMES, np.clip(iou + s * off + 0.1, 0, 1)) for s in (1, -1)]
    found = capability_figures(tables, "macro", rows)
    assert found["n"] == 19
    assert found["spearman"]["value"] == pytest.approx(1)
    assert found["sign_agreement"]["value"] == 1
    flipped = [CapabilityTable(TEACHERS, NAMES, 1 - one.scores) for one in tables]
    assert capability_figures(flipped, "macro", rows)["spearman"]["value"] == pytest.approx(-1)
