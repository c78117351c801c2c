"""What of a measured capability to believe: fusion by intervals instead of by means.

A capability from 50 images is known to some hundredths, and fusion by a softmax with tau 0.05 turns
a hundredth of difference into a tenth of weight. Two cautious readings of the same table:

- `lower`: the lower end of the interval, so that a class measured badly counts as known badly;
- `separate`: teachers whose intervals for a class overlap, also by way of others, get the mean of
  their scores, so that a difference counts only where it is one.

`mean` is the table as it is, the paper's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.capability.table import CapabilityTable

CERTAINTIES = ("mean", "lower", "separate")
"""Names of the readings."""


def cautious(table: CapabilityTable, certainty: str) -> CapabilityTable:
    """The table with its macro scores read with caution; see above.

    Raises:
        SasError: no such reading, or a table without intervals.
    """
    if certainty not in CERTAINTIES:
        raise SasError(
            f"{certainty!r} is no reading of capabilities; known are {', '.join(CERTAINTIES)}."
        )
    if certainty == "mean":
        return table
    if table.intervals is None:
        raise SasError(
            f"The reading {certainty!r} of capabilities needs a table with intervals; measure it "
            "with `sas capability`, or take the reading mean."
        )
    if certainty == "lower":
        return replace(table, scores=table.intervals[..., 0])
    columns = [
        _separate(table.scores[:, column], table.intervals[:, column])
        for column in range(len(table.classes))
    ]
    return replace(table, scores=np.stack(columns, axis=1))


def _separate(
    scores: npt.NDArray[np.float64], ends: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Scores (T,) of one class, the mean over each chain of overlapping intervals (T, 2)."""
    result = scores.copy()
    order = np.argsort(ends[:, 0], kind="stable")
    chain: list[int] = []
    reach = -1.0
    for number in [*order.tolist(), -1]:
        if chain and (number < 0 or ends[number, 0] > reach):
            result[chain] = scores[chain].mean()
            chain = []
        if number >= 0:
            reach = float(ends[number, 1]) if not chain else max(reach, float(ends[number, 1]))
            chain.append(number)
    return result
