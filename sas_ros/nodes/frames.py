"""From a cloud message to a snapshot and its outputs: what the worker does, without ROS.

Every cloud ends in exactly one entry of the tally: processed, or dropped for a reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from sas_ros.clouds import read_cloud
from sas_ros.errors import SasError
from sas_ros.gravity import resolve_up
from sas_ros.instances import ObjectInstance, label_instances
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.memory import is_out_of_memory
from sas_ros.nodes.device import OwnStream
from sas_ros.nodes.log import describe
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.results import INSTANCES, LABELLED, MARKERS, VISUAL, Outputs, spread
from sas_ros.nodes.shared import Shared
from sas_ros.nodes.snapshot import Snapshot
from sas_ros.nodes.target import TargetKeeper
from sas_ros.observation import Cloud, ElementLabels, Float64Array, SceneFeatures, SourceHeader, Up

UpFromTf = Callable[[SourceHeader, float], Float64Array | None]
"""(header, seconds to wait) -> z axis of the inference frame in the cloud's frame, or None."""


class SceneSegmenter(Protocol):
    """What the worker needs of `sas_ros.segmenter.Segmenter`."""

    @property
    def device(self) -> torch.device: ...

    def segment(self, cloud: Cloud, up: Up) -> SceneFeatures: ...

    def label(self, scene: SceneFeatures, vocabulary: Vocabulary) -> ElementLabels: ...


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


class FrameProcessor:
    """Owns the segmenter; called by one worker thread.

    Args:
        segmenter: of the loaded student.
        target: publishes what has to do with the held target.
        shared: memory, tally, latencies, parameters, clock and log.
        outputs: publishes what somebody listens to.
        up_from_tf: asks TF, or None where no inference frame is set.
        answered: gets each snapshot after its outputs, or None; must not wait for anything.
    """

    def __init__(
        self,
        segmenter: SceneSegmenter,
        target: TargetKeeper,
        shared: Shared,
        outputs: Outputs,
        up_from_tf: UpFromTf | None = None,
        answered: Callable[[Snapshot], None] | None = None,
    ) -> None:
        self._segmenter = segmenter
        self._target = target
        self._outputs = outputs
        self._up_from_tf, self._answered = up_from_tf, answered
        self._parameters, self._now, self._log = shared.parameters, shared.now, shared.log
        self._memory, self._tally, self._latencies = shared.memory, shared.tally, shared.latencies
        self._stream = OwnStream(segmenter.device)
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
        if self._answered is not None:
            self._answered(snapshot)

    def refresh(self) -> None:
        """Publish mask and obstacles of the current snapshot again, after the target changed."""
        snapshot = self._memory.snapshot
        if snapshot is not None:
            self._target.publish(snapshot, self._outputs.wanted())

    def failed(self, _: Arrival | None, error: BaseException) -> None:
        """Report what went wrong after a cloud was understood, while publishing."""
        self._log.error("publish", f"Results could not be published: {describe(error)}")

    def _understand(self, arrival: Arrival) -> Snapshot:
        parameters = self._parameters()
        with self._latencies.stage("read"):
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
        with self._latencies.stage("up"):
            up = self._up(cloud, parameters)
        with self._latencies.stage("student"), self._stream.work():
            scene = self._segment(cloud, up)
        self._latencies.add("network", scene.network_s * 1e3)
        self._compare(scene)
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
                f"Clouds are stamped {abs(age):.1f} s {'before' if age > 0 else 'after'} the "
                "node's clock. For recorded data set use_sim_time and play the clock, or replay "
                "with --stamps now; for a live sensor synchronise the clocks.",
            )
        if 0 < parameters.max_age < age:
            raise Dropped(
                "stale",
                f"A cloud was dropped: it is {age:.1f} s old and max_age is "
                f"{parameters.max_age:g} s.",
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
            how = "estimated from planes" if up.source == "planes" else "assumed to be z"
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
            raise _too_large(len(cloud.points), str(error)) from None

    def _compare(self, scene: SceneFeatures) -> None:
        """Compare the scene with the words in force before anybody can ask it: they are kept with
        it, and a query has only its own text to compare."""
        words = self._memory.words
        if words is not None:
            try:
                with self._latencies.stage("words"), self._stream.work():
                    self._segmenter.label(scene, words.competing)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                points = len(scene.element_of_point)
                raise _too_large(points, "There is no memory left to compare it.") from None

    def _publish(self, snapshot: Snapshot) -> None:
        wanted = self._outputs.wanted()
        if not {LABELLED, VISUAL, INSTANCES, MARKERS}.isdisjoint(wanted):
            self._publish_labels(snapshot, wanted)
        self._target.publish(snapshot, wanted)

    def _publish_labels(self, snapshot: Snapshot, wanted: Collection[str]) -> None:
        words, parameters = self._memory.words, self._parameters()
        if words is None:
            return
        vocabulary = words.labels
        cloud, scene = snapshot.cloud, snapshot.scene
        with self._latencies.stage("label"), self._stream.work():
            elements = words.to_labels(self._segmenter.label(scene, words.competing))
        found: Sequence[ObjectInstance] = ()
        if not {LABELLED, INSTANCES, MARKERS}.isdisjoint(wanted):
            with self._latencies.stage("cluster"):
                found = label_instances(
                    scene,
                    cloud,
                    elements,
                    vocabulary,
                    max_instances=parameters.max_instances * 10,
                    min_points=parameters.min_points,
                    min_elements=words.min_elements,
                )
        with self._latencies.stage("publish"):
            labels = spread(scene, elements, found)
            if LABELLED in wanted:
                self._outputs.labelled(cloud, labels)
            if VISUAL in wanted:
                self._outputs.visual(cloud, labels, vocabulary.colors)
            if INSTANCES in wanted:
                self._outputs.instances(cloud, found)
            if MARKERS in wanted:
                self._outputs.markers(cloud, found, vocabulary)


def _too_large(points: int, reason: str) -> Dropped:
    return Dropped(
        "memory",
        f"A cloud of {points} points was dropped: {reason} Crop or thin the cloud, or use another "
        "device.",
    )
