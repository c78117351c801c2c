"""Figures of the ablation: mIoU, the bootstrap over rooms, steps, the files of the result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_training.capability.table import CapabilityTable
from sas_training.distill.words import class_text
from sas_training.evaluation.labels import SCANNET20
from sas_training.evaluation.metrics import NO_PREDICTION
from sas_training.evaluation.report import made_with
from sas_training.experiment import figures
from sas_training.experiment.checks import (
    Learned,
    capability_figures,
    known_words,
    learned_figures,
)
from sas_training.experiment.figures import (
    RowCounts,
    all_figures,
    bootstrap_weights,
    miou,
    room_counts,
)
from sas_training.experiment.report import markdown, read_result, result_of, write_result
from sas_training.experiment.rows import ROWS_2D
from sas_training.experiment.settings import TEACHERS, ExperimentSettings, TeacherSettings
from sas_training.experiment.students import ROWS_3D

ROOMS, RUNS = 20, 3


def _row(right: float, seed: int, rooms: int = ROOMS) -> RowCounts:
    """Rooms of 300 points; the same points are hard in every row, `right` is the share known."""
    rng = np.random.default_rng(5)
    own = np.random.default_rng(seed)
    counts = np.zeros((RUNS, rooms, 20, 21), np.int64)
    for room in range(rooms):
        truth = rng.integers(0, 8, 300)
        hard = rng.random(300) * rng.uniform(0.5, 1.5)
        for run in range(RUNS):
            wrong = own.integers(0, 8, 300)
            said = np.where(hard < right, truth, wrong)
            counts[run, room] = room_counts(truth, said)
    return RowCounts(counts, counts)


def _reference(truth: list[int], said: list[int]) -> float:
    """Mean IoU over the classes of the truth, straight from the definition."""
    ious = []
    pairs = [(t, s) for t, s in zip(truth, said, strict=True) if t < 20 and s != NO_PREDICTION]
    for label in sorted({t for t, _ in pairs}):
        true = {k for k, (t, _) in enumerate(pairs) if t == label}
        called = {k for k, (_, s) in enumerate(pairs) if s == label}
        ious.append(len(true & called) / len(true | called))
    return sum(ious) / len(ious) if ious else 0.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, 19, 255]), st.sampled_from([0, 1, 2, 19, -1, NO_PREDICTION])
        ),
        max_size=40,
    )
)
def test_miou_is_that_of_the_definition(points: list[tuple[int, int]]) -> None:
    truth, said = [t for t, _ in points], [s for _, s in points]
    counts = room_counts(np.array(truth, np.int64), np.array(said, np.int64))
    assert float(miou(counts)) == pytest.approx(_reference(truth, said), abs=1e-12)


def test_silence_is_wrong_and_what_no_frame_shows_does_not_count() -> None:
    truth = np.zeros(10, np.int64)
    said = np.array([0] * 5 + [-1] * 5)
    assert float(miou(room_counts(truth, said))) == 0.5
    said[5:] = NO_PREDICTION
    assert float(miou(room_counts(truth, said))) == 1.0


def test_the_bootstrap_draws_whole_rooms() -> None:
    weights = bootstrap_weights(ROOMS, 1, 50)
    assert weights.shape == (50, ROOMS)
    assert (weights.sum(axis=1) == ROOMS).all()
    assert (weights == 0).any()
    assert np.array_equal(weights, bootstrap_weights(ROOMS, 1, 50))
    row = _row(0.5, 1)
    drawn = figures._resampled(row.everywhere, weights)
    chosen = np.repeat(np.arange(ROOMS), weights[7])
    wanted = np.mean([miou(run[chosen].sum(axis=0)) for run in row.everywhere])
    assert drawn[7] == pytest.approx(wanted, abs=1e-12)


def test_a_step_adds_takes_or_is_undecided() -> None:
    rows = {"a/low": _row(0.5, 1), "a/same": _row(0.5, 2), "a/high": _row(0.6, 3)}
    steps = [("a/low", "a/high"), ("a/high", "a/low"), ("a/low", "a/same"), ("a/low", "a/low")]
    found = all_figures(rows, 1, steps)
    up, down, same, none = found["steps"]
    assert up["adds"] and not up["takes"] and up["low"] > 0
    assert down["takes"] and not down["adds"]
    assert not same["adds"] and not same["takes"] and same["low"] < 0 < same["high"]
    assert none["difference"] == none["low"] == none["high"] == 0
    assert up["difference"] == pytest.approx(-down["difference"])
    for row in found["rows"]:
        assert row["low"] < row["miou_mean"] < row["high"]
        assert row["miou_mean"] == pytest.approx(np.mean(row["per_seed"]))
        assert row["miou_std"] == pytest.approx(np.std(row["per_seed"], ddof=1))
        assert len(row["per_room"]) == ROOMS
        assert row["per_class"]["wall"] is not None
        assert row["per_class"]["bathtub"] is None
    with pytest.raises(SasError, match="different rooms"):
        all_figures({"a": _row(0.5, 1), "b": _row(0.5, 1, rooms=3)}, 1, [])


def test_a_step_from_2d_to_3d_is_on_seen_points() -> None:
    low, high = _row(0.4, 1).everywhere, _row(0.7, 2).everywhere
    rows = {"2d/x": RowCounts(low, high), "3d/x": RowCounts(high, high)}
    step = all_figures(rows, 1, [("2d/x", "3d/x")])["steps"][0]
    assert (step["points"], step["difference"]) == ("seen", 0.0)


def _result() -> dict[str, object]:
    rows = {name: _row(0.4 + 0.02 * k, k) for k, name in enumerate((*ROWS_2D, *ROWS_3D))}
    names = tuple(class_text(name) for name in SCANNET20.names)
    scores = np.random.default_rng(3).random((RUNS, len(TEACHERS), len(names)))
    tables = [CapabilityTable(TEACHERS, names, one) for one in scores]
    learned = {name: [_learned(k + run) for run in range(RUNS)] for k, name in enumerate(ROWS_3D)}
    checks = {
        "capability": capability_figures(tables, "macro", rows, known_words(_TAUGHT)),
        "rooms": 2,
        **learned_figures(learned),
    }
    return result_of(ExperimentSettings(), "development", rows, checks)


_TAUGHT = replace(ExperimentSettings().teachers, objects=TeacherSettings("masks", ("wall", "sofa")))


def _learned(seed: int) -> Learned:
    rng = np.random.default_rng(seed)
    told, teacher, student = rng.integers(0, 9, (3, 20, 21))
    return Learned(told, teacher, student, rng.random(20) * told.sum(axis=1))


def test_the_result_is_written_and_read(tmp_path: Path) -> None:
    result = _result()
    write_result(tmp_path, result)
    again = read_result(tmp_path / "ablation.json")
    assert again == json.loads(json.dumps(result))
    assert again["scale"] == "tiny"
    names = [row["name"] for row in again["rows"]]
    assert names == [*ROWS_2D, *ROWS_3D]
    assert set(again["rows"][0]) >= {"name", "miou_mean", "miou_std", "low", "high"}
    text = (tmp_path / "ablation.md").read_text()
    assert text == markdown(again)
    assert [row["name"] for row in again["checks"]["students"]] == list(ROWS_3D)
    assert "| surfaces - objects |" in text
    assert text.count("| the same, 2 classes known to both |") == 2  # not of the other two teachers
    rows = {row["name"]: row["per_seed"] for row in again["rows"]}
    differences = [
        f"{100 * (two - one):+.1f}"
        for one, two in zip(rows["3d/pixel"], rows["3d/superpoint"], strict=True)
    ]
    line = next(line for line in text.splitlines() if line.startswith("| 3d/pixel | 3d/superp"))
    assert line.endswith(f" | {', '.join(differences)} |")
    mixed = next(line for line in text.splitlines() if line.startswith("| 2d/capability | 3d/"))
    assert mixed.endswith(" |  |")
    made = made_with()
    assert (again["commit"], again["changed"]) == (made["commit"], made["changed"])
    assert all(f"| {name} |" in text for name in names)
    picture = (tmp_path / "ablation.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_a_foreign_result_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ablation.json"
    with pytest.raises(SasError, match="no result at"):
        read_result(path)
    path.write_text("{")
    with pytest.raises(SasError, match="no readable JSON"):
        read_result(path)
    path.write_text('{"kind": "other"}')
    with pytest.raises(SasError, match="no result of"):
        read_result(path)
    path.write_text('{"kind": "sas_ablation", "format_version": 9}')
    with pytest.raises(SasError, match="format 9"):
        read_result(path)


def test_bars_are_as_long_as_their_figures() -> None:
    from sas_training.experiment.chart import draw_chart

    def row(name: str, mean: float) -> dict[str, object]:
        return {
            "name": name,
            "miou_mean": mean,
            "low": mean - 0.01,
            "high": mean + 0.01,
            "per_seed": [mean],
        }

    image = draw_chart("t", [row("2d/x", 0.2), row("3d/x", 0.4)]).astype(int)

    def length(line: int, color: tuple[int, int, int]) -> int:
        pixels = np.abs(image[line] - np.array(color)).sum(axis=1) < 30
        return int(pixels.sum())

    first, second = length(44 + 16, (196, 132, 60)), length(44 + 40, (52, 110, 168))
    assert second == pytest.approx(2 * first, rel=0.15)
