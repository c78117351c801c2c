"""Points in, features out: order, frames, poses, tiles."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from students import student_of, untrained_student

from sas_ros.errors import SasError
from sas_ros.memory import pass_bytes
from sas_ros.observation import Cloud, Observation, SourceHeader, Up
from sas_ros.segmenter import Segmenter, symmetric_view
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.inputs import INPUTS, input_features, mean_colors
from sas_ros.student.minkunet import MinkUNetConfig

Z_UP = Up(np.array([0.0, 0.0, 1.0]), "parameter")


def small_room(seed: int = 0, count: int = 6000) -> npt.NDArray[np.float32]:
    """Floor, two walls of different length and a box: nothing symmetric."""
    rng = np.random.default_rng(seed)
    floor = np.c_[rng.uniform([0, 0], [4, 3], (count, 2)), np.zeros(count)]
    wall = np.c_[rng.uniform(0, 4, count), np.zeros(count), rng.uniform(0, 2.4, count)]
    side = np.c_[np.zeros(count), rng.uniform(0, 3, count), rng.uniform(0, 2.4, count)]
    box = rng.uniform([2.5, 1.8, 0], [3.5, 2.6, 0.8], (count, 3))
    box[:, 2] = np.where(rng.random(count) < 0.5, 0.8, box[:, 2])
    return np.concatenate([floor, wall, side, box]).astype(np.float32)


def point_labels(segmenter: Segmenter, cloud: Cloud, up: Up) -> npt.NDArray[np.int64]:
    scene = segmenter.segment(cloud, up)
    labels = segmenter.label(scene, segmenter.bundle.vocabulary).label
    return np.where(scene.element_of_point >= 0, labels[scene.element_of_point], -1)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(untrained_student(), device="cpu")


def test_features_are_unit_and_positions_are_near_their_points(segmenter: Segmenter) -> None:
    points = small_room()
    header = SourceHeader(12, "map")
    scene = segmenter.segment(Cloud(points, header=header), Z_UP)
    torch.testing.assert_close(scene.features.norm(dim=1), torch.ones(len(scene.features)))
    distance = np.abs(scene.positions[scene.element_of_point] - points).max(axis=1)
    assert distance.max() <= 0.08 * np.sqrt(2) / 2 + 1e-3  # the grid may be turned about z
    assert scene.header == header


@pytest.fixture(scope="module")
def colourful() -> Segmenter:
    config = MinkUNetConfig(len(INPUTS), 16, 8, (8,) * 8, (1,) * 8)
    return Segmenter(student_of(config, inputs=INPUTS), device="cpu")


def test_mean_colours_are_those_of_the_points() -> None:
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (50, 3)).astype(np.uint8)
    element = np.append(np.arange(7), rng.integers(0, 7, 43))
    means = mean_colors(colors, element, 7)
    for number in range(7):
        expected = colors[element == number].astype(np.float64).mean(axis=0) / 127.5 - 1
        np.testing.assert_allclose(means[number], expected, atol=1e-6)
    inputs = input_features(INPUTS, np.zeros(7), means)
    np.testing.assert_array_equal(inputs[:, 2:5], means)
    assert (inputs[:, 5] == 1).all()
    assert not input_features(INPUTS, np.zeros(7))[:, 1:].any()


def test_a_student_that_sees_colours_works_without_them(colourful: Segmenter) -> None:
    points = small_room()
    rng = np.random.default_rng(1)
    colors = rng.integers(0, 256, points.shape).astype(np.uint8)
    plain = colourful.segment(Cloud(points), Z_UP).features
    painted = colourful.segment(Cloud(points, colors=colors), Z_UP).features
    assert torch.isfinite(plain).all() and plain.shape == painted.shape
    assert float((plain * painted).sum(dim=1).mean()) < 0.999
    # A miss keeps its place and its colour counts for nothing.
    rows = np.array([0, 40, len(points)])
    holes = np.insert(points, rows, np.nan, axis=0)
    shades = np.insert(colors, rows, 255, axis=0)
    again = colourful.segment(Cloud(holes, colors=shades), Z_UP).features
    torch.testing.assert_close(again, painted)


def test_a_student_of_geometry_does_not_look_at_colours(segmenter: Segmenter) -> None:
    points = small_room()
    colors = np.random.default_rng(1).integers(0, 256, points.shape).astype(np.uint8)
    plain = segmenter.segment(Cloud(points), Z_UP).features
    painted = segmenter.segment(Cloud(points, colors=colors), Z_UP).features
    torch.testing.assert_close(plain, painted, rtol=0, atol=0)


def test_misses_keep_their_place(segmenter: Segmenter) -> None:
    points = small_room()
    whole = point_labels(segmenter, Cloud(points), Z_UP)
    holes = np.insert(points, [0, 5, len(points)], [np.nan, 1, np.inf], axis=0)
    labels = point_labels(segmenter, Cloud(holes.astype(np.float32)), Z_UP)
    missing = ~np.isfinite(holes).all(axis=1)
    assert (labels[missing] == -1).all()
    assert np.array_equal(labels[~missing], whole)


@pytest.mark.parametrize(
    ("rotation", "up"),
    [
        ([[0, -1, 0], [0, 0, -1], [1, 0, 0]], (0, -1, 0)),  # optical frame
        ([[0, -1, 0], [1, 0, 0], [0, 0, 1]], (0, 0, 1)),  # turned by 90 degrees
        ([[-1, 0, 0], [0, -1, 0], [0, 0, 1]], (0, 0, 1)),  # turned by 180 degrees
        ([[0, 0, 1], [1, 0, 0], [0, 1, 0]], (1, 0, 0)),  # x up
    ],
)
def test_labels_do_not_depend_on_the_frame(
    segmenter: Segmenter, rotation: list[list[int]], up: tuple[int, int, int]
) -> None:
    points = small_room()
    expected = point_labels(segmenter, Cloud(points), Z_UP)
    turned = (points @ np.array(rotation, dtype=np.float32).T).astype(np.float32)
    labels = point_labels(segmenter, Cloud(turned), Up(np.array(up, dtype=float), "parameter"))
    assert (labels == expected).mean() > 0.99


def test_eight_votes_are_exactly_invariant_under_quarter_turns() -> None:
    segmenter = Segmenter(untrained_student(), device="cpu", votes=8)
    points = small_room()
    turned = np.stack([-points[:, 1], points[:, 0], points[:, 2]], axis=1)
    one = point_labels(segmenter, Cloud(points), Z_UP)
    two = point_labels(segmenter, Cloud(turned), Z_UP)
    assert (one == two).mean() > 0.99


def test_symmetric_views_are_all_different_and_keep_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(-9, 9, (40, 4), generator=generator)
    views = [symmetric_view(cells, vote, 8) for vote in range(8)]
    for i, a in enumerate(views):
        assert all(not torch.equal(a, b) for b in views[:i])
        before = (cells[:, None, 1:] - cells[None, :, 1:]).abs().sum(-1)
        after = (a[:, None, 1:] - a[None, :, 1:]).abs().sum(-1)
        assert torch.equal(before, after)


def corridor(count: int = 60_000, length: float = 40.0) -> Cloud:
    rng = np.random.default_rng(0)
    floor = np.c_[rng.uniform([0, 0], [length, 2], (count, 2)), np.zeros(count)]
    wall = np.c_[rng.uniform(0, length, count), np.zeros(count), rng.uniform(0, 2.2, count)]
    return Cloud(np.concatenate([floor, wall]).astype(np.float32))


def budget_for(student: StudentBundle, voxels: int) -> float:
    """MiB that just let so many voxels through at once."""
    return (pass_bytes(student.network().config, voxels, 4) + 1) / 2**20


@pytest.mark.parametrize("votes", [1, 2])
def test_tiles_cover_everything_and_agree_with_the_whole(votes: int) -> None:
    cloud, student = corridor(), untrained_student()
    whole = Segmenter(student, device="cpu", votes=votes).segment(cloud, Z_UP)
    small = budget_for(student, 10_000)
    tiled = Segmenter(student, device="cpu", votes=votes, memory_budget=small).segment(cloud, Z_UP)
    assert len(whole.positions) > 20_000
    assert np.array_equal(whole.positions, tiled.positions)
    cosine = (whole.features * tiled.features).sum(1)
    assert float(cosine.quantile(0.01)) > 0.9999
    words = student.vocabulary
    segmenter = Segmenter(student, device="cpu")
    same = segmenter.label(whole, words).label == segmenter.label(tiled, words).label
    assert same.mean() > 0.999


def test_without_a_rim_the_border_shows() -> None:
    """What the test above tests for is there to be found."""
    cloud, student = corridor(), untrained_student()
    whole = Segmenter(student, device="cpu").segment(cloud, Z_UP)
    segmenter = Segmenter(student, device="cpu", memory_budget=budget_for(student, 10_000))
    segmenter._rim = 0
    tiled = segmenter.segment(cloud, Z_UP)
    assert float((whole.features * tiled.features).sum(1).quantile(0.01)) < 0.9999


def test_no_pass_sees_more_voxels_than_the_budget_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    student = untrained_student()
    segmenter = Segmenter(student, device="cpu", memory_budget=budget_for(student, 9_000))
    assert segmenter.tile_voxels == 9_000
    forward, seen = segmenter.engine.forward, []

    def watched(coordinates: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        seen.append(len(coordinates))
        return forward(coordinates, inputs)

    monkeypatch.setattr(segmenter.engine, "forward", watched)
    scene = segmenter.segment(corridor(), Z_UP)
    assert len(seen) > 3 and max(seen) <= 9_000
    assert sum(seen) < 2 * len(scene.positions)


def test_features_beyond_their_share_are_kept_in_half_precision(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = Cloud(small_room())
    exact = segmenter.segment(cloud, Z_UP)
    share = exact.features.numel() * 4 / segmenter._budget
    monkeypatch.setattr("sas_ros.segmenter._EXACT_SHARE", 1.01 * share)
    assert segmenter.segment(cloud, Z_UP).features.dtype == torch.float32
    monkeypatch.setattr("sas_ros.segmenter._EXACT_SHARE", 0.99 * share)
    half = segmenter.segment(cloud, Z_UP)
    assert half.features.dtype == torch.float16
    assert float((exact.features * half.features.float()).sum(1).min()) > 0.999
    words = segmenter.bundle.vocabulary
    same = segmenter.label(exact, words).label == segmenter.label(half, words).label
    assert same.mean() > 0.99


def test_features_that_cannot_fit_are_a_memory_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sas_ros.segmenter.free_bytes", lambda _: 1000)
    with pytest.raises(MemoryError, match="more than is free"):
        Segmenter(untrained_student(), device="cpu").segment(Cloud(small_room()), Z_UP)


def test_a_scene_tells_how_long_its_network_took(segmenter: Segmenter) -> None:
    started = time.perf_counter()
    scene = segmenter.segment(Cloud(small_room()), Z_UP)
    assert 0 < scene.network_s < time.perf_counter() - started


def test_large_coordinates_are_no_trouble(segmenter: Segmenter) -> None:
    points = small_room()
    origin = np.array([500_000.0, 5_000_000.0, 30.0])
    scene = segmenter.segment(Cloud(points, origin=origin), Z_UP)
    assert np.array_equal(scene.origin, origin)


def test_clouds_of_one_point_and_none(segmenter: Segmenter) -> None:
    one = segmenter.segment(Cloud(np.zeros((1, 3), np.float32)), Z_UP)
    assert one.features.shape == (1, segmenter.bundle.feature_dim)
    for points in (np.empty((0, 3), np.float32), np.full((4, 3), np.nan, np.float32)):
        with pytest.raises(SasError, match="empty"):
            segmenter.segment(Cloud(points), Z_UP)


def test_out_of_memory_halves_the_tiles_and_then_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segmenter = Segmenter(untrained_student(), device="cpu")
    cloud = Cloud(small_room(count=20_000))
    expected = segmenter.segment(cloud, Z_UP)
    forward = segmenter.engine.forward
    limit = len(expected.positions) * 3 // 4

    def short_of_memory(coordinates: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        if len(coordinates) > limit:
            raise torch.OutOfMemoryError("out of memory (injected)")
        return forward(coordinates, inputs)

    monkeypatch.setattr(segmenter.engine, "forward", short_of_memory)
    segmenter._rim = 16
    monkeypatch.setattr("sas_ros.segmenter.SMALLEST_TILE", 100)
    assert segmenter.segment(cloud, Z_UP).features.shape == expected.features.shape
    limit = 0
    with pytest.raises(MemoryError, match="tiles"):
        segmenter.segment(cloud, Z_UP)


def test_what_a_student_requires_must_be_there(segmenter: Segmenter) -> None:
    with pytest.raises(SasError, match="needs points"):
        segmenter.segment(Observation(), Z_UP)
    needy = Segmenter(replace(untrained_student(), requires=("points", "colours")), device="cpu")
    with pytest.raises(SasError, match="needs colours"):
        needy.segment(Cloud(small_room()), Z_UP)
    colours = np.zeros((24_000, 3), np.uint8)
    cloud = Cloud(small_room(), colors=colours)
    assert needy.segment(Observation(cloud), Z_UP).features.shape[1] == 16


def test_unknown_device_and_votes_are_sentences() -> None:
    with pytest.raises(SasError, match="votes"):
        Segmenter(untrained_student(), votes=3)
    with pytest.raises(SasError, match="device"):
        Segmenter(untrained_student(), device="tpu")
