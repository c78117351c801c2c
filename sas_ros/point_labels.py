"""Labels per point of a cloud, carried over from the elements that the student labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.clouds import NO_INSTANCE, UNLABELLED
from sas_ros.instances import ObjectInstance
from sas_ros.observation import ElementLabels, SceneFeatures


@dataclass(frozen=True, eq=False)
class PointLabels:
    """Per point of the cloud: (N,) label ids, (N,) probabilities, (N,) instance ids."""

    label: npt.NDArray[np.uint32]
    confidence: npt.NDArray[np.float32]
    instance: npt.NDArray[np.uint32]


def spread(
    scene: SceneFeatures, elements: ElementLabels, found: Sequence[ObjectInstance]
) -> PointLabels:
    """Carry labels from elements to points; points without an element are unlabelled.

    Instance ids count from 1 in the order of `found`; 0 is no instance.
    """
    element = scene.element_of_point
    instance = np.full(len(element), NO_INSTANCE, np.uint32)
    # One more entry than elements: the -1 of points without one finds it.
    known = np.append(elements.label, -1)
    label = np.where(known < 0, UNLABELLED, known).astype(np.uint32)[element]
    confidence = np.append(elements.confidence, np.float32(0.0))[element]
    for number, item in reversed(list(enumerate(found, start=1))):
        instance[item.point_indices] = number
    return PointLabels(label, confidence, instance)
