"""Pictures: what is drawn where, that it is always the same, and the PNG files."""

from __future__ import annotations

import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sas_ros.errors import SasError
from sas_ros.pictures import Box, encode_png, label_colors, render_cloud, write_png
from sas_ros.pictures.camera import camera_axes, frame
from sas_ros.pictures.drawing import draw_line
from sas_ros.pictures.font import text_alpha
from sas_ros.pictures.shading import eye_dome
from sas_ros.pictures.splat import close_holes, splat
from sas_ros.scans import read_scan

SIZE = (240, 180)
UP = [0.0, 0.0, 1.0]
Image = npt.NDArray[np.uint8]


def decode_png(data: bytes) -> Image:
    """A decoder for what we write: 8-bit RGB, filter 1 or 0."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, body, size = 8, b"", (0, 0)
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        name, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        (check,) = struct.unpack(">I", data[place + 8 + length : place + 12 + length])
        assert check == zlib.crc32(name + content)
        if name == b"IHDR":
            size = struct.unpack(">II", content[:8])
            assert content[8:] == bytes([8, 2, 0, 0, 0])
        elif name == b"IDAT":
            body += content
        place += 12 + length
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(size[1], 1 + 3 * size[0])
    assert (rows[:, 0] == 1).all()
    pixels = rows[:, 1:].reshape(size[1], size[0], 3)
    return np.cumsum(pixels, axis=1, dtype=np.uint8)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_png_round_trip(image: Image) -> None:
    assert np.array_equal(decode_png(encode_png(image)), image)


def test_png_as_others_read_it(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    write_png(tmp_path / "a.png", image)
    assert np.array_equal(np.array(pillow.open(tmp_path / "a.png")), image)
    assert np.array_equal(np.array(pillow.open(io.BytesIO(encode_png(image)))), image)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_no_picture_is_refused(image: Any) -> None:
    with pytest.raises(SasError, match="A picture must be"):
        encode_png(image)


def room(count: int = 20_000) -> tuple[npt.NDArray[np.float32], Image]:
    """A 4 x 3 x 2.5 m room, brown floor, grey walls and ceiling, and a red box on the floor."""
    rng = np.random.default_rng(0)
    shell = rng.uniform(0, 1, (count, 3)) * [4, 3, 2.5]
    face = rng.integers(0, 6, count)
    rows = np.arange(count)
    shell[rows, face % 3] = np.where(face < 3, 0.0, np.array([4, 3, 2.5])[face % 3])
    colors = np.full((count, 3), 150, np.uint8)
    colors[face == 2] = [150, 100, 50]
    box = rng.uniform(-0.5, 0.5, (count // 4, 3))
    side = rng.integers(0, 6, len(box))
    box[np.arange(len(box)), side % 3] = np.where(side < 3, -0.5, 0.5)
    points = np.concatenate([shell - [2, 1.5, 0], box * 0.8 + [0.5, 0.2, 0.4]])
    red = np.full((len(box), 3), [220, 30, 30], np.uint8)
    return points.astype(np.float32), np.concatenate([colors, red])


def reddish(image: Image) -> npt.NDArray[np.bool_]:
    pixels = image.astype(int)
    return (pixels[..., 0] > 90) & (pixels[..., 0] > 2 * pixels[..., 1] + 30)


def test_the_inside_of_a_room_is_seen() -> None:
    points, colors = room()
    image = render_cloud(points, colors, up=UP, size=SIZE, view="room")
    assert image.shape == (180, 240, 3) and image.dtype == np.uint8
    assert reddish(image).sum() > 300, "the box is hidden: ceiling or near walls are in the way"
    browns = (image[..., 0].astype(int) - image[..., 2] > 40) & ~reddish(image)
    assert browns.sum() > 1500, "the floor is hidden"


def test_pictures_repeat_to_the_bit_and_do_not_touch_their_input() -> None:
    points, colors = room()
    before = (points.copy(), colors.copy())
    first = render_cloud(points, colors, up=UP, size=SIZE)
    second = render_cloud(points, colors, up=UP, size=SIZE)
    assert np.array_equal(first, second)
    assert np.array_equal(points, before[0]) and np.array_equal(colors, before[1])


def test_the_frame_of_the_points_does_not_matter() -> None:
    points, colors = room()
    image = render_cloud(points, colors, up=UP, size=SIZE, view="room")
    optical = points[:, [1, 2, 0]] * np.array([-1, -1, 1], np.float32)
    turned = render_cloud(optical, colors, up=[0, -1, 0], size=SIZE, view="room")
    assert np.array_equal(image, turned)


def test_a_view_from_one_place_is_shown_from_there() -> None:
    points, colors = room()
    sensor = np.array([-1.9, 0.0, 1.4], np.float32)
    ahead = points[points[:, 0] > 0] - sensor
    chosen = render_cloud(ahead, colors[points[:, 0] > 0], up=UP, size=SIZE)
    forced = render_cloud(ahead, colors[points[:, 0] > 0], up=UP, size=SIZE, view="sensor")
    assert np.array_equal(chosen, forced)


def test_invalid_points_are_left_out() -> None:
    points, colors = room()
    image = render_cloud(points, colors, up=UP, size=SIZE)
    bad = np.concatenate([points, [[np.nan, 0, 0], [np.inf, 0, 0]]]).astype(np.float32)
    more = np.concatenate([colors, np.zeros((2, 3), np.uint8)])
    assert np.array_equal(render_cloud(bad, more, up=UP, size=SIZE), image)


@pytest.mark.parametrize("count", [1, 2, 3, 50])
@pytest.mark.parametrize("view", ["auto", "room", "sensor", "top"])
@pytest.mark.parametrize("shape", ["point", "line", "ball", "far"])
def test_odd_clouds_are_drawn(count: int, view: str, shape: str) -> None:
    rng = np.random.default_rng(count)
    points = {
        "point": np.ones((count, 3)),
        "line": rng.normal(size=(count, 1)) * [[1, 2, 3]],
        "ball": rng.normal(size=(count, 3)),
        "far": rng.normal(size=(count, 3)) + np.array([1e5, 2e5, 0]),
    }[shape]
    image = render_cloud(points, None, up=UP, size=(64, 48), view=view)
    assert image.shape == (48, 64, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 1


def test_what_cannot_be_drawn_is_refused() -> None:
    points, colors = room(100)
    with pytest.raises(SasError, match="finite points"):
        render_cloud(points * np.nan, colors, up=UP)
    with pytest.raises(SasError, match="finite points"):
        render_cloud(points[:0], None, up=UP)
    with pytest.raises(SasError, match="colours"):
        render_cloud(points, colors[1:], up=UP)
    with pytest.raises(SasError, match="'inside'"):
        render_cloud(points, colors, up=UP, view="inside")
    with pytest.raises(SasError, match="'pink'"):
        render_cloud(points, colors, up=UP, background="pink")
    with pytest.raises(SasError, match="up direction"):
        render_cloud(points, colors, up=[0, 0, 0])


def changed(first: Image, second: Image) -> npt.NDArray[np.bool_]:
    return (np.abs(first.astype(int) - second).max(axis=2) > 25).astype(bool)


def test_boxes_and_labels_are_over_the_points() -> None:
    points, colors = room()
    plain = render_cloud(points, colors, up=UP, size=SIZE, view="room")
    around = Box(np.array([0.5, 0.2, 0.4]), np.eye(3), np.array([0.9] * 3), (20, 60, 255))
    outlined = render_cloud(points, colors, up=UP, size=SIZE, view="room", boxes=[around])
    edges = changed(plain, outlined)
    assert 100 < edges.sum() < 4000
    rows, columns = np.nonzero(reddish(plain))
    box_rows, box_columns = np.nonzero(edges)
    assert abs(np.median(rows) - (box_rows.min() + box_rows.max()) / 2) < 12
    assert abs(np.median(columns) - (box_columns.min() + box_columns.max()) / 2) < 12
    named = Box(around.center, around.rotation, around.size, around.color, "chair 0.93")
    labelled = render_cloud(points, colors, up=UP, size=SIZE, view="room", boxes=[named, named])
    assert changed(outlined, labelled).sum() > 200


def test_boxes_behind_the_eye_are_left_out() -> None:
    points, colors = room()
    behind = Box(np.array([0.0, 0.0, 60.0]), np.eye(3), np.array([200.0] * 3), label="sky")
    plain = render_cloud(points, colors, up=UP, size=SIZE, view="room")
    image = render_cloud(points, colors, up=UP, size=SIZE, view="room", boxes=[behind])
    assert np.array_equal(plain, image)


@pytest.mark.parametrize("background", ["light", "dark"])
def test_a_legend_is_beside_the_points(background: str) -> None:
    points, colors = room()
    entries: list[tuple[str, tuple[int, int, int]]] = [
        ("chair", (10, 200, 30)),
        ("sofa", (9, 9, 240)),
    ]
    image = render_cloud(points, colors, up=UP, size=SIZE, legend=entries, background=background)
    left = image[:60, :90].astype(int)
    for _, color in entries:
        assert (np.abs(left - color).max(axis=2) < 8).sum() > 20
    assert reddish(image)[:, :60].sum() == 0


def test_corners_of_a_turned_box() -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    corners = Box(np.array([10.0, 20, 30]), turn, np.array([4.0, 2, 6])).corners()
    assert np.ptp(corners, axis=0).tolist() == [2, 4, 6]
    assert corners.mean(axis=0).tolist() == [10, 20, 30]


# Parts


def test_the_camera_shows_all_points_in_its_area() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(500, 3)) * [3, 2, 1] + [5, 0, 2]
    area = np.array([60.0, 10.0, 230.0, 170.0])
    for azimuth in np.linspace(0, 6, 7):
        axes = camera_axes(azimuth, 0.8)
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(axes) == pytest.approx(1)
        camera = frame(points, axes, SIZE, area)
        pixels, depth = camera.project(points)
        assert depth.min() > 0
        assert (pixels.min(axis=0) > area[:2] - 1).all() and (
            pixels.max(axis=0) < area[2:] + 1
        ).all()
        used = np.ptp(pixels, axis=0) / (area[2:] - area[:2])
        assert used.max() > 0.9, "the points could be larger"


def test_near_points_cover_far_ones() -> None:
    pixels = np.array([[30.5, 30.5], [31.5, 30.5], [10.5, 40.5]])
    shown = splat(pixels, np.array([5.0, 2.0, -1.0]), np.array([4.0, 2.0, 4.0]), 100.0, (64, 64))
    assert shown[30, 30] == 1 and shown[30, 31] == 1, "the near dot is in front"
    assert shown[30, 27] == 0, "the far dot is larger"
    assert set(np.unique(shown)) == {-1, 0, 1}, "what is behind the eye is not drawn"


def test_dots_of_one_surface_meet_half_way() -> None:
    pixels = np.array([[20.5, 30.5], [28.5, 30.5]])
    shown = splat(pixels, np.array([2.0, 2.01]), np.array([9.0, 9.0]), 400.0, (64, 64))
    assert shown[30, 18:23].tolist() == [0] * 5 and shown[30, 27:30].tolist() == [1] * 3


def test_holes_are_closed_but_not_gaps() -> None:
    shown = np.full((60, 60), -1, np.int64)
    shown[10:50, 10:50] = 7
    shown[28:31, 28:31] = -1
    shown[10:50, 38:48] = -1
    closed = close_holes(shown, 3)
    assert (closed[28:31, 28:31] == 7).all()
    assert (closed[20:40, 41:45] == -1).all()
    assert (closed[:10] == -1).all()


def test_edges_in_depth_are_dark() -> None:
    depth = np.full((40, 40), 3.0, np.float32)
    depth[:, 20:] = 2.0
    shade = eye_dome(depth, 0.001)
    assert shade[20, 19] < 0.9 < shade[20, 21], "the far side of a step is dark"
    assert shade[20, 5] == pytest.approx(1.0) and shade[20, 35] == pytest.approx(1.0)
    assert (eye_dome(np.full((5, 5), np.inf, np.float32), 0.0) == 1).all()


def test_every_printable_character_has_a_glyph() -> None:
    question = text_alpha("?", 14)
    for code in range(33, 127):
        alpha = text_alpha(chr(code), 14)
        assert alpha.max() > 0.8, chr(code)
        assert chr(code) == "?" or not np.array_equal(alpha, question), chr(code)
    assert not text_alpha(" ", 14).any()
    assert np.array_equal(text_alpha("é", 14), text_alpha("e", 14))
    assert np.array_equal(text_alpha("椅", 14), question)
    assert text_alpha("", 14).shape[1] == 1


def test_glyphs_differ() -> None:
    seen: dict[bytes, str] = {}
    for code in range(33, 127):
        alpha = text_alpha(chr(code), 14)
        key = alpha.tobytes()
        assert key not in seen, f"{chr(code)} looks like {seen.get(key)}"
        seen[key] = chr(code)


def test_lines_are_clipped_to_the_picture() -> None:
    image = np.zeros((20, 20, 3), np.float32)
    draw_line(image, np.array([-50.0, -50.0]), np.array([80.0, 80.0]), 2.0, (255, 255, 255), 1.0)
    assert image[10, 10, 0] > 200 and image[0, 19, 0] == 0
    draw_line(image, np.array([500.0, 0.0]), np.array([600.0, 9.0]), 2.0, (255, 0, 0), 1.0)


def test_label_colors_are_distinct_and_stable() -> None:
    names = ["wall", "chair", "floor", "robot arm", "mug", "cable", "door"]
    colors = label_colors(names)
    assert colors.shape == (7, 3) and colors.dtype == np.uint8
    assert np.array_equal(colors, label_colors(names))
    gaps = np.linalg.norm(colors[:, None].astype(float) - colors[None], axis=2)
    assert gaps[~np.eye(7, dtype=bool)].min() > 50
    assert np.array_equal(label_colors(["chair"])[0], colors[1])
    assert label_colors([]).shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "up"),
    [
        ("scannet_rooms/scene0006_00_vert.npy", UP),
        ("rgbd_7scenes_redkitchen/fused_cloud.ply", [0.01, -0.89, -0.45]),
        ("lidar_room_scan/room_scan1.pcd", UP),
        ("kinect_pcd_organised/region_growing_rgb_tutorial.pcd", [0, -0.83, -0.56]),
    ],
)
def test_real_scans_fill_the_picture(test_data: Path, name: str, up: list[float]) -> None:
    cloud = read_scan(test_data / name)
    image = render_cloud(cloud.points, cloud.colors, up=up, size=(480, 360))
    pale = (image.min(axis=2) > 222) & (np.ptp(image.astype(int), axis=2) < 12)
    assert 0.2 < 1 - pale.mean() < 0.95
    assert math.isfinite(image.std()) and image.std() > 30
