"""A perception node started to be measured, and a node of ours that talks to it from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from sas_ros.errors import SasError
from sas_ros.nodes.private_graph import use_private_graph

START_SECONDS = 240.0
STOP_SECONDS = 15.0


class MeasuredNode:
    """A perception node in a process and a namespace of its own; ended with the `with` block.

    The namespace is this process's alone: where ROS_DOMAIN_ID names the domain of a robot, nothing
    that is published here may reach its node. An error that leaves the block gets the end of the
    node's log.

    Args:
        parameters: of the node, by name.

    Attributes:
        pid: of the process.
        namespace: of the node, without a slash; whoever talks to it goes there too.
    """

    def __init__(self, parameters: Mapping[str, object]) -> None:
        use_private_graph(os.environ)
        self.namespace = f"sas_bench_{os.getpid()}"
        command = [sys.executable, "-m", "sas_ros.nodes.perception_node", "--ros-args"]
        command += ["-r", f"__ns:=/{self.namespace}"]
        for name, value in parameters.items():
            # Quoted, because 0,0,1 is a list to ROS otherwise.
            command += ["-p", f"{name}:='{value}'" if name == "up" else f"{name}:={value}"]
        self._log = tempfile.NamedTemporaryFile(suffix=".log")
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.pid = self._process.pid

    def __enter__(self) -> MeasuredNode:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tail = " | ".join(self.log.splitlines()[-10:])
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        if isinstance(error, SasError):
            raise SasError(f"{error} Its log ends: {tail}") from error

    @property
    def log(self) -> str:
        """Everything it printed so far."""
        return Path(self._log.name).read_text(errors="replace")

    def check(self) -> None:
        """Raise SasError when the process has ended."""
        if self._process.poll() is not None:
            raise SasError(f"The node ended with code {self._process.returncode}.")

    def resident_megabytes(self) -> float:
        """Resident memory of the process in MiB (Linux)."""
        return resident_bytes(self.pid) / 2**20

    def processor_seconds(self) -> float:
        """Time the process has spent on processors, user and system together (Linux)."""
        # The name in brackets may hold spaces; utime and stime are fields 14 and 15.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        """File descriptors the process holds (Linux)."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        """Threads of the process (Linux)."""
        return len(os.listdir(f"/proc/{self.pid}/task"))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def wait(
    spin: Callable[[], object],
    condition: Callable[[], bool],
    seconds: float,
    node: MeasuredNode,
    what: str = "answer",
) -> None:
    """Spin until the condition holds; raises SasError when the node ends or time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        node.check()
        if time.monotonic() > deadline:
            raise SasError(f"The node did not {what} within {seconds:g} s.")
        spin()


def percentiles(name: str, milliseconds: Sequence[float], *which: int) -> dict[str, float | None]:
    """Keys `NAME_p50_ms` ... of the percentiles asked for; None where nothing was measured."""
    if not milliseconds:
        return {f"{name}_p{w}_ms": None for w in which}
    return {f"{name}_p{w}_ms": round(float(np.percentile(milliseconds, w)), 1) for w in which}


def input_counts(message: Any, namespace: str) -> dict[str, int] | None:
    """The counters in the `input` entry of a DiagnosticArray, of the node in a namespace; None
    without one."""
    for status in message.status:
        if status.name == f"/{namespace}/perception: input":
            pairs = {pair.key: pair.value for pair in status.values}
            names = ("received", "processed", "dropped", "in_flight")
            wanted = [key for key in pairs if key in names or key.startswith("dropped_")]
            return {key: int(pairs[key]) for key in wanted}
    return None
