"""Scenes and frames, their settings, and what all readers share."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("PIL", reason="images are read with pillow, of the extra `training`")
from made_scenes import CAMERA, POSES, SIZE, WALL, check_frame, color_at, make_seven_scenes, render
from PIL import Image

from sas_ros.errors import SasError
from sas_training.fusion.multiview import PixelFeatures
from sas_training.fusion.projection import ProjectionSettings, problem_of
from sas_training.scenes.building import VoxelMeans, cloud_of_frames
from sas_training.scenes.cameras import (
    depth_for_image,
    resized_camera,
    resized_color,
    undistorted,
)
from sas_training.scenes.fusing import FrameSource, color_agreement, fuse_scene, projection_of
from sas_training.scenes.images import decode_color, decode_plane, depth_metres, read_matrix
from sas_training.scenes.kinds import KINDS, kind_of, open_scenes
from sas_training.scenes.reading import Scenes, SceneSettings, numbered, wrong_folder
from sas_training.scenes.scene import Frame, Frames, Scene


def frame(number: int = 0, **changes: object) -> Frame:
    image, depth = render(POSES[number % len(POSES)])
    parts: dict[str, object] = {
        "name": f"frame {number}",
        "image": image,
        "intrinsics": CAMERA,
        "pose": POSES[number % len(POSES)],
        "depth": depth.astype(np.float32),
    }
    return Frame(**{**parts, **changes})  # type: ignore[arg-type]


def frames(count: int = 3, bad: tuple[int, ...] = ()) -> Frames:
    def read(number: int) -> Frame:
        if number in bad:
            raise SasError("its image is damaged or cut off")
        return frame(number)

    return Frames(tuple(f"f{n}" for n in range(count)), read)


# ------------------------------------------------------------------------------------------ frames
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": np.zeros((48, 64), np.uint8)}, "not (H, W, 3) uint8"),
        ({"image": np.zeros((48, 64, 3), np.float32)}, "not (H, W, 3) uint8"),
        ({"depth": np.zeros((24, 32), np.float32)}, "depth and image differ in size: 32 x 24"),
        ({"labels": np.zeros((24, 32), np.int64)}, "labels and image differ"),
        ({"pose": np.full((4, 4), -np.inf)}, "not 4 x 4 finite"),
        ({"pose": np.eye(3)}, "not 4 x 4 finite"),
        ({"pose": np.zeros((4, 4))}, "no rotation"),
        ({"pose": np.diag([0.1, 0.1, 0.1, 1.0])}, "no rotation"),
        ({"pose": np.diag([-1.0, 1, 1, 1])}, "no rotation"),
        ({"pose": np.eye(4) + 0.5 * np.eye(4, k=1) * [0, 1, 0, 0]}, "no rotation"),  # sheared
        ({"intrinsics": 2.5 * CAMERA}, "(78, 61) is far from the middle of the image of 64 x 48"),
        ({"intrinsics": np.diag([0.5, 0.5, 1]) @ CAMERA}, "the intrinsics are for another size"),
        ({"intrinsics": np.zeros((3, 3))}, "not those of a camera"),
        ({"intrinsics": np.full((3, 3), np.nan)}, "not those of a camera"),
    ],
)
def test_a_frame_that_cannot_be_used_says_why(changes: dict[str, object], said: str) -> None:
    with pytest.raises(SasError, match=re.escape(said)):
        frame(**changes)  # type: ignore[arg-type]


def test_a_cropped_image_may_have_its_principal_point_off_the_middle() -> None:
    camera = CAMERA.copy()
    camera[0, 2] = 20
    assert frame(intrinsics=camera).camera.cx == 20


def test_a_frame_is_a_view_of_fusion() -> None:
    view = frame().view
    assert problem_of(view) is None
    assert (view.width, view.height) == SIZE
    k = view.intrinsics
    assert (k.fx, k.fy, k.cx, k.cy) == (55.0, 56.0, 31.0, 24.5)


def test_frames_are_read_when_asked_for() -> None:
    asked: list[int] = []

    def read(number: int) -> Frame:
        asked.append(number)
        return frame(number)

    some = Frames(("a", "b", "c"), read)
    assert len(some) == 3 and asked == []
    some[-1]
    assert asked == [2]
    assert some[1:].names == ("b", "c") and asked == [2]
    some[1:][0]
    assert asked == [2, 1]
    with pytest.raises(IndexError):
        some[3]


@pytest.mark.parametrize(
    ("every", "most", "expected"),
    [(1, None, 10), (3, None, [0, 3, 6, 9]), (1, 3, [0, 4, 9]), (4, 2, [0, 8]), (20, 5, [0])],
)
def test_sampling(every: int, most: int | None, expected: object) -> None:
    names = frames(10).sampled(every, most).names
    wanted = range(10) if expected == 10 else expected
    assert names == tuple(f"f{n}" for n in wanted)  # type: ignore[union-attr]


@pytest.mark.parametrize(("every", "most"), [(0, None), (1, 0), (-1, 4)])
def test_sampling_refuses_numbers_below_one(every: int, most: int | None) -> None:
    with pytest.raises(SasError, match="1 or more"):
        frames().sampled(every, most)


def test_bad_frames_are_skipped_counted_and_told_once() -> None:
    some = frames(6, bad=(1, 4))
    with pytest.warns(RuntimeWarning, match="2 frames were skipped: its image is damaged"):
        good = list(some.usable())
    assert [number for number, _ in good] == [0, 2, 3, 5]
    assert [one.name for _, one in good] == ["frame 0", "frame 2", "frame 3", "frame 5"]
    assert some.skipped.counts == {"its image is damaged or cut off": 2}
    assert some.skipped.reasons.keys() == {"f1", "f4"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # known already, and counted once
        assert len(list(some.usable())) == 4
        assert len(list(some[:1].usable())) == 1
    assert len(some.skipped) == 2
    with pytest.raises(SasError, match="Frame f4 cannot be used: its image is damaged"):
        some[4]


# ------------------------------------------------------------------------------------------ scenes
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"points": np.zeros((0, 3), np.float32)}, "no points"),
        ({"points": np.zeros((5, 2), np.float32)}, "no points"),
        ({"colors": np.zeros((4, 3), np.uint8)}, "5 points, and colors"),
        ({"labels": np.zeros(5, np.int64)}, "need the name of their set"),
        ({"labels": np.zeros(6, np.int64), "label_set": "scannet20"}, "and labels of"),
        ({"faces": np.array([[0, 1, 5]])}, "names a point that is not there"),
    ],
)
def test_a_scene_whose_parts_do_not_fit(changes: dict[str, object], said: str) -> None:
    parts: dict[str, object] = {"name": "room", "points": np.zeros((5, 3), np.float32)}
    with pytest.raises(SasError, match=said):
        Scene(**{**parts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"every": 0},
        {"most": 0},
        {"voxel": 0.0},
        {"voxel": float("nan")},
        {"far": -1.0},
        {"window": -0.1},
        {"size": (1, 5)},
        {"depth_units": 0.0},
        {"nearest": -1},
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, object]) -> None:
    with pytest.raises(SasError):
        SceneSettings(**changes)  # type: ignore[arg-type]


def test_scenes_by_number_slice_and_name() -> None:
    scenes = Scenes(("a", "b", "c"), lambda n: Scene("abc"[n], np.zeros((1, 3), np.float32)))
    assert [scene.name for scene in scenes] == ["a", "b", "c"]
    assert scenes[-1].name == "c" and scenes[1:][0].name == "b"
    assert scenes.named("b").name == "b"
    with pytest.raises(SasError, match="no scene 'd'; there are a, b, c"):
        scenes.named("d")


def test_files_are_ordered_by_number(tmp_path: Path) -> None:
    for name in ("10.jpg", "9.jpg", "100.jpg", "9.png", "x.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in numbered(tmp_path, ".jpg")] == ["9.jpg", "10.jpg", "100.jpg"]


def test_wrong_folders_say_what_was_expected(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"thing{number}").touch()
    said = str(wrong_folder(tmp_path, "Replica", "it should hold rooms"))
    assert "is no Replica folder: it should hold rooms" in said
    assert "thing0" in said and "and 3 more" in said
    assert "is a file" in str(wrong_folder(tmp_path / "thing0", "Replica", "it should"))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_refuses_a_wrong_folder_in_a_sentence(kind: str, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(SasError, match=r"should hold|should be"):
        open_scenes(kind, tmp_path)
    with pytest.raises(SasError, match="is not there"):
        open_scenes(kind, tmp_path / "nowhere")


def test_what_lies_at_a_path_is_seen_by_its_layout(tmp_path: Path) -> None:
    bag = tmp_path / "recording.mcap"
    bag.touch()
    assert kind_of(bag) == "bag"
    scans, frames = tmp_path / "scans", tmp_path / "frames"
    for name in ("color", "depth", "pose", "intrinsic"):
        (scans / "scene0000_00" / name).mkdir(parents=True)
    (scans / "scene0000_00" / "scene0000_00_vh_clean_2.ply").touch()
    assert kind_of(scans) == "scannet"
    frames.mkdir()
    (frames / "frame-000000.pose.txt").touch()
    (frames / "frame-000000.color.png").touch()
    assert kind_of(frames) == "7scenes"
    with pytest.raises(SasError, match="is not there"):
        kind_of(tmp_path / "nowhere")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    with pytest.raises(SasError, match="none of the kinds of scenes: 7scenes, bag"):
        kind_of(tmp_path / "photos")
    (frames / "metadata.yaml").touch()
    with pytest.raises(SasError, match="of the kinds 7scenes or bag"):
        kind_of(frames)


def test_an_unknown_kind() -> None:
    with pytest.raises(SasError, match="no kind of scenes; known are 7scenes, bag"):
        open_scenes("kinect", ".")


# ------------------------------------------------------------------------------------------ images
def test_depths_that_are_none() -> None:
    stored = np.array([[0, 1, 1000, 5000, 65534, 65535]], np.int64)
    assert depth_metres(stored, 1000)[0] == pytest.approx([0, 0.001, 1, 5, 65.534, 0])
    assert depth_metres(stored, 1000, far=4).tolist()[0][2:] == [1, 0, 0, 0]
    floats = np.array([[np.nan, np.inf, -1, 0, 2.5]], np.float32)
    assert depth_metres(floats, 1).tolist() == [[0, 0, 0, 0, 2.5]]


def encoded(image: npt.NDArray[np.generic], form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, form)
    return stream.getvalue()


def test_depth_images_of_8_bits_are_refused() -> None:
    with pytest.raises(SasError, match="its depth image is no image of one channel of 16 bits"):
        decode_plane(encoded(np.zeros((4, 4), np.uint8)), "depth image")
    flat = np.full((4, 4), 7, np.uint8)
    assert decode_plane(encoded(flat), "labels", 8).tolist() == [[7] * 4] * 4
    deep = np.full((4, 5), 40_000, np.uint16)
    assert decode_plane(encoded(deep), "depth image").tolist() == [[40_000] * 5] * 4


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_cut_off_images(form: str) -> None:
    data = encoded(render(POSES[0])[0], form)
    assert decode_color(data).shape == (48, 64, 3)
    for part in (data[:-200], data[:40], data[:3], b""):
        with pytest.raises(SasError, match="its image is damaged or cut off"):
            decode_color(part)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_image_or_a_reason(data: bytes) -> None:
    try:
        assert decode_color(data).ndim == 3
    except SasError as error:
        assert "damaged" in str(error)


@given(st.text(alphabet="0123456789.-+einfna \n\t,#x", max_size=120))
def test_any_text_is_a_matrix_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "matrix.txt"
    path.write_text(text)
    try:
        assert read_matrix(path, 4, "pose").shape == (4, 4)
    except SasError as error:
        assert str(error) == "its pose is not a 4 x 4 matrix"


def test_matrices(tmp_path: Path) -> None:
    path = tmp_path / "k.txt"
    path.write_text("# camera\n1 2, 3 9\n4 5 6 9\n7 8 -inf 9\n0 0 0 1\n")
    assert read_matrix(path, 3, "matrix").tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, -np.inf]]
    with pytest.raises(SasError, match="its pose is missing"):
        read_matrix(tmp_path / "none.txt", 4, "pose")


# ------------------------------------------------------------------------------------------ cameras
@pytest.mark.parametrize("scale", [0.5, 2.0, 0.37])
def test_a_resized_frame_shows_the_same_places(scale: float) -> None:
    image, _ = render(POSES[1])
    size = (round(SIZE[0] * scale), round(SIZE[1] * scale))
    small, camera = resized_color(image, CAMERA, size)
    assert small.shape == (size[1], size[0], 3)
    depth = render(POSES[1], camera, size)[1].astype(np.float32)
    check_frame(Frame("small", small, camera, POSES[1], depth), color=3.0)
    assert resized_camera(CAMERA, SIZE, SIZE) == pytest.approx(CAMERA)


def test_depth_of_a_camera_beside_the_image() -> None:
    other = np.array([[48.0, 0, 30], [0, 48, 22], [0, 0, 1]])
    shift = np.eye(4)
    shift[:3, 3] = (0.05, -0.02, 0.04)
    depth_pose = POSES[1] @ shift  # where the depth camera stands
    depth = render(depth_pose, other, (96, 72))[1].astype(np.float32)
    found = depth_for_image(depth, other, CAMERA, SIZE, shift)
    # The depth image is coarser than exact: half a pixel of a slanted wall.
    exact = render(POSES[1])[1]
    known = found > 0
    assert known.mean() > 0.6
    assert np.abs(found - exact)[known].max() < 0.01


def test_the_nearer_of_two_depths_is_taken() -> None:
    depth = np.zeros((8, 8), np.float32)
    depth[4, 3], depth[4, 4] = 1.0, 2.0
    camera = np.array([[4.0, 0, 3.5], [0, 4, 3.5], [0, 0, 1]])
    shift = np.eye(4)
    shift[0, 3] = 0.25  # moves the near point by a pixel, onto the far one
    found = depth_for_image(depth, camera, camera, (8, 8), shift)
    expected = np.zeros((8, 8))
    for v, u in ((4, 3), (4, 4)):
        z = float(depth[v, u])
        x, y = (u - 3.5) / 4 * z + 0.25, (v - 3.5) / 4 * z
        column, row = round(x / z * 4 + 3.5), round(y / z * 4 + 3.5)
        if expected[row, column] == 0 or z < expected[row, column]:
            expected[row, column] = z
    assert found.tolist() == expected.tolist()
    assert np.count_nonzero(found) == 1 and found.max() == 1
    behind = np.eye(4)
    behind[2, 3] = -3.0
    assert not depth_for_image(depth, camera, camera, (8, 8), behind).any()


def test_other_size_of_the_same_camera() -> None:
    double = resized_camera(CAMERA, SIZE, (128, 96))
    depth = render(POSES[0], double, (128, 96))[1].astype(np.float32)
    found = depth_for_image(depth, double, CAMERA, SIZE)
    assert np.abs(found - render(POSES[0])[1]).max() < 1e-3
    cut = depth_for_image(depth, CAMERA, double, (128, 96))
    assert (cut[:, -1] > 0).all()  # the depth camera sees farther out
    narrow = depth_for_image(depth[:, :40], double, CAMERA, SIZE)
    assert (narrow[:, 30:] == 0).all() and (narrow[:, :18] > 0).all()


def test_lenses_are_straightened() -> None:
    lens = np.array([-0.3, 0.1, 0.01, -0.005, 0.02])
    camera = np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]])
    v, u = np.mgrid[:240, :320].astype(float)
    straight = np.stack([(u * 255 / 319), (v * 255 / 239), np.full_like(u, 100)], -1)
    # What the bent camera sees: for each of its pixels the ray that the lens bends there.
    x = bent_x = (u - 160) / 200
    y = bent_y = (v - 120) / 200
    for _ in range(60):  # the inverse has no closed form
        r = x * x + y * y
        scale = 1 + lens[0] * r + lens[1] * r**2 + lens[4] * r**3
        dx = 2 * lens[2] * x * y + lens[3] * (r + 2 * x * x)
        dy = lens[2] * (r + 2 * y * y) + 2 * lens[3] * x * y
        x, y = (bent_x - dx) / scale, (bent_y - dy) / scale
    taken = np.stack([(x * 200 + 160) * 255 / 319, (y * 200 + 120) * 255 / 239, 100 + 0 * x], -1)
    bent = np.rint(taken.clip(0, 255)).astype(np.uint8)
    found = undistorted(bent, camera, "plumb_bob", lens).astype(float)
    inner = (slice(30, 210), slice(40, 280))
    assert np.abs(found - straight)[inner].max() < 2.5
    assert np.abs(bent.astype(float) - straight)[inner].max() > 5
    assert undistorted(bent, camera, "", np.zeros(5)) is bent
    with pytest.raises(SasError, match="'equidistant', which is not read"):
        undistorted(bent, camera, "equidistant", lens)


# ------------------------------------------------------------------------------------------ clouds
def test_voxel_means_are_those_of_a_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, 0.1, (3000, 3))
    points[7] = np.nan
    colors = rng.integers(0, 256, (3000, 3)).astype(np.uint8)
    cells: dict[tuple[int, ...], list[int]] = {}
    for row, point in enumerate(points):
        if np.isfinite(point).all():
            cells.setdefault(tuple(int(v) for v in np.floor(point / 0.05)), []).append(row)
    monkeypatch.setattr("sas_training.scenes.building._PENDING", 300)
    means = VoxelMeans(0.05)
    for start in range(0, 3000, 250):
        means.add(points[start : start + 250], colors[start : start + 250])
    found, tints = means.means()
    assert len(found) == len(cells)
    for point, tint, (_, rows) in zip(found, tints, sorted(cells.items()), strict=True):
        assert point == pytest.approx(points[rows].mean(0), abs=1e-6)
        assert tint == pytest.approx(colors[rows].astype(float).mean(0), abs=0.501)


def test_points_beyond_the_grid_and_too_many_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SasError, match=r"100000 m away.*units"):
        VoxelMeans(0.02).add(np.array([[1e5, 0, 0]]))
    monkeypatch.setattr("sas_training.scenes.building._MOST_VOXELS", 50)
    means = VoxelMeans(0.02)
    means.add(np.random.default_rng(0).uniform(0, 1, (100, 3)))
    with pytest.raises(SasError, match="over 50 voxels"):
        means.means()


def test_a_cloud_is_built_from_depths_without_the_bad_frames() -> None:
    some = frames(4, bad=(2,))
    with pytest.warns(RuntimeWarning, match="1 frame was skipped"):
        points, colors = cloud_of_frames(some, 0.05)
    assert np.abs(points[:, 2] - WALL).max() < 1e-5
    assert colors is not None
    assert np.abs(colors - color_at(points[:, 0].astype(float), points[:, 1])).max() < 3
    with pytest.raises(SasError, match="No cloud can be built: None of the frames has a depth"):
        cloud_of_frames(Frames(("a",), lambda n: frame(depth=None)))
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(SasError, match="No cloud can be built: 1 frame was skipped"),
    ):
        cloud_of_frames(frames(1, bad=(0,)))


# ------------------------------------------------------------------------------------------ fusion
def scene(bad: tuple[int, ...] = ()) -> Scene:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        points, colors = cloud_of_frames(frames(3), 0.05)
    return Scene("wall", points, frames(4, bad), colors)


def test_fused_colours_are_those_of_the_scan() -> None:
    found = color_agreement(scene(), ProjectionSettings(2, 0.05))
    assert found.mean_error < 1.0
    assert found.seen > 0.8
    assert (found.colors[~found.mask] == 128).all()


def test_wrong_poses_show_in_the_colours() -> None:
    right = scene()
    names = right.frames.names
    shifted = np.array(POSES[0])
    shifted[0, 3] += 0.5
    wrong = Frames(names, lambda n: frame(n, pose=shifted))
    room = Scene("w", right.points, wrong, right.colors)
    assert color_agreement(room, ProjectionSettings(2, None)).mean_error > 5


def test_a_bad_frame_is_counted_on_both_sides_and_read_once() -> None:
    room = scene()
    asked: list[str] = []
    opened: list[int] = []

    def taken(number: int) -> Frame:
        opened.append(number)
        return frames(4, bad=(1,)).read(number)

    room = Scene("wall", room.points, Frames(("f0", "f1", "f2", "f3"), taken), room.colors)

    def read(one: Frame) -> PixelFeatures:
        asked.append(one.name)
        return PixelFeatures(torch.ones((*one.image.shape[:2], 2)))

    sources = [FrameSource(name, 2, read) for name in ("a", "b")]
    fused = fuse_scene(room, sources, ProjectionSettings(2, 0.05))
    assert fused.skipped == {"it cannot be read": 1}
    assert room.frames.skipped.reasons == {"f1": "its image is damaged or cut off"}
    assert opened == [0, 1, 2, 3]
    assert asked == ["frame 0", "frame 0", "frame 2", "frame 2", "frame 3", "frame 3"]
    assert fused.features["a"].scene == "wall"


def test_colours_are_needed_and_must_be_seen() -> None:
    with pytest.raises(SasError, match="have no colours"):
        color_agreement(Scene("x", np.zeros((1, 3), np.float32)), ProjectionSettings())
    away = Scene("x", np.full((1, 3), -5, np.float32), frames(), np.zeros((1, 3), np.uint8))
    with pytest.raises(SasError, match="No frame of x shows any"):
        color_agreement(away, ProjectionSettings())


def test_projection_constants_of_kinds() -> None:
    assert projection_of("matterport-openscene").occlusion == 0.02
    assert projection_of("nuscenes").occlusion is None
    assert projection_of("scannet", "released").occlusion == 0.25
    assert projection_of("bag") == projection_of("7scenes") == projection_of("scannet")


def test_seven_scenes_as_the_smallest_example(tmp_path: Path) -> None:
    """The few lines that the documentation shows."""
    make_seven_scenes(tmp_path)
    room = open_scenes("7scenes", tmp_path)[0]
    assert color_agreement(room, projection_of("7scenes")).mean_error < 1.5
