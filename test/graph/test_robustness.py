"""Clouds that are not what they should be, clocks that jump, publishers of every kind."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import Probe, Process, cloud_message, counts, values
from rooms import coded_cloud, coded_points, number_in_stamp
from rosgraph_msgs.msg import Clock
from sas_msgs.srv import Query
from sensor_msgs.msg import PointCloud2

from sas_ros.clouds import read_cloud
from sas_ros.observation import Cloud, SourceHeader


def broken(change: Callable[[Any], None]) -> PointCloud2:
    message = cloud_message(coded_cloud(0, stamp_ns=time.time_ns()))
    change(message)
    return message


def cut_short(message: Any) -> None:
    message.data = message.data[:1000]


def without_z(message: Any) -> None:
    message.fields = [field for field in message.fields if field.name != "z"]


def no_points(message: Any) -> None:
    message.width, message.row_step, message.data = 0, 0, array("B")


def only_nan(message: Any) -> None:
    message.data = array("B", np.full(len(message.data) // 4, np.nan, "<f4").tobytes())


def test_every_cloud_is_processed_or_dropped_for_a_reason(node: Process, probe: Probe) -> None:
    labelled = probe.listen(PointCloud2, "labeled_points")
    good = coded_cloud(0, stamp_ns=time.time_ns())
    probe.process(good)
    before = counts(probe.diagnostics(lambda s: counts(s["input"])["in_flight"] == 0)["input"])
    expected = dict(before)
    cases = [
        (cut_short, "layout"),
        (without_z, "layout"),
        (no_points, "empty"),
        (only_nan, "empty"),
    ]
    publisher = probe.publisher()
    for change, reason in cases:
        publisher.publish(broken(change))
        expected["received"] += 1
        expected["dropped"] += 1
        expected[f"dropped_{reason}"] += 1
        status = probe.diagnostics(
            lambda s: (
                counts(s["input"])["received"] == expected["received"]
                and counts(s["input"])["in_flight"] == 0
            )
        )["input"]
        assert counts(status) == expected, change.__name__
    # Alive, the old answer still there, and the next good cloud gets the same labels.
    assert probe.ask("chair").source.stamp.nanosec == good.header.stamp_ns % 10**9
    again = Cloud(good.points, header=SourceHeader(time.time_ns() // 10**6 * 10**6, "lidar"))
    probe.process(again)
    probe.until(lambda: len(labelled) == 2, what="the labelled cloud")
    assert labelled[0].data == labelled[1].data
    assert "Its fields: x float32 at 0" in node.output


def test_under_load_nothing_is_lost_without_a_reason(node: Process, probe: Probe) -> None:
    before = counts(probe.diagnostics()["input"])
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    for number in range(1, 60):
        probe.send(coded_cloud(number, stamp_ns=time.time_ns()))
        probe.ask("chair")  # paces the stream, so that most clouds get past the middleware
    probe.process(coded_cloud(60, stamp_ns=time.time_ns()))
    after = counts(probe.diagnostics(lambda s: counts(s["input"])["in_flight"] == 0)["input"])
    assert after["received"] == after["processed"] + after["dropped"]
    assert after["received"] - before["received"] >= 10
    assert after["dropped_busy"] > before["dropped_busy"]
    reasons = {k for k, v in after.items() if k.startswith("dropped_") and v != before[k]}
    assert reasons == {"dropped_busy"}


def test_one_point_and_far_coordinates_are_processed(node: Process, probe: Probe) -> None:
    single = Cloud(
        np.array([[1.0, 2.0, 3.0]], np.float32), header=SourceHeader(time.time_ns(), "lidar")
    )
    probe.send(single)
    answer = probe.await_source(single)
    assert answer.status == Query.Response.NOT_FOUND
    message = cloud_message(coded_cloud(0, stamp_ns=time.time_ns()))
    wide = coded_points(0) + np.array([691000.0, 5335000.0, 500.0])
    message.point_step, message.row_step = 24, 24 * len(wide)
    message.fields = message.fields[:3]
    for axis, field in enumerate(message.fields):
        field.offset, field.datatype = 8 * axis, 8
    message.data = array("B", wide.tobytes())
    probe.publisher().publish(message)
    cloud = read_cloud(message)
    answer = probe.await_source(cloud)
    assert answer.status == Query.Response.OK
    best = answer.instances[0]
    assert best.centroid.x == pytest.approx(691003.15, abs=0.1)
    assert best.pose.position.y == pytest.approx(5335001.05, abs=0.2)


def test_stamps_that_go_back_clear_snapshot_and_target(node: Process, probe: Probe) -> None:
    mask = probe.listen(PointCloud2, "query_mask")
    now = time.time_ns()
    probe.process(coded_cloud(1, stamp_ns=now))
    assert probe.ask("chair", set_target=True, max_instances=1).status == Query.Response.OK
    probe.until(lambda: mask, what="the mask")
    back = coded_cloud(2, stamp_ns=now - 100 * 10**9)
    answer = probe.process(back)
    assert number_in_stamp(answer.source.stamp.nanosec) == 2
    words = values(probe.diagnostics()["words"])
    assert words["target"] == ""
    assert len(mask) == 1
    assert "stamps went back by" in node.output


def test_a_stamp_far_from_the_clock_warns_once_with_the_remedy(node: Process, probe: Probe) -> None:
    for number in range(3):
        probe.process(coded_cloud(number, stamp_ns=time.time_ns() - 500 * 10**9))
    assert node.output.count("use_sim_time") == 1


def test_max_age_drops_old_clouds(node: Process, probe: Probe) -> None:
    assert probe.set_parameter("max_age", 5.0).successful
    try:
        before = counts(probe.diagnostics()["input"])["dropped_stale"]
        probe.send(coded_cloud(0, stamp_ns=time.time_ns() - 60 * 10**9))
        probe.diagnostics(lambda s: counts(s["input"])["dropped_stale"] == before + 1)
        assert probe.ask("chair").status == Query.Response.NO_DATA
    finally:
        assert probe.set_parameter("max_age", 0.0).successful


@pytest.mark.parametrize("preference", ["auto", "reliable", "best_effort"])
@pytest.mark.parametrize("reliable", [True, False], ids=["from_reliable", "from_best_effort"])
def test_large_clouds_arrive_for_every_pair_of_reliabilities(
    node: Process, probe: Probe, preference: str, reliable: bool
) -> None:
    """2.4 MB; where a pair does not match, diagnostics say so."""
    assert probe.set_parameter("points_reliability", preference).successful
    try:
        points = np.resize(coded_points(0), (150_000, 3))
        cloud = Cloud(points, header=SourceHeader(time.time_ns() // 10**6 * 10**6, "lidar"))
        assert len(cloud_message(cloud).data) == 2_400_000
        if preference == "reliable" and not reliable:
            policy_pair = probe.unmatched_publisher()
            policy_pair.publish(cloud_message(cloud))
            status = probe.diagnostics(lambda s: s["input"].level == b"\x01")["input"]
            assert "best effort" in status.message and "/sas/points" in status.message
            assert int(values(status)["qos_incompatible"]) >= 1
            return

        def arrived() -> bool:
            probe.send(cloud, reliable=reliable)  # a stream: best effort promises no single one
            return probe.ask("chair").status == Query.Response.OK

        probe.until(arrived, what="the cloud")
        expected = {"auto": "reliable" if reliable else "best_effort"}.get(preference, preference)
        assert values(probe.diagnostics()["input"])["reliability"] == expected
    finally:
        assert probe.set_parameter("points_reliability", "auto").successful


def test_auto_follows_publishers_that_come_and_go(node: Process, probe: Probe) -> None:
    def is_now(kind: str) -> Callable[[Any], bool]:
        return lambda s: values(s["input"])["reliability"] == kind

    probe.send(coded_cloud(0, stamp_ns=time.time_ns()), reliable=True)
    probe.diagnostics(is_now("reliable"))
    probe.publisher(reliable=False)
    probe.diagnostics(is_now("best_effort"))
    probe.drop_publisher(reliable=False)
    probe.diagnostics(is_now("reliable"))
    probe.process(coded_cloud(1, stamp_ns=time.time_ns()))


def test_a_driver_that_is_started_again_finds_the_subscription_as_it_was(
    node: Process, probe: Probe
) -> None:
    def publishers(kind: str, count: int) -> Callable[[Any], bool]:
        return lambda s: values(s["input"])[f"publishers_{kind}"] == str(count)

    probe.publisher(reliable=False)
    probe.diagnostics(lambda s: values(s["input"])["reliability"] == "best_effort")
    probe.drop_publisher(reliable=False)
    for _ in range(2):  # one report may come before the node looks after its publishers
        report = probe.diagnostics(publishers("best_effort", 0))
        assert values(report["input"])["reliability"] == "best_effort"
    probe.publisher(reliable=True)
    probe.diagnostics(lambda s: values(s["input"])["reliability"] == "reliable")


def test_silence_is_reported_with_what_is_missing(node: Process, probe: Probe) -> None:
    status = probe.diagnostics(lambda s: s["input"].level == b"\x01")["input"]
    assert "/sas/points" in status.message
    assert "nobody publishes it" in status.message


def test_simulated_time_may_start_at_zero_and_go_back(
    start_node: Callable[..., Process], domain: int, graph_env: dict[str, str]
) -> None:
    process = start_node("sim", use_sim_time="true", text_encoder="none", max_age=1000.0)
    probe = Probe(domain, "sim")
    try:
        assert probe.process(coded_cloud(1, stamp_ns=5 * 10**9), timeout=60).status == 0
        clock = probe.node.create_publisher(Clock, "/clock", 10)
        probe.until(clock.get_subscription_count, what="the node to listen to /clock")
        tick = Clock()

        def time_is(seconds: int) -> bool:
            tick.clock.sec = seconds
            clock.publish(tick)  # again and again: /clock is best effort
            return True

        probe.until(lambda: time_is(6) and 0 < probe.ask("chair").age_s < 10, what="the clock")
        assert probe.ask("chair", set_target=True, max_instances=1).status == 0
        no_data = Query.Response.NO_DATA
        probe.until(lambda: time_is(2) and probe.ask("chair").status == no_data, what="forgetting")
        assert values(probe.diagnostics()["words"])["target"] == ""
        assert "the clock went back" in process.output
        assert probe.process(coded_cloud(2, stamp_ns=2 * 10**9)).status == 0
    finally:
        probe.close()
        assert process.interrupt() == 0
