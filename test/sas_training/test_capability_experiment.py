"""Capabilities against the truth: the figures, the file, and the whole of it, interrupted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from untrained import untrained_ablation, untrained_priors

from sas_ros.errors import SasError
from sas_ros.language.available import MINILM, encoder_available
from sas_training.capability.pseudo_masks import RejectionRule
from sas_training.capability.running import NothingLeft
from sas_training.capability.table import CapabilityTable
from sas_training.cli import main
from sas_training.experiment import capability_files, capability_links, report
from sas_training.experiment.agreement import (
    HEADLINES,
    agreement,
    agreement_step,
    sign_agreement,
    sign_counts,
    spearman,
)
from sas_training.experiment.capability_chart import draw_agreement
from sas_training.experiment.capability_files import LINKS, VOCABULARY, CapabilityRun
from sas_training.experiment.capability_gain import gain_by_class, gain_shares
from sas_training.experiment.capability_page import markdown
from sas_training.experiment.capability_result import (
    LINK_STEPS,
    read_result,
    result_of,
    write_result,
)
from sas_training.experiment.capability_rows import CHANCE, ROWS, known_table
from sas_training.experiment.capability_settings import load_capability_settings
from sas_training.experiment.capability_stages import everything
from sas_training.experiment.capability_tables import Nothing, completed, load_measured
from sas_training.experiment.capability_truth import classes_shown, true_table
from sas_training.experiment.figures import RowCounts, row_figures
from sas_training.experiment.files import Files
from sas_training.experiment.rows import ROWS_2D
from sas_training.experiment.settings import (
    PAIR,
    SCALES,
    TEACHERS,
    ExperimentSettings,
    load_settings,
)
from sas_training.experiment.students import ROWS_3D
from sas_training.jobs import Job, Workers
from sas_training.priors.saving import PIPELINE, SEGMENTER
from sas_training.priors.settings import load_priors_settings
from sas_training.scenes.procedural.manifest import WORLD_VERSION


# ---------------------------------------------------------------------------------------- figures
def _rank(values: Sequence[float]) -> list[float]:
    """Mean rank of equal values, by counting."""
    return [
        sum(other < one for other in values) + (sum(other == one for other in values) + 1) / 2
        for one in values
    ]


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    a, b = _rank(first), _rank(second)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    both = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    size = sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)
    return both / size**0.5 if size else 0.0


_LISTS = st.integers(3, 12).flatmap(
    lambda n: st.tuples(
        *[st.lists(st.sampled_from([0, 0.1, 0.2, 0.7]), min_size=n, max_size=n)] * 2
    )
)


@settings(max_examples=80, deadline=None)
@given(_LISTS)
def test_rank_correlation_is_the_definition(pair: tuple[list[float], list[float]]) -> None:
    first, second = (np.array(one) for one in pair)
    assert float(spearman(first, second)) == pytest.approx(_spearman(*pair), abs=1e-12)


def test_rank_correlation_is_that_of_scipy_on_every_row() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    first, second = rng.random((2, 5, 20)).round(1)
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(spearman(first, second), expected, atol=1e-12)


def test_signs_are_counted_where_teachers_truly_differ() -> None:
    true = np.array([0.2, -0.1, 0.0, 0.3, -0.4])
    measured = np.array([0.1, 0.1, 0.9, 0.0, -0.1])
    assert float(sign_agreement(measured, true)) == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert float(sign_agreement(measured, np.zeros(5))) == 0
    assert sign_counts(measured, true) == {"right": 2, "tied": 1, "wrong": 1}


def test_a_pair_is_compared_once_more_where_both_teachers_have_the_word() -> None:
    rng = np.random.default_rng(8)
    true, measured = rng.random((2, 3, 12))
    known = np.ones((3, 12), dtype=bool)
    known[1, [0, 4, 5]] = False
    found = agreement(TEACHERS, measured, true, 1, known)
    assert {name: found[name] for name in HEADLINES} == {
        name: agreement(TEACHERS, measured, true, 1)[name] for name in HEADLINES
    }
    kept = [1, 2, 3, 6, 7, 8, 9, 10, 11]
    one, other = (values[0, kept] - values[1, kept] for values in (measured, true))
    pair = found["pairs"]["surfaces - objects"]
    both = pair["known_to_both"]
    assert both["n"] == 9
    assert both["spearman_difference"]["value"] == pytest.approx(
        _spearman(one.tolist(), other.tolist())
    )
    assert both["sign_agreement"]["value"] == pytest.approx(
        sum(a * b > 0 for a, b in zip(one, other, strict=True)) / 9
    )
    assert sum(both["signs"].values()) == 9
    assert sum(pair["signs"].values()) == 12
    assert both != found["pairs"]["surfaces - distant"]["known_to_both"]
    known[1] = False
    none = agreement(TEACHERS, measured, true, 1, known)["pairs"]
    assert none["surfaces - objects"]["known_to_both"] is None
    assert none["surfaces - distant"]["known_to_both"]["n"] == 12


def test_two_ways_to_measure_are_compared_on_the_same_draws() -> None:
    rng = np.random.default_rng(5)
    true = rng.random((3, 20))
    worse = true + rng.normal(0, 0.3, true.shape)
    same = agreement_step(worse, worse + 0, true, 3)
    step = agreement_step(true, worse, true, 3)
    back = agreement_step(worse, true, true, 3)
    alone = agreement(TEACHERS, worse, true, 3)
    for name in HEADLINES:
        assert same[name] == {"value": 0, "low": 0, "high": 0}
        # All of the truth's own figures are 1, in every draw.
        for end in ("value", "low", "high"):
            assert step[name][end] == pytest.approx(alone[name][end] - 1)
        assert back[name]["low"] == pytest.approx(-step[name]["high"])


def _counts(hit: Sequence[float], rooms: int = 6) -> RowCounts:
    """A row that is right for these shares of the points of the classes, in every room about."""
    rng = np.random.default_rng(3)
    counts = np.zeros((1, rooms, 20, 21), dtype=np.int64)
    for room in range(rooms):
        for label, share in enumerate(hit):
            right = round(1000 * share) + int(rng.integers(3))
            counts[0, room, label, label] = right
            counts[0, room, label, 20] = 1003 - right  # said nothing, so that unions do not change
    return RowCounts(counts, counts)


def test_shares_of_the_gain_and_the_classes_it_comes_from() -> None:
    hits = {name: [0.2, 0.2, 0.2] for name in ROWS}
    hits |= {"2d/true-rooms": [0.2, 0.6, 0.8], "2d/diffusion": [0.2, 0.2, 0.7]}
    hits |= {"2d/known-words": [0.2, 0.2, 0.3], "2d/true-pictures": [0.2, 0.6, 0.8]}
    rows = {name: _counts(one) for name, one in hits.items()}
    shares = gain_shares(rows, 1)
    expected = {"2d/known-words": 0.1, "2d/diffusion": 0.5, "2d/true-pictures": 1.0}
    for name, value in expected.items():
        share = shares[name]
        assert share is not None
        assert share["value"] == pytest.approx(value, abs=0.005)
        assert share["low"] <= share["value"] <= share["high"] <= share["low"] + 0.05
    weights = np.ones((1, 6), dtype=np.int64)
    entries = [row_figures(name, row, weights) for name, row in rows.items()]
    by_class = gain_by_class(entries)
    assert list(by_class["2d/diffusion"]) == ["wall", "floor", "cabinet"]
    assert by_class["2d/diffusion"]["cabinet"] == pytest.approx(0.5 * 1000 / 1003 / 3, abs=1e-3)
    for name, gains in by_class.items():
        first, last = (next(e["miou_mean"] for e in entries if e["name"] == one)
                       for one in ("2d/addition", name))  # fmt: skip
        assert sum(gains.values()) == pytest.approx(last - first)
    rows["2d/true-rooms"] = rows["2d/addition"]
    assert set(gain_shares(rows, 1).values()) == {None}


def test_the_control_of_known_words_is_made_of_settings_alone(tmp_path: Path) -> None:
    about, _ = _held_out(tmp_path)
    small = load_settings("small")
    of_small = CapabilityRun(
        tmp_path, about.settings, Files(tmp_path, small, small.final), tmp_path
    )
    surfaces, objects, distant = known_table(of_small).aligned(TEACHERS, VOCABULARY)
    assert (surfaces == 1).all()
    assert (distant == 1).all()
    unknown = [name for name, knows in zip(VOCABULARY, objects, strict=True) if not knows]
    assert unknown == ["door", "window", "picture", "counter", "curtain", "shower curtain"]
    assert set(objects) == {0, 1}


def test_keys_say_nothing_of_the_first_rule_and_something_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about, _ = _held_out(tmp_path)
    first = about.table("sam")

    @dataclass(frozen=True)
    class Stricter(RejectionRule):
        least_score: float = 0.8

    monkeypatch.setattr(capability_files, "RejectionRule", Stricter)
    # `tiny` rejects nothing, so that the rule does not count.
    assert about.table("sam") == first
    rejecting = replace(about, settings=replace(about.settings, reject=True))
    other = rejecting.table("sam")
    monkeypatch.undo()
    assert rejecting.table("sam") != other


def test_figures_of_perfect_and_of_reversed_capabilities() -> None:
    rng = np.random.default_rng(4)
    true = rng.random((3, 15))
    best = agreement(TEACHERS, 0.5 * true + 0.1, true, 1)
    assert best["n"] == 15
    for name in HEADLINES:
        assert best[name] == pytest.approx({"value": 1.0, "low": 1.0, "high": 1.0})
    worst = agreement(TEACHERS, 1 - true, true, 1)
    assert worst["spearman"]["value"] == worst["spearman_difference"]["value"] == pytest.approx(-1)
    assert worst["sign_agreement"]["value"] == 0
    measured = true + rng.normal(0, 0.3, true.shape)
    noisy = agreement(TEACHERS, measured, true, 1)
    assert noisy == agreement(TEACHERS, measured, true, 1) != agreement(TEACHERS, measured, true, 2)
    for name in HEADLINES:
        assert noisy[name]["low"] < noisy[name]["value"] < noisy[name]["high"]
    assert set(noisy["pairs"]) == {
        "surfaces - objects", "surfaces - distant", "objects - distant",
    }  # fmt: skip
    means = [one["value"] for one in noisy["teachers"].values()]
    assert noisy["spearman"]["value"] == pytest.approx(np.mean(means))


def test_a_table_is_completed_without_preferring_anybody() -> None:
    table = CapabilityTable(("a", "b"), ("bed", "chair"), np.array([[0.2, 0.4], [0.6, 0.8]]))
    whole = completed(table)
    assert set(whole.classes) == set(VOCABULARY)
    values = whole.aligned(("a", "b"), ("bed", "wall"))
    np.testing.assert_allclose(values, [[0.2, 0.5], [0.6, 0.5]])
    assert completed(whole) is whole
    pooled = completed(replace(table, pooled=np.array([[0.1, 0.2], [0.3, 0.4]])))
    values = pooled.aligned(("a", "b"), ("chair", "wall"), measure="micro")
    np.testing.assert_allclose(values, [[0.2, 0.25], [0.4, 0.25]])


def _held_out(tmp_path: Path) -> tuple[CapabilityRun, CapabilityTable]:
    """A run, and the truth of its rooms, which do not show the last three classes."""
    rng = np.random.default_rng(7)
    of = load_settings("tiny")
    about = CapabilityRun(
        tmp_path,
        load_capability_settings("tiny"),
        Files(tmp_path, of, of.development),
        tmp_path,
    )
    report = {"kind": "sas_priors", "format_version": 1, "weights": ["a", "b", "c"]}
    report |= {"training": {}, "settings": load_priors_settings("tiny").to_dict()}
    for name in (PIPELINE, SEGMENTER):
        (tmp_path / name).mkdir()
    (tmp_path / "priors.json").write_text(json.dumps(report))
    shown = np.array([50] * (len(VOCABULARY) - 3) + [0] * 3)
    for index in range(about.ablation.rooms("held_out")):
        about.truth(index).parent.mkdir(parents=True, exist_ok=True)
        union = np.full((3, len(VOCABULARY)), 100)
        overlap = rng.integers(1, 50, union.shape) * (shown > 0)
        np.savez(about.truth(index), overlap=overlap, union=union, shown=shown)
    return about, true_table(about)


_COUNTS = np.ones((1, 2, 20, 20), dtype=np.int64)
_ROWS = {PAIR: {name: RowCounts(_COUNTS, _COUNTS) for name in ROWS}}


def _plain(result: dict[str, Any]) -> Any:
    return json.loads(json.dumps(result))


def test_links_are_compared_on_classes_that_are_shown_and_measured_by_all(tmp_path: Path) -> None:
    about, truth = _held_out(tmp_path)
    assert classes_shown(truth) == VOCABULARY[:-3]
    assert truth.made.notes["pixels"]["wall"] == 50 * about.ablation.rooms("held_out")
    tables = {}
    for number, name in enumerate(LINKS):
        kept = VOCABULARY[number:]
        values = truth.aligned(TEACHERS, kept) + np.isin(kept, VOCABULARY[-3:])
        tables[name] = CapabilityTable(TEACHERS, kept, values)
    result = result_of(about, "development", truth, tables, _ROWS)
    names = list(VOCABULARY[4:-3])
    assert [one["class"] for one in result["per_class"]] == names
    assert result["left_out"] == {
        "not_shown": list(VOCABULARY[-3:]),
        "not_measured": list(VOCABULARY[:4]),
    }
    for number, link in enumerate(result["links"].values()):
        assert link["n"] == result["n"] == len(names)
        assert link["measured"] == len(VOCABULARY) - number
        assert link["spearman"]["value"] == pytest.approx(1)
        assert link["sign_agreement"]["value"] == 1
        assert link["mean_error"] == 0
        assert link["pairs"]["surfaces - objects"]["signs"]["wrong"] == 0
    assert [(one["from"], one["to"]) for one in result["link_steps"]] == list(LINK_STEPS)
    assert all(one["spearman"]["value"] == pytest.approx(0) for one in result["link_steps"])
    assert set(result["per_class"][0]["used"]) == set(LINKS)
    assert result["per_class"][0]["known"] == dict.fromkeys(TEACHERS, True)
    assert set(result["gain_shares"].values()) == {None}  # all rows are the same
    unseen = {name: CapabilityTable(TEACHERS, ("sink",), np.ones((3, 1))) for name in LINKS}
    result = result_of(about, "development", truth, unseen, _ROWS)
    assert result["n"] == 0
    assert result["per_class"] == []
    for one in (result, *result["links"].values()):
        assert "measured by every link" in one["reason"]
        assert all(one[name] is None for name in HEADLINES)
    write_result(tmp_path / "out", result)
    assert read_result(tmp_path / "out" / "capability.json") == _plain(result)
    # Which world this is; a result of before that was written down is read as it is.
    assert result["world_version"] == WORLD_VERSION
    said = f"Rooms and pictures are of version {WORLD_VERSION} of the world."
    assert said in (tmp_path / "out" / "capability.md").read_text()
    older = {name: value for name, value in result.items() if name != "world_version"}
    assert said not in markdown(older)
    write_result(tmp_path / "older", older)
    assert read_result(tmp_path / "older" / "capability.json") == _plain(older)


def test_a_link_that_measured_nothing_says_so_and_leaves_the_others_alone(tmp_path: Path) -> None:
    about, truth = _held_out(tmp_path)
    nothing = Nothing({"bed": {"unsure mask": 2}, "chair": {"unsure mask": 1, "small mask": 5}})
    every = CapabilityTable(TEACHERS, VOCABULARY, truth.aligned(TEACHERS, VOCABULARY))
    middle = {name: nothing if name == "sam" else every for name in LINKS}
    result = result_of(about, "final", truth, middle, _ROWS)
    assert result["n"] == len(VOCABULARY) - 3
    assert result["reason"] is None
    assert result["spearman"]["value"] == pytest.approx(1)
    link = result["links"]["sam"]
    assert link["reason"] == "All 8 images were left out (small mask: 5, unsure mask: 3)."
    assert link["rejected"] == {"small mask": 5, "unsure mask": 3}
    assert (link["n"], link["measured"], link["used"]) == (0, 0, {})
    assert all(link[name] is None for name in (*HEADLINES, "mean_error"))
    assert "sam" not in result["per_class"][0]
    assert [one["from"] for one in result["link_steps"]] == ["attention", "coarse"]
    write_result(tmp_path / "middle", result)
    assert read_result(tmp_path / "middle" / "capability.json") == _plain(result)

    last = {name: nothing if name == "generated" else every for name in LINKS}
    result = result_of(about, "final", truth, last, _ROWS)
    assert result["n"] == 0
    assert all(result[name] is None for name in (*HEADLINES, "fused_pair"))
    assert result["reason"] == link["reason"]
    assert result["links"]["coarse"]["n"] == len(result["per_class"]) == len(VOCABULARY) - 3
    write_result(tmp_path / "last", result)
    assert read_result(tmp_path / "last" / "capability.json") == _plain(result)
    page = (tmp_path / "last" / "capability.md").read_text()
    assert f"{LINKS['generated']}: All 8 images" in page
    assert f"Of {LINKS['coarse']}, by teacher" in page
    assert "| none | none | none | none |" in page


def test_a_link_without_any_image_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about, _ = _held_out(tmp_path)

    def nothing_left(*_: Any) -> None:
        raise NothingLeft("All 3 images were left out.", {"bed": {"unsure mask": 3}})

    monkeypatch.setattr(capability_links, "run", nothing_left)
    monkeypatch.setattr(CapabilityRun, "callers", lambda _: {})
    monkeypatch.setattr(CapabilityRun, "table", lambda _, name: tmp_path / f"{name}.json")
    monkeypatch.setattr(CapabilityRun, "link", lambda _, name: tmp_path / name)
    monkeypatch.setattr(CapabilityRun, "pictures", tmp_path)
    capability_links._link(about, "truth")
    found = load_measured(about.table("truth"))
    assert found == Nothing({"bed": {"unsure mask": 3}})
    flat = completed(found)
    assert flat.classes == VOCABULARY
    assert len(np.unique(flat.aligned(TEACHERS, VOCABULARY))) == 1
    about.table("truth").write_text('{"kind": "sas_nothing_measured", "format_version": 1}')
    with pytest.raises(SasError, match="damaged"):
        load_measured(about.table("truth"))
    about.table("truth").write_text("{")
    with pytest.raises(SasError, match="no readable JSON"):
        load_measured(about.table("truth"))


# --------------------------------------------------------------------------------------- settings
@pytest.mark.parametrize("scale", SCALES)
def test_settings_of_every_scale_are_read(scale: str) -> None:
    found = load_capability_settings(scale)
    assert found.scale == found.ablation == scale


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imags = 1", "no key 'imags'"),
        ("images = 0", "images must be 1 or more"),
        ("noise = [1.0]", "shares of noise"),
        ("noise = []", "shares of noise"),
    ],
)
def test_mistakes_in_settings_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(SasError, match=message):
        load_capability_settings(str(path))
    with pytest.raises(SasError, match="tiny, small, full"):
        load_capability_settings("huge")


# ------------------------------------------------------------------------------- from end to end
class _Killed(Exception):
    pass


class _Interrupted(Workers):
    """Stops in every stage once, after its first job."""

    def __init__(self) -> None:
        super().__init__(1, lambda text: None)
        self.stopped: list[str] = []

    def do(self, title: str, jobs: Sequence[Job]) -> None:
        missing = [job for job in jobs if not job.target.exists()]
        if missing and title not in self.stopped:
            missing[0].run()
            self.stopped.append(title)
            raise _Killed
        super().do(title, jobs)


def test_the_whole_experiment_goes_on_wherever_it_was_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("scipy", "numba", "tqdm", "diffusers", "transformers"):
        pytest.importorskip(package)
    why_not = encoder_available(MINILM)
    if why_not is not None:
        pytest.skip(why_not)
    # Enough rooms that beds and chairs are seen.
    files = untrained_ablation(tmp_path / "ablation", held_out=4, frames=2, points=1500)
    priors = tmp_path / "priors"
    untrained_priors(priors)
    config = tmp_path / "own.toml"
    tiny = Path("config/experiment/capability-tiny.toml")
    text = (Path(__file__).parents[2] / tiny).read_text()
    config.write_text(text.replace('"tiny"\nimages', f'"{files.run}/ablation.toml"\nimages'))
    about = CapabilityRun(tmp_path / "run", load_capability_settings(str(config)), files, priors)
    workers = _Interrupted()
    for _ in range(12):
        try:
            everything(about, "development", workers)
            break
        except _Killed:
            continue
    assert workers.stopped == [
        "teachers in held-out frames",
        "true pictures",
        "their attention",
        *(f"capabilities: {what}" for what in LINKS.values()),
        "fusions in held-out rooms",
    ]
    capsys.readouterr()
    out = tmp_path / "result"
    line = ["experiment", "capability", "--scale", str(config), "--run", str(about.run)]
    line += ["--ablation", str(files.run), "--priors", str(priors), "-o", str(out)]
    assert main([*line, "--workers", "1", "--json"]) == 0
    printed, said = capsys.readouterr()
    assert "to make" not in said
    result = json.loads(printed)
    assert result == read_result(out / "capability.json")
    assert result["n"] == 2
    assert [one["class"] for one in result["per_class"]] == ["bed", "chair"]
    assert list(result["links"]) == list(LINKS)
    assert [row["name"] for row in result["rows"]] == list(ROWS)
    assert list(result["other_pairs"]) == ["surfaces - distant", "objects - distant"]
    for pair in result["other_pairs"].values():
        assert [row["name"] for row in pair["rows"]] == [row for row in ROWS if row != CHANCE]
    assert (out / "capability.png").stat().st_size > 1000
    page = (out / "capability.md").read_text()
    assert "| generated images, attention, SAM | 2 of 2 |" in page
    assert "| 2d/diffusion |" in page
    assert "| 2d/known-words |" in page
    assert "Fusion of surfaces - distant in their place:" in page

    report = (priors / "priors.json").read_text()
    for other, named in (
        (f'"world_version": {WORLD_VERSION - 1}', f"version {WORLD_VERSION - 1}"),
        ('"w": 4', "an unk"),
    ):
        own = f'"world_version": {WORLD_VERSION}'
        (priors / "priors.json").write_text(report.replace(own, other))
        with pytest.raises(SasError, match=rf"rooms of {named}.* Train them again"):
            everything(about, "development", workers)
    (priors / "priors.json").write_text(report)
    files.teacher("objects", 1).unlink()
    with pytest.raises(SasError, match="sas experiment ablation"):
        everything(about, "development", workers)


_PUBLISHED = Path(__file__).parents[2] / "docs" / "results"


def test_the_published_result_can_be_read_and_its_page_and_chart_belong_to_it() -> None:
    result = read_result(_PUBLISHED / "capability.json")
    assert (result["scale"], result["seeds"]["group"]) == ("small", "final")
    assert (_PUBLISHED / "capability.md").read_text() == markdown(result)
    pytest.importorskip("PIL")
    from sas_training.teachers.images import read_image

    chart = draw_agreement(result["per_class"], "generated", LINKS["generated"], TEACHERS, PAIR)
    difference = chart.astype(int) - read_image(_PUBLISHED / "capability.png")
    assert np.abs(difference).max() <= 1  # rounding of another machine
    # What docs/capability_experiment.md says of the pair.
    pair = result["fused_pair"]
    assert pair["signs"] == {"right": 13, "tied": 5, "wrong": 1}
    assert pair["sign_agreement"]["value"] == pytest.approx((13 + 5 / 2) / 19)
    said = (_PUBLISHED.parent / "capability_experiment.md").read_text()
    for row in result["rows"]:
        if row["name"] != "2d/true-pictures":
            assert f"{100 * row['miou_mean']:.1f} %" in said
    columns = [result, *result["other_pairs"].values()]
    for name, what in (("2d/addition", "addition"), ("2d/true-rooms", "true IoU of these rooms")):
        cells = [
            f"{100 * row['miou_mean']:.1f}"
            for figures in columns
            for row in figures["rows"]
            if row["name"] == name
        ]
        assert f"| {what} | {' | '.join(cells)} |" in said
    for share in result["gain_shares"].values():
        ends = " to ".join(f"{100 * share[end]:.0f}" for end in ("low", "high"))
        assert f"{100 * share['value']:.0f} % ({ends})" in said
    for link in result["links"].values():
        assert sum(link["used"].values()) + sum(link["rejected"].values()) == 320


def test_the_ablation_says_which_world_its_rooms_are_of() -> None:
    counts = np.ones((5, 2, 20, 21), dtype=np.int64)
    rows = {name: RowCounts(counts, counts) for name in (*ROWS_2D, *ROWS_3D)}
    made = report.result_of(ExperimentSettings(), "development", rows, {})
    assert made["world_version"] == WORLD_VERSION
    published = report.read_result(_PUBLISHED / "ablation.json")
    published.pop("world_version", None)  # as in results of before that was written down
    page = report.markdown(published)
    said = f" Rooms are of version {WORLD_VERSION} of the world."
    assert said not in page
    now = report.markdown({**published, "world_version": WORLD_VERSION})
    assert now.replace(said, "") == page != now


def _valid() -> dict[str, Any]:
    figure = {"value": 0.5, "low": 0.1, "high": 0.9}
    return {
        "kind": "sas_capability_experiment",
        "format_version": 1,
        **dict.fromkeys(HEADLINES, figure),
        "n": 1,
        "per_class": [{"class": "bed"}],
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "table"}, "no result of"),
        ({"format_version": 2}, "the format 2"),
        ({"spearman": 0.5}, "spearman is no value"),
        ({"spearman": {"value": 2.0, "low": 0, "high": 2.0}}, "spearman is no value"),
        ({"sign_agreement": {"value": 0.1, "low": -0.5, "high": 0.5}}, "sign_agreement is no"),
        ({"spearman_difference": {"value": 0, "low": 0.5, "high": 0.1}}, "difference is no value"),
        ({"n": 2}, "not the number of classes"),
        ({"n": 0, "per_class": []}, "not the number of classes"),
        ({"reason": ""}, "no sentence"),
        ({"reason": "All were left out."}, "is there although"),
        ({"spearman": None}, "spearman is no value"),
    ],
)
def test_a_damaged_result_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "capability.json"
    path.write_text(json.dumps(_valid()))
    assert read_result(path)["n"] == 1
    path.write_text(json.dumps({**_valid(), **change}))
    with pytest.raises(SasError, match=message):
        read_result(path)
    path.write_text("{")
    with pytest.raises(SasError, match="no readable JSON"):
        read_result(path)
    with pytest.raises(SasError, match="no result at"):
        read_result(tmp_path / "other.json")


def test_the_chart_shows_every_class() -> None:
    rng = np.random.default_rng(2)

    def values() -> dict[str, float]:
        return dict(zip(TEACHERS, rng.random(3).tolist(), strict=True))

    entries = [{"class": name, "true": values(), "generated": values()} for name in VOCABULARY]
    few = draw_agreement(entries[:2], "generated", "generated images", TEACHERS, TEACHERS[:2])
    many = draw_agreement(entries, "generated", "generated images", TEACHERS, TEACHERS[:2])
    ink = [np.count_nonzero((one < 250).any(axis=2)) for one in (few, many)]
    assert many.shape == few.shape
    assert ink[1] > ink[0] > 1000


def test_attention_of_given_images_is_a_map_of_each(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    if encoder_available(MINILM) is not None:
        pytest.skip("needs the offline text encoder")
    from sas_training.capability.pipelines import load_pipeline

    untrained_priors(tmp_path / "priors")
    model = load_pipeline(tmp_path / "priors" / PIPELINE, device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)

    def maps(seed: int, noise: tuple[float, ...] = (0.2, 0.6)) -> npt.NDArray[np.float32]:
        return capability_links.attention_of(
            model, images, "a good photo of {}", "bed", noise, "paper", (seed,)
        )

    first = maps(1)
    assert first.shape == (2, 32, 32)
    assert first.min() == 0
    assert first.max() == 1
    np.testing.assert_array_equal(first, maps(1))
    assert (first != maps(2)).any()
    assert (first != maps(1, (0.2,))).any()
    assert not any(
        "_Beside" in type(one).__name__ for one in model.pipe.unet.attn_processors.values()
    )
