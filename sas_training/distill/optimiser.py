"""What moves the weights of a network: one optimiser, or two that share them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from sas_ros.errors import SasError
from sas_ros.student.minkunet import MinkUNet
from sas_training.distill.muon import Muon

OPTIMISERS = ("adam", "adamw", "muon")


def check_optimiser(kind: str) -> None:
    """Raise SasError for what is none of `OPTIMISERS`."""
    if kind not in OPTIMISERS:
        raise SasError(f"The optimiser {kind!r} is unknown; use {', '.join(OPTIMISERS)}.")


class _Together(torch.optim.Optimizer):
    """Several optimisers as one: a scaler that finds a gradient of any not finite moves none."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        groups = (group for part in parts for group in part.param_groups)
        super().__init__([weights for group in groups for weights in group["params"]], {})
        self._parts = parts

    def step(self, closure: Any = None) -> Any:
        """Each part's step."""
        for part in self._parts:
            part.step()


class Optimiser:
    """What moves the weights of a network.

    Args:
        kind: one of `OPTIMISERS`. "muon" is for kernels between two layers of features; for the
            first and the last layer, biases and norms it is AdamW, as in its source.
        network: its weights.
        ends: kernels of the first and the last layer.
        weight_decay: share of the weights, by the learning rate, that a step takes away.
        outputs: dimension of a kernel that its outputs are in.
    """

    def __init__(
        self,
        kind: str,
        network: nn.Module,
        ends: Sequence[nn.Parameter],
        weight_decay: float,
        outputs: int = -1,
    ) -> None:
        outer = {id(kernel) for kernel in ends}
        inner = [p for p in network.parameters() if p.ndim > 1 and id(p) not in outer]
        chosen = {id(p) for p in inner} if kind == "muon" else set()
        rest = [p for p in network.parameters() if id(p) not in chosen]
        adam = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
        self._parts: list[torch.optim.Optimizer] = [adam(rest, weight_decay=weight_decay)]
        if chosen:
            self._parts.append(Muon(inner, weight_decay=weight_decay, outputs=outputs))
        self._together = _Together(self._parts)

    def step(self, learning_rate: float, scaler: torch.amp.GradScaler | None = None) -> None:
        """Move the weights by their gradients; with `scaler`, where those are finite."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
        if scaler is None:
            self._together.step()
        else:
            scaler.step(self._together)

    def unscale(self, scaler: torch.amp.GradScaler) -> None:
        """Take the factor out of the gradients that they were scaled with."""
        scaler.unscale_(self._together)

    def state(self) -> list[dict[str, Any]]:
        """For a checkpoint."""
        return [part.state_dict() for part in self._parts]

    def load(self, state: list[dict[str, Any]] | dict[str, Any]) -> None:
        """Go on from a `state`; from a bare dictionary too, as Adam's was kept once."""
        states = [state] if isinstance(state, dict) else state
        for part, kept in zip(self._parts, states, strict=True):
            part.load_state_dict(kept)


def student_optimiser(kind: str, network: MinkUNet, weight_decay: float) -> Optimiser:
    """An `Optimiser` of a student."""
    ends = (network.conv0p1s1.kernel, network.final.kernel)
    return Optimiser(kind, network, ends, weight_decay)
