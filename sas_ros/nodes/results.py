"""What comes out of a cloud, per point, and where it goes; without ROS."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sas_ros.instances import ObjectInstance
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.observation import Cloud
from sas_ros.point_labels import PointLabels, spread

__all__ = [
    "INSTANCES",
    "LABELLED",
    "MARKERS",
    "MASK",
    "OBSTACLES",
    "VISUAL",
    "Outputs",
    "PointLabels",
    "spread",
]

LABELLED, VISUAL, INSTANCES = "labeled_points", "visualization", "instances"
MASK, OBSTACLES, MARKERS = "query_mask", "obstacles", "instance_markers"


class Outputs(Protocol):
    """Where results go; `wanted` names the topics somebody listens to."""

    def wanted(self) -> Collection[str]: ...

    def labelled(self, cloud: Cloud, labels: PointLabels) -> None: ...

    def visual(self, cloud: Cloud, labels: PointLabels, colors: npt.NDArray[np.uint8]) -> None: ...

    def instances(self, cloud: Cloud, found: Sequence[ObjectInstance]) -> None: ...

    def markers(
        self, cloud: Cloud, found: Sequence[ObjectInstance], vocabulary: Vocabulary
    ) -> None: ...

    def subset(self, topic: str, cloud: Cloud, mask: npt.NDArray[np.bool_]) -> None: ...
