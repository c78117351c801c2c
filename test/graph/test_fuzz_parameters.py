"""Parameter files that are none: one sentence and an exit code."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from damage import damaged_bytes

from sas_ros.nodes.parameters import SPECS
from sas_ros.nodes.perception_node import main

ROOT = Path(__file__).resolve().parents[2]
FILES = 15
FROZEN = """/**:
  ros__parameters:
    student: indoor-tiny
    threads: 0
    autostart: true
    labels: ['chair', "table"]
    text_timeout: 5.0  # seconds
    up: ''
    max_age: 0.0
    points_reliability: auto
    target_ttl: 30.0
    map: none
    map_max_voxels: 300000
"""
"""What is damaged: the same bytes for the same seeds, whatever becomes of the shipped file."""

STARTS = """
import sys
from sas_ros.nodes.perception_node import main

for path in sys.argv[1:]:
    words = ["--ros-args", "-r", "__ns:=/parameters", "--params-file", path]
    words += ["-p", "student:=/nowhere.safetensors", "-p", "autostart:=true"]
    print(f"code {main(words)}", flush=True)
"""
"""In a process of its own: the parser is C, and what kills it must not kill the tests."""


@pytest.fixture(autouse=True)
def own_domain(graph_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", graph_env["ROS_DOMAIN_ID"])


def start(path: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and output of a node with this file. Whatever is in it, the student is not there,
    so that no node stays."""
    words = ["--ros-args", "-r", "__ns:=/parameters", "--params-file", str(path)]
    words += ["-p", "student:=/nowhere.safetensors", "-p", "autostart:=true"]
    code = main(words)
    out, err = capfd.readouterr()
    return code, out + err


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("/**:\n  ros__parameters:\n    max_age: -1.0\n", 2, "max_age"),
        ("/**:\n  ros__parameters:\n    up: [0.0, 0.0, 1.0]\n", 2, "up"),
        ("/**:\n  ros__parameters:\n    max_rate: [fast\n", 2, "ROS could not be initialised"),
        ("/**: {ros__parameters: {max_age: 1.0}}\n", 1, "no student bundle"),
        ("", 1, "no student bundle"),
    ],
    ids=["out of range", "wrong type", "no yaml", "no student", "empty"],
)
def test_a_wrong_parameter_file_ends_with_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, code: int, word: str
) -> None:
    path = tmp_path / "parameters.yaml"
    path.write_text(text)
    found, output = start(path, capfd)
    assert found == code and word in output, output
    assert "Traceback" not in output


def test_damaged_parameter_files(graph_env: dict[str, str], tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.yaml" for number in range(FILES)]
    for number, path in enumerate(paths):
        rng = random.Random(f"parameters {number}")
        path.write_bytes(damaged_bytes(FROZEN.encode(), rng, len(FROZEN)))
    done = subprocess.run(
        [sys.executable, "-c", STARTS, *map(str, paths)],
        capture_output=True, text=True, errors="replace", timeout=300, env=graph_env,
    )  # fmt: skip
    output = done.stdout + done.stderr
    codes = [line for line in done.stdout.splitlines() if line.startswith("code ")]
    assert done.returncode == 0 and len(codes) == FILES, output
    assert set(codes) <= {"code 1", "code 2"} and "Traceback" not in output, output


def test_the_shipped_file_has_every_parameter() -> None:
    shipped = (ROOT / "config" / "perception.yaml").read_text()
    assert all(f"{spec.name}:" in shipped for spec in SPECS)
