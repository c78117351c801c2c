"""What the worker does with a cloud: one entry of the tally each, outputs only when wanted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sas_ros.errors import SasError
from sas_ros.instances import ObjectInstance
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import UNLABELLED, Vocabulary, distinct_colors
from sas_ros.nodes import frames
from sas_ros.nodes.frames import Arrival, FrameProcessor
from sas_ros.nodes.log import ThrottledLog
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.results import PointLabels, spread
from sas_ros.nodes.shared import Shared
from sas_ros.nodes.target import TargetKeeper, ask, new_target
from sas_ros.nodes.words import words_for
from sas_ros.observation import Cloud, ElementLabels, SceneFeatures, SourceHeader, Up
from sas_ros.query import QueryStatus, TextQuery
from sas_ros.word_scores import scene_scores

EMBEDDINGS = np.eye(3, dtype=np.float32)
WORDS = Vocabulary(("floor", "chair", "table"), EMBEDDINGS, (False, True, True), distinct_colors(3))
SECOND = 10**9


class Logger:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, line: str) -> None:
        self.lines.append(f"WARN {line}")

    def error(self, line: str) -> None:
        self.lines.append(f"ERROR {line}")


class Outputs:
    """Records what is published; `listeners` says who listens."""

    def __init__(self, *listeners: str) -> None:
        self.listeners = set(listeners)
        self.published: list[tuple[str, Any]] = []

    def wanted(self) -> Collection[str]:
        return self.listeners

    def labelled(self, cloud: Cloud, labels: PointLabels) -> None:
        self.published.append(("labeled_points", labels))

    def visual(self, cloud: Cloud, labels: PointLabels, colors: npt.NDArray[np.uint8]) -> None:
        self.published.append(("visualization", labels))

    def instances(self, cloud: Cloud, found: Sequence[ObjectInstance]) -> None:
        self.published.append(("instances", found))

    def markers(
        self, cloud: Cloud, found: Sequence[ObjectInstance], vocabulary: Vocabulary
    ) -> None:
        self.published.append(("instance_markers", found))

    def subset(self, topic: str, cloud: Cloud, mask: npt.NDArray[np.bool_]) -> None:
        self.published.append((topic, mask))


class ByHeight:
    """A segmenter for tests: one element per point; z < 0.1 is floor, y > 0 chair, else table."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.trouble: Callable[[], None] = lambda: None
        self.ups: list[Up] = []

    def segment(self, cloud: Cloud, up: Up) -> SceneFeatures:
        self.trouble()
        self.ups.append(up)
        valid = cloud.valid
        points = cloud.points[valid]
        kind = np.where(points[:, 2] < 0.1, 0, np.where(points[:, 1] > 0, 1, 2))
        element = np.full(len(cloud.points), -1, np.int32)
        element[valid] = np.arange(len(points))
        return SceneFeatures(
            torch.from_numpy(EMBEDDINGS[kind]), points, element, cloud.header, up, cloud.origin, 0.1
        )

    def label(self, scene: SceneFeatures, vocabulary: Vocabulary) -> ElementLabels:
        score = scene.features.numpy() @ vocabulary.embeddings.T
        return ElementLabels(score.argmax(axis=1), score.max(axis=1).astype(np.float32))


class Bench:
    """A processor with everything around it faked but the memory and the tally."""

    def __init__(self, *listeners: str, up_from_tf: Any = None, **parameters: object) -> None:
        self.time: float | None = 100.0
        self.logger = Logger()
        self.parameters = PerceptionParameters.from_values({"min_points": 1, **parameters})
        self.shared = Shared(
            parameters=lambda: self.parameters,
            now=lambda: self.time,
            log=ThrottledLog(self.logger),
        )
        self.memory = self.shared.memory
        self.memory.words = words_for(WORDS, WORDS, Calibration())
        self.outputs = Outputs(*listeners)
        self.segmenter = ByHeight()
        keeper = TargetKeeper(Calibration(), self.shared, self.outputs)
        self.processor = FrameProcessor(
            self.segmenter, keeper, self.shared, self.outputs, up_from_tf=up_from_tf
        )

    def send(self, message: Any, epoch: int = 0) -> dict[str, int]:
        self.shared.tally.receive()
        self.processor.process(Arrival(message, 0.0, epoch))
        counts = self.shared.tally.snapshot()
        assert counts["in_flight"] == 0
        return {key: value for key, value in counts.items() if value}


