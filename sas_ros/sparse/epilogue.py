"""What follows a convolution at once in inference, while its rows are still in cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Epilogue:
    """`relu(y + bias + residual)`, each part where it is wanted; it has no gradients.

    Attributes:
        bias: (out,) added to every row: what is left of a batch norm folded into the kernel.
        residual: (num_outputs, out) added: the shortcut of a residual block.
        activate: whether negative values become 0.
    """

    bias: torch.Tensor | None = None
    residual: torch.Tensor | None = None
    activate: bool = False

    def finish(self, y: torch.Tensor) -> torch.Tensor:
        """Apply all of it to finished sums (num_outputs, out), in place."""
        if self.bias is not None:
            y += self.bias
        if self.residual is not None:
            y += self.residual
        return y.relu_() if self.activate else y
