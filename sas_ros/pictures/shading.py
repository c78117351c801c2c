"""Light: the shape of things from their normals and from steps in depth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sas_ros.observation import Float64Array

Image = npt.NDArray[np.float32]

_STEPS = ((1, 14.0), (3, 7.0), (8, 3.0))
"""Pixels to the neighbours that are compared, and how dark a step in depth makes a pixel."""


def lambert(points: Float64Array, eye: Float64Array, light: Float64Array) -> Image:
    """(N,) brightness in [0, 1] of points under a distant light; a middle value on rough ground.

    Args:
        points: (N, 3) metres.
        eye: (3,) where they are seen from; normals are turned to it.
        light: (3,) unit, towards the light.
    """
    extent = float(
        np.ptp(np.percentile(points[:: 1 + len(points) // 9999], (2, 98), axis=0), axis=0).max()
    )
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


def eye_dome(depth: Image, roughness: float) -> Image:
    """Darken pixels that lie behind their neighbours: outlines, creases and contact shadows.

    Args:
        depth: (H, W) metres, inf where nothing is.
        roughness: steps in the logarithm of depth up to this are no edges; dots make such steps.

    Returns:
        (H, W) factors in (0, 1].
    """
    factors = np.ones_like(depth)
    solid = np.isfinite(depth)
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    if not len(rows):
        return factors
    # Only the part that shows something, with a margin as wide as the longest step.
    reach = _STEPS[-1][0]
    part = (
        slice(max(int(rows[0]) - reach, 0), int(rows[-1]) + reach + 1),
        slice(max(int(columns[0]) - reach, 0), int(columns[-1]) + reach + 1),
    )
    solid = solid[part]
    log_depth = np.log2(np.maximum(depth[part], 1e-3), where=solid, out=np.zeros_like(depth[part]))
    log_depth[~solid] = float(log_depth[solid].max()) + 0.02
    shade = np.zeros_like(log_depth)
    for step, strength in _STEPS:
        for dy, dx in ((0, step), (step, 0), (step, step), (step, -step)):
            first, second = _shifted(log_depth, dy, dx)
            # One difference serves both pixels of a pair: one is behind the other.
            behind = first - second
            behind -= np.clip(behind, -roughness, roughness)
            behind = np.clip(behind, -0.05, 0.05) * np.float32(strength / 8)
            there, here = _shifted(shade, dy, dx)
            there += np.maximum(behind, 0.0)
            here += np.maximum(-behind, 0.0)
    factors[part] = np.exp(-1.6 * shade)
    return factors


def _shifted(image: Image, dy: int, dx: int) -> tuple[Image, Image]:
    """Two views of an image, so that pixels at the same place are (dy, dx) apart in it."""
    height, width = image.shape
    x0, x1 = max(dx, 0), width + min(dx, 0)
    return image[dy:, x0:x1], image[: height - dy, x0 - dx : x1 - dx]
