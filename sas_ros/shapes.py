"""Where an object is, in a form that can be compared with the next cloud.

Overlap is counted in cells of an eighth of the object's length, widened by one cell: surfaces are
sampled anew in every cloud, and never at the same points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sas_ros.observation import Float64Array
from sas_ros.voxels import distinct

BoolArray = npt.NDArray[np.bool_]

_SAMPLES_ALONG = 24  # of the longest side
_CELLS_ALONG = 8
_SMALLEST_CELL = 0.02  # metres


@dataclass(frozen=True, eq=False)
class Shape:
    """Where an object is: one sample for each cell of a grid that its points are in.

    Attributes:
        samples: (k, 3) float64, metres, k >= 1, evenly spread over its surface.
        score: of the object, (0, 1].
    """

    samples: Float64Array
    score: float = 0.0

    @cached_property
    def low(self) -> Float64Array:
        """(3,) least coordinates of the samples, metres."""
        return np.asarray(self.samples.min(axis=0))

    @cached_property
    def high(self) -> Float64Array:
        """(3,) greatest coordinates of the samples, metres."""
        return np.asarray(self.samples.max(axis=0))

    @cached_property
    def middle(self) -> Float64Array:
        """(3,) mean of the samples, metres."""
        return np.asarray(self.samples.mean(axis=0))

    @cached_property
    def length(self) -> float:
        """Longest side of the box along the axes, metres, at least a cell."""
        return max(float((self.high - self.low).max()), _SMALLEST_CELL)

    @cached_property
    def cell(self) -> float:
        """Edge of the cells that overlap is counted in, metres."""
        return max(self.length / _CELLS_ALONG, _SMALLEST_CELL)

    @cached_property
    def _own(self) -> BoolArray:
        """The cells that hold samples, with an empty layer around them."""
        cells = self._places(self.samples).astype(np.int64)
        filled = np.zeros(cells.max(axis=0) + 2, np.bool_)
        filled[tuple(cells.T)] = True
        return filled

    @cached_property
    def _near(self) -> BoolArray:
        """Those cells and all that touch them."""
        wide = self._own.copy()
        for axis in range(3):
            row = np.moveaxis(wide, axis, 0)
            before = row.copy()
            row[1:] |= before[:-1]
            row[:-1] |= before[1:]
        return wide

    def holds(self, points: Float64Array) -> BoolArray:
        """(n,) bool: which of `points` (n, 3), metres, lie in its cells."""
        return self._look_up(self._own, points)

    def covers(self, points: Float64Array) -> BoolArray:
        """(n,) bool: which of `points` (n, 3), metres, lie in its cells or next to one."""
        return self._look_up(self._near, points)

    def moved(self, pose: Float64Array) -> Shape:
        """The same in another frame; `pose` (4, 4) goes from this frame to that."""
        return Shape(self.samples @ pose[:3, :3].T + pose[:3, 3], self.score)

    def _places(self, points: Float64Array) -> Float64Array:
        """Rows of the grid; the outermost samples are in the middle of its outermost cells."""
        return np.asarray(np.floor((points - self.low) / self.cell + 0.5) + 1)

    def _look_up(self, cells: BoolArray, points: Float64Array) -> BoolArray:
        places = self._places(points)
        inside = ((places >= 0) & (places < cells.shape)).all(axis=1)
        found = np.zeros(len(points), np.bool_)
        found[inside] = cells[tuple(places[inside].astype(np.int64).T)]
        return found


def shape_of(points: Float64Array, score: float = 0.0) -> Shape:
    """The shape of an object's points (n, 3), finite, metres, n >= 1."""
    low = points.min(axis=0)
    step = max(float((points.max(axis=0) - low).max()) / _SAMPLES_ALONG, _SMALLEST_CELL / 4)
    cells = ((points - low) / step).astype(np.int64)
    along = cells.max(axis=0) + 1
    keys = (cells[:, 0] * along[1] + cells[:, 1]) * along[2] + cells[:, 2]
    rows, inverse = distinct(keys, int(along.prod()))
    counts = np.bincount(inverse, minlength=len(rows))
    sums = [np.bincount(inverse, weights=axis, minlength=len(rows)) for axis in points.T]
    return Shape(np.column_stack([total / counts for total in sums]), score)


def overlap(before: Shape, now: Shape) -> tuple[float, float]:
    """Shares in [0, 1]: how much of `before` lies in `now`, and how much of `now` in `before`."""
    gap = np.maximum(before.low - now.high, now.low - before.high).max()
    if gap > 2 * max(before.cell, now.cell):
        return 0.0, 0.0
    return float(now.covers(before.samples).mean()), float(before.covers(now.samples).mean())
