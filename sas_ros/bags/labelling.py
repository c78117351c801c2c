"""One cloud message -> labels per point and figures; what cannot be labelled becomes a sentence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.bags.messages import MessageTypes
from sas_ros.bags.reading import BagMessage
from sas_ros.bags.records import HISTOGRAM_BINS, BadMessage, CloudFigures
from sas_ros.clouds import read_cloud
from sas_ros.errors import SasError
from sas_ros.gravity import resolve_up
from sas_ros.instances import ObjectInstance, label_instances
from sas_ros.observation import Cloud, Float64Array, SceneFeatures
from sas_ros.point_labels import PointLabels, spread
from sas_ros.query import MAX_INSTANCES, MIN_POINTS
from sas_ros.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class LabelledMessage:
    """A message that was labelled: the cloud, (N,) labels of its points, and figures."""

    cloud: Cloud
    labels: PointLabels
    figures: CloudFigures


class BagLabeller:
    """Labels messages with a student, as the node does.

    Args:
        segmenter: of the loaded student; its vocabulary gives the labels.
        types: to read messages with.
        up: (3,) what the user said is up in every cloud, or None to work it out for each.
    """

    def __init__(self, segmenter: Segmenter, types: MessageTypes, up: Float64Array | None) -> None:
        self._segmenter = segmenter
        self._types = types
        self._up = up

    def label(self, message: BagMessage) -> LabelledMessage | BadMessage:
        """Label one message; a bad one is no error but an answer."""
        sha256 = hashlib.sha256(message.data).hexdigest()
        try:
            cloud = read_cloud(self._types.read_cloud_message(message.data))
            if not cloud.valid.any():
                raise SasError(f"The cloud of {len(cloud.points)} points holds no finite point.")
            return self._label(message, sha256, cloud)
        except (SasError, MemoryError) as error:
            reason = str(error) or "There is not enough memory for it."
            passing = isinstance(error, MemoryError)
            place = (message.topic, message.number, message.time_ns)
            return BadMessage(*place, sha256, reason, passing)

    def _label(self, message: BagMessage, sha256: str, cloud: Cloud) -> LabelledMessage:
        bundle = self._segmenter.bundle
        up = resolve_up(cloud, self._up)
        scene = self._segmenter.segment(cloud, up)
        elements = self._segmenter.label(scene, bundle.vocabulary)
        found = label_instances(
            scene,
            cloud,
            elements,
            bundle.vocabulary,
            max_instances=MAX_INSTANCES * 10,
            min_points=MIN_POINTS,
            min_elements=bundle.calibration.min_elements,
        )
        labels = spread(scene, elements, found)
        figures = CloudFigures(
            topic=message.topic,
            number=message.number,
            time_ns=message.time_ns,
            stamp_ns=cloud.header.stamp_ns,
            frame=cloud.header.frame_id,
            sha256=sha256,
            **_counts(scene, cloud, labels, found, bundle.vocabulary.names),
        )
        return LabelledMessage(cloud, labels, figures)


def _counts(
    scene: SceneFeatures,
    cloud: Cloud,
    labels: PointLabels,
    found: list[ObjectInstance],
    names: tuple[str, ...],
) -> dict[str, Any]:
    finite = cloud.valid
    points = np.bincount(labels.label[finite], minlength=len(names))[: len(names)]
    objects = np.bincount([names.index(item.label) for item in found], minlength=len(names))
    x, y, z = (float(value) for value in scene.up.direction)
    return {
        "points": len(cloud.points),
        "finite_points": int(finite.sum()),
        "elements": len(scene.positions),
        "up": (x, y, z),
        "up_source": scene.up.source,
        "labels": _by_name(points, names),
        "objects": _by_name(objects, names),
        "confidence": confidence_histogram(labels.confidence[finite]),
    }


def _by_name(counts: npt.NDArray[np.integer[Any]], names: tuple[str, ...]) -> dict[str, int]:
    """Counts above zero, most first."""
    order = np.argsort(-counts, kind="stable")
    return {names[k]: int(counts[k]) for k in order if counts[k]}


def confidence_histogram(confidence: npt.NDArray[np.float32]) -> tuple[int, ...]:
    """How many of (n,) confidences lie in each of 100 steps of 0.01; 1 belongs to the last."""
    # float32 stores 0.52 a little below it.
    steps = np.floor(confidence.astype(np.float64) * HISTOGRAM_BINS + 1e-4).astype(np.int64)
    steps = np.clip(steps, 0, HISTOGRAM_BINS - 1)
    return tuple(int(n) for n in np.bincount(steps, minlength=HISTOGRAM_BINS))
