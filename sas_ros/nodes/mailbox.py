"""A mailbox of one between the executor and the worker: the newest item wins."""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Holds at most one item; whoever puts a newer one gets the older one back to account for it.

    Safe for any number of threads. A closed mailbox hands out nothing more.
    """

    def __init__(self) -> None:
        self._item: Item | None = None
        self._nudged = False
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: Item) -> Item | None:
        """Store `item` and return the one it replaces; a closed mailbox returns `item` itself."""
        with self._changed:
            if self._closed:
                return item
            replaced, self._item = self._item, item
            self._changed.notify()
            return replaced

    def nudge(self) -> None:
        """Wake a waiting `take` without an item."""
        with self._changed:
            self._nudged = True
            self._changed.notify()

    def take(self, not_before: float = 0.0) -> Item | None:
        """Wait for an item and remove it; None after a nudge and on closing.

        An item is not handed out before `time.monotonic()` reaches `not_before`; the newest at
        that time is. Nudges do not wait.
        """
        with self._changed:
            while not self._closed and not self._nudged:
                left = not_before - time.monotonic()
                if self._item is not None and left <= 0:
                    item, self._item = self._item, None
                    return item
                self._changed.wait(left if self._item is not None else None)
            self._nudged = False
            return None

    def close(self) -> Item | None:
        """End it: waiting threads return, and the item that nobody took is handed back."""
        with self._changed:
            self._closed = True
            item, self._item = self._item, None
            self._changed.notify_all()
            return item

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        with self._changed:
            return self._closed

    def __len__(self) -> int:
        with self._changed:
            return int(self._item is not None)
