"""Light: the shape of things from their normals and from steps in depth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sas_ros.observation import Float64Array

Image = npt.NDArray[np.float32]

_CELLS = 24
"""Cells along the extent of a usual room; their planes give the normals."""


def lambert(points: Float64Array, eye: Float64Array, light: Float64Array) -> Image:
    """(N,) brightness in [0, 1] of points under a distant light; a middle value on rough ground.

    Args:
        points: (N, 3) metres.
        eye: (3,) where they are seen from; normals are turned to it.
        light: (3,) unit, towards the light.
    """
    extent = float(np.ptp(np.percentile(points[:: 1 + len(points) // 9999], (2, 98), axis=0), axis=0).max())
    cell = float(np.clip(extent / 45, 0.04, 0.5))
    total = np.zeros(len(points))
    # Several shifted grids, so that the cells themselves cannot be seen.
    for shift in (0.0, 1 / 3, 2 / 3):
        total += _lambert_once(points, eye, light, cell, shift)
    return np.asarray((total / 3).astype(np.float32))


def _lambert_once(
    points: Float64Array, eye: Float64Array, light: Float64Array, cell: float, shift: float
) -> Float64Array:
    local = (points - points.min(axis=0)) / cell + shift
    steps = np.floor(local).astype(np.int64)
    size = steps.max(axis=0) + 1
    keys = (steps[:, 0] * size[1] + steps[:, 1]) * size[2] + steps[:, 2]
    _, owner = np.unique(keys, return_inverse=True)
    owner = owner.reshape(-1)
    count = int(owner.max()) + 1
    members = np.bincount(owner, minlength=count)
    means = np.stack([np.bincount(owner, local[:, i], count) / members for i in range(3)], axis=1)
    offset = local - means[owner]
    moments = np.empty((count, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            moment = np.bincount(owner, offset[:, i] * offset[:, j], count) / members
            moments[:, i, j] = moments[:, j, i] = moment
    values, vectors = np.linalg.eigh(moments)
    normals = vectors[:, :, 0]
    centers = (means - shift) * cell + points.min(axis=0)
    facing = np.sign(np.einsum("ij,ij->i", normals, eye - centers))
    bright = np.clip(normals @ light * facing, 0.0, 1.0)
    thickness = np.sqrt(np.maximum(values[:, 0], 0) / np.maximum(values[:, 1], 1e-9))
    sure = np.clip(1.3 - 3.0 * thickness, 0.0, 1.0) * (members >= 5)
    return np.asarray((bright * sure + 0.6 * (1.0 - sure))[owner])


def eye_dome(depth: Image) -> Image:
    """Darken pixels that lie behind their neighbours: outlines, creases and contact shadows.

    Args:
        depth: (H, W) metres, inf where nothing is.

    Returns:
        (H, W) factors in (0, 1].
    """
    solid = np.isfinite(depth)
    log_depth = np.log2(np.where(solid, np.maximum(depth, 1e-3), 1.0)).astype(np.float32)
    far = float(log_depth[solid].max(initial=0.0)) + 0.02
    log_depth[~solid] = far
    shade = np.zeros_like(depth)
    for step, strength in ((1, 14.0), (3, 7.0), (8, 3.0)):
        behind = np.zeros_like(depth)
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            neighbour = np.roll(log_depth, (dy * step, dx * step), axis=(0, 1))
            behind += np.clip(log_depth - neighbour, 0.0, 0.05)
        shade += strength * behind / 8
    return np.exp(-shade * 1.6).astype(np.float32)
