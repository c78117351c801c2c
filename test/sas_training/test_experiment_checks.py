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
    known_words,
    learned_figures,
    learned_in_room,
)
from sas_training.experiment.figures import RowCounts
from sas_training.experiment.report import read_result
from sas_training.experiment.settings import TEACHERS, load_settings
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
    wall, bed = row["classes"]["wall"], row["classes"]["bed"]
    assert (wall["share"], wall["same"]) == (0.4, 0.75)
    assert wall["teacher_iou"] == pytest.approx(2 / 3) and wall["iou"] == pytest.approx(2 / 3)
    assert bed == dict.fromkeys(("probability", "same", "teacher_iou", "iou")) | {"share": 0.0}
    assert row["agreement"] == pytest.approx(7 / 10)
    assert row["teacher_miou"] == pytest.approx((2 / 3 + 3 / 4 + 1 + 1) / 4)
    assert row["miou"] == pytest.approx((2 / 3 + 1 + 1 / 2 + 0) / 4)
    assert row["miou_against_teacher"] == pytest.approx((3 / 5 + 3 / 4 + 1 / 2 + 0) / 4)


def test_a_student_of_superpoints_is_compared_with_their_means() -> None:
    words = _words()
    features, _ = _room(words)
    # Of the first, two points say word 0 and one word 1; the second is of one; the rest has none.
    superpoint = np.array([0, 0, -1, -1, 0, 1, -1, -1, -1, -1, 0, 1], dtype=np.int32)
    student = np.array([0, 1, 0, 0, 0, 1, 1, 5, 5, 19, 3, 3])
    truth = np.full(12, 1)
    found = learned_in_room(features, student, truth, words, TEMPERATURE, superpoint)
    rows = features.features.astype(np.float64)
    means = [rows[[0, 1, 4]].mean(axis=0), rows[5]]
    scores = [words.classes @ one / np.linalg.norm(one) for one in means]
    told = [int(one.argmax()) for one in scores]
    wanted = np.zeros((20, 21), dtype=np.int64)
    for word, said in zip([told[0]] * 3 + [told[1]], [0, 1, 0, 1], strict=True):
        wanted[word, said] += 1
    np.testing.assert_array_equal(found.told, wanted)
    assert found.teacher[1].sum() == found.student[1].sum() == found.told.sum() == 4
    sure = [float(one.max() - np.log(np.exp(one).sum())) for one in np.array(scores) / TEMPERATURE]
    assert found.probability.sum() == pytest.approx(3 * np.exp(sure[0]) + np.exp(sure[1]), rel=1e-4)
    # Each point's own feature says something else of the fifth point.
    own = learned_in_room(features, student, truth, words, TEMPERATURE)
    assert own.told[1].sum() == 3 and found.told[told[0]].sum() >= 3
    nowhere = learned_in_room(features, student, truth, words, TEMPERATURE, np.full(12, -1))
    assert nowhere.told.sum() == 0 and nowhere.probability.sum() == 0


def test_repetitions_are_averaged_and_words_that_nobody_says_have_no_probability() -> None:
    words = _words()
    features, said = _room(words)
    truth = np.zeros(12, np.int64)
    right = np.array([*said, 0, 0])
    parts = [learned_in_room(features, one, truth, words, 0.04) for one in (right, right + 1)]
    found = learned_figures({"3d/x": parts})
    assert found["students"][0]["agreement"] == 0.5
    classes = found["students"][0]["classes"]
    assert classes["wall"]["share"] == 0.4
    assert classes["wall"]["same"] == 0.5
    assert 0 < classes["wall"]["probability"] <= 1
    assert (classes["bathtub"]["share"], classes["bathtub"]["probability"]) == (0.0, None)
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
    known = known_words(load_settings("small").teachers)
    found = capability_figures(tables, "macro", rows, known)
    assert found["n"] == 19
    # `objects` was taught 14 words, one of them of the class that is nowhere.
    both = {name: one["known_to_both"]["n"] for name, one in found["pairs"].items()}
    assert both == {"surfaces - objects": 13, "surfaces - distant": 19, "objects - distant": 13}
    assert found["spearman"]["value"] == pytest.approx(1)
    assert found["sign_agreement"]["value"] == 1
    flipped = [CapabilityTable(TEACHERS, NAMES, 1 - one.scores) for one in tables]
    turned = capability_figures(flipped, "macro", rows, known)
    assert turned["spearman"]["value"] == pytest.approx(-1)


def test_words_that_a_teacher_was_taught_are_those_of_the_settings() -> None:
    known = known_words(load_settings("small").teachers)
    assert known.shape == (3, 20)
    assert known[0].all() and known[2].all()
    unknown = {name for name, one in zip(SCANNET20.names, known[1], strict=True) if not one}
    assert unknown == {"door", "window", "picture", "counter", "curtain", "shower curtain"}


def test_the_published_result_counts_the_classes_known_to_both() -> None:
    root = Path(__file__).resolve().parents[2]
    found = read_result(root / "docs" / "results" / "ablation.json")["checks"]["capability"]
    both = {name: one["known_to_both"]["n"] for name, one in found["pairs"].items()}
    assert both == {"surfaces - objects": 14, "surfaces - distant": 20, "objects - distant": 14}