def message(points: Any, *, stamp: float = 100.0, frame: str = "lidar") -> SimpleNamespace:
    points = np.asarray(points, np.float32).reshape(-1, 3)
    fields = [
        SimpleNamespace(name=name, offset=4 * k, datatype=7, count=1)
        for k, name in enumerate("xyz")
    ]
    seconds, rest = divmod(round(stamp * SECOND), SECOND)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=rest), frame_id=frame),
        height=1, width=len(points), fields=fields, is_bigendian=False, point_step=12,
        row_step=12 * len(points), data=points.tobytes(), is_dense=True,
    )  # fmt: skip


ROOM = [[0, 0, 0], [1, 0, 0], [1, 1, 0.5], [1, 1.1, 0.5], [np.nan, 0, 0], [2, -1, 0.7]]


def test_a_cloud_becomes_a_snapshot_and_nothing_is_made_that_nobody_wants() -> None:
    bench = Bench(up="0,0,1")
    assert bench.send(message(ROOM)) == {"received": 1, "processed": 1}
    snapshot = bench.memory.snapshot
    assert snapshot is not None and snapshot.number == 1
    assert snapshot.scene.header == SourceHeader(100 * SECOND, "lidar")
    assert bench.outputs.published == []
    assert "label_ms_p50" not in bench.shared.latencies.values()


def test_words_are_compared_before_a_snapshot_can_be_asked() -> None:
    bench = Bench(up="0,0,1")
    compared = []

    def label(scene: SceneFeatures, vocabulary: Vocabulary) -> ElementLabels:
        compared.append((scene, vocabulary, bench.memory.snapshot))
        return scene_scores(scene, vocabulary, Calibration().temperature).labels

    bench.segmenter.label = label  # type: ignore[method-assign]
    bench.send(message(ROOM))
    snapshot, words = bench.memory.snapshot, bench.memory.words
    assert snapshot is not None and words is not None
    assert compared == [(snapshot.scene, words.competing, None)]

    def again() -> None:
        raise AssertionError("The words were compared once more for a query.")

    kept = ("word scores", (words.competing, Calibration().temperature), again)
    scores = snapshot.scene.kept.get(*kept)
    found = ask(
        snapshot, TextQuery("chair"), EMBEDDINGS[1], None,
        words=words, calibration=Calibration(), parameters=bench.parameters,
    )  # fmt: skip
    assert found.status == QueryStatus.OK
    assert snapshot.scene.kept.get(*kept) is scores  # not those of other words or temperature


def test_labels_reach_points_and_misses_stay_unlabelled() -> None:
    bench = Bench("labeled_points", "instances", up="0,0,1")
    bench.send(message(ROOM))
    published = dict(bench.outputs.published)
    labels = published["labeled_points"]
    assert labels.label.tolist() == [0, 0, 1, 1, UNLABELLED, 2]
    assert labels.confidence[4] == 0 and labels.instance[4] == 0
    found = published["instances"]
    assert sorted(item.label for item in found) == ["chair", "table"]
    for number, item in enumerate(found, start=1):
        assert (labels.instance == number).nonzero()[0].tolist() == item.point_indices.tolist()


def test_markers_are_made_of_the_same_instances_and_only_while_somebody_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench("instances", "instance_markers", up="0,0,1")
    bench.send(message(ROOM))
    published = dict(bench.outputs.published)
    assert published["instance_markers"] is published["instances"]
    bench.outputs.published.clear()
    bench.outputs.listeners = {"instance_markers"}
    bench.send(message(ROOM))
    assert [topic for topic, _ in bench.outputs.published] == ["instance_markers"]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("nobody asked for objects")

    monkeypatch.setattr(frames, "label_instances", never)
    bench.outputs.published.clear()
    bench.outputs.listeners = {"visualization"}
    bench.send(message(ROOM))
    assert [topic for topic, _ in bench.outputs.published] == ["visualization"]


