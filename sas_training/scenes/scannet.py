"""ScanNet v2 as its own tools export it.

    FOLDER/[scans/]sceneNNNN_NN/color/N.jpg              RGB, 1296 x 968
    FOLDER/[scans/]sceneNNNN_NN/depth/N.png              16 bit, mm, 640 x 480; 0 = no reading
    FOLDER/[scans/]sceneNNNN_NN/pose/N.txt               4 x 4 camera-to-world, m, optical frame
    FOLDER/[scans/]sceneNNNN_NN/intrinsic/intrinsic_color.txt, intrinsic_depth.txt    4 x 4
    FOLDER/[scans/]sceneNNNN_NN/<scene>_vh_clean_2.ply           mesh with colours
    FOLDER/[scans/]sceneNNNN_NN/<scene>_vh_clean_2.labels.ply    the same vertices, NYU40 `label`
    FOLDER/[scans/]sceneNNNN_NN/<scene>_vh_clean_2.0.010000.segs.json, <scene>.aggregation.json

The labels and the two .json (for instances) may be missing. World: metres, z up, the axes of the
recording (`axisAlignment` is not applied, as in OpenScene). Colour images are brought to the size
of the depths, since 1296 x 968 pixels say no more about points. Some poses are infinite: those
frames are skipped. Every 20th frame is used, unless another number is given. Labels: `nyu40`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.scans import read_scan
from sas_training.scenes.cameras import fitting
from sas_training.scenes.images import read_intrinsics
from sas_training.scenes.posed_folders import PosedFolder
from sas_training.scenes.reading import Scenes, SceneSettings, wrong_folder
from sas_training.scenes.scene import IGNORED, Z_UP, Scene
from sas_training.superpoints.meshes import read_faces

_EXPECTED = (
    "it should be a folder of scenes, or one scene, with color/, depth/, pose/, intrinsic/ and "
    "<scene>_vh_clean_2.ply, as exported from the .sens file"
)
_EVERY = 20


def open_scannet(path: Path, settings: SceneSettings) -> Scenes:
    """The scenes of a folder; raises `SasError` where there is none."""
    path = Path(path)
    found: list[Path] = []
    for top in (path, path / "scans"):
        found += [p for p in (top, *sorted(top.glob("*"))) if (p / "color").is_dir()]
    folders = [folder.absolute() for folder in found if any(folder.glob("*_vh_clean_2.ply"))]
    if not folders:
        raise wrong_folder(path, "ScanNet", _EXPECTED)
    names = tuple(folder.name for folder in folders)
    return Scenes(names, lambda n: _scene(folders[n], settings))


def _scene(folder: Path, settings: SceneSettings) -> Scene:
    mesh = next(iter(sorted(folder.glob("*_vh_clean_2.ply"))))
    cloud = read_scan(mesh)
    color = read_intrinsics(folder / "intrinsic" / "intrinsic_color.txt")
    files = PosedFolder(
        folder / "color",
        camera=lambda stem, size: fitting(color, size, "image", "intrinsic_color.txt"),
        units=1000.0,
        depth_camera=read_intrinsics(folder / "intrinsic" / "intrinsic_depth.txt"),
        at_depth_size=True,
    )
    labels = _labels(mesh, len(cloud.points))
    return Scene(
        name=folder.name,
        points=cloud.points,
        frames=settings.sampled(files.frames(settings), _EVERY),
        colors=cloud.colors,
        labels=labels,
        label_set="" if labels is None else "nyu40",
        instances=_instances(mesh, len(cloud.points)),
        faces=read_faces(mesh),
        up=Z_UP,
    )


def _labels(mesh: Path, count: int) -> npt.NDArray[np.int64] | None:
    path = mesh.with_name(mesh.name.removesuffix(".ply") + ".labels.ply")
    if not path.is_file():
        return None
    labels = read_scan(path).labels
    if labels is None or len(labels) != count:
        raise SasError(f"{path} should have a `label` for each of the mesh's {count} vertices.")
    return np.where((labels >= 1) & (labels <= 40), labels, IGNORED)


def _instances(mesh: Path, count: int) -> npt.NDArray[np.int64] | None:
    """Object of each vertex, from 1 on; 0 where nobody annotated one."""
    scene = mesh.name.removesuffix("_vh_clean_2.ply")
    segments = mesh.with_name(f"{scene}_vh_clean_2.0.010000.segs.json")
    objects = mesh.with_name(f"{scene}.aggregation.json")
    if not (segments.is_file() and objects.is_file()):
        return None
    try:
        segment = np.asarray(_json(segments)["segIndices"], dtype=np.int64)
        table = np.zeros(int(segment.max()) + 1, dtype=np.int64)
        for group in _json(objects)["segGroups"]:
            table[np.asarray(group["segments"], dtype=np.int64)] = int(group["objectId"]) + 1
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SasError(f"{segments} and {objects.name} do not fit together ({error}).") from error
    if segment.shape != (count,):
        raise SasError(f"{segments} has {len(segment)} entries and the mesh {count} vertices.")
    return table[segment]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SasError(f"{path} cannot be read as JSON ({error}).") from error
