"""What comes out of a cloud, per point, and where it goes; without ROS."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sas_ros.clouds import NO_INSTANCE, UNLABELLED
from sas_ros.instances import ObjectInstance
from sas_ros.observation import Cloud, ElementLabels, SceneFeatures

LABELLED, VISUAL, INSTANCES = "labeled_points", "visualization", "instances"
MASK, OBSTACLES = "query_mask", "obstacles"


@dataclass(frozen=True, eq=False)
class PointLabels:
    """Per point of the cloud: (N,) label ids, (N,) probabilities, (N,) instance ids."""

    label: npt.NDArray[np.uint32]
    confidence: npt.NDArray[np.float32]
    instance: npt.NDArray[np.uint32]


class Outputs(Protocol):
    """Where results go; `wanted` names the topics somebody listens to."""

    def wanted(self) -> Collection[str]: ...

    def labelled(self, cloud: Cloud, labels: PointLabels) -> None: ...

    def visual(self, cloud: Cloud, labels: PointLabels, colors: npt.NDArray[np.uint8]) -> None: ...

    def instances(self, cloud: Cloud, found: Sequence[ObjectInstance]) -> None: ...

    def subset(self, topic: str, cloud: Cloud, mask: npt.NDArray[np.bool_]) -> None: ...


def spread(
    scene: SceneFeatures, elements: ElementLabels, found: Sequence[ObjectInstance]
) -> PointLabels:
    """Carry labels from elements to points; points without an element are unlabelled.

    Instance ids count from 1 in the order of `found`; 0 is no instance.
    """
    element = scene.element_of_point
    has_element = element >= 0
    label = np.full(len(element), UNLABELLED, np.uint32)
    confidence = np.zeros(len(element), np.float32)
    instance = np.full(len(element), NO_INSTANCE, np.uint32)
    ids = np.where(elements.label < 0, UNLABELLED, elements.label).astype(np.uint32)
    label[has_element] = ids[element[has_element]]
    confidence[has_element] = elements.confidence[element[has_element]]
    for number, item in reversed(list(enumerate(found, start=1))):
        instance[item.point_indices] = number
    return PointLabels(label, confidence, instance)
