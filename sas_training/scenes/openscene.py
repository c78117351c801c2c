"""ScanNet, Matterport3D and Replica as OpenScene's preprocessing leaves them.

    FOLDER/scannet_3d/{train,val}/<scene>_vh_clean_2.pth       (points, colours, labels)
    FOLDER/scannet_2d/<scene>/color/N.jpg, depth/N.png, pose/N.txt               320 x 240
    FOLDER/matterport_3d/{train,val,test}/<house>_regionN.pth
    FOLDER/matterport_2d/<house>/color/<view>.jpg, depth/, pose/, intrinsic/     640 x 512
    FOLDER/replica_3d/<scene>.pth
    FOLDER/replica_2d/<scene>/color/N.jpg, depth/N.png, pose/N.txt               640 x 360

Points are metres, z up; colours -1 to 1; labels class ids, 255 = ignored. Poses are camera-to-world
of an optical frame. Depths are 1/1000, 1/4000 and 1/6553.5 m. The .pth files are pickles of numpy
arrays: they are read without running any of it. ScanNet and Replica have one camera for all
(`intrinsics.txt` is not read: Replica's was made as if its images had been cropped). All frames are
used: they were thinned out before. Matterport's `cy` counts from the bottom of the image, as the
data set's documentation says, and is turned round here; OpenScene itself takes it from the top.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.evaluation.labels import LABEL_SETS
from sas_training.fusion.constants import dataset_constants
from sas_training.fusion.openscene import plain_array, read_plain
from sas_training.scenes.cameras import Matrix
from sas_training.scenes.images import read_matrix
from sas_training.scenes.matterport import depth_name, from_bottom, views_of_region
from sas_training.scenes.posed_folders import PosedFolder
from sas_training.scenes.reading import Scenes, SceneSettings, numbered, wrong_folder
from sas_training.scenes.scene import IGNORED, Z_UP, Frames, Scene, Skipped


@dataclass(frozen=True)
class _Layout:
    """Names of folders, of the constants and of the labels of one data set."""

    folder: str
    constants: str
    label_set: str
    scene_of: Callable[[str], str]  # folder of the images, from the stem of the .pth


LAYOUTS: Mapping[str, _Layout] = MappingProxyType(
    {
        "scannet-openscene": _Layout(
            "scannet", "scannet", "scannet20", lambda stem: stem.removesuffix("_vh_clean_2")
        ),
        "matterport-openscene": _Layout(
            "matterport", "matterport3d", "matterport21", lambda stem: stem.split("_")[0]
        ),
        "replica-openscene": _Layout("replica", "replica", "", lambda stem: stem),
    }
)


def open_openscene(kind: str, path: Path, settings: SceneSettings) -> Scenes:
    """The scenes of a folder in one of the `LAYOUTS`.

    Raises:
        SasError: there is none, or its labels cannot be those of the set that is asked for.
    """
    path, layout = Path(path), LAYOUTS[kind]
    several = layout.label_set.startswith("matterport")
    sets = [name for name in LABEL_SETS if several and name.startswith("matterport")]
    if settings.labels and settings.labels not in (layout.label_set, *sets):
        known = ", ".join(sets) or layout.label_set or "none"
        raise SasError(
            f"{settings.labels!r} is no label set of the kind {kind}; its sets: {known}."
        )
    files = sorted((path / f"{layout.folder}_3d").rglob("*.pth"))
    if not files:
        expected = (
            f"it should hold {layout.folder}_3d/ with .pth files and {layout.folder}_2d/ with "
            "color/, depth/ and pose/ of each scene"
        )
        raise wrong_folder(path, kind, expected)
    names = tuple(file.stem for file in files)
    return Scenes(names, lambda n: _scene(layout, path, files[n], settings))


def _scene(layout: _Layout, path: Path, file: Path, settings: SceneSettings) -> Scene:
    points, colors, labels = read_tuple(file)
    folder = path / f"{layout.folder}_2d" / layout.scene_of(file.stem)
    labelled = bool((labels != IGNORED).any()) and bool(layout.label_set)
    return Scene(
        name=file.stem,
        points=points,
        frames=settings.sampled(_frames(layout, folder, points, settings)),
        colors=colors,
        labels=labels if labelled else None,
        label_set=(settings.labels or layout.label_set) if labelled else "",
        up=Z_UP,
    )


def _frames(
    layout: _Layout, folder: Path, points: npt.NDArray[np.float32], settings: SceneSettings
) -> Frames:
    constants = dataset_constants(layout.constants)
    if layout.constants != "matterport3d":

        def one_for_all(stem: str, size: tuple[int, int]) -> Matrix:
            assert constants.intrinsics is not None
            k = constants.intrinsics.resized(constants.reference, size, constants.resize)
            return np.array([[k.fx, 0.0, k.cx], [0.0, k.fy, k.cy], [0.0, 0.0, 1.0]])

        units = constants.depth_units or 1000.0
        return PosedFolder(folder / "color", one_for_all, units).frames(settings)

    def of_view(stem: str, size: tuple[int, int]) -> Matrix:
        path = folder / "intrinsic" / f"{stem}.txt"
        return from_bottom(read_matrix(path, 3, "camera matrix"), size[1])

    files = PosedFolder(folder / "color", of_view, 4000.0, depth_name=depth_name)
    places, skipped = {}, Skipped()
    for view in numbered(folder / "pose", ".txt"):
        try:
            places[view.stem] = read_matrix(view, 4, "pose")[:3, 3]
        except SasError as error:
            skipped.add(view.stem, str(error))
    there = {image.stem for image in numbered(folder / "color", ".jpg")}
    chosen = views_of_region(places, there, points, settings.nearest, skipped)
    return replace(files.frames(settings, chosen), skipped=skipped)


def read_tuple(
    file: Path,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8] | None, npt.NDArray[np.int64]]:
    """Points (N, 3) float32, colours (N, 3) uint8 or None, labels (N,) int64 of a `.pth` file.

    Raises:
        SasError: the file is damaged, or is no tuple of three such arrays.
    """
    content = read_plain(file, "points, colours and labels")
    if not isinstance(content, tuple | list) or len(content) != 3:
        raise SasError(f"{file} is no scene: wanted is a tuple (points, colours, labels).")
    points = plain_array(file, "points", content[0]).astype(np.float32)
    labels = plain_array(file, "labels", content[2]).reshape(-1)
    if points.ndim != 2 or points.shape[1] != 3 or len(labels) != len(points):
        raise SasError(f"{file} has points of {points.shape} and {len(labels)} labels.")
    colors = None
    if not isinstance(content[1], int | float):  # nuScenes has the number 0 there
        found = plain_array(file, "colours", content[1])
        if found.shape != points.shape:
            raise SasError(f"{file} has points of {points.shape} and colours of {found.shape}.")
        colors = np.rint(np.clip((found.astype(np.float64) + 1) * 127.5, 0, 255)).astype(np.uint8)
    known = (labels >= 0) & (labels < IGNORED)
    return points, colors, np.where(known, labels, IGNORED).astype(np.int64)
