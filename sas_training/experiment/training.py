"""Training one of the 2D networks on labelled pictures, with checkpoints to go on from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_ros.student.inputs import choose_device
from sas_training.distill.losses import scaled_cosine_logits
from sas_training.distill.optimiser import Optimiser
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.network import CELL, SmallNetwork, channels_last, network_input
from sas_training.experiment.pictures import LabelledPictures
from sas_training.experiment.settings import TeacherSettings

SCALE = 30.0
"""Of the cosines of a pixel teacher's cross-entropy, as in `sas_training.distill.trainer`."""
CROP = (96, 128)
"""Rows and columns of the part of each picture that a step sees."""
RARITY = 0.25
"""Classes weigh as their frequency to the minus this."""
CHECKPOINT_EVERY = 200
WARMUP = 50
_IGNORED = -1


class TeacherTraining:
    """Fits a network to pictures, and writes a checkpoint now and then.

    A pixel teacher's features are drawn to the text vectors of the classes by cross-entropy over
    scaled cosines; a mask teacher has a score for each class. Rare classes weigh more.

    Args:
        pictures: labelled as they truly are; what the teacher may not know is taken out here.
        texts: (K, C) unit text vectors of `settings.classes`; a mask teacher needs none.
        checkpoint: file of this training; what is there is gone on from.

    Raises:
        SasError: no picture shows a class that is taught, or a checkpoint of another training.
    """

    def __init__(
        self,
        pictures: LabelledPictures,
        settings: TeacherSettings,
        texts: npt.NDArray[np.float32],
        seed: int,
        checkpoint: Path,
    ) -> None:
        self._settings, self._seed, self._checkpoint = settings, seed, checkpoint
        self._images = torch.from_numpy(pictures.images)
        taught = taught_labels(pictures, settings, seed)
        self._labels = torch.from_numpy(taught)
        counts = np.bincount(taught[taught >= 0], minlength=len(settings.classes))
        if not counts.any():
            raise SasError("No picture shows a class that the teacher is to learn.")
        frequency = np.maximum(counts / counts.sum(), 1e-4)
        weights = frequency**-RARITY
        self._device = choose_device("auto")
        self._weights = torch.from_numpy(weights / (weights * frequency).sum()).float()
        self._weights = self._weights.to(self._device)
        words = torch.from_numpy(texts).to(self._device)
        self._texts = words if settings.kind == "pixels" else None
        outputs = texts.shape[1] if settings.kind == "pixels" else len(settings.classes)
        torch.manual_seed(seed)
        network = SmallNetwork(settings.width, outputs).to(self._device)
        self.network = channels_last(network)
        self._optimiser = Optimiser(
            settings.optimiser, self.network, self.network.ends, weight_decay=0.01, outputs=0
        )
        self.step, self.loss = 0, math.nan
        self._resume()

    def steps(self) -> Iterator[int]:
        """Train; yields the number of the step just done."""
        while self.step < self._settings.steps:
            self._train_step()
            self.step += 1
            if self.step % CHECKPOINT_EVERY == 0 or self.step == self._settings.steps:
                self._save()
            yield self.step

    def _train_step(self) -> None:
        settings = self._settings
        rng = np.random.default_rng((self._seed, 21, self.step))
        chosen = torch.from_numpy(rng.integers(len(self._images), size=settings.batch))
        images, labels = self._parts(chosen, rng)
        pictures = network_input(images.to(self._device), settings.blur)
        labels = labels.to(self._device)
        # Brighter or darker, and of another tint.
        gain = rng.uniform(0.8, 1.2, (settings.batch, 1)) * rng.uniform(
            0.85, 1.15, (settings.batch, 3)
        )
        light = torch.from_numpy(gain).float().to(self._device)[:, :, None, None]
        pictures = ((pictures + 1) * light - 1).contiguous(memory_format=torch.channels_last)
        if rng.random() < 0.5:
            pictures, labels = pictures.flip(3), labels.flip(2)
        self.network.train()
        known = labels >= 0
        rows = self.network.rows(pictures)[known]
        loss = nn.functional.cross_entropy(
            self._logits(rows), labels[known], self._weights, reduction="mean"
        )
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self._optimiser.step(settings.learning_rate * self._rate())
        value = float(loss.detach())
        if not math.isfinite(value) and bool(known.any()):
            raise SasError(f"The loss became {value} at step {self.step}; lower the learning rate.")
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value

    def _parts(
        self, chosen: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same random part of some pictures, at most `CROP` large, and its labels."""
        height, width = (
            min(n, most) for n, most in zip(self._images.shape[1:3], CROP, strict=True)
        )
        top = int(rng.integers((self._images.shape[1] - height) // CELL + 1))
        left = int(rng.integers((self._images.shape[2] - width) // CELL + 1))
        images = self._images[chosen, CELL * top :, CELL * left :][:, :height, :width]
        labels = self._labels[chosen, top:, left:][:, : height // CELL, : width // CELL]
        return images, labels

    def _logits(self, rows: torch.Tensor) -> torch.Tensor:
        if self._texts is None:
            scores: torch.Tensor = rows @ self.network.kernel
            return scores
        return scaled_cosine_logits(rows, self.network.kernel, self._texts, SCALE)

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / WARMUP)
        return warm * 0.5 * (1 + math.cos(math.pi * self.step / self._settings.steps))

    def _about(self) -> str:
        return json.dumps([asdict(self._settings), self._seed, len(self._images)], sort_keys=True)

    def _save(self) -> None:
        state = {
            "about": self._about(),
            "step": self.step,
            "loss": self.loss,
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state(),
        }
        with atomic_path(self._checkpoint) as temporary:
            torch.save(state, temporary)

    def _resume(self) -> None:
        if not self._checkpoint.is_file():
            return
        try:
            state: dict[str, Any] = torch.load(
                self._checkpoint, weights_only=True, map_location=self._device
            )
        except Exception as error:  # torch raises many kinds for a damaged file
            raise SasError(f"{self._checkpoint} cannot be read ({error}); remove it.") from error
        if state.get("about") != self._about():
            raise SasError(
                f"{self._checkpoint} belongs to a teacher with other settings; remove it."
            )
        self.network.load_state_dict(state["network"])
        self._optimiser.load(state["optimiser"])
        self.step, self.loss = int(state["step"]), float(state["loss"])


def taught_labels(
    pictures: LabelledPictures, settings: TeacherSettings, seed: int
) -> npt.NDArray[np.int64]:
    """(P, h, w) the places in `settings.classes` that the teacher is told, -1 for nothing.

    Of every noisy class, a share of the objects is called what another noisy class is called; which
    objects and which class follow from the seed, so that all pictures of an object agree.
    """
    names, classes = SCANNET20.names, settings.classes
    labels = pictures.labels.astype(np.int64)
    if settings.noise:
        rng = np.random.default_rng((seed, 22))
        noisy = np.array([names.index(name) for name in settings.noisy])
        # In a circle: nothing is mistaken for itself.
        circle, mistaken = rng.permutation(noisy), np.arange(256)
        mistaken[circle] = np.roll(circle, 1)
        objects, inverse = np.unique(pictures.objects, return_inverse=True)
        wrong = (rng.random(len(objects)) < settings.noise)[inverse].reshape(labels.shape)
        labels = np.where(wrong & np.isin(labels, noisy), mistaken[labels], labels)
    place = np.full(256, _IGNORED)
    for number, name in enumerate(classes):
        place[names.index(name)] = number
    return place[labels]
