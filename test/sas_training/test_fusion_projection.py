"""Points into images: against a loop over points written from the equations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_training.fusion.constants import DATASETS, dataset_constants
from sas_training.fusion.projection import (
    Intrinsics,
    Places,
    ProjectionSettings,
    View,
    problem_of,
    project,
    seen,
)

CAMERA = Intrinsics(20.0, 22.0, 15.5, 11.5)


def random_pose(rng: np.random.Generator) -> Any:
    pose = np.eye(4)
    pose[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    pose[:3, 3] = rng.normal(size=3)
    return pose


def random_view(rng: np.random.Generator, depth: bool = True) -> View:
    """A 32 x 24 view; a fifth of its depth is missing, some of it not finite."""
    values = rng.uniform(0.2, 3.0, (24, 32)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = 0
    values[0, 0], values[5, 5], values[6, 6] = np.nan, np.inf, -1
    return View(random_pose(rng), CAMERA, 32, 24, values if depth else None)


def pixel_by_hand(point: Any, view: View, settings: ProjectionSettings) -> tuple[int, int] | None:
    """(u, v) of one point, or None; plain Python floats."""
    with np.errstate(invalid="ignore"):
        p = np.linalg.inv(np.asarray(view.pose, dtype=np.float64)) @ [*map(float, point), 1.0]
    if not np.isfinite(p).all() or p[2] == 0:
        return None
    k = view.intrinsics
    # Python's round takes halves to the even neighbour.
    u, v = round(k.fx * p[0] / p[2] + k.cx), round(k.fy * p[1] / p[2] + k.cy)
    b = settings.boundary
    if not (b <= u < view.width - b and b <= v < view.height - b):
        return None
    if view.depth is None or settings.occlusion is None:
        return (u, v) if p[2] > 0 else None
    measured = float(view.depth[v, u])
    if not math.isfinite(measured) or measured == 0:
        return None
    return (u, v) if abs(measured - p[2]) <= settings.occlusion * measured else None


@given(
    seed=st.integers(0, 10**6),
    boundary=st.integers(0, 12),
    occlusion=st.one_of(st.none(), st.floats(0, 0.9)),
    depth=st.booleans(),
)
def test_pixels_and_visibility_are_those_of_a_loop(
    seed: int, boundary: int, occlusion: float | None, depth: bool
) -> None:
    rng = np.random.default_rng(seed)
    view = random_view(rng, depth)
    settings = ProjectionSettings(boundary, occlusion)
    points = rng.normal(0, 1.5, (60, 3))
    points[:3] = np.nan, np.inf, 1e300
    found = project(torch.from_numpy(points), view, settings)
    for row, point in enumerate(points):
        expected = pixel_by_hand(point, view, settings)
        assert bool(found.visible[row]) == (expected is not None), row
        assert (int(found.columns[row]), int(found.rows[row])) == (expected or (-1, -1))


@given(
    seed=st.integers(0, 10**6),
    boundary=st.integers(0, 12),
    away=st.sampled_from([0.0, 30.0, 5e4]),
)
def test_dropping_far_off_points_first_changes_nothing(
    seed: int, boundary: int, away: float
) -> None:
    """Points at the edges of the image, also far from the origin as in a city's map."""
    rng = np.random.default_rng(seed)
    view, settings = random_view(rng, depth=False), ProjectionSettings(boundary, None)
    pose = np.array(view.pose)
    pose[:3, 3] += away
    view = View(pose, CAMERA, 32, 24)
    u, v = rng.integers(-2, 34, 400) + 0.5, rng.integers(-2, 26, 400) + 0.5
    z = rng.choice([1e-3, 0.5, 40.0], 400) * rng.choice([1, 1, 1, -1], 400)
    own = np.stack([(u - CAMERA.cx) / CAMERA.fx * z, (v - CAMERA.cy) / CAMERA.fy * z, z], axis=1)
    points = torch.from_numpy(own @ pose[:3, :3].T + pose[:3, 3])
    ready = Places.of(points)
    plain = Places(ready.exact, None, ready.reach)
    assert ready.rough is not None
    for one, other in zip(seen(ready, view, settings), seen(plain, view, settings), strict=True):
        assert torch.equal(one, other)


def straight(depth: Any = None, boundary: int = 0, occlusion: float | None = 0.2) -> Any:
    """Visibility of points given in the camera's own frame, focal length 1, 8 x 6 pixels."""
    view = View(np.eye(4), Intrinsics(1, 1, 0, 0), 8, 6, depth)
    settings = ProjectionSettings(boundary, occlusion)
    return lambda *points: project(torch.tensor(points, dtype=torch.float64), view, settings)


