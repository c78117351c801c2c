"""Replica as rendered along trajectories (the folders of NICE-SLAM, which OpenScene starts from).

    FOLDER/<scene>/results/frameNNNNNN.jpg     RGB, 1200 x 680
    FOLDER/<scene>/results/depthNNNNNN.png     16 bit, 1/6553.5 m; 0 = nothing
    FOLDER/<scene>/traj.txt                    a line of 16 numbers per frame, camera-to-world
    FOLDER/<scene>_mesh.ply                    mesh with colours
    FOLDER/cam_params.json                     w, h, fx, fy, cx, cy, scale; may be missing

World: metres, z up; cameras are optical frames. Every 10th frame is used, unless another number is
given. The number of a frame says which line of traj.txt is its pose, from 0 on. There are no
labels. Faces are left out where they are not triangles.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from sas_ros.errors import SasError
from sas_ros.scans import read_scan
from sas_training.fusion.constants import dataset_constants
from sas_training.scenes.cameras import Matrix, resized_camera, resized_color, resized_plane
from sas_training.scenes.images import read_color, read_depth
from sas_training.scenes.reading import Scenes, SceneSettings, numbered, wrong_folder
from sas_training.scenes.scene import Z_UP, Frame, Frames, Scene
from sas_training.superpoints.meshes import read_faces

_EXPECTED = (
    "it should hold folders such as room0 with results/frameNNNNNN.jpg, results/depthNNNNNN.png "
    "and traj.txt, and beside each its room0_mesh.ply"
)
_EVERY = 10


def open_replica(path: Path, settings: SceneSettings) -> Scenes:
    """The scenes of a folder; raises `SasError` where there is none."""
    path = Path(path)
    folders = [file.parent.absolute() for file in sorted(path.glob("*/traj.txt"))]
    if not folders and (path / "traj.txt").is_file():
        folders = [path.absolute()]
    if not folders:
        raise wrong_folder(path, "Replica", _EXPECTED)
    return Scenes(tuple(f.name for f in folders), lambda n: _scene(folders[n], settings))


def _scene(folder: Path, settings: SceneSettings) -> Scene:
    mesh = folder.with_name(f"{folder.name}_mesh.ply")
    cloud = read_scan(mesh)
    camera, size, units = _camera(folder.parent / "cam_params.json")
    try:
        poses = np.loadtxt(folder / "traj.txt", ndmin=2).reshape(-1, 4, 4)
    except (OSError, ValueError) as error:
        raise SasError(
            f"{folder / 'traj.txt'} should have 16 numbers in each line ({error})."
        ) from error
    images = numbered(folder / "results", ".jpg")
    rows_of = [_number(image) for image in images]
    if rows_of and max(rows_of) >= len(poses):
        raise SasError(
            f"{folder} has an image numbered {max(rows_of)}, but {len(poses)} poses in traj.txt; "
            f"they are of the images 0 to {len(poses) - 1}."
        )

    def frame(number: int) -> Frame:
        image = read_color(images[number])
        rows, columns = image.shape[:2]
        path = images[number].with_name(images[number].stem.replace("frame", "depth") + ".png")
        depth = read_depth(path, settings.depth_units or units, settings.far)
        wanted = settings.size or (columns, rows)
        own = resized_camera(camera, size, (columns, rows))
        image, own = resized_color(image, own, wanted)
        pose = poses[rows_of[number]]
        return Frame(images[number].stem, image, own, pose, resized_plane(depth, wanted))

    try:
        faces = read_faces(mesh)
    except SasError:
        faces = None
    frames = Frames(tuple(image.stem for image in images), frame)
    return Scene(
        name=folder.name,
        points=cloud.points,
        frames=settings.sampled(frames, _EVERY),
        colors=cloud.colors,
        faces=faces,
        up=Z_UP,
    )


def _number(image: Path) -> int:
    """Line of traj.txt for frameNNNNNN.jpg, from 0 on."""
    digits = re.search(r"\d+$", image.stem)
    if digits is None:
        raise SasError(f"{image} has no number that says which pose of traj.txt is its own.")
    return int(digits[0])


def _camera(path: Path) -> tuple[Matrix, tuple[int, int], float]:
    """Camera (3, 3), the image size it belongs to, and depth values in one metre."""
    if not path.is_file():
        usual = dataset_constants("replica")
        k = usual.intrinsics
        assert k is not None and usual.depth_units is not None
        matrix = np.array([[k.fx, 0.0, k.cx], [0.0, k.fy, k.cy], [0.0, 0.0, 1.0]])
        return matrix, usual.reference, usual.depth_units
    try:
        said = json.loads(path.read_text(encoding="utf-8"))["camera"]
        matrix = np.array(
            [[said["fx"], 0.0, said["cx"]], [0.0, said["fy"], said["cy"]], [0.0, 0.0, 1.0]]
        )
        return matrix, (int(said["w"]), int(said["h"])), float(said["scale"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SasError(
            f"{path} should hold w, h, fx, fy, cx, cy, scale of `camera` ({error})."
        ) from error
