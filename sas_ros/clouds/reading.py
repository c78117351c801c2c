"""PointCloud2 -> Cloud, for every legal layout."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sas_ros.clouds.layout import (
    CloudMessage,
    checked_bytes,
    column,
    field_column,
    find_field,
    read_header,
    refusal,
)
from sas_ros.clouds.values import cloud_colors, cloud_points
from sas_ros.observation import Cloud, Float64Array

_PACKED_COLORS = {"rgb": (2, 1, 0), "rgba": (2, 1, 0), "bgr": (0, 1, 2), "bgra": (0, 1, 2)}
"""Name -> which byte of the number, from its lowest, holds red, green and blue."""
_SEPARATE_COLORS = (("r", "g", "b"), ("red", "green", "blue"))


def read_cloud(message: CloudMessage) -> Cloud:
    """Read a PointCloud2 with any legal layout.

    Coordinates are float32 or float64 fields x, y, z in any order, at any offset, of either byte
    order, organised or not, with or without padding of points and rows. Points that are not finite
    keep their place; `is_dense` is not believed. Coordinates far from zero (UTM) are stored
    relative to `Cloud.origin`, subtracted before they become float32.

    Colours are read from a packed rgb, rgba, bgr or bgra (float32, uint32, int32, or three or four
    bytes) or from separate r, g, b (bytes, or numbers of 0..1, 0..255 or 0..65535). Other fields
    are ignored; a cloud without colour, or with one in another encoding, has `colors` None.

    Args:
        message: as sensor_msgs/msg/PointCloud2; its `data` may be an array.array, bytes,
            memoryview, numpy array or list of ints. It is not changed and not referred to later.

    Returns:
        The cloud in the message's own frame, metres, with its stamp and shape. A message without
        points gives a cloud without points, whatever its fields.

    Raises:
        SasError: the message contradicts itself or has no readable x, y, z; lists its fields.
    """
    header = read_header(message.header)
    height, width = int(message.height), int(message.width)
    if height < 0 or width < 0:
        raise refusal(message, f"its size is {height} x {width}")
    if height * width == 0:
        empty = np.zeros((0, 3), np.float32)
        return Cloud(points=empty, header=header, height=height, width=width)
    data = checked_bytes(message)
    points, origin = _read_points(message, data)
    return Cloud(
        points=points,
        colors=_read_colors(message, data),
        header=header,
        height=height,
        width=width,
        origin=origin,
    )


def _read_points(
    message: CloudMessage, data: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], Float64Array]:
    columns = []
    for name in "xyz":
        field = find_field(message, name)
        if field is None:
            raise refusal(message, f"it has no field {name}")
        if int(field.datatype) not in (7, 8) or int(field.count) > 1:
            raise refusal(message, f"field {name} is not one float32 or float64")
        columns.append(field_column(message, data, field))
    return cloud_points(columns)


def _read_colors(
    message: CloudMessage, data: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8] | None:
    count = int(message.height) * int(message.width)
    for name, packed_places in _PACKED_COLORS.items():
        field = find_field(message, name)
        if field is None:
            continue
        colors = np.empty((int(message.height), int(message.width), 3), np.uint8)
        if int(field.datatype) in (5, 6, 7) and int(field.count) <= 1:
            # Taken byte by byte: as a number, a packed float is meaningless.
            field_column(message, data, field)
            places = [3 - place if message.is_bigendian else place for place in packed_places]
        elif int(field.datatype) == 2 and int(field.count) in (3, 4):
            field_column(message, data, field)
            places = [name.index(letter) for letter in "rgb"]
        else:
            continue
        for channel, place in enumerate(places):
            offset = int(field.offset) + place
            colors[..., channel] = column(message, data, offset, np.dtype(np.uint8))
        return colors.reshape(count, 3)
    for names in _SEPARATE_COLORS:
        fields = [find_field(message, name) for name in names]
        if all(f is not None and 0 < int(f.datatype) < 9 and int(f.count) <= 1 for f in fields):
            channels = [field_column(message, data, field).reshape(-1) for field in fields]
            return cloud_colors(np.stack(channels, axis=1))
    return None
