"""The one thread that owns the device: it takes clouds from the mailbox and never dies of one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from sas_ros.nodes.mailbox import Mailbox

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """Runs `process` for every item of a mailbox and `idle` after every nudge, in one thread.

    Args:
        mailbox: where items come from; closing it ends the thread.
        process: the work on one item.
        failed: called with the item and the exception that `process` let through; the thread
            goes on with the next item.
        idle: called after a nudge of the mailbox.
        max_rate: items started per second at most; 0 is no limit.
        prepare: called once in the thread, before the first item.
        name: of the thread, for stack dumps.
    """

    def __init__(
        self,
        mailbox: Mailbox[Item],
        process: Callable[[Item], None],
        failed: Callable[[Item | None, BaseException], None],
        *,
        idle: Callable[[], None] | None = None,
        max_rate: Callable[[], float] = lambda: 0.0,
        prepare: Callable[[], None] = lambda: None,
        name: str = "perception",
    ) -> None:
        self._mailbox = mailbox
        self._process = process
        self._failed = failed
        self._idle = idle
        self._max_rate = max_rate
        self._prepare = prepare
        self._name = name
        self._thread: threading.Thread | None = None
        self._busy_since: float | None = None
        self.restarts = 0

    @property
    def busy_for(self) -> float:
        """Seconds since the item in work was begun; 0 when there is none."""
        since = self._busy_since
        return time.monotonic() - since if since is not None else 0.0

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def ensure_alive(self) -> bool:
        """Start the thread again should it have died; True when that was necessary."""
        if self._thread is None or self._thread.is_alive() or self._mailbox.closed:
            return False
        self.restarts += 1
        self._busy_since = None
        self.start()
        return True

    def stop(self, timeout: float) -> Item | None:
        """Close the mailbox and wait for the thread at most `timeout` seconds.

        Returns the item that was never taken, to be accounted for. `alive` tells afterwards
        whether the thread is still in the middle of something.
        """
        left_over = self._mailbox.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return left_over

    def _run(self) -> None:
        self._prepare()
        not_before = 0.0
        while not self._mailbox.closed:
            item = self._mailbox.take(not_before)
            rate = self._max_rate()
            if item is not None and rate > 0:
                not_before = time.monotonic() + 1.0 / rate
            self._step(item)
            del item  # let go of the cloud before waiting for the next one

    def _step(self, item: Item | None) -> None:
        self._busy_since = time.monotonic()
        try:
            if item is not None:
                self._process(item)
            elif self._idle is not None and not self._mailbox.closed:
                self._idle()
        except Exception as error:  # one bad cloud costs one frame, not the thread
            self._failed(item, error)
        finally:
            self._busy_since = None
