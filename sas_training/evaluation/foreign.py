"""Labelled scans as data sets of others have them: scenes of any reader, OpenScene's `.pth`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.evaluation.label_files import LabelSet
from sas_training.evaluation.labelled import AnnotatedScan
from sas_training.scenes.reading import Scenes
from sas_training.scenes.scene import Scene

_SCHEMES = {"nyu40": "nyu40", "nuscenes32": "lidarseg"}
"""What readers call labels that are the data set's own numbers -> the scheme of label sets."""


def scans_of(
    scenes: Scenes, labels: LabelSet, only: Sequence[str] | None = None
) -> Iterator[tuple[str, AnnotatedScan]]:
    """Name and scan of each scene, read one after the other.

    Args:
        scenes: of a reader, see `sas_training.scenes.kinds`.
        labels: the classes wanted.
        only: names of the scenes to read, in this order; None: all.

    Raises:
        SasError: a name that is not there, a scene that cannot be read or that has no labels from
            which those classes follow.
    """
    for name in scenes.names if only is None else only:
        yield name, annotated_scene(scenes.named(name), labels)


def annotated_scene(scene: Scene, labels: LabelSet) -> AnnotatedScan:
    """A scene with the classes of `labels`; frames, normals and faces are left behind.

    Raises:
        SasError: the scene has no labels, or of a set that says nothing about these classes.
    """
    if scene.labels is None:
        raise SasError(f"The scene {scene.name} has no labels to compare with.")
    return AnnotatedScan(
        points=scene.points,
        labels=classes_of(scene, scene.labels, labels),
        instances=scene.instances,
        colors=scene.colors,
    )


def classes_of(
    scene: Scene, given: npt.NDArray[np.int64], labels: LabelSet
) -> npt.NDArray[np.int64]:
    """Labels of a scene's points or pixels, of any shape, as ids of `labels`; 255 where ignored.

    Raises:
        SasError: the scene's labels are of a set that says nothing about these classes.
    """
    if scene.label_set == labels.name:
        strange = given[(given != labels.ignore_id) & (given >= len(labels))]
        if len(strange):
            raise SasError(
                f"The scene {scene.name} has the class {strange[0]}, but {labels.name} has classes "
                f"0 to {len(labels) - 1}; say with --labels which set it was made for."
            )
        return given
    if _SCHEMES.get(scene.label_set) == labels.scheme:
        outside = (given < 0) | (given > 255)
        return labels.raw_table()[np.where(outside, 255, given)]
    raise SasError(
        f"The scene {scene.name} has labels of the set {scene.label_set!r}, from which the classes "
        f"of {labels.name!r} do not follow."
    )


def read_names(path: Path) -> tuple[str, ...]:
    """Names of scenes, one per line, as data sets list their splits; raises SasError where the file
    cannot be read or holds none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SasError(f"The list of scenes {path} cannot be read ({error}).") from error
    names = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise SasError(f"The list of scenes {path} is empty.")
    return names


def read_openscene_scan(path: Path, labels: LabelSet) -> AnnotatedScan:
    """A `.pth` of OpenScene's preprocessing (method reference 2.4), whose class ids are those of
    `labels` already; read with `weights_only`.

    Raises:
        SasError: no such file, not readable without running code, other content, or a class that
            `labels` does not have: it was made for another label set.
    """
    from sas_training.scenes.openscene import read_tuple

    if not path.is_file():
        raise SasError(f"There is no labelled scan at {path}.")
    points, colors, ids = read_tuple(path)
    strange = ids[(ids != labels.ignore_id) & (ids >= len(labels))]
    if len(strange):
        raise SasError(
            f"{path} has the class {strange[0]}, but {labels.name} has classes 0 to "
            f"{len(labels) - 1}; say with --labels which set it was made for."
        )
    return AnnotatedScan(points, ids, colors=colors)
