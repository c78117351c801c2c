"""A student against labelled scans: its labels, and its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.observation import Cloud, Up
from sas_ros.query import MAX_INSTANCES, MIN_POINTS, QueryStatus, TextQuery, answer
from sas_ros.segmenter import Segmenter
from sas_training.evaluation.labelled import SCANNET_VERTICES, read_labelled
from sas_training.evaluation.labels import LABEL_SETS
from sas_training.evaluation.metrics import ConfusionMatrix

THERE_POINTS = 50
"""Points of a class that make it part of a scan when it is asked for."""


def expand(paths: list[Path]) -> list[Path]:
    """Files as given, folders as their sorted `.npz` and ScanNet rooms; raises SasError when
    nothing is there."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted([*path.glob("*.npz"), *path.glob(f"*{SCANNET_VERTICES}")])
            if not found:
                raise SasError(f"The folder {path} holds no .npz files and no ScanNet rooms.")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise SasError(f"There is no file or folder {path}.")
    return files


def evaluate(segmenter: Segmenter, files: list[Path], labels: str, up: Up) -> dict[str, Any]:
    """One confusion matrix over all files; keys as in `ConfusionMatrix.summary`."""
    vocabulary = segmenter.bundle.vocabulary
    to_class = classes_of_words(segmenter, labels)
    matrix = ConfusionMatrix(LABEL_SETS[labels].names)
    for path in files:
        points, truth = read_labelled(path, LABEL_SETS[labels])
        scene = segmenter.segment(Cloud(points), up)
        predicted = to_class[segmenter.label(scene, vocabulary).label]
        element = scene.element_of_point
        matrix.add(truth, np.where(element >= 0, predicted[element], -1))
    return matrix.summary()


def ask_for_things(segmenter: Segmenter, files: list[Path], labels: str, up: Up) -> dict[str, int]:
    """Ask every scan for every thing of the vocabulary that the label set has, as a robot would.

    Returns the counts `there` and `absent` of questions for classes that have `THERE_POINTS` true
    points in the scan or not, and `found_there`, `found_absent`: how many were answered OK.
    """
    bundle = segmenter.bundle
    vocabulary, to_class = bundle.vocabulary, classes_of_words(segmenter, labels)
    asked = {"there": 0, "found_there": 0, "absent": 0, "found_absent": 0}
    for path in files:
        points, truth = read_labelled(path, LABEL_SETS[labels])
        cloud = Cloud(points)
        scene = segmenter.segment(cloud, up)
        for index, name in enumerate(vocabulary.names):
            if not vocabulary.things[index] or to_class[index] < 0:
                continue
            result = answer(
                scene,
                cloud,
                TextQuery(name),
                vocabulary.embeddings[index],
                None,
                vocabulary,
                bundle.calibration,
                default_max_instances=MAX_INSTANCES,
                min_points=MIN_POINTS,
            )
            is_there = np.count_nonzero(truth == to_class[index]) >= THERE_POINTS
            case = "there" if is_there else "absent"
            asked[case] += 1
            asked[f"found_{case}"] += result.status == QueryStatus.OK
    return asked


def classes_of_words(segmenter: Segmenter, labels: str) -> npt.NDArray[np.int64]:
    """(K,) class id of each word of the vocabulary, by name; -1 for a word outside the label set,
    which is a miss wherever it is said."""
    names = [name.casefold() for name in LABEL_SETS[labels].names]
    words = [name.casefold() for name in segmenter.bundle.vocabulary.names]
    classes = np.array([names.index(word) if word in names else -1 for word in words])
    if (classes < 0).all():
        raise SasError(
            f"The student {segmenter.bundle.name!r} knows no word of the label set {labels!r}."
        )
    return classes
