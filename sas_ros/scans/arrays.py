"""NumPy files: .npy and .npz, read without unpickling and without trusting declared sizes."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.clouds.values import cloud_colors, cloud_points
from sas_ros.errors import SasError
from sas_ros.observation import Cloud
from sas_ros.scans.records import cloud_from_columns, label_ids

_MOST_DEFLATED = 1040
"""Deflate makes data at most about this many times smaller; a larger claim is a lie."""


def parse_npy_scan(data: bytes) -> Cloud:
    """Read the bytes of a .npy file; see `read_scan`."""
    return _cloud(parse_npy(data), None, None)


def parse_npz_scan(data: bytes) -> Cloud:
    """Read the bytes of a .npz file with `points`, and optionally `colors` and `labels`."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {
            info.filename.removesuffix(".npy"): info
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }
        if "points" not in members:
            found = ", ".join(sorted(members)) or "none"
            raise SasError(f"it has no array `points`; its arrays: {found}.")
        arrays = {}
        for name in ("points", "colors", "labels"):
            if name not in members:
                continue
            info = members[name]
            if info.file_size > _MOST_DEFLATED * (info.compress_size + 64):
                raise SasError(f"its array `{name}` claims an impossible size.")
            arrays[name] = parse_npy(archive.read(info))
    return _cloud(arrays["points"], arrays.get("colors"), arrays.get("labels"))


def parse_npy(data: bytes) -> npt.NDArray[Any]:
    """Read one array from the bytes of a .npy file; the array is read-only.

    Raises:
        SasError: it is cut off, or holds Python objects.
    """
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    # Versions 2 and 3 differ in the encoding of field names only.
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    try:
        shape, fortran, dtype = read_header(stream)
    except (SyntaxError, tokenize.TokenError, TypeError, RecursionError) as error:
        raise SasError(f"its header is damaged ({error}).") from error
    if dtype.hasobject:
        raise SasError("it holds Python objects, which are not read because that can run code.")
    count, start = math.prod(shape), stream.tell()
    if min(shape, default=0) < 0 or len(data) - start < count * dtype.itemsize:
        raise SasError(
            f"it announces an array of shape {shape}, {count * dtype.itemsize} bytes, "
            f"and only {len(data) - start} are left."
        )
    if not count or not dtype.itemsize:
        return np.zeros(shape, dtype)
    flat = np.frombuffer(data, dtype, count, start)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _cloud(
    points: npt.NDArray[Any],
    colors: npt.NDArray[Any] | None,
    labels: npt.NDArray[Any] | None,
) -> Cloud:
    if points.dtype.names:
        records = points.reshape(-1)
        return cloud_from_columns({name: records[name] for name in points.dtype.names})
    if points.dtype.kind != "f" or points.ndim not in (2, 3) or points.shape[-1] < 3:
        raise SasError(
            f"its points are {points.dtype.name} of shape {points.shape}; they must be floats of "
            "shape (N, 3) or wider: x, y, z in metres, then red, green, blue if there are any."
        )
    height, width = points.shape[:2] if points.ndim == 3 else (1, len(points))
    table = points.reshape(height, width, points.shape[-1])
    places, origin = cloud_points([table[..., axis] for axis in range(3)])
    if colors is None and table.shape[-1] >= 6 and _are_colors(table[..., 3:6]):
        colors = table[..., 3:6]
    if colors is not None:
        if colors.dtype.kind not in "fiu" or colors.shape[-1:] not in ((3,), (4,)):
            raise SasError(
                f"its colours are {colors.dtype.name} of shape {colors.shape}, not (N, 3) numbers."
            )
        colors = cloud_colors(colors.reshape(-1, colors.shape[-1])[:, :3])
    return Cloud(
        points=places,
        colors=colors,
        labels=None if labels is None else label_ids(labels),
        height=height,
        width=width,
        origin=origin,
    )


def _are_colors(values: npt.NDArray[Any]) -> bool:
    """Whether columns 4 to 6 are colours: normals, the other custom, are negative somewhere."""
    known = values[np.isfinite(values)]
    return bool(known.size and known.min() >= 0 and known.max() <= 255)
