"""The held target: followed from cloud to cloud, and cut out of the obstacles."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.instances import ObjectInstance
from sas_ros.language.calibration import Calibration
from sas_ros.mapping import MapView
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.results import MASK, OBSTACLES, Outputs
from sas_ros.nodes.shared import Shared
from sas_ros.nodes.snapshot import Snapshot, Target
from sas_ros.nodes.words import Words
from sas_ros.observation import Cloud, Float64Array
from sas_ros.query import QueryAnswer, TextQuery, answer
from sas_ros.shapes import shape_of
from sas_ros.tracking import Track, follow

RIVALS = 10
"""Of the word of a target, so many times the node's `max_instances` objects are told apart."""

Lookup = Callable[[str, str, int, float], Float64Array | None]
"""(target, source, stamp in ns, seconds to wait) -> (4, 4) from source to target, or None;
SasError where there is no TF."""


def ask(
    snapshot: Snapshot | MapView,
    query: TextQuery,
    embedding: npt.NDArray[np.float32],
    negatives: npt.NDArray[np.float32] | None,
    *,
    words: Words,
    calibration: Calibration,
    parameters: PerceptionParameters,
    with_rivals: bool = False,
) -> QueryAnswer:
    """Ask a snapshot or the map, with the node's defaults where the query leaves something open.

    `with_rivals` adds the objects after the best ones that the query wants, see `best_of`.
    """
    if with_rivals:
        many = max(RIVALS * parameters.max_instances, query.max_instances)
        query = replace(query, max_instances=many)
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


def best_of(found: QueryAnswer, count: int) -> QueryAnswer:
    """The answer that has only the best `count` objects."""
    if len(found.instances) <= count:
        return found
    instances = found.instances[:count]
    return replace(found, instances=instances, best_score=max(item.score for item in instances))


def new_target(
    snapshot: Snapshot,
    query: TextQuery,
    embedding: npt.NDArray[np.float32],
    negatives: npt.NDArray[np.float32] | None,
    found: QueryAnswer,
    chosen: int,
    now: float,
) -> Target:
    """Hold the first `chosen` objects of an answer about this snapshot; the others are rivals.

    Args:
        found: with rivals, in the snapshot's frame.
        now: node clock, seconds.
    """
    tracks = tuple(
        Track(shape_of(_points(snapshot.cloud, item), item.score), rank < chosen, now)
        for rank, item in enumerate(found.instances)
    )
    return Target(query, embedding, negatives, now, tracks, snapshot.scene.header)


class TargetKeeper:
    """Publishes `query_mask` and `obstacles` of a snapshot.

    Without a target, with one that has expired, and where it is not in this cloud, the obstacles
    are the whole cloud: a planner must never lose points on the word of an old answer.

    Args:
        lookup: asks TF, so that a target keeps its place while the sensor moves; None where there
            is none.
    """

    def __init__(
        self,
        calibration: Calibration,
        shared: Shared,
        outputs: Outputs,
        lookup: Lookup | None = None,
    ) -> None:
        self._calibration = calibration
        self._outputs, self._lookup = outputs, lookup
        self._parameters, self._now, self._log = shared.parameters, shared.now, shared.log
        self._memory, self._latencies = shared.memory, shared.latencies
        self._asked_about = -1  # number of the target whose first transform was waited for

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
        words, parameters = self._memory.words, self._parameters()
        if words is None:
            return mask
        header = snapshot.scene.header
        target = self._anchored(target)
        frame = target.placed.frame_id
        pose = self._pose(frame, header.frame_id, header.stamp_ns, parameters.tf_timeout)
        if pose is None:
            self._log.warn(
                "target tf",
                f"The held target is not looked for in a cloud: TF has no transform from "
                f"{header.frame_id!r} to {frame!r} at its stamp.",
            )
            return mask
        found = ask(
            snapshot,
            target.query,
            target.embedding,
            target.negatives,
            words=words,
            calibration=self._calibration,
            parameters=parameters,
            with_rivals=True,
        )
        points = [_points(snapshot.cloud, item, pose) for item in found.instances]
        followed = follow(
            target.tracks,
            [shape_of(own, item.score) for own, item in zip(points, found.instances, strict=True)],
            now=now,
            time_to_live=parameters.target_ttl,
        )
        for item, own, mine in zip(found.instances, points, followed.mine, strict=True):
            if mine is not None:
                mask[item.point_indices[mine(own)]] = True
        found_at = now if followed.found and now is not None else target.found_at
        placed = replace(header, frame_id=frame)
        self._memory.followed(
            replace(target, tracks=followed.tracks, found_at=found_at, placed=placed)
        )
        return mask

    def _anchored(self, target: Target) -> Target:
        """The target in the fixed frame that the parameters name, where TF knows it."""
        parameters = self._parameters()
        building = parameters.map == "build"
        fixed = parameters.map_frame if building else parameters.inference_frame
        frame, stamp_ns = target.placed.frame_id, target.placed.stamp_ns
        if not fixed or fixed == frame:
            return target
        first = self._asked_about != target.number
        self._asked_about = target.number
        pose = self._pose(fixed, frame, stamp_ns, parameters.tf_timeout if first else 0.0)
        if pose is None:
            self._log.warn_once(
                f"target in {frame}",
                f"TF has no transform from {frame!r} to {fixed!r}: the held target is followed in "
                f"{frame!r}, as if that did not move.",
            )
            return target
        tracks = tuple(replace(t, shape=t.shape.moved(pose)) for t in target.tracks)
        return replace(target, tracks=tracks, placed=replace(target.placed, frame_id=fixed))

    def _pose(self, to: str, frame: str, stamp_ns: int, wait: float) -> Float64Array | None:
        """(4, 4) from `frame` to `to` at a stamp, or None."""
        if to == frame:
            return np.eye(4)
        if self._lookup is None:
            return None
        try:
            return self._lookup(to, frame, stamp_ns, wait)
        except SasError:  # no tf2_ros
            return None


def _points(cloud: Cloud, item: ObjectInstance, pose: Float64Array | None = None) -> Float64Array:
    """(n, 3) float64, metres: the points of an object, in the frame that `pose` leads to."""
    points = cloud.points[item.point_indices].astype(np.float64) + cloud.origin
    if pose is None:
        return points
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])
