"""From a cloud message to a snapshot and its outputs: what the worker does, without ROS.

Every cloud ends in exactly one entry of the tally: processed, or dropped for a reason.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sas_ros.clouds import NO_INSTANCE, UNLABELLED, read_cloud
from sas_ros.errors import SasError
from sas_ros.gravity import resolve_up
from sas_ros.instances import ObjectInstance, label_instances
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.nodes.diagnostics import Latencies, Tally
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.snapshot import Memory, Snapshot, Target
from sas_ros.observation import Cloud, ElementLabels, Float64Array, SceneFeatures, SourceHeader, Up
from sas_ros.query import QueryAnswer, QueryStatus, TextQuery, answer

LABELLED, VISUAL, INSTANCES = "labeled_points", "visualization", "instances"
MASK, OBSTACLES = "query_mask", "obstacles"

UpFromTf = Callable[[SourceHeader, float], Float64Array | None]
"""(header, seconds to wait) -> z axis of the inference frame in the cloud's frame, or None."""


class SceneSegmenter(Protocol):
    """What the worker needs of `sas_ros.segmenter.Segmenter`."""

    def segment(self, cloud: Cloud, up: Up) -> SceneFeatures: ...

    def label(self, scene: SceneFeatures, vocabulary: Vocabulary) -> ElementLabels: ...


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

    def visual(
        self, cloud: Cloud, labels: PointLabels, colors: npt.NDArray[np.uint8]
    ) -> None: ...

    def instances(self, cloud: Cloud, found: Sequence[ObjectInstance]) -> None: ...

    def subset(self, topic: str, cloud: Cloud, mask: npt.NDArray[np.bool_]) -> None: ...


class Log(Protocol):
    """Sentences for the operator; the same `key` is not repeated at once."""

    def warn(self, key: str, sentence: str) -> None: ...

    def warn_once(self, key: str, sentence: str) -> None: ...

    def error(self, key: str, sentence: str) -> None: ...


@dataclass(frozen=True, eq=False)
class Arrival:
    """A cloud message on its way to the worker, with the epoch of the memory it belongs to."""

    message: Any
    received: float
    epoch: int


class Dropped(Exception):
    """The cloud is given up: `reason` for the tally and a sentence for the log."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def ask(
    snapshot: Snapshot,
    query: TextQuery,
    embedding: npt.NDArray[np.float32],
    negatives: npt.NDArray[np.float32] | None,
    *,
    vocabulary: Vocabulary,
    calibration: Calibration,
    parameters: PerceptionParameters,
) -> QueryAnswer:
    """Ask a snapshot, with the node's defaults where the query leaves something open."""
    return answer(
        snapshot.scene,
        snapshot.cloud,
        query,
        embedding,
        negatives,
        vocabulary,
        calibration,
        default_threshold=parameters.threshold or None,
        default_max_instances=parameters.max_instances,
        min_points=parameters.min_points,
    )


