"""Matterport3D as it is downloaded; a scene is a region (a room) of a house.

    FOLDER/[v1/scans/]<house>/region_segmentations/regionN.ply      mesh, faces with category
    FOLDER/[v1/scans/]<house>/undistorted_camera_parameters/<house>.conf
    FOLDER/[v1/scans/]<house>/undistorted_color_images/<tripod>_i<camera>_<yaw>.jpg    1280 x 1024
    FOLDER/[v1/scans/]<house>/undistorted_depth_images/<tripod>_d<camera>_<yaw>.png    1/4000 m
    FOLDER/[metadata/]category_mapping.tsv                          for labels, may be missing

World: metres, z up. Poses of the .conf file are those of an OpenGL camera and cy counts from the
bottom of the image: columns 1 and 2 of the pose are negated and cy becomes H - 1 - cy (which gives
the numbers of `matterport_camera_intrinsics`). Views are those whose camera lies in the box of the
region's points; where there is none, the `nearest` ones, if asked for. A view that would be one of
them but has no image is skipped, and so is, in each region, one of which it is not known where it
was taken. The label of a vertex is the class that most of its faces have, of NYU40 or of the set
asked for; instances likewise.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.scans import read_scan
from sas_training.evaluation.labels import LABEL_SETS, LabelSet
from sas_training.scenes.cameras import Matrix, resized_color, resized_plane
from sas_training.scenes.images import read_color, read_depth
from sas_training.scenes.ply_faces import FaceTable, most_frequent, read_face_table
from sas_training.scenes.reading import Scenes, SceneSettings, numbered, wrong_folder
from sas_training.scenes.scene import IGNORED, Z_UP, Frame, Frames, Scene, Skipped

_EXPECTED = (
    "it should be a folder of houses, or one house, with region_segmentations/regionN.ply and "
    "undistorted_camera_parameters/, undistorted_color_images/ and undistorted_depth_images/"
)
_UNITS = 4000.0
_VIEW = re.compile(r"(.+)_i(\d)_(\d)")


def open_matterport(path: Path, settings: SceneSettings) -> Scenes:
    """The regions of a folder; raises `SasError` where there is none."""
    path = Path(path)
    found: list[Path] = []
    for top in (path, path / "v1" / "scans", path / "scans"):
        found += [p for p in (top, *sorted(top.glob("*"))) if (p / "region_segmentations").is_dir()]
    regions = [r for house in found for r in numbered(house / "region_segmentations", ".ply")]
    if not regions:
        raise wrong_folder(path, "Matterport3D", _EXPECTED)
    names = tuple(f"{region.absolute().parents[1].name}_{region.stem}" for region in regions)
    return Scenes(names, lambda n: _scene(names[n], regions[n], path, settings))


def _scene(name: str, region: Path, top: Path, settings: SceneSettings) -> Scene:
    cloud = read_scan(region)
    faces = read_face_table(region)
    labels, instances = _annotations(faces, len(cloud.points), top, region, settings.labels)
    house = region.absolute().parents[1]
    cameras = _cameras(house / "undistorted_camera_parameters" / f"{house.name}.conf")
    there = {image.stem for image in numbered(house / "undistorted_color_images", ".jpg")}
    places, skipped = {stem: pose[:3, 3] for stem, (_, pose) in cameras.items()}, Skipped()
    stems = views_of_region(places, there, cloud.points, settings.nearest, skipped)
    frames = Frames(
        tuple(stems), lambda n: _frame(house, stems[n], *cameras[stems[n]], settings), skipped
    )
    return Scene(
        name=name,
        points=cloud.points,
        frames=settings.sampled(frames),
        colors=cloud.colors,
        labels=labels,
        label_set="" if labels is None else settings.labels or "nyu40",
        instances=instances,
        faces=None if faces is None else faces.corners,
        up=Z_UP,
    )


def _frame(house: Path, stem: str, camera: Matrix, pose: Matrix, settings: SceneSettings) -> Frame:
    image = read_color(house / "undistorted_color_images" / f"{stem}.jpg")
    path = house / "undistorted_depth_images" / depth_name(stem)
    depth = read_depth(path, settings.depth_units or _UNITS, settings.far)
    rows, columns = image.shape[:2]
    size = settings.size or (columns, rows)
    image, resized = resized_color(image, from_bottom(camera, rows), size)
    return Frame(stem, image, resized, pose, resized_plane(depth, size))


def from_bottom(camera: Matrix, rows: int) -> Matrix:
    """A camera (3, 3) whose cy counts from the last row of an image up, as one that counts down."""
    turned = np.array(camera)
    turned[1, 2] = rows - 1 - turned[1, 2]
    return turned


def depth_name(stem: str) -> str:
    """File of the depth image that belongs to a colour image."""
    match = _VIEW.fullmatch(stem)
    if match is None:
        raise SasError("its name is not <tripod>_i<camera>_<yaw>")
    return f"{match[1]}_d{match[2]}_{match[3]}.png"


def views_of_region(
    places: Mapping[str, npt.NDArray[np.float64]],
    images: Set[str],
    points: npt.NDArray[np.float32],
    nearest: int,
    skipped: Skipped,
) -> Sequence[str]:
    """Views whose camera lies inside the box of the points; where none does, the `nearest` to the
    middle of the box.

    Args:
        places: name of a view -> (3,) where its camera is, metres.
        images: names of the views that have an image.
        points: (N, 3) metres; rows that are not finite are ignored.
        nearest: 0 for none.
        skipped: gets the views without an image that would be among those returned, and all of
            which it is not known where they were taken: they may belong to this region.
    """
    for name in sorted(images - places.keys()):
        skipped.add(name, "its pose is missing")
    known = {name: place for name, place in places.items() if np.isfinite(place).all()}
    for name in sorted(places.keys() - known.keys()):
        skipped.add(name, "its pose is not 4 x 4 finite numbers")
    for name in _views(known, points, nearest):
        if name not in images:
            skipped.add(name, "its image is missing")
    return _views({n: place for n, place in known.items() if n in images}, points, nearest)


def _views(
    places: Mapping[str, npt.NDArray[np.float64]], points: npt.NDArray[np.float32], nearest: int
) -> Sequence[str]:
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return []
    low, high = points.min(axis=0), points.max(axis=0)
    inside = [n for n, p in places.items() if ((p > low) & (p < high)).all()]
    if inside or not nearest:
        return sorted(inside)
    middle = (low + high) / 2
    ranked = sorted(places, key=lambda n: (float(np.linalg.norm(places[n] - middle)), n))
    return ranked[:nearest]


def _cameras(path: Path) -> dict[str, tuple[Matrix, Matrix]]:
    """Stem of a colour image -> camera (3, 3) as stored, and pose (4, 4) of an optical frame."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SasError(f"The camera parameters {path} cannot be read ({error}).") from error
    found: dict[str, tuple[Matrix, Matrix]] = {}
    camera: Matrix | None = None
    for number, line in enumerate(lines, 1):
        words = line.split()
        try:
            if words[:1] == ["intrinsics_matrix"]:
                camera = np.array(words[1:], dtype=np.float64).reshape(3, 3)
            elif words[:1] == ["scan"]:
                if camera is None:
                    raise ValueError("no intrinsics_matrix stands before it")
                pose = np.array(words[3:], dtype=np.float64).reshape(4, 4)
                pose[:3, 1:3] *= -1
                found[Path(words[2]).stem] = (camera, pose)
        except (ValueError, IndexError) as error:
            raise SasError(f"Line {number} of {path} is damaged ({error}).") from error
    if not found:
        raise SasError(f"{path} names no image; its lines should begin with `scan`.")
    return found


