"""`sas bench codec`: PointCloud2 bytes to points, points and labels to a message."""

from __future__ import annotations

import struct
from array import array
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.clouds import read_cloud, write_cloud, write_labelled_cloud
from sas_ros.observation import Cloud, SourceHeader
from sas_training.bench.timing import alternate, compared, machine

_LOOPED = 2000
"""Points that the Python loop reads; its time is scaled to all of them."""


def bench_codec(points: int, rounds: int, seed: int = 0) -> dict[str, Any]:
    """Read and write `points` points, 2 % of them NaN, against plain numpy and one memcpy.

    Messages are stand-ins with the attributes of sensor_msgs/msg/PointCloud2 and, as in ROS, bytes
    in an array.array. The alternative is a reader (writer) by a structured dtype that copies x, y,
    z and colours column by column, which is how sensor_msgs_py works inside.

    Returns:
        `read_16` and `read_32` (bytes a point) and `write_32` (labelled), each with `ours_s`,
        `alternative_s`, `floor_s`, `ratio_to_floor`, `speedup`; `read_16` with the time of a Python
        loop over the points too; `points` and what `timing.machine` tells.
    """
    cloud, labels = _cloud(points, np.random.default_rng(seed))
    header = SourceHeader(0, "camera")
    narrow = write_cloud(_message, SimpleNamespace, header, cloud)
    wide = _labelled(cloud, labels)
    read_16, read_32 = (_compare_reading(message, rounds) for message in (narrow, wide))
    looped = min(points, _LOOPED)
    loop = alternate({"loop": lambda: _read_looped(narrow, looped)}, rounds)["loop"]
    write = compared(
        alternate(
            {
                "ours_s": lambda: _labelled(cloud, labels),
                "alternative_s": lambda: _write_structured(cloud, labels),
                "floor_s": _copier(wide),
            },
            rounds,
        )
    )
    return {
        "read_16": {**read_16, "python_loop_scaled_s": loop * points / looped},
        "read_32": read_32,
        "write_32": write,
        "points": points,
        **machine(),
    }


def _compare_reading(message: Any, rounds: int) -> dict[str, float]:
    jobs = {
        "ours_s": lambda: read_cloud(message),
        "alternative_s": lambda: _read_structured(message),
        "floor_s": _copier(message),
    }
    return compared(alternate(jobs, rounds))


def _message() -> SimpleNamespace:
    stamp = SimpleNamespace(sec=0, nanosec=0)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp, frame_id=""))


def _cloud(
    points: int, rng: np.random.Generator
) -> tuple[Cloud, tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32], npt.NDArray[np.uint32]]]:
    places = rng.uniform(-4, 4, (points, 3)).astype(np.float32)
    places[rng.random(points) < 0.02] = np.nan
    colors = rng.integers(0, 256, (points, 3)).astype(np.uint8)
    label = rng.integers(0, 20, points).astype(np.uint32)
    confidence = rng.random(points).astype(np.float32)
    return Cloud(places, colors), (label, confidence, rng.integers(0, 9, points).astype(np.uint32))


def _labelled(cloud: Cloud, labels: Any) -> Any:
    label, confidence, instance = labels
    return write_labelled_cloud(
        _message,
        SimpleNamespace,
        cloud.header,
        cloud,
        rgb=None,
        label=label,
        confidence=confidence,
        instance=instance,
    )


def _copier(message: Any) -> Any:
    source = np.frombuffer(message.data, np.uint8)
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)


def _dtype(step: int) -> np.dtype[Any]:
    names = ["x", "y", "z", "b", "g", "r"]
    formats, offsets = ["<f4"] * 3 + ["u1"] * 3, [0, 4, 8, 12, 13, 14]
    if step == 32:
        names += ["label", "confidence", "instance"]
        formats, offsets = [*formats, "<u4", "<f4", "<u4"], [*offsets, 16, 20, 24]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": step})


def _read_structured(message: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    records = np.frombuffer(message.data, _dtype(message.point_step))
    points = np.stack([records[name] for name in "xyz"], axis=1)
    return points, np.stack([records[name] for name in "rgb"], axis=1)


def _read_looped(message: Any, count: int) -> list[tuple[float, float, float]]:
    step, unpack = message.point_step, struct.Struct("<fff").unpack_from
    return [unpack(message.data, step * row) for row in range(count)]


def _write_structured(cloud: Cloud, labels: Any) -> array[int]:
    records = np.zeros(len(cloud.points), _dtype(32))
    assert cloud.colors is not None
    for axis, name in enumerate("xyz"):
        records[name] = cloud.points[:, axis]
    for channel, name in enumerate("rgb"):
        records[name] = cloud.colors[:, channel]
    for name, values in zip(("label", "confidence", "instance"), labels, strict=True):
        records[name] = values
    bad = ~np.isfinite(cloud.points).all(axis=1)
    records["label"][bad], records["confidence"][bad], records["instance"][bad] = 65535, 0, 0
    data = array("B")
    data.frombytes(records.view(np.uint8).data)
    return data
