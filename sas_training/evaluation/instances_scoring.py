"""A student's objects against the annotated ones of labelled scans: `sas evaluate --instances`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.boxes import upright_box
from sas_ros.errors import SasError
from sas_ros.gravity import rotation_to_z_up
from sas_ros.instances import label_instances
from sas_ros.observation import Cloud, ElementLabels, SceneFeatures, Up
from sas_ros.pieces import grid_cells
from sas_ros.query import MIN_POINTS
from sas_ros.segmenter import Segmenter
from sas_training.evaluation.instances import CLUSTERINGS, InstanceScores, Objects, annotated
from sas_training.evaluation.instances_boxes import boxes_beside
from sas_training.evaluation.instances_dbscan import EPSILON, dbscan
from sas_training.evaluation.labelled import read_objects
from sas_training.evaluation.labels import LABEL_SETS
from sas_training.evaluation.scoring import classes_of_words

IntArray = npt.NDArray[np.int64]


def score_instances(
    segmenter: Segmenter,
    files: list[Path],
    labels: str,
    up: Up,
    *,
    true_labels: bool = False,
    clustering: str = "objects",
) -> dict[str, Any]:
    """Objects of every scan, as the robot finds them, against the annotated ones.

    Args:
        labels: name of the label set. Objects are made of the student's things that it has.
        true_labels: cluster the annotated classes instead of the student's, which tells errors of
            the clustering from errors of the labels. Each element has its commonest class.
        clustering: one of `CLUSTERINGS`. Both keep objects of at least `MIN_POINTS` points and
            the student's `min_elements`.

    Returns:
        What `InstanceScores.summary` does, with `true_labels` and `clustering`. Objects are ranked
        as in the robot's answers: by score times the square root of the number of elements.

    Raises:
        SasError: a scan without instance ids, one that cannot be read, another clustering.
    """
    if clustering not in CLUSTERINGS:
        raise SasError(f"clustering must be {' or '.join(CLUSTERINGS)}, not {clustering!r}.")
    to_class = classes_of_words(segmenter, labels)
    names = LABEL_SETS[labels].names
    vocabulary = segmenter.bundle.vocabulary
    scored = np.zeros(len(names), dtype=np.bool_)
    scored[to_class[np.array(vocabulary.things) & (to_class >= 0)]] = True
    scores = InstanceScores(names, scored)
    for path in files:
        scan = read_objects(path, LABEL_SETS[labels])
        if scan.instances is None:
            raise SasError(f"{path} says no instances: which points are one object is not known.")
        cloud = scan.cloud
        scene = segmenter.segment(cloud, up)
        if true_labels:
            elements = _commonest(scene, scan.labels, to_class)
        else:
            elements = segmenter.label(scene, vocabulary)
        of_point, classes, unknown = annotated(scan.labels, scan.instances, scored)
        of_point[scene.element_of_point < 0] = -1
        given = boxes_beside(path, LABEL_SETS[labels], scan.points, of_point, classes)
        true = _with_boxes(scene, cloud, of_point, classes, np.zeros(len(classes)), given)
        if clustering == "dbscan":
            found = _dbscan_objects(segmenter, scene, cloud, elements, to_class)
        else:
            found = _robot_objects(segmenter, scene, cloud, elements, to_class)
        scores.add(true, found, unknown)
    return {"true_labels": true_labels, "clustering": clustering, **scores.summary()}


def _commonest(scene: SceneFeatures, labels: IntArray, to_class: IntArray) -> ElementLabels:
    """The commonest true class of each element's points, as an index into the vocabulary; -1 where
    the vocabulary does not have it."""
    count = len(scene.positions)
    known = (scene.element_of_point >= 0) & (labels >= 0) & (labels <= 255)
    index = scene.element_of_point[known].astype(np.int64) * 256 + labels[known]
    commonest = np.bincount(index, minlength=count * 256).reshape(count, 256).argmax(axis=1)
    word_of_class = np.full(256, -1, dtype=np.int64)
    words = np.flatnonzero(to_class >= 0)
    word_of_class[to_class[words]] = words
    return ElementLabels(word_of_class[commonest], np.ones(count, dtype=np.float32))


def _robot_objects(
    segmenter: Segmenter,
    scene: SceneFeatures,
    cloud: Cloud,
    elements: ElementLabels,
    to_class: IntArray,
) -> Objects:
    vocabulary = segmenter.bundle.vocabulary
    instances = label_instances(
        scene,
        cloud,
        elements,
        vocabulary,
        max_instances=len(scene.positions),
        min_points=MIN_POINTS,
        min_elements=segmenter.bundle.calibration.min_elements,
    )
    of_point = np.full(len(cloud.points), -1, dtype=np.int64)
    for number, instance in enumerate(instances):
        of_point[instance.point_indices] = number
    return Objects(
        of_point,
        np.array([to_class[vocabulary.names.index(i.label)] for i in instances], dtype=np.int64),
        np.array([i.center for i in instances]).reshape(-1, 3),
        np.array([i.size for i in instances]).reshape(-1, 3),
        np.array([i.score * len(i.elements) ** 0.5 for i in instances]),
    )


def _dbscan_objects(
    segmenter: Segmenter,
    scene: SceneFeatures,
    cloud: Cloud,
    elements: ElementLabels,
    to_class: IntArray,
) -> Objects:
    """DBSCAN over the elements of each thing's label, `EPSILON` apart at most."""
    bundle = segmenter.bundle
    known = (elements.label >= 0) & (elements.label < len(bundle.vocabulary))
    things = np.array(bundle.vocabulary.things)
    chosen = np.flatnonzero(known & things[np.where(known, elements.label, 0)])
    cluster = np.full(len(scene.positions), -1, dtype=np.int64)
    if len(chosen):
        upright = scene.positions.astype(np.float64) @ rotation_to_z_up(scene.up.direction).T
        cells = grid_cells(upright, scene.element_size)[chosen]
        kinds = elements.label[chosen]
        reach = max(int((EPSILON / scene.element_size) ** 2), 3)  # neighbours always touch
        cells = np.column_stack([kinds, cells])
        cluster[chosen] = dbscan(cells, scene.points_per_element[chosen], reach)
    members = cluster[chosen]
    count = int(cluster.max(initial=-1)) + 1
    weights = scene.points_per_element * (cluster >= 0)
    points = np.bincount(np.maximum(cluster, 0), weights, count)[:count]
    total = np.bincount(np.maximum(cluster, 0), weights * elements.confidence, count)[:count]
    size = np.bincount(members[members >= 0], minlength=count)
    kept = (points >= MIN_POINTS) & (size >= bundle.calibration.min_elements)
    number = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)  # noise stays outside
    of_element = np.append(number[cluster], -1)
    word = np.zeros(count, dtype=np.int64)
    word[members[members >= 0]] = elements.label[chosen][members >= 0]
    merit = (total / np.maximum(points, 1) * np.sqrt(size))[kept]
    return _with_boxes(
        scene, cloud, of_element[scene.element_of_point], to_class[word[kept]], merit
    )


def _with_boxes(
    scene: SceneFeatures,
    cloud: Cloud,
    of_point: IntArray,
    classes: IntArray,
    confidence: npt.NDArray[np.float64],
    given: npt.NDArray[np.float64] | None = None,
) -> Objects:
    """Objects of `of_point` (N,) with the upright boxes that the robot draws."""
    to_up = rotation_to_z_up(scene.up.direction)
    centers, sizes = np.zeros((len(classes), 3)), np.zeros((len(classes), 3))
    for number in range(len(classes)):
        rows = np.flatnonzero(of_point == number)
        points = cloud.points[rows].astype(np.float64) @ to_up.T
        box = upright_box(points, scene.element_of_point[rows])
        centers[number], sizes[number] = to_up.T @ box.center + cloud.origin, box.size
    return Objects(of_point, classes, centers, sizes, confidence, given)
