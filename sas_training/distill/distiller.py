"""The training loop of distillation: steps over scenes, stages 1 and 2, exact resuming.

Whatever a step does follows from the seed, its number and the state before it. So a run that was
killed at any instant and goes on from its checkpoint ends with the bytes that it would have ended
with, on a CPU with the same number of threads.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from sas_ros.errors import SasError
from sas_ros.student.minkunet import MinkUNet
from sas_training.distill.epoch_plan import EpochPlan
from sas_training.distill.feature_batches import BatchSettings, FeatureBatch, FeatureBatches
from sas_training.distill.feature_scenes import FeatureScenes
from sas_training.distill.history import History
from sas_training.distill.optimisation import Trunk, freeze_norms
from sas_training.distill.optimiser import Optimiser, student_optimiser
from sas_training.distill.parallel import Processes, synchronise_norms
from sas_training.distill.recipes import Recipe
from sas_training.distill.run_folder import RunFolder, load_checkpoint
from sas_training.distill.self_distillation import variant
from sas_training.distill.stages import LOSSES, Stages, Texts
from sas_training.jobs import end_with

_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class LoopSettings:
    """What does not change the result: processes that prepare batches, steps between checkpoints
    (0: an epoch)."""

    workers: int = 2
    checkpoint_every: int = 0


@dataclass(frozen=True)
class Step:
    """What one step did.

    Attributes:
        number: steps done, this one included.
        epoch: that it belonged to, from 0.
        losses: mean of each part of the loss that is in use, over all processes.
        loss: their weighted sum, what was minimised.
        learning_rate, gradient_norm: of this step; the norm before clipping.
        voxels: of all scenes and processes.
    """

    number: int
    epoch: int
    losses: dict[str, float]
    loss: float
    learning_rate: float
    gradient_norm: float
    voxels: int


class Distiller:
    """Distils 2D teachers' features into a student.

    Args:
        scenes: points, features and superpoints.
        texts: of the words.
        recipe: everything that decides the result beside these.
        run: folder of this run, entered already; a checkpoint found there is gone on from.
        processes: that train together.
        start: a student whose weights to begin with.
        begin: a checkpoint of a run that was the same so far, to go on from where this one has
            none: of the same recipe without stage 2, no further than `shared_epochs`.

    Attributes:
        network: that is trained.
        step: steps done; `total` when the run is finished.
        losses: of the last step, see `Step`.

    Raises:
        SasError: texts or student of another width, a checkpoint of other settings.
    """

    def __init__(
        self,
        scenes: FeatureScenes,
        texts: Texts,
        recipe: Recipe,
        run: RunFolder,
        processes: Processes,
        loop: LoopSettings | None = None,
        start: MinkUNet | None = None,
        begin: Path | None = None,
    ) -> None:
        for words in (texts.vocabulary, texts.classes):
            if words.shape[1] != scenes.channels:
                raise SasError(
                    f"The teachers' features have {scenes.channels} numbers, but the text vectors "
                    f"{words.shape[1]}: they come from different text encoders."
                )
        self._scenes, self._recipe, self._run = scenes, recipe, run
        self._processes, self._loop = processes, loop or LoopSettings()
        device = processes.device
        torch.manual_seed(recipe.seed)
        self.network = MinkUNet(recipe.network.config(scenes.channels))
        if start is not None:
            if start.config != self.network.config:
                raise SasError("The student to start from has another architecture than this run.")
            self.network.load_state_dict(start.state_dict())
        self.network.to(device)
        if processes.world > 1 and device.type == "cuda" and recipe.network.norms == "batch":
            synchronise_norms(self.network)
        schedule = recipe.schedule
        self._average = None
        if schedule.ema > 0:
            average = torch.optim.swa_utils.get_ema_multi_avg_fn(schedule.ema)
            self._average = torch.optim.swa_utils.AveragedModel(
                self.network, multi_avg_fn=average, use_buffers=True
            )
        self._trunk = Trunk(self.network, _DTYPES[schedule.precision])
        self._optimiser = self._new_optimiser()
        self._scaler = torch.amp.GradScaler(device.type, enabled=schedule.precision == "float16")
        self._plan = EpochPlan(len(scenes), schedule.batch, schedule.repeats, recipe.seed)
        precision = recipe.self_distillation.precision
        self._history = History(run.history, texts.classes_hash, len(texts.classes), precision)
        self._stages = Stages(recipe, self._plan.steps, self._trunk, texts, self._history, device)
        self.total = self._stages.total
        described = {
            "recipe": {**recipe.to_dict(), "description": ""},
            "scenes": scenes.fingerprint(),
            "texts": hashlib.sha256(texts.vocabulary.tobytes()).hexdigest(),
            "classes": texts.classes_hash,
            "start": _hash_of(start),
        }
        self._fingerprint = json.dumps(described, sort_keys=True)
        without = replace(recipe, self_distillation=variant("none"), description="")
        earlier = json.dumps({**described, "recipe": without.to_dict()}, sort_keys=True)
        self.step = 0
        self.losses: dict[str, float] = {}
        self._resume(begin, earlier)

    @property
    def epoch_steps(self) -> int:
        """Steps of an epoch."""
        return self._plan.steps

    @property
    def student(self) -> MinkUNet:
        """The network to export: with averaged weights where the recipe asks for them."""
        network = self.network if self._average is None else self._average.module
        assert isinstance(network, MinkUNet)
        return network

    @property
    def batch_settings(self) -> BatchSettings:
        recipe = self._recipe
        return BatchSettings(
            inputs=recipe.network.inputs,
            voxel_size=recipe.samples.voxel_size,
            crop=recipe.samples.crop,
            whole=recipe.samples.whole,
            augment=recipe.augment,
            with_superpoints=recipe.objective.targets == "superpoint",
            max_voxels=recipe.objective.max_voxels,
            seed=recipe.seed,
        )

    def steps(self) -> Iterator[Step]:
        """Train to the end; a checkpoint is written on the way, at the end, and when the loop is
        left between two steps.

        Raises:
            SasError: the loss is no finite number.
        """
        every = self._loop.checkpoint_every or self._plan.steps
        loader = torch.utils.data.DataLoader(
            torch.utils.data.Subset(self._batches(), range(self.step, self.total)),
            batch_size=None,
            num_workers=self._loop.workers,
            prefetch_factor=2 if self._loop.workers else None,
            pin_memory=False,
            # Left alone, those of a killed run may wait for ever for somebody to take a batch.
            worker_init_fn=partial(end_with, os.getpid()),
        )
        batches = iter(loader) if self.step < self.total else iter(())
        saved = self.step
        while self.step < self.total:
            if self.step == self._stages.stage_two_from:
                self._begin_stage_two()
            if self._stages.passes_over_scenes(self.step):
                self._renew_history()
            done = self._train_step(next(batches))
            if self.step % every == 0 or self.step == self.total:
                self._save()
                saved = self.step
            try:
                yield done
            except GeneratorExit:
                if saved != self.step and self._processes.world == 1:
                    self._save()
                raise

    def _batches(self) -> FeatureBatches:
        return FeatureBatches(
            self._scenes,
            self._plan,
            self.batch_settings,
            steps=self.total,
            rank=self._processes.rank,
            world=self._processes.world,
            accumulate=self._recipe.schedule.accumulate,
        )

    def _train_step(self, batches: Sequence[FeatureBatch]) -> Step:
        self.network.train()
        if self._recipe.network.norms == "frozen":
            freeze_norms(self.network)
        rate = self._stages.learning_rate(self.step)
        self.network.zero_grad(set_to_none=True)
        sums, counts, voxels = self._backward(batches)
        self._processes.sum_gradients(self.network.parameters())
        self._optimiser.unscale(self._scaler)
        longest = self._recipe.schedule.clip or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), longest))
        losses = {
            name: float(sums[place] / counts[place])
            for place, name in enumerate(LOSSES)
            if counts[place] > 0
        }
        loss = sum(self._stages.weight(name) * value for name, value in losses.items())
        if not math.isfinite(loss):
            raise SasError(
                f"The loss became {loss} in step {self.step + 1}; lower the learning rate, or set "
                "schedule.precision to float32."
            )
        self._optimiser.step(rate, self._scaler)
        self._scaler.update()
        self._processes.average_statistics(self.network)
        if self._average is not None:
            self._average.update_parameters(self.network)
        epoch = self.step // self._plan.steps
        self.step += 1
        self.losses = losses
        return Step(self.step, epoch, losses, loss, rate, norm, voxels)

    def _backward(self, batches: Sequence[FeatureBatch]) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Gradients of this process's share of the loss; sums and counts of `LOSSES`, and voxels,
        of all processes."""
        own = torch.tensor(
            [self._stages.counts(batch, self.step) for batch in batches], dtype=torch.float64
        )
        voxels = own.new_tensor([sum(len(batch.coordinates) for batch in batches)])
        numbers = self._processes.sum(torch.cat([own.sum(0), voxels]))
        counts = numbers[:-1]
        sums = torch.zeros(len(LOSSES), dtype=torch.float64)
        for batch in batches:
            terms = self._stages.terms(batch, self.step)
            parts = [
                self._stages.weight(name) * term / max(float(counts[LOSSES.index(name)]), 1.0)
                for name, term in terms.items()
            ]
            self._scaler.scale(torch.stack(parts).sum()).backward()
            for name, term in terms.items():
                sums[LOSSES.index(name)] += float(term.detach())
        return self._processes.sum(sums), counts, int(numbers[-1])

    def _new_optimiser(self) -> Optimiser:
        of = self._recipe.schedule
        return student_optimiser(of.optimiser, self.network, of.weight_decay)

    def _begin_stage_two(self) -> None:
        """What the released variant does before its second stage."""
        stage = self._recipe.self_distillation
        if stage.fresh_optimiser:
            self._optimiser = self._new_optimiser()
        if stage.initialise:
            own = range(self._processes.rank, len(self._scenes), self._processes.world)
            self.network.eval()
            self._stages.fill_history(self._scenes, own, self.batch_settings, self.step)
            self._processes.wait()

    def _renew_history(self) -> None:
        """What the student that would be exported says about this process's share of the scenes."""
        own = range(self._processes.rank, len(self._scenes), self._processes.world)
        student = self.student.eval()
        trunk = Trunk(student, _DTYPES[self._recipe.schedule.precision])
        self._stages.renew_history(self._scenes, own, self.batch_settings, self.step, trunk)
        self._processes.wait()

    def _save(self) -> None:
        if self._processes.first:
            average = None if self._average is None else self._average.state_dict()
            self._run.save(
                {
                    "fingerprint": self._fingerprint,
                    "step": self.step,
                    "losses": self.losses,
                    "network": self.network.state_dict(),
                    "average": average,
                    "optimiser": self._optimiser.state(),
                    "scaler": self._scaler.state_dict(),
                }
            )
            self._history.keep(self.step)
        self._processes.wait()

    def _resume(self, begin: Path | None, earlier: str) -> None:
        device = self._processes.device
        state = self._run.load(self._fingerprint, device)
        if state is None and begin is not None:
            state = load_checkpoint(begin, earlier, device)
            most = shared_epochs(self._recipe) * self._plan.steps
            if int(state["step"]) > most:
                raise SasError(
                    f"{begin} is of step {state['step']}, but this run does what that one did up "
                    f"to step {most} only."
                )
        if state is not None:
            self.network.load_state_dict(state["network"])
            if self._average is not None:
                self._average.load_state_dict(state["average"])
            self._optimiser.load(state["optimiser"])
            self._scaler.load_state_dict(state["scaler"])
            self.step, self.losses = int(state["step"]), dict(state.get("losses", {}))
        if self._processes.first:
            self._history.rewind(self.step)
        self._processes.wait()


def shared_epochs(recipe: Recipe) -> int:
    """How many epochs a run without stage 2 does just what this one does: until the history begins,
    and none where the learning rate falls to the end of stage 1."""
    stage = recipe.self_distillation
    if not stage.used:
        return recipe.schedule.epochs
    return 0 if stage.fresh_optimiser else stage.history_epoch


def _hash_of(network: MinkUNet | None) -> str:
    if network is None:
        return ""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()
