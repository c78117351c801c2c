"""Losses between point features and text."""

from __future__ import annotations

import torch


def scaled_cosine_logits(
    trunk: torch.Tensor, kernel: torch.Tensor, texts: torch.Tensor, scale: float
) -> torch.Tensor:
    """`scale * cos(f, t)` for `f = trunk @ kernel`, without making the wide features `f`.

    The last layer is linear, so `f . t = trunk . (kernel t)` and `|f|^2 = trunk G trunk^T` with
    `G = kernel kernel^T`: exact, and cheaper by the ratio of the widths.

    Args:
        trunk: (M, D) output of the network before its last layer.
        kernel: (D, C) last layer.
        texts: (K, C) unit rows.
        scale: logit scale; 20 to 50 works (a plain `1 - cos` regression does not, because text
            vectors are all alike).

    Returns:
        (M, K) logits.
    """
    products = trunk @ (kernel @ texts.t())
    gram = kernel @ kernel.t()
    squared = ((trunk @ gram) * trunk).sum(1, keepdim=True)
    logits: torch.Tensor = scale * products / squared.clamp_min(1e-12).sqrt()
    return logits
