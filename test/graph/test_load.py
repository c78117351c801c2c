"""`sas bench load` and `sas bench soak`: many clients at once, and a steady load for a while."""

from __future__ import annotations

import copy
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Domain
from rooms import coded_points
from sas_msgs.msg import Instance
from sas_msgs.srv import Query

from sas_ros.language.available import MINILM, encoder_available
from sas_ros.nodes.load_clients import STEP, TURN, contradiction, numbered_points
from sas_ros.nodes.soak import slope
from sas_ros.scans import write_ply

needs_encoder = pytest.mark.skipif(
    encoder_available(MINILM) is not None, reason="the MiniLM text encoder is not installed"
)

CLIENTS = os.environ.get("SAS_LOAD_CLIENTS", "12")


@pytest.fixture
def own_domain() -> Iterator[int]:
    own = Domain()
    yield own.number
    own.release()


def bench(domain: int, tmp_path: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), "ROS_LOG_DIR": str(tmp_path / "log")}
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    command = [sys.executable, "-m", "sas_training.cli", "bench", *map(str, words), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)


@needs_encoder
def test_every_answer_fits_its_cloud_and_the_dead_harm_nobody(
    own_domain: int, student: Path, tmp_path: Path
) -> None:
    scan = tmp_path / "room.ply"
    write_ply(scan, coded_points(0))
    words = ("load", "--student", student, "--scan", scan, "--clients", CLIENTS)
    done = bench(own_domain, tmp_path, *words, "--seconds", 3, "--killed", 1)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["clients"] == int(CLIENTS) and result["killed"] == 1
    assert result["asked"] == result["answered"] >= result["clients"]
    assert result["lost"] == result["contradictions"] == 0
    assert result["statuses"]["OK"] > 0 and result["statuses"].keys() <= {"OK", "NOT_FOUND", "BUSY"}
    assert 0 < result["query_p50_ms"] <= result["query_p95_ms"] <= result["query_p99_ms"]
    assert result["clouds_processed"] >= 1 and result["answered_clouds"] >= 1
    assert result["clouds_sent"] >= result["clouds_processed"] + result["clouds_dropped"]


def test_a_soak_writes_a_row_at_a_time(own_domain: int, student: Path, tmp_path: Path) -> None:
    output = tmp_path / "soak"
    words = ("soak", "--student", student, "--rooms", 2, "--points", 5000, "-o", output)
    done = bench(own_domain, tmp_path, *words, "--minutes", 0.05, "--sample-seconds", 1)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    samples = result["samples"]
    assert samples >= 2 and result["queries"] >= 2 and result["queries_lost"] == 0
    with open(output / "soak.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == samples and all(float(row["rss_mb"]) > 50 for row in rows)
    stored = json.loads((output / "soak.json").read_text())
    assert stored["rows"][-1]["threads"] == int(rows[-1]["threads"]) > 1
    assert done.stderr.count("rss_mb") == samples


def test_a_soak_needs_a_folder(own_domain: int, tmp_path: Path) -> None:
    done = bench(own_domain, tmp_path, "soak", "--minutes", 0.1)
    assert done.returncode == 2 and "-o FOLDER" in done.stderr


# Whether the checks would notice.

BASE = np.random.default_rng(3).uniform(0, 4, (200, 3)).astype(np.float32)


def answer_of(number: int) -> Any:
    """A right answer about cloud `number`: one instance of points 10 to 19 and the last one."""
    points = numbered_points(BASE, number)
    chosen = [*range(10, 20), len(points) - 1]
    instance = Instance(indices=chosen, num_points=len(chosen))
    middle = points[chosen].astype(np.float64).mean(axis=0)
    instance.centroid.x, instance.centroid.y, instance.centroid.z = map(float, middle)
    answer = Query.Response(instances=[instance])
    answer.source.stamp.nanosec = instance.header.stamp.nanosec = 5 * 10**6 + number
    return answer


def test_right_answers_are_no_contradiction() -> None:
    for number in (0, 1, 77, TURN - 1, TURN, TURN + 3):
        assert contradiction(answer_of(number), BASE) is None


def test_every_mix_up_is_a_contradiction() -> None:
    number = 7
    right = answer_of(number)

    def changed(change: Any) -> Any:
        other = copy.deepcopy(right)
        change(other)
        return other

    def later(other: Any) -> None:
        other.source.stamp.nanosec += 1
        other.instances[0].header.stamp.nanosec += 1

    def earlier_points(other: Any) -> None:
        other.instances[0].centroid.x -= STEP

    def other_header(other: Any) -> None:
        other.instances[0].header.frame_id = "map"

    def too_far(other: Any) -> None:
        other.instances[0].indices[0] = len(BASE) + number

    def fewer(other: Any) -> None:
        other.instances[0].num_points -= 1

    for change in (later, earlier_points, other_header, too_far, fewer):
        assert contradiction(changed(change), BASE), change.__name__


def test_the_slope_is_that_of_the_line_and_its_interval_holds_it() -> None:
    hours = np.arange(60) / 60
    assert slope(hours, 3 - 2 * hours) == pytest.approx((-2, 0), abs=1e-9)
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        found, half = slope(hours[:8], 5 + 3 * hours[:8] + rng.normal(0, 0.1, 8))
        inside += abs(found - 3) < half
    assert 0.92 * 400 < inside < 0.98 * 400
    assert np.isnan(slope([0, 1], [0, 1])).all()
    with_gap = slope([0, 1, 2, 3], [0, 1, np.nan, 3])
    assert with_gap == pytest.approx((1, 0), abs=1e-9)


def test_numbered_clouds_differ_in_all_that_tells_them_apart() -> None:
    one, two = numbered_points(BASE, 1), numbered_points(BASE, 2)
    assert (len(one), len(two)) == (201, 202)
    np.testing.assert_allclose(two[:200, 0] - one[:200, 0], STEP, atol=1e-6)
