"""Up directions, the rotation to z up, and the heading of walls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_ros.gravity import (
    canonical_yaw,
    estimate_up,
    resolve_up,
    rotation_to_z_up,
    unit_up,
    up_from_frame_name,
)
from sas_ros.observation import Cloud, SourceHeader
from sas_ros.scans import read_scan

Points = npt.NDArray[np.floating]
AXES = [*np.eye(3), *-np.eye(3)]


def random_rotation(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    orthogonal, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    orthogonal = orthogonal * np.sign(np.diag(upper))
    return orthogonal if np.linalg.det(orthogonal) > 0 else -orthogonal


def about_z(angle: float) -> npt.NDArray[np.float64]:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def degrees_between(first: Points, second: Points) -> float:
    return math.degrees(math.acos(float(np.clip(np.dot(first, second), -1, 1))))


# The rotation


def test_identity_for_z_up() -> None:
    assert np.array_equal(rotation_to_z_up([0, 0, 1]), np.eye(3))


def test_optical_frame_becomes_body_frame() -> None:
    expected = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]  # x = forward, y = left, z = up
    rotation = rotation_to_z_up([0, -1, 0])
    assert rotation.tolist() == expected
    assert not np.signbit(rotation[rotation == 0]).any()


@pytest.mark.parametrize("up", AXES)
def test_axes_give_exact_permutations(up: Points) -> None:
    rotation = rotation_to_z_up(up)
    assert set(np.abs(rotation).ravel().tolist()) == {0.0, 1.0}
    assert np.linalg.det(rotation) == 1
    assert (rotation @ up).tolist() == [0, 0, 1]
    noisy = up + np.array([3e-8, -1e-8, 2e-8])
    assert np.array_equal(rotation_to_z_up(noisy * 9.81), rotation)


@settings(deadline=None, derandomize=True)
@given(st.tuples(*[st.floats(-1, 1)] * 3))
def test_any_up_gives_a_rotation_that_lifts_it(up: tuple[float, float, float]) -> None:
    assume(np.linalg.norm(up) > 0.01)
    rotation = rotation_to_z_up(up)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(rotation @ (up / np.linalg.norm(up)), [0, 0, 1], atol=3e-6)


@pytest.mark.parametrize("up", [[0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
@settings(deadline=None, derandomize=True, max_examples=50)
@given(tilt=st.tuples(*[st.floats(-0.5, 0.5)] * 3), small=st.tuples(*[st.floats(-1, 1)] * 3))
def test_continuous_around_bodies_and_cameras(
    up: list[float], tilt: tuple[float, ...], small: tuple[float, ...]
) -> None:
    near = np.array(up) + np.array(tilt) * 0.8
    change = rotation_to_z_up(near + 1e-4 * np.array(small)) - rotation_to_z_up(near)
    assert np.abs(change).max() < 1e-3


def test_a_pitched_camera_keeps_its_heading() -> None:
    pitch = math.radians(40)
    rotation = rotation_to_z_up([0, -math.cos(pitch), -math.sin(pitch)])
    np.testing.assert_allclose(rotation @ [1, 0, 0], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(
        rotation @ [0, 0, 1], [math.cos(pitch), 0, -math.sin(pitch)], atol=1e-12
    )


@pytest.mark.parametrize(
    "up", [[0, 0, 0], [1, 2], [math.nan, 0, 1], [math.inf, 0, 0], ["a", "b", "c"], []]
)
def test_no_direction_is_refused(up: list[float]) -> None:
    with pytest.raises(SasError, match="three finite numbers"):
        rotation_to_z_up(up)


def test_unit_up() -> None:
    np.testing.assert_allclose(unit_up([3, 0, 4]), [0.6, 0, 0.8])


# Where up comes from


@pytest.mark.parametrize("name", ["camera_color_optical_frame", "Cam_OPTICAL", "/arm/optical"])
def test_optical_frames_have_minus_y_up(name: str) -> None:
    up = up_from_frame_name(name)
    assert up is not None and up.direction.tolist() == [0, -1, 0] and up.source == "frame name"


@pytest.mark.parametrize("name", ["", "map", "base_link", "camera_link"])
def test_other_frames_say_nothing(name: str) -> None:
    assert up_from_frame_name(name) is None


def room(rng: np.random.Generator, count: int = 40_000) -> Points:
    """A 5 x 4 x 2.6 m room with a table, a wardrobe and a turned box; z up, floor at 0."""
    boxes = [  # center, size, yaw
        ([0, 0, 1.3], [5, 4, 2.6], 0.0),
        ([1, 0.5, 0.35], [1.6, 0.9, 0.7], 0.0),
        ([-2.0, 1.2, 1.0], [0.6, 1.2, 2.0], 0.0),
        ([-0.8, -0.9, 0.25], [0.5, 0.5, 0.5], 0.6),
    ]
    parts = []
    for index, (center, size, yaw) in enumerate(boxes):
        whole = np.array(size, float)
        areas = np.array([whole[1] * whole[2], whole[0] * whole[2], whole[0] * whole[1]] * 2)
        if index == 0:
            areas[5] = 0  # no ceiling
        face = rng.choice(6, int(count * areas.sum() / 80), p=areas / areas.sum())
        points = rng.uniform(-0.5, 0.5, (len(face), 3))
        points[np.arange(len(face)), face % 3] = np.where(face < 3, -0.5, 0.5)
        parts.append(points * whole @ about_z(yaw).T + center)
    return np.concatenate(parts) + rng.normal(0, 0.004, (sum(map(len, parts)), 3))


def test_sources_are_asked_in_order() -> None:
    points = room(np.random.default_rng(0)).astype(np.float32)
    cloud = Cloud(points=points, header=SourceHeader(frame_id="camera_optical_frame"))
    assert resolve_up(cloud, [0, 2, 0], [1, 0, 0]).source == "parameter"
    assert resolve_up(cloud, [0, 2, 0]).direction.tolist() == [0, 1, 0]
    assert resolve_up(cloud, None, [1, 0, 0]).source == "tf"
    assert resolve_up(cloud).source == "frame name"
    unnamed = resolve_up(Cloud(points=points))
    assert unnamed.source == "planes" and degrees_between(unnamed.direction, [0, 0, 1]) < 1
    with pytest.raises(SasError):
        resolve_up(cloud, [0, 0, 0])


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((0, 3), np.float32),
        np.full((500, 3), np.nan, np.float32),
        np.ones((500, 3), np.float32),
        np.zeros((3, 3), np.float32),
    ],
)
def test_without_surfaces_up_is_assumed(points: Points) -> None:
    up = estimate_up(points)
    assert up.source == "assumed" and up.direction.tolist() == [0, 0, 1]
    assert canonical_yaw(points) == 0.0


def test_rooms_are_levelled_however_they_lie() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        rotation = random_rotation(rng)
        sensor = rng.uniform([-1, -1, 0.9], [1, 1, 1.7])
        up = estimate_up((room(rng) - sensor) @ rotation.T)
        assert degrees_between(up.direction, rotation[:, 2]) < 1.5


def test_estimates_are_the_same_each_time() -> None:
    points = room(np.random.default_rng(1))
    assert np.array_equal(estimate_up(points).direction, estimate_up(points).direction)
    assert canonical_yaw(points) == canonical_yaw(points)


def test_a_bare_floor_is_enough() -> None:
    rng = np.random.default_rng(2)
    floor = np.hstack([rng.uniform(-3, 3, (5000, 2)), rng.normal(-1.0, 0.003, (5000, 1))])
    assert degrees_between(estimate_up(floor).direction, [0, 0, 1]) < 1
    optical = floor[:, [1, 2, 0]] * [-1, -1, 1] + [0, 0, 4]  # seen by a level camera
    assert degrees_between(estimate_up(optical).direction, [0, -1, 0]) < 1


# Real scans: the largest planes against what the data says


def real_ups(folder: Path) -> Iterator[tuple[str, Points, Points]]:
    z_up = np.array([0.0, 0.0, 1.0])
    for scene in ("scene0000_00", "scene0006_00", "scene0010_00"):
        yield scene, read_scan(folder / f"scannet_rooms/{scene}_vert.npy").points, z_up
    yield "laser room", read_scan(folder / "lidar_room_scan/room_scan1.pcd").points, z_up
    yield "bedroom", read_scan(folder / "sunrgbd_single_view/000017.bin").points, z_up
    yield "street", read_scan(folder / "semantickitti_frame/000750_points.npy").points, z_up
    kitchen = read_scan(folder / "rgbd_7scenes_redkitchen/fused_cloud.ply").points
    up = np.array([0.01, -0.89, -0.45])
    yield "kitchen", kitchen, up / np.linalg.norm(up)


def test_real_scans_as_they_are(test_data: Path) -> None:
    errors = {
        name: degrees_between(estimate_up(points).direction, up)
        for name, points, up in real_ups(test_data)
    }
    assert max(errors.values()) < 4, errors


def test_real_scans_turned_at_random(test_data: Path) -> None:
    rng = np.random.default_rng(0)
    trials, right = 0, 0
    for name, points, up in real_ups(test_data):
        for _ in range(6):
            rotation = random_rotation(rng).astype(np.float32)
            found = estimate_up(points @ rotation.T).direction
            error = degrees_between(found, rotation @ up)
            if name == "laser room":
                # Floor and ceiling are both complete: without a usual frame the sign is a guess.
                error = min(error, 180 - error)
            trials, right = trials + 1, right + (error < 6)
    assert right >= 0.9 * trials, f"{right} of {trials}"


def test_camera_views_of_a_real_kitchen(test_data: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    folder = test_data / "rgbd_7scenes_redkitchen"
    intrinsics = np.loadtxt(folder / "camera-intrinsics.txt")
    rows, columns = np.mgrid[:480, :640]
    errors = {}
    for path in sorted(folder.glob("frame-*.depth.png"))[::9]:
        depth = np.array(image.open(path)).astype(np.float32) / 1000
        depth[(depth == 0) | (depth > 65)] = np.nan
        x = (columns - intrinsics[0, 2]) * depth / intrinsics[0, 0]
        y = (rows - intrinsics[1, 2]) * depth / intrinsics[1, 1]
        points = np.stack([x, y, depth], axis=-1).reshape(-1, 3)
        pose = np.loadtxt(str(path).replace("depth.png", "pose.txt"))
        up = pose[:3, :3].T @ np.array([0.01, -0.89, -0.45])
        found = estimate_up(points).direction
        errors[path.name] = degrees_between(found, up / np.linalg.norm(up))
    wrong = {name: error for name, error in errors.items() if error > 6}
    assert len(wrong) <= 0.1 * len(errors), wrong


# The heading of walls


@settings(deadline=None, derandomize=True, max_examples=25)
@given(angle=st.floats(-math.pi, math.pi), shift=st.tuples(*[st.floats(-5, 5)] * 3))
def test_yaw_follows_the_room(angle: float, shift: tuple[float, float, float]) -> None:
    points = room(np.random.default_rng(3))
    base = canonical_yaw(points)
    assert abs(base) < math.radians(0.5)
    turned = canonical_yaw(points @ about_z(angle).T + shift)
    assert -math.pi / 4 < turned <= math.pi / 4
    assert abs(math.remainder(turned - base - angle, math.pi / 2)) < math.radians(0.5)


def test_yaw_ignores_invalid_points_and_density() -> None:
    points = room(np.random.default_rng(4)) @ about_z(0.3).T
    base = canonical_yaw(points)
    broken = points.copy()
    broken[::3] = np.nan
    broken[1::3, 0] = np.inf
    assert canonical_yaw(broken) == pytest.approx(base, abs=math.radians(1))
    corner = points[(points[:, 0] > 1) & (points[:, 1] > 0)]
    dense = np.concatenate([points, corner, corner, corner])
    assert canonical_yaw(dense) == pytest.approx(base, abs=math.radians(1))


def test_no_walls_no_heading() -> None:
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(20_000, 3))
    assert canonical_yaw(ball / np.linalg.norm(ball, axis=1, keepdims=True)) == 0.0
    assert canonical_yaw(rng.uniform(-3, 3, (20_000, 3)) * [1, 1, 0]) == 0.0


def test_yaw_of_real_rooms(test_data: Path) -> None:
    rng = np.random.default_rng(0)
    for name, points, up in real_ups(test_data):
        level = points @ rotation_to_z_up(up).T
        base = canonical_yaw(level)
        for _ in range(4):
            angle = rng.uniform(-math.pi, math.pi)
            error = math.remainder(
                canonical_yaw(level @ about_z(angle).T) - base - angle, math.pi / 2
            )
            assert abs(error) < math.radians(0.5), name


@pytest.mark.parametrize("pitch", [0, 4, 20, 40])
def test_a_pitched_optical_frame_is_levelled_by_its_planes(pitch: float) -> None:
    """A name says -y; a camera that looks down at a floor and two walls says it better."""
    rng = np.random.default_rng(0)
    floor = np.c_[rng.uniform([-2, 0.5], [2, 4], (20_000, 2)), np.full(20_000, -1.2)]
    back = np.c_[rng.uniform(-2, 2, 12_000), np.full(12_000, 4), rng.uniform(-1.2, 1, 12_000)]
    side = np.c_[np.full(8_000, -2), rng.uniform(1, 4, 8_000), rng.uniform(-1.2, 1, 8_000)]
    body = np.concatenate([floor, back, side]) + rng.normal(0, 0.002, (40_000, 3))  # y ahead, z up
    optical = np.stack([body[:, 0], -body[:, 2], body[:, 1]], axis=1)
    angle = np.radians(pitch)
    c, s = np.cos(angle), np.sin(angle)
    turned = optical @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T
    up = resolve_up(Cloud(turned.astype(np.float32), header=SourceHeader(0, "cam_optical_frame")))
    true = np.array([0, -c, -s])
    error = np.degrees(np.arccos(np.clip(up.direction @ true, -1, 1)))
    if pitch < 6:
        assert up.source == "frame name" and up.direction.tolist() == [0, -1, 0]
    else:
        assert up.source == "frame name and planes" and error < 3


@pytest.mark.parametrize(("tilt", "level"), [(0.0, True), (1.5, True), (8.0, False)])
def test_an_estimate_close_to_an_axis_is_the_axis(tilt: float, level: bool) -> None:
    rng = np.random.default_rng(0)
    floor = np.c_[rng.uniform(0, 4, (20_000, 2)), np.zeros(20_000)]
    wall = np.c_[rng.uniform(0, 4, 15_000), np.zeros(15_000), rng.uniform(0, 2.4, 15_000)]
    points = np.concatenate([floor, wall]) + rng.normal(0, 0.003, (35_000, 3))
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    turned = points @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T
    up = resolve_up(Cloud(turned.astype(np.float32)))
    assert up.source == "planes"
    assert (up.direction.tolist() == [0, 0, 1]) == level


def test_clouds_with_an_empty_middle_have_no_patches_and_no_crash() -> None:
    """Two clusters three kilometres apart, and a room in millimetres."""
    rng = np.random.default_rng(0)
    here = rng.uniform(0, 5, (2000, 3))
    far = np.concatenate([here, here + np.array([3000, 0, 0])]).astype(np.float32)
    assert resolve_up(Cloud(far)).direction.shape == (3,)
    assert np.isfinite(canonical_yaw(far))
    walls = np.c_[rng.uniform(0, 4000, 3000), np.zeros(3000), rng.uniform(0, 2400, 3000)]
    assert np.isfinite(canonical_yaw(walls.astype(np.float32)))
