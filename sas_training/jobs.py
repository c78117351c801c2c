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
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
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
    """One file, or some that are made together, and what makes them.

    Attributes:
        target: the file, written atomically as the last thing the job does.
        make: a function of a module, so that another process finds it.
        arguments: of `make`, which is to make the files.
        after: files of earlier jobs that it reads.
        beside: other files that it makes; where one is missing, the job is done again.
    """

    target: Path
    make: Callable[..., None]
    arguments: tuple[Any, ...]
    after: tuple[Path, ...] = ()
    beside: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it makes."""
        return (*self.beside, self.target)

    @property
    def done(self) -> bool:
        return all(path.exists() for path in self.files)

    def run(self) -> None:
        """Make the files; raises SasError when `make` has not."""
        self.make(*self.arguments)
        for path in self.files:
            if not path.exists():
                raise SasError(f"{path} was to be made, but is not there.")


@dataclass(frozen=True)
class Stage:
    """Jobs of one kind, and what they are called."""

    title: str
    jobs: Sequence[Job]


class Workers:
    """Processes that do jobs, each with one thread; started when there is something to do.

    Args:
        count: of the processes; 1: the jobs are done here, one after the other.
        say: told what is being done and what has been kept.
    """

    def __init__(self, count: int, say: Callable[[str], None] = print) -> None:
        self.count, self.say = count, say
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._pool is None:
            return
        if kind is not None:
            for process in list((self._pool._processes or {}).values()):  # in the middle of jobs
                process.terminate()
        self._pool.shutdown(cancel_futures=True)

    def do(self, title: str, jobs: Sequence[Job]) -> None:
        """Do those jobs whose file is missing, with a progress bar."""
        self._make([Stage(title, jobs)])

    def do_all(self, stages: Sequence[Stage]) -> None:
        """Do the jobs of several stages whose file is missing; earlier stages come first, but a
        process without work begins with the next job that has all the files it comes `after`.

        Raises:
            SasError: a job comes after a file that is not there and that no job makes.
        """
        self._make(stages)

    def _make(self, stages: Sequence[Stage]) -> None:
        from tqdm import tqdm

        missing: list[Job] = []
        for title, jobs in ((stage.title, stage.jobs) for stage in stages):
            absent = [job for job in jobs if not job.done]
            if len(absent) < len(jobs):
                kept = f"{len(jobs) - len(absent)} of {len(jobs)}"
                self.say(f"{title}: {kept} are there already and have been kept")
            if absent:
                self.say(f"{title}: {len(absent)} to make")
            missing += absent
        if not missing:
            return
        title = stages[0].title if len(stages) == 1 else "all of these"
        bar = tqdm(total=len(missing), desc=title, unit="file", disable=None)
        with contextlib.closing(bar):
            for _ in self._done(missing):
                bar.update()

    def _done(self, jobs: Sequence[Job]) -> Iterator[None]:
        order = _Order(jobs)
        if self.count == 1:
            while (job := order.next()) is not None:
                job.run()
                order.made(job)
                yield
            order.check_all_made()
            return
        if self._pool is None:
            # A forked child would inherit the thread pools of whatever has been loaded here.
            os.environ["OMP_NUM_THREADS"] = "1"
            spawned = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, spawned, _begin, (os.getpid(),))
            # Python notices the death of those processes alone that it has once heard of.
            wait([self._pool.submit(os.getpid) for _ in range(self.count)])
        busy: dict[Future[None], Job] = {}
        while True:
            while len(busy) < self.count and (job := order.next()) is not None:
                try:
                    busy[self._pool.submit(_run, job)] = job
                except BrokenProcessPool as error:
                    raise _ended_from_outside(job) from error
            if not busy:
                order.check_all_made()
                return
            ended, _ = wait(busy, return_when=FIRST_COMPLETED)
            for future in ended:
                job = busy.pop(future)
                try:
                    future.result()
                except BrokenProcessPool as error:
                    raise _ended_from_outside(job) from error
                order.made(job)
                yield


def _ended_from_outside(job: Job) -> SasError:
    return SasError(
        f"The process that made {job.target}, or another one, ended before its work did; was there "
        "too little memory? Run the same command again; it goes on with what is missing."
    )


class _Order:
    """Which of some jobs is next, as they were given; one that comes after others waits."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = list(jobs)
        self._missing = {path for job in jobs for path in job.files}
        for job in jobs:
            for file in job.after:
                if file not in self._missing and not file.exists():
                    raise SasError(f"{job.target} needs {file}, which is not there and not made.")

    def next(self) -> Job | None:
        """The first that can be done now; None: none can until another is made, or at all."""
        for place, job in enumerate(self._waiting):
            if self._missing.isdisjoint(job.after):
                return self._waiting.pop(place)
        return None

    def made(self, job: Job) -> None:
        self._missing.difference_update(job.files)

    def check_all_made(self) -> None:
        """Raise SasError where jobs wait for each other."""
        if self._missing:
            names = ", ".join(sorted(path.name for path in self._missing))
            raise SasError(f"These files come after each other, so none can be made: {names}.")


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
