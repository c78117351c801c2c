"""Upright boxes around objects.

A box stands upright; about the vertical it is turned so that the rectangle around the object's
elements is smallest. A few stray elements (at most 1 % per side, and only when they lie apart from
the rest) stay outside; no box leaves out more than 5 % of the points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.pose import turn_in_place
from sas_ros.voxels import distinct

Float64Array = npt.NDArray[np.float64]

_STRAY_SHARE = 0.01
_INSIDE_SHARE = 0.95
_SMALLEST_SIDE = 1e-3  # metres: a box is never flat, planners divide by its sides


@dataclass(frozen=True, eq=False)
class UprightBox:
    """Box in a frame with z up: centre (3,) m, axes (3, 3) as columns, full lengths (3,) m."""

    center: Float64Array
    axes: Float64Array
    size: Float64Array


def upright_box(points: Float64Array, element: npt.NDArray[np.integer]) -> UprightBox:
    """Return the smallest upright box around points (p, 3), metres, z up, p >= 1.

    Args:
        points: the points of one object.
        element: (p,) the element of each point. Sensors put most points on near faces, so sides
            and strays are judged by elements, each counting once.
    """
    first = int(element.min())
    _, member = distinct(element - first, int(element.max()) - first + 1)
    counts = np.bincount(member)
    columns = np.array(points.T, order="C")  # sums and extremes of long rows are much faster
    middle = columns.mean(axis=1)
    columns -= middle[:, None]
    centers = np.column_stack([np.bincount(member, weights=axis) / counts for axis in columns])
    yaw = _smallest_rectangle(centers[:, :2])
    cosine, sine = np.cos(yaw), np.sin(yaw)
    axes = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    turn_in_place(columns, axes.T)
    inside = _without_strays(centers @ axes)[member]
    share = np.count_nonzero(inside) / len(points)
    if _INSIDE_SHARE <= share < 1.0:
        columns = columns.compress(inside, axis=1)
    low, high = columns.min(axis=1), columns.max(axis=1)
    if high[1] - low[1] > high[0] - low[0]:  # the longer horizontal side is x: turn by 90 degrees
        axes = np.column_stack([axes[:, 1], -axes[:, 0], axes[:, 2]])
        low, high = (
            np.array([low[1], -high[0], low[2]]),
            np.array([high[1], -low[0], high[2]]),
        )
    if axes[0, 0] < 0 or (axes[0, 0] == 0 and axes[1, 0] < 0):  # a box looks the same from behind
        axes = axes * np.array([-1.0, -1.0, 1.0])
        low, high = (
            np.array([-high[0], -high[1], low[2]]),
            np.array([-low[0], -low[1], high[2]]),
        )
    return UprightBox(
        center=axes @ ((low + high) / 2) + middle,
        axes=axes,
        size=np.maximum(high - low, _SMALLEST_SIDE),
    )


def _smallest_rectangle(centers: Float64Array) -> float:
    """Yaw in radians, [0, pi/2), of the smallest rectangle around (m, 2), strays left out."""
    if len(centers) < 3:
        if len(centers) == 2 and (offset := centers[1] - centers[0]).any():
            return float(np.arctan2(offset[1], offset[0]) % (np.pi / 2))
        return 0.0
    # Coarse to fine: 3 degrees, then a quarter of one.
    coarse = _best_angle(centers, np.radians(np.arange(0.0, 90.0, 3.0)))
    fine = _best_angle(centers, coarse + np.radians(np.arange(-3.0, 3.01, 0.25)))
    return float(fine % (np.pi / 2))


def _best_angle(centers: Float64Array, angles: Float64Array) -> float:
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    x, y = centers[:, 0], centers[:, 1]
    area = _spread(cosine * x + sine * y) * _spread(cosine * y - sine * x)
    return float(angles[int(np.argmin(area))])


def _spread(values: Float64Array) -> Float64Array:
    """(a,) width of each row of (a, m) between its `_STRAY_SHARE` quantiles, whole ranks."""
    last = values.shape[1] - 1
    skip = int(_STRAY_SHARE * last)
    ranked = np.partition(values, (skip, last - skip), axis=1)
    return np.asarray(ranked[:, last - skip] - ranked[:, skip])


def _without_strays(local: Float64Array) -> npt.NDArray[np.bool_]:
    """(m,) bool: all but the few outermost elements that lie apart from the rest.

    An element at the border of an object lies close behind the 1 % quantile, a stray one does not:
    only what is farther out than a twentieth of the object's length is left out.
    """
    inside = np.ones(len(local), dtype=np.bool_)
    skip = int(_STRAY_SHARE * (len(local) - 1))
    if skip == 0:
        return inside
    for axis in range(3):
        ranked = np.sort(local[:, axis])
        low, high = ranked[skip], ranked[-1 - skip]
        slack = 0.05 * (high - low)
        inside &= (local[:, axis] >= low - slack) & (local[:, axis] <= high + slack)
    return inside


def quaternion_xyzw(rotation: Float64Array) -> Float64Array:
    """Return the unit quaternion (x, y, z, w), w >= 0, of a rotation matrix (3, 3)."""
    r = rotation
    # The largest component is never small: dividing by it keeps all digits.
    squared = np.array(
        [
            1 + r[0, 0] - r[1, 1] - r[2, 2],
            1 - r[0, 0] + r[1, 1] - r[2, 2],
            1 - r[0, 0] - r[1, 1] + r[2, 2],
            1 + r[0, 0] + r[1, 1] + r[2, 2],
        ]
    )
    products = np.array(
        [
            [squared[0], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]],
            [r[0, 1] + r[1, 0], squared[1], r[1, 2] + r[2, 1], r[0, 2] - r[2, 0]],
            [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], squared[2], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], squared[3]],
        ]
    )
    quaternion = products[int(np.argmax(squared))]
    quaternion = quaternion / np.linalg.norm(quaternion)
    return np.asarray(-quaternion if quaternion[3] < 0 else quaternion)


def rotation_matrix(xyzw: Sequence[float] | Float64Array) -> Float64Array:
    """(3, 3) rotation of a quaternion x y z w of any length; its columns are the turned axes.

    Raises:
        SasError: the quaternion is zero or not finite.
    """
    x, y, z, w = (float(value) for value in xyzw)
    length = math.sqrt(x * x + y * y + z * z + w * w)
    if not math.isfinite(length) or length < 1e-9:
        raise SasError(f"The quaternion {[x, y, z, w]} is no rotation; 0, 0, 0, 1 is no turn.")
    x, y, z, w = x / length, y / length, z / length, w / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
