"""Small labelled rooms, and trainings by class labels in one or several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoders import HashEncoder

from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig
from sas_training.distill.dataset import Batch, LabelledScans, SampleConfig
from sas_training.distill.parallel import joined
from sas_training.distill.trainer import TrainConfig, Trainer
from sas_training.distill.words import WordBank
from sas_training.evaluation.labels import SCANNET20

TINY = MinkUNetConfig(6, 16, 8, (8,) * 8, (1,) * 8)


def write_rooms(folder: Path) -> Path:
    """Three boxes with a bed in FOLDER: floor, walls and a block, as `sas world make` lays out."""
    rooms = folder / "rooms"
    rooms.mkdir(parents=True)
    for number in range(3):
        rng = np.random.default_rng(number)
        floor = np.c_[rng.uniform(0, 4, (3000, 2)), np.zeros(3000)]
        wall = np.c_[rng.uniform(0, 4, 3000), np.zeros(3000), rng.uniform(0, 2.4, 3000)]
        bed = rng.uniform([1, 1, 0], [3, 2, 0.5], (3000, 3))
        points = np.concatenate([floor, wall, bed]).astype(np.float32)
        labels = np.repeat([1, 0, 3], 3000).astype(np.uint8)
        labels[:50] = 255
        np.savez(rooms / f"room-{number:06d}.npz", points=points, labels=labels)
    return folder


def labelled_scans(
    rooms: Path, steps: int = 12, scans: int = 2, rank: int = 0, world: int = 1
) -> LabelledScans:
    """Coarse batches of those rooms."""
    config = SampleConfig(voxel_size=0.2, scans_per_step=scans)
    return LabelledScans(rooms, SCANNET20, config, steps=steps, seed=3, rank=rank, world=world)


class KeptNorms(MinkUNet):
    """A network whose batch norms use their running statistics in training, too: what many
    processes do then is just what one does."""

    def train(self, mode: bool = True) -> KeptNorms:
        super().train(False)
        return self


class Joined(LabelledScans):
    """What several processes see in a step, as the batch of one."""

    def __init__(self, parts: list[LabelledScans]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return len(self._parts[0])

    def __getitem__(self, step: int) -> Batch:
        batches, scans = [part[step] for part in self._parts], 0
        for batch in batches:
            batch.coordinates[:, 0] += scans
            scans = int(batch.coordinates[:, 0].max()) + 1
        names = Batch.__dataclass_fields__
        return Batch(*(torch.cat([getattr(one, name) for one in batches]) for name in names))

    def fingerprint(self) -> dict[str, Any]:
        return self._parts[0].fingerprint()


def kept_norms(trainer: Trainer) -> Trainer:
    trainer.network.__class__ = KeptNorms
    return trainer


def train_by_labels(rank: int, world: int, meet: str, rooms: Path, folder: Path) -> None:
    """Two runs of two steps as one of several processes, with the norms kept and as they are;
    leaves behind FOLDER/kept-RANK.pt and FOLDER/plain-RANK.pt, a checkpoint each in FOLDER/NAME."""
    torch.set_num_threads(1)
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    config = TrainConfig(steps=2, workers=0, warmup=1)
    with joined("cpu", rank=rank, world=world, meet=meet) as processes:
        for name in ("kept", "plain"):
            scans = labelled_scans(rooms, 2, 4, processes.rank, processes.world)
            trainer = Trainer(scans, words, TINY, config, folder / name, processes=processes)
            if name == "kept":
                kept_norms(trainer)
            torch.save(what_is_left(trainer), folder / f"{name}-{rank}.pt")


def what_is_left(trainer: Trainer) -> dict[str, Any]:
    """Loss and gradients of the first step, and weights and averaged weights of the last."""
    found: dict[str, Any] = {}
    for step in trainer.steps():
        if step == 1:
            found = {"loss": trainer.loss, "counts": trainer._counts.clone()}
            found["gradients"] = [p.grad.clone() for p in trainer.network.parameters()]
    return {
        **found,
        "weights": trainer.network.state_dict(),
        "averaged": trainer.averaged.state_dict(),
    }
