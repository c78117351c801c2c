"""Whether other processes still find the shared memory that Fast DDS listens on here.

Fast DDS has one file a port in /dev/shm, and a lock beside it that says it is alive. Where a
process ends while another takes its port over, or is killed, the lock can be lost and the file be
removed although somebody listens (seen with 3.2.3 of Kilted). Whoever knew the port before goes on
as ever; for everybody on this machine who comes later the process is deaf, though all see it on
the graph.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

PROCESS = Path("/proc/self")
SHARED_MEMORY = Path("/dev/shm")

_LOCK = re.compile(r"/(fast(?:dds|rtps)_port\d+)_[es]l( \(deleted\))?$")
_MAPPED = re.compile(r" (\d+) +/\S*/(fast(?:dds|rtps)_port\d+)( \(deleted\))?$", re.MULTILINE)


def lost_ports(process: Path = PROCESS, shared_memory: Path = SHARED_MEMORY) -> list[str]:
    """Ports that a process listens on and that its name in shared memory does not lead to.

    Args:
        process: its folder, as the kernel shows it.
        shared_memory: where the files are.

    Returns:
        Names like "fastdds_port7411"; empty with another middleware, or where the kernel does not
        tell. One that is being opened or closed may be among them, so look twice.
    """
    listening = set()
    with suppress(OSError):
        for entry in (process / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                lock = _LOCK.search(os.readlink(entry))
                if lock:
                    listening.add(lock[1])
    if not listening:
        return []
    mapped: dict[str, set[int]] = {}
    with suppress(OSError):
        for inode, name, _ in _MAPPED.findall((process / "maps").read_text(errors="replace")):
            mapped.setdefault(name, set()).add(int(inode))
    return sorted(
        name
        for name in listening
        if name in mapped and _inode(shared_memory / name) not in mapped[name]
    )


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
