"""A run that begins where another one, the same so far, has been."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distillation import TEXTS, WORDS, small_recipe, stage_two
from teachers import write_scenes

from sas_ros.errors import SasError
from sas_training.distill.distiller import Distiller, LoopSettings, shared_epochs
from sas_training.distill.feature_scenes import FeatureScenes
from sas_training.distill.parallel import Processes
from sas_training.distill.recipes import Recipe
from sas_training.distill.run_folder import RunFolder
from sas_training.distill.self_distillation import variant

STEPS = 2
"""Of an epoch."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("world") / "scenes", WORDS, points=150, wrong=0.1)


def trained(
    scenes: Path,
    run: Path,
    recipe: Recipe,
    *,
    begin: Path | None = None,
    keep: dict[int, Path] | None = None,
) -> tuple[dict[str, bytes], list[int]]:
    """Weights at the end, and the numbers of the steps that were done here; after the steps of
    `keep` the checkpoint is copied."""
    cpu, loop = Processes(torch.device("cpu")), LoopSettings(workers=0)
    with RunFolder(run) as folder:
        distiller = Distiller(FeatureScenes(scenes), TEXTS, recipe, folder, cpu, loop, begin=begin)
        assert distiller.epoch_steps == STEPS
        done = []
        for step in distiller.steps():
            done.append(step.number)
            if keep and step.number in keep:
                folder.keep(keep[step.number])
        weights = distiller.student.state_dict()
        return {name: value.numpy().tobytes() for name, value in weights.items()}, done


def recipes(**stage: object) -> tuple[Recipe, Recipe]:
    """Without stage 2, and with it: its history begins after two of four epochs."""
    own = stage_two(**{"start_epoch": 3, "history_epoch": 2, **stage})
    return small_recipe({"ema": 0.9}), small_recipe({"ema": 0.9}, stage=own)


def test_it_ends_with_the_same_bytes(scenes: Path, tmp_path: Path) -> None:
    first, second = recipes()
    assert (shared_epochs(first), shared_epochs(second)) == (4, 2)
    copies = {STEPS * epoch: tmp_path / f"{epoch}.pt" for epoch in (1, 2, 3)}
    only_stage_one, _ = trained(scenes, tmp_path / "first", first, keep=copies)
    whole, done = trained(scenes, tmp_path / "whole", second)
    assert done == list(range(1, 4 * STEPS + 1)) and whole != only_stage_one
    for epoch in (1, 2):
        began, done = trained(
            scenes, tmp_path / f"second-{epoch}", second, begin=copies[STEPS * epoch]
        )
        assert began == whole
        assert done == list(range(STEPS * epoch + 1, 4 * STEPS + 1))
    # Its own checkpoint counts more.
    assert trained(scenes, tmp_path / "whole", second, begin=copies[STEPS]) == (whole, [])


def test_one_that_was_another_run_is_refused(scenes: Path, tmp_path: Path) -> None:
    first, second = recipes()
    copies = {STEPS * epoch: tmp_path / f"{epoch}.pt" for epoch in (2, 3)}
    trained(scenes, tmp_path / "first", first, keep=copies)
    with pytest.raises(SasError, match=r"is of step 6, but .* up to step 4 only"):
        trained(scenes, tmp_path / "late", second, begin=copies[6])
    for other in (replace(second, seed=9), small_recipe(stage=second.self_distillation)):
        with pytest.raises(SasError, match="other settings"):
            trained(scenes, tmp_path / "other", other, begin=copies[4])
    copies[4].write_bytes(b"nothing")
    with pytest.raises(SasError, match="cannot be read"):
        trained(scenes, tmp_path / "damaged", second, begin=copies[4])


def test_a_learning_rate_that_ends_with_stage_one_shares_nothing() -> None:
    fresh = replace(variant("released"), start_epoch=2, history_epoch=2)
    assert shared_epochs(small_recipe(stage=fresh)) == 0
