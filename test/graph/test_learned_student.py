"""The whole way of a robot's owner: a recording, `sas learn`, and the node that runs what came out.

The recording is a bag of an empty box-shaped room, bright walls and a dark floor, seen by a depth
camera that turns on the spot. The teacher tells bright from dark, and so must the student.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("rosbags", reason="bags need the library rosbags")
pytest.importorskip("PIL", reason="the teacher reads images with pillow")

from bags import typestore, write_bag
from harness import START_SECONDS, Domain, Probe, Process, environment
from sas_msgs.msg import LabelInfo
from sas_msgs.srv import Query
from sensor_msgs.msg import PointCloud2

from sas_ros.clouds import read_cloud
from sas_ros.language.available import MINILM, encoder_available
from sas_ros.observation import Cloud, SourceHeader
from sas_ros.student.bundle import StudentBundle
from sas_training.cli import main
from sas_training.teachers import reference_plugin

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        encoder_available(MINILM) is not None, reason="the MiniLM text encoder is not installed"
    ),
]

Array = npt.NDArray[np.float64]
NODE_NAME = "learned"
WORDS = ("wall", "floor", "chair")
WALL, FLOOR, _ = range(len(WORDS))
PAINT = np.array([[205, 195, 180], [70, 60, 50]], np.uint8)
"""Colours of wall and floor."""
ROOM = np.array([4.0, 3.0, 2.4])
"""Metres; a corner of the floor is the origin of the frame `map`."""
EYE = np.array([2.0, 1.5, 1.3])
SIZE, FOCAL, PITCH = (64, 48), 40.0, 0.6
TURNS = 6

CONFIG = """
recipe = "procedural-small"
fewest_steps = 60
changes = [
    "vocabulary.labels='WORDS'", "samples.voxel_size=0.1", "schedule.epochs=2",
    "schedule.warmup=0", "schedule.ema=0.0", "self_distillation.variant='none'",
]
[superpoints]
min_size = 10
[[teachers]]
name = "program"
program = PROGRAM
"""


def seen_from(yaw: float) -> tuple[npt.NDArray[np.uint8], Array]:
    """Colours (H, W, 3) and depths (H, W) in metres of the camera in EYE that looks down PITCH."""
    v, u = np.mgrid[: SIZE[1], : SIZE[0]]
    centre = (np.array(SIZE) - 1) / 2
    # Forward, left and up of the head; forward is the camera's depth.
    rays = np.stack([np.ones(u.shape), (centre[0] - u) / FOCAL, (centre[1] - v) / FOCAL], axis=-1)
    c, s = np.cos(PITCH), np.sin(PITCH)
    rays = rays @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
    c, s = np.cos(yaw), np.sin(yaw)
    rays = rays @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T
    reach = np.where(rays > 0, ROOM - EYE, -EYE) / np.where(rays == 0, 1e-9, rays)
    nearest = reach.argmin(axis=-1)
    depth = np.take_along_axis(reach, nearest[..., None], axis=-1)[..., 0]
    return PAINT[np.where((nearest == 2) & (rays[..., 2] < 0), FLOOR, WALL)], depth


class Recorder:
    """Messages as the robot's drivers write them."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, int, bytes]] = []

    def make(self, kind: str, **fields: Any) -> Any:
        return typestore().types[kind](**fields)

    def header(self, stamp_ns: int, frame: str) -> Any:
        stamp = self.make(
            "builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9
        )
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)

    def add(self, topic: str, kind: str, stamp_ns: int, **fields: Any) -> None:
        data = bytes(typestore().serialize_cdr(self.make(kind, **fields), kind))
        self.messages.append((topic, kind, stamp_ns, data))

    def transform(
        self, stamp_ns: int, parent: str, child: str, at: Array, turn: tuple[float, ...]
    ) -> None:
        """Where `child` is in `parent`: metres, and a quaternion (x, y, z, w)."""
        vector = self.make(
            "geometry_msgs/msg/Vector3", **dict(zip("xyz", at.tolist(), strict=True))
        )
        rotation = self.make(
            "geometry_msgs/msg/Quaternion", **dict(zip("xyzw", map(float, turn), strict=True))
        )
        one = self.make(
            "geometry_msgs/msg/TransformStamped",
            header=self.header(stamp_ns, parent),
            child_frame_id=child,
            transform=self.make(
                "geometry_msgs/msg/Transform", translation=vector, rotation=rotation
            ),
        )
        topic = "/tf" if stamp_ns else "/tf_static"
        self.add(topic, "tf2_msgs/msg/TFMessage", stamp_ns, transforms=[one])

    def image(self, stamp_ns: int, name: str, pixels: npt.NDArray[Any], encoding: str) -> None:
        """With its camera info."""
        header = self.header(stamp_ns, "camera_optical")
        size = {"height": pixels.shape[0], "width": pixels.shape[1]}
        rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
        self.add(
            f"/camera/{name}/image",
            "sensor_msgs/msg/Image",
            stamp_ns,
            header=header,
            **size,
            encoding=encoding,
            is_bigendian=0,
            step=rows.shape[1],
            data=rows.ravel(),
        )
        centre = (np.array(SIZE) - 1) / 2
        camera = np.array([[FOCAL, 0, centre[0]], [0, FOCAL, centre[1]], [0, 0, 1]])
        roi = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
        self.add(
            f"/camera/{name}/camera_info",
            "sensor_msgs/msg/CameraInfo",
            stamp_ns,
            header=header,
            **size,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=camera.ravel(),
            r=np.eye(3).ravel(),
            p=np.zeros(12),
            binning_x=0,
            binning_y=0,
            roi=self.make("sensor_msgs/msg/RegionOfInterest", **roi),
        )


