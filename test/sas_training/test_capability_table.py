"""The capability table: human-readable JSON that survives exactly, and sentences otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sas_ros.errors import SasError
from sas_training.capability.table import ARRAYS, CapabilityTable, Measurement

SCORES = np.array([[0.1, 1 / 3, 0.9], [0.0, 1.0, 0.25]])


def some(**changes: Any) -> CapabilityTable:
    parts: dict[str, Any] = {
        "teachers": ("lseg", "seem"),
        "classes": ("wall", "Stuhl für zwei", "sofa"),
        "scores": SCORES,
        "made": Measurement(("a good photo of {}",), (0, 1), {"images": "sd-1.5"}, 50, {"a": [1]}),
        "pooled": SCORES / 2,
        "intervals": np.stack([SCORES * 0.9, SCORES * 0.95 + 0.05], axis=-1),
        "pooled_intervals": np.stack([SCORES * 0.4, SCORES * 0.5 + 0.1], axis=-1),
        "level": 0.9,
    }
    return CapabilityTable(**{**parts, **changes})


@pytest.mark.parametrize(
    "changes", [{}, {"pooled_intervals": None}, dict.fromkeys(ARRAYS[1:])], ids=str
)
def test_what_is_saved_is_loaded(tmp_path: Path, changes: dict[str, Any]) -> None:
    table, path = some(**changes), tmp_path / "table.json"
    table.save(path)
    found = CapabilityTable.load(path)
    assert (found.teachers, found.classes, found.made, found.level) == (
        table.teachers,
        table.classes,
        table.made,
        table.level,
    )
    for name in ARRAYS:
        one, other = getattr(found, name), getattr(table, name)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)
    assert found.to_json() == path.read_text(encoding="utf-8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.json"]


def test_a_file_of_before_pooled_scores_had_intervals_is_read_and_written_as_it_was(
    tmp_path: Path,
) -> None:
    text = some(pooled_intervals=None).to_json()
    assert "pooled_intervals" not in text and '"format_version": 1' in text
    (tmp_path / "table.json").write_text(text)
    found = CapabilityTable.load(tmp_path / "table.json")
    assert found.pooled_intervals is None and found.intervals is not None
    assert found.of_measure("micro").intervals is None
    assert found.to_json() == text


def test_a_class_is_a_line_that_people_can_read() -> None:
    lines = some().to_json().splitlines()
    assert '    "sofa": [0.9, 0.25]' in lines
    assert '    "Stuhl für zwei": [0.3333333333333333, 1.0],' in lines
    assert json.loads("\n".join(lines))["scores"]["wall"] == [0.1, 0.0]


def test_scores_come_in_the_order_asked_for() -> None:
    table = some()
    found = table.aligned(["seem", "lseg"], ["sofa", "wall"])
    np.testing.assert_array_equal(found, [[0.25, 0.0], [0.9, 0.1]])
    pooled = table.aligned(["lseg"], ["sofa", "other"], measure="micro", absent=0.0)
    np.testing.assert_array_equal(pooled, [[0.45, 0.0]])


def test_a_measure_brings_its_intervals_along() -> None:
    table = some()
    assert table.of_measure("macro") is table
    one = table.of_teachers(["seem"]).of_measure("micro")
    assert table.pooled is not None and table.pooled_intervals is not None
    assert one.intervals is not None
    np.testing.assert_array_equal(one.scores, table.pooled[1:])
    np.testing.assert_array_equal(one.intervals, table.pooled_intervals[1:])


def test_what_the_table_does_not_know_is_a_sentence() -> None:
    with pytest.raises(SasError, match=r"no score for 'lamp' \(2 of 3 classes"):
        some().aligned(["lseg"], ["wall", "lamp", "rug"])
    with pytest.raises(SasError, match="teacher 'odise'; it has lseg, seem"):
        some().aligned(["odise"], ["wall"])
    with pytest.raises(SasError, match="macro, micro"):
        some().aligned(["lseg"], ["wall"], measure="median")
    with pytest.raises(SasError, match="no pooled"):
        some(pooled=None, pooled_intervals=None).aligned(["lseg"], ["wall"], measure="micro")


def test_the_table_is_a_copy_that_nobody_changes() -> None:
    mine = SCORES.copy()
    table = some(scores=mine)
    mine[:] = 0
    np.testing.assert_array_equal(table.scores, SCORES)
    with pytest.raises(ValueError, match="read-only"):
        table.scores[0, 0] = 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"teachers": ("lseg", "lseg")}, "different name for every teacher.*'lseg' twice"),
        ({"classes": ("a", "b", "")}, "every class.*empty"),
        ({"teachers": ()}, "at least one teacher"),
        ({"scores": SCORES[:, :2]}, r"scores.*\(2, 3\), not \(2, 2\)"),
        ({"scores": SCORES + 0.2}, "scores of 'lseg' for 'sofa' are 1.1"),
        ({"scores": np.where(SCORES == 0, np.nan, SCORES)}, "'seem' for 'wall' are nan"),
        ({"pooled": -SCORES}, "pooled of 'lseg' for 'wall' are -0.1"),
        ({"intervals": np.zeros((2, 3))}, r"intervals.*\(2, 3, 2\)"),
        ({"intervals": np.tile([0.5, 0.4], (2, 3, 1))}, "ends below"),
        ({"pooled_intervals": np.zeros((2, 3))}, r"pooled_intervals.*\(2, 3, 2\)"),
        ({"pooled_intervals": np.tile([0.5, 0.4], (2, 3, 1))}, "ends below"),
        ({"pooled": None}, "intervals of pooled scores, but not these"),
        ({"level": 1.0}, "level"),
        ({"made": Measurement(prompts=("a photo",))}, "exactly one"),
        ({"made": Measurement(images_per_class=-1)}, "fewer than 0"),
    ],
)
def test_parts_that_do_not_fit_are_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SasError, match=sentence):
        some(**changes)


def test_notes_that_are_not_plain_are_refused() -> None:
    with pytest.raises(SasError, match="plain JSON"):
        some(made=Measurement(notes={"x": np.float32(1)})).to_json()


def edited(*keys: str, to: Any) -> str:
    content: Any = json.loads(some().to_json())
    place = content
    for key in keys[:-1]:
        place = place[key]
    if to is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = to
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no readable JSON"),
        ("[" * 100_000, "no readable JSON"),
        ("[1]", "no capability table"),
        (edited("kind", to="x"), "no capability table"),
        (edited("format_version", to=2), "format 2"),
        (edited("scores", to=None), "damaged.*'scores'"),
        (edited("made", to=None), "damaged.*'made'"),
        (edited("made", "seeds", to=["a"]), "damaged.*'seeds'"),
        (edited("made", "prompts", to="a {}"), "damaged.*'prompts'"),
        (edited("made", "models", to={"a": 1}), "damaged.*'models'"),
        (edited("teachers", to=["lseg"]), "damaged.*one entry for each teacher"),
        (edited("scores", "wall", to=[0.5]), "'wall'.*one entry for each teacher"),
        (edited("scores", "wall", to=[0.5, "x"]), "'wall'.*one entry for each teacher"),
        (edited("scores", "wall", to=[0.5, [1]]), "'wall'.*one entry for each teacher"),
        (edited("scores", "wall", to=[0.5, 2]), "'seem' for 'wall' are 2"),
        (edited("scores", "wall", to=[0.5, float("nan")]), "'seem' for 'wall' are nan"),
        (edited("scores", to={}), "classes of pooled are not those of scores"),
        (edited("pooled", "wall", to=None), "classes of pooled are not those of scores"),
        (edited("intervals", "wall", to=[0.5, 0.5]), "'wall'.*one entry for each teacher"),
        (edited("pooled_intervals", to=[0.5]), "damaged.*'pooled_intervals'"),
        (edited("pooled_intervals", "wall", to=[0.5, 0.5]), "'wall'.*one entry for each teacher"),
        (edited("level", to="high"), "damaged.*'level'"),
    ],
)
def test_a_wrong_file_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(SasError, match=sentence):
        CapabilityTable.load(path)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SasError, match="There is no capability table"):
        CapabilityTable.load(tmp_path / "none.json")
