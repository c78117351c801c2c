"""The folder of a run: one process group at a time, and a checkpoint that is whole or absent."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch

from sas_ros.errors import SasError
from sas_ros.files import atomic_path

CHECKPOINT = "checkpoint.pt"
HISTORY = "history"

_LOCKS: set[IO[bytes]] = set()
"""Open locks of this process. A forked process must not keep them: one that outlives us, if only
for a moment, would be taken for a run that goes on."""


def _forget_locks() -> None:
    while _LOCKS:
        _LOCKS.pop().close()


os.register_at_fork(after_in_child=_forget_locks)


class RunFolder:
    """A folder that belongs to this process while the `with` block lasts.

    The lock is the operating system's: it goes with the process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock: IO[bytes] | None = None

    @property
    def history(self) -> Path:
        """Folder of the histories of scenes."""
        return self.path / HISTORY

    @property
    def checkpoint(self) -> Path:
        return self.path / CHECKPOINT

    def __enter__(self) -> RunFolder:
        self.path.mkdir(parents=True, exist_ok=True)
        lock = open(self.path / "lock", "wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise SasError(
                f"Another process is training in {self.path}; wait for it, or give another --run."
            ) from None
        self._lock = lock
        _LOCKS.add(lock)
        for path in self.path.glob(f".{self.checkpoint.stem}-*.partial.pt"):
            path.unlink(missing_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            _LOCKS.discard(self._lock)
            self._lock.close()
            self._lock = None

    def save(self, state: dict[str, Any]) -> None:
        """Put a checkpoint in the place of the one before."""
        with atomic_path(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def load(self, fingerprint: str, device: torch.device) -> dict[str, Any] | None:
        """The checkpoint; None where there is none; raises what `load_checkpoint` does."""
        if not self.checkpoint.is_file():
            return None
        return load_checkpoint(self.checkpoint, fingerprint, device)

    def keep(self, path: Path) -> None:
        """Copy the checkpoint, for another run to begin with."""
        with atomic_path(path) as temporary:
            shutil.copyfile(self.checkpoint, temporary)


def load_checkpoint(path: Path, fingerprint: str, device: torch.device) -> dict[str, Any]:
    """A checkpoint that `RunFolder` has written.

    Raises:
        SasError: one that cannot be read, or whose `fingerprint` is another.
    """
    try:
        state = torch.load(path, weights_only=True, map_location=device)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise SasError(
            f"The checkpoint {path} cannot be read ({error}); remove the folder and start the run "
            "anew."
        ) from error
    if not isinstance(state, dict) or state.get("fingerprint") != fingerprint:
        raise SasError(
            f"{path} belongs to a run with other settings, words or scenes; remove its folder, or "
            "give another --run."
        )
    return state
