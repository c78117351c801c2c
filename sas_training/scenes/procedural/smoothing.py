"""What fusing into a volume does to a cloud: flat parts get smooth, edges and corners get round."""

from __future__ import annotations

import numpy as np

from .furniture import Rng
from .primitives import Array

_CELL = 0.13  # m; about what a distance field of 4-5 cm voxels averages over
_LEAST = 5  # points of a cell that has a plane


def smoothed(points: Array, rng: Rng, strength: float, farthest: float = 0.02) -> Array:
    """Move points (N, 3) float32 m towards the planes of the small cubes they lie in.

    `strength` 0..1 is the share of the way, up to `farthest` m, so that thin things stay; where the
    cubes lie is drawn. Returns (N, 3) float32.
    """
    moved = points.astype(np.float64)
    cells = np.floor((moved - moved.min(0)) / _CELL + rng.random(3)).astype(np.int64)
    size = cells.max(0) + 1
    keys = (cells[:, 0] * size[1] + cells[:, 1]) * size[2] + cells[:, 2]
    _, owner, members = np.unique(keys, return_inverse=True, return_counts=True)
    owner = owner.reshape(-1)
    middle = np.stack([np.bincount(owner, moved[:, k]) for k in range(3)], 1)
    offset = moved - (middle / members[:, None])[owner]
    moments = np.empty((len(members), 3, 3))
    for i in range(3):
        for j in range(i, 3):
            moments[:, i, j] = np.bincount(owner, offset[:, i] * offset[:, j])
            moments[:, j, i] = moments[:, i, j]
    normals = np.linalg.eigh(moments)[1][:, :, 0]
    normals[members < _LEAST] = 0.0
    away = (offset * normals[owner]).sum(1)
    step = strength * np.clip(away, -farthest, farthest)
    moved -= step[:, None] * normals[owner]
    return np.asarray(moved.astype(np.float32))
