"""Points as the network wants them laid: rows x, y, z, upright, walls along the axes.

Here a cloud is (3, N), a row per axis: sums, extremes and turns of long rows are an order of
magnitude faster than those of N short ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sas_ros.gravity import canonical_yaw
from sas_ros.observation import Float64Array
from sas_ros.student.inputs import FLOOR_PERCENTILE

_CHUNK = 2**15
"""Points turned at a time: they stay in the cache, and no second cloud is needed."""


def columns_of(points: npt.NDArray[np.floating], rows: npt.NDArray[np.bool_]) -> Float64Array:
    """The chosen `rows` (N,) of points (N, 3) as (3, n) float64."""
    if rows.all():
        return np.array(points.T, dtype=np.float64, order="C")  # a copy: it will be turned
    chosen = np.flatnonzero(rows)
    columns = np.empty((3, len(chosen)))
    for axis in range(3):
        columns[axis] = points[chosen, axis]
    return columns


def turn_in_place(columns: Float64Array, matrix: Float64Array) -> None:
    """Multiply every point of (3, N) by `matrix` (3, 3)."""
    if np.array_equal(matrix, np.eye(3)):
        return
    for start in range(0, columns.shape[1], _CHUNK):
        part = columns[:, start : start + _CHUNK]
        part[:] = matrix @ part


def lay_along_walls(columns: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Turn a cloud to a pose that depends on the room, not on how the sensor was turned.

    Args:
        columns: (3, N) metres, z up; turned in place.

    Returns:
        The (3, 3) rotation about z that was applied, which puts the walls along the axes and the
        heavier side of the room in the first quadrant, and the (3,) grid origin in the turned
        frame: the middle of the bounds horizontally, the floor vertically.
    """
    turn = _about_z(-canonical_yaw(columns.T))
    turn_in_place(columns, turn)
    low, high = _bounds(columns)
    heavy = columns[:2].mean(axis=1) - (low + high) / 2
    quarter = int(np.floor(np.arctan2(heavy[1], heavy[0]) / (np.pi / 2)))
    if quarter:
        square = np.round(_about_z(-quarter * np.pi / 2))
        turn = square @ turn
        turn_in_place(columns, square)
        low, high = _bounds(columns)
    floor = np.percentile(columns[2], FLOOR_PERCENTILE)
    return turn, np.array([*(low + high) / 2, floor])


def _bounds(columns: Float64Array) -> tuple[Float64Array, Float64Array]:
    return columns[:2].min(axis=1), columns[:2].max(axis=1)


def _about_z(angle: float) -> Float64Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
