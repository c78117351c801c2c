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
from functools import cache
from threading import Barrier, local
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


def lead(work: Callable[[], Result]) -> Result:
    """Call `work` on a thread whose operators use one core and whose `for_each` uses all.

    The team has as many threads as PyTorch has in the calling thread. No gradients are recorded.
    """
    threads = torch.get_num_threads()
    if threads < 2 or _here.team:
        return work()
    inference = torch.is_inference_mode_enabled()
    return _team(threads, os.getpid()).submit(_quietly, work, inference).result()


def for_each(items: Sequence[Item], work: Callable[[Item], None]) -> None:
    """Call `work` on every item, on all threads of the team; an error is raised here.

    No gradients are recorded.
    """
    alone = _here.within_item or (not _here.team and torch.get_num_threads() < 2)
    if alone or len(items) < 2:
        for item in items:
            work(item)
        return
    if not _here.team:
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

    team = _team(_here.team, os.getpid())
    others = min(_here.team, len(items)) - 1
    inference = torch.is_inference_mode_enabled()
    futures = [team.submit(_quietly, take, inference) for _ in range(others)]
    try:
        take()
    finally:
        # The team may be busy with work of another caller: who has not begun is not needed.
        begun = [future for future in futures if not future.cancel()]
        for future in begun:
            future.exception()  # waits
    for future in begun:
        future.result()


def _quietly(work: Callable[[], Result], inference: bool) -> Result:
    """Gradients are a matter of each thread, so a new one must be told as well."""
    with torch.inference_mode(inference), torch.no_grad():
        return work()


@cache
def _team(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads whose operators use one core each; a forked process needs its own."""
    everyone = Barrier(threads)

    def start() -> None:
        _here.team = threads
        torch.get_num_threads()  # a thread takes the common default at its first look
        torch.set_num_threads(1)
        everyone.wait()  # so that every one of these calls gets a thread of its own

    team = ThreadPoolExecutor(threads, "sas-convolve")
    for future in [team.submit(start) for _ in range(threads)]:
        future.result()
    torch.set_num_threads(threads)  # the calls above set the default of threads to come as well
    return team
