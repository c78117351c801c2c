"""`replay` and `query` as processes against the running node."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from harness import Probe, Process, values
from rooms import coded_points
from sas_msgs.srv import Query


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "room.npy"
    np.save(path, coded_points(0))
    return path


def run(module: str, *words: str, env: dict[str, str], timeout: float = 60.0) -> tuple[int, str]:
    process = Process(module, words, env=env)
    return process.wait(timeout), process.output


def test_a_scan_is_replayed_and_asked_about(
    node: Process, probe: Probe, scan: Path, graph_env: dict[str, str]
) -> None:
    code, output = run("sas_ros.client", "chair", env=graph_env)
    assert (code, "NO_DATA" in output) == (2, True), output
    code, output = run("sas_ros.nodes.replay", str(scan), "--once", "--wait", "20", env=graph_env)
    assert code == 0, output
    assert "/sas/points" in output
    probe.until(lambda: probe.ask("chair").status == Query.Response.OK, what="the replayed scan")
    assert probe.ask("chair").source.frame_id == "scan"
    code, output = run("sas_ros.client", "chair", "--json", "--indices", env=graph_env)
    assert code == 0, output
    answer = json.loads(output[output.index("{") :])
    assert answer["status"] == "OK" and answer["frame"] == "scan"
    assert len(answer["instances"][0]["indices"]) == answer["instances"][0]["num_points"]
    code, output = run("sas_ros.client", "sofa", "--threshold", "0.9", env=graph_env)
    assert (code, "NOT_FOUND" in output) == (1, True), output
    # Held, and let go again, as docs/robot.md shows it.
    words = ["chair", "--set-target", "--max-instances", "1"]
    code, output = run("sas_ros.client", *words, env=graph_env)
    assert (code, "OK" in output) == (0, True), output
    held = probe.diagnostics(lambda s: values(s["words"]).get("target") == "chair")
    assert held
    run("sas_ros.client", "", "--set-target", env=graph_env)
    assert probe.diagnostics(lambda s: values(s["words"]).get("target") == "")


def test_commands_end_with_a_sentence_when_nobody_is_there(
    node: Process, scan: Path, graph_env: dict[str, str]
) -> None:
    words = [str(scan), "--wait", "0.5", "--namespace", "nowhere"]
    code, output = run("sas_ros.nodes.replay", *words, env=graph_env)
    assert code == 1 and "Nobody subscribed" in output
    code, output = run("sas_ros.nodes.replay", "/no/scan.ply", env=graph_env)
    assert code == 2 and "/no/scan.ply" in output and "Traceback" not in output


def test_an_endless_best_effort_replay_streams_until_it_is_interrupted(
    node: Process, probe: Probe, scan: Path, graph_env: dict[str, str]
) -> None:
    words = [str(scan), "--rate", "20", "--reliability", "best_effort", "--frame-id", "lidar"]
    process = Process("sas_ros.nodes.replay", words, env=graph_env)
    stamps: set[int] = set()

    def three_clouds() -> bool:
        stamps.add(probe.ask("chair").source.stamp.nanosec)
        return len(stamps) > 3

    probe.until(three_clouds, what="three clouds")
    assert process.interrupt() == 0, process.output
    assert "Traceback" not in process.output
