"""The held target: mask and obstacles of every new cloud, point by point."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
from harness import Probe, Process
from rooms import CHAIR, coded_cloud, coded_labels, coded_points, number_in_stamp, plain_room
from sas_msgs.srv import Query
from sensor_msgs.msg import PointCloud2

from sas_ros.clouds import read_cloud
from sas_ros.observation import Cloud


def rows(message: Any) -> npt.NDArray[np.float32]:
    return read_cloud(message).points


def check_split(mask: Any, obstacles: Any) -> int:
    """Mask and obstacles are the two parts of one coded cloud; returns how many are masked."""
    assert mask.header == obstacles.header
    points = coded_points(number_in_stamp(mask.header.stamp.nanosec))
    together = np.concatenate([rows(mask), rows(obstacles)])
    assert len(together) == len(points)
    np.testing.assert_array_equal(together[np.lexsort(together.T)], points[np.lexsort(points.T)])
    return int(mask.width)


def test_target_is_held_over_new_clouds_until_it_is_cleared(node: Process, probe: Probe) -> None:
    mask = probe.listen(PointCloud2, "query_mask")
    obstacles = probe.listen(PointCloud2, "obstacles")
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    probe.until(lambda: obstacles, what="obstacles")
    np.testing.assert_array_equal(rows(obstacles[0]), coded_points(0))
    answer = probe.ask("chair", set_target=True, max_instances=1, return_indices=True)
    assert answer.status == Query.Response.OK
    # Mask and obstacles of the cloud that was asked come at once, without a new cloud.
    probe.until(lambda: mask and len(obstacles) == 2, what="the target's mask")
    assert check_split(mask[0], obstacles[1]) == answer.instances[0].num_points
    np.testing.assert_array_equal(
        rows(mask[0]), coded_points(0)[np.array(answer.instances[0].indices)]
    )
    for number in (1, 2, 3):
        probe.process(coded_cloud(number, stamp_ns=time.time_ns()))
        probe.until(lambda: len(mask) == number + 1, what="the next mask")  # noqa: B023
        probe.until(lambda: len(obstacles) == number + 2, what="the next obstacles")  # noqa: B023
        assert number_in_stamp(mask[-1].header.stamp.nanosec) == number
        assert check_split(mask[-1], obstacles[-1]) > 800
    assert probe.diagnostics()["words"].values[-2].value == "chair"
    cleared = probe.ask("", set_target=True)
    assert (cleared.status, cleared.message) == (Query.Response.OK, "")
    probe.until(lambda: len(obstacles) == 6, what="the whole cloud")
    np.testing.assert_array_equal(rows(obstacles[-1]), coded_points(3))
    probe.process(coded_cloud(4, stamp_ns=time.time_ns()))
    probe.until(lambda: len(obstacles) == 7, what="the whole cloud")
    np.testing.assert_array_equal(rows(obstacles[-1]), coded_points(4))
    assert len(mask) == 4


def test_where_the_target_is_not_seen_the_obstacles_are_whole(node: Process, probe: Probe) -> None:
    mask = probe.listen(PointCloud2, "query_mask")
    obstacles = probe.listen(PointCloud2, "obstacles")
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    assert probe.ask("chair", set_target=True, max_instances=1, threshold=0.9).status == 0
    probe.until(lambda: mask, what="the mask")
    points, labels = plain_room()
    bare = Cloud(points[labels == 0], header=coded_cloud(1, stamp_ns=time.time_ns()).header)
    probe.process(bare)
    probe.until(lambda: len(mask) == 2 and len(obstacles) >= 3, what="the empty mask")
    assert mask[-1].width == 0
    np.testing.assert_array_equal(rows(obstacles[-1]), bare.points)
    # It is held all the same, and found again where it is seen.
    probe.process(coded_cloud(2, stamp_ns=time.time_ns()))
    probe.until(lambda: len(mask) == 3, what="the mask")
    assert mask[-1].width > 500


def test_a_target_that_stays_unseen_expires(node: Process, probe: Probe) -> None:
    obstacles = probe.listen(PointCloud2, "obstacles")
    mask = probe.listen(PointCloud2, "query_mask")
    assert probe.set_parameter("target_ttl", 0.3).successful
    try:
        probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
        assert probe.ask("chair", set_target=True, max_instances=1).status == 0
        probe.until(lambda: len(mask) == 1 and len(obstacles) == 2, what="the mask")
        held_until = time.monotonic() + 0.4
        probe.until(lambda: time.monotonic() > held_until, what="the time to live")
        probe.process(coded_cloud(1, stamp_ns=time.time_ns()))
        probe.until(lambda: len(obstacles) == 3, what="obstacles")
        np.testing.assert_array_equal(rows(obstacles[-1]), coded_points(1))
        assert len(mask) == 1
    finally:
        assert probe.set_parameter("target_ttl", 30.0).successful


def test_a_target_that_is_not_found_is_not_held(node: Process, probe: Probe) -> None:
    mask = probe.listen(PointCloud2, "query_mask")
    obstacles = probe.listen(PointCloud2, "obstacles")
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    assert probe.ask("chair", set_target=True).status == Query.Response.OK
    probe.until(lambda: mask, what="the mask")
    answer = probe.ask("sofa", set_target=True)
    assert answer.status == Query.Response.NOT_FOUND
    assert "No target is held now" in answer.message
    probe.process(coded_cloud(1, stamp_ns=time.time_ns()))
    stamp = number_in_stamp
    probe.until(lambda: stamp(obstacles[-1].header.stamp.nanosec) == 1, what="obstacles")
    np.testing.assert_array_equal(rows(obstacles[-1]), coded_points(1))


def test_an_invalid_request_leaves_the_target(node: Process, probe: Probe) -> None:
    mask = probe.listen(PointCloud2, "query_mask")
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    assert probe.ask("chair", set_target=True, max_instances=1).status == Query.Response.OK
    assert probe.ask("x" * 5000, set_target=True).status == Query.Response.INVALID
    probe.process(coded_cloud(1, stamp_ns=time.time_ns()))
    probe.until(lambda: len(mask) >= 2, what="the mask")
    chair = coded_points(1)[coded_labels(1) == CHAIR]
    assert mask[-1].width > 0.8 * len(chair)
