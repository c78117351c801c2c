"""`instance_markers` without a graph: boxes and texts against the corners of the objects' boxes."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("sas_msgs", reason="needs the interface package")
pytest.importorskip("visualization_msgs")

from visualization_msgs.msg import Marker

from sas_ros.boxes import quaternion_xyzw, rotation_matrix
from sas_ros.instances import ObjectInstance
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.nodes.markers import BOXES, TEXTS, markers_message
from sas_ros.nodes.outputs import Publishers
from sas_ros.observation import SourceHeader

HEADER = SourceHeader(7_000_000_009, "camera")
NAMES = ("floor", "chair", "table")
WORDS = Vocabulary(NAMES, np.eye(3, dtype=np.float32), (False, True, True), distinct_colors(3))
UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""Axes of a box whose up is -y, as in an optical frame; columns are the box's x, y, z."""


def thing(label: str, center: list[float], axes: Any, size: list[float]) -> ObjectInstance:
    return ObjectInstance(
        label, 0.875, np.arange(2), np.arange(2, dtype=np.uint32), np.array(center),
        quaternion_xyzw(axes), np.array(size), np.array(center), 0.0,
    )  # fmt: skip


def test_two_things_are_two_boxes_and_two_texts() -> None:
    tilted = UP @ np.diag([1.0, -1.0, -1.0])
    found = [
        thing("table", [1.0, 2.0, 3.0], np.eye(3), [1.5, 0.8, 0.7]),
        thing("chair", [-1.0, 0.5, 2.0], tilted, [0.5, 0.4, 0.0]),
    ]
    first, *markers = markers_message(HEADER, found, WORDS).markers
    assert first.action == Marker.DELETEALL
    assert [(m.ns, m.id) for m in markers] == [(BOXES, 1), (TEXTS, 1), (BOXES, 2), (TEXTS, 2)]
    for marker in (first, *markers):
        stamp = marker.header.stamp
        assert (stamp.sec, stamp.nanosec, marker.header.frame_id) == (7, 9, "camera")
    for item, box, text in zip(found, markers[::2], markers[1::2], strict=True):
        assert (box.type, box.action) == (Marker.CUBE, Marker.ADD)
        scale = np.array([box.scale.x, box.scale.y, box.scale.z])
        np.testing.assert_allclose(scale, np.maximum(item.size, 0.01))
        q, p = box.pose.orientation, box.pose.position
        axes = rotation_matrix((q.x, q.y, q.z, q.w))
        np.testing.assert_allclose([p.x, p.y, p.z], item.center)
        color = np.array([box.color.r, box.color.g, box.color.b])
        np.testing.assert_allclose(color * 255, WORDS.colors[WORDS.names.index(item.label)])
        assert 0.2 < box.color.a < 0.5
        assert (text.type, text.action) == (Marker.TEXT_VIEW_FACING, Marker.ADD)
        t = text.pose.position
        above = np.array([t.x, t.y, t.z]) - item.center
        height = float(above @ axes[:, 2])
        np.testing.assert_allclose(above, height * axes[:, 2], atol=1e-12)
        assert item.size[2] / 2 < height < item.size[2] / 2 + 0.3
        assert text.scale.z > 0.05 and text.color.a == 1.0
        assert text.text.startswith(f"{item.label} 0.88\n")
    assert "1.50 x 0.80 x 0.70 m" in markers[1].text
    chair = rotation_matrix(tuple(found[1].orientation.tolist()))
    np.testing.assert_allclose(chair[:, 2], [0, 1, 0], atol=1e-12)


def test_nothing_clears_what_was_shown() -> None:
    (only,) = markers_message(HEADER, [], WORDS).markers
    assert only.action == Marker.DELETEALL and only.header.frame_id == "camera"


class FakeNode:
    """Takes publishers, and keeps what is logged."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.warned: list[str] = []

    def create_publisher(self, kind: Any, topic: str, profile: Any) -> Any:
        self.topics.append(topic)
        return SimpleNamespace(get_subscription_count=lambda: 1)

    def get_logger(self) -> Any:
        def warning(line: str, *, once: bool) -> None:
            assert once
            self.warned.append(line)

        return SimpleNamespace(warning=warning)


def test_without_visualization_msgs_everything_else_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complete = FakeNode()
    assert "instance_markers" in Publishers(complete).wanted()  # type: ignore[arg-type]
    assert not complete.warned
    monkeypatch.setitem(sys.modules, "visualization_msgs.msg", None)
    node = FakeNode()
    publishers = Publishers(node)  # type: ignore[arg-type]
    assert set(complete.topics) - set(node.topics) == {"instance_markers"}
    assert "instance_markers" not in publishers.wanted()
    assert len(node.warned) == 1 and "visualization_msgs is not installed" in node.warned[0]
