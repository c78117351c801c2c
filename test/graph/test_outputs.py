"""What the node publishes: layouts, label information, vocabularies, frames."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Probe, Process
from inprocess import Running
from rooms import CHAIR, NAMES, STEP, coded_cloud, coded_labels, coded_points
from sas_msgs.msg import InstanceArray, LabelInfo
from sas_msgs.srv import Query
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import Marker, MarkerArray

from sas_ros.clouds import read_cloud
from sas_ros.instances import ObjectInstance
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.nodes import markers
from sas_ros.nodes.markers import markers_message
from sas_ros.observation import Cloud, SourceHeader

UNLABELLED = 65535


def fields(message: PointCloud2) -> np.ndarray[Any, Any]:
    """A labelled cloud as a structured array, by the documented layout."""
    offsets = {field.name: field.offset for field in message.fields}
    assert offsets == {
        "x": 0, "y": 4, "z": 8, "rgb": 12, "label": 16, "confidence": 20, "instance": 24
    }  # fmt: skip
    assert message.point_step == 32 and not message.is_bigendian
    dtype = np.dtype(
        {
            "names": ["x", "y", "z", "rgb", "label", "confidence", "instance"],
            "formats": ["<f4", "<f4", "<f4", "<u4", "<u4", "<f4", "<u4"],
            "offsets": [0, 4, 8, 12, 16, 20, 24],
            "itemsize": 32,
        }
    )
    return np.frombuffer(bytes(message.data), dtype)


def holed_cloud(number: int, stamp_ns: int) -> Cloud:
    """An organised cloud of 2 rows with misses in it."""
    points = coded_points(number)
    points = points[: len(points) // 2 * 2].copy()
    points[[0, 17, 400]] = [[np.nan] * 3, [np.inf, 0, 0], [0, -np.inf, 1]]
    colors = np.arange(3 * len(points)).reshape(-1, 3).astype(np.uint8)
    return Cloud(
        points,
        colors=colors,
        header=SourceHeader(stamp_ns, "lidar"),
        height=2,
        width=len(points) // 2,
    )


def test_labelled_cloud_keeps_points_order_shape_stamp_and_frame(
    node: Process, probe: Probe
) -> None:
    labelled = probe.listen(PointCloud2, "labeled_points")
    visual = probe.listen(PointCloud2, "visualization")
    found = probe.listen(InstanceArray, "instances")
    sent = holed_cloud(0, time.time_ns())
    probe.process(sent)
    probe.until(lambda: labelled and visual and found, what="the outputs")
    message = labelled[0]
    stamp = message.header.stamp
    assert stamp.sec * 10**9 + stamp.nanosec == sent.header.stamp_ns
    assert message.header.frame_id == "lidar"
    assert (message.height, message.width) == (2, sent.width)
    records = fields(message)
    received = np.stack([records["x"], records["y"], records["z"]], axis=1)
    np.testing.assert_array_equal(received, sent.points)
    assert sent.colors is not None
    packed = sent.colors.astype(np.uint32)
    expected = packed[:, 0] << 16 | packed[:, 1] << 8 | packed[:, 2]
    np.testing.assert_array_equal(records["rgb"] & 0xFFFFFF, expected)
    missed = ~sent.valid
    assert (records["label"][missed] == UNLABELLED).all()
    assert (records["confidence"][missed] == 0).all()
    assert (records["label"][~missed] < len(NAMES)).all()
    truth = coded_labels(0)[: len(records)]
    assert (records["label"] == truth)[~missed].mean() > 0.85
    pictured = fields(visual[0])
    assert visual[0].header == message.header
    np.testing.assert_array_equal(pictured["label"], records["label"])
    chair_colors = np.unique(pictured["rgb"][(records["label"] == CHAIR)])
    assert len(chair_colors) == 1
    array = found[0]
    assert array.header == message.header
    assert {item.label for item in array.instances} <= {"chair", "table", "sofa", "door"}
    for index, item in enumerate(array.instances, start=1):
        mine = records["instance"] == index
        assert mine.sum() == item.num_points
        assert (records["label"][mine] == NAMES.index(item.label)).all()


def test_things_are_drawn_where_they_are_while_somebody_looks(
    graph_env: dict[str, str],
    domain: int,
    student: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []

    def counted(header: SourceHeader, found: Sequence[ObjectInstance], words: Vocabulary) -> Any:
        made.append(len(found))
        return markers_message(header, found, words)

    monkeypatch.setattr(markers, "markers_message", counted)
    running = Running(domain, "drawn", student=str(student), min_points=300)
    drawn = Probe(domain, "drawn")
    try:
        drawn.process(coded_cloud(0, stamp_ns=time.time_ns()))
        boxes = drawn.listen(MarkerArray, "instance_markers")
        found = drawn.listen(InstanceArray, "instances")
        publishers = running.node._outputs
        assert publishers is not None
        heard = {"instances", "instance_markers"}
        drawn.until(lambda: heard <= set(publishers.wanted()), what="the subscriptions")
        drawn.process(coded_cloud(1, stamp_ns=time.time_ns()))
        drawn.until(lambda: boxes and found, what="the markers")
        assert made == [2], "nothing is drawn for nobody"
        first, *shown = boxes[0].markers
        assert first.action == Marker.DELETEALL
        assert [m.type for m in shown] == [Marker.CUBE, Marker.TEXT_VIEW_FACING] * 2
        assert all(m.header == found[0].header for m in (first, *shown))
        truth = {"chair": [3.15, 1.05, 0.25], "table": [1.7, 2.25, 0.7]}
        names = [text.text.split()[0] for text in shown[1::2]]
        assert set(names) == set(truth)
        for name, box, item in zip(names, shown[::2], found[0].instances, strict=True):
            assert item.label == name and box.pose == item.pose
            place = np.array([box.pose.position.x, box.pose.position.y, box.pose.position.z])
            np.testing.assert_allclose(place - [STEP, 0, 0], truth[name], atol=0.15)
    finally:
        drawn.close()
        running.stop()


def test_a_query_alone_changes_no_topic(node: Process, probe: Probe) -> None:
    mask = probe.listen(PointCloud2, "query_mask")
    obstacles = probe.listen(PointCloud2, "obstacles")
    probe.process(coded_cloud(1, stamp_ns=time.time_ns()))
    probe.until(lambda: obstacles, what="obstacles")
    assert probe.ask("chair").status == Query.Response.OK
    probe.process(coded_cloud(2, stamp_ns=time.time_ns()))
    probe.until(lambda: len(obstacles) == 2, what="obstacles")
    assert not mask
    assert obstacles[1].width == len(coded_points(2))


def test_late_subscribers_learn_the_labels(node: Process, probe: Probe) -> None:
    info = probe.listen(LabelInfo, "label_info", latched=True)
    probe.until(lambda: info, what="label_info")
    assert tuple(info[0].names) == NAMES
    assert len(info[0].colors) == len(NAMES)
    assert all(color.a == 1.0 for color in info[0].colors)
    assert info[0].version >= 1
    assert info[0].UNLABELLED == UNLABELLED


def test_set_vocabulary_is_versioned_and_announced_before_its_first_cloud(
    node: Process, probe: Probe
) -> None:
    order: list[tuple[str, Any]] = []
    labelled = probe.listen(PointCloud2, "labeled_points")
    info = probe.listen(LabelInfo, "label_info", latched=True)
    probe.until(lambda: info, what="label_info")
    before = info[-1].version
    try:
        probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
        probe.until(lambda: labelled, what="a labelled cloud")
        answer = probe.set_labels(["table", " chair "])
        assert answer.success and answer.message == ""
        assert answer.version == before + 1
        probe.until(lambda: info[-1].version == before + 1, what="the new label_info")
        assert list(info[-1].names) == ["table", "chair"]
        order.clear()
        result = probe.process(coded_cloud(1, stamp_ns=time.time_ns()))
        assert result.label_version == before + 1
        probe.until(lambda: len(labelled) == 2, what="a labelled cloud")
        old, new = fields(labelled[0]), fields(labelled[1])
        truth = coded_labels(1)
        assert set(np.unique(new["label"])) == {0, 1, UNLABELLED}
        # Floor and walls are none of the two; the chair has got another number.
        assert (new["label"] == UNLABELLED)[truth < 2].mean() > 0.85
        chair = (old["label"] == CHAIR)[: len(new) - 1]
        assert (new["label"][: len(chair)][chair] == 1).mean() > 0.95
    finally:
        assert probe.set_labels(NAMES).success


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        ([], "at least one"),
        (["chair", "table", "Chair "], "twice"),
        (["chair", ""], "empty"),
        (["chair", "  "], "empty"),
        (["x" * 2000], "2000"),
        ([f"thing {k}" for k in range(1001)], "1000"),
        (["ch\x07air"], "control"),
    ],
)
def test_a_refused_vocabulary_leaves_the_old_one(
    node: Process, probe: Probe, labels: list[str], word: str
) -> None:
    info = probe.listen(LabelInfo, "label_info", latched=True)
    probe.until(lambda: info, what="label_info")
    answer = probe.set_labels(labels)
    assert not answer.success
    assert word in answer.message
    assert answer.version == info[-1].version
    assert tuple(info[-1].names) == NAMES


def test_the_room_in_an_optical_frame_gets_the_same_labels(node: Process, probe: Probe) -> None:
    labelled = probe.listen(PointCloud2, "labeled_points")
    upright = coded_cloud(0, stamp_ns=time.time_ns())
    body_to_optical = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], np.float32)
    tilted = Cloud(
        upright.points @ body_to_optical.T,
        header=SourceHeader(upright.header.stamp_ns + 1, "camera_optical_frame"),
    )
    try:
        probe.process(upright)
        assert probe.set_parameter("up", "").successful
        answer = probe.process(tilted)
        assert answer.up.y < -0.99
        probe.until(lambda: len(labelled) == 2, what="both labelled clouds")
        first, second = fields(labelled[0]), fields(labelled[1])
        assert (first["label"] == second["label"]).mean() >= 0.95
        received = read_cloud(labelled[1])
        np.testing.assert_array_equal(received.points, tilted.points)
        assert labelled[1].header.frame_id == "camera_optical_frame"
        status = probe.diagnostics()["gravity"]
        assert status.message.startswith("Up comes from the frame name")
    finally:
        assert probe.set_parameter("up", "0,0,1").successful
