"""How good a partition can be for labels: what is lost when a superpoint has one label only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError

IGNORED = 255
"""The label of a point that does not count."""


@dataclass(frozen=True)
class Quality:
    """Figures of one partition.

    Attributes:
        superpoints: how many.
        median_size, largest: points of the middle and of the largest one.
        below: how many have fewer points than the smallest size that was asked for.
        accuracy: achievable segmentation accuracy, the share of labelled points that are right when
            every superpoint takes the commonest label of its points; None without labelled points.
    """

    superpoints: int
    median_size: float
    largest: int
    below: int
    accuracy: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure(
    superpoint: npt.NDArray[np.integer[Any]],
    labels: npt.NDArray[np.integer[Any]] | None = None,
    min_size: int = 1,
) -> Quality:
    """Figures of a partition (N,), -1 = no superpoint, with class labels (N,), 255 = ignored."""
    sizes = np.bincount(superpoint[superpoint >= 0])
    sizes = sizes[sizes > 0]
    return Quality(
        superpoints=len(sizes),
        median_size=float(np.median(sizes)) if len(sizes) else 0.0,
        largest=int(sizes.max(initial=0)),
        below=int(np.count_nonzero(sizes < min_size)),
        accuracy=None if labels is None else achievable_accuracy(superpoint, labels),
    )


def achievable_accuracy(
    superpoint: npt.NDArray[np.integer[Any]], labels: npt.NDArray[np.integer[Any]]
) -> float | None:
    """Share of points right when each superpoint takes its majority label; None if none counts.

    Args:
        superpoint: (N,), -1 = none; such points do not count.
        labels: (N,) classes from 0; 255 and negative ones do not count.
    """
    if superpoint.shape != labels.shape:
        raise SasError(f"There are {len(superpoint)} superpoint ids for {len(labels)} labels.")
    counted = (superpoint >= 0) & (labels >= 0) & (labels != IGNORED)
    if not counted.any():
        return None
    classes = int(labels[counted].max()) + 1
    pairs, members = np.unique(
        superpoint[counted].astype(np.int64) * classes + labels[counted], return_counts=True
    )
    best = np.zeros(int(superpoint.max()) + 1, np.int64)
    np.maximum.at(best, pairs // classes, members)
    return float(best.sum() / np.count_nonzero(counted))


def voxel_partition(points: npt.NDArray[np.floating[Any]], count: int) -> npt.NDArray[np.int32]:
    """(N,) cubes of a grid with about `count` occupied ones: what superpoints have to beat.

    Args:
        points: (N, 3) finite, metres.
    """
    low = points.min(axis=0).astype(np.float64)
    smallest, largest = 1e-3, float(np.ptp(points, axis=0).max()) + 1e-3
    best = np.zeros(len(points), np.int32)
    for _ in range(30):
        edge = float(np.sqrt(smallest * largest))
        steps = np.floor((points - low) / edge).astype(np.int64)
        extent = steps.max(axis=0) + 1
        keys = (steps[:, 0] * extent[1] + steps[:, 1]) * extent[2] + steps[:, 2]
        found, cells = np.unique(keys, return_inverse=True)
        if abs(len(found) - count) < abs(int(best.max()) + 1 - count):
            best = cells.astype(np.int32)
        smallest, largest = (edge, largest) if len(found) > count else (smallest, edge)
    return best
