"""Diagnostics, log, transport, TF and the client's output: what people read."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sas_ros.client import as_json, as_table
from sas_ros.nodes import bench, load, load_clients, soak
from sas_ros.nodes.diagnostics import (
    DROP_REASONS,
    InputState,
    Latencies,
    Level,
    Tally,
    input_status,
    resident_megabytes,
)
from sas_ros.nodes.load import _Crowd
from sas_ros.nodes.log import ThrottledLog
from sas_ros.nodes.measured import MeasuredNode, input_counts
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.report import NodeState, make_report
from sas_ros.nodes.shared import Shared
from sas_ros.nodes.transport import NEEDED_BYTES, VARIABLES, find_config, use_large_cloud_profile
from sas_ros.observation import Up


def test_the_tally_always_adds_up() -> None:
    tally = Tally()
    for reason in DROP_REASONS:
        tally.receive()
        tally.drop(reason)
    tally.receive()
    tally.process()
    tally.receive()
    counts = tally.snapshot()
    assert counts["received"] == counts["processed"] + counts["dropped"] + counts["in_flight"]
    assert counts["in_flight"] == 1 and counts["dropped"] == len(DROP_REASONS)
    with pytest.raises(ValueError, match="unknown reason"):
        tally.drop("mood")


def test_latencies_are_told_as_percentiles_also_of_failures() -> None:
    latencies = Latencies()
    for value in range(1, 101):
        latencies.add("read", float(value))
    assert latencies.values() == {"read_ms_p50": "50.5", "read_ms_p95": "95.0"} or (
        float(latencies.values()["read_ms_p95"]) == pytest.approx(95, abs=0.2)
    )
    with pytest.raises(RuntimeError), latencies.stage("student"):
        raise RuntimeError
    assert latencies.median("student") is not None
    assert latencies.median("never") is None


def state(**changes: Any) -> InputState:
    values = {"topic": "/sas/points", "reliability": "reliable", "publishers": {}, **changes}
    return InputState(**values)


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"silent_for": None}, Level.OK, ["not active"]),
        ({"silent_for": 1.0}, Level.OK, ["come in"]),
        ({"silent_for": 9.0}, Level.WARN, ["/sas/points", "9 s", "nobody publishes it"]),
        (
            {"silent_for": 9.0, "wrong_types": ("sensor_msgs/msg/LaserScan",)},
            Level.WARN,
            ["LaserScan", "remap"],
        ),
        (
            {"silent_for": 9.0, "publishers": {"best_effort": 1}},
            Level.WARN,
            ["do not match", "points_reliability"],
        ),
        (
            {"silent_for": 9.0, "publishers": {"best_effort": 1}, "reliability": "best_effort"},
            Level.WARN,
            ["fastdds_large_clouds.xml"],
        ),
        ({"silent_for": 9.0, "publishers": {"reliable": 1}}, Level.WARN, ["sends nothing"]),
    ],
)
def test_silence_names_the_topic_and_what_is_missing(
    changes: dict[str, Any], level: Level, words: list[str]
) -> None:
    status = input_status(state(**changes), Tally().snapshot(), 5.0)
    assert status.level == level
    assert all(word in status.message for word in words)
    assert status.values["received"] == "0"


@pytest.mark.parametrize(
    ("changes", "level", "word"),
    [
        ({}, Level.OK, "tiny on cpu"),
        ({"lifecycle": "inactive"}, Level.WARN, "not active"),
        ({"worker_restarts": 1}, Level.ERROR, "died"),
        ({"busy_for": 30.0}, Level.WARN, "30 s"),
        ({"median": 9.0}, Level.WARN, "9.0 s"),
    ],
)
def test_the_student_entry_says_what_is_wrong(
    changes: dict[str, Any], level: Level, word: str
) -> None:
    parameters = PerceptionParameters.from_values({})
    shared = Shared(lambda: parameters, lambda: 0.0, ThrottledLog(None))
    if "median" in changes:
        shared.latencies.add("total", changes.pop("median") * 1e3)
    node = NodeState(**{"lifecycle": "active", "student": "tiny", "device": "cpu", **changes})
    statuses = {s.name: s for s in make_report(node, state(silent_for=0.0), shared)}
    assert list(statuses) == ["input", "student", "gravity", "words"]
    assert statuses["student"].level == level and word in statuses["student"].message


@pytest.mark.parametrize(
    ("up", "level", "angle"),
    [
        (Up(np.array([0.0, -1.0, 0.0]), "frame name"), Level.OK, "90.0"),
        (Up(np.array([0.0, 0.0, 1.0]), "planes"), Level.WARN, "0.0"),
    ],
)
def test_gravity_is_told_with_source_and_angle(up: Up, level: Level, angle: str) -> None:
    parameters = PerceptionParameters.from_values({})
    shared = Shared(lambda: parameters, lambda: 0.0, ThrottledLog(None))
    report = make_report(NodeState("active", up=up), state(silent_for=0.0), shared)
    gravity = report[2]
    assert gravity.level == level
    assert (gravity.values["up_source"], gravity.values["angle_to_z_deg"]) == (up.source, angle)


def test_a_bench_stays_in_a_namespace_of_its_own_whatever_the_domain(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the robot's ROS_DOMAIN_ID exported, generated rooms must not reach its node."""
    started: list[list[str]] = []
    monkeypatch.setattr(
        "subprocess.Popen", lambda words, **_: started.append(words) or SimpleNamespace(pid=1)
    )
    monkeypatch.setenv("ROS_DOMAIN_ID", "42")
    node = MeasuredNode({"student": "tiny"})
    assert node.namespace.startswith("sas_bench_") and str(os.getpid()) in node.namespace
    _Crowd(tmp_path / "points.npy", 3, 1.0, 0.0, node.namespace)._start(3, 1.0)
    assert f"__ns:=/{node.namespace}" in started[0]
    assert started[1][started[1].index("--namespace") + 1] == node.namespace

    def report(namespace: str) -> Any:
        pairs = [SimpleNamespace(key="processed", value="3")]
        status = SimpleNamespace(name=f"/{namespace}/perception: input", values=pairs)
        return SimpleNamespace(status=[status])

    assert input_counts(report("sas"), node.namespace) is None
    assert input_counts(report(node.namespace), node.namespace) == {"processed": 3}
    for module in (bench, load, load_clients, soak):
        assert 'namespace="sas"' not in Path(str(module.__file__)).read_text()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_told() -> None:
    assert 5 < resident_megabytes() < 100_000


