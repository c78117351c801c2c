"""The training loop: steps, weight averaging, checkpoints that a killed run goes on from."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sas_ros.errors import SasError
from sas_ros.sparse import CoordinateManager, SparseTensor
from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig
from sas_training.distill.dataset import Batch, LabelledScans
from sas_training.distill.losses import scaled_cosine_logits
from sas_training.distill.optimiser import student_optimiser
from sas_training.distill.parallel import Processes, synchronise_norms
from sas_training.distill.run_folder import RunFolder
from sas_training.distill.words import AskedWords, WordBank
from sas_training.evaluation.labelled import IGNORED
from sas_training.jobs import end_with

TINY_PLANES = (24, 32, 64, 128, 96, 64, 32, 32)


@dataclass(frozen=True)
class TrainConfig:
    """How long and how hard to train.

    Attributes:
        optimiser: one of `sas_training.distill.optimiser.OPTIMISERS`.
    """

    steps: int = 10000
    optimiser: str = "muon"
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    warmup: int = 200
    scale: float = 30.0  # logit scale of the cosine cross-entropy
    ema: float = 0.998
    class_weight_power: float = 0.5  # weights are frequency to the minus this
    finer: float = 0.5  # share of steps that ask for finer names than the classes
    clutter_weight: float = 0.5  # of things without a class, where a step names them
    seed: int = 0
    workers: int = 1
    checkpoint_every: int = 250


# Runs begun when the device was part of the configuration go on as well.
_NO_MATTER = {"workers": 0, "device": "", "checkpoint_every": TrainConfig.checkpoint_every}
"""What a run may go on with another of: it does not change the result."""


class Trainer:
    """Fits point features to the text embeddings of their classes (supervision `class-labels`).

    Several processes share the scans of each step, and have the same weights after it: the loss is
    that of all their voxels. On CPUs batch norms see each process's own voxels.

    Args:
        scans: batches by step, of this process.
        words: text embeddings of every class.
        architecture: shape of the student.
        run: folder of the checkpoint; a run found there goes on where it stopped.
        start: what tells the weights that are given to `start_from`, such as a hash of them; "" for
            random ones.
        processes: this one among those that train together; by default alone, on the CPU.

    Raises:
        SasError: a checkpoint in `run` that is damaged or belongs to other settings.
    """

    def __init__(
        self,
        scans: LabelledScans,
        words: WordBank,
        architecture: MinkUNetConfig,
        config: TrainConfig,
        run: Path,
        start: str = "",
        processes: Processes | None = None,
    ) -> None:
        processes = processes or Processes(torch.device("cpu"))
        self._scans, self._words, self._config = scans, words, config
        self._run, self._processes = RunFolder(run), processes
        self._device = processes.device
        torch.manual_seed(config.seed)
        self.network = MinkUNet(architecture).to(self._device)
        if processes.world > 1 and self._device.type == "cuda":
            synchronise_norms(self.network)
        self._average = torch.optim.swa_utils.AveragedModel(
            self.network,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema),
            use_buffers=True,
        )
        self._optimiser = student_optimiser(config.optimiser, self.network, config.weight_decay)
        self._counts = torch.ones(len(words.names), dtype=torch.float64)
        self._fingerprint = json.dumps(
            {
                "train": {**asdict(config), **_NO_MATTER},
                "net": architecture.to_dict(),
                "scans": scans.fingerprint(),
                "words": hashlib.sha256(words.fingerprint()).hexdigest(),
                "start": start,
            },
            sort_keys=True,
        )
        self.step = 0
        self.loss = math.nan
        self._resume()

    @property
    def averaged(self) -> MinkUNet:
        """The network with averaged weights: what is exported and evaluated."""
        network = self._average.module
        assert isinstance(network, MinkUNet)
        return network

    def start_from(
        self, network: MinkUNet, its_inputs: Sequence[str] = (), inputs: Sequence[str] = ()
    ) -> None:
        """Begin with the weights of a trained network instead of random ones.

        Args:
            network: of the same shape but for its input channels.
            its_inputs, inputs: names of its input channels and of ours; those that it does not know
                begin with weights of zero, so that it first says what it said without them.

        Raises:
            SasError: it has another shape, or inputs that we have not.
        """
        first = "conv0p1s1.kernel"
        weights = dict(network.state_dict())
        if tuple(its_inputs) != tuple(inputs):
            missing = sorted(set(its_inputs) - set(inputs))
            if missing:
                raise SasError(
                    f"The student to start from sees {', '.join(missing)}; this one not."
                )
            known = weights[first]
            grown = known.new_zeros((known.shape[0], len(inputs), known.shape[2]))
            grown[:, [tuple(inputs).index(name) for name in its_inputs]] = known
            weights[first] = grown
        shapes = {key: value.shape for key, value in self.network.state_dict().items()}
        if {key: value.shape for key, value in weights.items()} != shapes:
            raise SasError("The student to start from has another architecture than this run.")
        self.network.load_state_dict(weights)
        self.averaged.load_state_dict(weights)

    def steps(self) -> Iterator[int]:
        """Train; yields the number of the step just done. A checkpoint is written on the way, at
        the end, and when the loop is left between two steps: never in the midst of one.

        Raises:
            SasError: loss or gradients are no finite numbers; that step is not saved.
        """
        remaining = range(self.step, self._config.steps)
        loader = torch.utils.data.DataLoader(
            torch.utils.data.Subset(self._scans, remaining),
            batch_size=None,
            num_workers=self._config.workers,
            prefetch_factor=4 if self._config.workers else None,
            worker_init_fn=partial(end_with, os.getpid()),
        )
        saved = self.step
        for batch in loader:
            self._train_step(batch)
            self.step += 1
            if self.step % self._config.checkpoint_every == 0 or self.step == remaining.stop:
                self._save()
                saved = self.step
            try:
                yield self.step
            except GeneratorExit:
                if saved != self.step and self._processes.world == 1:
                    self._save()
                raise

    def _train_step(self, batch: Batch) -> None:
        config = self._config
        self.network.train()
        seen = torch.bincount(batch.labels[batch.labels != IGNORED], minlength=len(self._counts))
        self._counts += self._processes.sum(seen.double())
        rng = np.random.default_rng((config.seed, 1, self.step))
        asked = self._words.ask(rng, finer=bool(rng.random() < config.finer))
        targets, weights = self._targets(batch, asked)
        known = torch.nonzero(targets >= 0).squeeze(1)
        manager = CoordinateManager(batch.coordinates.to(self._device))
        trunk = self.network.trunk(SparseTensor(batch.inputs.to(self._device), manager)).features
        texts = torch.from_numpy(asked.texts).to(self._device)
        rows = known.to(self._device)
        logits = scaled_cosine_logits(trunk[rows], self.network.final.kernel, texts, config.scale)
        losses = nn.functional.cross_entropy(
            logits, targets[known].to(self._device), reduction="none"
        )
        weight = weights[known].to(self._device)
        loss = (losses * weight).sum() / self._processes.sum(weight.sum()).clamp_min(1e-12)
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        self._processes.sum_gradients(self.network.parameters())
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), 5.0))
        value = float(self._processes.sum(loss.detach()))
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise SasError(
                f"The loss became {value} with gradients of length {norm} in step {self.step + 1}; "
                "lower the learning rate."
            )
        self._optimiser.step(self._rate())
        self._processes.average_statistics(self.network)
        self._average.update_parameters(self.network)
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value

    def _targets(self, batch: Batch, asked: AskedWords) -> tuple[torch.Tensor, torch.Tensor]:
        """(M,) row of `asked.texts` each voxel belongs to, -1 for none, and (M,) its weight."""
        by_class = torch.from_numpy(np.append(asked.row_of_class, -1))  # the last is ignored
        by_kind = torch.from_numpy(np.append(asked.row_of_kind, -1))  # so is an unknown kind
        labels = batch.labels.clamp_max(len(asked.row_of_class))
        named = by_kind[batch.kinds]
        weights = torch.cat([self._class_weights(), torch.tensor([self._config.clutter_weight])])
        return torch.where(named >= 0, named, by_class[labels]), weights[labels]

    def _class_weights(self) -> torch.Tensor:
        """(K,) float32: rare classes weigh more; on average over all voxels 1."""
        frequency = self._counts / self._counts.sum()
        weights = frequency.clamp_min(1e-4) ** -self._config.class_weight_power
        return (weights / (weights * frequency).sum()).float()

    def _rate(self) -> float:
        """The learning rate of the next step: it rises, and falls as a cosine."""
        config = self._config
        warm = min(1.0, (self.step + 1) / max(1, config.warmup))
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / max(1, config.steps))))
        return config.learning_rate * warm * falling

    def _save(self) -> None:
        if self._processes.first:
            self._run.save(
                {
                    "fingerprint": self._fingerprint,
                    "step": self.step,
                    "loss": self.loss,
                    "network": self.network.state_dict(),
                    "average": self._average.state_dict(),
                    "optimiser": self._optimiser.state(),
                    "counts": self._counts,
                }
            )
        self._processes.wait()

    def _resume(self) -> None:
        # On the CPU: the counts stay there, all else is copied to where the network is.
        state = self._run.load(self._fingerprint, torch.device("cpu"))
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        self._optimiser.load(state["optimiser"])
        self._counts = state["counts"]
        self.step, self.loss = int(state["step"]), float(state["loss"])
