"""Mailbox, worker and text worker: what is handed over, what is refused, what survives."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from sas_ros.errors import SasError
from sas_ros.language.encoder import CachedEncoder
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.nodes.mailbox import Mailbox
from sas_ros.nodes.text_worker import Outcome, TextWorker
from sas_ros.nodes.worker import Worker

KNOWN = Vocabulary(
    ("chair", "table"), np.eye(2, 3, dtype=np.float32), (True,) * 2, distinct_colors(2)
)
WAIT = 10.0


def test_the_newest_item_wins_and_the_older_comes_back() -> None:
    box: Mailbox[int] = Mailbox()
    assert box.put(1) is None
    assert box.put(2) == 1
    assert len(box) == 1
    assert box.take() == 2
    assert len(box) == 0


def test_a_nudge_wakes_without_taking_the_item() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    box.nudge()
    assert box.take() is None
    assert box.take() == 1


def test_closing_hands_back_what_nobody_took() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    assert box.close() == 1
    assert box.take() is None
    assert box.put(2) == 2
    assert box.closed


def test_an_item_is_not_handed_out_too_early_and_the_newest_is() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    not_before = time.monotonic() + 0.05
    threading.Timer(0.01, box.put, [2]).start()
    assert box.take(not_before) == 2
    assert time.monotonic() >= not_before


class Recorder:
    """Collects what a worker does, and lets a test wait for it."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.failures: list[BaseException] = []
        self.changed = threading.Condition()

    def process(self, item: object) -> None:
        if isinstance(item, BaseException):
            raise item
        self._note(self.done, item)

    def failed(self, item: object, error: BaseException) -> None:
        self._note(self.failures, error)

    def idle(self) -> None:
        self._note(self.done, "idle")

    def _note(self, where: list[object] | list[BaseException], what: object) -> None:
        with self.changed:
            where.append(what)  # type: ignore[arg-type]
            self.changed.notify_all()

    def wait(self, done: int = 0, failures: int = 0) -> None:
        with self.changed:
            assert self.changed.wait_for(
                lambda: len(self.done) >= done and len(self.failures) >= failures, WAIT
            )


def start_worker(recorder: Recorder) -> tuple[Mailbox[object], Worker[object]]:
    box: Mailbox[object] = Mailbox()
    worker = Worker(box, recorder.process, recorder.failed, idle=recorder.idle)
    worker.start()
    return box, worker


def test_an_exception_costs_one_item_and_not_the_thread() -> None:
    recorder = Recorder()
    box, worker = start_worker(recorder)
    box.put(RuntimeError("one bad cloud"))
    recorder.wait(failures=1)
    box.put("good")
    recorder.wait(done=1)
    box.nudge()
    recorder.wait(done=2)
    assert recorder.done == ["good", "idle"]
    assert not worker.ensure_alive()
    assert worker.stop(WAIT) is None
    assert not worker.alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_started_again() -> None:
    recorder = Recorder()
    box, worker = start_worker(recorder)
    box.put(SystemExit())  # not an Exception: ends the thread
    end = time.monotonic() + WAIT
    while worker.alive and time.monotonic() < end:
        threading.Event().wait(0.001)
    assert worker.ensure_alive()
    assert worker.restarts == 1
    box.put("good")
    recorder.wait(done=1)
    worker.stop(WAIT)
    assert not worker.ensure_alive()


class SlowEncoder:
    """Embeds a text as a unit vector, when the test lets it."""

    name, dim = "slow", 3

    def __init__(self) -> None:
        self.go = threading.Event()
        self.started = threading.Event()
        self.calls: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.started.set()
        assert self.go.wait(WAIT)
        self.calls.append(list(texts))
        if "poison" in texts:
            raise RuntimeError("the encoder broke")
        return np.tile(np.array([0, 0, 1], np.float32), (len(texts), 1))


class Answers:
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._changed = threading.Condition()

    def done(self, outcome: Outcome) -> None:
        with self._changed:
            self.outcomes.append(outcome)
            self._changed.notify_all()

    def wait(self, count: int) -> list[Outcome]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.outcomes) >= count, WAIT)
        return self.outcomes


def text_worker(encoder: SlowEncoder | None, capacity: int = 2) -> TextWorker:
    cached = CachedEncoder(encoder) if encoder is not None else None
    worker = TextWorker(
        cached, prompt="a {}", capacity=capacity, known=KNOWN, no_encoder="there is no encoder."
    )
    worker.start()
    return worker


def test_known_words_are_answered_without_an_encoder() -> None:
    worker = text_worker(None)
    rows = worker.lookup_all(["Chair", " table "])
    assert rows is not None
    np.testing.assert_array_equal(rows, KNOWN.embeddings)
    assert worker.refusal(["chair"]) is None
    reason = worker.refusal(["chair", "unicorn"])
    assert reason is not None and "unicorn" in reason and "there is no encoder" in reason
    assert worker.lookup_all([]) is not None
    assert worker.encoder_name == "none"
    worker.stop(WAIT)


def test_new_text_goes_through_the_prompt_once_and_is_remembered() -> None:
    encoder, answers = SlowEncoder(), Answers()
    encoder.go.set()
    worker = text_worker(encoder)
    assert worker.lookup("unicorn") is None
    assert worker.submit(["unicorn", "chair"], answers.done, timeout=WAIT)
    outcome = answers.wait(1)[0]
    assert isinstance(outcome, np.ndarray)
    np.testing.assert_array_equal(outcome, [[0, 0, 1], [1, 0, 0]])
    assert encoder.calls == [["a unicorn"]]
    assert worker.lookup("unicorn") is not None
    worker.stop(WAIT)


def test_a_full_queue_refuses_and_a_broken_text_costs_one_answer() -> None:
    encoder, answers = SlowEncoder(), Answers()
    worker = text_worker(encoder, capacity=2)
    assert worker.submit(["one"], answers.done, timeout=WAIT)
    assert encoder.started.wait(WAIT)  # taken from the queue, which is empty again
    assert worker.submit(["poison"], answers.done, timeout=WAIT)
    assert worker.submit(["three"], answers.done, timeout=WAIT)
    assert worker.waiting == 2
    assert not worker.submit(["four"], answers.done, timeout=WAIT)
    encoder.go.set()
    outcomes = answers.wait(3)
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [np.ndarray, np.ndarray, np.ndarray] or RuntimeError in kinds
    assert worker.alive
    worker.stop(WAIT)


def test_what_waits_too_long_times_out_and_is_answered_once() -> None:
    encoder, answers = SlowEncoder(), Answers()
    worker = text_worker(encoder)
    assert worker.submit(["one"], answers.done, timeout=0.0)
    assert worker.submit(["two"], answers.done, timeout=0.0)
    assert encoder.started.wait(WAIT)
    worker.expire()
    assert [type(outcome) for outcome in answers.wait(2)] == [TimeoutError, TimeoutError]
    encoder.go.set()
    worker.stop(WAIT)
    assert len(answers.outcomes) == 2


def test_stopping_answers_everybody() -> None:
    encoder, answers = SlowEncoder(), Answers()
    worker = text_worker(encoder)
    worker.submit(["one"], answers.done, timeout=WAIT)
    worker.submit(["two"], answers.done, timeout=WAIT)
    assert encoder.started.wait(WAIT)
    worker.stop(0.0)
    assert all(isinstance(outcome, SasError) for outcome in answers.wait(2))
    assert not worker.submit(["three"], answers.done, timeout=WAIT)
    encoder.go.set()
