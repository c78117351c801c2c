"""The held target: found again in every new cloud, and cut out of the obstacles."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from sas_ros.language.calibration import Calibration
from sas_ros.mapping import MapView
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.results import MASK, OBSTACLES, Outputs
from sas_ros.nodes.shared import Shared
from sas_ros.nodes.snapshot import Snapshot, Target
from sas_ros.nodes.words import Words
from sas_ros.query import QueryAnswer, QueryStatus, TextQuery, answer


def ask(
    snapshot: Snapshot | MapView,
    query: TextQuery,
    embedding: npt.NDArray[np.float32],
    negatives: npt.NDArray[np.float32] | None,
    *,
    words: Words,
    calibration: Calibration,
    parameters: PerceptionParameters,
) -> QueryAnswer:
    """Ask a snapshot or the map, with the node's defaults where the query leaves something open."""
    return answer(
        snapshot.scene,
        snapshot.cloud,
        query,
        embedding,
        negatives,
        words.competing,
        calibration,
        default_threshold=parameters.threshold or None,
        default_max_instances=parameters.max_instances,
        min_points=parameters.min_points,
        own=words.own,
    )


class TargetKeeper:
    """Publishes `query_mask` and `obstacles` of a snapshot.

    Without a target, with one that has expired, and where it is not in this cloud, the obstacles
    are the whole cloud: a planner must never lose points on the word of an old answer.
    """

    def __init__(self, calibration: Calibration, shared: Shared, outputs: Outputs) -> None:
        self._calibration = calibration
        self._outputs = outputs
        self._parameters, self._now, self._log = shared.parameters, shared.now, shared.log
        self._memory, self._latencies = shared.memory, shared.latencies

    def publish(self, snapshot: Snapshot, wanted: Collection[str]) -> None:
        """Find the target in this snapshot and publish what somebody listens to."""
        now = self._now()
        ttl = self._parameters().target_ttl
        if now is not None and self._memory.expire(now, ttl):
            self._log.warn("target", f"The held target was not found for {ttl:g} s; it is let go.")
        target = self._memory.target
        mask = np.zeros(len(snapshot.cloud.points), np.bool_)
        if target is not None:
            with self._latencies.stage("target"):
                mask = self._find(snapshot, target, now)
            if MASK in wanted:
                self._outputs.subset(MASK, snapshot.cloud, mask)
        if OBSTACLES in wanted:
            self._outputs.subset(OBSTACLES, snapshot.cloud, ~mask)

    def _find(self, snapshot: Snapshot, target: Target, now: float | None) -> npt.NDArray[np.bool_]:
        mask = np.zeros(len(snapshot.cloud.points), np.bool_)
        words = self._memory.words
        if words is None:
            return mask
        found = ask(
            snapshot,
            target.query,
            target.embedding,
            target.negatives,
            words=words,
            calibration=self._calibration,
            parameters=self._parameters(),
        )
        if found.status == QueryStatus.OK:
            for instance in found.instances:
                mask[instance.point_indices] = True
            if now is not None:
                self._memory.found_again(target, now)
        return mask
