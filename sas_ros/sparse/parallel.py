"""Independent pieces of one convolution on several cores.

PyTorch splits single operators over threads, and at the end of each of them all threads wait for
the slowest. A network on a point cloud is thousands of small operators, and when another program
needs a core for a moment, each of them waits for that. So here whole chunks of outputs are given to
threads, every one of which runs its operators alone. Which thread takes which chunk changes no sum.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier, Lock, Thread, local
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Here(local):
    """What a thread knows of itself: how large its team is (0: it is in none), and whether what it
    does is one item of many already."""

    team = 0
    within_item = False


_here = _Here()
_making = Lock()
_teams: dict[tuple[int, int], ThreadPoolExecutor | None] = {}


def lead(work: Callable[[], Result]) -> Result:
    """Call `work` on a thread whose operators use one core and whose `for_each` uses all.

    The team has as many threads as PyTorch has in the calling thread. No gradients are recorded.
    """
    threads = torch.get_num_threads()
    if threads < 2 or _here.team:
        return work()
    inference = torch.is_inference_mode_enabled()
    team = _team(threads)
    return work() if team is None else team.submit(_quietly, work, inference).result()


def for_each(items: Sequence[Item], work: Callable[[Item], None]) -> None:
    """Call `work` on every item, on all threads of the team; an error is raised here.

    No gradients are recorded.
    """
    alone = _here.within_item or (not _here.team and torch.get_num_threads() < 2)
    if alone or not items or (_here.team and len(items) < 2):
        for item in items:
            work(item)
        return
    team = _team(_here.team or torch.get_num_threads())
    if team is not None and not _here.team:
        lead(lambda: for_each(items, work))
        return
    waiting = iter(items)

    def take() -> None:
        _here.within_item = True
        try:
            # As soon as a thread is free it takes the next item: next() of an iterator is atomic.
            for item in waiting:
                work(item)
        finally:
            _here.within_item = False

    others = min(_here.team, len(items)) - 1
    inference = torch.is_inference_mode_enabled()
    futures = [team.submit(_quietly, take, inference) for _ in range(others)] if team else []
    try:
        take()
    finally:
        # The team may be busy with work of another caller: who has not begun is not needed.
        begun = [future for future in futures if not future.cancel()]
        for future in begun:
            future.exception()  # waits
    for future in begun:
        future.result()


def spread(device: torch.device, items: Sequence[Item], work: Callable[[Item], None]) -> None:
    """`for_each` on a CPU. A GPU has its own parallelism, and its streams belong to threads."""
    if device.type == "cpu":
        for_each(items, work)
    else:
        for item in items:
            work(item)


def _quietly(work: Callable[[], Result], inference: bool) -> Result:
    """Gradients are a matter of each thread, so a new one must be told as well."""
    with torch.inference_mode(inference), torch.no_grad():
        return work()


def _team(threads: int) -> ThreadPoolExecutor | None:
    """Threads whose operators use one core each; a forked process gets its own. None where the
    system gives no more threads: then the caller works alone."""
    key = (threads, os.getpid())
    with _making:
        if key not in _teams:
            _teams[key] = _make_team(threads)
        return _teams[key]


def _make_team(threads: int) -> ThreadPoolExecutor | None:
    everyone = Barrier(threads)

    def start() -> None:
        _here.team = threads
        torch.get_num_threads()  # a thread takes the common default at its first look
        torch.set_num_threads(1)
        everyone.wait()  # so that every one of these calls gets a thread of its own

    team = ThreadPoolExecutor(threads, "sas-convolve")
    default = 0
    try:
        default = _in_new_thread(torch.get_num_threads)
        for future in [team.submit(start) for _ in range(threads)]:
            future.result()
        return team
    except BaseException as error:
        everyone.abort()  # those who wait would wait forever, and the process with them
        team.shutdown(wait=False)
        if isinstance(error, RuntimeError):  # no thread could be started
            return None
        raise
    finally:
        # Every set_num_threads above also set the default of threads that are yet to come.
        if default:
            _in_new_thread(partial(torch.set_num_threads, default))


def _in_new_thread(work: Callable[[], Result]) -> Result:
    """What `work` gives in a thread that PyTorch has not seen: there it tells, and sets, what all
    new threads begin with."""
    results: list[Result] = []
    thread = Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]
