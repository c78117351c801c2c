"""The commands around a running node: replay, query, save, bench and the demo itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from harness import Domain
from students import untrained_student

from sas_ros.scans import read_scan, write_ply


@pytest.fixture
def student(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    untrained_student().save(path)
    return path


@pytest.fixture
def ros_domain() -> Iterator[int]:
    own = Domain()
    yield own.number
    own.release()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    floor = np.c_[rng.uniform(0, 4, (4000, 2)), np.zeros(4000)]
    wall = np.c_[rng.uniform(0, 4, 4000), np.zeros(4000), rng.uniform(0, 2.4, 4000)]
    points = np.concatenate([floor, wall]).astype(np.float32)
    path = tmp_path / "room.ply"
    write_ply(path, points, colors=np.full((8000, 3), 128, np.uint8))
    return path


def sas(*words: str, tmp_path: Path, domain: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ROS_DOMAIN_ID": domain, "ROS_LOG_DIR": str(tmp_path / "log")}
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    return subprocess.run(
        [sys.executable, "-m", "sas_training.cli", *words],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
    )


def test_demo_runs_every_step_on_a_users_scan(
    student: Path, scan: Path, tmp_path: Path, ros_domain: int
) -> None:
    """`sas demo` starts node and replay, saves the labelled cloud, asks, and draws."""
    output = tmp_path / "demo"
    words = ["demo", "--scan", str(scan), "--up", "0,0,1", "--student", str(student)]
    done = sas(*words, "-o", str(output), tmp_path=tmp_path, domain=str(ros_domain))
    assert done.returncode == 0, done.stderr
    assert "asked for" in done.stdout and "What to try next" in done.stdout
    labelled = read_scan(output / "labeled_points.ply")
    np.testing.assert_allclose(labelled.points, read_scan(scan).points, atol=1e-6)
    assert labelled.labels is not None and set(labelled.labels) <= {0, 1, 2, 3}
    assert (output / "labeled_room.png").read_bytes().startswith(b"\x89PNG")
    assert (output / "query_chair.png").is_file()


def test_bench_node_measures_a_running_node(
    student: Path, scan: Path, tmp_path: Path, ros_domain: int
) -> None:
    words = ["bench", "node", "--student", str(student), "--scan", str(scan), "--up", "0,0,1"]
    words += ["--rounds", "2", "--queries", "2", "--json"]
    done = sas(*words, tmp_path=tmp_path, domain=str(ros_domain))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert 0 < result["cloud_to_labels_p50_ms"] <= result["cloud_to_labels_p95_ms"]
    assert 0 < result["query_known_p95_ms"] and 0 < result["query_new_p95_ms"]
    assert 50 < result["rss_mb"] < 2000
    assert 0 < result["forward_s"] < result["total_s"]
    ratio = result["total_s"] / result["forward_s"] - 1
    assert result["added_ratio"] == pytest.approx(ratio)
    assert {"read", "student", "network", "publish", "total"} <= result["stages_ms"].keys()


def test_query_without_a_node_is_a_sentence(tmp_path: Path, ros_domain: int) -> None:
    done = sas("query", "chair", "--timeout", "1", tmp_path=tmp_path, domain=str(ros_domain))
    assert done.returncode == 2
    assert "sas run" in done.stderr and "Traceback" not in done.stderr


def test_save_without_a_node_is_a_sentence(tmp_path: Path, ros_domain: int) -> None:
    words = ["save", "-o", str(tmp_path / "x.ply"), "--timeout", "1"]
    done = sas(*words, tmp_path=tmp_path, domain=str(ros_domain))
    assert done.returncode == 2 and "No cloud came" in done.stderr
    assert not (tmp_path / "x.ply").exists()
