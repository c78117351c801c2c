"""Up from a cloud alone: the normal of the floor, told from walls and ceilings by what is on it.

Every candidate is a direction many surface patches share. The vertical one of a room is the one
along which the room is low, that has one large plane, and whose other surfaces stand upright. Its
sign comes from where the sensor and the furniture are: above the floor. Where that leaves a doubt,
the directions that sensors are usually mounted in decide.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.observation import Float64Array, Up
from sas_ros.patches import Patches, surface_patches, thin_out

_CANDIDATES = 5
_MOST_SEEDS = 500
_SAME = math.cos(math.radians(12.0))
_ACROSS = math.sin(math.radians(12.0))
_APART = math.cos(math.radians(15.0))

# What the parts of a score count for; tuned on the real scans and the generated rooms.
_WEIGHT_UPRIGHT = 0.6
_ENOUGH_LEVEL = 0.3  # more of it, and a camera that faces a wall takes the wall for the floor
_WEIGHT_LOW = 1.4
_WEIGHT_HABIT = 0.5
_WEIGHT_CAMERA_HABIT = 1.2  # a single view tells its kind of frame by where it looks
_WEIGHT_FACING = 0.6  # cameras look along the floor rather than straight at it
_WEIGHT_BELOW = 0.8
_WEIGHT_COLUMNS = 0.6
_WEIGHT_PLANES = 0.3
_WEIGHT_SIGN_HABIT = 0.4
_WEIGHT_CAMERA_SIGN_HABIT = 1.2


def estimate_up(points: npt.NDArray[np.floating[Any]]) -> Up:
    """Estimate up from the largest horizontal planes.

    Args:
        points: (N, 3) metres in any frame; rows that are not finite are ignored. If the sensor was
            at the origin, that helps.

    Returns:
        Up with source "planes"; +z with source "assumed" where no surface is found.
    """
    thinned = thin_out(points)
    patches = surface_patches(thinned)
    if not len(patches.weights):
        return Up(np.array([0.0, 0.0, 1.0]), "assumed")
    axes = _shared_directions(patches)
    extents = np.ptp(np.percentile(thinned @ np.stack(axes, axis=1), (1, 99), axis=0), axis=0)
    forward = _view_direction(thinned)
    scores = [
        _axis_score(patches, axis, float(extent / extents.max()), forward)
        for axis, extent in zip(axes, extents, strict=True)
    ]
    up = _level(patches, axes[int(np.argmax(scores))])
    if _sign_score(patches, thinned, up, forward) < 0:
        up = -up
    return Up(up, "planes")


def _shared_directions(patches: Patches) -> list[Float64Array]:
    """Directions that many normals share, heaviest first, none within 15 degrees of another.

    Where two of them are square to each other, what is square to both comes last: the vertical of
    a view that shows walls only.
    """
    normals, weights = patches.normals, patches.weights
    seeds = normals[np.argsort(-weights, kind="stable")[:_MOST_SEEDS]]
    off = 1.0 - np.abs(seeds @ normals.T)
    votes = np.exp(-off / (1.0 - math.cos(math.radians(4.0)))) @ weights
    found: list[Float64Array] = []
    for _ in range(4 * _CANDIDATES):
        best = int(np.argmax(votes))
        if len(found) == _CANDIDATES or votes[best] <= 0:
            break
        axis = _mean_axis(patches, seeds[best])
        votes[best] = 0.0
        votes[np.abs(seeds @ axis) > _APART] = 0.0
        if all(abs(float(axis @ other)) < _APART for other in found):
            found.append(axis)
    for first, second in itertools.combinations(found[:4], 2):
        axis = np.cross(first, second)
        length = float(np.linalg.norm(axis))
        axis = axis / max(length, 1e-9)
        square = length > math.cos(math.radians(5.0))
        if square and all(abs(float(axis @ other)) < _APART for other in found):
            found.append(axis)
    return found


def _mean_axis(patches: Patches, axis: Float64Array) -> Float64Array:
    for _ in range(3):
        near = np.abs(patches.normals @ axis) > _SAME
        normals = patches.normals[near]
        moments = (normals * patches.weights[near, None]).T @ normals
        axis = np.linalg.eigh(moments)[1][:, -1]
    return axis


def _axis_score(
    patches: Patches, axis: Float64Array, extent: float, forward: Float64Array | None
) -> float:
    """How much an axis looks like the vertical; `extent` is relative to the longest one."""
    along = np.abs(patches.normals @ axis)
    share = patches.weights / patches.weights.sum()
    level = float(share[along > _SAME].sum())
    upright = float(share[along < _ACROSS].sum())
    heights = (patches.centers @ axis)[along > _SAME]
    bins = np.floor((heights - heights.min(initial=np.inf)) / (patches.cell / 2)).astype(np.int64)
    largest_plane = float(np.bincount(bins, share[along > _SAME]).max(initial=0.0))
    habit = max(_habit(axis, forward), _habit(-axis, forward))
    facing = 0.5 if forward is None else abs(float(axis @ forward))
    return (
        min(level, _ENOUGH_LEVEL)
        + _WEIGHT_UPRIGHT * upright
        + min(largest_plane, _ENOUGH_LEVEL)
        - _WEIGHT_LOW * extent
        + (_WEIGHT_HABIT if forward is None else _WEIGHT_CAMERA_HABIT) * habit
        - _WEIGHT_FACING * facing
    )


def _habit(up: Float64Array, forward: Float64Array | None) -> float:
    """How usual an up direction is, in [0, 1]; `forward` is where a single view looks.

    A camera that looks along z is in an optical frame, with up near -y at any pitch. Everything
    else has z up as a rule, sometimes y; fused clouds also start in optical frames.
    """

    def bump(degrees: float, width: float) -> float:
        return math.exp(-0.5 * (degrees / width) ** 2)

    x, y, z = (float(np.clip(value, -1.0, 1.0)) for value in up)
    roll, pitch = math.degrees(math.asin(x)), math.degrees(math.atan2(z, -y))
    optical = bump(roll, 8.0) * bump(pitch, 35.0)
    if forward is not None and forward[2] > 0.7:
        return optical
    body = bump(math.degrees(math.acos(z)), 15.0)
    graphics = 0.5 * bump(math.degrees(math.acos(y)), 10.0)
    return max(body, graphics, optical if forward is None else 0.0)


def _view_direction(points: Float64Array) -> Float64Array | None:
    """Where a sensor at the origin looked, (3,) unit; None if it did not look one way."""
    distance = np.linalg.norm(points, axis=1)
    away = distance > 1e-3
    if not away.any():
        return None
    mean = (points[away] / distance[away, None]).mean(axis=0)
    strength = float(np.linalg.norm(mean))
    return np.asarray(mean / strength) if strength > 0.8 else None


def _level(patches: Patches, axis: Float64Array) -> Float64Array:
    """Refine an axis so that level patches are most parallel to it and upright ones least."""
    for _ in range(3):
        along = np.abs(patches.normals @ axis)
        sign = (along > _SAME).astype(np.float64) - (along < _ACROSS)
        moments = (patches.normals * (patches.weights * sign)[:, None]).T @ patches.normals
        vectors = np.linalg.eigh(moments)[1]
        axis = vectors[:, int(np.argmax(np.abs(axis @ vectors)))]
    return axis


def _sign_score(
    patches: Patches, points: Float64Array, up: Float64Array, forward: Float64Array | None
) -> float:
    """Positive where `up` points up, negative where it points down."""
    level = np.abs(patches.normals @ up) > _SAME
    weights = patches.weights[level]
    heights = patches.centers[level] @ up
    low, high = np.percentile(points @ up, (1, 99))
    # A sensor looks down on floors, tables and seats. Where the origin is no sensor, surfaces are
    # on both sides of it, and the third power makes that count little.
    clear = np.abs(heights) > 2 * patches.cell
    below = float((weights * clear * -np.sign(heights)).sum() / max(weights.sum(), 1e-9)) ** 3
    place = (heights - low) / max(high - low, 1e-9)
    floor = float(weights[place < 0.1].sum() / max(weights.sum(), 1e-9))
    ceiling = float(weights[place > 0.9].sum() / max(weights.sum(), 1e-9))
    planes = 0.0 if min(floor, ceiling) > 0.15 else floor - ceiling
    habit = _habit(up, forward) - _habit(-up, forward)
    return (
        _WEIGHT_BELOW * below
        + _WEIGHT_COLUMNS * _standing(points, up, patches.cell, float(low), float(high))
        + _WEIGHT_PLANES * planes
        + (_WEIGHT_SIGN_HABIT if forward is None else _WEIGHT_CAMERA_SIGN_HABIT) * habit
    )


def _standing(
    points: Float64Array, up: Float64Array, cell: float, low: float, high: float
) -> float:
    """Share of columns that are filled low and empty high, minus the other way round.

    Furniture stands on the floor; little hangs from a ceiling. Walls fill both halves.
    """
    side = np.cross(up, np.eye(3)[int(np.argmin(np.abs(up)))])
    side /= np.linalg.norm(side)
    place = (points @ up - low) / max(high - low, 1e-9)
    columns = np.stack([points @ side, points @ np.cross(up, side)], axis=1)
    columns = np.floor(columns / (2 * cell)).astype(np.int64)
    columns -= columns.min(axis=0)
    keys = columns[:, 0] * (int(columns[:, 1].max()) + 1) + columns[:, 1]
    lower = np.unique(keys[(place > 0.08) & (place < 0.45)])
    upper = np.unique(keys[(place > 0.55) & (place < 0.92)])
    both = len(np.intersect1d(lower, upper, assume_unique=True))
    only_low, only_high = len(lower) - both, len(upper) - both
    return (only_low - only_high) / max(only_low + only_high, 1)