def record(folder: Path) -> Path:
    """A bag with colour, depth, camera info and transforms: map -> base -> head -> camera."""
    bag = Recorder()
    down = (0.0, np.sin(PITCH / 2), 0.0, np.cos(PITCH / 2))
    bag.transform(0, "base", "head", np.zeros(3), down)
    bag.transform(0, "head", "camera_optical", np.zeros(3), (-0.5, 0.5, -0.5, 0.5))
    for number in range(TURNS):
        now, yaw = (10 + number) * 10**9, 2 * np.pi * number / TURNS
        bag.transform(now, "map", "base", EYE, (0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)))
        color, depth = seen_from(yaw)
        bag.image(now, "color", color, "rgb8")
        bag.image(now, "depth", np.rint(1000 * depth).astype(np.uint16), "16UC1")
    return write_bag(folder, bag.messages)


def configuration(folder: Path) -> Path:
    """`learn.toml`, its words, and a teacher made of the plug-in that one is to start from."""
    text = Path(reference_plugin.__file__).read_text()
    for old, new in (("light", "wall"), ("shade", "floor")):
        assert f'"{old}"' in text
        text = text.replace(f'"{old}"', f'"{new}"')
    (folder / "teacher.py").write_text(text)
    (folder / "words.txt").write_text("\n".join(WORDS))
    program = json.dumps([sys.executable, "teacher.py"])
    config = CONFIG.replace("WORDS", str(folder / "words.txt")).replace("PROGRAM", program)
    (folder / "learn.toml").write_text(config)
    return folder / "learn.toml"


def scan(count: int = 6000) -> tuple[Cloud, npt.NDArray[np.int64]]:
    """A cloud of the room's floor and walls, other points than the recording's, and their words."""
    rng = np.random.default_rng(1)
    words = rng.choice([WALL, FLOOR], count)
    points = rng.uniform(0, ROOM, (count, 3))
    axis, side = rng.integers(0, 2, count), rng.integers(0, 2, count)
    axis, side = np.where(words == FLOOR, 2, axis), np.where(words == FLOOR, 0, side)
    points[np.arange(count), axis] = side * ROOM[axis]
    header = SourceHeader(time.time_ns(), "map")
    return Cloud(points.astype(np.float32), colors=PAINT[words], header=header), words


def labels_of(message: PointCloud2) -> npt.NDArray[np.int64]:
    """(N,) label of each point of a labelled cloud."""
    (offset,) = [field.offset for field in message.fields if field.name == "label"]
    rows = np.frombuffer(bytes(message.data), np.uint8).reshape(-1, message.point_step)
    return np.ascontiguousarray(rows[:, offset : offset + 4]).view("<u4")[:, 0].astype(np.int64)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student that `sas learn` makes of the recording."""
    folder = tmp_path_factory.mktemp("owner")
    bag, config, run = record(folder / "my_recording"), configuration(folder), folder / "run"
    words = ["learn", str(bag), "--kind", "bag", "--config", str(config), "--name", "my-robot"]
    words += ["--run", str(run), "--up", "0,0,1", "--voxel", "0.05", "--device", "cpu"]
    assert main(words) == 0
    return run / "my-robot.safetensors"


@pytest.fixture
def env(tmp_path: Path, graph_env: dict[str, str]) -> Iterator[dict[str, str]]:
    """In a domain of its own the node answers at /sas/query, as it does for its owner."""
    own = Domain()
    yield environment(own.number, tmp_path / "logs")
    own.release()


def test_what_was_learned_runs_on_the_robot(bundle: Path, env: dict[str, str]) -> None:
    learned = StudentBundle.load(bundle)
    assert learned.name == "my-robot" and learned.vocabulary.names == WORDS
    arguments = ["--ros-args", "-r", "__ns:=/sas", "-r", f"__node:={NODE_NAME}"]
    arguments += ["-p", f"student:={bundle}", "-p", "up:=0,0,1", "-p", "device:=cpu"]
    node = Process("sas_ros.nodes.perception_node", arguments, env=env)
    probe = Probe(int(env["ROS_DOMAIN_ID"]), "sas")
    try:
        probe.until(lambda: probe.state(NODE_NAME) == "active", START_SECONDS, "the active node")
        # The node hears of subscriptions in their order: when the second gets its message, the
        # first will get the labels of the next cloud.
        labelled = probe.listen(PointCloud2, "labeled_points")
        info = probe.listen(LabelInfo, "label_info", latched=True)
        probe.until(lambda: info, what="label_info")
        assert tuple(info[0].names) == WORDS
        cloud, words = scan()
        assert probe.process(cloud).student == "my-robot"
        probe.until(lambda: labelled, what="the labelled cloud")
        stamp = labelled[0].header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == cloud.header.stamp_ns
        np.testing.assert_array_equal(read_cloud(labelled[0]).points, cloud.points)
        found = labels_of(labelled[0])
        assert found.shape == words.shape and found.max() < len(WORDS)
        assert (found == words).mean() > 0.9
        for word in (WALL, FLOOR):
            answer = probe.ask(WORDS[word], return_indices=True)
            assert answer.status == Query.Response.OK, answer.message
            assert (words[np.array(answer.instances[0].indices)] == word).mean() > 0.9
        answer = probe.ask("chair")  # a word of its own, but nothing in the room
        assert answer.status == Query.Response.NOT_FOUND, answer.message
        assert set(answer.alternatives) == {"wall", "floor"}
        assert node.running, node.output
    finally:
        probe.close()
        assert node.interrupt(20.0) == 0, node.output
    assert "Traceback" not in node.output
