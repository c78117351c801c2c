"""One room: from its frames to the rows of the table that need no student.

Teachers look at every frame, their features are averaged on the points over the views that see
them, and the two of the pair are fused in several ways. Of a held-out room the predicted classes
are kept; of a room for students the fused features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_training.capability.table import CapabilityTable
from sas_training.distill.words import class_text
from sas_training.evaluation.labels import SCANNET20
from sas_training.evaluation.metrics import NO_PREDICTION
from sas_training.experiment.capability import random_capability
from sas_training.experiment.room_views import RoomView
from sas_training.experiment.settings import PAIR, TEACHERS
from sas_training.experiment.sources import pixel_features
from sas_training.experiment.words import Words
from sas_training.fusion.capability_fusion import FusionSettings, fuse_teachers
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.multiview import FeatureSource, PixelFeatures, fuse_views
from sas_training.fusion.projection import ProjectionSettings
from sas_training.teachers.teacher import PixelTeacher

ROWS_2D = (
    *(f"2d/{name}" for name in TEACHERS),
    "2d/addition",
    "2d/linear",
    "2d/capability",
    "2d/oracle",
    "2d/random-capability",
)
"""The rows that need no student."""

SILENT = -1
"""The prediction of a point that a frame shows, but nothing is said about: it counts as wrong."""

_NAMES = tuple(class_text(name) for name in SCANNET20.names)


@dataclass(frozen=True)
class Fusing:
    """How teachers are put together: what they are compared with, and how.

    Attributes:
        words: text vectors.
        table: capabilities of the teachers.
        projection: what counts as seen.
        tau: temperature of the fusion by capability.
        measure: scores of the table that count.
        seed: of the control with capabilities by chance.
    """

    words: Words
    table: CapabilityTable
    projection: ProjectionSettings
    tau: float
    measure: str
    seed: int

    def fused(
        self,
        features: Mapping[str, PointFeatures],
        names: Sequence[str],
        rule: str,
        table: CapabilityTable | None = None,
    ) -> PointFeatures:
        """The features of some teachers, fused by a rule."""
        settings = FusionSettings(rule, self.tau, measure=self.measure)
        parts = [features[name] for name in names]
        return fuse_teachers(parts, self.words.classes, _NAMES, table or self.table, settings)


def point_features(
    points: npt.NDArray[np.float32],
    views: Sequence[RoomView],
    teachers: Mapping[str, PixelTeacher],
    projection: ProjectionSettings,
    scene: str,
) -> dict[str, PointFeatures]:
    """Features of a room's points (N, 3), by teacher."""

    def source(name: str, teacher: PixelTeacher) -> FeatureSource:
        def read(number: int) -> PixelFeatures:
            return pixel_features(teacher, views[number].image)

        about = {"model": teacher.description.model}
        return FeatureSource(name, teacher.channels, read, about)

    sources = [source(name, teacher) for name, teacher in teachers.items()]
    shown = [one.view for one in views]
    return fuse_views(points, shown, sources, projection, scene=scene).features


def classes_of(features: PointFeatures, words: Words) -> npt.NDArray[np.int64]:
    """(N,) the class each point's feature is closest to, `NO_PREDICTION` where it has none."""
    result = np.full(features.points, NO_PREDICTION, dtype=np.int64)
    result[features.mask] = (features.features.astype(np.float32) @ words.classes.T).argmax(axis=1)
    return result


def predictions(
    features: Mapping[str, PointFeatures], fusing: Fusing, truth: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[np.int64]]:
    """(N,) predicted classes of every row of `ROWS_2D`: `NO_PREDICTION` where no frame shows the
    point, -1 where one does and the row says nothing.

    Args:
        truth: (N,) true classes; used by the row `2d/oracle` alone, which takes the teacher of the
            pair that is right where one is, and the first that says anything elsewhere.
    """
    words = fusing.words
    rows = {f"2d/{name}": classes_of(features[name], words) for name in TEACHERS}
    for rule in ("addition", "linear", "capability"):
        rows[f"2d/{rule}"] = classes_of(fusing.fused(features, PAIR, rule), words)
    chance = random_capability(fusing.table, fusing.seed)
    by_chance = fusing.fused(features, PAIR, "capability", chance)
    rows["2d/random-capability"] = classes_of(by_chance, words)
    first, second = (rows[f"2d/{name}"] for name in PAIR)
    best = np.where(first == NO_PREDICTION, second, first)
    rows["2d/oracle"] = np.where(second == truth, second, best)
    shown = np.logical_or.reduce([one.mask for one in features.values()])
    return {
        name: np.where(shown & (rows[name] == NO_PREDICTION), SILENT, rows[name])
        for name in ROWS_2D
    }
