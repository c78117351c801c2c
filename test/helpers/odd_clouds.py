"""Clouds as no driver should send them, from a seed; and what they say by the message's definition.

An `OddCloud` has the attributes of sensor_msgs/msg/PointCloud2 and only values that fit the wire.
`decode` reads one point after another with struct and shares nothing with `sas_ros.clouds`.
"""

from __future__ import annotations

import math
import random
import statistics
import struct
from array import array
from dataclasses import dataclass, field
from typing import Any

CODES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}
SIZES = {kind: struct.calcsize(code) for kind, code in CODES.items()}
UINT32 = 2**32 - 1
FLOAT32_MAX = struct.unpack("<f", struct.pack("<I", 0x7F7FFFFF))[0]

_SPECIAL = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, 3.4e38, -3.4e38, 1e308, -1e308)
_NAMES = ("intensity", "ring", "t", "rgb", "rgba", "bgr", "bgra", "r", "g", "b", "red", "label", "")
_BIG = (0, 1, 2**16, 2**31 - 1, 2**31, UINT32)


@dataclass
class OddTime:
    sec: int = 0
    nanosec: int = 0


@dataclass
class OddHeader:
    stamp: OddTime = field(default_factory=OddTime)
    frame_id: str = "lidar"


@dataclass
class OddField:
    name: str
    offset: int
    datatype: int
    count: int = 1


@dataclass
class OddCloud:
    """The attributes of PointCloud2."""

    header: OddHeader
    height: int
    width: int
    fields: list[OddField]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: bytes
    is_dense: bool = True


def odd_cloud(rng: random.Random, stamp_ns: int = 10**9) -> OddCloud:
    """A small cloud that was legal before up to three things were done to it."""
    cloud = _legal(rng)
    cloud.header.stamp = OddTime(*divmod(stamp_ns, 10**9))
    return damaged(cloud, rng) if rng.random() < 5 / 6 else cloud


