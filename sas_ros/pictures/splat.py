"""Points -> which point each pixel shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sas_ros.observation import Float64Array

_MOST_RADIUS = 13
"""Pixels; larger gaps between points stay gaps."""

Indices = npt.NDArray[np.int64]


def point_spacing(points: Float64Array) -> Float64Array:
    """(N,) metres to the next points, estimated from how many share a cell of a grid."""
    extent = float(np.ptp(points, axis=0).max()) if len(points) else 1.0
    spacing = np.full(len(points), np.inf)
    cell = max(extent / 16, 1e-6)
    # From coarse to fine: the finest cells that still hold some points see the local density.
    for _ in range(7):
        steps = np.floor((points - points.min(axis=0)) / cell).astype(np.int64)
        size = steps.max(axis=0) + 1
        keys = (steps[:, 0] * size[1] + steps[:, 1]) * size[2] + steps[:, 2]
        _, owner, members = np.unique(keys, return_inverse=True, return_counts=True)
        count = members[owner.reshape(-1)]
        enough = count >= 9
        spacing[enough] = cell / np.sqrt(count[enough])
        if not enough.any():
            break
        cell /= 2
    known = spacing[np.isfinite(spacing)]
    usual = float(np.median(known)) if len(known) else extent / np.sqrt(len(points))
    usual = max(usual, 1e-3)
    # Stray points are no surface that large dots should close.
    return np.where(spacing > 8 * usual, 2 * usual, np.maximum(spacing, 1e-3))


def splat(
    pixels: Float64Array,
    depth: Float64Array,
    radius: Float64Array,
    focal: float,
    size: tuple[int, int],
) -> Indices:
    """Draw points as round dots, near ones in front.

    Dots are cones that point at the viewer: where the dots of one surface overlap, a pixel shows
    the point that is nearest to it in the picture, so that edges in the colours stay sharp.

    Args:
        pixels: (N, 2) x and y.
        depth: (N,) metres; what is not in front of the eye is not drawn.
        radius: (N,) pixels.
        focal: of the camera, pixels.
        size: width and height.

    Returns:
        (height, width) int64, the point each pixel shows; -1 where there is none.
    """
    width, height = size
    nearest = np.full(width * height, np.inf, np.float32)
    shown = np.full(width * height, -1, np.int64)
    column = np.floor(pixels[:, 0]).astype(np.int64)
    row = np.floor(pixels[:, 1]).astype(np.int64)
    edge = _MOST_RADIUS
    inside = (depth > 0) & (column >= edge) & (column < width - edge)
    inside &= (row >= edge) & (row < height - edge)
    # Far points first: of several assignments to one pixel the last, the nearest, stays.
    order = np.flatnonzero(inside)
    order = order[np.argsort(-depth[order], kind="stable")]
    reach = np.clip(radius[order], 0, _MOST_RADIUS)
    place = row[order] * width + column[order]
    far = depth[order].astype(np.float32)
    slope = far / np.float32(focal)  # metres that a pixel spans at the point: cones of 45 degrees
    most = int(reach.max(initial=0.0) + 0.3)
    for dy in range(-most, most + 1):
        for dx in range(-most, most + 1):
            away = float(np.hypot(dx, dy))
            members = np.flatnonzero(reach + 0.3 >= away) if away else np.arange(len(order))
            if not len(members):
                continue
            target = place[members] + dy * width + dx
            behind = far[members] + slope[members] * np.float32(away)
            wins = behind < nearest[target]
            target, members = target[wins], members[wins]
            nearest[target] = behind[wins]
            shown[target] = order[members]
    return shown.reshape(height, width)


def close_holes(shown: Indices, reach: int) -> Indices:
    """Fill gaps up to twice `reach` pixels wide with what is beside them."""
    height, width = shown.shape
    solid = np.pad(shown >= 0, reach)
    closed = ~_grow(~_grow(solid, reach), reach)[reach:-reach, reach:-reach]
    flat = shown.reshape(-1).copy()
    empty = np.flatnonzero(closed.reshape(-1) & (flat < 0))
    for _ in range(2 * reach):
        found = np.full(len(empty), -1, np.int64)
        for step in (1, width, -1, -width):
            beside = flat[np.clip(empty + step, 0, height * width - 1)]
            found = np.where(found < 0, beside, found)
        flat[empty] = found
        empty = empty[found < 0]
        if not len(empty):
            break
    return flat.reshape(height, width)


def _grow(mask: npt.NDArray[np.bool_], reach: int) -> npt.NDArray[np.bool_]:
    """Dilate by an octagon, which is nearly a disc, of `reach` pixels to each side."""
    square = round(0.41 * reach)
    for axis in (0, 1):
        for _ in range(square):
            mask = mask | _beside(mask, axis)
    for _ in range(reach - square):
        mask = mask | _beside(mask, 0) | _beside(mask, 1)
    return mask


def _beside(mask: npt.NDArray[np.bool_], axis: int) -> npt.NDArray[np.bool_]:
    """Whether a pixel's neighbour before or after it, along an axis, is set."""
    result = np.zeros_like(mask)
    if axis == 0:
        result[:-1] = mask[1:]
        result[1:] |= mask[:-1]
    else:
        result[:, :-1] = mask[:, 1:]
        result[:, 1:] |= mask[:, :-1]
    return result
