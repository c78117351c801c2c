"""Many files to be made: those that are there are kept, the others are made by some processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any, TypeVar

from sas_ros.errors import SasError

Step = TypeVar("Step")
_KEY_LETTERS = 10


def key_of(*parts: Any) -> str:
    """Ten letters that depend on all of `parts`, plain JSON: what files are made of, in their name.

    A file whose name has the key of the settings of today is up to date, whoever made it when.
    """
    text = json.dumps(parts, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LETTERS]


@dataclass(frozen=True)
class Job:
    """One file, and what makes it.

    Attributes:
        target: the file, written atomically as the last thing the job does.
        make: a function of a module, so that another process finds it.
        arguments: of `make`, which is to make the file.
    """

    target: Path
    make: Callable[..., None]
    arguments: tuple[Any, ...]

    def run(self) -> None:
        """Make the file; raises SasError when `make` has not."""
        self.make(*self.arguments)
        if not self.target.exists():
            raise SasError(f"{self.target} was to be made, but is not there.")


class Workers:
    """Processes that do jobs, each with one thread; started when there is something to do.

    Args:
        count: of the processes; 1: the jobs are done here, one after the other.
        say: told what is being done and what has been kept.
    """

    def __init__(self, count: int, say: Callable[[str], None] = print) -> None:
        self.count, self.say = count, say
        self._pool: Pool | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._pool is None:
            return
        if kind is None:
            self._pool.close()
        else:
            self._pool.terminate()
        self._pool.join()

    def do(self, title: str, jobs: Sequence[Job]) -> None:
        """Do those jobs whose file is missing, with a progress bar."""
        from tqdm import tqdm

        missing = [job for job in jobs if not job.target.exists()]
        kept = len(jobs) - len(missing)
        if kept:
            self.say(f"{title}: {kept} of {len(jobs)} are there already and have been kept")
        if not missing:
            return
        self.say(f"{title}: {len(missing)} to make")
        bar = tqdm(total=len(missing), desc=title, unit="file", disable=None)
        with contextlib.closing(bar):
            for _ in self._done(missing):
                bar.update()

    def _done(self, jobs: Sequence[Job]) -> Iterator[None]:
        if self.count == 1:
            for job in jobs:
                job.run()
                yield
            return
        if self._pool is None:
            # A forked child would inherit the thread pools of whatever has been loaded here.
            os.environ["OMP_NUM_THREADS"] = "1"
            context = multiprocessing.get_context("spawn")
            self._pool = context.Pool(self.count, initializer=_begin, initargs=(os.getpid(),))
        for _ in self._pool.imap_unordered(_run, jobs):
            yield


def _begin(parent: int) -> None:
    """Ctrl-C is the parent's business: it ends the processes, quietly. Where it was killed, they
    end by themselves, so that the next run finds nobody at work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)


def end_with(parent: int, *_: object) -> None:
    """From now on this process, a child of `parent`, ends when that has ended, however it did."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _run(job: Job) -> None:
    job.run()


def followed(steps: Iterable[Step], total: int, done: int, title: str) -> Iterator[Step]:
    """The steps of a training with a progress bar, below those of other processes."""
    from tqdm import tqdm

    identity = multiprocessing.current_process()._identity
    place = identity[0] if identity else 1
    bar = tqdm(
        steps, total=total, initial=done, desc=title, unit="step", position=place, leave=False,
        disable=None,
    )  # fmt: skip
    yield from bar