def damaged(cloud: OddCloud, rng: random.Random) -> OddCloud:
    """Do one to three things to a cloud, which is changed, and return it."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(_ODDITIES)(cloud, rng)
    return cloud


def plain_cloud(points: bytes, stamp_ns: int) -> OddCloud:
    """A legal cloud of x, y, z from the bytes of little-endian float32 rows."""
    fields = [OddField(name, 4 * axis, 7) for axis, name in enumerate("xyz")]
    count = len(points) // 12
    header = OddHeader(OddTime(*divmod(stamp_ns, 10**9)))
    return OddCloud(header, 1, count, fields, False, 12, 12 * count, points)


def message_of(cloud: OddCloud, cloud_type: Any, field_type: Any) -> Any:
    """The same as a ROS message."""
    message = cloud_type()
    stamp = cloud.header.stamp
    message.header.stamp.sec, message.header.stamp.nanosec = stamp.sec, stamp.nanosec
    message.header.frame_id = cloud.header.frame_id
    for name in ("height", "width", "is_bigendian", "point_step", "row_step", "is_dense"):
        setattr(message, name, getattr(cloud, name))
    message.fields = [
        field_type(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count)
        for f in cloud.fields
    ]
    message.data = array("B", cloud.data)
    return message


def _legal(rng: random.Random) -> OddCloud:
    kind = rng.choice((7, 7, 8))
    fields, offset = [], rng.choice((0, 0, 0, 3))
    for name in "xyz":
        own = kind if rng.random() < 0.9 else 15 - kind
        fields.append(OddField(name, offset, own, rng.choice((1, 1, 1, 0))))
        offset += SIZES[own] + rng.choice((0, 0, 0, 4))
    for _ in range(rng.choice((0, 0, 1, 2, 3))):
        name, own = rng.choice(_NAMES), rng.choice((7, 6, 2, 7, 6, 2, 1, 3, 4, 5, 8))
        count = rng.choice((1, 1, 1, 0, 3, 4))
        fields.append(OddField(name, offset, own, count))
        offset += SIZES[own] * max(count, 1)
    if rng.random() < 0.15:
        own = rng.choice(tuple(SIZES))
        for name in rng.choice((("r", "g", "b"), ("red", "green", "blue"))):
            fields.append(OddField(name, offset, own))
            offset += SIZES[own]
    if rng.random() < 0.3:
        rng.shuffle(fields)
    height = rng.choice((1, 1, 1, 2, 3))
    width = rng.choice((1, 2, 3, 5, 8)) if rng.random() < 0.95 else 0
    step = offset + rng.choice((0, 0, 1, 4))
    row = width * step + rng.choice((0, 0, 0, 5))
    cloud = OddCloud(
        header=OddHeader(),
        height=height,
        width=width,
        fields=fields,
        is_bigendian=rng.random() < 0.2,
        point_step=step,
        row_step=row,
        data=b"",
        is_dense=rng.random() < 0.5,
    )
    cloud.data = _bytes(cloud, rng)
    return cloud


def _bytes(cloud: OddCloud, rng: random.Random) -> bytes:
    """Values that make sense, now and then one that does not."""
    data = bytearray(rng.randbytes(cloud.height * cloud.row_step))
    order = ">" if cloud.is_bigendian else "<"
    middle = rng.choice((0.0, 0.0, 0.0, 4500.0, 500_000.0))
    for item in cloud.fields:
        if item.datatype not in (7, 8):
            continue
        packer = struct.Struct(order + CODES[item.datatype])
        place = item.name in "xyz"
        for row in range(cloud.height):
            for column in range(cloud.width):
                value = (middle if place else 0.0) + rng.random() * (8.0 if place else 1.0)
                if rng.random() < 0.05:
                    value = rng.choice(_SPECIAL)
                if item.datatype == 7 and math.isfinite(value):
                    value = max(-FLOAT32_MAX, min(FLOAT32_MAX, value))
                start = row * cloud.row_step + column * cloud.point_step + item.offset
                packer.pack_into(data, start, value)
    return bytes(data)


# What is done to them.


def _step(cloud: OddCloud, rng: random.Random) -> None:
    cloud.point_step = _other(cloud.point_step, rng)


def _row(cloud: OddCloud, rng: random.Random) -> None:
    cloud.row_step = _other(cloud.row_step, rng)


def _width(cloud: OddCloud, rng: random.Random) -> None:
    cloud.width = _other(cloud.width, rng)


def _height(cloud: OddCloud, rng: random.Random) -> None:
    cloud.height = _other(cloud.height, rng)


def _turned(cloud: OddCloud, _: random.Random) -> None:
    cloud.height, cloud.width = cloud.width, cloud.height


def _cut(cloud: OddCloud, rng: random.Random) -> None:
    cloud.data = cloud.data[: rng.randrange(len(cloud.data) + 1)]


def _cut_padding(cloud: OddCloud, rng: random.Random) -> None:
    cloud.data = cloud.data[: max(len(cloud.data) - rng.randrange(1, 8), 0)]


def _longer(cloud: OddCloud, rng: random.Random) -> None:
    cloud.data += rng.randbytes(rng.randrange(1, 40))


def _noise(cloud: OddCloud, rng: random.Random) -> None:
    cloud.data = rng.randbytes(len(cloud.data))


def _offset(cloud: OddCloud, rng: random.Random) -> None:
    if cloud.fields:
        item = rng.choice(cloud.fields)
        item.offset = _other(item.offset, rng)


def _overlap(cloud: OddCloud, rng: random.Random) -> None:
    if cloud.fields:
        rng.choice(cloud.fields).offset = rng.choice(cloud.fields).offset


def _datatype(cloud: OddCloud, rng: random.Random) -> None:
    if cloud.fields:
        rng.choice(cloud.fields).datatype = rng.choice((0, 9, 255, *CODES))


def _count(cloud: OddCloud, rng: random.Random) -> None:
    if cloud.fields:
        rng.choice(cloud.fields).count = rng.choice((0, 2, 3, 4, *_BIG))


def _missing(cloud: OddCloud, rng: random.Random) -> None:
    if cloud.fields:
        cloud.fields.remove(rng.choice(cloud.fields))


def _no_fields(cloud: OddCloud, _: random.Random) -> None:
    cloud.fields = []


def _renamed(cloud: OddCloud, rng: random.Random) -> None:
    if cloud.fields:
        rng.choice(cloud.fields).name = rng.choice(("x", "y", "z", "X", "x ", "", "é", *_NAMES))


def _twice(cloud: OddCloud, rng: random.Random) -> None:
    if cloud.fields:
        one = rng.choice(cloud.fields)
        cloud.fields.append(OddField(one.name, one.offset, one.datatype, one.count))


def _shuffled(cloud: OddCloud, rng: random.Random) -> None:
    rng.shuffle(cloud.fields)


def _other_order(cloud: OddCloud, _: random.Random) -> None:
    cloud.is_bigendian = not cloud.is_bigendian


def _stamp(cloud: OddCloud, rng: random.Random) -> None:
    cloud.header.stamp.sec = rng.choice((0, -1, -(2**31), 2**31 - 1))
    cloud.header.stamp.nanosec = rng.choice((0, 10**9, UINT32))


def _frame(cloud: OddCloud, rng: random.Random) -> None:
    cloud.header.frame_id = rng.choice(("", "/", "höhe", "../../etc/passwd", "a" * 500, "a\nb"))


_ODDITIES = (
    *(_step, _row, _width, _height, _turned, _cut, _cut_padding, _longer, _noise, _offset),
    *(_overlap, _datatype, _count, _missing, _no_fields, _renamed, _twice, _shuffled),
    *(_other_order, _stamp, _frame),
)


def _other(value: int, rng: random.Random) -> int:
    near = (value - 1, value + 1, value * 2, value // 2, value + 4)
    return min(max(rng.choice((*near, *_BIG)), 0), UINT32)


# What they say.


@dataclass(frozen=True)
class Decoded:
    """Points relative to the origin, colours or None, origin; all as plain Python numbers."""

    points: list[tuple[float, ...]]
    colors: list[tuple[int, ...]] | None
    origin: tuple[float, ...]


class Unreadable(Exception):
    """The message contradicts itself, or lacks what is needed."""


def decode(cloud: OddCloud) -> Decoded:
    """Decode by the definition of PointCloud2 and the promises of `sas_ros.clouds.read_cloud`."""
    if cloud.height * cloud.width == 0:
        return Decoded([], None, (0.0, 0.0, 0.0))
    starts = _starts(cloud)
    axes = [_numbers(cloud, _coordinate(cloud, name), starts) for name in "xyz"]
    origin = _origin(axes)
    points = [
        tuple(_as_float32(value - shift if shift else value) for value, shift in place)
        for place in (zip(values, origin, strict=True) for values in zip(*axes, strict=True))
    ]
    return Decoded(points, _colors(cloud, starts), origin)


def _starts(cloud: OddCloud) -> list[int]:
    """Where every point begins; refuses sizes that the data does not have."""
    if cloud.point_step == 0:
        raise Unreadable("points of no bytes")
    one_row = cloud.height == 1 and cloud.row_step == 0
    if cloud.row_step < cloud.width * cloud.point_step and not one_row:
        raise Unreadable("rows overlap")
    end = (cloud.height - 1) * cloud.row_step + cloud.width * cloud.point_step
    if end > len(cloud.data):
        raise Unreadable("data is missing")
    return [
        row * cloud.row_step + column * cloud.point_step
        for row in range(cloud.height)
        for column in range(cloud.width)
    ]


def _only(cloud: OddCloud, name: str) -> OddField | None:
    found = [item for item in cloud.fields if item.name == name]
    if len(found) > 1:
        raise Unreadable(f"{name} twice")
    return found[0] if found else None


def _coordinate(cloud: OddCloud, name: str) -> OddField:
    item = _only(cloud, name)
    if item is None or item.datatype not in (7, 8) or item.count > 1:
        raise Unreadable(f"no coordinate {name}")
    return item


def _numbers(cloud: OddCloud, item: OddField, starts: list[int], code: str = "") -> list[Any]:
    size = SIZES[item.datatype] * max(item.count, 1)
    if item.offset + size > cloud.point_step:
        raise Unreadable(f"{item.name} leaves the point")
    order = ">" if cloud.is_bigendian else "<"
    unpack = struct.Struct(order + (code or CODES[item.datatype])).unpack_from
    return [unpack(cloud.data, start + item.offset)[0] for start in starts]


def _as_float32(value: float) -> float:
    if not math.isfinite(value):
        return value
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _origin(axes: list[list[float]]) -> tuple[float, ...]:
    """Whole kilometres near the median where a median is further out than 4 km."""
    known = [[value for value in values if math.isfinite(value)] for values in axes]
    middle = [statistics.median(values) if values else 0.0 for values in known]
    if not 4000.0 < max(abs(value) for value in middle) < 1e300:
        return 0.0, 0.0, 0.0
    return tuple(round(value / 1000.0) * 1000.0 for value in middle)


def _colors(cloud: OddCloud, starts: list[int]) -> list[tuple[int, ...]] | None:
    for name in ("rgb", "rgba", "bgr", "bgra"):
        item = _only(cloud, name)
        if item is None:
            continue
        if item.datatype in (5, 6, 7) and item.count <= 1:
            bits = _numbers(cloud, item, starts, "I")
            triples = [(n >> 16 & 255, n >> 8 & 255, n & 255) for n in bits]
            return [t if name.startswith("rgb") else t[::-1] for t in triples]
        if item.datatype == 2 and item.count in (3, 4):
            _numbers(cloud, item, starts)
            rows = [cloud.data[start + item.offset :][:3] for start in starts]
            return [tuple(row if name.startswith("rgb") else row[::-1]) for row in rows]
    for names in (("r", "g", "b"), ("red", "green", "blue")):
        items = [_only(cloud, name) for name in names]
        found = [i for i in items if i is not None and i.datatype in CODES and i.count <= 1]
        if len(found) == 3:
            return _separate(found, [_numbers(cloud, item, starts) for item in found])
    return None


def _separate(items: list[OddField], channels: list[list[Any]]) -> list[tuple[int, ...]]:
    kinds = {item.datatype for item in items}
    if kinds == {2}:
        return [tuple(values) for values in zip(*channels, strict=True)]
    finite = [[v if math.isfinite(v) else 0.0 for v in values] for values in channels]
    largest = max(max(values) for values in finite)
    if kinds & {7, 8} and largest < 2.0:
        finite = [[v * 255.0 for v in values] for values in finite]
    elif not kinds & {7, 8} and largest > 255:
        finite = [[v // 256 for v in values] for values in finite]
    whole = [[round(min(max(v, 0.0), 255.0)) for v in values] for values in finite]
    return [tuple(values) for values in zip(*whole, strict=True)]
