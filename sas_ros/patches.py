"""Small flat pieces of the surfaces in a cloud: what gravity and wall directions are read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.observation import Float64Array
from sas_ros.voxels import distinct

MOST_POINTS = 60_000
"""Clouds are thinned to about this many points first; planes need no more."""
_FINE = 5
"""Fine voxels along the edge of a cell; each counts once, so that dense regions do not dominate."""
_FEWEST = 6
"""Fine voxels that a cell needs for a plane."""


@dataclass(frozen=True)
class Patches:
    """Flat pieces, one for each cell of a coarse grid that holds a plane.

    Attributes:
        centers: (K, 3) float64, metres, frame of the points.
        normals: (K, 3) float64 unit normals of arbitrary sign.
        weights: (K,) float64, covered area in m2 times flatness in [0, 1].
        cell: metres, the edge of a cell.
    """

    centers: Float64Array
    normals: Float64Array
    weights: Float64Array
    cell: float


def thin_out(points: npt.NDArray[np.floating[Any]], most: int = MOST_POINTS) -> Float64Array:
    """Every k-th finite point as (n, 3) float64, n about `most` at the most; the same each time."""
    chosen = np.ascontiguousarray(points[:: max(1, -(-len(points) // most))])
    chosen = chosen[np.isfinite(chosen).all(axis=1)]
    return np.asarray(chosen, np.float64)


def surface_patches(points: Float64Array) -> Patches:
    """Find flat pieces, in cells of a thirtieth of the cloud's extent (8 cm to 1 m).

    Args:
        points: (N, 3) finite, metres; thinned with `thin_out` for speed.
    """
    if len(points) < _FEWEST:
        return Patches(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), 1.0)
    low, high = np.percentile(points[:: 1 + len(points) // 5000], (5, 95), axis=0)
    cell = float(np.clip(np.max(high - low) / 30, 0.08, 1.0))
    middle = (low + high) / 2
    # Stray returns kilometres away would overflow the grid and say nothing about the room.
    away = np.abs(points.T - middle[:, None])
    near = np.maximum(np.maximum(away[0], away[1]), away[2]) < 1000 * cell
    if np.count_nonzero(near) < _FEWEST:
        return Patches(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), 1.0)
    fine = _means(points[near] - middle, cell / _FINE)
    owner, count = _grid(fine, cell)
    sums = [np.bincount(owner, fine[:, axis], count) for axis in range(3)]
    members = np.bincount(owner, minlength=count)
    centers = np.stack(sums, axis=1) / members[:, None]
    offset = fine - centers[owner]
    covariance = np.empty((count, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            total = np.bincount(owner, offset[:, i] * offset[:, j], count)
            covariance[:, i, j] = covariance[:, j, i] = total / members
    enough = members >= _FEWEST
    values, vectors = np.linalg.eigh(covariance[enough])
    # Flat: thin against its second extent. A line of points (small second value) is no surface.
    thickness = np.sqrt(np.maximum(values[:, 0], 0.0) / np.maximum(values[:, 1], 1e-12))
    flatness = np.clip(1.0 - 3.0 * thickness, 0.0, 1.0) * (values[:, 1] > (cell / 10) ** 2)
    weights = flatness * members[enough] * (cell / _FINE) ** 2
    flat = weights > 0
    return Patches(
        centers[enough][flat] + middle, vectors[:, :, 0][flat], np.asarray(weights[flat]), cell
    )


def _grid(points: Float64Array, cell: float) -> tuple[npt.NDArray[np.int64], int]:
    """(N,) number of the occupied cell of each point, and how many cells are occupied."""
    steps = np.floor(np.ascontiguousarray(points.T) / cell).astype(np.int64)
    steps -= steps.min(axis=1)[:, None]
    size = [int(extent) for extent in steps.max(axis=1) + 1]
    keys = (steps[0] * size[1] + steps[1]) * size[2] + steps[2]
    found, owner = distinct(keys, size[0] * size[1] * size[2])
    return owner.astype(np.int64, copy=False), len(found)


def _means(points: Float64Array, cell: float) -> Float64Array:
    owner, count = _grid(points, cell)
    members = np.bincount(owner, minlength=count)
    sums = [np.bincount(owner, points[:, axis], count) / members for axis in range(3)]
    return np.stack(sums, axis=1)
