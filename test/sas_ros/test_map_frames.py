"""TF glue against a buffer of our own (tf2_ros is not among the wheels), and answers in frames."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("sas_msgs", reason="needs the interface package")

from sas_msgs.srv import Query

from sas_ros.boxes import quaternion_xyzw, rotation_matrix
from sas_ros.errors import SasError
from sas_ros.instances import ObjectInstance
from sas_ros.nodes.placing import moved_instance, place
from sas_ros.nodes.requests import read_query
from sas_ros.nodes.tf_frames import TfFrames
from sas_ros.nodes.tf_up import TfUp
from sas_ros.observation import SourceHeader

HALF = float(np.sqrt(0.5))


class TransformException(Exception):
    """As tf2_ros has it."""


class FakeNode:
    """A node, as far as a buffer of tf2_ros uses it."""

    def __init__(self) -> None:
        self.services: list[str] = []
        self.jump_callbacks = 0  # of its clock; each holds a buffer

    def forget_jumps(self) -> None:
        self.jump_callbacks -= 1

    def create_service(self, name: str) -> str:
        self.services.append(name)
        return name

    def destroy_service(self, service: str) -> bool:
        self.services.remove(service)
        return True


class Buffer:
    """Knows one turn: a quarter about x, and a shift. Answers after `ready_after` questions."""

    ready_after = 0
    lost = False

    def __init__(self, node: FakeNode | None) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.cleared = 0
        if node is not None:  # as the true one, which never takes them off the node
            self.srv = node.create_service("tf2_frames")
            node.jump_callbacks += 1
            self.jump_handle = SimpleNamespace(unregister=node.forget_jumps)
        made.append(self)

    def can_transform(self, target: str, source: str, time: Any) -> bool:
        self.asked.append((target, source, time.nanoseconds))
        return len(self.asked) > self.ready_after

    def lookup_transform(self, target: str, source: str, time: Any) -> Any:
        if self.lost:
            raise TransformException("cleared")
        turn = SimpleNamespace(x=HALF, y=0.0, z=0.0, w=HALF)
        shift = SimpleNamespace(x=1.0, y=2.0, z=3.0)
        return SimpleNamespace(transform=SimpleNamespace(rotation=turn, translation=shift))

    def clear(self) -> None:
        self.cleared += 1


class Listener:
    running = 0

    def __init__(self, buffer: Buffer, node: object) -> None:
        Listener.running += 1

    def unregister(self) -> None:
        Listener.running -= 1


made: list[Buffer] = []
POSE = np.array([[1.0, 0, 0, 1], [0, 0, -1, 2], [0, 1, 0, 3], [0, 0, 0, 1]])


@pytest.fixture
def tf2(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(
        Buffer=Buffer, TransformListener=Listener, TransformException=TransformException
    )
    monkeypatch.setitem(sys.modules, "tf2_ros", fake)
    monkeypatch.setattr(Buffer, "ready_after", 0)
    monkeypatch.setattr(Buffer, "lost", False)
    monkeypatch.setattr(Listener, "running", 0)
    made.clear()


def frames() -> TfFrames:
    return TfFrames(None)  # type: ignore[arg-type]


def test_up_comes_from_tf_at_the_clouds_stamp(tf2: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Buffer, "ready_after", 2)
    ask = TfUp(frames(), "base_link")
    up = ask(SourceHeader(77, "camera"), 5.0)
    np.testing.assert_allclose(up, [0, -1, 0], atol=1e-12)
    assert made[0].asked == [("camera", "base_link", 77)] * 3
    monkeypatch.setattr(Buffer, "ready_after", 10**9)
    assert ask(SourceHeader(78, "camera"), 0.02) is None


def test_one_listener_serves_all_and_is_let_go(tf2: None, monkeypatch: pytest.MonkeyPatch) -> None:
    tf = frames()
    tf.clear()
    tf.destroy()  # before anything was asked
    np.testing.assert_array_equal(tf.lookup("map", "map", 5), np.eye(4))
    assert Listener.running == 0
    assert tf.listen() and not tf.listen()
    np.testing.assert_allclose(tf.lookup("map", "camera", 5), POSE, atol=1e-12)
    np.testing.assert_allclose(tf.between("map", "camera", 6), POSE, atol=1e-12)
    assert Listener.running == 1 and made[0].asked[-1] == ("map", "camera", 6)
    monkeypatch.setattr(Buffer, "lost", True)
    assert tf.lookup("map", "camera", 5) is None
    tf.clear()
    assert made[0].cleared == 1
    tf.destroy()
    assert Listener.running == 0


def test_configuring_again_and_again_leaves_nothing_on_the_node(tf2: None) -> None:
    node = FakeNode()
    tf = TfFrames(node)  # type: ignore[arg-type]
    for cycle in range(1, 5):
        assert tf.listen() and node.services == ["tf2_frames"] and Listener.running == 1
        np.testing.assert_allclose(tf.between("map", "camera", 6), POSE, atol=1e-12)
        tf.destroy()
        tf.destroy()  # as a shutdown after a cleanup does
        assert (
            not node.services
            and not node.jump_callbacks
            and Listener.running == 0
            and len(made) == cycle
        )


def test_a_thread_that_waits_while_all_is_let_go_gets_none(
    tf2: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf = frames()
    tf.listen()

    def destroyed(buffer: Buffer, *_: Any) -> bool:
        tf.destroy()  # as cleanup does, between two looks of the map's thread
        return False

    monkeypatch.setattr(Buffer, "can_transform", destroyed)
    assert tf.lookup("map", "camera", 5, 30.0) is None
    monkeypatch.undo()
    assert tf.lookup("map", "camera", 5) is None  # and does not begin to listen again
    assert Listener.running == 0


def test_what_tf_does_not_know_is_a_sentence(tf2: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Buffer, "ready_after", 10**9)
    tf = frames()
    with pytest.raises(SasError, match="ask again in a second"):
        tf.between("map", "camera", 5)
    with pytest.raises(SasError, match="tf2_echo map camera"):
        tf.between("map", "camera", 5)


def test_without_tf2_every_use_says_so() -> None:
    pytest.importorskip("sas_msgs")
    try:
        import tf2_ros  # noqa: F401

        pytest.skip("tf2_ros is installed")
    except ImportError:
        pass
    with pytest.raises(SasError, match="tf2_ros is not installed"):
        frames().lookup("map", "camera", 5)
    with pytest.raises(SasError, match=r"tf2_ros is not installed.* Ask in the frame 'camera'"):
        frames().between("map", "camera", 5)
    with pytest.raises(SasError, match="set the parameter up"):
        TfUp(frames(), "base_link")


def region_in(frame: str, **changes: Any) -> Query.Request:
    request = Query.Request(text="chair", roi_enabled=True, **changes)
    request.roi_pose.header.frame_id = frame
    request.roi_pose.pose.orientation.w = 1.0
    request.roi_pose.pose.position.x = 1.0
    request.roi_size.x, request.roi_size.y, request.roi_size.z = 1.0, 2.0, 3.0
    return request


def test_a_region_goes_into_the_source_and_poses_out_of_it() -> None:
    asked: list[tuple[str, str, int]] = []

    def between(target: str, source: str, stamp: int) -> Any:
        asked.append((target, source, stamp))
        return POSE

    request = region_in("base_link", target_frame="map")
    query = read_query(request)
    placed = place(request, query, SourceHeader(9, "camera"), between)
    assert asked == [("map", "camera", 9), ("camera", "base_link", 9)]
    assert placed.frame == "map" and placed.pose is not None
    assert query.roi is not None and placed.query.roi is not None
    rng = np.random.default_rng(0)
    points = rng.uniform(-3, 3, (400, 3))
    moved = points @ POSE[:3, :3].T + POSE[:3, 3]
    np.testing.assert_array_equal(query.roi.contains(points), placed.query.roi.contains(moved))
    assert query.roi.contains(points).any()
    with pytest.raises(SasError, match="held target"):
        held = region_in("base_link", set_target=True)
        place(held, read_query(held), SourceHeader(9, "camera"), between)


def test_a_map_of_yesterday_is_asked_with_todays_transform() -> None:
    """TF remembers ten seconds; the newest cloud of a stored map is older than that."""
    asked: list[tuple[str, str, int]] = []

    def between(target: str, source: str, stamp: int) -> Any:
        asked.append((target, source, stamp))
        return POSE

    request = region_in("base_link", target_frame="odom")
    place(request, read_query(request), SourceHeader(9, "map"), between, stays=True)
    assert asked == [("odom", "map", 0), ("map", "base_link", 0)]
    request.roi_pose.header.stamp.sec, request.roi_pose.header.stamp.nanosec = 5, 7
    place(request, read_query(request), SourceHeader(9, "map"), between, stays=True)
    assert asked[2:] == [("odom", "map", 0), ("map", "base_link", 5 * 10**9 + 7)]


def test_an_object_keeps_its_corners_in_another_frame() -> None:
    c, s = np.cos(0.4), np.sin(0.4)
    axes = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    item = ObjectInstance(
        "chair", 0.5, np.arange(2), np.arange(2, dtype=np.uint32), np.array([1.0, 2, 3]),
        quaternion_xyzw(axes), np.array([0.5, 0.4, 0.9]), np.array([1.1, 2, 3]), 0.7,
    )  # fmt: skip
    assert moved_instance(item, None) is item
    moved = moved_instance(item, POSE)
    corner = np.array([0.25, -0.2, 0.45])

    def corner_of(box: ObjectInstance) -> Any:
        return box.center + rotation_matrix(tuple(box.orientation.tolist())) @ corner

    wanted = POSE[:3, :3] @ corner_of(item) + POSE[:3, 3]
    np.testing.assert_allclose(corner_of(moved), wanted, atol=1e-12)
    np.testing.assert_allclose(moved.centroid, POSE[:3, :3] @ item.centroid + POSE[:3, 3])
    assert moved.support_height == item.support_height
