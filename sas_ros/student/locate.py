"""Finding the shipped student: in a source tree, an installed share folder, or where told."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterator
from pathlib import Path

from sas_ros.errors import SasError

DEFAULT_STUDENT = "indoor-tiny"
SUFFIX = ".safetensors"


def student_folders() -> Iterator[Path]:
    """Folders that may hold students by name, nearest first."""
    repository = Path(__file__).resolve().parents[2]
    if (repository / "package.xml").is_file():
        yield repository / "config" / "students"
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    for prefix in [*prefixes, sys.prefix, site.getuserbase()]:  # the last: pip install --user
        yield Path(prefix) / "share" / "sas_ros" / "config" / "students"


def find_student(name_or_path: str = DEFAULT_STUDENT) -> Path:
    """Path of a student given by name ("indoor-tiny") or by path.

    Raises:
        SasError: when there is none; lists the students that were found.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix == SUFFIX or path.is_file():
        if path.is_file():
            return path
        raise SasError(f"There is no student bundle at {path}.")
    known: list[str] = []
    for folder in student_folders():
        candidate = folder / f"{name_or_path}{SUFFIX}"
        if candidate.is_file():
            return candidate
        known += sorted(p.stem for p in folder.glob(f"*{SUFFIX}"))
    raise SasError(
        f"There is no student called {name_or_path!r}; "
        + (f"found: {', '.join(dict.fromkeys(known))}." if known else "none are installed.")
        + f" Give a name or the path of a {SUFFIX} file."
    )
