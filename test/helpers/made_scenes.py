"""A made-up place in the folders of real data sets: a coloured wall at z = 2 m before cameras.

Everything is known in closed form, so that a reader can be checked without using its own code.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Matrix = npt.NDArray[np.float64]
WALL = 2.0
SIZE = (64, 48)
CAMERA = np.array([[55.0, 0.0, 31.0], [0.0, 56.0, 24.5], [0.0, 0.0, 1.0]])


def color_at(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(..., 3) colour of the wall, 0 to 255, smooth enough for JPEG."""
    return np.stack([128 + 40 * x, 128 - 40 * y, 120 + 20 * (x + y)], axis=-1).clip(0, 255)


def pose_at(x: float, y: float, yaw: float = 0.0, z: float = 0.0) -> Matrix:
    """(4, 4) camera-to-world of an optical frame that looks at the wall, turned by `yaw`, rad."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, 0, s, x], [0, 1, 0, y], [-s, 0, c, z], [0, 0, 0, 1.0]])


POSES = [pose_at(0, 0), pose_at(0.3, 0.1, 0.1), pose_at(-0.2, -0.1, -0.15, 0.3)]


def render(
    pose: Matrix, camera: Matrix = CAMERA, size: tuple[int, int] = SIZE
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Image (H, W, 3) and exact depth (H, W) in metres of what a camera sees."""
    v, u = np.mgrid[: size[1], : size[0]].astype(np.float64)
    rays = np.stack(
        [(u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1], np.ones_like(u)], -1
    )
    world = rays @ pose[:3, :3].T
    depth = (WALL - pose[2, 3]) / world[..., 2]
    places = pose[:3, 3] + world * depth[..., None]
    return np.rint(color_at(places[..., 0], places[..., 1])).astype(np.uint8), depth


def wall_points(count: int = 400) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Points (N, 3) of the wall and their colours."""
    side = int(count**0.5)
    x, y = np.meshgrid(np.linspace(-0.8, 0.8, side), np.linspace(-0.6, 0.6, side))
    points = np.stack([x.ravel(), y.ravel(), np.full(x.size, WALL)], axis=1)
    return points.astype(np.float32), np.rint(color_at(x.ravel(), y.ravel())).astype(np.uint8)


def save_image(path: Path, image: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        Image.fromarray(image).save(path, quality=98, subsampling=0)
    else:
        Image.fromarray(image).save(path)


def save_depth(path: Path, metres: npt.NDArray[np.float64], units: float) -> None:
    save_image(path, np.rint(metres * units).astype(np.uint16))


def save_matrix(path: Path, matrix: Matrix) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, matrix)


def square(camera: Matrix) -> Matrix:
    """A camera as the 4 x 4 matrix that ScanNet writes."""
    wide = np.eye(4)
    wide[:3, :3] = camera
    return wide


def save_mesh(
    path: Path, faces: npt.NDArray[np.int64], columns: Mapping[str, Sequence[int]] | None = None
) -> None:
    """The wall's points as a binary PLY mesh, with whole-number columns beside the faces."""
    points, colors = wall_points()
    columns = columns or {}
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    head += [f"property float {axis}" for axis in "xyz"]
    head += [f"property uchar {name}" for name in ("red", "green", "blue")]
    head += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    head += [f"property int {name}" for name in columns] + ["end_header\n"]
    rows = np.zeros(len(points), [("p", "<f4", 3), ("c", "u1", 3)])
    rows["p"], rows["c"] = points, colors
    body = b"".join(
        struct.pack("<B3i", 3, *face) + b"".join(struct.pack("<i", c[n]) for c in columns.values())
        for n, face in enumerate(faces.tolist())
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(head).encode() + rows.tobytes() + body)


def truncate(path: Path, keep: float = 0.4) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def make_seven_scenes(folder: Path, suffix: str = "png") -> Path:
    for number, pose in enumerate(POSES):
        image, depth = render(pose)
        stem = folder / f"frame-{number:06d}"
        save_image(stem.with_suffix(f".color.{suffix}"), image)
        save_depth(stem.with_suffix(".depth.png"), depth, 1000)
        save_matrix(stem.with_suffix(".pose.txt"), pose)
    save_matrix(folder / "camera-intrinsics.txt", CAMERA)
    return folder


def make_scannet(folder: Path) -> Path:
    """One scene; colour images are twice as fine as the depths."""
    scene = folder / "scans" / "scene0042_00"
    fine = np.array([[110.0, 0, 62.5], [0, 112, 49.5], [0, 0, 1]])
    for number, pose in enumerate(POSES):
        save_image(scene / "color" / f"{number * 10}.jpg", render(pose, fine, (128, 96))[0])
        save_depth(scene / "depth" / f"{number * 10}.png", render(pose)[1], 1000)
        save_matrix(scene / "pose" / f"{number * 10}.txt", pose)
    save_matrix(scene / "intrinsic" / "intrinsic_color.txt", square(fine))
    save_matrix(scene / "intrinsic" / "intrinsic_depth.txt", square(CAMERA))
    save_mesh(scene / "scene0042_00_vh_clean_2.ply", np.array([[0, 1, 20], [1, 21, 20]]))
    return scene


