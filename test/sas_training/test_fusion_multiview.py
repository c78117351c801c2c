"""The multi-view mean: against a loop over points and views in float64, and on a real kitchen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_ros.scans import read_scan
from sas_training.fusion.multiview import FeatureSource, PixelFeatures, fuse_views
from sas_training.fusion.projection import Intrinsics, ProjectionSettings, View

WIDTH, HEIGHT = 32, 24
CAMERA = Intrinsics(20.0, 22.0, 15.5, 11.5)
FREE = ProjectionSettings(boundary=0, occlusion=None)


def make_view(rng: np.random.Generator, depth: bool) -> View:
    pose = np.eye(4)
    pose[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    pose[:3, 3] = rng.normal(0, 0.5, size=3)
    values = rng.uniform(0.2, 3.0, (HEIGHT, WIDTH)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = 0
    return View(pose, CAMERA, WIDTH, HEIGHT, values if depth else None)


def source(name: str, maps: Sequence[PixelFeatures | None], channels: int) -> FeatureSource:
    return FeatureSource(name, channels, lambda number: maps[number], {"model": name})


def mean_by_hand(
    points: Any,
    views: Sequence[View],
    maps: Sequence[PixelFeatures | None],
    settings: ProjectionSettings,
) -> list[tuple[int, Any]]:
    """(number of views, float64 mean) of each point, one at a time."""
    result = []
    for point in points:
        rows = []
        for view, found in zip(views, maps, strict=True):
            if found is None or not np.isfinite(view.pose).all():
                continue
            x, y, z, _ = np.linalg.inv(view.pose) @ [*point, 1.0]
            k, b = view.intrinsics, settings.boundary
            u, v = round(k.fx * x / z + k.cx), round(k.fy * y / z + k.cy)
            if not (b <= u < view.width - b and b <= v < view.height - b) or z <= 0:
                continue
            if view.depth is not None and settings.occlusion is not None:
                measured = float(view.depth[v, u])
                if measured == 0 or abs(measured - z) > settings.occlusion * measured:
                    continue
            if found.valid is not None and not found.valid[v, u]:
                continue
            rows.append(found.features[v, u].numpy().astype(np.float64))
        result.append((len(rows), np.mean(rows, axis=0) if rows else None))
    return result


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6),
    boundary=st.integers(0, 8),
    occlusion=st.one_of(st.none(), st.floats(0.05, 0.9)),
    depth=st.booleans(),
    memory=st.sampled_from([1, 700, 1 << 20]),
)
def test_means_are_those_of_a_loop(
    seed: int, boundary: int, occlusion: float | None, depth: bool, memory: int
) -> None:
    rng = np.random.default_rng(seed)
    views = [make_view(rng, depth) for _ in range(4)]
    views[2] = View(np.full((4, 4), -np.inf), CAMERA, WIDTH, HEIGHT, views[2].depth)
    points = rng.normal(0, 1.5, (25, 3))
    first = [
        PixelFeatures(torch.from_numpy(rng.normal(size=(HEIGHT, WIDTH, 5))).half())
        for _ in range(4)
    ]
    second: list[PixelFeatures | None] = [
        PixelFeatures(
            # Channels first in memory, as the released extractors have them.
            torch.from_numpy(rng.normal(size=(3, HEIGHT, WIDTH))).float().permute(1, 2, 0),
            torch.from_numpy(rng.random((HEIGHT, WIDTH)) < 0.6),
        )
        for _ in range(4)
    ]
    second[1] = None
    settings = ProjectionSettings(boundary, occlusion)
    result = fuse_views(
        points,
        views,
        [source("a", first, 5), source("b", second, 3)],
        settings,
        scene="room",
        memory=memory,
    )
    assert result.walks == {1: 25, 700: 2, 1 << 20: 1}[memory]
    assert result.skipped == {"its pose is not finite": 1}
    for name, maps in (("a", first), ("b", second)):
        expected = mean_by_hand(points, views, maps, settings)
        found = result.features[name]
        assert (found.teacher, found.scene, found.settings["model"]) == (name, "room", name)
        assert result.views[name].tolist() == [count for count, _ in expected]
        assert found.mask.tolist() == [count > 0 for count, _ in expected]
        means = [mean for count, mean in expected if count]
        if means:
            np.testing.assert_allclose(found.features, np.array(means), rtol=2e-3, atol=1e-4)


class Reading(Sequence[View]):
    """Views read when asked for; the second cannot be."""

    def __init__(self, views: list[View]) -> None:
        self.views = views

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, number: Any) -> Any:
        if number == 1:
            raise SasError("The frame is cut off.")
        return self.views[number]


def facing() -> View:
    return View(np.eye(4), CAMERA, WIDTH, HEIGHT)


def ones(channels: int = 2) -> PixelFeatures:
    return PixelFeatures(torch.ones(HEIGHT, WIDTH, channels))


def test_bad_views_are_skipped_and_counted_once_however_often_they_are_walked() -> None:
    views = [facing() for _ in range(5)]
    views[2] = View(np.full((4, 4), np.nan), CAMERA, WIDTH, HEIGHT)
    views[3] = View(np.eye(4), CAMERA, WIDTH, HEIGHT, np.ones((3, 3)))
    asked: list[int] = []

    def read(number: int) -> PixelFeatures:
        asked.append(number)
        return ones()

    points = np.tile([0.0, 0.0, 1.0], (4, 1))
    walked: list[int] = []

    def progress(numbers: Any) -> Iterator[int]:
        for number in numbers:
            walked.append(number)
            yield number

    result = fuse_views(
        points,
        Reading(views),
        [FeatureSource("a", 2, read)],
        ProjectionSettings(),
        memory=24,
        progress=progress,
    )
    assert result.walks == 2 and walked == [0, 1, 2, 3, 4] * 2
    assert result.skipped == {
        "it cannot be read": 1,
        "its pose is not finite": 1,
        "its depth image has another size": 1,
    }
    assert asked == [0, 4, 0, 4] and result.used == 2
    assert result.views["a"].tolist() == [2, 2, 2, 2]


def test_a_teacher_is_not_asked_about_views_that_show_nothing() -> None:
    def read(number: int) -> PixelFeatures:
        raise AssertionError

    result = fuse_views(
        np.array([[0.0, 0.0, -1.0]]), [facing()], [FeatureSource("a", 2, read)], FREE
    )
    assert result.used == 0
    assert result.features["a"].features.shape == (0, 2)
    assert not result.features["a"].mask.any()


def test_threads_change_no_bit() -> None:
    rng = np.random.default_rng(4)
    width = 1024  # 512 rows fill a buffer
    points = rng.normal(0, 1.5, (6000, 3))
    views = [make_view(rng, depth=False) for _ in range(4)]
    maps = [
        PixelFeatures(torch.from_numpy(rng.normal(size=(HEIGHT, WIDTH, width))).half())
        for _ in views
    ]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            result = fuse_views(points, views, [source("a", maps, width)], FREE)
            found.append(result.features["a"].features)
    finally:
        torch.set_num_threads(before)
    assert len(found[0]) > 600
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_what_a_teacher_has_nothing_for_is_counted() -> None:
    maps = [ones(), None]
    result = fuse_views(
        np.array([[0.0, 0.0, 1.0]]), [facing(), facing()], [source("a", maps, 2)], FREE
    )
    assert result.silent == {"a": 1} and result.views["a"].tolist() == [1]


def test_a_teacher_may_leave_its_gradients_on() -> None:
    plain = ones()
    learning = PixelFeatures(plain.features.clone().requires_grad_())
    point = np.array([[0.0, 0.0, 1.0]])
    found, wanted = (
        fuse_views(point, [facing()], [source("a", [maps], 2)], FREE).features["a"].features
        for maps in (learning, plain)
    )
    assert np.array_equal(found, wanted)


def test_sums_do_not_overflow_float16() -> None:
    maps = [PixelFeatures(torch.full((HEIGHT, WIDTH, 1), 60_000.0).half())] * 3
    result = fuse_views(np.array([[0.0, 0.0, 1.0]]), [facing()] * 3, [source("a", maps, 1)], FREE)
    assert float(result.features["a"].features[0, 0]) == 60_000


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (PixelFeatures(torch.ones(WIDTH, HEIGHT, 2)), "height, width, channels"),
        (PixelFeatures(torch.ones(HEIGHT, WIDTH, 3)), "height, width, channels"),
        (PixelFeatures(torch.ones(HEIGHT, WIDTH, 2, dtype=torch.int64)), "floats"),
        (PixelFeatures(torch.ones(HEIGHT, WIDTH, 2), torch.ones(2, 2)), "mask"),
        (PixelFeatures(torch.full((HEIGHT, WIDTH, 2), np.nan)), "not finite"),
    ],
)
def test_an_unfit_map_is_a_sentence_that_names_the_teacher(
    found: PixelFeatures, sentence: str
) -> None:
    with pytest.raises(SasError, match=f"'bad'.*{sentence}"):
        fuse_views(np.array([[0.0, 0.0, 1.0]]), [facing()], [source("bad", [found], 2)], FREE)


def test_unfit_points_and_teachers_are_refused() -> None:
    with pytest.raises(SasError, match=r"\(N, 3\)"):
        fuse_views(np.zeros((3, 2)), [], [source("a", [], 2)], FREE)
    for sources in ([], [source("a", [], 2)] * 2):
        with pytest.raises(SasError, match="different names"):
            fuse_views(np.zeros((3, 3)), [], sources, FREE)


def camera_of(folder: Path, name: str) -> Intrinsics:
    matrix = np.loadtxt(folder / name)
    return Intrinsics(matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])


@pytest.mark.slow
def test_colours_of_a_real_kitchen_come_back(test_data: Path) -> None:
    """Colours of every second frame come back on points of other frames and of the fused scan.

    The colour camera is not the depth camera, so a view is the colour camera's, its depth the depth
    image's points drawn into it.
    """
    image = pytest.importorskip("PIL.Image")
    folder = test_data / "rgbd_7scenes_redkitchen"
    if not folder.is_dir():
        pytest.skip("SAS_TEST_DATA does not lead to rgbd_7scenes_redkitchen")
    eye, lens = (
        camera_of(folder, "camera-intrinsics.txt"),
        camera_of(folder, "estimated_color_intrinsics.txt"),
    )
    across = np.loadtxt(folder / "estimated_depth_to_color.txt")
    frames = sorted(path.name[:12] for path in folder.glob("frame-*.pose.txt"))

    def load(frame: str) -> tuple[View, Any, Any, Any]:
        """View of the colour camera, its colours, and the depth image's points with colours."""
        pose = np.loadtxt(folder / f"{frame}.pose.txt")
        colors = np.asarray(image.open(folder / f"{frame}.color.jpg"))
        raw = np.asarray(image.open(folder / f"{frame}.depth.png")).astype(np.int64)
        rows, columns = np.nonzero((raw > 0) & (raw < 65535))
        z = raw[rows, columns] / 1000.0
        own = np.stack(
            [(columns - eye.cx) * z / eye.fx, (rows - eye.cy) * z / eye.fy, z, np.ones_like(z)]
        )
        x, y, z, _ = across @ own
        u = np.rint(lens.fx * x / z + lens.cx).astype(int)
        v = np.rint(lens.fy * y / z + lens.cy).astype(int)
        inside = (u >= 0) & (u < 640) & (v >= 0) & (v < 480)
        u, v, z = u[inside], v[inside], z[inside]
        depth = np.full((480, 640), np.inf)
        np.minimum.at(depth, (v, u), z)
        depth[~np.isfinite(depth)] = 0
        world = (pose @ own)[:3].T[inside]
        front = z <= depth[v, u] * 1.02
        view = View(pose @ np.linalg.inv(across), lens, 640, 480, depth)
        return view, colors, world[front], colors[v, u][front]

    # Points with the colours that odd frames give them; fused is from the even ones.
    odd = [load(frame)[2:] for frame in frames[1:40:8]]
    even = [load(frame)[:2] for frame in frames[0:40:2]]
    scan = read_scan(folder / "fused_cloud.ply")
    assert scan.colors is not None
    places = {
        "odd frames": (
            np.concatenate([world[::40] for world, _ in odd]),
            np.concatenate([colors[::40] for _, colors in odd]),
        ),
        "fused scan": (scan.points, scan.colors),
    }
    colors = FeatureSource(
        "colours", 3, lambda number: PixelFeatures(torch.from_numpy(even[number][1].copy()).float())
    )
    for name, (points, truth) in places.items():
        result = fuse_views(
            points, [view for view, _ in even], [colors], ProjectionSettings(occlusion=0.02)
        )
        found = result.features["colours"]
        wanted = truth[found.mask].astype(np.float64)
        error = np.abs(found.features.astype(np.float64) - wanted).mean()
        spread = np.abs(wanted - np.median(wanted, axis=0)).mean()
        share = found.mask.mean()
        print(f"{name}: {len(points)} points, {share:.3f} seen, {error:.2f} of {spread:.2f}")
        assert share > (0.8 if name == "odd frames" else 0.3)
        assert error < 16 and error < spread / 3


@pytest.mark.gpu
def test_a_gpu_gives_the_same_means() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rng = np.random.default_rng(0)
    views = [make_view(rng, depth=True) for _ in range(6)]
    maps = [PixelFeatures(torch.randn(HEIGHT, WIDTH, 8).half()) for _ in views]
    points, settings = rng.normal(0, 1.5, (4000, 3)), ProjectionSettings(2, 0.5)
    ours, theirs = (
        fuse_views(points, views, [source("a", maps, 8)], settings, device=device)
        for device in ("cpu", "cuda")
    )
    np.testing.assert_array_equal(ours.views["a"], theirs.views["a"])
    np.testing.assert_allclose(
        ours.features["a"].features, theirs.features["a"].features, rtol=2e-3, atol=1e-4
    )
