"""Which losses a step has, and the history beside them: stages 1 and 2 of one run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_ros.sparse import CoordinateManager, SparseTensor
from sas_training.distill.feature_batches import BatchSettings, FeatureBatch, whole_scene
from sas_training.distill.feature_scenes import FeatureScenes
from sas_training.distill.history import History
from sas_training.distill.objectives import StudentFeatures, Targets, stage_one, stage_one_terms
from sas_training.distill.optimisation import Trunk, learning_rate
from sas_training.distill.recipes import Recipe
from sas_training.distill.self_distillation import (
    class_scores,
    initial_state,
    pseudo_labels,
    recall,
    remember,
    stage_two,
    stage_two_terms,
)

LOSSES = ("points", "superpoints", "self_points", "self_superpoints")
"""Parts of the loss: stage 1 on points and superpoints, stage 2 on points and superpoints."""


@dataclass(frozen=True, eq=False)
class Texts:
    """Unit text vectors of the words.

    Attributes:
        vocabulary: (K, C) float32, of the student's words.
        classes: (J, C) float32, of the words that stage 2 labels with.
    """

    vocabulary: npt.NDArray[np.float32]
    classes: npt.NDArray[np.float32]

    @property
    def classes_hash(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.classes, "<f4").tobytes()).hexdigest()


class Stages:
    """The losses of every step of a run. Steps count from 0.

    Args:
        steps: of an epoch.
        trunk: of the student that is trained.
        history: of the scenes.

    Attributes:
        total: steps of the run.
        history_from, stage_two_from: the first step with histories, and the first that learns from
            them; `total` where there is no stage 2.
    """

    def __init__(
        self,
        recipe: Recipe,
        steps: int,
        trunk: Trunk,
        texts: Texts,
        history: History,
        device: torch.device,
    ) -> None:
        self._recipe, self._trunk, self._history, self._device = recipe, trunk, history, device
        self._texts = torch.from_numpy(texts.vocabulary).to(device)
        self._classes = torch.from_numpy(texts.classes).to(device)
        stage = recipe.self_distillation
        self._between_passes = stage.history_every * steps
        self.total = recipe.schedule.epochs * steps
        self.history_from = stage.history_epoch * steps if stage.used else self.total
        self.stage_two_from = stage.start_epoch * steps if stage.used else self.total

    def learning_rate(self, step: int) -> float:
        """Over the whole run, or anew in stage 2 where that has its own optimiser."""
        schedule, start = self._recipe.schedule, self.stage_two_from
        if not self._recipe.self_distillation.fresh_optimiser or start >= self.total:
            return learning_rate(schedule, step, self.total)
        if step < start:
            return learning_rate(schedule, step, start)
        return learning_rate(schedule, step - start, self.total - start)

    def weight(self, name: str) -> float:
        """Of one of `LOSSES` in the sum that is minimised."""
        return self._recipe.self_distillation.weight if name.startswith("self_") else 1.0

    def counts(self, batch: FeatureBatch, step: int) -> list[float]:
        """Number of terms of each of `LOSSES` in a batch; 0 for one that is not in use."""
        terms: dict[str, int] = {}
        if self._uses_stage_one(step):
            terms.update(stage_one_terms(batch.targets, self._recipe.objective))
        if step >= self.stage_two_from:
            terms.update(stage_two_terms(batch))
        return [float(terms.get(name, 0)) for name in LOSSES]

    def terms(self, batch: FeatureBatch, step: int) -> dict[str, torch.Tensor]:
        """Sums of the losses in use over a batch; writes the histories of its scenes where these
        are of what the student says in training."""
        recipe, device = self._recipe, self._device
        student = self.features(batch)
        terms: dict[str, torch.Tensor] = {}
        if self._uses_stage_one(step):
            given = batch.targets
            targets = Targets(
                given.features.to(device).float(), given.superpoint.to(device), given.superpoints
            )
            rows = student.rows(batch.target_rows.to(device))
            terms.update(stage_one(rows, targets, self._texts, recipe.objective))
        stage = recipe.self_distillation
        states = None
        if step >= self.history_from and stage.views == "training":
            scores = class_scores(student, self._classes, stage)
            states = remember(self._history, batch, scores, step + 1, stage)
        if step >= self.stage_two_from:
            if states is None:
                states = recall(self._history, batch, self._last_pass(step))
            labels = pseudo_labels(batch, states, stage)
            terms.update(stage_two(student, batch, labels, self._classes, stage))
        return terms

    def features(self, batch: FeatureBatch, trunk: Trunk | None = None) -> StudentFeatures:
        """The features on the voxels of a batch, of the student or of another network."""
        manager = CoordinateManager(batch.coordinates.to(self._device))
        network = self._trunk if trunk is None else trunk
        return network.features(SparseTensor(batch.inputs.to(self._device), manager))

    def fill_history(
        self, scenes: FeatureScenes, numbers: Iterable[int], settings: BatchSettings, step: int
    ) -> None:
        """Histories of some scenes by a pass over them as they are or, in the style `reference`,
        turned and scaled, as the state after `step` steps; those that are there already stay."""
        stage = self._recipe.self_distillation
        for number in numbers:
            if self._history.step_of(scenes.names[number]) is not None:
                continue
            rng = np.random.default_rng((settings.seed, 14, number))
            batch = whole_scene(scenes.load(number, features=False), settings, rng)
            with torch.no_grad():
                scores = class_scores(self.features(batch), self._classes, stage)
            state = initial_state(batch.parts[0], scores, stage)
            self._history.write(scenes.names[number], step, state)

    def passes_over_scenes(self, step: int) -> bool:
        """Whether `renew_history` is due before a step."""
        since = step - self.history_from
        whole = self._recipe.self_distillation.views == "whole"
        return whole and since >= 0 and since % self._between_passes == 0

    def _last_pass(self, step: int) -> int:
        since = step - self.history_from
        return step - since % self._between_passes

    def renew_history(
        self,
        scenes: FeatureScenes,
        numbers: Iterable[int],
        settings: BatchSettings,
        step: int,
        trunk: Trunk,
    ) -> None:
        """Add what a network, in evaluation, says about some whole scenes to their histories, as
        the state after `step` steps; histories that are of that step already stay.

        Raises:
            SasError: it says what is no finite number.
        """
        stage = self._recipe.self_distillation
        for number in numbers:
            name = scenes.names[number]
            if self._history.step_of(name) == step:
                continue
            batch = whole_scene(scenes.load(number, features=False), settings)
            with torch.no_grad():
                scores = class_scores(self.features(batch, trunk), self._classes, stage)
            if not np.isfinite(scores).all():
                raise SasError(
                    f"What the student says about {name} is no finite number; set "
                    "schedule.precision to float32."
                )
            remember(self._history, batch, scores, step, stage)

    def _uses_stage_one(self, step: int) -> bool:
        return step < self.stage_two_from or self._recipe.self_distillation.keep_stage_one
