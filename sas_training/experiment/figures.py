"""From predicted classes to figures: pooled and per-room mIoU, and what a step adds.

mIoU is that of one confusion matrix over all rooms, over the classes that are there; a row's figure
is its mean over the repetitions. Intervals come from a bootstrap over rooms: each draws as many
rooms as there are, with replacement, and takes all rows and repetitions of these rooms. The same
draws serve both sides of a step, so that what is hard about a room does not count.

Points that no frame shows are left out of the IoU of the teachers' rows, as in the published
evaluation; what a teacher is silent about although a frame shows it counts as wrong, so that nobody
gains by silence. A student's row is of all points. A step from one kind to the other compares both
on the points that frames show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.evaluation.labels import SCANNET20
from sas_training.evaluation.metrics import ConfusionMatrix

LEVEL = 0.95
RESAMPLES = 2000

STEPS = (
    ("2d/surfaces", "2d/capability"),
    ("2d/objects", "2d/capability"),
    ("2d/addition", "2d/capability"),
    ("2d/linear", "2d/capability"),
    ("2d/random-capability", "2d/capability"),
    ("2d/capability", "2d/oracle"),
    ("2d/capability", "3d/pixel"),
    ("3d/pixel", "3d/superpoint"),
    ("3d/superpoint-cosine", "3d/superpoint"),
    ("3d/superpoint", "3d/self-distillation"),
    ("3d/self-distillation", "3d/three-teachers"),
)
"""What the table asks: does the second have more than the first?"""

Counts = npt.NDArray[np.int64]
AnyCounts = npt.NDArray[np.int64] | npt.NDArray[np.float64]


def room_counts(truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]) -> Counts:
    """(20, 21) points by true class (rows) and predicted one (columns; the last: no class)."""
    matrix = ConfusionMatrix(SCANNET20.names)
    matrix.add(truth, predicted)
    return matrix.counts


def miou(counts: AnyCounts) -> npt.NDArray[np.float64]:
    """(...) mean IoU over the classes that are there, of confusion matrices (..., K, K + 1)."""
    there = counts.sum(axis=-1) > 0
    iou = np.where(there, class_iou(counts), 0.0)
    return np.asarray(iou.sum(axis=-1) / np.maximum(there.sum(axis=-1), 1))


def class_iou(counts: AnyCounts) -> npt.NDArray[np.float64]:
    """(..., K) IoU of each class, 0 where neither side has it, of confusions (..., K, K + 1)."""
    size = counts.shape[-2]
    hit = np.diagonal(counts[..., :size], axis1=-2, axis2=-1)
    union = counts.sum(axis=-1) + counts[..., :size].sum(axis=-2) - hit
    return np.asarray(hit / np.maximum(union, 1))


@dataclass(frozen=True, eq=False)
class RowCounts:
    """The confusions of one row.

    Attributes:
        everywhere: (S, R, K, K + 1) by repetition and room, of all points with a prediction.
        seen: the same of the points that a frame shows.
    """

    everywhere: Counts
    seen: Counts


def bootstrap_weights(rooms: int, seed: int, resamples: int = RESAMPLES) -> Counts:
    """(B, R) how often each room is drawn."""
    rng = np.random.default_rng((seed, 51))
    drawn = rng.integers(rooms, size=(resamples, rooms))
    return np.stack([np.bincount(row, minlength=rooms) for row in drawn])


def _resampled(counts: Counts, weights: Counts) -> npt.NDArray[np.float64]:
    """(B,) pooled mIoU of the drawn rooms, mean over repetitions, of counts (S, R, K, K + 1)."""
    # As floats, which are multiplied faster and hold whole numbers of this size exactly.
    drawn = np.stack([np.tensordot(weights.astype(np.float64), one, 1) for one in counts], axis=1)
    return np.asarray(miou(drawn).mean(axis=1))


def _interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def row_figures(name: str, row: RowCounts, weights: Counts) -> dict[str, Any]:
    """The entry of a row in the result, plain JSON."""
    pooled = miou(row.everywhere.sum(axis=1))
    low, high = _interval(_resampled(row.everywhere, weights))
    return {
        "name": name,
        "miou_mean": float(pooled.mean()),
        "miou_std": float(pooled.std(ddof=1)) if len(pooled) > 1 else 0.0,
        "low": low,
        "high": high,
        "miou_seen": float(miou(row.seen.sum(axis=1)).mean()),
        "miou_rooms_mean": float(miou(row.everywhere).mean()),
        "per_seed": pooled.tolist(),
        "per_room": miou(row.everywhere).mean(axis=0).tolist(),
        "per_class": _per_class(row.everywhere.sum(axis=1)),
    }


def _per_class(counts: Counts) -> dict[str, float | None]:
    """IoU of each class, mean over repetitions of pooled counts (S, K, K + 1)."""
    there = counts.sum(axis=(0, -1)) > 0
    values = class_iou(counts).mean(axis=0)
    return {name: float(values[k]) if there[k] else None for k, name in enumerate(SCANNET20.names)}


def step_figures(
    before: str, after: str, rows: Mapping[str, RowCounts], weights: Counts
) -> dict[str, Any]:
    """What the second row has more than the first: difference, interval, whether it adds."""
    both = (before, after)
    mixed = len({name.split("/")[0] for name in both}) > 1
    counts = [rows[name].seen if mixed else rows[name].everywhere for name in both]
    first, second = (miou(one.sum(axis=1)).mean() for one in counts)
    draws = [_resampled(one, weights) for one in counts]
    low, high = _interval(draws[1] - draws[0])
    return {
        "from": before,
        "to": after,
        "points": "seen" if mixed else "all",
        "difference": float(second - first),
        "low": low,
        "high": high,
        "adds": low > 0,
        "takes": high < 0,
    }


def all_figures(
    rows: Mapping[str, RowCounts], seed: int, steps: Sequence[tuple[str, str]] = STEPS
) -> dict[str, Any]:
    """`rows` and `steps` of the result.

    Raises:
        SasError: rows of different rooms or repetitions.
    """
    shapes = {row.everywhere.shape for row in rows.values()}
    if len(shapes) != 1:
        raise SasError("The rows of the table are of different rooms; start the run anew.")
    weights = bootstrap_weights(next(iter(shapes))[1], seed)
    return {
        "rows": [row_figures(name, row, weights) for name, row in rows.items()],
        "steps": [step_figures(before, after, rows, weights) for before, after in steps],
    }
