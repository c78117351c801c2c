"""Sentences for the operator, without repeating the same one at sensor rate."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol

REPEAT_SECONDS = 5.0


class Log(Protocol):
    """Sentences for the operator; the same `key` is not repeated at once."""

    def warn(self, key: str, sentence: str) -> None: ...

    def warn_once(self, key: str, sentence: str) -> None: ...

    def error(self, key: str, sentence: str) -> None: ...


class ThrottledLog:
    """Passes sentences to a logger; one of the same key at most every few seconds.

    Safe for several threads. What was held back is counted and told with the next one.
    """

    def __init__(self, logger: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def warn(self, key: str, sentence: str) -> None:
        """Warn, throttled by `key`."""
        told = self._pass(key, sentence, REPEAT_SECONDS)
        if told:
            self._logger.warning(told)

    def warn_once(self, key: str, sentence: str) -> None:
        """Warn the first time only."""
        told = self._pass(key, sentence, float("inf"))
        if told:
            self._logger.warning(told)

    def error(self, key: str, sentence: str) -> None:
        """Report an error, throttled by `key`."""
        told = self._pass(key, sentence, REPEAT_SECONDS)
        if told:
            self._logger.error(told)

    def _pass(self, key: str, sentence: str, every: float) -> str:
        now = self._clock()
        with self._lock:
            last = self._last.get(key)
            if last is not None and now - last < every:
                self._held_back[key] = self._held_back.get(key, 0) + 1
                return ""
            self._last[key] = now
            more = self._held_back.pop(key, 0)
        return f"{sentence} ({more} more like this since)" if more else sentence


def describe(error: BaseException) -> str:
    """The exception with its traceback, for the log."""
    return "".join(traceback.format_exception(error)).strip()
