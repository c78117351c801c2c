"""`sas scenes`: what it prints, draws and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL", reason="images are read with pillow, of the extra `training`")
from made_scenes import make_scannet, make_seven_scenes, truncate
from PIL import Image

from sas_training.cli import main
from sas_training.scenes.kinds import KINDS
from sas_training.scenes.procedural.dataset import room_path, write_scan
from sas_training.scenes.procedural.model import LabelledScan


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_seven_scenes(tmp_path / "office" / "seq-01")
    make_seven_scenes(tmp_path / "office" / "seq-02")
    truncate(tmp_path / "office" / "seq-02" / "frame-000001.depth.png")
    assert main(["scenes", "7scenes", str(tmp_path / "office"), "--check"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == "scene points size, m frames pixels depth skipped has".split()
    assert said[1].startswith("office_seq-01 ")
    assert said[1].split()[-6:] == ["3", "64x48", "100", "%", "0", "colors"]
    assert said[2].startswith("  fused colours are off by ")
    assert said[3].split()[-6:] == ["2", "64x48", "100", "%", "1", "colors"]
    assert said[4] == "  skipped: its depth image is damaged or cut off (1)"
    assert len(said) == 6


def test_json_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_scannet(tmp_path)
    picture = tmp_path / "sheet.png"
    arguments = ["scenes", "scannet", str(tmp_path), "--every", "1", "--check", "--json"]
    assert main([*arguments, "--picture", str(picture)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["kind"] == "scannet" and said["path"] == str(tmp_path)
    (scene,) = said["scenes"]
    check = scene.pop("check")
    assert scene == {
        "name": "scene0042_00",
        "points": 400,
        "low": [-0.8, -0.6, 2.0],
        "high": [0.8, 0.6, 2.0],
        "has": ["colors", "faces"],
        "label_set": "",
        "frames": 3,
        "sizes": [[64, 48]],
        "depth_known": pytest.approx(0.99, abs=0.02),
        "skipped": {},
    }
    assert check["mean_error"] < 3 and 0.5 < check["seen"] <= 1 and check["views"] > 1
    sheet = np.asarray(Image.open(picture))
    assert sheet.shape[1] > 4 * 480 and sheet.shape[0] > 360
    panel = sheet[60:380, 20:460].reshape(-1, 3).astype(int)  # the frame: a colourful wall
    assert (panel.max(axis=1) - panel.min(axis=1)).mean() > 10


def test_settings_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_seven_scenes(tmp_path / "a" / "one")
    make_seven_scenes(tmp_path / "a" / "two")
    common = ["scenes", "7scenes", str(tmp_path / "a")]
    assert main([*common, "--names"]) == 0
    assert capsys.readouterr().out.split() == ["a_one", "a_two"]
    assert main([*common, "--names", "--json", "--first", "1"]) == 0
    assert json.loads(capsys.readouterr().out) == ["a_one"]
    some = ["--only", "a_two", "--every", "2", "--size", "32x24", "--depth-units", "500"]
    assert main([*common, *some, "--voxel", "0.1", "--json"]) == 0
    (scene,) = json.loads(capsys.readouterr().out)["scenes"]
    assert scene["name"] == "a_two" and scene["frames"] == 2 and scene["sizes"] == [[32, 24]]
    assert scene["high"][2] == pytest.approx(4.0, abs=0.3)
    assert main([*common, "--first", "1", "--check", "--occlusion", "0.001", "--json"]) == 0
    strict = json.loads(capsys.readouterr().out)["scenes"][0]["check"]
    assert main([*common, "--first", "1", "--check", "--occlusion", "0.2", "--json"]) == 0
    assert strict["views"] < json.loads(capsys.readouterr().out)["scenes"][0]["check"]["views"]


def test_a_scene_that_cannot_be_read_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_seven_scenes(tmp_path / "a" / "one")
    make_seven_scenes(tmp_path / "a" / "two")
    for path in (tmp_path / "a" / "one").glob("*.pose.txt"):
        path.unlink()
    assert main(["scenes", "7scenes", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("a_two ")
    assert said[2].startswith("a_one cannot be read: No cloud can be built: 3 frames were skipped")
    assert main(["scenes", "7scenes", str(tmp_path / "a" / "one")]) == 2
    assert "its pose is missing (3, first frame-000000)" in capsys.readouterr().err
    for path in (tmp_path / "a" / "two").glob("*.depth.png"):
        path.unlink()
    assert main(["scenes", "7scenes", str(tmp_path / "a"), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["scenes"] == [] and told["unreadable"].keys() == {"a_one", "a_two"}


def test_a_damaged_room_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = np.zeros((5, 3), np.float32)
    whole = LabelledScan(
        points, np.full(5, 7), np.ones(5, np.int32), np.zeros((5, 3), np.uint8), ("structure", "a")
    )
    for number in range(2):
        write_scan(room_path(tmp_path, number), whole)
    truncate(room_path(tmp_path, 0))
    assert main(["scenes", "rooms", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("room-000001 ")
    assert said[2].startswith("room-000000 cannot be read: ")
    assert "is no scan of a generated room" in said[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["7scenes", "nowhere"], "nowhere is not there. For 7-Scenes, it should hold files frame-"),
        (["7scenes", "office", "--only", "attic"], "There is no scene 'attic'; there are office"),
        (["7scenes", "office", "--size", "large"], "A size is written 320x240, not 'large'"),
        (["7scenes", "office", "--voxel", "0"], "voxel must be above 0"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    make_seven_scenes(tmp_path / "office")
    monkeypatch.chdir(tmp_path)
    assert main(["scenes", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_help_lists_the_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["scenes", "--help"])
    said = capsys.readouterr().out
    for name, kind in KINDS.items():
        assert f"  {name}" in said and kind.title in said
