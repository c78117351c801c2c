"""`sas world`: a sheet to look at, figures to compare, and folders that say what they hold."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sas_ros.errors import SasError
from sas_training.cli import main
from sas_training.evaluation.labels import SCANNET20
from sas_training.scenes.procedural.dataset import read_scan, room_path, write_dataset
from sas_training.scenes.procedural.frames import frame_path, read_frame
from sas_training.scenes.procedural.lidar import read_lidar
from sas_training.scenes.procedural.manifest import WORLD_VERSION, manifest_path, read_manifest
from sas_training.scenes.procedural.sheet import SheetRow, colors_of, depth_colors, draw_sheet
from sas_training.scenes.procedural.smoothing import smoothed
from sas_training.scenes.procedural.statistics import (
    neighbour_distance,
    object_sizes,
    scan_figures,
)

WALL, FLOOR, CHAIR, TABLE = (SCANNET20.id_of(name) for name in ("wall", "floor", "chair", "table"))


def _room() -> tuple[np.ndarray, np.ndarray]:
    """A floor of 4 m x 4 m, a wall 2 m high, and two chairs, as grids of points 5 cm apart."""
    steps = np.arange(0, 4, 0.05)
    u, v = (grid.ravel() for grid in np.meshgrid(steps, steps))
    floor = np.stack([u, v, 0 * u], 1)
    low = v < 2.0
    wall = np.stack([u[low], np.full(low.sum(), 4.0), v[low]], 1)
    small = np.arange(0, 0.5, 0.05)
    x, y = (grid.ravel() for grid in np.meshgrid(small, small))
    chairs = [np.stack([x + left, y + 1.0, 0 * x + 0.5], 1) for left in (0.5, 2.5)]
    parts = [floor, wall, *chairs]
    labels = np.repeat([FLOOR, WALL, CHAIR, CHAIR], [len(part) for part in parts])
    points = np.concatenate(parts).astype(np.float32)
    return points, labels


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    write_dataset(out, 2, seed=3, workers=1)
    return out


def test_figures_of_a_scan_that_is_known() -> None:
    points, labels = _room()
    labels[(labels == FLOOR) & (points[:, 0] < 1.0)] = 255
    figures = scan_figures(points, labels)
    assert figures["plan area m2"] == pytest.approx(16.4, abs=0.5)  # and the wall's columns
    assert figures["neighbour distance cm"] == pytest.approx(5.0, abs=0.01)
    assert figures["ignored"] == pytest.approx(1600 / len(points))
    assert figures["objects"] == 2 and figures["points per object"] == 100
    assert figures["class chair"] == pytest.approx(200 / (len(points) - 1600))
    assert figures["walls + floor"] == pytest.approx(1 - figures["class chair"])
    assert figures["height below 0.1 m"] == pytest.approx((6400 + 2 * 80) / len(points))
    assert sum(v for k, v in figures.items() if k.startswith("height")) == pytest.approx(1)
    assert figures["normals level"] == pytest.approx((6400 + 200) / len(points), abs=0.04)
    assert figures["normals upright"] == pytest.approx(3200 / len(points), abs=0.04)
    assert figures["patch thickness mm"] < 1


def test_objects_that_touch_are_one_and_other_classes_are_not() -> None:
    points, labels = _room()
    chairs = labels == CHAIR
    joined = points.copy()
    joined[chairs, 0] -= np.where(points[chairs, 0] > 2, 1.5, 0.0)
    assert list(object_sizes(joined, labels)) == [200]
    labels[chairs & (joined[:, 0] > 0.98)] = TABLE
    assert sorted(object_sizes(joined, labels)) == [100, 100]
    assert len(object_sizes(points, np.full(len(points), 255))) == 0


def test_neighbour_distance_does_not_count_twins() -> None:
    points = np.arange(100)[:, None] * np.array([0.03, 0.0, 0.0])
    assert neighbour_distance(np.repeat(points, 2, axis=0)) == pytest.approx(0.03, abs=1e-5)


def test_smoothing_makes_planes_flat_and_moves_nothing_far() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 2, (20_000, 3)).astype(np.float32)
    points[:, 2] = rng.normal(0, 0.006, len(points))
    moved = smoothed(points, rng, 0.7)
    assert moved.dtype == np.float32
    assert np.std(moved[:, 2]) < 0.5 * np.std(points[:, 2])
    assert np.linalg.norm(moved - points, axis=1).max() < 0.021
    assert np.abs(moved[:, :2] - points[:, :2]).mean() < 0.001


def test_a_folder_says_which_world_it_holds(world: Path, tmp_path: Path) -> None:
    assert read_manifest(world) == {"world": WORLD_VERSION, "seed": 3}
    with pytest.raises(SasError, match="seed 3, not 4"):
        write_dataset(world, 2, seed=4)
    old = tmp_path / "old"
    room_path(old, 0).parent.mkdir(parents=True)
    room_path(old, 0).write_bytes(room_path(world, 0).read_bytes())
    with pytest.raises(SasError, match="version 1 of the world"):
        write_dataset(old, 2, seed=3)
    manifest_path(old).write_text("[]")
    with pytest.raises(SasError, match="does not say which world"):
        write_dataset(old, 2, seed=3)


def test_a_disk_that_is_too_small_is_noticed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, 10**9))
    with pytest.raises(SasError, match="100000 rooms need 190"):
        write_dataset(tmp_path, 100_000, seed=0)


def test_frames_that_are_missing_need_space_too(
    tmp_path: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(world, tmp_path / "world")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, 10**6))
    assert write_dataset(out, 2, seed=3, workers=1) == 0  # nothing is missing
    frame_path(out, 1, 2).parent.mkdir()
    frame_path(out, 1, 2).touch()
    with pytest.raises(SasError, match=r"^0 rooms, 7 frames, 6 LiDAR scans need "):
        write_dataset(out, 2, seed=3, workers=1, frames=4, lidar=3)


def test_half_written_files_of_a_killed_run_go(tmp_path: Path, world: Path) -> None:
    out = shutil.copytree(world, tmp_path / "world")
    kept = sorted(path for path in out.rglob("*") if path.is_file())
    for folder in ("rooms", "views", "frames", "lidar"):
        (out / folder).mkdir(exist_ok=True)
        (out / folder / ".room-000001-a1b2c3d4.partial.npz").touch()
        (out / folder / ".mine.npz").touch()
    assert write_dataset(out, 2, seed=3, workers=1) == 0
    left = sorted(path for path in out.rglob("*") if path.is_file() and path.name != ".mine.npz")
    assert left == kept
    assert len(list(out.rglob(".mine.npz"))) == 4


@pytest.mark.parametrize("read", [read_scan, read_frame, read_lidar])
def test_damaged_files_are_sentences(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays = {name: np.arange(4000) % 7 for name in ("points", "color", "labels", "depth")}
    np.savez_compressed(path, **arrays)
    whole = path.read_bytes()
    start = whole.index(b"points.npy") + 40
    spoilt = whole[:start] + b"\xff" * 60 + whole[start + 60 :]  # of what is read first
    at = whole.index(b"color.npy") + 40
    spoilt = spoilt[:at] + b"\xff" * 60 + spoilt[at + 60 :]
    for content in (b"", whole[:9], whole[: len(whole) // 2], spoilt, b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(SasError, match="of a generated room"):
            read(path)
    with open(path, "wb") as stream:
        np.save(stream, arrays["points"])  # one array under the name of several
    with pytest.raises(SasError, match="of a generated room"):
        read(path)


def test_show_draws_a_sheet(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["world", "show", str(world), "-o", str(sheet), "--rooms", "1", "--width", "96"]
    assert main([*arguments, "--frames"]) == 0
    assert "1 rooms" in capsys.readouterr().out
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert main(["world", "show", str(tmp_path), "-o", str(sheet)]) == 2
    assert "holds no .npz" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["world", "show", str(world), "-o", str(tmp_path / "sheet.jpg")])
    assert "sheet.jpg must end in .png" in capsys.readouterr().err


def test_a_sheet_shows_its_pictures_and_a_legend() -> None:
    red = np.full((24, 32, 3), (200, 10, 10), np.uint8)
    sheet = draw_sheet(
        [SheetRow("one", [red, red]), SheetRow("two", [red])], np.array([3]), (32, 24)
    )
    assert sheet.dtype == np.uint8
    assert int((sheet == (200, 10, 10)).all(-1).sum()) == 3 * 24 * 32
    assert (sheet == colors_of(np.array(3))).all(-1).any()  # the swatch of "bed"
    assert not (sheet == colors_of(np.array(4))).all(-1).any()
    with pytest.raises(SasError, match="at least one room"):
        draw_sheet([], np.array([]), (32, 24))
    depth = depth_colors(np.array([[0.5, 4.0, np.nan, 0.0]]))
    assert depth[0, 0].sum() > depth[0, 1].sum() > 0
    assert not depth[0, 2:].any()


def test_compare_prints_a_table_and_json(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points, labels = _room()
    np.savez(tmp_path / "other.npz", points=points, labels=labels)
    command = ["world", "compare", str(world), "--with", str(tmp_path / "other.npz")]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert "2 rooms beside 1 other scans" in table and "walls + floor %" in table
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["scans"] == {"rooms": 2, "with": 1}
    assert result["with"] == scan_figures(points, labels)
    assert result["gap"]["objects"] == result["rooms"]["objects"] - result["with"]["objects"]


def test_too_small_a_scan_has_no_figures() -> None:
    with pytest.raises(SasError, match="too few"):
        scan_figures(np.zeros((50, 3), np.float32), np.zeros(50, np.int64))


@pytest.mark.slow
def test_generated_rooms_resemble_real_ones(tmp_path: Path) -> None:
    """Bounds on the gap that this version of the world has reached (docs/world.md)."""
    data = os.environ.get("SAS_TEST_DATA")
    folder = Path(data or "") / "scannet_rooms"
    if not data or not folder.is_dir():
        pytest.skip("SAS_TEST_DATA does not lead to scannet_rooms")
    from sas_training.scenes.procedural.showing import scans_in
    from sas_training.scenes.procedural.statistics import compare

    write_dataset(tmp_path, 12, seed=31, workers=1)
    real = [folder / f"{name}_vert.npy" for name in ("scene0000_00", "scene0006_00")]
    gap = compare(scans_in([tmp_path]), real)["gap"]
    assert abs(gap["walls + floor"]) < 0.13
    assert abs(gap["class curtain"]) < 0.07 and abs(gap["class table"]) < 0.03
    assert abs(gap["plan area m2"]) < 13
    assert abs(gap["height above 2.0 m"]) < 0.07
    assert abs(gap["neighbour distance cm"]) < 1.2
