"""Parameter files that are none: one sentence and an exit code."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from damage import damaged_bytes

from sas_ros.nodes.parameters import SPECS
from sas_ros.nodes.perception_node import main

ROOT = Path(__file__).resolve().parents[2]
GOOD = (ROOT / "config" / "perception.yaml").read_text()
FILES = 15


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


def test_damaged_parameter_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "parameters.yaml"
    codes: Counter[int] = Counter()
    for number in range(FILES):
        damaged = damaged_bytes(GOOD.encode(), random.Random(f"parameters {number}"), len(GOOD))
        path.write_bytes(damaged)
        code, output = start(path, capfd)
        assert code in (1, 2) and "Traceback" not in output, output
        codes[code] += 1
    assert codes[2] > 2, codes


def test_the_shipped_file_has_every_parameter() -> None:
    assert all(f"{spec.name}:" in GOOD for spec in SPECS)