class FrameProcessor:
    """Owns the segmenter; called by one worker thread.

    Args:
        segmenter, calibration: of the loaded student.
        memory, tally, latencies: shared with the services and the diagnostics.
        parameters: gives the values in force now.
        outputs: publishes what somebody listens to.
        now: node clock in seconds, None while simulated time has not started.
        log: for the operator.
        up_from_tf: asks TF, or None where no inference frame is set.
    """

    def __init__(
        self,
        segmenter: SceneSegmenter,
        calibration: Calibration,
        *,
        memory: Memory,
        tally: Tally,
        latencies: Latencies,
        parameters: Callable[[], PerceptionParameters],
        outputs: Outputs,
        now: Callable[[], float | None],
        log: Log,
        up_from_tf: UpFromTf | None = None,
    ) -> None:
        self._segmenter = segmenter
        self._calibration = calibration
        self._memory = memory
        self._tally = tally
        self._latencies = latencies
        self._parameters = parameters
        self._outputs = outputs
        self._now = now
        self._log = log
        self._up_from_tf = up_from_tf
        self.last_up: Up | None = None

    def process(self, arrival: Arrival) -> None:
        """Turn one message into a snapshot and publish what is wanted of it."""
        started = time.perf_counter()
        self._latencies.add("wait", (started - arrival.received) * 1e3)
        try:
            snapshot = self._understand(arrival)
        except Dropped as dropped:
            self._tally.drop(dropped.reason)
            if dropped.reason == "memory":
                self._log.error("memory", str(dropped))
            else:
                self._log.warn(dropped.reason, str(dropped))
            return
        except BaseException as error:
            self._tally.drop("error")
            self._log.error("frame", f"A cloud was dropped: {describe(error)}")
            if not isinstance(error, Exception):
                raise
            return
        self._tally.process()
        self._publish(snapshot)
        self._latencies.add("total", (time.perf_counter() - arrival.received) * 1e3)

    def refresh(self) -> None:
        """Publish mask and obstacles of the current snapshot again, after the target changed."""
        snapshot = self._memory.snapshot
        if snapshot is not None:
            self._publish_target(snapshot, self._outputs.wanted())

    def failed(self, arrival: Arrival | None, error: BaseException) -> None:
        """Report what went wrong after a cloud was understood, while publishing."""
        self._log.error("publish", f"Results could not be published: {describe(error)}")

    def _understand(self, arrival: Arrival) -> Snapshot:
        parameters = self._parameters()
        with self._stage("read"):
            try:
                cloud = read_cloud(arrival.message)
            except SasError as error:
                raise Dropped("layout", str(error)) from error
        self._check_age(cloud.header, parameters)
        if not cloud.valid.any():
            count = len(cloud.points)
            raise Dropped(
                "empty", f"A cloud of {count} points was dropped: it holds no finite point."
            )
        with self._stage("up"):
            up = self._up(cloud, parameters)
        with self._stage("student"):
            scene = self._segment(cloud, up)
        snapshot = self._memory.install(cloud, scene, arrival.epoch)
        if snapshot is None:
            raise Dropped("jump", "A cloud was dropped: time jumped back while it was processed.")
        return snapshot

    def _check_age(self, header: SourceHeader, parameters: PerceptionParameters) -> None:
        now = self._now()
        if now is None:
            return
        age = now - header.stamp_ns * 1e-9
        if parameters.stamp_tolerance > 0 and abs(age) > parameters.stamp_tolerance:
            self._log.warn_once(
                "stamp",
                f"Clouds are stamped {abs(age):.1f} s {'before' if age > 0 else 'after'} the node's "
                "clock. For recorded data set use_sim_time and play the clock, or replay with "
                "--stamps now; for a live sensor synchronise the clocks.",
            )
        if 0 < parameters.max_age < age:
            raise Dropped(
                "stale",
                f"A cloud was dropped: it is {age:.1f} s old and max_age is {parameters.max_age:g}.",
            )

    def _up(self, cloud: Cloud, parameters: PerceptionParameters) -> Up:
        direction = parameters.up_direction
        from_tf = None
        if direction is None and self._up_from_tf is not None:
            from_tf = self._up_from_tf(cloud.header, parameters.tf_timeout)
            if from_tf is None:
                raise Dropped(
                    "up",
                    f"A cloud was dropped: TF has no transform from {cloud.header.frame_id!r} to "
                    f"{parameters.inference_frame!r} at its stamp.",
                )
        up = resolve_up(cloud, direction, from_tf)
        if up.source in ("planes", "assumed"):
            how = "estimated from the largest planes" if up.source == "planes" else "assumed to be z"
            self._log.warn_once(
                f"up {up.source}",
                f"Up is {how} in frame {cloud.header.frame_id!r}. Set the parameter up (x,y,z in "
                "that frame) or inference_frame to be sure.",
            )
        self.last_up = up
        return up

    def _segment(self, cloud: Cloud, up: Up) -> SceneFeatures:
        try:
            return self._segmenter.segment(cloud, up)
        except SasError as error:
            raise Dropped("layout", f"A cloud was dropped: {error}") from error
        except MemoryError as error:  # the segmenter has tried smaller tiles already
            raise Dropped(
                "memory",
                f"A cloud of {len(cloud.points)} points was dropped: {error} Crop or thin the "
                "cloud, or use another device.",
            ) from None

    def _publish(self, snapshot: Snapshot) -> None:
        wanted = self._outputs.wanted()
        if not {LABELLED, VISUAL, INSTANCES}.isdisjoint(wanted):
            self._publish_labels(snapshot, wanted)
        self._publish_target(snapshot, wanted)

    def _publish_labels(self, snapshot: Snapshot, wanted: Collection[str]) -> None:
        vocabulary, parameters = self._memory.vocabulary, self._parameters()
        if vocabulary is None:
            return
        cloud, scene = snapshot.cloud, snapshot.scene
        with self._stage("label"):
            elements = self._segmenter.label(scene, vocabulary)
        found: Sequence[ObjectInstance] = ()
        if LABELLED in wanted or INSTANCES in wanted:
            with self._stage("cluster"):
                found = label_instances(
                    scene,
                    cloud,
                    elements,
                    vocabulary,
                    max_instances=parameters.max_instances * 10,
                    min_points=parameters.min_points,
                )
        with self._stage("publish"):
            labels = spread(scene, elements, found)
            if LABELLED in wanted:
                self._outputs.labelled(cloud, labels)
            if VISUAL in wanted:
                self._outputs.visual(cloud, labels, vocabulary.colors)
            if INSTANCES in wanted:
                self._outputs.instances(cloud, found)

    def _publish_target(self, snapshot: Snapshot, wanted: Collection[str]) -> None:
        now = self._now()
        ttl = self._parameters().target_ttl
        if now is not None and self._memory.expire(now, ttl):
            self._log.warn(
                "target", f"The held target was not found for {ttl:g} s and was let go."
            )
        target = self._memory.target
        mask = np.zeros(len(snapshot.cloud.points), np.bool_)
        if target is not None:
            with self._stage("target"):
                mask = self._find_target(snapshot, target, now)
            if MASK in wanted:
                self._outputs.subset(MASK, snapshot.cloud, mask)
        if OBSTACLES in wanted:
            self._outputs.subset(OBSTACLES, snapshot.cloud, ~mask)

    def _find_target(
        self, snapshot: Snapshot, target: Target, now: float | None
    ) -> npt.NDArray[np.bool_]:
        mask = np.zeros(len(snapshot.cloud.points), np.bool_)
        vocabulary = self._memory.vocabulary
        if vocabulary is None:
            return mask
        found = ask(
            snapshot,
            target.query,
            target.embedding,
            target.negatives,
            vocabulary=vocabulary,
            calibration=self._calibration,
            parameters=self._parameters(),
        )
        if found.status == QueryStatus.OK:
            for instance in found.instances:
                mask[instance.point_indices] = True
            if now is not None:
                self._memory.found_again(target, now)
        return mask

    def _stage(self, name: str) -> _Stopwatch:
        return _Stopwatch(self._latencies, name)


class _Stopwatch:
    def __init__(self, latencies: Latencies, stage: str) -> None:
        self._latencies, self._stage = latencies, stage
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._latencies.add(self._stage, (time.perf_counter() - self._started) * 1e3)


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


def describe(error: BaseException) -> str:
    """The exception with its traceback, for the log."""
    return "".join(traceback.format_exception(error)).strip()
