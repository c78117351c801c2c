"""The first thing to try with new scenes: can a student learn one of them by heart?

With everything right, the cosine loss on a single scene without augmentation falls below 0.05
within a few hundred steps. A loss that stays at 0.2 or more has been traced to points, features and
poses that do not belong together (method reference 9.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sas_ros.errors import SasError
from sas_training.distill.distiller import Distiller, LoopSettings
from sas_training.distill.feature_scenes import FeatureScenes
from sas_training.distill.parallel import Processes
from sas_training.distill.recipes import Recipe
from sas_training.distill.run_folder import RunFolder
from sas_training.distill.self_distillation import variant
from sas_training.distill.stages import Texts

GOAL = 0.05
"""Cosine loss of points at which a scene counts as learned."""


@dataclass(frozen=True)
class OverfitStep:
    """The cosine loss of points after so many steps."""

    number: int
    loss: float

    @property
    def learned(self) -> bool:
        return self.loss < GOAL


def overfit_recipe(recipe: Recipe, steps: int, rate: float) -> Recipe:
    """The same student and targets on one whole scene, 1 - cos, a constant learning rate."""
    return replace(
        recipe,
        samples=replace(recipe.samples, crop=(0.0, 0.0)),
        augment=replace(recipe.augment, style="none"),
        objective=replace(recipe.objective, distance="cosine", max_voxels=0),
        schedule=replace(
            recipe.schedule,
            epochs=steps,
            repeats=1,
            batch=1,
            accumulate=1,
            learning_rate=rate,
            final_learning_rate=0.0,
            schedule="constant",
            warmup=0,
            ema=0.0,
        ),
        self_distillation=variant("none"),
    )


def overfit(
    scenes: FeatureScenes,
    texts: Texts,
    recipe: Recipe,
    run: RunFolder,
    processes: Processes,
    steps: int,
    rate: float = 2e-3,
) -> Iterator[OverfitStep]:
    """Train on the first scene alone until it is learned, or for so many steps.

    Nothing is kept in `run`. Raises `SasError` where several processes train.
    """
    if processes.world > 1:
        raise SasError("--overfit is for one process; start it without torchrun.")
    plain = overfit_recipe(recipe, steps, rate)
    loop = LoopSettings(workers=0, checkpoint_every=steps + 1)
    trainer = Distiller(scenes.first(1), texts, plain, run, processes, loop)
    for step in trainer.steps():
        done = OverfitStep(step.number, step.losses["points"])
        yield done
        if done.learned:
            return