def test_bad_messages_are_dropped_with_their_fields_named() -> None:
    bench = Bench(up="0,0,1")
    bad = message(ROOM)
    bad.fields = bad.fields[:2]
    assert bench.send(bad) == {"received": 1, "dropped": 1, "dropped_layout": 1}
    assert "x float32 at 0, y float32 at 4" in bench.logger.lines[0]
    counts = bench.send(message(np.zeros((0, 3))))
    assert counts["dropped_empty"] == 1
    counts = bench.send(message([[np.nan, 0, 0], [0, np.inf, 0]]))
    assert counts["dropped_empty"] == 2
    assert bench.memory.snapshot is None


@pytest.mark.parametrize(
    ("error", "reason", "level"),
    [
        (MemoryError("no room even for tiles."), "memory", "ERROR"),
        (SasError("These are no metres."), "layout", "WARN"),
        (RuntimeError("a bug"), "error", "ERROR"),
    ],
)
def test_trouble_in_the_student_costs_one_cloud(error: Exception, reason: str, level: str) -> None:
    bench = Bench(up="0,0,1")

    def fail() -> None:
        raise error

    bench.segmenter.trouble = fail
    assert bench.send(message(ROOM))[f"dropped_{reason}"] == 1
    assert bench.logger.lines[0].startswith(level) and str(error) in bench.logger.lines[0]
    bench.segmenter.trouble = lambda: None
    assert bench.send(message(ROOM))["processed"] == 1


def test_a_thread_that_is_ended_leaves_a_complete_tally() -> None:
    bench = Bench(up="0,0,1")

    def end() -> None:
        raise SystemExit

    bench.segmenter.trouble = end
    with pytest.raises(SystemExit):
        bench.send(message(ROOM))
    assert bench.shared.tally.snapshot()["in_flight"] == 0


def test_a_jump_during_the_work_keeps_the_result_out() -> None:
    bench = Bench(up="0,0,1")
    bench.segmenter.trouble = lambda: bench.memory.forget() and None
    assert bench.send(message(ROOM))["dropped_jump"] == 1
    assert bench.memory.snapshot is None
    bench.segmenter.trouble = lambda: None
    assert bench.send(message(ROOM), epoch=1)["processed"] == 1


def test_old_clouds_are_dropped_and_strange_stamps_told_once() -> None:
    bench = Bench(up="0,0,1", max_age=2.0)
    assert bench.send(message(ROOM, stamp=50.0))["dropped_stale"] == 1
    bench.send(message(ROOM, stamp=40.0))
    told = [line for line in bench.logger.lines if "use_sim_time" in line]
    assert len(told) == 1 and "50.0 s before" in told[0]
    assert bench.send(message(ROOM, stamp=99.0))["processed"] == 1
    bench.time = None  # simulated time has not started: no age, no drop
    assert bench.send(message(ROOM, stamp=0.0))["processed"] == 2


def test_up_follows_the_documented_order() -> None:
    bench = Bench(up="0,0,2", up_from_tf=lambda header, timeout: np.array([1.0, 0, 0]))
    bench.send(message(ROOM))
    assert bench.segmenter.ups[-1].source == "parameter"
    bench = Bench(up_from_tf=lambda header, timeout: np.array([1.0, 0, 0]))
    bench.send(message(ROOM, frame="camera_optical_frame"))
    np.testing.assert_allclose(bench.segmenter.ups[-1].direction, [1, 0, 0])
    bench = Bench()
    bench.send(message(ROOM, frame="camera_optical_frame"))
    np.testing.assert_allclose(bench.segmenter.ups[-1].direction, [0, -1, 0])
    bench = Bench()
    bench.send(message(ROOM))
    assert any("Set the parameter up" in line for line in bench.logger.lines)
    bench = Bench(up_from_tf=lambda header, timeout: None, inference_frame="odom")
    assert bench.send(message(ROOM))["dropped_up"] == 1
    assert "'odom'" in bench.logger.lines[0]


