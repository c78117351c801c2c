"""The training loop: steps, weight averaging, checkpoints that a killed run goes on from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_ros.sparse import CoordinateManager, SparseTensor
from sas_ros.student.inputs import choose_device
from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig
from sas_training.distill.dataset import Batch, LabelledScans
from sas_training.distill.losses import scaled_cosine_logits
from sas_training.distill.words import AskedWords, WordBank
from sas_training.evaluation.labelled import IGNORED

CHECKPOINT = "checkpoint.pt"
TINY_PLANES = (24, 32, 64, 128, 96, 64, 32, 32)


@dataclass(frozen=True)
class TrainConfig:
    """How long and how hard to train."""

    steps: int = 5000
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    warmup: int = 200
    scale: float = 30.0  # logit scale of the cosine cross-entropy
    ema: float = 0.998
    class_weight_power: float = 0.5  # weights are frequency to the minus this
    finer: float = 0.5  # share of steps that ask for finer names than the classes
    clutter_weight: float = 0.5  # of things without a class, where a step names them
    seed: int = 0
    device: str = "auto"
    workers: int = 1
    checkpoint_every: int = 250


class Trainer:
    """Fits point features to the text embeddings of their classes (supervision `class-labels`).

    Args:
        scans: batches by step.
        words: text embeddings of every class.
        architecture: shape of the student.
        run: folder of the checkpoint; a run found there goes on where it stopped.

    Raises:
        SasError: a checkpoint in `run` that belongs to other settings.
    """

    def __init__(
        self,
        scans: LabelledScans,
        words: WordBank,
        architecture: MinkUNetConfig,
        config: TrainConfig,
        run: Path,
    ) -> None:
        self._scans, self._words, self._config, self._run = scans, words, config, run
        self._device = choose_device(config.device)
        torch.manual_seed(config.seed)
        self.network = MinkUNet(architecture).to(self._device)
        self._average = torch.optim.swa_utils.AveragedModel(
            self.network,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema),
            use_buffers=True,
        )
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._rate)
        self._counts = torch.ones(len(words.names), dtype=torch.float64)
        self._fingerprint = json.dumps(
            {
                "train": {**asdict(config), "workers": 0, "device": ""},
                "net": architecture.to_dict(),
                "scans": scans.fingerprint(),
                "words": hashlib.sha256(words.fingerprint()).hexdigest(),
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

    def start_from(self, network: MinkUNet) -> None:
        """Begin with the weights of a trained network instead of random ones.

        Raises:
            SasError: it has another shape.
        """
        if network.config != self.network.config:
            raise SasError("The student to start from has another architecture than this run.")
        self.network.load_state_dict(network.state_dict())
        self.averaged.load_state_dict(network.state_dict())

    def steps(self) -> Iterator[int]:
        """Train; yields the number of the step just done. Checkpoints on the way and at the end,
        also when the loop is left early."""
        remaining = range(self.step, self._config.steps)
        loader = torch.utils.data.DataLoader(
            torch.utils.data.Subset(self._scans, remaining),
            batch_size=None,
            num_workers=self._config.workers,
            prefetch_factor=4 if self._config.workers else None,
        )
        try:
            for batch in loader:
                self._train_step(batch)
                self.step += 1
                if self.step % self._config.checkpoint_every == 0:
                    self._save()
                yield self.step
        finally:
            self._save()

    def _train_step(self, batch: Batch) -> None:
        config = self._config
        self.network.train()
        self._counts += torch.bincount(
            batch.labels[batch.labels != IGNORED], minlength=len(self._counts)
        )
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
        loss = (losses * weight).sum() / weight.sum().clamp_min(1e-12)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self._optimizer.step()
        self._schedule.step()
        self._average.update_parameters(self.network)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SasError(f"The loss became {value} at step {self.step}; lower the learning rate.")
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

    def _rate(self, step: int) -> float:
        config = self._config
        warm = min(1.0, (step + 1) / max(1, config.warmup))
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, config.steps))))

    def _save(self) -> None:
        state = {
            "fingerprint": self._fingerprint,
            "step": self.step,
            "loss": self.loss,
            "network": self.network.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "counts": self._counts,
        }
        with atomic_path(self._run / CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def _resume(self) -> None:
        path = self._run / CHECKPOINT
        if not path.is_file():
            return
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location=self._device)
        if state.get("fingerprint") != self._fingerprint:
            raise SasError(
                f"{path} belongs to a run with other settings; remove it, or give another --run."
            )
        self.network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._counts = state["counts"]
        self.step, self.loss = int(state["step"]), float(state["loss"])
