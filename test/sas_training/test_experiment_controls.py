"""Controls of the ablation: what their students are told, and what they need."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_training.experiment.controls import (
    ABLATION_ROWS,
    CONTROLS,
    STEPS,
    ControlFiles,
    spread_words,
    stages_of,
    with_history,
    with_noise,
)
from sas_training.experiment.controls_result import markdown
from sas_training.experiment.files import Files
from sas_training.experiment.settings import load_settings
from sas_training.experiment.students import recipe_of
from sas_training.experiment.words import Words, make_words


def _files(run: Path) -> ControlFiles:
    tiny = load_settings("tiny")
    return ControlFiles(Files(run, tiny, tiny.development))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0, 1))
def test_noise_changes_whole_superpoints_and_nothing_else(
    seed: int, count: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 3, 7, 255], size=count)
    owner = rng.integers(-1, 6, size=count)
    found = with_noise(labels, owner, share, rng)
    outside = (owner < 0) | (labels == 255)
    assert np.array_equal(found[outside], labels[outside])
    for group in set(owner[~outside].tolist()):
        inside = ~outside & (owner == group)
        assert np.array_equal(found[inside], labels[inside]) or len(set(found[inside])) == 1
    assert set(found.tolist()) <= set(labels.tolist())


def test_the_share_of_noise_is_what_it_says() -> None:
    labels = np.repeat(np.arange(20), 500)
    owner = np.arange(len(labels))
    rng = np.random.default_rng(0)
    assert np.array_equal(with_noise(labels, owner, 0.0, rng), labels)
    # Drawn by chance, one of twenty is right again.
    wrong = np.mean(with_noise(labels, owner, 0.7, rng) != labels)
    assert wrong == pytest.approx(0.7 * 0.95, abs=0.02)


class _Alike:
    """Text vectors that are nearly the same for all texts."""

    name, dim = "alike", 48

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.ones((len(texts), self.dim)) + 0.3 * np.eye(len(texts), self.dim)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_spread_text_vectors_are_no_longer_alike(tmp_path: Path) -> None:
    files = _files(tmp_path)
    words = make_words(_Alike(), "a {}", ["cup"])
    words.save(files.ablation.words)
    spread_words(files)
    found = Words.load(files.words("spread"))
    assert (found.texts, found.prompt) == (words.texts, words.prompt)
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)

    def highest(one: Words) -> float:
        cosines = one.classes @ one.classes.T
        return float((cosines - 2 * np.eye(len(cosines))).max())

    assert highest(words) > 0.9 and highest(found) < 0.01
    assert files.words("truth") == files.words("noise") == files.ablation.words


def test_each_control_changes_one_thing() -> None:
    base = load_settings("small").student
    by_name = {one.name: one for one in CONTROLS}
    for control in CONTROLS:
        own = recipe_of(control.of, base, 5)
        longer = 5 if control.told == "noise" or control.name == "3d/truth-longer" else 1
        schedule = replace(own.schedule, epochs=own.schedule.epochs * longer)
        stage = own.self_distillation
        if stage.used:  # the same share of the steps is stage 2
            stage = replace(
                stage,
                history_epoch=stage.history_epoch * longer,
                start_epoch=stage.start_epoch * longer,
            )
            stage = with_history(stage, control.history)
        changed = replace(own, schedule=schedule, self_distillation=stage)
        assert control.recipe(base, 5) == replace(changed, description=control.name)
    assert by_name["3d/noise"].told == by_name["3d/noise-self-distillation"].told
    names = {*by_name, *ABLATION_ROWS}
    assert {name for step in STEPS for name in step} <= names


@pytest.mark.parametrize("scale", ["tiny", "small", "full"])
def test_histories_that_move_forget_as_much_in_an_epoch(scale: str) -> None:
    base = load_settings(scale).student
    noise = [one.recipe(base, 5).self_distillation for one in CONTROLS if one.told == "noise"]
    moving, whole, fixed = noise[1:]
    assert [one.views for one in (moving, whole, fixed)] == ["training", "whole", "training"]
    assert moving.alpha == pytest.approx(0.9, abs=3e-3)
    assert whole.alpha ** (1 / whole.history_every) == pytest.approx(moving.alpha, abs=1e-4)
    assert fixed.initialise and fixed.alpha > 0.999


def test_every_control_comes_after_what_it_reads(tmp_path: Path) -> None:
    files = _files(tmp_path)
    made: set[Path] = set()
    for stage in stages_of(files):
        for job in stage.jobs:
            assert set(job.after) <= made, stage.title
            made |= set(job.files)
    targets = [job.target for stage in stages_of(files) for job in stage.jobs]
    assert len(set(targets)) == len(targets)


def test_the_published_page_belongs_to_the_published_result() -> None:
    folder = Path(__file__).parents[2] / "docs" / "results"
    result = json.loads((folder / "controls.json").read_text())
    assert (result["kind"], result["seeds"]["group"]) == ("sas_controls", "final")
    assert (folder / "controls.md").read_text() == markdown(result)
    said = (folder.parent / "experiment.md").read_text()
    told = {one["name"]: one for one in result["students"]}
    for row in result["rows"]:
        own = told[row["name"]]
        mean, low, high = (f"{100 * row[key]:.1f}" for key in ("miou_mean", "low", "high"))
        rooms = f"{100 * own['miou']:.1f} | {100 * own['teacher_miou']:.1f}"
        assert f"| `{row['name']}` | {mean} ({low} to {high}) | {rooms} |" in said
