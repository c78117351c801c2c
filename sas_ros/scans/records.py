"""Points with named fields, as PLY, PCD and record arrays have them -> Cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.clouds.values import cloud_colors, cloud_points
from sas_ros.errors import SasError
from sas_ros.observation import Cloud

_SEPARATE = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
)
_LABELS = ("label", "labels", "class_id")


def cloud_from_columns(
    columns: Mapping[str, npt.NDArray[Any]], *, height: int = 1, width: int = -1
) -> Cloud:
    """Build a cloud from named columns of equal length.

    Args:
        columns: x, y, z (floats, metres); optionally a packed rgb or rgba (four-byte numbers),
            or red, green, blue (or r, g, b); and label. Other columns are ignored.
        height, width: organised shape; by default one row.

    Raises:
        SasError: x, y or z is missing or is no float; lists the columns.
    """
    for name in "xyz":
        if name not in columns or columns[name].dtype.kind != "f":
            found = ", ".join(f"{key} ({value.dtype.name})" for key, value in columns.items())
            raise SasError(
                f"it has no float column {name}; a scan needs x, y, z in metres. "
                f"Its columns: {found or 'none'}."
            )
    if width < 0:
        width = len(columns["x"])
    points, origin = cloud_points([columns[name].reshape(height, width) for name in "xyz"])
    labels = next((columns[name] for name in _LABELS if name in columns), None)
    return Cloud(
        points=points,
        colors=_colors(columns),
        labels=None if labels is None else label_ids(labels),
        height=height,
        width=width,
        origin=origin,
    )


def _colors(columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint8] | None:
    for name in ("rgb", "rgba"):
        if name in columns and columns[name].dtype.itemsize == 4 and columns[name].ndim == 1:
            # Read as bits: as a number, a packed float is meaningless.
            values = np.ascontiguousarray(columns[name])
            bits = values.view(values.dtype.byteorder + "u4").astype("<u4")
            return np.ascontiguousarray(bits.view(np.uint8).reshape(-1, 4)[:, 2::-1])
    for names in _SEPARATE:
        if all(name in columns and columns[name].ndim == 1 for name in names):
            return cloud_colors(np.stack([columns[name] for name in names], axis=1))
    return None


def label_ids(labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Labels of any whole-number type and shape as (N,) int64.

    Raises:
        SasError: they are not whole numbers.
    """
    flat = labels.reshape(-1)
    if flat.dtype.kind == "f" and np.isfinite(flat).all() and (flat == np.round(flat)).all():
        flat = flat.astype(np.int64)
    if flat.dtype.kind not in "iu":
        raise SasError(f"its labels are {flat.dtype.name} and not whole numbers.")
    return np.asarray(flat.astype(np.int64))
