"""`sas doctor` on a real graph: each thing that goes wrong is made to go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from harness import Process, cloud_message, middleware_facts
from inprocess import Running
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import String
from students import untrained_student

from sas_ros.doctor import Facts, diagnose
from sas_ros.doctor.surroundings import look_around
from sas_ros.nodes.graph_probe import GraphProbe, look_at_graph
from sas_ros.observation import Cloud, SourceHeader

PATIENCE = 120.0
"""Seconds until a finding must be there; discovery is slow on a loaded machine."""

HEARING = 60.0
"""Seconds until a node has heard somebody who has begun to publish; after 30 it tries another
subscription."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("student") / "tiny.safetensors"
    untrained_student().save(path)
    return path


@pytest.fixture(scope="module")
def active(graph_env: dict[str, str], domain: int, tiny: Path) -> Iterator[Running]:
    running = Running(domain, "doc", student=str(tiny))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def waiting(graph_env: dict[str, str], domain: int, tmp_path_factory: Any) -> Iterator[Running]:
    """A node that a manager did not configure, with parameters it cannot be configured with."""
    damaged = tmp_path_factory.mktemp("damaged") / "half.safetensors"
    damaged.write_bytes(b"not a student")
    running = Running(
        domain,
        "managed",
        student=str(damaged),
        device="cuda",
        autostart=False,
        inference_frame="odom",
        up="",
    )
    yield running
    running.stop()


class Helper:
    """A node of the test that publishes, in a context of its own."""

    def __init__(self, domain: int) -> None:
        self._domain = domain
        self._join()

    def _join(self) -> None:
        self._context = Context()
        self._context.init(domain_id=self._domain)
        self.node = Node("helper", namespace="doc", context=self._context)

    def close(self) -> None:
        self.node.destroy_node()
        self._context.try_shutdown()

    def join_anew(self) -> None:
        """Leave the graph and come back as another participant."""
        self.close()
        self._join()


@pytest.fixture
def helper(graph_env: dict[str, str], domain: int) -> Iterator[Helper]:
    own = Helper(domain)
    yield own
    own.close()


Doctor = Callable[..., dict[str, str]]


@pytest.fixture
def doctor(active: Running, domain: int, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Looks until all `wanted` codes and none of `gone` are found; what it said, by code."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))

    def look(*wanted: str, gone: tuple[str, ...] = (), namespace: str = "doc") -> dict[str, str]:
        end = time.monotonic() + PATIENCE
        while True:
            graph = look_at_graph(namespace, "perception", 4.0)
            parameters = graph.node.parameters if graph.node is not None else {}
            around = look_around(
                student=str(parameters.get("student", "")),
                device=str(parameters.get("device", "")),
            )
            found = {f.code: f"{f.sentence} {f.remedy}" for f in diagnose(Facts(around, graph))}
            if set(wanted) <= found.keys() and not set(gone) & found.keys():
                return found
            assert time.monotonic() < end, (
                f"waited in vain for {wanted}: {found} {graph} {active.node._input.state()}\n"
                f"{middleware_facts()}"
            )

    return look


@contextmanager
def publishing(
    helper: Helper,
    make: Callable[[], Any],
    *,
    kind: Any = PointCloud2,
    topic: str = "points",
    best_effort: bool = False,
    heard_by: Running | None = None,
) -> Iterator[None]:
    """Publish ten times a second.

    Where participants come and go, one may never be heard by those that were there before, while
    all see it (Fast DDS; seen in runs of these tests, not in 760 rounds of a trial). What a test is
    about needs a publisher that `heard_by` hears, so it comes back as another participant then,
    and a warning says what was seen.
    """
    for _ in range(3):
        began = time.monotonic()
        with _publishing(helper, make, kind, topic, best_effort):
            if heard_by is None or _heard(heard_by, since=began):
                yield
                return
            seen = f"{heard_by.node._input.state()}\n{middleware_facts()}"
        warnings.warn(f"A publisher was not heard for {HEARING} s: {seen}", stacklevel=2)
        helper.join_anew()
    raise AssertionError(f"Three participants were not heard.\n{middleware_facts()}")


def _heard(running: Running, since: float) -> bool:
    while True:
        silent, passed = running.node._input.state().silent_for, time.monotonic() - since
        if silent is not None and silent < passed:
            return True
        if passed > HEARING:
            return False
        time.sleep(0.05)


@contextmanager
def _publishing(
    helper: Helper, make: Callable[[], Any], kind: Any, topic: str, best_effort: bool
) -> Iterator[None]:
    policy = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
    publisher = helper.node.create_publisher(kind, topic, QoSProfile(depth=2, reliability=policy))
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(0.1):
            publisher.publish(make())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10.0)
        helper.node.destroy_publisher(publisher)


def room(age: float = 0.0, frame: str = "lidar") -> PointCloud2:
    rng = np.random.default_rng(0)
    points = rng.uniform([0, 0, 0], [2, 2, 0.05], (800, 3)).astype(np.float32)
    stamp = time.time_ns() - int(age * 1e9)
    return cloud_message(Cloud(points, header=SourceHeader(stamp, frame)))


