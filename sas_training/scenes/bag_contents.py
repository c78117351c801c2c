"""What a ROS bag holds: topics, stamps and transforms, and single messages when asked for.

Read with `rosbags`: rosbag2 folders or files (.mcap, .db3) and ROS 1 (.bag), without ROS. The bag
is walked through once; images and clouds of that walk are forgotten but for their stamps.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.scenes.bag_poses import Transforms
from sas_training.scenes.images import decode_color, decode_plane, depth_metres

_IMAGE = "sensor_msgs/msg/Image"
_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_CLOUD = "sensor_msgs/msg/PointCloud2"
_INFO = "sensor_msgs/msg/CameraInfo"
_TF = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
_ODOMETRY = "nav_msgs/msg/Odometry"
_WANTED = (_IMAGE, _COMPRESSED, _CLOUD, _INFO, *_TF, _ODOMETRY)

_COLOR_ENCODINGS = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "8UC3": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
    "8UC1": (1, (0, 0, 0)),
}
"""Encoding -> bytes of a pixel, and which of them are red, green and blue."""
_DEPTH_UNITS = {"16UC1": 1000.0, "mono16": 1000.0, "32FC1": 1.0}


@dataclass(frozen=True)
class Message:
    """Where a message is: time of recording, its own stamp (both ns), and its frame."""

    recorded_ns: int
    stamp_ns: int
    frame: str


@dataclass(eq=False)
class Topic:
    """A topic with images or clouds: `kind` is "color", "depth" or "cloud"."""

    name: str
    kind: str
    messages: list[Message] = field(default_factory=list)


@dataclass(frozen=True)
class Camera:
    """A CameraInfo: matrices (3, 3) of the images as taken and as rectified, the size they belong
    to, lens, and the frame it was sent for."""

    matrix: npt.NDArray[np.float64]
    rectified: npt.NDArray[np.float64]
    size: tuple[int, int]
    model: str
    distortion: npt.NDArray[np.float64]
    frame: str


class BagContents:
    """The index of a bag.

    Args:
        path: folder of a rosbag2, or a .mcap, .db3 or .bag file.
        only: topics with images and clouds to look at; empty: all.

    Raises:
        SasError: no readable bag, or a topic of `only` is not in it.
    """

    def __init__(self, path: Path, only: tuple[str, ...] = ()) -> None:
        self.path = Path(path)
        self.topics: dict[str, Topic] = {}
        self.cameras: dict[str, Camera] = {}
        self.transforms = Transforms()
        self.odometry = 0
        self.damaged: dict[str, int] = {}
        """Topic -> messages that could not be read."""
        self._odometry_is_news = True
        self._kept: Any = None
        with self._opened() as bag:
            missing = [name for name in only if name not in bag.topics]
            if missing:
                raise SasError(
                    f"The bag {path} has no topic {', '.join(missing)}; its topics: "
                    f"{', '.join(sorted(bag.topics)) or 'none'}."
                )
            always = (*_TF, _INFO, _ODOMETRY)
            wanted = [
                c
                for c in bag.connections
                if c.msgtype in _WANTED and (not only or c.topic in only or c.msgtype in always)
            ]
            odometry = []
            for connection, recorded, raw in bag.messages(wanted) if wanted else ():
                try:
                    message = bag.deserialize(raw, connection.msgtype)
                except Exception:  # as below; one broken message is no broken bag
                    self.damaged[connection.topic] = self.damaged.get(connection.topic, 0) + 1
                    continue
                if connection.msgtype == _ODOMETRY:
                    odometry.append(message)
                else:
                    self._note(connection.topic, connection.msgtype, recorded, message)
        for message in odometry:  # transforms, which robots with both also send, go first
            self._note_odometry(message)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            from rosbags.highlevel import AnyReader
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise SasError(
                "Bags are read with rosbags, which is not installed: "
                'pip install "sas_ros[training]"'
            ) from error
        try:
            types = get_typestore(Stores.ROS2_HUMBLE)
            with AnyReader([self.path], default_typestore=types) as bag:
                yield bag
        except SasError:
            raise
        # A damaged bag raises whatever its reader comes across.
        except Exception as error:
            said = str(error).split("\n")[0][:160]
            raise SasError(
                f"The bag {self.path} cannot be read ({said}). Wanted is the folder of a rosbag2 "
                "with metadata.yaml, or a .mcap, .db3 or .bag file; one that was cut off can be "
                "mended with `ros2 bag reindex` or `mcap recover`."
            ) from error

    def _note(self, topic: str, msgtype: str, recorded: int, message: Any) -> None:
        if msgtype in _TF:
            static = topic.rstrip("/").endswith("tf_static")
            for one in message.transforms:
                t, q = one.transform.translation, one.transform.rotation
                self.transforms.add(
                    one.header.frame_id,
                    one.child_frame_id,
                    _stamp(one.header),
                    (t.x, t.y, t.z),
                    (q.x, q.y, q.z, q.w),
                    static,
                )
        elif msgtype == _INFO:
            if topic not in self.cameras:
                self.cameras[topic] = _camera(message)
        else:
            kind = _kind(msgtype, message)
            found = self.topics.setdefault(topic, Topic(topic, kind)) if kind else None
            if found is not None:
                frame = str(message.header.frame_id)
                found.messages.append(Message(recorded, _stamp(message.header), frame))

    def _note_odometry(self, message: Any) -> None:
        child = message.child_frame_id or "base_link"
        if self.odometry == 0:
            self._odometry_is_news = not self.transforms.has_parent(child)
        self.odometry += 1
        if self._odometry_is_news:
            p, q = message.pose.pose.position, message.pose.pose.orientation
            where, turn = (p.x, p.y, p.z), (q.x, q.y, q.z, q.w)
            self.transforms.add(message.header.frame_id, child, _stamp(message.header), where, turn)

    def read(self, topic: Topic, message: Message) -> Any:
        """The message itself; raises `SasError` for one that is not there any more."""
        if self._kept is None:
            opened = self._opened()
            self._kept = opened.__enter__()
            # Opening a long recording takes a while, so it stays open as long as this lives.
            weakref.finalize(self, opened.__exit__, None, None, None)
        at, bag = message.recorded_ns, self._kept
        connections = [c for c in bag.connections if c.topic == topic.name]
        try:
            for connection, _, raw in bag.messages(connections, start=at, stop=at + 1):
                return bag.deserialize(raw, connection.msgtype)
        except Exception as error:  # as above
            raise SasError("its message is damaged") from error
        raise SasError("its message is not in the bag any more")

    def camera_of(self, topic: Topic) -> Camera | None:
        """The CameraInfo that was sent for the images of a topic: that of its frame whose name
        begins like the topic's. Topics with `rect` in their name are rectified."""
        frame = topic.messages[0].frame if topic.messages else ""

        def alike(name: str) -> tuple[bool, int]:
            pairs = zip(name.split("/"), topic.name.split("/"), strict=False)
            same = 0
            for one, other in pairs:
                if one != other:
                    break
                same += 1
            return self.cameras[name].frame == frame, same

        if not self.cameras:
            return None
        found = self.cameras[max(sorted(self.cameras), key=alike)]
        if "rect" in topic.name and found.rectified[0, 0] > 0:
            none = np.zeros_like(found.distortion)
            return replace(found, matrix=found.rectified, distortion=none)
        return found


