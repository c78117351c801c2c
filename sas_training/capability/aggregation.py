"""From the cross-attention of many layers and steps to one map per image, in bounded memory.

Both rules are linear in what a layer gives, up to a division, so that a running sum for every
resolution is all that is kept: it does not grow with layers or steps. With M the attention of
the pixels of a layer to a token, averaged over its heads:

- `paper`, equation 2: the mean over all layers and steps of M / max(M);
- `released`: M is averaged over layers and steps first, for the layers on the way down and up at
  full, half and quarter resolution of the latent image (64, 32 and 16 for Stable Diffusion at
  512 pixels), divided by its maximum there, and the resolutions are averaged.

Then both: the mean over the tokens of the class name, and from smallest to largest as 0 to 1. Maps
are resized to the image bicubically, in the paper's rule after the division (the paper does not
say). The released code's exceptions for four class names (`sofa`, `train` and `tvmonitor` at an
eighth, `diningtable` at a quarter of the resolution alone) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sas_ros.errors import SasError

RULES = ("paper", "released")
"""Names of the rules of aggregation."""
RELEASED_FACTORS = (1, 2, 4)
"""Sizes of the latent image in pixels of a layer that the released code looks at."""

_Group = tuple[int, int, int, bool]


class Aggregator:
    """Sums of the attention to some tokens, for the images of one batch.

    Args:
        rules: of `RULES`, all that maps are wanted for.
    """

    def __init__(self, rules: Sequence[str] = RULES) -> None:
        unknown = [rule for rule in rules if rule not in RULES]
        if unknown or not rules:
            raise SasError(
                f"{(*unknown, '')[0]!r} is no rule for attention; known are {', '.join(RULES)}."
            )
        self.rules = tuple(dict.fromkeys(rules))
        self._sums: dict[str, dict[_Group, torch.Tensor]] = {rule: {} for rule in self.rules}
        self._count: dict[_Group, int] = {}

    @property
    def bytes(self) -> int:
        """Of memory that the sums take."""
        held = [one for sums in self._sums.values() for one in sums.values()]
        return sum(one.numel() * one.element_size() for one in held)

    def add(self, maps: torch.Tensor, factor: int, *, middle: bool = False) -> None:
        """Take in what one layer gives at one step.

        Args:
            maps: (B, T, h, w) attention of B images to T tokens, mean over heads, any precision.
            factor: of the latent image's size to (h, w).
            middle: of the block between the way down and the way up.
        """
        maps = maps.float()
        group = (factor, int(maps.shape[2]), int(maps.shape[3]), middle)
        self._count[group] = self._count.get(group, 0) + 1
        for rule, sums in self._sums.items():
            if rule == "released":
                if middle or factor not in RELEASED_FACTORS:
                    continue
                part = maps
            else:
                part = maps / maps.amax(dim=(2, 3), keepdim=True).clamp_min(1e-30)
            if group in sums:
                sums[group] += part
            else:
                sums[group] = part.clone()

    def has(self, rule: str) -> bool:
        """Whether there was any layer that the rule takes."""
        return bool(self._sums.get(rule))

    def finish(self, rule: str, height: int, width: int) -> torch.Tensor:
        """(B, height, width) float32 on the CPU, each image's smallest value 0 and largest 1.

        A map without any contrast is 0 everywhere.

        Raises:
            SasError: a rule that was not asked for, or no layer that it takes.
        """
        sums = self._sums.get(rule)
        if sums is None:
            raise SasError(f"No attention was kept for the rule {rule!r}.")
        if not sums:
            raise SasError(
                f"The network has no cross-attention that the rule {rule!r} takes: it looks at the "
                "full, half and quarter resolution of the latent image. Take the rule paper."
            )
        merge = _paper if rule == "paper" else _released
        tokens = merge(sums, self._count, lambda maps: resized(maps, height, width))
        return min_max(tokens.mean(dim=1)).cpu()


def _paper(
    sums: dict[_Group, torch.Tensor],
    count: dict[_Group, int],
    resize: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """(B, T, height, width): every layer and step counts the same, whatever its resolution."""
    total = torch.zeros(())
    for one in sums.values():
        total = resize(one) + total.to(one.device)
    return total / sum(count[group] for group in sums)


def _released(
    sums: dict[_Group, torch.Tensor],
    count: dict[_Group, int],
    resize: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """(B, T, height, width): every resolution counts the same."""
    total = torch.zeros(())
    for group, one in sums.items():
        wide = resize(one / count[group])
        share = wide / wide.amax(dim=(2, 3), keepdim=True).clamp_min(1e-30)
        total = share + total.to(one.device)
    return total / len(sums)


def resized(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(B, T, height, width) of maps (B, T, h, w), bicubic with corners not aligned."""
    return torch.nn.functional.interpolate(
        maps, size=(height, width), mode="bicubic", align_corners=False
    )


def min_max(maps: torch.Tensor) -> torch.Tensor:
    """Maps (B, h, w) from their smallest value as 0 to their largest as 1."""
    low = maps.amin(dim=(1, 2), keepdim=True)
    high = maps.amax(dim=(1, 2), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (maps - low) / spread.clamp_min(1e-30), torch.zeros_like(maps))