def test_a_healthy_graph_and_one_without_listeners(
    active: Running, helper: Helper, doctor: Doctor
) -> None:
    with publishing(helper, room, heard_by=active):
        said = doctor("no-listener", gone=("no-publisher", "silent-publisher"))
        assert set(said) <= {"no-listener", "shared-memory"}
        helper.node.create_subscription(PointCloud2, "labeled_points", lambda _: None, 5)
        assert set(doctor(gone=("no-listener", "no-publisher"))) <= {"shared-memory"}


def test_no_node_here_but_one_elsewhere(active: Running, doctor: Doctor) -> None:
    assert "--namespace doc" in doctor("no-node", namespace="nowhere")["no-node"]


def test_no_publisher_but_clouds_elsewhere(active: Running, helper: Helper, doctor: Doctor) -> None:
    assert "Nobody publishes /doc/points" in doctor("no-publisher")["no-publisher"]
    with publishing(helper, room, topic="/camera/points"):
        end = time.monotonic() + PATIENCE
        while "points:=/camera/points" not in doctor("no-publisher")["no-publisher"]:
            assert time.monotonic() < end


def test_another_type_under_the_name(active: Running, helper: Helper, doctor: Doctor) -> None:
    with publishing(helper, String, kind=String):
        assert "std_msgs/msg/String" in doctor("wrong-type")["wrong-type"]


def test_reliabilities_that_do_not_match(active: Running, helper: Helper, doctor: Doctor) -> None:
    active.set(points_reliability="reliable")
    try:
        with publishing(helper, room, best_effort=True):
            assert "/doc/helper publishes" in doctor("qos")["qos"]
    finally:
        active.set(points_reliability="auto")


def test_large_best_effort_clouds_get_lost(
    active: Running, doctor: Doctor, graph_env: dict[str, str], tmp_path: Path
) -> None:
    np.save(tmp_path / "large.npy", np.random.default_rng(0).normal(size=(600_000, 3)))
    words = [str(tmp_path / "large.npy"), "--namespace", "doc", "--rate", "2"]
    words += ["--reliability", "best_effort", "--transport"]
    plain = {k: v for k, v in graph_env.items() if not k.endswith("_PROFILES_FILE")}
    driver = Process("sas_ros.nodes.replay", [*words, "default"], env=plain)
    try:
        said = doctor("large-cloud", gone=("no-publisher",))["large-cloud"]
        assert "/doc/replay" in said and "fastdds_large_clouds.xml" in said
    finally:
        assert driver.interrupt(20.0) == 0, driver.output
    remedied = Process("sas_ros.nodes.replay", [*words, "large"], env=plain)
    try:
        doctor(gone=("large-cloud", "no-publisher"))
    finally:
        assert remedied.interrupt(20.0) == 0, remedied.output


def test_a_publisher_that_sends_nothing(active: Running, helper: Helper, doctor: Doctor) -> None:
    publisher = helper.node.create_publisher(PointCloud2, "points", 1)
    assert "/doc/helper offers" in doctor("silent-publisher")["silent-publisher"]
    helper.node.destroy_publisher(publisher)


def test_wrong_fields_and_empty_clouds(active: Running, helper: Helper, doctor: Doctor) -> None:
    def integers() -> PointCloud2:
        message = room()
        message.fields = [
            PointField(name=f.name, offset=f.offset, datatype=PointField.INT32, count=1)
            for f in message.fields
        ]
        return message

    with publishing(helper, integers, heard_by=active):
        said = doctor("fields", "dropped-layout")
        assert "x int32 at 0" in said["fields"] and "none was processed" in said["dropped-layout"]
    nothing = Cloud(np.full((40, 3), np.nan, np.float32), header=SourceHeader(0, "lidar"))
    with publishing(helper, lambda: cloud_message(nothing), heard_by=active):
        assert "40 points" in doctor("empty", "dropped-empty")["empty"]


def test_stale_and_future_stamps(active: Running, helper: Helper, doctor: Doctor) -> None:
    with publishing(helper, lambda: room(age=1000.0), heard_by=active):
        assert "s ago; TF" in doctor("stale-stamps")["stale-stamps"]
        active.set(max_age=5.0)
        try:
            said = doctor("stale-stamps", "dropped-stale")
            assert "all are dropped" in said["stale-stamps"]
        finally:
            active.set(max_age=0.0)
    with publishing(helper, lambda: room(age=-1000.0), heard_by=active):
        assert "future" in doctor("future-stamps")["future-stamps"]


def test_simulated_time_without_a_clock(active: Running, helper: Helper, doctor: Doctor) -> None:
    active.set(use_sim_time=True)
    try:
        with publishing(helper, room):
            assert "nobody publishes /clock" in doctor("no-clock")["no-clock"]
    finally:
        active.set(use_sim_time=False)


def test_a_cloud_keeps_the_time_of_its_arrival(graph_env: dict[str, str], domain: int) -> None:
    context = Context()
    context.init(domain_id=domain)
    probe = GraphProbe(context, "nobody", "perception")
    try:
        data = serialize_message(room())
        probe._receive(data)
        for second in (5, 8):
            probe._tick(Clock(clock=Time(sec=second)))
            probe._receive(data)
        sample = probe._sample
    finally:
        probe.close()
        context.try_shutdown()
    # The first came before there was any time; the second is kept.
    assert sample is not None and sample.clock_ns == 5 * 10**9