def _kind(msgtype: str, message: Any) -> str:
    """ "color", "depth", "cloud", or "" for images that are neither."""
    if msgtype == _CLOUD:
        return "cloud"
    if msgtype == _COMPRESSED:
        said = str(message.format)
        return "depth" if "compressedDepth" in said or said.startswith("16UC1") else "color"
    if message.encoding in _DEPTH_UNITS:
        return "depth"
    return "color" if message.encoding in _COLOR_ENCODINGS else ""


def _stamp(header: Any) -> int:
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def _camera(message: Any) -> Camera:
    # ROS 1 writes the same fields in capitals.
    k = np.asarray(getattr(message, "k", getattr(message, "K", ())), dtype=np.float64)
    d = np.asarray(getattr(message, "d", getattr(message, "D", ())), dtype=np.float64)
    p = np.asarray(getattr(message, "p", getattr(message, "P", ())), dtype=np.float64)
    return Camera(
        matrix=k.reshape(3, 3) if k.size == 9 else np.zeros((3, 3)),
        rectified=p.reshape(3, 4)[:, :3] if p.size == 12 else np.zeros((3, 3)),
        size=(int(message.width), int(message.height)),
        model=str(message.distortion_model),
        distortion=d,
        frame=str(message.header.frame_id),
    )


def color_of(message: Any) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an Image or CompressedImage; `SasError` where it is damaged."""
    if hasattr(message, "format"):
        return decode_color(bytes(message.data))
    if message.encoding not in _COLOR_ENCODINGS:
        raise SasError(f"its image has the encoding {message.encoding!r}, which is not read")
    channels, places = _COLOR_ENCODINGS[message.encoding]
    return np.ascontiguousarray(_pixels(message, np.dtype("u1"), channels)[..., list(places)])


def depth_of(message: Any, units: float | None, far: float | None) -> npt.NDArray[np.float32]:
    """(H, W) float32 metres of an Image or CompressedImage, 0 = unknown."""
    if hasattr(message, "format"):
        data = bytes(message.data)
        start = data.find(b"\x89PNG")  # compressed_depth_image_transport writes 12 bytes before it
        if start < 0 or "32FC1" in message.format:
            raise SasError(f"its depth image is {message.format!r}, which is not read")
        return depth_metres(decode_plane(data[start:], "depth image"), units or 1000.0, far)
    usual = _DEPTH_UNITS.get(message.encoding)
    if usual is None:
        raise SasError(f"its depth image has the encoding {message.encoding!r}, which is not read")
    kind = np.dtype("f4" if message.encoding == "32FC1" else "u2")
    return depth_metres(_pixels(message, kind, 1)[..., 0], units or usual, far)


def _pixels(message: Any, kind: np.dtype[Any], channels: int) -> npt.NDArray[Any]:
    """(H, W, channels) of the bytes of an Image, whose rows may be padded."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    kind = kind.newbyteorder(">" if message.is_bigendian else "<")
    used = width * channels * kind.itemsize
    data = np.frombuffer(message.data, dtype=np.uint8)
    if step < used or len(data) < step * (height - 1) + used or not height * width:
        raise SasError("its image has fewer bytes than its size says")
    rows = np.lib.stride_tricks.as_strided(data, (height, used), (step, 1), writeable=False)
    pixels = np.ascontiguousarray(rows).view(kind).reshape(height, width, channels)
    return pixels.astype(kind.newbyteorder("="))
