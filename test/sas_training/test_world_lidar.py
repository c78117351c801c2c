"""LiDAR scans of generated rooms: geometry, what is lost, and chance of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sas_ros.errors import SasError
from sas_training.cli import main
from sas_training.scenes.procedural import Room, RoomObject, RoomRays
from sas_training.scenes.procedural.dataset import room_path, write_dataset
from sas_training.scenes.procedural.lidar import RINGS, lidar_path, read_lidar, scan_lidar
from sas_training.scenes.procedural.model import FLOOR, TABLE, WALL, WINDOW
from sas_training.scenes.procedural.primitives import box
from sas_training.scenes.procedural.shading import Shading

ENGINES = ["numpy", "open3d"]


def _room() -> Room:
    """4 m x 4 m, walls 20 cm thick, a dark box at +x, and a pane of glass before the wall at +y."""
    walls = [
        box(4.4, 0.2, 2.5, y=s * 2.1) if axis else box(0.2, 4.4, 2.5, x=s * 2.1)
        for axis in (0, 1)
        for s in (-1, 1)
    ]
    things = [RoomObject(mesh, WALL, 0, "wall", (220, 220, 220)) for mesh in walls]
    things.append(RoomObject(box(4, 4, 0.1, z=-0.1), FLOOR, 0, "floor", (200, 200, 200)))
    things.append(RoomObject(box(0.4, 1.0, 1.0, x=1.5), TABLE, 1, "table", (30, 30, 30)))
    pane = box(4.0, 0.01, 2.5, y=1.5)
    things.append(RoomObject(pane, WINDOW, 2, "window", (200, 210, 220), 0.0))
    return Room("test", tuple(things), ((-2.0, -2.0, 2.0, 2.0),), np.zeros((0, 6)), 2.5)


def _rays(engine: str) -> RoomRays:
    try:
        return RoomRays(_room(), engine)
    except SasError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("engine", "rings"), [("numpy", 16), *(("open3d", rings) for rings in RINGS)]
)
def test_ranges_rings_and_labels_fit_the_room(engine: str, rings: int) -> None:
    rays = _rays(engine)
    pose = np.eye(4)
    pose[:3, 3] = 0.2, -0.3, 0.7
    scan = scan_lidar(
        rays, Shading(rays, np.random.default_rng(0)), np.random.default_rng(1), rings, pose
    )
    assert scan.points.dtype == np.float32 and scan.rings.dtype == np.uint8
    assert set(scan.rings) == set(range(rings))
    away = scan.points - pose[:3, 3].astype(np.float32)
    elevation = np.degrees(np.arctan2(away[:, 2], np.linalg.norm(away[:, :2], axis=1)))
    spread = [np.ptp(elevation[scan.rings == ring]) for ring in range(rings)]
    assert max(spread) < 0.1  # a ring is a cone
    middles = np.array([elevation[scan.rings == ring].mean() for ring in range(rings)])
    assert (np.diff(middles) > 0.3).all()
    table = scan.points[scan.labels == TABLE]
    # Its near face, but for noise and the rays between it and the wall behind.
    assert np.percentile(np.abs(table[:, 0] - 1.3), 80) < 0.06
    assert set(scan.instances[scan.labels == TABLE]) == {1}
    floor = scan.points[scan.labels == FLOOR]
    assert abs(float(np.median(floor[:, 2]))) < 0.02
    assert not (scan.labels == WINDOW).any()  # glass gives no echo, and hides what is behind
    wall = scan.labels == WALL
    assert scan.points[wall, 1].max() < 1.6
    bright = float(np.median(scan.intensity[wall]))
    assert bright > 2 * float(np.median(scan.intensity[scan.labels == TABLE]))


def test_both_engines_meet_the_same() -> None:
    pose = np.eye(4)
    pose[:3, 3] = 0.2, -0.3, 0.7
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(4000, 3))
    directions = (directions / np.linalg.norm(directions, axis=1)[:, None]).astype(np.float32)
    first, second = (_rays(engine).cast(pose[:3, 3], directions) for engine in ENGINES)
    same = first.thing == second.thing
    assert same.mean() > 0.98
    both = same & (first.thing >= 0)
    assert float(np.median(np.abs(first.distance[both] - second.distance[both]))) < 1e-4


def test_other_numbers_of_rings_are_refused() -> None:
    rays = RoomRays(_room(), "numpy")
    rng = np.random.default_rng(0)
    with pytest.raises(SasError, match="7 rings"):
        scan_lidar(rays, Shading(rays, rng), rng, 7)


def test_scans_have_chance_of_their_own(tmp_path: Path) -> None:
    assert write_dataset(tmp_path / "a", 1, seed=3, workers=1, lidar=2) == 1
    make = ["world", "make", "-o", str(tmp_path / "b"), "--rooms", "1", "--seed", "3"]
    assert main([*make, "--workers", "1", "--lidar", "1"]) == 0
    one, two = (room_path(tmp_path / name, 0).read_bytes() for name in "ab")
    assert one == two
    first = lidar_path(tmp_path / "b", 0, 0)
    assert first.read_bytes() == lidar_path(tmp_path / "a", 0, 0).read_bytes()
    second = read_lidar(lidar_path(tmp_path / "a", 0, 1))
    assert len(second.points) > 3000 and second.instances.max() < len(second.names)
    turn = second.pose[:3, :3]
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-9) and np.linalg.det(turn) > 0.99
    assert turn[2, 2] > 0.98 and 0.2 < second.pose[2, 3] < 1.3  # upright, at a robot's height
    first.write_bytes(b"nothing")
    with pytest.raises(SasError, match="no LiDAR scan"):
        read_lidar(first)
    with np.load(lidar_path(tmp_path / "a", 0, 1)) as stored:
        arrays = {**stored, "rings": stored["rings"][:5]}
    np.savez(first, **arrays)
    with pytest.raises(SasError, match="do not match"):
        read_lidar(first)
