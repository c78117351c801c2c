"""Masks out of queries, each with logits of classes and of a mask (MaskFormer and its successors).

Two readings. `panoptic`: queries compete for pixels by class probability times mask probability; a
query keeps the pixels it wins where its own mask probability is a half or more, and stays when that
is most of its mask. `semantic`: every pixel takes the class with the largest sum over queries of
class probability times mask probability, so no pixel is left over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate

from sas_ros.errors import SasError
from sas_training.teachers.teacher import LabelledMask

KINDS = ("panoptic", "semantic")


@dataclass(frozen=True)
class QueryRules:
    """How masks are read out of queries.

    Attributes:
        kind: "panoptic" or "semantic".
        threshold: panoptic: least class probability of a query.
        overlap: panoptic: least share of a query's own mask that it must win.
        min_pixels: smaller masks are left out.
    """

    kind: str = "panoptic"
    threshold: float = 0.4
    overlap: float = 0.8
    min_pixels: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.threshold <= 1 and 0 <= self.overlap <= 1 and self.min_pixels >= 1):
            raise SasError(
                "threshold and overlap lie between 0 and 1 and min_pixels is 1 or more; they are "
                f"{self.threshold}, {self.overlap} and {self.min_pixels}."
            )


def read_queries(
    classes: torch.Tensor,
    masks: torch.Tensor,
    labels: Mapping[int, str],
    rules: QueryRules,
    padded: tuple[int, ...],
    seen: tuple[int, int],
    shape: tuple[int, ...],
) -> tuple[LabelledMask, ...]:
    """Masks of one image, the surest first.

    Args:
        classes: (Q, K + 1) logits, the last for "no object".
        masks: (Q, h, w) logits, over the padded image.
        labels: word of each class number.
        rules: how they are read.
        padded: (height, width) of what the network saw.
        seen: (height, width) of the part of it that was the image, at the upper left.
        shape: (height, width) of the image itself.
    """
    wide = interpolate(masks[None], padded, mode="bilinear", align_corners=False)
    wide = wide[:, :, : seen[0], : seen[1]]
    wide = interpolate(wide, tuple(shape), mode="bilinear", align_corners=False)[0].sigmoid()
    probability = classes.softmax(dim=-1)
    if rules.kind == "semantic":
        found = _semantic(probability[:, :-1], wide)
    else:
        found = _panoptic(probability, wide, rules)
    kept = [one for one in found if int(one[0].sum()) >= rules.min_pixels]
    kept.sort(key=lambda one: -one[2])
    return tuple(
        LabelledMask(mask.cpu().numpy(), labels.get(number, f"class {number}"), score)
        for mask, number, score in kept
    )


def _semantic(
    probability: torch.Tensor, masks: torch.Tensor
) -> list[tuple[torch.Tensor, int, float]]:
    """A mask per class that is there; its score is the mean share of the class at its pixels."""
    sums = torch.einsum("qk,qhw->khw", probability, masks)
    best, winner = (sums / sums.sum(dim=0).clamp_min(1e-9)).max(dim=0)
    found = []
    for number in winner.unique().tolist():
        mask = winner == number
        found.append((mask, int(number), min(1.0, float(best[mask].mean()))))
    return found


def _panoptic(
    probability: torch.Tensor, masks: torch.Tensor, rules: QueryRules
) -> list[tuple[torch.Tensor, int, float]]:
    """A mask per query that holds its ground; its score is its class probability."""
    scores, numbers = probability.max(dim=-1)
    nothing = probability.shape[-1] - 1
    sure = torch.nonzero((numbers != nothing) & (scores > rules.threshold))[:, 0]
    if len(sure) == 0:
        return []
    masks, scores, numbers = masks[sure], scores[sure], numbers[sure]
    winner = (scores[:, None, None] * masks).argmax(dim=0)
    found = []
    for place in range(len(sure)):
        own = masks[place] >= 0.5
        won = own & (winner == place)
        area = int(own.sum())
        if area and int(won.sum()) >= rules.overlap * area:
            found.append((won, int(numbers[place]), min(1.0, float(scores[place]))))
    return found
