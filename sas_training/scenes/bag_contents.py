"""What a ROS bag holds: topics, stamps and transforms, and single messages when asked for.

Read with `rosbags`: rosbag2 folders or files (.mcap, .db3) and ROS 1 (.bag), without ROS. The bag
is walked through once; images and clouds of that walk are forgotten but for their stamps.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.scenes.bag_images import COLOR_ENCODINGS, DEPTH_UNITS
from sas_training.scenes.bag_poses import Transforms

_IMAGE = "sensor_msgs/msg/Image"
_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_CLOUD = "sensor_msgs/msg/PointCloud2"
_INFO = "sensor_msgs/msg/CameraInfo"
_TF = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
_ODOMETRY = "nav_msgs/msg/Odometry"
_WANTED = (_IMAGE, _COMPRESSED, _CLOUD, _INFO, *_TF, _ODOMETRY)


@dataclass(frozen=True)
class Message:
    """Where a message is: time of recording, its own stamp (both ns), and its frame.

    `before` counts the messages of its topic of the same two times that were recorded before it.
    """

    recorded_ns: int
    stamp_ns: int
    frame: str
    before: int = 0


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
        self.left_out: dict[str, str] = {}
        """Topic that is not used -> why, a short phrase."""
        self._says_where: dict[str, str] = {}  # child -> its topic of odometry, "": transforms
        self._counted: Counter[tuple[str, int, int]] = Counter()
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
                    odometry.append((connection.topic, message))
                else:
                    self._note(connection.topic, connection.msgtype, recorded, message)
        for topic, message in odometry:  # transforms, which robots with both also send, go first
            self._note_odometry(topic, message)

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
                frame, stamp = str(message.header.frame_id), _stamp(message.header)
                before = self._counted[topic, recorded, stamp]
                found.messages.append(Message(recorded, stamp, frame, before))
                self._counted[topic, recorded, stamp] += 1

    def _note_odometry(self, topic: str, message: Any) -> None:
        child = message.child_frame_id or "base_link"
        self.odometry += 1
        news = "" if self.transforms.has_parent(child) else topic
        source = self._says_where.setdefault(child, news)
        if source and source != topic:  # two would be mixed up, each with a drift of its own
            self.left_out[topic] = f"{topic} is not used: {source} says already where {child} was"
        elif source:
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
        at, bag, before = message.recorded_ns, self._kept, 0
        connections = [c for c in bag.connections if c.topic == topic.name]
        try:
            for connection, _, raw in bag.messages(connections, start=at, stop=at + 1):
                try:
                    found = bag.deserialize(raw, connection.msgtype)
                except Exception:  # counted as damaged; another of the same time may be whole
                    continue
                if _stamp(found.header) == message.stamp_ns:
                    if before == message.before:
                        return found
                    before += 1
        except Exception as error:  # as above
            raise SasError("its message is damaged") from error
        raise SasError("its message is not in the bag any more")

    def camera_of(self, topic: Topic) -> Camera | None:
        """The CameraInfo that was sent for the images of a topic: that of its frame, or beside it,
        whose name begins like the topic's; None where there is neither. Topics with `rect` in their
        name are rectified."""
        frame = topic.messages[0].frame.removeprefix("/") if topic.messages else ""
        beside = {_parent(topic.name)}
        if topic.name.rsplit("/", 1)[-1].startswith("compressed"):  # image_raw/compressed
            beside.add(_parent(_parent(topic.name)))

        def of_frame(name: str) -> bool:
            return bool(frame) and self.cameras[name].frame.removeprefix("/") == frame

        def alike(name: str) -> tuple[bool, int]:
            pairs = zip(name.split("/"), topic.name.split("/"), strict=False)
            same = 0
            for one, other in pairs:
                if one != other:
                    break
                same += 1
            return of_frame(name), same

        names = [n for n in sorted(self.cameras) if of_frame(n) or _parent(n) in beside]
        if not names:
            return None
        found = self.cameras[max(names, key=alike)]
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
    if message.encoding in DEPTH_UNITS:
        return "depth"
    return "color" if message.encoding in COLOR_ENCODINGS else ""


def _parent(topic: str) -> str:
    return topic.rpartition("/")[0]


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
