"""Headerless float32 .bin files of driving data sets."""

from __future__ import annotations

import numpy as np

from sas_ros.clouds.values import cloud_colors, cloud_points
from sas_ros.errors import SasError
from sas_ros.observation import Cloud, Float32Array


def parse_bin(data: bytes, *, columns: int | None = None) -> Cloud:
    """Read little-endian float32 rows that start with x y z, metres; see `read_scan`.

    Args:
        data: the file.
        columns: values per point, or None to guess among 4 (KITTI: reflectance), 5 (nuScenes:
            intensity and ring) and 6 (red green blue).
    """
    if columns is not None and columns < 3:
        raise SasError(f"columns must be at least 3 (x, y, z), not {columns}.")
    if columns is None:
        columns = _guess_columns(data)
    if len(data) % (4 * columns):
        raise SasError(
            f"its {len(data)} bytes are no whole number of points of {columns} float32 values; "
            "it is cut off, or has another number of columns."
        )
    table = np.frombuffer(data, "<f4").reshape(-1, columns)
    points, origin = cloud_points([table[None, :, axis] for axis in range(3)])
    colors = cloud_colors(table[:, 3:6]) if columns == 6 and _are_colors(table[:, 3:6]) else None
    return Cloud(points=points, colors=colors, origin=origin)


def _guess_columns(data: bytes) -> int:
    """The number of columns whose meaning fits: strict ones first, for chance rarely fits them."""
    for columns in (5, 6, 4):
        if len(data) % (4 * columns):
            continue
        table = np.frombuffer(data, "<f4").reshape(-1, columns)
        if not _are_places(table[:, :3]):
            continue
        if columns == 5:
            fits = _is_intensity(table[:, 3]) and _are_rings(table[:, 4])
        elif columns == 6:
            fits = _are_colors(table[:, 3:])
        else:
            fits = _is_intensity(table[:, 3])
        if fits:
            return columns
    raise SasError(
        "its bytes are no float32 rows of 4 (KITTI), 5 (nuScenes) or 6 (x y z red green blue) "
        "columns; give the number of columns if it has another."
    )


def _are_places(points: Float32Array) -> bool:
    finite = np.isfinite(points)
    return bool(finite.any() and np.abs(points[finite]).max() < 1e5)


def _is_intensity(values: Float32Array) -> bool:
    return bool(((values >= 0) & (values <= 65535)).all())


def _are_rings(values: Float32Array) -> bool:
    return bool(((values >= 0) & (values < 256) & (values == np.round(values))).all())


def _are_colors(colors: Float32Array) -> bool:
    return bool(((colors >= 0) & (colors <= 255)).all())
