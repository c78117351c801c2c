"""Noticing that Fast DDS has locked itself up: a fault of its own that only a new process mends.

When a publisher of another process goes, a receiving thread of Fast DDS may wait for its event
thread while that waits for the receiving thread (eProsima/Fast-DDS, issue 6502; seen here with
3.2.3 of Kilted). From then on the process hears nothing, neither clouds nor requests, though it
goes on to publish, and ends only when it is killed. Nothing in ROS tells it; the kernel does: the
event thread, which otherwise wakes every few seconds, waits in a lock without a time limit.

Two things escape the watch: a Fast DDS that does not name its threads (Humble's), and a process
where a call into the middleware hangs as well and keeps the interpreter's lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

TASKS = Path("/proc/self/task")
EVENT_THREAD = "dds.ev."
"""How Fast DDS calls its event threads, one a participant."""

LOOK_SECONDS = 5.0
"""Between two looks at the threads."""

LOOKS = 4
"""So many in a row find the same thread in the same wait before it counts as locked up."""

_FUTEX = ("202", "98")
"""The system call, on x86-64 and on aarch64."""

_PRIVATE = 0x80
"""Of the operation: the lock is of this process, none that another one has left held."""

_NO_LIMIT = "0x0"


def endless_waits(tasks: Path = TASKS) -> dict[str, str]:
    """Event threads that wait without a time limit.

    Args:
        tasks: folder of the threads of a process, as the kernel shows them.

    Returns:
        Of each such thread, by its id: how often it has waited so far. Empty where the kernel does
        not tell.
    """
    return {task: waits for task, waits in _event_threads(tasks).items() if waits}


def is_awake(tasks: Path = TASKS) -> bool:
    """Whether event threads are seen, and none in an endless wait. False also where nothing is
    seen of them: with another middleware, Humble's Fast DDS, or a kernel that does not tell."""
    threads = _event_threads(tasks)
    return bool(threads) and not any(threads.values())


def _event_threads(tasks: Path) -> dict[str, str]:
    """Of each event thread that the kernel tells of: how often it has waited if it is in an endless
    wait, else nothing."""
    found = {}
    try:
        threads = list(tasks.iterdir())
    except OSError:
        return {}
    for task in threads:
        with suppress(OSError, ValueError):  # the thread has ended, or the kernel does not tell
            if (task / "comm").read_text().startswith(EVENT_THREAD):
                number, *arguments = (task / "syscall").read_text().split()
                found[task.name] = _waits(task) if _is_endless(number, arguments) else ""
    return found


def _is_endless(number: str, arguments: list[str]) -> bool:
    # futex(address, operation, value, time limit, ...)
    if number not in _FUTEX or arguments[3:4] != [_NO_LIMIT]:
        return False
    return bool(int(arguments[1], 16) & _PRIVATE)


def _waits(task: Path) -> str:
    for line in (task / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "voluntary_ctxt_switches":
            return value.strip()
    raise ValueError("The kernel does not count the waits of a thread.")


class LockUp:
    """Counts the looks that have found a thread in the same endless wait."""

    def __init__(self, tasks: Path = TASKS) -> None:
        self._tasks = tasks
        self._same: dict[tuple[str, str], int] = {}

    def look(self) -> bool:
        """Look once; True when some thread has not left its wait for `LOOKS` looks."""
        waits = endless_waits(self._tasks).items()
        self._same = {wait: self._same.get(wait, 0) + 1 for wait in waits}
        return any(looks >= LOOKS for looks in self._same.values())


class MiddlewareWatch:
    """Looks after Fast DDS from a thread of its own, since all others may hang.

    Args:
        locked_up: called once, in that thread, when Fast DDS is locked up.
        lock_up: counts the looks.
        seconds: between two looks; None: `LOOK_SECONDS`.
    """

    def __init__(
        self,
        locked_up: Callable[[], None],
        lock_up: LockUp | None = None,
        seconds: float | None = None,
    ) -> None:
        self._locked_up = locked_up
        self._lock_up = LockUp() if lock_up is None else lock_up
        self._seconds = LOOK_SECONDS if seconds is None else seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="middleware watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            if self._lock_up.look() and not self._ended.is_set():
                self._locked_up()
                return
