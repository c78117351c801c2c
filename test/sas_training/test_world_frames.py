"""RGB-D frames of generated rooms: light, colour, and depth that fits the pose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sas_ros.errors import SasError
from sas_training.cli import main
from sas_training.scenes.procedural import Room, RoomObject, RoomRays, make_room
from sas_training.scenes.procedural.dataset import Extras, room_path, write_dataset, write_frames
from sas_training.scenes.procedural.frames import (
    HEIGHT,
    WIDTH,
    Studio,
    blurred,
    draw_streak,
    frame_path,
    read_frame,
    shoot_room,
)
from sas_training.scenes.procedural.light import Light
from sas_training.scenes.procedural.manifest import WORLD_VERSION, read_manifest
from sas_training.scenes.procedural.materials import MATERIALS, Surfaces
from sas_training.scenes.procedural.model import FLOOR, TABLE, WALL
from sas_training.scenes.procedural.primitives import box
from sas_training.scenes.procedural.rays import pose_at


def _slab_room() -> Room:
    """A floor, walls and a slab of 1 m x 1 m that floats a metre above the floor."""
    walls = [
        box(4.4, 0.2, 2.5, y=s * 2.1) if axis else box(0.2, 4.4, 2.5, x=s * 2.1)
        for axis in (0, 1)
        for s in (-1, 1)
    ]
    things = [RoomObject(mesh, WALL, 0, "wall", (200, 200, 200)) for mesh in walls]
    things.append(RoomObject(box(4, 4, 0.1, z=-0.1), FLOOR, 0, "floor", (90, 90, 90)))
    things.append(RoomObject(box(1.0, 1.0, 0.05, z=1.0), TABLE, 1, "table", (150, 90, 40)))
    return Room("test", tuple(things), ((-2.0, -2.0, 2.0, 2.0),), np.zeros((0, 6)), 2.5)


def test_a_lamp_throws_a_shadow_below_a_slab() -> None:
    rays = RoomRays(_slab_room(), "numpy")
    faces = np.stack([pose_at(np.zeros(3), yaw, 0.0) for yaw in np.arange(4) * np.pi / 2])
    down = [pose_at(np.zeros(3), 0.0, pitch) for pitch in (np.pi / 2, -np.pi / 2)]
    poses = np.concatenate([faces, np.stack(down)])
    at = np.array([0.0, 0.0, 2.2])
    poses[:, :3, 3] = at
    reach = rays.look(poses, 64, 64, np.pi / 2).distance.reshape(6, 64, 64)
    lamp = Light(at.astype(np.float32), np.ones(3, np.float32), reach.astype(np.float32), True)
    points = np.array([[0, 0, 0], [1.7, 0, 0], [0, -1.7, 0], [0, 0, 1.05], [2, 0, 1]], np.float32)
    normals = np.array([[0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1], [-1, 0, 0]], np.float32)
    share, direction = lamp.on(points, normals)
    assert share[0] == 0  # in the slab's shadow
    assert (share[1:] > 0.03).all()
    assert share[3] > share[1]  # nearer, and facing the lamp
    assert np.allclose(direction[0], (0, 0, 1), atol=1e-5)
    assert lamp.on(points, -normals)[0].max() == 0  # surfaces that face away


def test_frames_agree_with_their_pose_and_depth() -> None:
    rays = RoomRays(_slab_room(), "numpy")
    studio = Studio(rays, np.random.default_rng(0))
    pose = pose_at(np.array([-1.8, 0.0, 1.5]), 0.0, -0.5)
    frame = studio.shoot(np.random.default_rng(1), pose, fov=1.0)
    assert frame.color.shape == (HEIGHT, WIDTH, 3) and frame.color.dtype == np.uint8
    assert frame.depth.shape == frame.labels.shape == frame.instances.shape == (HEIGHT, WIDTH)
    rows, columns = np.nonzero((frame.depth > 0) & (frame.labels == FLOOR))
    pixels = np.stack([columns, rows, np.ones(len(rows))])
    seen = (np.linalg.inv(frame.intrinsics) @ pixels) * frame.depth[rows, columns]
    there = frame.pose[:3, :3] @ seen + frame.pose[:3, 3:]
    assert len(rows) > 5000
    assert abs(float(np.median(there[2]))) < 0.01  # the floor is at z = 0
    assert set(np.unique(frame.instances[frame.labels == TABLE])) == {1}


def test_colours_are_neither_black_nor_blown_out_and_differ_by_material() -> None:
    room = make_room(np.random.default_rng([31, 1]))
    frames = shoot_room(room, np.random.default_rng(5), 2)
    again = shoot_room(room, np.random.default_rng(5), 2)
    for frame, twin in zip(frames, again, strict=True):
        assert frame.color.tobytes() == twin.color.tobytes()
        assert 40 < frame.color.mean() < 200
        assert (frame.color.min(-1) > 250).mean() < 0.3
        assert frame.color.std() > 10
    surfaces = Surfaces(room, np.random.default_rng(0))
    assert len(set(surfaces.kind)) >= 4 and max(surfaces.kind) < len(MATERIALS)
    points = np.random.default_rng(0).uniform(0, 2, (500, 3)).astype(np.float32)
    up = np.tile(np.array([0, 0, 1], np.float32), (500, 1))
    for thing in range(0, len(room.objects), 5):
        paint = surfaces.albedo(np.full(500, thing), points, up)
        assert paint.min() > 0 and paint.max() < 1


def test_frames_and_their_blur_leave_the_rest_as_it_is(tmp_path: Path) -> None:
    assert write_dataset(tmp_path / "a", 1, seed=3, workers=1) == 1
    before = room_path(tmp_path / "a", 0).read_bytes()
    make = ["world", "make", "--rooms", "1", "--seed", "3", "--workers", "1", "--frames"]
    assert main([*make, "2", "-o", str(tmp_path / "a")]) == 0
    assert room_path(tmp_path / "a", 0).read_bytes() == before
    assert write_dataset(tmp_path / "a", 1, seed=3, workers=1, frames=2) == 0
    write_frames(0, out=tmp_path / "alone", seed=3, wanted=Extras(frames=2))
    assert not room_path(tmp_path / "alone", 0).exists()
    for number in range(2):
        alone = frame_path(tmp_path / "alone", 0, number)
        assert alone.read_bytes() == frame_path(tmp_path / "a", 0, number).read_bytes()
    assert main([*make, "1", "-o", str(tmp_path / "b"), "--motion-blur", "12"]) == 0
    assert room_path(tmp_path / "b", 0).read_bytes() == before
    assert read_manifest(tmp_path / "b") == {"world": WORLD_VERSION, "seed": 3, "blur": 12}
    first = frame_path(tmp_path / "b", 0, 0)
    still, moved = (read_frame(frame_path(tmp_path / name, 0, 0)) for name in "ab")
    assert np.array_equal(moved.depth, still.depth) and np.array_equal(moved.labels, still.labels)
    assert np.array_equal(moved.pose, still.pose)
    assert not np.array_equal(moved.color, still.color)
    with pytest.raises(SasError, match="streaks of at most 12 pixels, not 0"):
        write_dataset(tmp_path / "b", 1, seed=3, workers=1, frames=1)
    assert write_dataset(tmp_path / "b", 1, seed=3, workers=1) == 0  # no frames are asked for
    assert read_manifest(tmp_path / "b") == {"world": WORLD_VERSION, "seed": 3, "blur": 12}
    frame = read_frame(first)
    assert frame.names[0] == "structure" and frame.instances.max() < len(frame.names)
    sheet = tmp_path / "sheet.png"
    show = ["world", "show", str(tmp_path / "a"), "-o", str(sheet), "--width", "64", "--frames"]
    assert main(show) == 0
    assert sheet.stat().st_size > 1000
    first.write_bytes(b"nothing")
    with pytest.raises(SasError, match="no frame"):
        read_frame(first)


def test_a_moving_camera_smears_along_its_way_and_keeps_the_light() -> None:
    light = np.zeros((40, 60, 3), np.float32)
    light[20, 30] = 1.0
    assert blurred(light, 0.3, 0.0)[20, 30, 0] in (0.5, 1.0)  # less than a pixel
    smeared = blurred(light, 10.0, 0.0)
    rows, columns = np.nonzero(smeared[:, :, 0])
    assert set(rows) == {20} and len(columns) == 11
    assert smeared.sum() == pytest.approx(light.sum(), rel=1e-5)
    down = blurred(light, 0.0, -6.0)
    assert len(np.unique(np.nonzero(down)[0])) == 7
    streaks = [draw_streak(np.random.default_rng(k), 12) for k in range(200)]
    lengths = np.hypot(*np.transpose(streaks))
    assert lengths.max() <= 12 and np.median(lengths) < 6 < lengths.max()


def test_bench_world_tells_rooms_and_frames_per_second(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "world", "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["rooms_per_s"] < 1 / result["scan_s"]
    assert result["frames_per_s"] == pytest.approx(1 / result["frame_s"])
