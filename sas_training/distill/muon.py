"""Muon: momentum whose steps are made orthogonal, for the kernels of convolutions.

The source is K. Jordan and others, "Muon: An optimizer for hidden layers in neural networks"
(2024); the length of the steps is that of J. Liu and others, "Muon is Scalable for LLM Training"
(2025). `torch.optim.Muon` takes matrices only, and multiplies them in bfloat16, for which many
CPUs have no instructions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

# Of the polynomial a x + b x^3 + c x^5, applied to singular values; Jordan's.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalised(matrix: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """About U V^T of the singular value decomposition U S V^T, by Newton-Schulz iterations.

    The polynomial of singular values is X (a + b G + c G G) with G = X^T X. Its factors are
    multiplied first: they have the shorter side squared, and the other side of a kernel is some 27
    times as long.

    Args:
        matrix: (A, B), float32 or float64.

    Returns:
        (A, B): singular values that were at least 1/200 of the matrix's norm become 0.6 to 1.3,
        smaller ones less; a matrix of zeros stays one.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return orthogonalised(matrix.T, iterations).T
    x = matrix / matrix.norm().clamp_min(1e-12)
    gram = x.T @ x
    one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    total = one
    for _ in range(iterations):
        factor = _A * one + _B * gram + _C * (gram @ gram)
        total = total @ factor
        gram = factor @ gram @ factor
    result: torch.Tensor = x @ total
    return result


class Muon(torch.optim.Optimizer):
    """Moves weights along their orthogonalised momentum.

    A kernel (K, A, B) is taken as the matrix (K A, B): the inputs at all offsets are one. At the
    same rate AdamW's steps are about as long as those with a `gain` of 1, where an entry moves by
    0.2 of the rate (root mean square).

    Args:
        parameters: of two dimensions or more.
        lr: learning rate.
        gain: what it is multiplied by.
        momentum: how much of the gradients before is kept; Nesterov's, as in the source.
        weight_decay: share of the weights, by the rate, that a step takes away.
        outputs: the dimension that outputs are in: the last, or 0 as `torch.nn` has it.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 1e-3,
        gain: float = 2.0,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        outputs: int = -1,
    ) -> None:
        settings = {
            "lr": lr,
            "gain": gain,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "outputs": outputs,
        }
        super().__init__(parameters, settings)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("outputs", -1)  # checkpoints of before it was there

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move what has a gradient; as `torch.optim.Optimizer` has it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, weights: nn.Parameter, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state, rate = self.state[weights], group["lr"] * group["gain"]
        if not state:
            state["momentum"] = torch.zeros_like(weights)
        momentum = state["momentum"].mul_(group["momentum"]).add_(gradient)
        along = gradient.add(momentum, alpha=group["momentum"]).movedim(group["outputs"], -1)
        matrix = along.flatten(0, -2)
        weights.mul_(1 - rate * group["weight_decay"])
        length = 0.2 * math.sqrt(max(matrix.shape)) * rate
        direction = orthogonalised(matrix).view_as(along).movedim(-1, group["outputs"])
        weights.add_(direction, alpha=-length)