def test_halves_round_to_the_even_pixel() -> None:
    found = straight()((0.5, 1.5, 1), (1.5, 2.5, 1), (2.5, 0.5, 1))
    assert found.columns.tolist() == [0, 2, 2]
    assert found.rows.tolist() == [2, 2, 0]


def test_the_boundary_is_cut_on_all_sides() -> None:
    inside = [(2, 2, 1), (5, 3, 1)]
    outside = [(1, 2, 1), (6, 3, 1), (2, 1, 1), (5, 4, 1)]
    assert straight(boundary=2)(*inside, *outside).visible.tolist() == [True] * 2 + [False] * 4


def test_the_occlusion_test_is_relative_and_inclusive() -> None:
    depth = np.full((6, 8), 2.0)
    depth[0, 1] = 0
    looked = straight(depth, occlusion=0.25)
    assert looked((0, 0, 1.5), (0, 0, 2.5)).visible.all()
    assert not looked((0, 0, 1.49), (0, 0, 2.51), (0, 0, -2), (1.0, 0, 1.0)).visible.any()
    # Ten times as far away, ten times as much is allowed.
    assert straight(depth * 10, occlusion=0.25)((0, 0, 15), (0, 0, 25)).visible.all()


def test_without_depth_what_lies_in_front_is_seen() -> None:
    for occlusion in (0.2, None):
        found = straight(occlusion=occlusion)((0, 0, 1e-3), (0, 0, 0), (0, 0, -1), (1, 1, 0))
        assert found.visible.tolist() == [True, False, False, False]


def test_a_depth_threshold_that_would_let_the_back_pass_is_refused() -> None:
    with pytest.raises(SasError, match="behind the camera"):
        ProjectionSettings(occlusion=1.0)
    with pytest.raises(SasError, match="below 0"):
        ProjectionSettings(boundary=-1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pose": np.full((4, 4), -np.inf)}, "not finite"),
        ({"pose": np.zeros((4, 4))}, "inverted"),
        ({"pose": np.eye(3)}, "4 x 4"),
        ({"depth": np.ones((32, 24))}, "another size"),
        ({"width": 0, "depth": None}, "empty"),
    ],
)
def test_an_unusable_view_has_a_reason(change: dict[str, Any], reason: str) -> None:
    good = {"pose": np.eye(4), "intrinsics": CAMERA, "width": 32, "height": 24}
    assert problem_of(View(**good)) is None
    view = View(**{**good, **change})
    assert reason in str(problem_of(view))
    with pytest.raises(SasError, match=reason):
        project(torch.zeros(1, 3), view, ProjectionSettings())


def test_scannets_intrinsics_come_out_as_published() -> None:
    for version in ("paper", "released"):
        camera = dataset_constants("scannet").camera(version=version)
        assert (camera.fx, camera.fy) == pytest.approx((288.9353, 288.9353), abs=1e-4)
        assert (camera.cx, camera.cy) == pytest.approx((159.5, 119.5))


def test_replicas_released_width_rule_differs_from_plain_scaling() -> None:
    replica = DATASETS["replica"]
    assert replica.camera().fx == pytest.approx(600 * 640 / 1200)
    assert replica.camera(version="released").fx == pytest.approx(600 * 635 / 1200)
    assert replica.camera().fy == replica.camera(version="released").fy


def test_plain_scaling_keeps_rays() -> None:
    """The corner of the image is the same ray before and after."""
    old, new = Intrinsics(100, 90, 31.0, 22.0), (20, 36)
    resized = old.resized((64, 48), new)
    for before, after in ((-0.5, -0.5), (63.5, 19.5)):
        assert (before - old.cx) / old.fx == pytest.approx((after - resized.cx) / resized.fx)
    with pytest.raises(SasError, match="plain, width_crop"):
        old.resized((64, 48), new, "stretch")


def test_paper_and_released_thresholds_go_by_name() -> None:
    scannet = dataset_constants("scannet")
    assert scannet.settings() == ProjectionSettings(10, 0.2)
    assert scannet.settings("released") == ProjectionSettings(10, 0.25)
    assert dataset_constants("matterport3d").settings() == ProjectionSettings(10, 0.02)
    assert dataset_constants("nuscenes").settings() == ProjectionSettings(5, None)
    with pytest.raises(SasError, match="paper, released"):
        scannet.settings("published")
    with pytest.raises(SasError, match="scannet, matterport3d"):
        dataset_constants("kitti")
    with pytest.raises(SasError, match="must be given"):
        dataset_constants("nuscenes").camera()


@pytest.mark.parametrize("values", [(0, 1, 0, 0), (1, 1, np.nan, 0), (1, np.inf, 0, 0)])
def test_intrinsics_that_are_none_are_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(SasError, match="focal lengths"):
        Intrinsics(*values)