def test_what_fails_while_publishing_is_reported_and_counted_as_processed() -> None:
    bench = Bench("labeled_points", up="0,0,1")
    bench.outputs.labelled = lambda cloud, labels: 1 / 0  # type: ignore[method-assign,assignment]
    with pytest.raises(ZeroDivisionError) as caught:
        bench.send(message(ROOM))
    bench.processor.failed(None, caught.value)
    assert "could not be published" in bench.logger.lines[-1]
    assert bench.shared.tally.snapshot()["processed"] == 1


def hold(bench: Bench, word: str = "chair", chosen: int = 1) -> None:
    embedding = WORDS.embedding(word)
    assert embedding is not None
    snapshot, words, query = bench.memory.snapshot, bench.memory.words, TextQuery(word)
    assert snapshot is not None and words is not None
    found = ask(
        snapshot, query, embedding, None,
        words=words, calibration=Calibration(), parameters=bench.parameters, with_rivals=True,
    )  # fmt: skip
    target = new_target(snapshot, query, embedding, None, found, chosen, bench.time or 0.0)
    assert bench.memory.hold(target, bench.memory.epoch)


def test_target_is_cut_out_expires_and_never_hides_more_than_it_is() -> None:
    bench = Bench("query_mask", "obstacles", up="0,0,1", target_ttl=5.0, stamp_tolerance=0.0)
    bench.send(message(ROOM))
    (topic, whole), *_ = bench.outputs.published
    assert topic == "obstacles" and whole.all()
    hold(bench)
    bench.outputs.published.clear()
    bench.processor.refresh()
    published = dict(bench.outputs.published)
    assert published["query_mask"].tolist() == [False, False, True, True, False, False]
    np.testing.assert_array_equal(published["obstacles"], ~published["query_mask"])
    bench.time = 104.0
    bench.send(message(ROOM))  # found again: five more seconds
    bench.time = 108.0
    bench.outputs.published.clear()
    bench.send(message([[0, 0, 0], [1, 0, 0]]))
    published = dict(bench.outputs.published)
    assert not published["query_mask"].any() and published["obstacles"].all()
    bench.time = 109.5
    bench.outputs.published.clear()
    bench.send(message(ROOM))
    assert [topic for topic, _ in bench.outputs.published] == ["obstacles"]
    assert bench.memory.target is None
    assert any("let go" in line for line in bench.logger.lines)


def test_labels_of_the_user_compete_with_the_students_words() -> None:
    bench = Bench("labeled_points", up="0,0,1")
    own = Vocabulary(("table",), EMBEDDINGS[2:], (True,), distinct_colors(1), version=2)
    bench.memory.words = words_for(own, WORDS, Calibration())
    bench.send(message(ROOM))
    labels = dict(bench.outputs.published)["labeled_points"].label
    assert labels.tolist() == [UNLABELLED] * 5 + [0]


def test_a_label_takes_the_students_words_that_mean_the_same() -> None:
    near_chair = np.array([[0.3, 0.95, 0.0]], np.float32)
    near_chair /= np.linalg.norm(near_chair)
    seat = Vocabulary(("seat",), near_chair, (True,), distinct_colors(1))
    words = words_for(seat, WORDS, Calibration())
    assert words.competing.names == ("seat", "floor", "chair", "table")
    assert words.label_of.tolist() == [0, UNLABELLED, 0, UNLABELLED]


def test_spread_gives_a_shared_point_to_the_better_instance() -> None:
    scene = SceneFeatures(
        torch.zeros(2, 3), np.zeros((2, 3), np.float32), np.array([0, -1, 1], np.int32),
        SourceHeader(), Up(np.array([0.0, 0, 1])), np.zeros(3), 0.1,
    )  # fmt: skip
    elements = ElementLabels(np.array([1, 2]), np.array([0.9, 0.8], np.float32))

    def instance(*indices: int) -> ObjectInstance:
        return SimpleNamespace(point_indices=np.array(indices, np.uint32))  # type: ignore[return-value]

    labels = spread(scene, elements, [instance(0), instance(0, 2)])
    assert labels.label.tolist() == [1, UNLABELLED, 2]
    assert labels.instance.tolist() == [1, 0, 2]
