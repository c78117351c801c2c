"""Benches of the codec, the voxels and whole clouds, at tiny sizes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from students import untrained_student

from sas_ros.clouds import read_cloud, write_cloud
from sas_ros.errors import SasError
from sas_ros.voxels import voxelise
from sas_training.bench import codec
from sas_training.bench.plot import Curve, plot_log_log
from sas_training.bench.sweep import building
from sas_training.cli import main


@pytest.fixture
def student(tmp_path: Path) -> Path:
    path = tmp_path / "student.safetensors"
    untrained_student().save(path)
    return path


@pytest.mark.parametrize("what", ["voxels", "codec"])
def test_ours_is_compared_with_an_alternative_and_the_floor(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", what, "--points", "500", "--rounds", "1"]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    parts = (
        [result] if what == "voxels" else [result[k] for k in ("read_16", "read_32", "write_32")]
    )
    for part in parts:
        assert part["speedup"] == part["alternative_s"] / part["ours_s"]
        assert part["ratio_to_floor"] == part["ours_s"] / part["floor_s"] > 0
    assert result["points"] == 500 and result["threads"] >= 1 and result["processor"]
    assert main(words) == 0
    assert "ratio_to_floor" in capsys.readouterr().out


def test_the_map_is_measured_against_copies(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "map", "--student", str(student), "--elements", "900", "--points", "500"]
    assert main([*words, "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for name in ("integrate_s", "answer_s", "save_s", "load_s", "copy_s"):
        assert result[name] > 0 and result["cpu"][name] >= 0
    assert result["voxels"] >= result["touched"] > 0 and result["file_mb"] > 0


def test_a_voxel_size_that_is_none_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "voxels", "--points", "500", "--voxel-size", "0"]) == 2
    assert "--voxel-size" in capsys.readouterr().err


def test_the_alternative_codec_does_the_same_work() -> None:
    cloud, labels = codec._cloud(300, np.random.default_rng(0))
    message = write_cloud(codec._message, codec.SimpleNamespace, cloud.header, cloud)
    ours = read_cloud(message)
    points, colors = codec._read_structured(message)
    np.testing.assert_array_equal(points, ours.points)
    np.testing.assert_array_equal(colors, ours.colors)
    assert codec._write_structured(cloud, labels) == codec._labelled(cloud, labels).data


def test_buildings_grow_at_the_same_density() -> None:
    one, four = building(50_000), building(200_000)
    assert len(one) == 50_000 and len(four) == 200_000
    ratio = len(voxelise(four, 0.08).coordinates) / len(voxelise(one, 0.08).coordinates)
    assert ratio == pytest.approx(4, rel=0.15)
    assert np.array_equal(building(60_001), building(60_001))


def test_a_sweep_writes_a_table_and_a_plot(
    student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "sweep", "--student", str(student), "--rounds", "1", "--json"]
    output = tmp_path / "sweep"
    assert main([*words, "--sizes", "4000", "1000", "-o", str(output)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["points"] for row in result["rows"]] == [1000, 4000]
    assert all(0 < row["network_s"] < row["seconds"] for row in result["rows"])
    assert all(0 < row["base_mb"] <= row["peak_mb"] for row in result["rows"])
    assert json.loads((output / "sweep.json").read_text()) == result
    assert len((output / "sweep.csv").read_text().splitlines()) == 3
    assert (output / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_sweep_needs_two_sizes_and_a_folder(
    student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "sweep", "--student", str(student)]
    assert main([*words, "--sizes", "1000", "1000", "-o", str(tmp_path)]) == 2
    assert "two sizes" in capsys.readouterr().err
    assert main(words) == 2
    assert "-o FOLDER" in capsys.readouterr().err


def test_a_line_of_slope_one_is_drawn_along_the_dashes() -> None:
    points = [1e3, 1e4, 1e5]
    linear = plot_log_log("seconds", [Curve("a", points, [0.1, 1.0, 10.0], (200, 0, 0))])
    flat = plot_log_log("seconds", [Curve("a", points, [10.0, 10.0, 10.0], (200, 0, 0))])
    assert linear.dtype == np.uint8 and linear.shape == flat.shape
    dark = [int((image.max(axis=2) < 120).sum()) for image in (linear, flat)]
    assert dark[0] < dark[1]  # the dashes lie under the curve


@pytest.mark.slow
def test_cost_grows_linearly_and_memory_stays_bounded(
    student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tenth of the 5 M points that docs/benchmarks.md shows, against a hundredth."""
    words = ["bench", "sweep", "--student", str(student), "--rounds", "3", "--json"]
    words += ["--sizes", "100000", "1000000", "--memory-budget", "300", "-o", str(tmp_path)]
    assert main(words) == 0
    small, large = json.loads(capsys.readouterr().out)["rows"]
    assert large["voxels"] == pytest.approx(10 * small["voxels"], rel=0.1)
    assert large["seconds"] < 25 * small["seconds"]
    assert large["peak_mb"] - large["base_mb"] < 300 + 300


def test_half_precision_is_compared_with_single(capsys: pytest.CaptureFixture[str]) -> None:
    from sas_ros.sparse.native import has_onednn

    if not has_onednn(torch.bfloat16):
        pytest.skip("this processor or PyTorch has no bfloat16 products")
    assert main(["bench", "precision", "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["precision"] == "bfloat16" and result["speedup"] > 0
    assert 0.99 < result["cosine_p1"] < 1, "half precision rounds, and rounds well"
    assert result["labels_changed"] < 0.05


def test_precisions_that_are_not_there_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    from sas_ros.student import engine

    cpu = torch.device("cpu")
    with pytest.raises(SasError, match="float16 is for GPUs"):
        engine._choose_precision("float16", cpu)
    with pytest.raises(SasError, match="no precision"):
        engine._choose_precision("int8", cpu)
    monkeypatch.setattr(engine, "has_onednn", lambda _: False)
    with pytest.raises(SasError, match="bfloat16"):
        engine._choose_precision("bfloat16", cpu)
