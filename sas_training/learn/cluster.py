"""Jobs on the machines of a Ray cluster that share a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sas_ros.errors import SasError
from sas_training.jobs import Job, Stage, Workers


class RayWorkers(Workers):
    """Does jobs wherever the cluster has a free core.

    All machines need this package and see the same files under the same paths, which are those of
    the folder that this process is in where they are relative.

    Args:
        address: of the cluster, "host:port" or "auto" for the one this machine belongs to; "local"
            starts one here, for trials.
        say: told what is being done and what has been kept.

    Raises:
        SasError: Ray is not installed, or there is no cluster at that address.
    """

    def __init__(self, address: str, say: Callable[[str], None] = print) -> None:
        super().__init__(1, say)
        try:
            import ray
        except ImportError as error:
            raise SasError(
                "Spreading work over a cluster needs Ray: pip install ray on all its machines."
            ) from error
        self._ray: Any = ray
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that is started here
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise SasError(f"There is no Ray cluster at {address!r}: {error}.") from error

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._ray.shutdown()
        super().__exit__(kind, *error)

    def do_all(self, stages: Sequence[Stage]) -> None:
        """One stage after the other: a cluster is given all jobs of a stage at once."""
        for stage in stages:
            self.do(stage.title, stage.jobs)

    def _done(self, jobs: Sequence[Job]) -> Iterator[None]:
        # A task that died with its machine is done again elsewhere; a job that failed is not.
        remote = self._ray.remote(num_cpus=1, max_retries=2)(_run)
        here = Path.cwd()
        files = {remote.remote(job, here): job.target for job in jobs}
        waiting = list(files)
        while waiting:
            (ready,), waiting = self._ray.wait(waiting, num_returns=1)
            try:
                self._ray.get(ready)
            except self._ray.exceptions.RayError as error:  # of the job, or of who did it
                for one in waiting:
                    self._ray.cancel(one)
                cause = getattr(error, "cause", None)
                if isinstance(cause, SasError):
                    raise cause from None
                raise SasError(
                    f"The cluster did not make {files[ready]}: {_sentence(error)} Run the same "
                    "command again; it goes on with what is missing."
                ) from error
            yield


def _sentence(error: Exception) -> str:
    """What happened, without the other machine's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}, {(lines or ['no reason given'])[-1].rstrip('.')}."


def _run(job: Job, folder: Path) -> None:
    """Do a job in the folder of who asked for it: the cluster may have been started in another."""
    import torch

    if folder.is_dir():  # without it, paths must be whole ones
        os.chdir(folder)
    torch.set_num_threads(1)
    job.run()
