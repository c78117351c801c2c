"""Fitting a network for some steps, with checkpoints to go on from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_training.distill.optimiser import Optimiser
from sas_training.priors.settings import FitSettings

CLIP = 1.0
"""Most norm of a step's gradient."""


class Fit:
    """Trains a network and keeps a moving average of its weights.

    A step's chance follows from the seed and its number alone, so that a training that was stopped
    ends where an undisturbed one does.

    Args:
        network: changed in place; its trainable parameters are fitted.
        loss: of one step, from its random numbers.
        seed: numbers that chance begins from, different for different networks.
        about: plain JSON of all that the training depends on.
        checkpoint: file of this training; what is there is gone on from.
        ends: kernels of the first and the last layer, which "muon" leaves to AdamW.

    Raises:
        SasError: a checkpoint that is damaged or belongs to another training.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[np.random.Generator], torch.Tensor],
        settings: FitSettings,
        seed: tuple[int, ...],
        about: Any,
        checkpoint: Path,
        ends: Sequence[nn.Parameter] = (),
    ) -> None:
        self.network, self._loss, self._settings = network, loss, settings
        self._seed, self._checkpoint = seed, checkpoint
        self._about = json.dumps([about, list(seed)], sort_keys=True)
        self._optimiser = Optimiser(
            settings.optimiser, network, ends, settings.weight_decay, outputs=0
        )
        self._average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self.step, self.loss = 0, math.nan
        self._resume()

    def steps(self) -> Iterator[int]:
        """Train; yields the number of the step just done. Then the average is in the network."""
        settings = self._settings
        self.network.train()
        while self.step < settings.steps:
            self._one()
            self.step += 1
            if self.step % settings.checkpoint == 0 or self.step == settings.steps:
                self._save()
            yield self.step
        self.network.load_state_dict(self._average)
        self.network.eval()

    def _one(self) -> None:
        settings = self._settings
        loss = self._loss(np.random.default_rng((*self._seed, self.step)))
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self._optimiser.step(settings.learning_rate * self._rate())
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SasError(f"The loss became {value} at step {self.step}; lower the learning rate.")
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value
        # Short at first, so that nothing of the random beginning stays.
        decay = min(settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for key, value_now in self.network.state_dict().items():
                if value_now.is_floating_point():
                    self._average[key].lerp_(value_now, 1 - decay)
                else:
                    self._average[key].copy_(value_now)

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / max(self._settings.warmup, 1))
        return warm * 0.5 * (1 + math.cos(math.pi * self.step / self._settings.steps))

    def _save(self) -> None:
        state = {
            "about": self._about,
            "step": self.step,
            "loss": self.loss,
            "network": self.network.state_dict(),
            "average": self._average,
            "optimiser": self._optimiser.state(),
        }
        with atomic_path(self._checkpoint) as temporary:
            torch.save(state, temporary)

    def _resume(self) -> None:
        if not self._checkpoint.is_file():
            return
        state = read_checkpoint(self._checkpoint, next(self.network.parameters()).device)
        if state.get("about") != self._about:
            raise SasError(f"{self._checkpoint} belongs to another training; remove it.")
        self.network.load_state_dict(state["network"])
        self._average = state["average"]
        self._optimiser.load(state["optimiser"])
        self.step, self.loss = int(state["step"]), float(state["loss"])


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What a training has written: `step`, `loss`, `network`, `average` and more.

    Raises:
        SasError: no such file, or a damaged one.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location=device)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise SasError(f"{path} cannot be read ({error}); remove it.") from error
    return state


def noise_of(rng: np.random.Generator) -> torch.Generator:
    """A generator for torch's own draws of a step, on the CPU for all devices alike."""
    return torch.Generator().manual_seed(int(rng.integers(2**62)))
