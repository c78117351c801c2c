"""Labelled scans on disk (docs/formats.md): `.npz` with `points`, `labels` and, where there are
any, `instances`; OpenScene's `.pth`; or ScanNet rooms in the layout of VoteNet's preprocessing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.clouds.values import cloud_colors
from sas_ros.errors import SasError
from sas_ros.files import UNREADABLE
from sas_ros.observation import Cloud
from sas_training.evaluation.labels import SCANNET20, LabelSet

IGNORED = 255
"""The label of a point that is not scored and not learned from."""

SCANNET_VERTICES = "_vert.npy"
"""How the first file of a ScanNet room ends; its siblings end in the names below instead."""

SCANNET_CLASSES, _SCANNET_INSTANCES = "_sem_label.npy", "_ins_label.npy"


@dataclass(frozen=True, eq=False)
class AnnotatedScan:
    """One annotated scan.

    Attributes:
        points: (N, 3) float32 metres, z up.
        labels: (N,) int64 class ids, 255 = ignored.
        instances: (N,) int64 object ids, 0 = no object; None where the file has none.
        colors: (N, 3) uint8 RGB; None where the file has none.
        names: what each object is called, by its id; empty where the file does not say.
    """

    points: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    instances: npt.NDArray[np.int64] | None = None
    colors: npt.NDArray[np.uint8] | None = None
    names: tuple[str, ...] = ()

    @property
    def cloud(self) -> Cloud:
        """The scan as a robot would see it: points and colours."""
        return Cloud(self.points, colors=self.colors)


def read_labelled(
    path: Path, labels: LabelSet = SCANNET20
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Points (N, 3) float32 m and labels (N,) int64 of a labelled scan; see `read_objects`."""
    scan = read_objects(path, labels)
    return scan.points, scan.labels


def read_objects(path: Path, labels: LabelSet = SCANNET20) -> AnnotatedScan:
    """Read a labelled `.npz`, OpenScene's `.pth`, or the ScanNet room whose vertices are in `path`
    (`*_vert.npy`).

    A ScanNet room has NYU40 classes, which become those of `labels`; other files have their own.

    Raises:
        SasError: not such a file, arrays of different length or of another kind, no finite point,
            or a class that `labels` does not have.
    """
    if path.name.endswith(SCANNET_VERTICES):
        return _checked(path, labels, *_read_scannet(path, labels))
    if path.suffix == ".pth":
        from sas_training.evaluation.foreign import read_openscene_scan

        scan = read_openscene_scan(path, labels)
        return _checked(path, labels, scan.points, scan.labels, None, scan.colors)
    try:
        with np.load(path, allow_pickle=False) as file:
            points, given = file["points"], file["labels"].reshape(-1)
            instances = file["instances"].reshape(-1) if "instances" in file else None
            colors = file["colors"] if "colors" in file else None
            names = tuple(str(name) for name in file["names"]) if "names" in file else ()
    except UNREADABLE as error:
        raise SasError(
            f"{path} is no labelled scan: it must be an .npz with the arrays points (N, 3) and "
            f"labels (N,) ({error})."
        ) from error
    return _checked(path, labels, points, given, instances, colors, names)


def _read_scannet(
    path: Path, labels: LabelSet
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any] | None, npt.NDArray[Any] | None]:
    """Points, class ids of `labels`, instance ids and colours, as they are stored."""
    if not labels.nyu40_ids:
        raise SasError(f"{path} has NYU40 classes, which the label set {labels.name!r} has not.")
    stem = str(path).removesuffix(SCANNET_VERTICES)
    instance_file = Path(stem + _SCANNET_INSTANCES)
    try:
        vertices = np.load(path, allow_pickle=False)
        nyu40 = np.load(stem + SCANNET_CLASSES, allow_pickle=False).reshape(-1)
        instances = None
        if instance_file.exists():
            instances = np.load(instance_file, allow_pickle=False).reshape(-1)
        known = [labels.from_nyu40(number) for number in range(256)]
        ids = np.array(known)[np.clip(nyu40, 0, 255)]  # 0 and 255 are no class of NYU40
        colors = vertices[:, 3:6] if vertices.shape[1] >= 6 else None
        return vertices[:, :3], ids, instances, colors
    except (OSError, ValueError, TypeError, IndexError, EOFError, AttributeError) as error:
        raise SasError(
            f"{path} is no ScanNet room: beside the vertices (N, 3 or more) there must be NYU40 "
            f"classes (N,) in {Path(stem + SCANNET_CLASSES).name} ({error})."
        ) from error


def _checked(
    path: Path,
    label_set: LabelSet,
    points: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    instances: npt.NDArray[Any] | None,
    colors: npt.NDArray[Any] | None,
    names: tuple[str, ...] = (),
) -> AnnotatedScan:
    if points.ndim != 2 or points.shape[1] != 3 or len(points) != len(labels):
        raise SasError(f"{path} has points {points.shape} but {len(labels)} labels.")
    if points.dtype.kind not in "fiu" or labels.dtype.kind not in "fiu":
        raise SasError(
            f"{path} must hold numbers, not {points.dtype} points, {labels.dtype} labels."
        )
    if instances is not None and (
        instances.dtype.kind not in "iu" or len(instances) != len(labels)
    ):
        raise SasError(
            f"{path} must hold one whole-number instance id a point, not {len(instances)} "
            f"{instances.dtype} for {len(labels)} points."
        )
    if colors is not None and (
        colors.dtype.kind not in "fiu" or colors.shape != points.shape or _out_of_range(colors)
    ):
        raise SasError(
            f"{path} must hold colours of shape {points.shape} from 0 to 1, 255 or 65535, not "
            f"{colors.dtype} of shape {colors.shape}."
        )
    if not np.isfinite(points).all(axis=1).any():
        raise SasError(f"{path} holds no finite point.")
    known = np.where(np.isfinite(labels), labels, IGNORED).astype(np.int64)
    known[known < 0] = IGNORED  # -1 and -100 mean that elsewhere
    strange = known[(known >= len(label_set)) & (known != IGNORED)]
    if len(strange):
        raise SasError(
            f"{path} has the class {strange[0]}, but {label_set.name} has classes 0 to "
            f"{len(label_set) - 1}; give the label set it was made for, and to points without a "
            f"class {IGNORED} or a negative number."
        )
    return AnnotatedScan(
        points=points.astype(np.float32),
        labels=known,
        instances=None if instances is None else instances.astype(np.int64),
        colors=None if colors is None else cloud_colors(colors),
        names=names,
    )


def _out_of_range(colors: npt.NDArray[Any]) -> bool:
    most = 255 if colors.dtype.kind == "f" else 65535
    return not bool(((colors >= 0) & (colors <= most)).all())  # NaN is out of range too