def _annotations(
    faces: FaceTable | None, count: int, top: Path, region: Path, label_set: str
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
    """Labels and instances of vertices, each None where the data do not have them."""
    if faces is None:
        return None, None
    labels = instances = None
    table = _category_table(top, region, label_set)
    if table is not None and "category_id" in faces.columns:
        category = faces.columns["category_id"]
        known = (category >= 0) & (category < len(table))
        # Faces without a class vote too, as 0.
        classes = np.where(known, table[np.where(known, category, 0)] + 1, 0)
        labels = most_frequent(faces.corners, classes, count) - 1
        labels = np.where(labels >= 0, labels, IGNORED)
    if "segment_id" in faces.columns:
        instances = most_frequent(faces.corners, faces.columns["segment_id"] + 1, count)
    return labels, instances


def _category_table(top: Path, region: Path, label_set: str) -> npt.NDArray[np.int64] | None:
    """Category number -> class of the label set, -1 where it has none; None without the table."""
    if label_set and LABEL_SETS.get(label_set, LABEL_SETS["nuscenes16"]).scheme == "lidarseg":
        raise SasError(f"{label_set!r} is no label set of Matterport3D, such as matterport160.")
    wanted = LABEL_SETS[label_set] if label_set else None
    places = [top, *region.absolute().parents[1:6]]
    files = [p / sub / "category_mapping.tsv" for p in places for sub in ("", "metadata")]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        return None
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        table = np.full(max(int(row["index"]) for row in rows) + 1, -1)
        for row in rows:
            table[int(row["index"])] = _class_of(row, wanted)
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise SasError(f"{path} should have columns index and nyu40id ({error}).") from error
    return table


def _class_of(row: Mapping[str, str], wanted: LabelSet | None) -> int:
    """Class of a line of the category table, -1 for none."""
    if wanted is not None and wanted.scheme == "nyu_class":
        found = wanted.from_category(row["nyuClass"])
    else:
        found = int(row["nyu40id"] or 0)
        if wanted is None:
            return found if found > 0 else -1
        found = wanted.from_nyu40(found)
    return -1 if found == wanted.ignore_id else found
