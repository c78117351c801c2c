"""The service desk without a graph: coroutines driven by hand, every way to fail."""

from __future__ import annotations

import math
from collections.abc import Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sas_msgs", reason="needs the interface package")

from hypothesis import given, settings
from hypothesis import strategies as st
from sas_msgs.srv import Query, SetVocabulary

from sas_ros.boxes import rotation_matrix
from sas_ros.errors import SasError
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.nodes.log import ThrottledLog
from sas_ros.nodes.messages import cut
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.placing import place
from sas_ros.nodes.requests import read_labels, read_query
from sas_ros.nodes.services import Busy, Desk, extend
from sas_ros.nodes.shared import Shared
from sas_ros.nodes.text_worker import Outcome, TextWorker
from sas_ros.nodes.words import words_for
from sas_ros.observation import Cloud, SceneFeatures, SourceHeader, Up

EMBEDDINGS = np.eye(3, dtype=np.float32)
WORDS = Vocabulary(("floor", "chair", "table"), EMBEDDINGS, (False, True, True), distinct_colors(3))
ANSWER = Query.Response


class Suspended:
    """An awaitable that a test completes; stands for the text worker."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None

    def __await__(self) -> Any:
        while self.outcome is None:
            yield
        return self.outcome


def no_transform(target: str, source: str, stamp_ns: int) -> Any:
    raise SasError(f"{source} cannot be transformed to {target}: tf2_ros is not installed.")


class Bench:
    """A desk over one snapshot of three elements: floor, chair, table."""

    def __init__(self, **parameters: object) -> None:
        self.lines: list[str] = []
        logger = SimpleNamespace(error=self.lines.append, warning=self.lines.append)
        self.parameters = PerceptionParameters.from_values({"min_points": 1, **parameters})
        self.shared = Shared(
            parameters=lambda: self.parameters, now=lambda: 110.0, log=ThrottledLog(logger)
        )
        self.memory = self.shared.memory
        self.memory.words = words_for(WORDS, WORDS, Calibration())
        self.announced: list[Vocabulary] = []
        self.changes = 0
        self.waits: list[tuple[list[str], Suspended]] = []
        self.full = False
        self.desk = Desk(
            self.shared,
            wait_for=self.wait_for,
            target_changed=self.changed,
            vocabulary_changed=self.announced.append,
            between=no_transform,
        )
        encoder = SimpleNamespace(name="later", dim=3, peek=lambda text: None)
        self.text = TextWorker(encoder, prompt="{}", capacity=1, known=WORDS)  # type: ignore[arg-type]
        bundle = SimpleNamespace(name="tiny", vocabulary=WORDS, calibration=Calibration())
        self.desk.configured = SimpleNamespace(bundle=bundle, text=self.text)  # type: ignore[assignment]
        self.desk.active = True

    def changed(self) -> None:
        self.changes += 1

    async def wait_for(self, text: TextWorker, texts: Sequence[str]) -> Outcome:
        if self.full:
            raise Busy("Too much new text.")
        waiting = Suspended()
        self.waits.append((list(texts), waiting))
        return await waiting

    def look(self) -> None:
        import torch

        points = np.array([[0, 0, 0], [1, 1, 1], [3, 0, 1], [np.nan] * 3], np.float32)
        header = SourceHeader(100 * 10**9, "lidar")
        cloud = Cloud(points, header=header)
        scene = SceneFeatures(
            torch.from_numpy(EMBEDDINGS), points[:3], np.array([0, 1, 2, -1], np.int32), header,
            Up(np.array([0.0, 0, 1]), "parameter"), np.zeros(3), 0.1,
        )  # fmt: skip
        self.memory.install(cloud, scene, self.memory.epoch)

    def start(self, text: str, **fields: Any) -> Coroutine[Any, Any, Query.Response]:
        request = Query.Request(text=text)
        for name, value in fields.items():
            setattr(request, name, value)
        return self.desk.query(request, Query.Response())

    def ask(self, text: str, **fields: Any) -> Query.Response:
        return finish(self.start(text, **fields))


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("It still waits.")


def advance(coroutine: Coroutine[Any, Any, Any]) -> None:
    coroutine.send(None)  # raises StopIteration, a test failure, when it does not wait


def test_a_known_word_is_answered_without_waiting() -> None:
    bench = Bench()
    assert bench.ask("chair").status == ANSWER.NO_DATA
    bench.look()
    answer = bench.ask(" Chair ", return_indices=True, return_cloud=True)
    assert answer.status == ANSWER.OK
    assert [list(item.indices) for item in answer.instances] == [[1]]
    assert answer.cloud.width == 1
    assert answer.age_s == pytest.approx(10.0)
    assert answer.student == "tiny"
    assert bench.waits == []


def test_states_other_than_active_say_what_to_do() -> None:
    bench = Bench()
    bench.desk.active = False
    assert bench.ask("chair").status == ANSWER.NOT_ACTIVE
    bench.desk.configured = None
    assert "configure" in bench.ask("chair").message


def test_new_text_waits_and_is_answered_from_the_snapshot_that_is_there_then() -> None:
    bench = Bench()
    bench.look()
    running = bench.start("stool")
    advance(running)
    assert bench.waits[0][0] == ["stool"]
    bench.look()
    bench.waits[0][1].outcome = EMBEDDINGS[1:2]
    answer = finish(running)
    assert answer.status == ANSWER.OK and answer.instances[0].label == "stool"


def test_what_happens_while_waiting_is_noticed() -> None:
    bench = Bench()
    bench.look()
    running = bench.start("stool")
    advance(running)
    bench.desk.active = False
    bench.waits[0][1].outcome = EMBEDDINGS[1:2]
    assert finish(running).status == ANSWER.NOT_ACTIVE
    bench.desk.active = True
    running = bench.start("stool", set_target=True)
    advance(running)
    bench.memory.forget()
    bench.waits[1][1].outcome = EMBEDDINGS[1:2]
    assert finish(running).status == ANSWER.NO_DATA
    assert bench.memory.target is None


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (TimeoutError("Took too long."), ANSWER.BUSY),
        (SasError("The encoder refused."), ANSWER.INVALID),
        (RuntimeError("a bug"), ANSWER.INVALID),
    ],
)
def test_trouble_with_the_encoder_becomes_a_status(outcome: Exception, status: int) -> None:
    bench = Bench()
    bench.look()
    running = bench.start("stool")
    advance(running)
    bench.waits[0][1].outcome = outcome
    answer = finish(running)
    assert answer.status == status and answer.message
    assert bool(bench.lines) == isinstance(outcome, RuntimeError)


def test_a_full_queue_is_busy() -> None:
    bench = Bench()
    bench.look()
    bench.full = True
    assert bench.ask("stool").status == ANSWER.BUSY
    assert bench.ask("chair").status == ANSWER.OK


def test_known_negatives_are_not_embedded_again() -> None:
    bench = Bench()
    bench.look()
    running = bench.start("stool", negatives=["table", "lamp", "lamp"])
    advance(running)
    assert bench.waits[0][0] == ["stool", "lamp"]
    bench.waits[0][1].outcome = EMBEDDINGS[[1, 0]]
    assert finish(running).status == ANSWER.OK


def test_targets_are_set_cleared_and_left_alone() -> None:
    bench = Bench()
    bench.look()
    assert bench.ask("chair", set_target=True).status == ANSWER.OK
    target = bench.memory.target
    assert target is not None and target.query.text == "chair"
    assert bench.changes == 1
    bench.ask("table")
    bench.ask("", set_target=False)
    bench.ask("chair\x01", set_target=True)
    assert bench.memory.target is target
    cleared = bench.ask("  ", set_target=True)
    assert (cleared.status, cleared.message) == (ANSWER.OK, "")
    assert bench.memory.target is None and bench.changes == 2


def test_set_target_without_a_hit_lets_the_old_one_go() -> None:
    bench = Bench()
    bench.look()
    bench.ask("chair", set_target=True)
    answer = bench.ask("chair", set_target=True, negatives=["chair"], threshold=1.0)
    if answer.status == ANSWER.NOT_FOUND:
        assert bench.memory.target is None


def change(bench: Bench, *labels: str) -> Coroutine[Any, Any, SetVocabulary.Response]:
    request = SetVocabulary.Request(labels=list(labels))
    return bench.desk.set_vocabulary(request, SetVocabulary.Response())


def test_vocabulary_is_replaced_whole_and_announced_first() -> None:
    bench = Bench()
    answer = finish(change(bench, "table", "chair"))
    assert (answer.success, answer.version) == (True, WORDS.version + 1)
    assert bench.announced[0].names == ("table", "chair")
    assert bench.announced[0].colors[1].tolist() == WORDS.colors[1].tolist()
    assert bench.memory.vocabulary is bench.announced[0]


def test_a_vocabulary_that_cannot_be_embedded_changes_nothing() -> None:
    bench = Bench()
    running = change(bench, "chair", "lamp")
    advance(running)
    second = finish(change(bench, "table"))
    assert not second.success and "Another vocabulary" in second.message
    bench.waits[0][1].outcome = TimeoutError("Took too long.")
    answer = finish(running)
    assert not answer.success and answer.version == WORDS.version
    assert bench.announced == []
    assert finish(change(bench, "table")).success


def test_words_lost_and_given_again_keep_their_kind_and_colour() -> None:
    only_table = extend(WORDS, WORDS, ["table"], EMBEDDINGS[2:])
    back = extend(WORDS, only_table, ["floor", "lamp"], EMBEDDINGS[:2])
    assert back.things == (False, True)
    assert back.colors[0].tolist() == WORDS.colors[0].tolist()
    assert back.version == only_table.version + 1


@pytest.mark.parametrize(
    ("change_request", "word"),
    [
        (lambda r: (setattr(r, "source", 1), setattr(r, "set_target", True)), "map"),
        (lambda r: setattr(r, "source", 9), "source"),
        (lambda r: setattr(r, "threshold", math.nan), "threshold"),
        (lambda r: setattr(r, "threshold", 1.01), "threshold"),
        (lambda r: setattr(r, "negatives", ["x"] * 1000), "negatives"),
        (lambda r: setattr(r.max_age, "sec", -1), "max_age"),
        (lambda r: setattr(r, "roi_enabled", True), "roi_size"),
        (lambda r: setattr(r, "text", "\n"), "empty"),
    ],
)
def test_requests_that_make_no_sense_are_refused(change_request: Any, word: str) -> None:
    request = Query.Request(text="chair")
    change_request(request)
    with pytest.raises(SasError, match=word):
        read_query(request)


def test_frames_that_need_a_transform_are_refused_without_one() -> None:
    lidar, query = SourceHeader(7, "lidar"), read_query(Query.Request(text="chair"))
    with pytest.raises(SasError, match=r"target_frame: lidar cannot .* tf2"):
        place(Query.Request(target_frame="map"), query, lidar, no_transform)
    placed = place(Query.Request(target_frame="lidar"), query, lidar, no_transform)
    assert (placed.frame, placed.pose, placed.query) == ("lidar", None, query)
    request = Query.Request(text="chair")
    request.roi_pose.header.frame_id = "map"
    assert place(request, query, lidar, no_transform).query is query  # not enabled
    request.roi_enabled = True
    request.roi_size.x = request.roi_size.y = request.roi_size.z = 1.0
    request.roi_pose.pose.orientation.w = 1.0
    with pytest.raises(SasError, match="roi_pose: map cannot"):
        place(request, read_query(request), lidar, no_transform)
    bench = Bench()
    bench.look()
    answer = bench.ask("chair", target_frame="map")
    assert answer.status == ANSWER.INVALID and "tf2_ros" in answer.message


numbers = st.floats(-10, 10)


@settings(deadline=None, derandomize=True)
@given(numbers, numbers, numbers, numbers)
def test_quaternions_become_rotations_or_are_refused(
    x: float, y: float, z: float, w: float
) -> None:
    try:
        matrix = rotation_matrix((x, y, z, w))
    except SasError:
        assert abs(x) + abs(y) + abs(z) + abs(w) < 1e-6
        return
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(matrix) == pytest.approx(1.0)


def test_a_quarter_turn_about_z_takes_x_to_y() -> None:
    half = math.sqrt(0.5)
    np.testing.assert_allclose(rotation_matrix((0, 0, half, half))[:, 0], [0, 1, 0], atol=1e-12)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.text(max_size=12), max_size=6))
def test_any_labels_are_read_or_refused(labels: list[str]) -> None:
    try:
        names = read_labels(labels)
    except SasError as error:
        assert str(error)
        return
    assert len({name.casefold() for name in names}) == len(names) == len(labels)


def test_cutting_keeps_the_best_first() -> None:
    parts = [np.arange(4, dtype=np.uint32), np.arange(3, dtype=np.uint32)]
    assert [len(part) for part in cut(parts, 5)] == [4, 1]
    assert [len(part) for part in cut(parts, 2)] == [2, 0]
    assert [len(part) for part in cut(parts, 9)] == [4, 3]
