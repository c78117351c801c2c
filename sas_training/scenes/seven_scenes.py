"""7-Scenes and 3DMatch folders: numbered colour, depth and pose files.

    FOLDER/[seq-NN/]frame-NNNNNN.color.png (or .jpg)   RGB
    FOLDER/[seq-NN/]frame-NNNNNN.depth.png             16 bit, mm; 0 and 65535 = no reading
    FOLDER/[seq-NN/]frame-NNNNNN.pose.txt              4 x 4 camera-to-world, m, optical frame
    FOLDER/[seq-NN/]frame-NNNNNN.segm.png              labels of pixels, where there are any
    FOLDER/camera-intrinsics.txt                       3 x 3; where there is none, that of 7-Scenes
                                                       for 640 x 480: f 585, c 320, 240
    FOLDER/color-intrinsics.txt, depth-to-color.txt    where colour and depth are two cameras

The last two may also begin with `estimated_` or be written with `_`. With them the pose is the
depth camera's; frames get that of the colour camera, and depth as it would have measured it.
Without, colour and depth are taken as one camera (3DMatch says they are; 7-Scenes is 10 to 15
pixels off). The world is that of the first camera or of the recorder: up is not known. A scene is a
folder with frames; several below one folder are several scenes. The cloud is built from the depths.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.scenes.building import cloud_of_frames
from sas_training.scenes.cameras import (
    Matrix,
    depth_for_image,
    fitting,
    resized_color,
    resized_plane,
)
from sas_training.scenes.images import (
    read_color,
    read_depth,
    read_intrinsics,
    read_matrix,
    read_plane,
)
from sas_training.scenes.reading import Scenes, SceneSettings, numbered, wrong_folder
from sas_training.scenes.scene import Frame, Frames, Scene

_EXPECTED = (
    "it should hold files frame-NNNNNN.color.png (or .jpg), .depth.png and .pose.txt, or folders "
    "such as seq-01 that do"
)
_UNITS = 1000.0
_KINECT = np.array([[585.0, 0.0, 320.0], [0.0, 585.0, 240.0], [0.0, 0.0, 1.0]])
_KINECT_SIZE = (640, 480)
_COLORS = (".color.png", ".color.jpg", ".color.jpeg")


def open_seven_scenes(path: Path, settings: SceneSettings) -> Scenes:
    """The scenes of a folder; raises `SasError` where there is none."""
    path = Path(path)
    folders = sorted({image.parent for image in path.rglob("frame-*.color.*")})
    if not folders:
        raise wrong_folder(path, "7-Scenes", _EXPECTED)
    base = path.absolute().name
    names = tuple("_".join((base, *folder.relative_to(path).parts)) for folder in folders)
    return Scenes(names, lambda n: _scene(names[n], folders[n], path, settings))


def _scene(name: str, folder: Path, top: Path, settings: SceneSettings) -> Scene:
    images = numbered(folder, *_COLORS)
    rig = _Rig(folder, top)
    stems = tuple(image.name.split(".")[0] for image in images)
    frames = Frames(stems, lambda n: _frame(stems[n], images[n], rig, settings))
    frames = settings.sampled(frames)
    points, colors = cloud_of_frames(frames, settings.voxel, settings.scan)
    labelled = any(folder.glob("frame-*.segm.png"))
    return Scene(name, points, frames, colors, label_set="objects" if labelled else "")


class _Rig:
    """The camera or cameras of a folder, looked for in it and above it up to `top`."""

    def __init__(self, folder: Path, top: Path) -> None:
        self._places = [folder, *(p for p in folder.parents if p == top or top in p.parents)]
        color = self._find("color-intrinsics")
        depth = self._find("camera-intrinsics") or self._find("depth-intrinsics")
        shift = self._find("depth-to-color")
        self._color_file, self._depth_file = color or depth, depth or color
        self.color = _read(self._color_file)
        self.depth = _read(self._depth_file)
        self.depth_to_color: Matrix | None = None
        if shift is not None:
            self.depth_to_color = read_matrix(shift, 4, f"matrix {shift.name}")

    def check(self, color: tuple[int, int], depth: tuple[int, int]) -> None:
        """Raise `SasError` where the cameras are not of images and depths of these (w, h)."""
        for what, camera, file, size in (
            ("image", self.color, self._color_file, color),
            ("depth image", self.depth, self._depth_file, depth),
        ):
            if file is not None:
                fitting(camera, size, what, file.name)
            elif size != _KINECT_SIZE:
                raise SasError(
                    f"its {what} has {size[0]} x {size[1]} pixels, and without "
                    "camera-intrinsics.txt only the camera of 640 x 480 is known"
                )

    def _find(self, stem: str) -> Path | None:
        for place in self._places:
            for begin in ("", "estimated_"):
                for name in (stem, stem.replace("-", "_")):
                    if (place / f"{begin}{name}.txt").is_file():
                        return place / f"{begin}{name}.txt"
        return None


def _read(file: Path | None) -> Matrix:
    return _KINECT if file is None else read_intrinsics(file)


def _frame(stem: str, color: Path, rig: _Rig, settings: SceneSettings) -> Frame:
    image = read_color(color)
    pose = read_matrix(color.with_name(f"{stem}.pose.txt"), 4, "pose")
    units = settings.depth_units or _UNITS
    depth = read_depth(color.with_name(f"{stem}.depth.png"), units, settings.far)
    rows, columns = image.shape[:2]
    rig.check((columns, rows), (depth.shape[1], depth.shape[0]))
    size = settings.size or (columns, rows)
    image, camera = resized_color(image, rig.color, size)
    if rig.depth_to_color is not None:
        pose = pose @ np.linalg.inv(rig.depth_to_color)
    depth = depth_for_image(depth, rig.depth, camera, size, rig.depth_to_color)
    return Frame(stem, image, camera, pose, depth, labels=_labels(color, stem, size))


def _labels(color: Path, stem: str, size: tuple[int, int]) -> npt.NDArray[np.int64] | None:
    path = color.with_name(f"{stem}.segm.png")
    if not path.is_file():
        return None
    return resized_plane(read_plane(path, "labels"), size)