def make_openscene(folder: Path, name: str, stem: str, images: str, units: float) -> Path:
    """A data set as OpenScene leaves it, with the camera that its constants say."""
    import torch

    points, colors = wall_points()
    labels = np.arange(len(points), dtype=np.int32) % 3
    labels[0] = 255
    file = folder / f"{name}_3d" / "val" / f"{stem}.pth"
    file.parent.mkdir(parents=True)
    torch.save((points.astype(np.float64), colors / 127.5 - 1, labels), file)
    return folder / f"{name}_2d" / images


def fill_posed(
    folder: Path, camera: Matrix, size: tuple[int, int], units: float, names: Sequence[str]
) -> None:
    for name, pose in zip(names, POSES, strict=True):
        image, depth = render(pose, camera, size)
        save_image(folder / "color" / f"{name}.jpg", image)
        save_depth(folder / "depth" / f"{name.replace('_i', '_d')}.png", depth, units)
        save_matrix(folder / "pose" / f"{name}.txt", pose)


def make_matterport(folder: Path) -> Path:
    """One house with two regions; the cameras are in the box of the first."""
    house = folder / "v1" / "scans" / "house"
    lines = ["dataset matterport", "n_images 3", "depth_directory d", "color_directory c", ""]
    stored = np.array(CAMERA)
    stored[1, 2] = SIZE[1] - 1 - CAMERA[1, 2]
    lines.append("intrinsics_matrix " + " ".join(map(repr, stored.ravel().tolist())))
    for number, pose in enumerate(POSES):
        image, depth = render(pose)
        save_image(house / "undistorted_color_images" / f"abc_i1_{number}.jpg", image)
        save_depth(house / "undistorted_depth_images" / f"abc_d1_{number}.png", depth, 4000)
        turned = pose @ np.diag([1.0, -1, -1, 1])
        words = " ".join(map(repr, turned.ravel().tolist()))
        lines.append(f"scan abc_d1_{number}.png abc_i1_{number}.jpg {words}")
    conf = house / "undistorted_camera_parameters" / "house.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("\n".join(lines))
    return house


def make_replica(folder: Path) -> Path:
    scene = folder / "room0"
    for number, pose in enumerate(POSES):
        image, depth = render(pose)
        save_image(scene / "results" / f"frame{number:06d}.jpg", image)
        save_depth(scene / "results" / f"depth{number:06d}.png", depth, 6553.5)
    np.savetxt(scene / "traj.txt", np.stack(POSES).reshape(-1, 16))
    save_mesh(folder / "room0_mesh.ply", np.array([[0, 1, 20]]))
    camera = {
        "w": SIZE[0], "h": SIZE[1], "fx": CAMERA[0, 0], "fy": CAMERA[1, 1], "cx": CAMERA[0, 2],
        "cy": CAMERA[1, 2], "scale": 6553.5,
    }  # fmt: skip
    (folder / "cam_params.json").write_text(json.dumps({"camera": camera}))
    return scene


def quaternion(pose: Matrix) -> list[float]:
    """w, x, y, z of a rotation, by the trace (none of ours is near half a turn)."""
    r = pose[:3, :3]
    w = np.sqrt(max(0.0, 1 + r[0, 0] + r[1, 1] + r[2, 2])) / 2
    return [
        float(w),
        float((r[2, 1] - r[1, 2]) / (4 * w)),
        float((r[0, 2] - r[2, 0]) / (4 * w)),
        float((r[1, 0] - r[0, 1]) / (4 * w)),
    ]


def write_tables(folder: Path, tables: Mapping[str, list[dict[str, Any]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))


def check_frame(
    frame: Any, tolerance: float = 0.003, color: float = 6.0, least: float = 0.9
) -> None:
    """Back-project a frame in float64: its points lie on the wall and have the wall's colours."""
    v, u = np.nonzero(frame.depth > 0)
    assert len(v) >= least * frame.depth.size
    z = frame.depth[v, u].astype(np.float64)
    k = frame.intrinsics
    camera = np.stack([(u - k[0, 2]) / k[0, 0] * z, (v - k[1, 2]) / k[1, 1] * z, z], axis=1)
    world = camera @ frame.pose[:3, :3].T + frame.pose[:3, 3]
    assert np.abs(world[:, 2] - WALL).max() < tolerance
    error = np.abs(frame.image[v, u] - color_at(world[:, 0], world[:, 1]))
    assert error.max() < color, error.max()
