"""Odd clouds through a running node: each is accounted for, and nothing of them stays behind."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import Probe, Process, cloud_message, counts
from lifecycle_msgs.srv import GetState
from odd_clouds import OddCloud, Unreadable, damaged, decode, message_of, odd_cloud, plain_cloud
from rclpy.qos import QoSProfile
from rooms import coded_cloud, coded_points
from sas_msgs.srv import Query
from sensor_msgs.msg import PointCloud2, PointField

from sas_ros.nodes.measured import resident_bytes
from sas_ros.observation import Cloud, SourceHeader

CLOUDS = int(os.environ.get("SAS_FUZZ_CLOUDS", "300"))
"""How many; docs/robot.md tells how to send 10,000."""
SEED = int(os.environ.get("SAS_FUZZ_SEED", "1"))
WARM_UP = max(100, CLOUDS // 10)
"""Odd clouds after which memory is compared."""
SIZES = range(500, 15_001, 500)
"""Points of good clouds before that: a compiled kernel is kept for every size of a level."""
MOST_GROWTH = 50 * 2**20


@pytest.fixture
def fuzzed(
    start_node: Callable[..., Process], domain: int, graph_env: dict[str, str]
) -> Iterator[tuple[Process, Probe]]:
    process = start_node("fuzz", text_encoder="none")
    probe = Probe(domain, "fuzz")
    yield process, probe
    probe.close()
    assert process.interrupt(30.0) == 0, process.output


def odd_one(number: int) -> OddCloud:
    """Mostly a few points; one in twenty is a room of which something is not right."""
    rng, stamp = random.Random(SEED * 10**9 + number), time.time_ns()
    if number % 20:
        return odd_cloud(rng, stamp)
    return damaged(plain_cloud(coded_points(0).tobytes(), stamp), rng)


def is_good(cloud: OddCloud) -> bool:
    """Whether the node will surely label it: points of a place, and a stamp of today."""
    try:
        points = decode(cloud).points
    except Unreadable:
        return False
    finite = [abs(value) for point in points for value in point if math.isfinite(value)]
    whole = any(all(map(math.isfinite, point)) for point in points)
    today = abs(cloud.header.stamp.sec - time.time()) < 60 and cloud.header.stamp.nanosec < 10**9
    return today and whole and max(finite) < 1000.0


class Newest:
    """The newest message of a topic."""

    def __init__(self, probe: Probe, topic: str) -> None:
        self.message: Any = None
        probe.node.create_subscription(PointCloud2, topic, self._keep, QoSProfile(depth=10))

    def _keep(self, message: Any) -> None:
        self.message = message

    def has(self, stamp: Any) -> bool:
        return self.message is not None and self.message.header.stamp == stamp


class Sender:
    """Publishes one cloud after another, each taken by the node before the next is sent."""

    def __init__(self, probe: Probe, newest: Newest) -> None:
        self._probe = probe
        self._newest = newest
        self._publisher = probe.publisher()
        self.sent = self.awaited = 0

    def send(self, cloud: OddCloud) -> None:
        message = message_of(cloud, PointCloud2, PointField)
        self._publisher.publish(message)
        self.sent += 1
        # Clouds and requests come in over one channel and in order, and the node's only thread
        # takes clouds before requests: the second request at the latest finds the cloud taken. (The
        # first may arrive with it while the thread is looking, past clouds but not past requests.
        # Waiting for acknowledgements takes a heartbeat, seconds.)
        for _ in range(2):
            self._probe.call(GetState, "perception/get_state", GetState.Request())
        if is_good(cloud):  # else the next one would often replace it, unseen by the network
            self.awaited += 1
            self._probe.until(lambda: self._newest.has(message.header.stamp), what=repr(cloud))


def labels_of(probe: Probe, newest: Newest) -> bytes:
    """Publish the good cloud and return its labelled bytes."""
    good = coded_cloud(0, stamp_ns=time.time_ns())
    probe.process(good)
    stamp = cloud_message(good).header.stamp
    probe.until(lambda: newest.has(stamp), what="the labelled cloud")
    return bytes(newest.message.data)


def settled(probe: Probe, received: int) -> dict[str, int]:
    """The counters once everything sent is accounted for."""

    def done(statuses: Any) -> bool:
        now = counts(statuses["input"])
        return now["in_flight"] == 0 and now["received"] >= received

    return counts(probe.diagnostics(done)["input"])


def test_odd_clouds_are_counted_and_leave_nothing_behind(fuzzed: tuple[Process, Probe]) -> None:
    process, probe = fuzzed
    newest = Newest(probe, "labeled_points")
    others = [Newest(probe, topic) for topic in ("query_mask", "obstacles", "visualization")]
    before = labels_of(probe, newest)
    assert probe.ask("chair", set_target=True, max_instances=1).status == Query.Response.OK
    probe.until(lambda: all(other.message is not None for other in others), what="all outputs")
    for size in SIZES:
        sized = Cloud(coded_points(0)[:size], header=SourceHeader(time.time_ns(), "lidar"))
        probe.process(sized)
    start = settled(probe, 1 + len(SIZES))["received"]
    sender = Sender(probe, newest)
    for number in range(WARM_UP):
        sender.send(odd_one(number))
    labels_of(probe, newest)
    warm = resident_bytes(process.pid)
    for number in range(WARM_UP, CLOUDS):
        sender.send(odd_one(number))
        if number % WARM_UP == 0:
            print(f"{number}: {resident_bytes(process.pid) / 2**20:.1f} MB", flush=True)
    assert process.running, process.output
    assert labels_of(probe, newest) == before
    grown = resident_bytes(process.pid) - warm
    now = settled(probe, start + sender.sent + 2)
    assert now["received"] == start + sender.sent + 2
    assert now["received"] == now["processed"] + now["dropped"]
    reasons = {key: value for key, value in now.items() if key.startswith("dropped_")}
    assert sum(reasons.values()) == now["dropped"]
    # An exception that nobody foresaw is counted as an error; none is expected.
    assert reasons["dropped_error"] == 0, process.output
    assert reasons["dropped_layout"] > 0.2 * CLOUDS and reasons["dropped_empty"] > 0, now
    assert now["processed"] >= sender.awaited > 0.1 * CLOUDS, now
    assert grown < MOST_GROWTH, f"{grown / 2**20:.0f} MB more than after the warm-up"
    assert "Traceback" not in process.output
    print(f"{CLOUDS} odd clouds: {now}, {grown / 2**20:.1f} MB grown")
