"""The two services: asking for text, and replacing the vocabulary.

The callbacks are coroutines on the executor's only thread. They answer at once from the snapshot
and wait (without blocking anybody) only while the text worker embeds new words.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from sas_msgs.srv import Query, SetVocabulary

from sas_ros.errors import SasError
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.mapping import MapView
from sas_ros.nodes import messages
from sas_ros.nodes.log import describe
from sas_ros.nodes.map_keeper import MapKeeper
from sas_ros.nodes.placing import Between, Placed, place
from sas_ros.nodes.requests import read_labels, read_query
from sas_ros.nodes.shared import Shared
from sas_ros.nodes.snapshot import Snapshot
from sas_ros.nodes.target import ask, best_of, new_target
from sas_ros.nodes.text_worker import Outcome, TextWorker
from sas_ros.nodes.words import words_for
from sas_ros.query import QueryAnswer, QueryStatus, TextQuery
from sas_ros.student.bundle import StudentBundle

Embeddings = npt.NDArray[np.float32]


class Busy(Exception):
    """The text encoder has too much to do; the message is a sentence."""


class Configured(Protocol):
    """What exists only while the node is configured, see `sas_ros.nodes.model.Model`."""

    @property
    def bundle(self) -> StudentBundle: ...

    @property
    def text(self) -> TextWorker: ...


class Desk:
    """Answers requests from the memory.

    Args:
        shared: memory, latencies, parameters, clock and log.
        wait_for: submits texts to the text worker and awaits what becomes of them; raises `Busy`.
        target_changed: called after the held target changed.
        vocabulary_changed: announces a vocabulary; called before it comes into force.
        between: asks TF for the frames of requests.
    """

    def __init__(
        self,
        shared: Shared,
        *,
        wait_for: Callable[[TextWorker, Sequence[str]], Awaitable[Outcome]],
        target_changed: Callable[[], None],
        vocabulary_changed: Callable[[Vocabulary], None],
        between: Between,
    ) -> None:
        self._parameters, self._now, self._log = shared.parameters, shared.now, shared.log
        self._memory, self._latencies = shared.memory, shared.latencies
        self._wait_for = wait_for
        self._target_changed = target_changed
        self._vocabulary_changed = vocabulary_changed
        self._between = between
        self._replacing = False
        self.map: MapKeeper | None = None
        self.configured: Configured | None = None
        self.active = False

    async def query(self, request: Query.Request, response: Query.Response) -> Query.Response:
        """Answer one query; every outcome is a status with a sentence, never an exception."""
        started = time.perf_counter()
        try:
            await self._answer(request, response)
        except SasError as error:
            messages.fill_refusal(response, QueryStatus.INVALID, str(error))
        except (Busy, TimeoutError) as error:
            messages.fill_refusal(response, QueryStatus.BUSY, str(error))
        except Exception as error:  # an exception would end the executor
            self._log.error("query", f"A query failed: {describe(error)}")
            response = Query.Response()
            sentence = f"The node failed to answer ({type(error).__name__}); its log says more."
            messages.fill_refusal(response, QueryStatus.INVALID, sentence)
        self._latencies.add("query", (time.perf_counter() - started) * 1e3)
        return response

    async def _answer(self, request: Query.Request, response: Query.Response) -> None:
        refused = self._precondition()
        if refused is not None:
            messages.fill_refusal(response, QueryStatus.NOT_ACTIVE, refused)
            return
        if request.set_target and not request.text.strip():
            if self._memory.release():
                self._target_changed()
            response.status = int(QueryStatus.OK)
            vocabulary, configured = self._memory.vocabulary, self.configured
            response.label_version = vocabulary.version if vocabulary is not None else 0
            response.student = configured.bundle.name if configured is not None else ""
            return
        query = read_query(request)
        source = self._look(request, response)
        if source is None:
            return
        self._place(request, query, source)  # or it is refused at once
        started = time.perf_counter()
        rows = await self._embed([query.text, *query.negatives])
        embed_ms = (time.perf_counter() - started) * 1e3
        # Waiting for the encoder took time: another state, snapshot and vocabulary may be in force.
        refused = self._precondition()
        if refused is not None:
            messages.fill_refusal(response, QueryStatus.NOT_ACTIVE, refused)
            return
        source = self._look(request, response)
        if source is not None:
            self._ask(request, response, source, query, rows, embed_ms)

    def _place(
        self, request: Query.Request, query: TextQuery, source: Snapshot | MapView
    ) -> Placed:
        header, stays = source.scene.header, isinstance(source, MapView)
        return place(request, query, header, self._between, stays=stays)

    def _ask(
        self,
        request: Query.Request,
        response: Query.Response,
        source: Snapshot | MapView,
        query: TextQuery,
        rows: Embeddings,
        embed_ms: float,
    ) -> None:
        placed = self._place(request, query, source)
        configured, words = self.configured, self._memory.words
        assert configured is not None and words is not None
        parameters = self._parameters()
        negatives = rows[1:] if len(rows) > 1 else None
        everything = ask(
            source,
            placed.query,
            rows[0],
            negatives,
            words=words,
            calibration=configured.bundle.calibration,
            parameters=parameters,
            with_rivals=request.set_target,
        )
        found = best_of(everything, query.max_instances or parameters.max_instances)
        messages.fill_answer(
            response,
            found,
            source,
            placed,
            return_indices=request.return_indices,
            return_cloud=request.return_cloud,
            max_points=parameters.max_points,
        )
        response.timing = messages.timing_message({"embed": embed_ms, **found.timing_ms})
        if request.set_target and isinstance(source, Snapshot):
            chosen = len(found.instances)
            self._hold(response, source, query, rows[0], negatives, everything, chosen)

    def _hold(
        self,
        response: Query.Response,
        snapshot: Snapshot,
        query: TextQuery,
        embedding: Embeddings,
        negatives: Embeddings | None,
        found: QueryAnswer,
        chosen: int,
    ) -> None:
        if found.status == QueryStatus.OK:
            now = self._now() or 0.0
            target = new_target(snapshot, query, embedding, negatives, found, chosen, now)
            self._memory.hold(target, snapshot.epoch)
        elif found.status == QueryStatus.NOT_FOUND:
            # Nothing must stay cut out of the planner's world for a target nobody asks for.
            self._memory.release()
            response.message = f"{response.message} No target is held now.".strip()
        self._target_changed()

    def _precondition(self) -> str | None:
        if self.configured is None or self._memory.vocabulary is None:
            return "The node is not configured; run the lifecycle transitions configure, activate."
        if not self.active:
            return "The node is not active; run the lifecycle transition activate."
        return None

    def _look(self, request: Query.Request, response: Query.Response) -> Snapshot | MapView | None:
        """What is to be asked, or None with the response saying why not."""
        source: Snapshot | MapView | None = self._memory.snapshot
        reason = "No cloud has been processed yet; see /diagnostics."
        if request.source == request.SOURCE_MAP:
            if self.map is None:
                raise SasError("This node has no map; set its parameter map to build or read.")
            source = self.map.view if len(self.map.view.state) else None
            reason = self.map.why_empty
        if source is None:
            messages.fill_refusal(response, QueryStatus.NO_DATA, reason)
            return None
        now = self._now()
        age = 0.0 if now is None else now - source.scene.header.stamp_ns * 1e-9
        vocabulary, configured = self._memory.vocabulary, self.configured
        messages.fill_source(
            response,
            source,
            age=age,
            label_version=vocabulary.version if vocabulary is not None else 0,
            student=configured.bundle.name if configured is not None else "",
        )
        limit = request.max_age.sec + request.max_age.nanosec * 1e-9
        if 0 < limit < age:
            on_map = " of the map" if isinstance(source, MapView) else ""
            messages.fill_refusal(
                response,
                QueryStatus.STALE,
                f"The newest cloud{on_map} is {age:.2f} s old and max_age is {limit:g} s.",
            )
            return None
        return source

    async def _embed(self, texts: Sequence[str]) -> Embeddings:
        """(n, C) unit rows: at once for known text, else from the text worker.

        Raises:
            SasError: new text without an encoder, or the encoder refused.
            Busy, TimeoutError: too much new text is waiting, or it took too long.
        """
        configured = self.configured
        assert configured is not None
        text, vocabulary = configured.text, self._memory.vocabulary
        known = text.lookup_all(texts, vocabulary)
        if known is not None:
            return known
        reason = text.refusal(texts, vocabulary)
        if reason:
            raise SasError(reason)
        # Words of the current vocabulary need no second embedding, and keep their meaning.
        rows = {word: text.lookup(word, vocabulary) for word in texts}
        new = [word for word, row in rows.items() if row is None]
        outcome = await self._wait_for(text, new)
        if isinstance(outcome, Exception):
            raise outcome
        rows.update(zip(new, outcome, strict=True))
        return np.stack([row for row in (rows[word] for word in texts) if row is not None])

    async def set_vocabulary(
        self, request: SetVocabulary.Request, response: SetVocabulary.Response
    ) -> SetVocabulary.Response:
        """Replace the vocabulary, all or nothing; a refusal leaves the old one in force."""
        try:
            await self._replace(request.labels)
            response.success = True
        except (SasError, Busy, TimeoutError) as error:
            response.message = str(error)
        except Exception as error:  # an exception would end the executor
            self._log.error("vocabulary", f"set_vocabulary failed: {describe(error)}")
            response.message = f"The node failed ({type(error).__name__}); its log says more."
        vocabulary = self._memory.vocabulary
        response.version = int(vocabulary.version) if vocabulary is not None else 0
        return response

    async def _replace(self, labels: Sequence[str]) -> None:
        if self.configured is None or self._memory.vocabulary is None:
            raise SasError("The node is not configured; run the lifecycle transition configure.")
        if self._replacing:
            raise Busy("Another vocabulary is being embedded; ask again when it is done.")
        names = read_labels(labels)
        self._replacing = True
        try:
            configured = self.configured
            rows = await self._embed(names)
            if self.configured is not configured:
                raise SasError("The node was reconfigured meanwhile; ask again.")
            current = self._memory.vocabulary
            assert current is not None
            vocabulary = extend(configured.bundle.vocabulary, current, names, rows)
            bundle = configured.bundle
            words = words_for(vocabulary, bundle.vocabulary, bundle.calibration)
            self._vocabulary_changed(vocabulary)
            self._memory.words = words
        finally:
            self._replacing = False


def extend(
    own: Vocabulary, current: Vocabulary, names: Sequence[str], rows: Embeddings
) -> Vocabulary:
    """The vocabulary after `current`, with other words.

    Words that the student knows from training keep its thing flags and colours even when the
    current vocabulary had lost them; a new word is a thing.
    """
    things, kept = [], {}
    for position, name in enumerate(names):
        for words in (own, current):
            index = words.index(name)
            if index is not None:
                things.append(words.things[index])
                kept[position] = words.colors[index]
                break
        else:
            things.append(True)
    colors = distinct_colors(len(names), kept=kept)
    return current.with_labels(names, rows, things=things, colors=colors)
