"""Small bags for tests, written by the library rosbags."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CLOUD = "sensor_msgs/msg/PointCloud2"


@cache
def typestore() -> Any:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_HUMBLE)


def room(number: int = 0) -> npt.NDArray[np.float32]:
    """(4000, 3) a floor, a wall and a block; another one for each number."""
    rng = np.random.default_rng(number)
    floor = np.c_[rng.uniform(0, 3, (1500, 2)), np.zeros(1500)]
    wall = np.c_[rng.uniform(0, 3, 1500), np.zeros(1500), rng.uniform(0, 2, 1500)]
    block = rng.uniform([1, 1, 0], [2, 2, 0.8], (1000, 3))
    return np.concatenate([floor, wall, block]).astype(np.float32)


def cloud_bytes(
    points: npt.NDArray[np.float32],
    *,
    stamp_ns: int = 0,
    frame: str = "lidar",
    names: str = "xyz",
    height: int = 1,
) -> bytes:
    """A serialised PointCloud2 of three float32 fields."""
    store = typestore()
    types = store.types
    fields = [
        types["sensor_msgs/msg/PointField"](name=name, offset=4 * axis, datatype=7, count=1)
        for axis, name in enumerate(names)
    ]
    stamp = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    message = types[CLOUD](
        header=types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame),
        height=height,
        width=len(points) // height,
        fields=fields,
        is_bigendian=False,
        point_step=12,
        row_step=12 * (len(points) // height),
        data=np.frombuffer(np.ascontiguousarray(points, "<f4").tobytes(), np.uint8),
        is_dense=True,
    )
    return bytes(store.serialize_cdr(message, CLOUD))


def text_bytes(text: str) -> bytes:
    """A serialised std_msgs/String."""
    store = typestore()
    message = store.types["std_msgs/msg/String"](data=text)
    return bytes(store.serialize_cdr(message, "std_msgs/msg/String"))


def write_bag(
    folder: Path,
    messages: Sequence[tuple[str, str, int, bytes]],
    *,
    storage: str = "mcap",
) -> Path:
    """A bag of (topic, type, time in ns, bytes), in the order given; returns its folder."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    connections: dict[tuple[str, str], Any] = {}
    with Writer(folder, version=8, storage_plugin=plugin) as writer:
        for topic, kind, time_ns, data in messages:
            key = (topic, kind)
            if key not in connections:
                connections[key] = writer.add_connection(*key, typestore=typestore())
            writer.write(connections[key], time_ns, data)
    return folder


def rooms_bag(
    folder: Path, count: int = 4, *, storage: str = "mcap", topic: str = "/points"
) -> Path:
    """`count` rooms a tenth of a second apart, and a line of text with each."""
    messages: list[tuple[str, str, int, bytes]] = []
    for number in range(count):
        time_ns = 10**18 + number * 10**8
        messages.append((topic, CLOUD, time_ns, cloud_bytes(room(number), stamp_ns=time_ns)))
        messages.append(("/log", "std_msgs/msg/String", time_ns, text_bytes(f"cloud {number}")))
    return write_bag(folder, messages, storage=storage)
