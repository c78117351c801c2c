"""The second worker: embeds text that nobody has embedded yet, behind a bounded queue."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.language.encoder import CachedEncoder
from sas_ros.language.prompts import apply_prompt
from sas_ros.language.vocabulary import Vocabulary

Embeddings = npt.NDArray[np.float32]
Outcome = Embeddings | Exception
Done = Callable[[Outcome], None]


@dataclass
class _Job:
    texts: tuple[str, ...]
    done: Done
    deadline: float
    finished: bool = False


class TextWorker:
    """Answers known words at once and embeds new ones in its own thread.

    Known are the words of the given vocabularies (their embeddings are used as they are) and the
    texts embedded before (an LRU cache inside the encoder).

    Args:
        encoder: for new text, or None where the robot has no text encoder.
        prompt: template of the student, one `{}`.
        capacity: jobs that may wait; one more is refused.
        known: words that need no encoder, the student's own vocabulary.
        no_encoder: sentence that says why there is no encoder, used where text is refused.
        prepare: called once in the thread, before the first text.
    """

    def __init__(
        self,
        encoder: CachedEncoder | None,
        *,
        prompt: str,
        capacity: int,
        known: Vocabulary,
        no_encoder: str = "",
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._encoder = encoder
        self._prompt = prompt
        self._capacity = capacity
        self._known = known
        self._no_encoder = no_encoder
        self._prepare = prepare
        self._jobs: deque[_Job] = deque()
        self._current: _Job | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def encoder_name(self) -> str:
        """Name of the encoder; "none" where there is none."""
        return self._encoder.name if self._encoder is not None else "none"

    @property
    def waiting(self) -> int:
        """Jobs that wait for the thread."""
        with self._changed:
            return len(self._jobs)

    def lookup(self, text: str, vocabulary: Vocabulary | None = None) -> Embeddings | None:
        """(C,) embedding of a text that is known already, else None; never waits."""
        for words in (vocabulary, self._known):
            found = words.embedding(text) if words is not None else None
            if found is not None:
                return found
        if self._encoder is None:
            return None
        return self._encoder.peek(apply_prompt(self._prompt, text))

    def lookup_all(
        self, texts: Sequence[str], vocabulary: Vocabulary | None = None
    ) -> Embeddings | None:
        """(n, C) embeddings when every text is known, else None; never waits."""
        rows = [self.lookup(text, vocabulary) for text in texts]
        known = [row for row in rows if row is not None]
        if len(known) < len(rows):
            return None
        return np.stack(known) if known else np.zeros((0, self._known.dim), np.float32)

    def refusal(self, texts: Sequence[str], vocabulary: Vocabulary | None = None) -> str | None:
        """A sentence when a text is new and there is no encoder for it, else None."""
        if self._encoder is not None:
            return None
        new = [text for text in texts if self.lookup(text, vocabulary) is None]
        if not new:
            return None
        words = ", ".join((vocabulary or self._known).names[:30])
        named = ", ".join(repr(text[:40]) for text in new[:5])
        return f"{named} is new text, and {self._no_encoder} Known words: {words}."

    def submit(self, texts: Sequence[str], done: Done, *, timeout: float) -> bool:
        """Queue texts for embedding; False when the queue is full and nothing will happen.

        `done` is called once, from another thread, with (n, C) float32 unit rows or with an
        exception: `TimeoutError` after `timeout` seconds (see `expire`), `SasError` when the
        worker is stopped or the encoder refuses.
        """
        with self._changed:
            if self._closed or len(self._jobs) >= self._capacity:
                return False
            self._jobs.append(_Job(tuple(texts), done, time.monotonic() + timeout))
            self._changed.notify()
        return True

    def expire(self) -> None:
        """End the jobs whose time is over; to be called now and then from any other thread."""
        now = time.monotonic()
        with self._changed:
            late = [job for job in self._jobs if job.deadline < now]
            self._jobs = deque(job for job in self._jobs if job.deadline >= now)
            if self._current is not None and self._current.deadline < now:
                late.append(self._current)
        for job in late:
            self._finish(job, TimeoutError("The text encoder took too long."))

    def start(self) -> None:
        """Start the thread, again should it have died."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="text", daemon=True)
            self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, timeout: float) -> None:
        """End the thread, waiting at most `timeout` seconds; waiting jobs get an exception."""
        with self._changed:
            self._closed = True
            jobs, self._jobs = list(self._jobs), deque()
            if self._current is not None:
                jobs.append(self._current)
            self._changed.notify_all()
        for job in jobs:
            self._finish(job, SasError("The node is being shut down or reconfigured."))
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        self._prepare()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._jobs) or self._closed)
                if self._closed:
                    return
                job = self._current = self._jobs.popleft()
            outcome: Outcome
            try:
                outcome = self._embed(job.texts)
            except Exception as error:  # one bad text costs one answer, not the thread
                outcome = error
            with self._changed:
                self._current = None
            self._finish(job, outcome)

    def _embed(self, texts: Sequence[str]) -> Embeddings:
        if self._encoder is None:
            raise SasError(self.refusal(texts) or "There is no text encoder.")
        rows = [self._known.embedding(text) for text in texts]
        new = [text for text, row in zip(texts, rows, strict=True) if row is None]
        fresh = iter(self._encoder.encode([apply_prompt(self._prompt, text) for text in new]))
        return np.stack([next(fresh) if row is None else row for row in rows])

    def _finish(self, job: _Job, outcome: Outcome) -> None:
        with self._changed:
            if job.finished:
                return
            job.finished = True
        job.done(outcome)
