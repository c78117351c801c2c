"""The bytes of a PointCloud2: where each point and field is, checked before anything is read."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.observation import SourceHeader

TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""numpy type of each PointField datatype; the byte order is the message's."""

_TYPE_NAMES = ("?", "int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")


_LAST_SECOND = 2**31 - 1


class CloudMessage(Protocol):
    """The attributes of sensor_msgs/msg/PointCloud2 that this module uses."""

    header: Any
    height: int
    width: int
    fields: Any
    is_bigendian: bool
    point_step: int
    row_step: int
    data: Any
    is_dense: bool


def read_header(header: Any) -> SourceHeader:
    """The stamp and frame of a std_msgs/msg/Header."""
    stamp = header.stamp
    return SourceHeader(int(stamp.sec) * 10**9 + int(stamp.nanosec), str(header.frame_id))


def stamp_fields(nanoseconds: int) -> tuple[int, int]:
    """Seconds and nanoseconds of a builtin_interfaces/msg/Time; the inverse of `read_header`.

    A stamp may have more than a second of nanoseconds. What then lies beyond the last second that
    the message can hold stays in its nanoseconds.
    """
    seconds = min(int(nanoseconds) // 10**9, _LAST_SECOND)
    return seconds, int(nanoseconds) - seconds * 10**9


def refusal(message: CloudMessage, reason: str) -> SasError:
    """The error that says why a message cannot be read and which fields it has."""
    found = ", ".join(
        f"{field.name} "
        + (_TYPE_NAMES[field.datatype] if 0 < field.datatype < 9 else f"type {field.datatype}")
        + (f"[{field.count}]" if field.count > 1 else "")
        + f" at {field.offset}"
        for field in message.fields
    )
    return SasError(
        f"The point cloud cannot be read: {reason}. Its fields: {found or 'none'}; "
        f"point_step {message.point_step}. It needs float32 or float64 fields x, y, z, each inside "
        "point_step, and as many bytes as its size says."
    )


def checked_bytes(message: CloudMessage) -> npt.NDArray[np.uint8]:
    """The data as a flat read-only view, at least as long as the declared size needs."""
    height, width = int(message.height), int(message.width)
    step, row = int(message.point_step), int(message.row_step)
    if step <= 0:
        raise refusal(message, f"its point_step is {step}")
    # With one row the row length says nothing new, and drivers leave it 0.
    if row < width * step and not (height == 1 and row == 0):
        raise refusal(message, f"row_step {row} is shorter than {width} points of {step} bytes")
    data = _as_bytes(message)
    # The last row's padding may be missing: some drivers leave it out, and nothing is lost.
    needed = (height - 1) * row + width * step
    if len(data) < needed:
        raise refusal(
            message, f"{height} x {width} points need {needed} bytes and it has {len(data)}"
        )
    return data


def _as_bytes(message: CloudMessage) -> npt.NDArray[np.uint8]:
    data = message.data
    try:
        if isinstance(data, (list, tuple)):
            data = bytes(data)
        elif isinstance(data, np.ndarray):
            data = np.ascontiguousarray(data)
        view = memoryview(data)
        if view.itemsize != 1:
            raise TypeError(f"its elements have {view.itemsize} bytes")
        flat = np.frombuffer(view if view.contiguous else view.tobytes(), np.uint8)
    except (TypeError, ValueError) as error:
        raise refusal(
            message, f"its data is a {type(data).__name__} that holds no plain bytes ({error})"
        ) from error
    flat.flags.writeable = False
    return flat


def column(
    message: CloudMessage, data: npt.NDArray[np.uint8], offset: int, dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """(height, width) view of the value at `offset` of every point."""
    shape = (int(message.height), int(message.width))
    strides = (int(message.row_step), int(message.point_step))
    return np.ndarray(shape, dtype, buffer=data.data, offset=offset, strides=strides)


def find_field(message: CloudMessage, name: str) -> Any:
    """The field of that name, None without one; two of them are refused."""
    found = [field for field in message.fields if field.name == name]
    if len(found) > 1:
        raise refusal(message, f"it has {len(found)} fields named {name}")
    return found[0] if found else None


def field_column(
    message: CloudMessage, data: npt.NDArray[np.uint8], field: Any
) -> npt.NDArray[Any]:
    """(height, width) view of a field's (first) value, refused where it leaves the point."""
    dtype = np.dtype((">" if message.is_bigendian else "<") + TYPES[int(field.datatype)])
    end = int(field.offset) + dtype.itemsize * max(int(field.count), 1)
    if int(field.offset) < 0 or end > int(message.point_step):
        raise refusal(message, f"field {field.name} does not fit into the point")
    return column(message, data, int(field.offset), dtype)