def test_simulated_time_goes_on_while_the_doctor_looks(
    active: Running, helper: Helper, doctor: Doctor
) -> None:
    began = time.monotonic()

    def now() -> Time:
        # Fast enough for what comes seconds later to be far away.
        seconds = 1000.0 + 15.0 * (time.monotonic() - began)
        return Time(sec=int(seconds), nanosec=int(seconds % 1 * 1e9))

    def stamped() -> PointCloud2:
        message = room()
        message.header.stamp = now()
        return message

    active.set(use_sim_time=True)
    try:
        with (
            publishing(helper, lambda: Clock(clock=now()), kind=Clock, topic="/clock"),
            publishing(helper, stamped),
        ):
            said = doctor("no-listener", gone=("no-clock", "no-publisher", "silent-publisher"))
            assert not {"stale-stamps", "future-stamps"} & said.keys()
    finally:
        active.set(use_sim_time=False)


def test_a_listener_that_does_not_match(active: Running, helper: Helper, doctor: Doctor) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    subscription = helper.node.create_subscription(
        PointCloud2, "visualization", lambda _: None, latched
    )
    assert "/doc/helper asks" in doctor("listener-qos")["listener-qos"]
    helper.node.destroy_subscription(subscription)


def test_two_nodes_of_one_name(active: Running, domain: int, doctor: Doctor) -> None:
    context = Context()
    context.init(domain_id=domain)
    double = Node("perception", namespace="doc", context=context)
    assert "2 nodes are called /doc/perception" in doctor("two-nodes")["two-nodes"]
    double.destroy_node()
    context.try_shutdown()
    doctor(gone=("two-nodes",))


def test_a_node_that_does_not_answer(
    domain: int, graph_env: dict[str, str], doctor: Doctor
) -> None:
    context = Context()
    context.init(domain_id=domain)
    frozen = Node("perception", namespace="frozen", context=context)  # never spun
    assert "does not answer" in doctor("no-answer", namespace="frozen")["no-answer"]
    frozen.destroy_node()
    context.try_shutdown()


def test_no_student_no_device_and_no_tf(waiting: Running, doctor: Doctor) -> None:
    import torch

    waits = ["student", "not-active", "no-publisher"]
    if not torch.cuda.is_available():
        waits.append("device")
    said = doctor(*waits, namespace="managed")
    assert "half.safetensors" in said["student"] and "is unconfigured" in said["not-active"]
    # Without tf2_ros, as where the wheels are used, the first; the second needs it.
    assert {"tf2-missing", "tf-missing"} & said.keys()


def test_tf_that_nobody_publishes(
    waiting: Running, helper: Helper, doctor: Doctor, tmp_path: Path, monkeypatch: Any
) -> None:
    """Needs tf2_ros; where it is missing the doctor is shown an empty package of that name, and
    the graph is a true one."""
    if find_spec("tf2_ros") is None:
        (tmp_path / "tf2_ros").mkdir()
        (tmp_path / "tf2_ros" / "__init__.py").touch()
        monkeypatch.syspath_prepend(str(tmp_path))
    said = doctor("tf-missing", gone=("tf2-missing",), namespace="managed")["tf-missing"]
    assert "'odom'" in said and "robot_state_publisher" in said
    with publishing(helper, String, kind=String, topic="/tf_static"):  # any type: names count
        doctor("student", gone=("tf-missing", "tf2-missing"), namespace="managed")


def test_a_student_that_is_not_there(waiting: Running, tmp_path: Path, doctor: Doctor) -> None:
    gone, before = tmp_path / "gone.safetensors", waiting.node.get_parameter("student").value
    try:
        for name, sentence in (
            (str(gone), f"There is no student bundle at {gone}."),
            ("outdoor-huge", "There is no student called 'outdoor-huge'; found: "),
        ):
            waiting.set(student=name)
            said = doctor("student", namespace="managed")["student"]
            assert sentence in said and "to a shipped name or to a bundle's path" in said
    finally:
        waiting.set(student=before)


def test_a_student_of_another_encoder(waiting: Running, tiny: Path, doctor: Doctor) -> None:
    waiting.set(student=str(tiny), text_encoder="minilm-l6-v2")
    said = doctor("student-encoder", gone=("student",), namespace="managed")
    assert "trained with 'none'" in said["student-encoder"]


def test_the_command_says_that_interfaces_are_not_built(
    active: Running, tmp_path: Path, graph_env: dict[str, str]
) -> None:
    (tmp_path / "sas_msgs").mkdir()
    (tmp_path / "sas_msgs" / "__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "sas_training.cli", "doctor", "--namespace", "doc", "--json"],
        env={**graph_env, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["healthy"] is False
    codes = [row["code"] for row in report["findings"]]
    assert codes[0] == "interfaces" and "no-publisher" in codes
    assert report["facts"]["graph"]["node"]["state"] == "active"
