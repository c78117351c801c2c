"""Cloud -> PointCloud2 in our fixed layouts, and bit-for-bit copies of chosen points."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.clouds.layout import (
    TYPES,
    CloudMessage,
    checked_bytes,
    column,
    read_header,
    stamp_fields,
)
from sas_ros.errors import SasError
from sas_ros.observation import Cloud, SourceHeader

UNLABELLED = 65535
"""Label id on the wire of a point that has no class."""
NO_INSTANCE = 0
"""Instance id on the wire of a point of no instance; instances count from 1."""

UNKNOWN_COLOR = 128
"""Grey level written into `rgb` where the source has no colour."""

_XYZRGB: list[tuple[str, str, int]] = [("x", "f4", 0), ("y", "f4", 4), ("z", "f4", 8)]
_XYZRGB += [("rgb", "f4", 12)]
_LABELLED = [*_XYZRGB, ("label", "u4", 16), ("confidence", "f4", 20), ("instance", "u4", 24)]

Indices = npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]


def has_plain_xyz(message: CloudMessage) -> bool:
    """Whether x, y, z are adjacent little-endian float32, as simple consumers take for granted.

    MoveIt's octomap updater, for one, reads three floats from the place of x. Where this is False,
    send `write_subset` to such a consumer instead of `copy_points`.
    """
    fields = {field.name: field for field in message.fields}
    if message.is_bigendian or not {"x", "y", "z"} <= fields.keys():
        return False
    start = int(fields["x"].offset)
    return all(
        int(fields[name].datatype) == 7 and int(fields[name].offset) == start + 4 * axis
        for axis, name in enumerate("xyz")
    )


def copy_points(message: Any, indices: Indices) -> Any:
    """Copy points of a message bit for bit into a new, unorganised message of the same type.

    All fields, the layout, the byte order and the header stay; only the chosen points are kept.

    Args:
        message: as for `read_cloud`; not changed.
        indices: (K,) point indices in any order (row by row in an organised cloud), or an (N,)
            bool mask.

    Returns:
        A message of height 1 and width K without padding between points.

    Raises:
        SasError: the message contradicts itself, or an index is outside the cloud.
    """
    height, width, step = int(message.height), int(message.width), int(message.point_step)
    chosen = _as_indices(indices, height * width)
    raw = b""
    if len(chosen):
        data = checked_bytes(message)
        rows = column(message, data, 0, np.dtype(f"V{step}"))
        if height == 1 or rows.strides[0] == width * step:
            kept = rows.reshape(-1)[chosen]
        else:
            kept = rows[chosen // width, chosen % width]
        raw = kept.tobytes()
    result = copy.copy(message)
    result.header = copy.deepcopy(message.header)
    result.fields = copy.deepcopy(message.fields)
    result.height = 1
    result.width = len(chosen)
    result.row_step = len(chosen) * step
    if isinstance(message.data, np.ndarray):  # what bag readers give and expect back
        result.data = np.frombuffer(raw, np.uint8)
    else:
        result.data = array("B", raw)
    return result


def write_labelled_cloud(
    message_type: Any,
    point_field_type: Any,
    header: Any,
    cloud: Cloud,
    *,
    rgb: npt.NDArray[np.uint8] | None,
    label: npt.NDArray[np.integer[Any]],
    confidence: npt.NDArray[np.floating[Any]],
    instance: npt.NDArray[np.integer[Any]] | None = None,
) -> Any:
    """Write a cloud with a label per point: same points, order and shape as `cloud`.

    Layout, 32 bytes a point, little endian: x, y, z float32 at 0, 4, 8 (metres, source frame), rgb
    at 12 (0x00RRGGBB as the bits of a float32), label uint32 at 16, confidence float32 at 20,
    instance uint32 at 24. Points that are not finite get `UNLABELLED`, confidence 0 and
    `NO_INSTANCE`, whatever is given for them.

    Args:
        message_type, point_field_type: the classes sensor_msgs.msg.PointCloud2 and PointField.
        header: of the source, as std_msgs/msg/Header or `SourceHeader`; copied.
        rgb: (N, 3) uint8, or None for the cloud's own colours (grey where it has none).
        label: (N,) ids in [0, 65535].
        confidence: (N,) probabilities.
        instance: (N,) ids, or None where there are none.

    Raises:
        SasError: an argument has another number of points, or a label is outside [0, 65535].
    """
    count = len(cloud.points)
    ids = np.zeros(count, np.uint32) if instance is None else np.asarray(instance)
    for name, values in (("labels", label), ("confidences", confidence), ("instances", ids)):
        if np.shape(values) != (count,):
            raise SasError(
                f"A labelled cloud of {count} points needs ({count},) {name}, "
                f"not {np.shape(values)}."
            )
    label = np.asarray(label)
    if count and (label.min() < 0 or label.max() > UNLABELLED):
        raise SasError(f"Labels must be in [0, {UNLABELLED}]; use {UNLABELLED} for unlabelled.")
    data, records = _xyzrgb_records(_LABELLED, 32, cloud, cloud.points, rgb)
    records["label"] = label
    records["confidence"] = confidence
    records["instance"] = ids
    bad = np.flatnonzero(~cloud.valid)
    if len(bad):
        records["label"][bad] = UNLABELLED
        records["confidence"][bad] = 0.0
        records["instance"][bad] = NO_INSTANCE
    shape, dense = (cloud.height, cloud.width), not len(bad)
    return _message(message_type, point_field_type, header, _LABELLED, 32, data, shape, dense)


def write_cloud(
    message_type: Any,
    point_field_type: Any,
    header: Any,
    cloud: Cloud,
    *,
    rgb: npt.NDArray[np.uint8] | None = None,
) -> Any:
    """Write a whole cloud as x, y, z, rgb (float32, 16 bytes a point), its shape kept.

    Arguments are those of `write_labelled_cloud`; for replaying files, where there is no source
    message to copy from.
    """
    data, _ = _xyzrgb_records(_XYZRGB, 16, cloud, cloud.points, rgb)
    shape, dense = (cloud.height, cloud.width), bool(cloud.valid.all())
    return _message(message_type, point_field_type, header, _XYZRGB, 16, data, shape, dense)


def write_subset(
    message_type: Any,
    point_field_type: Any,
    header: Any,
    cloud: Cloud,
    indices: Indices,
    *,
    rgb: npt.NDArray[np.uint8] | None = None,
) -> Any:
    """Write chosen points of a cloud as x, y, z, rgb (float32, 16 bytes a point), unorganised.

    For consumers that need this layout, and where the source message is gone; `copy_points` keeps
    all fields of the source.

    Args:
        message_type, point_field_type, header: as in `write_labelled_cloud`.
        indices: (K,) point indices in any order, or an (N,) bool mask.
        rgb: (K, 3) uint8 colours of the chosen points, or None for the cloud's own.

    Raises:
        SasError: an index is outside the cloud, or `rgb` has another number of points.
    """
    chosen = _as_indices(indices, len(cloud.points))
    if rgb is None and cloud.colors is not None:
        rgb = cloud.colors[chosen]
    points = cloud.points[chosen]
    data, _ = _xyzrgb_records(_XYZRGB, 16, cloud, points, rgb)
    shape, dense = (1, len(chosen)), bool(np.isfinite(points).all())
    return _message(message_type, point_field_type, header, _XYZRGB, 16, data, shape, dense)


def _as_indices(indices: Indices, count: int) -> npt.NDArray[np.intp]:
    values = np.asarray(indices)
    if values.dtype == np.bool_:
        if values.shape != (count,):
            raise SasError(f"A mask of {values.shape} does not fit a cloud of {count} points.")
        return np.flatnonzero(values)
    chosen = values.reshape(-1).astype(np.intp)
    if len(chosen) and (chosen.min() < 0 or chosen.max() >= count):
        raise SasError(f"A point index is outside the cloud, which has {count} points.")
    return chosen


def _xyzrgb_records(
    layout: Sequence[tuple[str, str, int]],
    step: int,
    cloud: Cloud,
    points: npt.NDArray[np.float32],
    rgb: npt.NDArray[np.uint8] | None,
) -> tuple[array[int], npt.NDArray[Any]]:
    """Bytes of N records of `step` bytes with x, y, z, rgb filled and everything else zero, and
    (N,) a view of them by field."""
    names, formats, offsets = zip(*layout, strict=True)
    dtype = np.dtype(
        {
            "names": names,
            "formats": ["<" + code for code in formats],
            "offsets": offsets,
            "itemsize": step,
        }
    )
    # array.array is the one type whose elements rclpy does not check one by one; filled in place,
    # it is not copied either.
    data = array("B", b"\0") * (step * len(points))
    records = np.frombuffer(data, dtype)
    source = points.astype(np.float64) + cloud.origin if cloud.origin.any() else points
    floats = np.frombuffer(data, "<f4").reshape(len(points), step // 4)
    with np.errstate(over="ignore"):  # what is beyond float32 becomes Inf, as when it was read
        floats[:, :3] = source
    if rgb is None:
        rgb = cloud.colors if len(points) == len(cloud.points) else None
    if rgb is not None and np.shape(rgb) != (len(points), 3):
        raise SasError(f"{len(points)} points need ({len(points)}, 3) colours: {np.shape(rgb)}.")
    # Set as bytes: arithmetic on the packed float would destroy the colour.
    if rgb is None:
        floats.view("<u4")[:, 3] = UNKNOWN_COLOR * 0x010101
    else:
        raw = np.frombuffer(data, np.uint8).reshape(-1, step)
        raw[:, 12], raw[:, 13], raw[:, 14] = rgb[:, 2], rgb[:, 1], rgb[:, 0]
    return data, records


def _message(
    message_type: Any,
    point_field_type: Any,
    header: Any,
    layout: Sequence[tuple[str, str, int]],
    step: int,
    data: array[int],
    shape: tuple[int, int],
    dense: bool,
) -> Any:
    message = message_type()
    source = header if isinstance(header, SourceHeader) else read_header(header)
    seconds, nanoseconds = stamp_fields(source.stamp_ns)
    message.header.stamp.sec = seconds
    message.header.stamp.nanosec = nanoseconds
    message.header.frame_id = source.frame_id
    message.height, message.width = (int(size) for size in shape)
    codes = {name: code for code, name in TYPES.items()}
    message.fields = [
        point_field_type(name=name, offset=offset, datatype=codes[code], count=1)
        for name, code, offset in layout
    ]
    message.is_bigendian = False
    message.point_step = step
    message.row_step = message.point_step * message.width
    message.data = data
    message.is_dense = bool(dense)
    return message
