"""Writing files so that a reader never sees half of one (design rule 4)."""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNREADABLE = (
    *(OSError, KeyError, ValueError, TypeError, EOFError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What numpy raises for an .npz that is damaged, or that lacks what is looked for."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` when the block succeeds.

    The temporary name keeps the suffix, because many writers choose the format by it. The file is
    flushed to disk before the rename and removed when the block raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{path.stem}-", suffix=f".partial{path.suffix}", dir=path.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes private files; give the result the permissions a plain open() would.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def whole_files(folder: Path, *patterns: str) -> list[Path]:
    """Sorted files of a folder that match one of the patterns, such as "*.npz".

    Hidden ones are left out: that is what `atomic_path` leaves behind in a process that is killed.
    """
    found = {path for pattern in patterns for path in Path(folder).glob(pattern)}
    return sorted(path for path in found if not path.name.startswith("."))


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that the file is either the old one or the whole new one."""
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(data)
