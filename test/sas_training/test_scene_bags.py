"""Recordings of robots as scenes: bags written here in both storages, and real ones where given."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL", reason="images are read with pillow, of the extra `training`")
pytest.importorskip("rosbags", reason="bags are read with rosbags, of the extra `training`")
from made_scenes import CAMERA, POSES, SIZE, check_frame, pose_at, quaternion, render, wall_points
from PIL import Image
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from sas_ros.errors import SasError
from sas_training.scenes.bag_contents import BagContents, Message, Topic
from sas_training.scenes.bag_images import color_of, depth_of
from sas_training.scenes.bag_poses import Transforms
from sas_training.scenes.fusing import color_agreement, projection_of
from sas_training.scenes.kinds import open_scenes
from sas_training.scenes.reading import SceneSettings

TYPES = get_typestore(Stores.ROS2_HUMBLE)
T = TYPES.types
SECOND = 10**9
COLOR, DEPTH = "/camera/color/image_raw", "/camera/depth/image_rect_raw"


def header(stamp_ns: int, frame: str) -> Any:
    time = T["builtin_interfaces/msg/Time"](sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    return T["std_msgs/msg/Header"](stamp=time, frame_id=frame)


def image(stamp_ns: int, frame: str, pixels: Any, encoding: str, pad: int = 0) -> Any:
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, pad)))
    return T["sensor_msgs/msg/Image"](
        header=header(stamp_ns, frame),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=rows.shape[1],
        data=rows.ravel(),
    )


def compressed(stamp_ns: int, frame: str, data: bytes, form: str) -> Any:
    return T["sensor_msgs/msg/CompressedImage"](
        header=header(stamp_ns, frame), format=form, data=np.frombuffer(data, np.uint8)
    )


def encoded(pixels: Any, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def info(stamp_ns: int, frame: str, camera: Any, size: tuple[int, int], d: Any = (0.0,) * 5) -> Any:
    return T["sensor_msgs/msg/CameraInfo"](
        header=header(stamp_ns, frame),
        height=size[1],
        width=size[0],
        distortion_model="plumb_bob",
        d=np.array(d, float),
        k=np.asarray(camera, float).ravel(),
        r=np.eye(3).ravel(),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=T["sensor_msgs/msg/RegionOfInterest"](
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        ),
    )


def turn_of(pose: Any) -> Any:
    w, x, y, z = quaternion(pose)
    return T["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w)


def transform(stamp_ns: int, parent: str, child: str, pose: Any) -> Any:
    x, y, z = map(float, pose[:3, 3])
    one = T["geometry_msgs/msg/TransformStamped"](
        header=header(stamp_ns, parent),
        child_frame_id=child,
        transform=T["geometry_msgs/msg/Transform"](
            translation=T["geometry_msgs/msg/Vector3"](x=x, y=y, z=z), rotation=turn_of(pose)
        ),
    )
    return T["tf2_msgs/msg/TFMessage"](transforms=[one])


def odometry(stamp_ns: int, parent: str, child: str, pose: Any) -> Any:
    x, y, z = map(float, pose[:3, 3])
    nothing = T["geometry_msgs/msg/Vector3"](x=0.0, y=0.0, z=0.0)
    return T["nav_msgs/msg/Odometry"](
        header=header(stamp_ns, parent),
        child_frame_id=child,
        pose=T["geometry_msgs/msg/PoseWithCovariance"](
            pose=T["geometry_msgs/msg/Pose"](
                position=T["geometry_msgs/msg/Point"](x=x, y=y, z=z), orientation=turn_of(pose)
            ),
            covariance=np.zeros(36),
        ),
        twist=T["geometry_msgs/msg/TwistWithCovariance"](
            twist=T["geometry_msgs/msg/Twist"](linear=nothing, angular=nothing),
            covariance=np.zeros(36),
        ),
    )


def cloud(stamp_ns: int, frame: str, points: Any, colors: Any = None) -> Any:
    point = T["sensor_msgs/msg/PointField"]
    fields = [point(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate("xyz")]
    rows = np.zeros((len(points), 16), np.uint8)
    rows[:, :12] = np.ascontiguousarray(points, np.float32).view(np.uint8)
    if colors is not None:
        fields.append(point(name="rgb", offset=12, datatype=7, count=1))
        rows[:, 12:15] = colors[:, ::-1]
    return T["sensor_msgs/msg/PointCloud2"](
        header=header(stamp_ns, frame),
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=16,
        row_step=16 * len(points),
        data=rows.ravel(),
        is_dense=True,
    )


@dataclass
class Recording:
    """Messages by topic, each with the time it was recorded at."""

    messages: list[tuple[str, int, Any]] = field(default_factory=list)

    def add(self, topic: str, stamp_ns: int, message: Any) -> None:
        self.messages.append((topic, stamp_ns, message))

    def write(self, path: Path, storage: str = "mcap") -> Path:
        plugin = {"mcap": StoragePlugin.MCAP, "db3": StoragePlugin.SQLITE3}[storage]
        with Writer(path, version=8, storage_plugin=plugin) as writer:
            open_: dict[str, Any] = {}
            for topic, stamp, message in self.messages:
                kind = message.__msgtype__
                if topic not in open_:
                    open_[topic] = writer.add_connection(topic, kind, typestore=TYPES)
                writer.write(open_[topic], stamp, TYPES.serialize_cdr(message, kind))
        return path


DEPTH_TO_COLOR = pose_at(-0.03, 0.004, 0.06, 0.08)  # a wall shows turns and steps towards it only


def rgbd(**changes: Any) -> Recording:
    """A camera on a robot: map -> base (moving) -> depth camera -> colour camera."""
    bag = Recording()
    mounted = pose_at(0.1, -0.2, 0.05, 0.02)  # of the depth camera on the robot
    color_on_depth = np.linalg.inv(DEPTH_TO_COLOR)
    for parent, child, pose in (
        ("base", "depth_optical", mounted),
        ("depth_optical", "color_optical", color_on_depth),
    ):
        bag.add("/tf_static", 1 * SECOND, transform(0, parent, child, pose))
    for number, pose in enumerate(POSES):
        now = (10 + number) * SECOND
        base = pose @ np.linalg.inv(mounted)  # so that the depth camera is at `pose`
        bag.add("/tf", now, transform(now, "map", "base", base))
        color, _ = render(pose @ color_on_depth)
        depth = np.rint(1000 * render(pose)[1]).astype(np.uint16)
        bag.add(COLOR, now, image(now, "color_optical", color, "rgb8", pad=3))
        bag.add(DEPTH, now + 1000, image(now, "depth_optical", depth, "16UC1"))
        bag.add("/camera/color/camera_info", now, info(now, "color_optical", CAMERA, SIZE))
        bag.add("/camera/depth/camera_info", now, info(now, "depth_optical", CAMERA, SIZE))
    return bag


def frames_of(scene: Any) -> list[Any]:
    return [frame for _, frame in scene.frames.usable()]


@pytest.mark.parametrize("storage", ["mcap", "db3"])
def test_a_depth_camera_on_a_robot(tmp_path: Path, storage: str) -> None:
    path = rgbd().write(tmp_path / "kitchen", storage)
    file = next(path.glob(f"*.{storage}"))
    for where in (path, file):
        scenes = open_scenes("bag", where)
        scene = scenes[0]
        assert scenes.names == (where.stem,) == (scene.name,)
        assert len(scene.frames) == 3
        for number, frame in enumerate(frames_of(scene)):
            assert frame.stamp_ns == (10 + number) * SECOND
            # A depth keeps its value and moves to the nearest pixel, on a slanted wall.
            check_frame(frame, tolerance=0.02, color=2.0, least=0.6)
        assert np.abs(scene.points[:, 2] - 2).max() < 0.02
        assert color_agreement(scene, projection_of("bag")).mean_error < 2
    only = open_scenes("bag", path, SceneSettings(every=2, voxel=0.1))[0]
    assert only.frames.names == ("10000000000", "12000000000")


def test_a_world_of_ones_own(tmp_path: Path) -> None:
    path = rgbd().write(tmp_path / "bag")
    scene = open_scenes("bag", path, SceneSettings(world="base", most=1))[0]
    mounted = pose_at(0.1, -0.2, 0.05, 0.02)
    assert scene.frames[0].pose == pytest.approx(mounted @ np.linalg.inv(DEPTH_TO_COLOR), abs=1e-9)
    with pytest.raises(SasError, match=r"No transform of the bag .* speaks of the frame moon"):
        open_scenes("bag", path, SceneSettings(world="moon"))[0]


def test_frames_without_a_transform_or_depth_are_skipped(tmp_path: Path) -> None:
    bag = rgbd()
    late = 30 * SECOND
    picture = render(POSES[0])[0]
    bag.add(COLOR, late, image(late, "color_optical", picture, "rgb8"))
    early = round(11.5 * SECOND)
    bag.add(COLOR, early, image(early, "color_optical", picture, "rgb8"))
    other = 12 * SECOND + 1
    bag.add(COLOR, other, image(other, "elsewhere", picture, "rgb8"))
    short = image(other + 1, "color_optical", picture, "rgb8")
    short.data = short.data[:-5]
    bag.add(COLOR, other + 1, short)
    small = image(other + 2, "color_optical", picture[:40], "rgb8")
    bag.add(COLOR, other + 2, small)
    with pytest.warns(RuntimeWarning, match="5 frames were skipped"):
        scene = open_scenes("bag", bag.write(tmp_path / "bag"))[0]
    assert scene.frames.skipped.reasons == {
        str(late): "nothing says where base was at its stamp",
        str(early): "no depth image was taken within 50 ms of it",
        str(other): "no transform leads from elsewhere to map",
        str(other + 1): "its image has fewer bytes than its size says",
        str(other + 2): "its image has 64 x 40 pixels and its CameraInfo speaks of 64 x 48",
    }


def test_two_images_a_second_unless_asked_otherwise(tmp_path: Path) -> None:
    bag = Recording()
    for number in range(25):
        now = 10 * SECOND + number * 100_000_000
        bag.add("/tf", now, transform(now, "map", "cam", np.eye(4)))
        bag.add("/rgb", now, image(now, "cam", render(POSES[0])[0], "rgb8"))
    bag.add("/info", 10 * SECOND, info(0, "cam", CAMERA, SIZE))
    bag.add("/points", 11 * SECOND, cloud(11 * SECOND, "cam", *wall_points()))
    path = bag.write(tmp_path / "bag")
    assert len(open_scenes("bag", path)[0].frames) == 5
    assert len(open_scenes("bag", path, SceneSettings(every=1))[0].frames) == 25
    frame = open_scenes("bag", path)[0].frames[-1]
    assert frame.depth is None and frame.stamp_ns == 12 * SECOND


def test_the_pose_is_that_of_the_stamp(tmp_path: Path) -> None:
    """Colour and depth 40 ms apart on a camera that moves: both are put where they were."""
    bag = Recording()
    for stamp, x in ((10 * SECOND, 0.0), (11 * SECOND, 1.0)):
        bag.add("/tf", stamp, transform(stamp, "map", "cam", pose_at(x, 0, 0.2 * x, x)))
    color_ns, depth_ns = 10 * SECOND + 200_000_000, 10 * SECOND + 240_000_000

    def at(stamp: int) -> Any:
        share = (stamp - 10 * SECOND) / SECOND
        return pose_at(share, 0, 0.2 * share, share)

    depth = render(at(depth_ns))[1].astype(np.float32)
    depth[0, :5] = np.nan
    late = 300_000_000  # on the way to the recorder
    picture = render(at(color_ns))[0][..., ::-1]
    bag.add("/rgb", color_ns + late, image(color_ns, "cam", picture, "bgr8"))
    bag.add("/depth", depth_ns + late, image(depth_ns, "cam", depth, "32FC1"))
    bag.add("/camera_info", color_ns, info(color_ns, "cam", CAMERA, SIZE))
    scene = open_scenes("bag", bag.write(tmp_path / "bag"))[0]
    frame = scene.frames[0]
    assert frame.pose == pytest.approx(at(color_ns), abs=1e-9)
    check_frame(frame, tolerance=0.02, color=2.0, least=0.8)


def test_compressed_images_odometry_and_a_finer_colour_camera(tmp_path: Path) -> None:
    bag = Recording()
    fine = np.array([[110.0, 0, 62.5], [0, 112, 49.5], [0, 0, 1]])
    bag.add("/tf_static", 0, transform(0, "base_link", "cam", np.eye(4)))
    bag.add("/info", 0, info(0, "cam", fine, (128, 96)))
    for number, pose in enumerate(POSES):
        now = (10 + number) * SECOND
        bag.add("/odom", now, odometry(now, "odom", "base_link", pose))
        jpeg = encoded(render(pose, fine, (128, 96))[0], "JPEG")
        bag.add("/rgb/compressed", now, compressed(now, "cam", jpeg, "rgb8; jpeg compressed bgr8"))
        png = encoded(np.rint(1000 * render(pose)[1]).astype(np.uint16), "PNG")
        data = struct.pack("<iff", 0, 0.0, 0.0) + png
        bag.add("/depth/c", now, compressed(now, "depth", data, "16UC1; compressedDepth png"))
    bag.add("/depth/camera_info", 0, info(0, "depth", CAMERA, SIZE))
    bag.add("/tf_static", 0, transform(0, "cam", "depth", np.eye(4)))
    scene = open_scenes("bag", bag.write(tmp_path / "bag"))[0]
    for frame in frames_of(scene):
        assert frame.image.shape == (48, 64, 3)  # not finer than the depths
        check_frame(frame, tolerance=0.03, color=12.0)
    sized = open_scenes("bag", tmp_path / "bag", SceneSettings(size=(128, 96)))[0]
    assert sized.frames[0].image.shape == (96, 128, 3)


def test_clouds_are_put_where_the_sensor_was(tmp_path: Path) -> None:
    bag = Recording()
    points, colors = wall_points()
    poses = [np.eye(4), pose_at(0.5, 0, 0.3)]
    for number, pose in enumerate(poses):
        now = (10 + number) * SECOND
        bag.add("/tf", now, transform(now, "map", "lidar", pose))
        seen = (points - pose[:3, 3]) @ pose[:3, :3]
        bag.add("/scan/points", now, cloud(now, "lidar", seen, colors))
    bag.add("/scan/points", 15 * SECOND, cloud(15 * SECOND, "lidar", points, colors))
    bag.write(tmp_path / "bag")
    with pytest.warns(RuntimeWarning, match="1 frame was skipped: nothing says where lidar was"):
        scene = open_scenes("bag", tmp_path / "bag", SceneSettings(voxel=0.001))[0]
    # Points of the two clouds may fall on both sides of a voxel's border.
    assert len(points) <= len(scene.points) <= 2 * len(points)
    apart = np.linalg.norm(points[:, None] - scene.points[None], axis=2)
    assert apart.min(axis=0).max() < 1e-4 and apart.min(axis=1).max() < 1e-4
    assert scene.colors is not None and len(scene.frames) == 0
    assert (scene.colors == colors[apart.argmin(axis=0)]).all()
    with pytest.warns(RuntimeWarning, match="1 frame was skipped"):
        near = open_scenes("bag", tmp_path / "bag", SceneSettings(far=2.05, every=2))[0]
    assert np.linalg.norm(near.points, axis=1).max() < 2.06


def test_a_cloud_topic_that_is_named_comes_first(tmp_path: Path) -> None:
    bag = rgbd()
    points, colors = wall_points()
    bag.add("/map_cloud", 11 * SECOND, cloud(11 * SECOND, "map", points, colors))
    path = bag.write(tmp_path / "bag")
    topics = ("/map_cloud", COLOR, DEPTH)
    scene = open_scenes("bag", path, SceneSettings(topics=topics))[0]
    assert len(scene.points) == 400 and len(scene.frames) == 3
    assert color_agreement(scene, projection_of("bag")).mean_error < 3
    assert len(open_scenes("bag", path)[0].points) > 1000
    with pytest.raises(SasError, match="has no topic /moon; its topics: /camera/color/camera_info"):
        open_scenes("bag", path, SceneSettings(topics=("/moon",)))[0]


def test_several_topics_of_a_kind_must_be_chosen_from(tmp_path: Path) -> None:
    bag = rgbd()
    now = 12 * SECOND
    bag.add("/other/color", now, image(now, "color_optical", render(POSES[0])[0], "rgb8"))
    path = bag.write(tmp_path / "bag")
    with pytest.raises(SasError, match=r"several topics with color: .*--topics"):
        open_scenes("bag", path)[0]
    assert len(open_scenes("bag", path, SceneSettings(topics=(COLOR, DEPTH)))[0].frames) == 3


@pytest.mark.parametrize(
    ("topics", "said"),
    [
        (["/cloud"], "Nothing in the bag .* says where lidar was: it has 0 transforms and 0 odom"),
        ([], "neither images nor clouds"),
    ],
)
def test_bags_that_say_too_little(tmp_path: Path, topics: Sequence[str], said: str) -> None:
    bag = Recording()
    bag.add("/info", 0, info(0, "cam", CAMERA, SIZE))
    for topic in topics:
        bag.add(topic, 0, cloud(0, "lidar", *wall_points()))
    path = bag.write(tmp_path / "bag")
    with pytest.raises(SasError, match=said):
        open_scenes("bag", path)[0]
    if topics:
        scene = open_scenes("bag", path, SceneSettings(still=True))[0]
        assert np.abs(scene.points[:, 2] - 2).max() < 1e-6


def test_rectified_images_have_the_other_matrix(tmp_path: Path) -> None:
    bag = Recording()
    bag.add("/tf", 0, transform(0, "map", "cam", POSES[1]))
    depth = np.rint(1000 * render(POSES[1])[1]).astype(np.uint16)
    bag.add("/cam/image_rect_color", 0, image(0, "cam", render(POSES[1])[0], "rgb8"))
    bag.add("/cam/depth_rect", 0, image(0, "cam", depth, "16UC1"))
    said = info(0, "cam", np.diag([200.0, 200, 1]), SIZE, (0.4, 0.0, 0.0, 0.0, 0.0))
    said.p = np.c_[CAMERA, np.zeros(3)].ravel()
    bag.add("/cam/camera_info", 0, said)
    frame = open_scenes("bag", bag.write(tmp_path / "bag"))[0].frames[0]
    assert frame.intrinsics == pytest.approx(CAMERA)
    check_frame(frame)


def test_a_broken_message_is_counted(tmp_path: Path) -> None:
    bag = rgbd()
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        open_: dict[str, Any] = {}
        for topic, stamp, message in bag.messages:
            kind = message.__msgtype__
            if topic not in open_:
                open_[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            data = bytes(TYPES.serialize_cdr(message, kind))
            broken = topic == COLOR and stamp == 11 * SECOND
            writer.write(open_[topic], stamp, data[:60] if broken else data)
    scene = open_scenes("bag", tmp_path / "bag")[0]
    assert len(scene.frames) == 2
    assert scene.frames.skipped.counts == {f"a message of {COLOR} is damaged": 1}


@pytest.mark.parametrize("storage", ["mcap", "db3"])
@pytest.mark.parametrize("stamps", [(1, 2, 3), (1, 1, 2), (5, 5, 5)])
def test_messages_recorded_at_one_time_stay_apart(
    tmp_path: Path, storage: str, stamps: Sequence[int]
) -> None:
    bag = Recording()
    bag.add("/info", SECOND, info(SECOND, "cam", CAMERA, SIZE))
    for number, stamp in enumerate(stamps):
        picture = np.full((48, 64, 3), 50 * number, np.uint8)
        bag.add("/rgb", SECOND, image(SECOND + stamp, "cam", picture, "rgb8"))
    bag.add("/points", SECOND, cloud(SECOND, "cam", *wall_points()))
    path = bag.write(tmp_path / "bag", storage)
    scene = open_scenes("bag", path, SceneSettings(still=True, every=1))[0]
    assert [int(frame.image.max()) for frame in frames_of(scene)] == [0, 50, 100]


def test_an_image_does_not_get_another_cameras_info(tmp_path: Path) -> None:
    bag = Recording()
    bag.add("/left/camera_info", 0, info(0, "left", CAMERA, SIZE))
    bag.add("/a/image_raw", 0, image(0, "right", render(POSES[0])[0], "rgb8"))
    names = ("/left/image_raw", "/left/image_raw/compressed", "/left/other/image", "/image")
    topics = {name: Topic(name, "color", [Message(0, 0, "right")]) for name in names}
    contents = BagContents(bag.write(tmp_path / "bag"))
    assert contents.camera_of(contents.topics["/a/image_raw"]) is None
    found = {name: contents.camera_of(topic) is not None for name, topic in topics.items()}
    assert found == dict(zip(names, (True, True, False, False), strict=True))
    assert contents.camera_of(Topic("/x", "color", [Message(0, 0, "/left")])) is not None


def test_of_several_odometries_of_one_frame_the_first_counts(tmp_path: Path) -> None:
    bag = Recording()
    bag.add("/info", 0, info(0, "cam", CAMERA, SIZE))
    for number in range(4):
        now = (10 + number) * SECOND
        bag.add("/wheels", now, odometry(now, "odom", "cam", pose_at(0.1 * number, 0)))
        bag.add("/visual", now + 1, odometry(now + 1, "odom", "cam", pose_at(9, 9)))
        bag.add("/arm", now, odometry(now, "odom", "hand", pose_at(0, 5)))
        depth = np.full((48, 64), 2000, np.uint16)
        bag.add("/rgb", now, image(now + 2, "cam", render(POSES[0])[0], "rgb8"))
        bag.add("/depth", now, image(now + 2, "cam", depth, "16UC1"))
    bag.add("/wheels", 20 * SECOND, odometry(14 * SECOND, "odom", "cam", pose_at(0.4, 0)))
    scene = open_scenes("bag", bag.write(tmp_path / "bag"))[0]
    for number, frame in enumerate(frames_of(scene)):
        assert frame.pose[:3, 3] == pytest.approx([0.1 * number, 0, 0], abs=1e-6)
    assert scene.frames.skipped.reasons == {
        "topic /visual": "/visual is not used: /wheels says already where cam was"
    }
    transforms = BagContents(tmp_path / "bag").transforms
    assert transforms.lookup("hand", "odom", 10 * SECOND)[1, 3] == 5


def test_lenses_and_missing_cameras(tmp_path: Path) -> None:
    bag = Recording()
    bag.add("/tf", 0, transform(0, "map", "cam", np.eye(4)))
    bag.add("/rgb", 0, image(0, "cam", render(POSES[0])[0], "rgb8"))
    bag.add("/depth", 0, image(0, "cam", np.full((48, 64), 2000, np.uint16), "16UC1"))
    with pytest.raises(SasError, match="no CameraInfo was recorded"), pytest.warns(RuntimeWarning):
        open_scenes("bag", bag.write(tmp_path / "none"))[0]
    bag.add("/rgb_info", 0, info(0, "cam", np.zeros((3, 3)), SIZE))
    with pytest.raises(SasError, match="holds no calibration"), pytest.warns(RuntimeWarning):
        open_scenes("bag", bag.write(tmp_path / "zero"))[0]
    bag.messages.pop()
    lens = (0.1, 0.0, 0.0, 0.0, 0.0)
    bag.add("/rgb_info", 0, info(0, "cam", CAMERA, SIZE, lens))
    with pytest.raises(SasError, match="distorted lens"), pytest.warns(RuntimeWarning):
        open_scenes("bag", bag.write(tmp_path / "bent"))[0]


def test_damaged_bags(tmp_path: Path) -> None:
    path = rgbd().write(tmp_path / "bag")
    file = next(path.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(SasError, match="cannot be read"):
        open_scenes("bag", path)[0]
    (path / "metadata.yaml").write_text("rosbag2: [")
    with pytest.raises(SasError, match="cannot be read"):
        open_scenes("bag", path)[0]
    (path / "metadata.yaml").unlink()
    with pytest.raises(SasError, match="it should be the folder of a rosbag2"):
        open_scenes("bag", path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SasError, match="is a file"):
        open_scenes("bag", tmp_path / "notes.txt")


def test_a_ros_1_bag(tmp_path: Path) -> None:
    """The same fields under other names: K and D in capitals, frames that begin with a slash."""
    types = get_typestore(Stores.ROS1_NOETIC)
    transforms = "geometry_msgs/TransformStamped[] transforms"
    types.register(get_types_from_msg(transforms, "tf2_msgs/msg/TFMessage"))
    one = types.types

    def head(frame: str) -> Any:
        stamp = one["builtin_interfaces/msg/Time"](sec=10, nanosec=0)
        return one["std_msgs/msg/Header"](seq=0, stamp=stamp, frame_id=frame)

    old: list[tuple[str, Any]] = []
    for topic, message in (
        ("/tf", transform(0, "", "", POSES[1]).transforms[0]),
        ("/rgb", image(0, "", render(POSES[1])[0], "rgb8")),
        ("/depth", image(0, "", np.rint(1000 * render(POSES[1])[1]).astype(np.uint16), "16UC1")),
        ("/info", info(0, "", CAMERA, SIZE)),
    ):
        parts = {k: v for k, v in vars(message).items() if k != "header"}
        if topic == "/tf":
            frames = {"header": head("map"), "child_frame_id": "cam"}
            made = one["geometry_msgs/msg/TransformStamped"](**{**parts, **frames})
            old.append((topic, one["tf2_msgs/msg/TFMessage"](transforms=[made])))
            continue
        if topic == "/info":
            parts = {k.upper() if k in "dkrp" else k: v for k, v in parts.items()}
        old.append((topic, one[message.__msgtype__](header=head("/cam"), **parts)))
    with Writer1(tmp_path / "old.bag") as writer:
        for topic, message in old:
            kind = message.__msgtype__
            connection = writer.add_connection(topic, kind, typestore=types)
            writer.write(connection, 10 * SECOND, types.serialize_ros1(message, kind))
    scene = open_scenes("bag", tmp_path / "old.bag")[0]
    assert scene.name == "old" and len(scene.frames) == 1
    check_frame(scene.frames[0])


# ---------------------------------------------------------------------------------------- messages
@pytest.mark.parametrize(
    ("encoding", "stored", "expected"),
    [
        ("rgb8", (10, 20, 30), (10, 20, 30)),
        ("bgr8", (10, 20, 30), (30, 20, 10)),
        ("rgba8", (10, 20, 30, 40), (10, 20, 30)),
        ("bgra8", (10, 20, 30, 40), (30, 20, 10)),
        ("mono8", (7,), (7, 7, 7)),
        ("8UC1", (7,), (7, 7, 7)),
        ("8UC3", (10, 20, 30), (30, 20, 10)),
    ],
)
def test_encodings(encoding: str, stored: tuple[int, ...], expected: tuple[int, ...]) -> None:
    pixels = np.tile(np.array(stored, np.uint8), (3, 5, 1))
    pixels[1, 2] += 100
    found = color_of(image(0, "", pixels, encoding, pad=2))
    assert found.shape == (3, 5, 3)
    assert tuple(found[0, 0]) == expected
    assert tuple(found[1, 2]) == tuple(100 + value for value in expected)


def test_depth_encodings() -> None:
    mm = np.array([[0, 1500, 65535]], np.uint16)
    assert depth_of(image(0, "", mm, "16UC1"), None, None).tolist() == [[0, 1.5, 0]]
    assert depth_of(image(0, "", mm, "mono16"), 500.0, None).tolist() == [[0, 3.0, 0]]
    metres = np.array([[np.nan, 2.5, 9]], np.float32)
    assert depth_of(image(0, "", metres, "32FC1"), None, 5.0).tolist() == [[0, 2.5, 0]]
    big = image(0, "", mm.byteswap(), "16UC1")
    big.is_bigendian = 1
    assert depth_of(big, None, None).tolist() == [[0, 1.5, 0]]
    for message, said in [
        (image(0, "", mm, "rgb16"), "encoding 'rgb16', which is not read"),
        (compressed(0, "", b"abc", "16UC1; compressedDepth png"), "which is not read"),
        (compressed(0, "", b"\x89PNG", "32FC1; compressedDepth png"), "which is not read"),
    ]:
        with pytest.raises(SasError, match=said):
            depth_of(message, None, None)
    with pytest.raises(SasError, match="'yuv422', which is not read"):
        color_of(image(0, "", mm, "yuv422"))


# -------------------------------------------------------------------------------------- transforms
def tree(samples: Mapping[int, Any], parent: str = "map", child: str = "base") -> Transforms:
    found = Transforms()
    for stamp, pose in samples.items():
        w, x, y, z = quaternion(pose)
        found.add(parent, child, stamp, tuple(pose[:3, 3]), (x, y, z, w))
    return found


def test_between_two_poses_turns_are_shared_out_evenly() -> None:
    poses = tree({0: pose_at(0, 0, 0.2), 100: pose_at(1, 2, 1.4)})
    assert poses.lookup("base", "map", 25) == pytest.approx(pose_at(0.25, 0.5, 0.5), abs=1e-9)
    assert poses.lookup("base", "map", 100) == pytest.approx(pose_at(1, 2, 1.4), abs=1e-9)
    back = poses.lookup("map", "base", 25)
    assert back == pytest.approx(np.linalg.inv(pose_at(0.25, 0.5, 0.5)), abs=1e-9)
    # A quaternion and its negative are one turn: the shorter way is taken.
    poses.add("map", "base", 200, (1.0, 2.0, 0.0), (0.0, -np.sin(0.7), 0.0, -np.cos(0.7)))
    assert poses.lookup("base", "map", 150) == pytest.approx(pose_at(1, 2, 1.4), abs=1e-9)


def test_transforms_in_any_order_and_just_outside() -> None:
    poses = tree({200: pose_at(2, 0), 0: pose_at(0, 0), 100: pose_at(1, 0)})
    assert poses.lookup("base", "map", 150)[0, 3] == pytest.approx(1.5)
    assert poses.lookup("base", "map", 50_000_000)[0, 3] == pytest.approx(2)
    assert poses.lookup("/base", "/map", -50_000_000)[0, 3] == pytest.approx(0)
    with pytest.raises(SasError, match="nothing says where base was"):
        poses.lookup("base", "map", 200_000_000)


def test_nothing_is_made_up_in_a_long_gap() -> None:
    poses = tree({0: pose_at(0, 0), 2 * SECOND: pose_at(2, 0), 9 * SECOND: pose_at(9, 0)})
    assert poses.lookup("base", "map", SECOND)[0, 3] == pytest.approx(1)
    assert poses.lookup("base", "map", 8 * SECOND)[0, 3] == pytest.approx(8)
    with pytest.raises(SasError, match="nothing says where base was"):
        poses.lookup("base", "map", 5 * SECOND)


def test_trees_circles_and_what_is_no_transform() -> None:
    poses = tree({0: pose_at(1, 0)})
    poses.add("base", "left", 0, (0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 2.0), static=True)
    poses.add("base", "right", 0, (0.0, -1.0, 0.0), (0.0, 0.0, 0.0, 1.0), static=True)
    assert poses.lookup("left", "right", 0)[:3, 3] == pytest.approx([0, 2, 0])
    assert poses.root("left") == "map" and "left" in poses and "wheel" not in poses
    with pytest.raises(SasError, match="no transform leads from wheel to map"):
        poses.lookup("wheel", "map", 0)
    poses.add("odom", "left", 5, (9.0, 9.0, 9.0), (0.0, 0.0, 0.0, 1.0))
    assert poses.root("left") == "map" and poses.lookup("left", "map", 5)[0, 3] == 1
    before = len(poses)
    poses.add("base", "nan", 0, (float("nan"), 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    poses.add("base", "zero", 0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0))
    assert len(poses) == before
    poses.add("left", "map", 0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    with pytest.raises(SasError, match="circle"):
        poses.lookup("left", "map", 0)


# --------------------------------------------------------------------------------------- real bags
def test_the_real_kitchen_bag(test_data: Path) -> None:
    path = test_data / "ros2_bag_redkitchen" / "bag"
    scene = open_scenes("bag", path)[0]
    assert len(scene.frames) == 4 and 40_000 < len(scene.points) < 70_000
    assert color_agreement(scene, projection_of("bag")).mean_error < 11
    # The same four frames as in the folder they were made of.
    files = test_data / "rgbd_7scenes_redkitchen"
    settings = SceneSettings(scan=files / "fused_cloud.ply")  # building a cloud takes longer
    folder = open_scenes("7scenes", files, settings)[0]
    for number, stem in enumerate((0, 250, 500, 750)):
        one = scene.frames[number]
        other = folder.frames[folder.frames.names.index(f"frame-{stem:06d}")]
        assert one.pose == pytest.approx(other.pose, abs=3e-4)  # the files' turns are rounded
        assert one.depth is not None and other.depth is not None
        same = np.abs(one.depth - other.depth) < 0.01
        assert same.mean() > 0.99
    topics = ("/map_cloud", "/camera/color/image_raw/compressed", "/camera/depth/image_rect_raw")
    mapped = open_scenes("bag", path, SceneSettings(topics=topics))[0]
    assert len(mapped.points) > 60_000


def test_the_real_bag_of_a_sensor_that_stands(test_data: Path) -> None:
    path = test_data / "ros2_bag_d435_tutorial" / "bag_trimmed"
    with pytest.raises(SasError, match="says where d435_depth_optical_frame was"):
        open_scenes("bag", path)[0]
    scene = open_scenes("bag", path, SceneSettings(still=True))[0]
    assert len(scene.points) > 3000 and scene.colors is None and len(scene.frames) == 0
