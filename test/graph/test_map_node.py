"""The map through the node's services, in a node of the test's own process."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Probe, values
from inprocess import Running
from rooms import coded_cloud, number_in_stamp
from sas_msgs.srv import Query
from std_srvs.srv import Trigger

from sas_ros.cli import main
from sas_ros.clouds import read_cloud
from sas_ros.mapping import MapIdentity, load_map, save_map, student_fingerprint
from sas_ros.mapping.voxel_map import empty_state
from sas_ros.student.bundle import StudentBundle

MAP = Query.Request.SOURCE_MAP
ANSWER = Query.Response
HAS_TF2 = importlib.util.find_spec("tf2_ros") is not None


@pytest.fixture
def near(graph_env: dict[str, str], domain: int) -> Iterator[Probe]:
    own = Probe(domain, "mapper")
    yield own
    own.close()


def trigger(probe: Probe, name: str) -> Any:
    return probe.call(Trigger, name, Trigger.Request())


def stamp_of(answer: Any) -> int:
    return int(answer.source.stamp.sec * 10**9 + answer.source.stamp.nanosec)


def shown(probe: Probe, stamp_ns: int) -> Any:
    """The first answer of the map that holds the cloud of this stamp."""

    def ask() -> Any:
        answer = probe.ask("chair", source=MAP)
        return answer if stamp_of(answer) == stamp_ns else None

    return probe.until(ask, what="the cloud on the map")


def test_a_map_is_built_asked_saved_and_reset(
    near: Probe,
    domain: int,
    student: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "room.map.safetensors"
    running = Running(
        domain, "mapper", student=str(student), map="build", map_frame="lidar", map_file=str(path)
    )
    try:
        empty = near.ask("chair", source=MAP)
        assert (empty.status, empty.map_version) == (ANSWER.NO_DATA, 0)
        assert "no cloud was taken in yet" in empty.message
        first = coded_cloud(0, stamp_ns=time.time_ns())
        latest = near.process(first)
        answer = shown(near, first.header.stamp_ns)
        assert answer.status == ANSWER.OK and answer.map_version > 1 and latest.map_version == 0
        assert answer.source.frame_id == "lidar" and answer.student == "coded-room"
        one, other = answer.instances[0], latest.instances[0]
        center = [one.pose.position.x, one.pose.position.y, one.pose.position.z]
        wanted = [other.pose.position.x, other.pose.position.y, other.pose.position.z]
        np.testing.assert_allclose(center, wanted, atol=0.06)
        assert one.last_seen == answer.source.stamp and one.header.frame_id == "lidar"
        # The room again, a metre further: the map holds both chairs, the cloud one of them.
        second = coded_cloud(4, stamp_ns=time.time_ns())
        near.process(second)
        answer = shown(near, second.header.stamp_ns)
        full = near.ask("chair", source=MAP, return_cloud=True, return_indices=True)
        assert answer.map_version == full.map_version
        xs = sorted(item.pose.position.x for item in full.instances)
        assert xs[0] < 3.5 < 4.0 < xs[-1]
        assert full.cloud.header == full.source
        assert len(read_cloud(full.cloud).points) == sum(i.num_points for i in full.instances)
        assert number_in_stamp(full.instances[0].last_seen.nanosec) in (0, 4)
        # Frames, age and targets are looked at as for clouds.
        assert near.ask("chair", source=MAP, target_frame="lidar").status == ANSWER.OK
        elsewhere = near.ask("chair", source=MAP, target_frame="base_link")
        assert elsewhere.status == ANSWER.INVALID and "target_frame" in elsewhere.message
        held = near.ask("chair", source=MAP, set_target=True)
        assert held.status == ANSWER.INVALID and "not on the map" in held.message
        old = Query.Request(text="chair", source=MAP)
        old.max_age.nanosec = 1
        assert near.call(Query, "query", old).status == ANSWER.STALE
        # A new vocabulary asks the same map.
        assert near.set_labels(["table"]).success
        asked = near.ask("chair", source=MAP)
        assert asked.status == ANSWER.OK and asked.label_version > answer.label_version
        status = near.diagnostics(lambda s: values(s["map"])["clouds"] == "2")["map"]
        assert status.level == b"\0" and values(status)["map_frame"] == "lidar"
        # The command line, as another participant of the domain.
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        there = ["--namespace", "mapper"]
        assert main(argv=["query", "chair", "--map", "--json", *there]) == 0
        assert json.loads(capsys.readouterr().out)["map_version"] == full.map_version
        assert main(argv=["query", "chair", "--map", "--frame", "base_link", *there]) == 2
        assert "target_frame" in capsys.readouterr().out
        assert main(argv=["map", "save", *there]) == 0
        voxels = values(status)["voxels"]
        assert capsys.readouterr().out.startswith(f"{voxels} voxels of 2 clouds were written")
        assert len(load_map(path)) == int(voxels)
        assert trigger(near, "save_map").success
        assert main(argv=["map", "reset", *there]) == 0
        assert capsys.readouterr().out == f"{voxels} voxels were forgotten.\n"
        assert near.ask("chair", source=MAP).status == ANSWER.NO_DATA
        assert near.ask("chair").status == ANSWER.OK  # the newest cloud is still there
        assert main(argv=["map", "save", "--namespace", "nobody", "--timeout", "0.2"]) == 2
        assert "no service /nobody/save_map" in capsys.readouterr().err
    finally:
        running.stop()


def test_without_a_map_the_answer_says_so(near: Probe, domain: int, student: Path) -> None:
    running = Running(domain, "mapper", student=str(student))
    try:
        refused = near.ask("chair", source=MAP)
        assert refused.status == ANSWER.INVALID and "parameter map" in refused.message
        for name in ("save_map", "reset_map"):
            answer = trigger(near, name)
            assert not answer.success and "no map" in answer.message
        assert "map" not in near.diagnostics()
    finally:
        running.stop()


@pytest.mark.skipif(HAS_TF2, reason="tf2_ros is installed")
def test_without_poses_the_answer_says_why_the_map_is_empty(
    near: Probe, domain: int, student: Path
) -> None:
    running = Running(domain, "mapper", student=str(student), map="build")
    try:
        near.process(coded_cloud(0, stamp_ns=time.time_ns()))
        report = near.diagnostics(lambda s: values(s["map"])["skipped_pose"] == "1")
        answer = near.ask("chair", source=MAP)
        assert answer.status == ANSWER.NO_DATA
        for text in (answer.message, report["map"].message):
            assert "'lidar'" in text and "'map'" in text and "tf2_ros" in text
        assert report["map"].level == b"\1"
        answer = trigger(near, "save_map")
        assert not answer.success and "map_file" in answer.message
    finally:
        running.stop()


def test_a_map_of_other_settings_is_refused_at_the_start(
    domain: int, student: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = StudentBundle.load(student)
    file = tmp_path / "flat.map.safetensors"
    identity = MapIdentity(bundle.name, student_fingerprint(bundle), bundle.feature_dim, 0.2, "map")
    save_map(empty_state(identity), file)
    running = Running(
        domain, "other", student=str(student), map="read", map_file=str(file), autostart=False
    )
    try:
        assert not running.node.start() and running.node.state_label == "unconfigured"
        assert "has voxels of 0.2 m, and here they are 0.08 m" in capfd.readouterr().err
    finally:
        running.stop()
