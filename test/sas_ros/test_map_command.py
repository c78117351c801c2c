"""`sas map`: what is in a map file, and one map of several."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from students import untrained_student

from sas_ros.cli import main
from sas_ros.mapping import MapIdentity, VoxelMap, load_map, save_map, student_fingerprint
from sas_ros.mapping.voxel_map import empty_state
from sas_ros.observation import Cloud, SourceHeader, Up
from sas_ros.segmenter import Segmenter


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two maps of a small student, two metres apart, and one with other voxels."""
    folder = tmp_path_factory.mktemp("maps")
    bundle = untrained_student()
    segmenter = Segmenter(bundle, device="cpu", backend="native")
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (800, 3)).astype(np.float32)
    paths = []
    for number, size in enumerate((0.08, 0.08, 0.1)):
        made = VoxelMap(
            empty_state(MapIdentity(bundle.name, student_fingerprint(bundle), 16, size, "map"))
        )
        cloud = Cloud(points, header=SourceHeader(10**9 * (number + 1), "map"))
        pose = np.eye(4)
        pose[0, 3] = 2.0 * number
        made.integrate(segmenter.segment(cloud, Up(np.array([0.0, 0, 1]))), cloud, pose)
        paths.append(folder / f"{number}.map.safetensors")
        save_map(made.state, paths[-1])
    return paths


def test_maps_are_shown(maps: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv=["map", "show", *map(str, maps[:2]), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["maps"]
    assert first["student"] == "untrained" and first["clouds"] == 1 and first["stamp"] == 1.0
    assert first["low"] == [0, 0, 0] and second["low"][0] == pytest.approx(2.0, abs=0.08)
    assert main(argv=["map", "show", str(maps[0])]) == 0
    assert "voxel_size           0.08" in capsys.readouterr().out


def test_maps_are_merged(
    maps: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "both.map.safetensors"
    assert main(argv=["map", "merge", *map(str, maps[:2]), "-o", str(output), "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["maps"]
    merged = load_map(output)
    assert facts["voxels"] == len(merged) == len(load_map(maps[0])) + len(load_map(maps[1]))
    assert facts["clouds"] == 2 and facts["stamp"] == 2.0


def test_what_cannot_be_merged_is_a_sentence(
    maps: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "none.map.safetensors"
    assert main(argv=["map", "merge", *map(str, maps[1:]), "-o", str(output)]) == 2
    assert "has voxels of 0.1 m, and here they are 0.08 m" in capsys.readouterr().err
    assert main(argv=["map", "merge", str(maps[0]), "-o", str(output)]) == 2
    assert "Two maps" in capsys.readouterr().err
    assert main(argv=["map", "show", str(tmp_path / "missing")]) == 2
    assert "no map at" in capsys.readouterr().err
    assert not output.exists()
