"""A distillation small enough for tests: a thin network on box rooms, run in this process."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from encoders import HashEncoder

from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig
from sas_training.distill.distiller import Distiller, LoopSettings
from sas_training.distill.feature_scenes import FeatureScenes
from sas_training.distill.objectives import ObjectiveSettings
from sas_training.distill.parallel import Processes, joined
from sas_training.distill.recipes import (
    NetworkSettings,
    Recipe,
    SampleSettings,
    ScheduleSettings,
)
from sas_training.distill.run_folder import RunFolder
from sas_training.distill.scene_augment import AugmentSettings
from sas_training.distill.self_distillation import SelfDistillation, variant
from sas_training.distill.stages import Texts

WORDS = HashEncoder().encode([str(number) for number in range(20)])
TEXTS = Texts(WORDS, WORDS)


@dataclass(frozen=True)
class ThinNetwork(NetworkSettings):
    """A family of its own: 8 channels everywhere."""

    def config(self, channels: int) -> MinkUNetConfig:
        return MinkUNetConfig(len(self.inputs), channels, 8, (8,) * 8, (1,) * 8)


def stage_two(**changes: Any) -> SelfDistillation:
    """The paper's, beginning after two epochs, its history after one."""
    return replace(variant("paper"), **{"start_epoch": 2, "history_epoch": 1, **changes})


def small_recipe(
    schedule: dict[str, Any] | None = None,
    objective: dict[str, Any] | None = None,
    stage: SelfDistillation | None = None,
    norms: str = "batch",
    style: str = "reference",
) -> Recipe:
    """Two scenes a step, so two steps an epoch of four scenes; four epochs."""
    values = {"epochs": 4, "batch": 2, "learning_rate": 5e-3, "optimiser": "adamw", "clip": 5.0}
    return Recipe(
        seed=3,
        network=ThinNetwork("tiny", ("one", "height"), norms),
        samples=SampleSettings(0.25),
        augment=AugmentSettings(style=style),
        objective=ObjectiveSettings(**(objective or {})),
        schedule=ScheduleSettings(**{**values, **(schedule or {})}),
        self_distillation=stage or variant("none"),
    )


def make_distiller(
    scenes: Path,
    run: RunFolder,
    recipe: Recipe,
    processes: Processes | None = None,
    checkpoint_every: int = 3,
    start: MinkUNet | None = None,
) -> Distiller:
    return Distiller(
        FeatureScenes(scenes),
        TEXTS,
        recipe,
        run,
        processes or Processes(torch.device("cpu")),
        LoopSettings(workers=0, checkpoint_every=checkpoint_every),
        start,
    )


def train_until_killed(scenes: Path, run: Path, recipe: Recipe, die_at: int) -> None:
    """Train to the end, in a process of its own, which dies (SIGKILL) before its `die_at`-th call
    that changes the disk; 0: it lives."""
    calls = 0

    def counted(name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **keywords)

        setattr(os, name, call)

    for name in ("fsync", "replace", "unlink"):
        counted(name)
    torch.set_num_threads(1)
    with RunFolder(run) as folder:
        for _ in make_distiller(scenes, folder, recipe).steps():
            pass


def train_together(
    rank: int, world: int, meet: str, scenes: Path, folder: Path, recipes: dict[str, Recipe]
) -> None:
    """Train each recipe in turn as one of several processes; leaves behind the first step's losses
    and gradients, and the last weights, as FOLDER/NAME-RANK.pt."""
    torch.set_num_threads(1)
    with joined("cpu", rank=rank, world=world, meet=meet) as processes:
        for name, recipe in recipes.items():
            with RunFolder(folder / f"{name}-{rank}") as own:
                # Only the first process writes; the others have the same folder to read from.
                run = own if processes.first else RunFolder(folder / f"{name}-0")
                trainer = make_distiller(scenes, run, recipe, processes)
                found: dict[str, Any] = {}
                for step in trainer.steps():
                    if step.number == 1:
                        found = {"losses": step.losses, "voxels": step.voxels}
                        found["gradients"] = [p.grad.clone() for p in trainer.network.parameters()]
                found["weights"] = trainer.network.state_dict()
                torch.save(found, folder / f"{name}-{rank}.pt")