def test_the_log_does_not_repeat_itself() -> None:
    now = [0.0]
    lines: list[str] = []
    logger = SimpleNamespace(warning=lines.append, error=lines.append)
    log = ThrottledLog(logger, clock=lambda: now[0])
    for _ in range(3):
        log.warn("a", "first")
        log.warn_once("b", "once")
    now[0] = 6.0
    log.warn("a", "again")
    log.warn_once("b", "once")
    log.error("c", "bad")
    assert lines == ["first", "once", "again (2 more like this since)", "bad"]


def test_a_profile_of_the_user_is_never_replaced(tmp_path: Path) -> None:
    for name in VARIABLES:
        environment = {name: "mine.xml"}
        assert name in use_large_cloud_profile(environment, shared_memory=tmp_path)
        assert environment == {name: "mine.xml"}
    environment = {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}
    assert "cyclonedds" in use_large_cloud_profile(environment, shared_memory=tmp_path)
    assert len(environment) == 1


def test_the_profile_is_used_where_shared_memory_is_large_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = find_config("fastdds_large_clouds.xml")
    assert profile is not None
    free = [NEEDED_BYTES]
    monkeypatch.setattr(
        "os.statvfs", lambda _: SimpleNamespace(f_bavail=free[0], f_frsize=1), raising=True
    )
    environment: dict[str, str] = {}
    assert "shared memory" in use_large_cloud_profile(environment, shared_memory=tmp_path)
    assert environment == {VARIABLES[0]: str(profile)}
    environment = {"ROS_DISTRO": "jazzy"}
    assert "shared memory" in use_large_cloud_profile(environment, shared_memory=tmp_path)
    assert environment[VARIABLES[1]] == str(profile)
    environment, free[0] = {}, NEEDED_BYTES - 1
    assert "--shm-size" in use_large_cloud_profile(environment, shared_memory=tmp_path)
    assert environment == {}


def response(**changes: Any) -> Any:
    """What the client needs of a sas_msgs/srv/Query response."""

    def triple(x: float, y: float, z: float) -> Any:
        return SimpleNamespace(x=x, y=y, z=z)

    item = SimpleNamespace(
        label="chair", score=0.75, num_points=12, indices=[1, 2],
        pose=SimpleNamespace(
            position=triple(1, 2, 3), orientation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
        ),
        size=triple(0.5, 0.4, 0.9), centroid=triple(1, 2, 3), support_height=float("nan"),
    )  # fmt: skip
    values: dict[str, Any] = {
        "status": 0, "message": "", "age_s": 0.5, "up": triple(0, 0, 1), "best_score": 0.75,
        "source": SimpleNamespace(
            frame_id="lidar", stamp=SimpleNamespace(sec=3, nanosec=500_000_000)
        ),
        "alternatives": [], "alternative_scores": [], "instances": [item], "label_version": 2,
        "map_version": 0,
        "student": "tiny", "timing": SimpleNamespace(names=["match"], ms=[1.5]),
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def test_the_clients_json_is_stable() -> None:
    answer = as_json(response(), round_trip_ms=9.0)
    assert list(answer) == [
        "status", "message", "frame", "stamp", "age_s", "up", "best_score", "alternatives",
        "instances", "label_version", "map_version", "student", "timing_ms",
    ]  # fmt: skip
    assert answer["stamp"] == 3.5
    assert answer["instances"][0]["support_height"] is None
    assert answer["timing_ms"] == {"match": 1.5, "round_trip": 9.0}


def test_the_clients_table_says_what_was_found_and_what_was_not() -> None:
    table = as_table("chair", as_json(response(), round_trip_ms=9.0))
    assert "chair: OK" in table and "0.50 x 0.40 x 0.90" in table and "lidar" in table
    missing = response(
        status=1, message="No 'sofa' here.", instances=[], alternatives=["chair"],
        alternative_scores=[0.25],
    )  # fmt: skip
    table = as_table("sofa", as_json(missing, round_trip_ms=9.0))
    assert "sofa: NOT_FOUND  No 'sofa' here." in table
    assert "seen instead: chair 0.25" in table
