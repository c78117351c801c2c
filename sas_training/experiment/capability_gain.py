"""What fusion gains by a table, as a share of what it gains by the truth, and in which classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sas_training.distill.words import class_text
from sas_training.experiment.agreement import LEVEL, Figure
from sas_training.experiment.figures import RowCounts, bootstrap_weights, miou

NOTHING, TRUTH = "2d/addition", "2d/true-rooms"
OF = ("2d/known-words", "2d/diffusion", "2d/true-pictures")


def gain_shares(rows: Mapping[str, RowCounts], seed: int) -> dict[str, dict[str, float] | None]:
    """(row - `NOTHING`) / (`TRUTH` - `NOTHING`) in pooled mIoU, of each row of `OF`.

    The interval is a bootstrap over rooms with the draws of the rows' own. None where the truth
    itself does not gain in every draw, as then there is nothing to have a share of.
    """
    weights = bootstrap_weights(rows[NOTHING].everywhere.shape[1], seed).astype(np.float64)
    weights = np.concatenate([np.ones_like(weights[:1]), weights])  # first: all rooms, once
    values = {}
    for name in (NOTHING, TRUTH, *OF):
        drawn = np.stack([np.tensordot(weights, one, 1) for one in rows[name].everywhere], axis=1)
        values[name] = miou(drawn).mean(axis=1)
    whole = values[TRUTH] - values[NOTHING]
    if (whole <= 0).any():
        return dict.fromkeys(OF)
    shares = {name: (values[name] - values[NOTHING]) / whole for name in OF}
    ends = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    return {
        name: Figure(float(one[0]), *map(float, np.quantile(one[1:], ends))).to_json()
        for name, one in shares.items()
    }


def gain_by_class(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each row of `OF` and `TRUTH` what every class adds to its mIoU over that of `NOTHING`.

    Args:
        rows: entries of the result; a row's numbers add up to its step from `NOTHING`.
    """
    found = {row["name"]: row["per_class"] for row in rows}
    base = {name: iou for name, iou in found[NOTHING].items() if iou is not None}
    return {
        row: {class_text(name): (found[row][name] - iou) / len(base) for name, iou in base.items()}
        for row in (*OF, TRUTH)
    }
