"""The simulated depth camera: what it sees, what it cannot see, and what it writes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sas_ros.errors import SasError
from sas_training.evaluation.labels import SCANNET20
from sas_training.scenes.procedural import (
    LabelledScan,
    Room,
    RoomObject,
    RoomRays,
    make_room,
    raster,
    render_view,
    scan_room,
    view_room,
)
from sas_training.scenes.procedural.dataset import read_scan, room_path, write_dataset
from sas_training.scenes.procedural.model import FLOOR, TABLE, WALL
from sas_training.scenes.procedural.primitives import Array, box, merge
from sas_training.scenes.procedural.rays import _open3d_problem, pose_at
from sas_training.scenes.procedural.shading import Shading


def _box_room() -> Room:
    """A 4 m x 4 m room with a table in its middle and a box behind a wall."""
    walls = [
        box(4.4, 0.2, 2.5, y=s * 2.1) if axis else box(0.2, 4.4, 2.5, x=s * 2.1)
        for axis in (0, 1)
        for s in (-1, 1)
    ]
    things = [RoomObject(mesh, WALL, 0, "wall", (200, 200, 200)) for mesh in walls]
    things.append(RoomObject(box(4, 4, 0.1, z=-0.1), FLOOR, 0, "floor", (90, 90, 90)))
    things.append(RoomObject(box(1.0, 1.0, 0.75), TABLE, 1, "table", (150, 90, 40)))
    things.append(RoomObject(box(1.0, 1.0, 1.0, x=4.0), TABLE, 2, "hidden table", (1, 2, 3)))
    blocked = np.array([[-0.5, -0.5, 0.5, 0.5, 0.0, 0.75]], np.float32)
    return Room("test", tuple(things), ((-2.0, -2.0, 2.0, 2.0),), blocked, 2.5)


ENGINES = ["numpy", "open3d"]


def _mesh(room: Room) -> tuple[Array, Array]:
    whole = merge(thing.mesh for thing in room.objects)
    return whole.vertices, whole.triangles


def _rays(room: Room, engine: str) -> RoomRays:
    if engine == "open3d":
        try:
            return RoomRays(room, engine)
        except SasError as error:
            pytest.skip(str(error))
    return RoomRays(room, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_frame_has_the_right_depth(engine: str) -> None:
    room = _box_room()
    pose = pose_at(np.array([-1.5, 0.0, 0.5]), 0.0, 0.0)
    depth, labels, instances = render_view(room, pose, 64, 48, rays=_rays(room, engine))
    assert depth.shape == labels.shape == instances.shape == (48, 64)
    assert depth[24, 32] == pytest.approx(1.0, abs=1e-3)  # the near side of the table
    assert labels[24, 32] == TABLE and instances[24, 32] == 1
    assert labels[0, 0] == WALL and instances[0, 0] == 0


def test_loops_of_numba_and_numpy_draw_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    if raster.compiled() is None:
        pytest.skip("numba is not installed")
    for seed in range(3):
        room = make_room(np.random.default_rng(seed))
        x0, y0, x1, y1 = room.areas[0]
        low = pose_at(np.array([(x0 + x1) / 2, (y0 + y1) / 2, 0.3]), 1.0 + seed, -0.2, 0.3)
        far = pose_at(np.array([x0 - 4.0, y0 - 5.0, 6.0]), 0.9, -0.6)
        directions = np.random.default_rng(seed).normal(size=(400, 3)).astype(np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        answers = []
        for numba in (True, False):
            if not numba:
                monkeypatch.setattr(raster, "compiled", lambda: None)
            engine = raster.Raster(*_mesh(room))
            drawn = engine.first(np.stack([low, far]), 97, 61, 1.2)
            answers.append([*drawn, *engine.along(low[:3, 3], directions)])
            monkeypatch.undo()
        for ours, theirs in zip(*answers, strict=True):
            assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
        assert 0 < np.count_nonzero(answers[0][1] >= 0) < 2 * 97 * 61
        assert np.count_nonzero(answers[0][3] >= 0) > 300


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (ModuleNotFoundError("No module named 'open3d'", name="open3d"), False),
        (ImportError("libusb-1.0.so.0: cannot open shared object file"), True),
    ],
)
def test_open3d_that_does_not_load_is_told_once(
    missing: ImportError,
    said: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Refusing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "open3d":
                raise missing

    for name in [name for name in sys.modules if name.split(".")[0] == "open3d"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    _open3d_problem.cache_clear()
    try:
        for _ in range(2):
            RoomRays(_box_room())
        with pytest.raises(SasError, match="open3d does not load here"):
            RoomRays(_box_room(), "open3d")
    finally:
        _open3d_problem.cache_clear()
    heard = capsys.readouterr().err
    assert heard.count("open3d is installed, but does not load (libusb") == int(said)
    assert bool(heard) == said


def test_both_engines_see_the_same() -> None:
    room = make_room(np.random.default_rng(4), "bathroom")
    frames = []
    for engine in ENGINES:
        pose = pose_at(np.array([0.0, 0.0, 1.5]), 0.7, -0.5)
        frames.append(render_view(room, pose, 80, 60, rays=_rays(room, engine)))
    assert np.mean(frames[0][1] == frames[1][1]) > 0.98
    assert float(np.nanmedian(np.abs(frames[0][0] - frames[1][0]))) < 1e-3


@pytest.mark.parametrize("engine", ENGINES)
def test_scan_shows_surfaces_and_nothing_hidden(engine: str) -> None:
    room = _box_room()
    scan = scan_room(room, np.random.default_rng(0), rays=_rays(room, engine))
    assert len(scan) > 5_000
    assert not np.any(scan.instances == 2)  # behind the wall
    # Nothing beyond the inner faces of the walls, but for noise and drift.
    assert np.mean(np.abs(scan.points[:, :2]).max(1) > 2.12) < 0.01
    # The floor is near zero and the table keeps its height.
    assert abs(float(np.median(scan.points[scan.labels == FLOOR, 2]))) < 0.12
    table = scan.points[scan.labels == TABLE]
    assert float(np.percentile(table[:, 2], 95)) == pytest.approx(0.75, abs=0.14)
    inside = (np.abs(table[:, :2]).max(1) < 0.4) & (table[:, 2] < 0.55)
    assert inside.mean() < 0.02  # no inner or lower faces


def _check(scan: LabelledScan, most: int) -> None:
    assert 0 < len(scan) <= most
    assert scan.points.dtype == np.float32 and np.isfinite(scan.points).all()
    assert scan.labels.dtype == np.int64 and scan.instances.dtype == np.int32
    assert scan.colors.dtype == np.uint8 and scan.colors.shape == scan.points.shape
    assert set(np.unique(scan.labels)) <= {*SCANNET20.ids, SCANNET20.ignore_id}
    assert 0 <= scan.instances.min() and scan.instances.max() < len(scan.names)


def test_scans_of_a_furnished_room_are_valid_and_repeatable() -> None:
    room = make_room(np.random.default_rng(8), "office")
    rays = RoomRays(room)
    scans = [scan_room(room, np.random.default_rng(1), rays=rays, most=20_000) for _ in range(2)]
    _check(scans[0], 20_000)
    assert scans[0].points.tobytes() == scans[1].points.tobytes()
    assert scans[0].labels.tobytes() == scans[1].labels.tobytes()
    view = view_room(room, np.random.default_rng(2), rays=rays)
    _check(view, 20_000)


def test_colours_come_from_materials_and_light() -> None:
    room = make_room(np.random.default_rng(8), "bedroom")
    rays = RoomRays(room)
    shading = Shading(rays, np.random.default_rng(3))
    scans = [
        scan_room(room, np.random.default_rng(1), rays=rays, shading=shading) for _ in range(2)
    ]
    assert scans[0].colors.tobytes() == scans[1].colors.tobytes()
    colors, scan = scans[0].colors.astype(float), scans[0]
    assert 30 < colors.mean() < 225 and colors.std() > 15
    # One thing is not one colour: light falls off and textures vary; another room has others.
    wall = colors[scan.labels == WALL]
    assert wall.std(0).min() > 4
    repainted = Shading(rays, np.random.default_rng(4))
    other = scan_room(room, np.random.default_rng(1), rays=rays, shading=repainted)
    assert np.array_equal(other.labels, scan.labels) and np.array_equal(other.points, scan.points)
    assert not np.array_equal(other.colors, scan.colors)


def test_fused_colours_have_less_grain_than_those_of_a_view() -> None:
    rays = RoomRays(_box_room(), "numpy")
    shading = Shading(rays, np.random.default_rng(0))
    pose = pose_at(np.array([-1.5, 0.0, 1.5]), 0.0, -0.4)
    hits = rays.look(pose[None], 96, 72, 1.0)
    rows = np.flatnonzero(hits.thing >= 0)
    image = np.flatnonzero(np.diff(hits.thing[rows]) == 0)

    def grain(colors: np.ndarray) -> float:
        steps = np.diff(colors.astype(float), axis=0)[image]
        return float(np.median(np.abs(steps)))

    fused = [shading.fused_colors(hits, rows, np.random.default_rng(k)) for k in range(6)]
    single = [shading.view_colors(hits, rows, np.random.default_rng(k)) for k in range(6)]
    assert np.mean([grain(c) for c in fused]) < 0.8 * np.mean([grain(c) for c in single])


def test_dataset_is_resumable_and_independent_of_the_workers(tmp_path: Path) -> None:
    assert write_dataset(tmp_path / "a", 2, seed=11, workers=1) == 2
    assert write_dataset(tmp_path / "b", 1, seed=11, workers=1) == 1
    assert write_dataset(tmp_path / "b", 2, seed=11, workers=2) == 1
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.npz"))
    assert len(files) >= 4
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert write_dataset(tmp_path / "a", 2, seed=11, workers=1) == 0
    room_path(tmp_path / "a", 1).unlink()
    assert write_dataset(tmp_path / "a", 2, seed=11, workers=1) == 1
    _check(read_scan(room_path(tmp_path / "a", 1)), 60_000)


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SasError, match="1 or more"):
        write_dataset(tmp_path, 0, seed=0)
    with pytest.raises(SasError, match="no ray engine"):
        RoomRays(_box_room(), "magic")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"nothing")
    with pytest.raises(SasError, match="no scan of a generated room"):
        read_scan(broken)
