"""The perception node with an audit hook: a process of its own, because hooks cannot be removed.

Writes a line to the file in SAS_AUDIT for every file that Python opens or names otherwise, every
process it starts and every use of the network. C and C++ code, such as the middleware, is not seen.
"""

from __future__ import annotations

import os
import socket

WATCHED = ("open", "os.", "glob.", "shutil.", "subprocess.", "socket.", "pathlib.", "ctypes.dlopen")

_log = os.open(os.environ["SAS_AUDIT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """Write an event down; os.write raises no event itself."""
    if event.startswith(WATCHED):
        os.write(_log, f"{event} {arguments!r}\n".encode(errors="replace"))


def prove(control: str) -> None:
    """Do once what must never happen, so that the test can tell that it would be seen."""
    with open(control):
        pass
    with socket.socket(socket.AF_UNIX) as used:
        used.connect_ex(f"{control}.socket")
    socket.getaddrinfo("127.0.0.1", 9, flags=socket.AI_NUMERICHOST)
    os.write(_log, b"BEGIN\n")


if __name__ == "__main__":
    import sys

    sys.addaudithook(watch)
    prove(os.environ["SAS_AUDIT"])
    from sas_ros.nodes.perception_node import main

    raise SystemExit(main())
