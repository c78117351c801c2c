"""A middleware that is locked up: noticed by its threads, and the end of the process."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from harness import Probe, Process, values
from inprocess import Running
from rooms import coded_cloud

from sas_ros.mapping import load_map
from sas_ros.nodes.middleware_watch import (
    EVENT_THREAD,
    LOOKS,
    LockUp,
    MiddlewareWatch,
    endless_waits,
    is_awake,
)
from sas_ros.nodes.running import LOCKED_UP

NO_LIMIT = "202 0x7f5be0 0x80 0x2 0x0 0x0 0x0 0x7ffc 0x7f5b"
LIMITED = "202 0x7f5be0 0x189 0x0 0x7ffc10 0x0 0xffffffff 0x7ffc 0x7f5b"
READING = "45 0x17 0x558c 0xffdc 0x0 0x7f5b 0x7f5b 0x7ffc 0x7f5b"


def thread(tasks: Path, number: int, name: str, call: str, waits: int = 7) -> None:
    folder = tasks / str(number)
    folder.mkdir(exist_ok=True)
    (folder / "comm").write_text(f"{name}\n")
    (folder / "syscall").write_text(f"{call}\n")
    (folder / "status").write_text(f"Name:\t{name}\nvoluntary_ctxt_switches:\t{waits}\n")


def thread_names() -> list[str]:
    """Of this process."""
    names = []
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has ended
            names.append(path.read_text())
    return names


def test_only_an_event_thread_in_a_wait_without_limit_counts(tmp_path: Path) -> None:
    thread(tmp_path, 1, "python", NO_LIMIT)
    thread(tmp_path, 2, "dds.ev.0", LIMITED)
    thread(tmp_path, 3, "dds.udp.7412", READING)
    thread(tmp_path, 4, "dds.ev.1", NO_LIMIT, waits=12)
    thread(tmp_path, 5, "dds.ev.2", "running")
    thread(tmp_path, 8, "dds.ev.4", NO_LIMIT.replace("0x80", "0x0"))  # shared with a process
    thread(tmp_path, 6, "dds.ev.3", NO_LIMIT)
    (tmp_path / "6" / "syscall").unlink()  # an older kernel, or the thread has ended
    (tmp_path / "7").mkdir()
    assert endless_waits(tmp_path) == {"4": "12"}
    assert endless_waits(tmp_path / "no such folder") == {}
    assert not is_awake(tmp_path) and not is_awake(tmp_path / "no such folder")
    thread(tmp_path, 4, "dds.ev.1", LIMITED)
    assert is_awake(tmp_path)


def test_a_thread_that_moves_on_is_not_locked_up(tmp_path: Path) -> None:
    lock_up = LockUp(tmp_path)
    for waits in range(3 * LOOKS):
        thread(tmp_path, 4, "dds.ev.0", NO_LIMIT, waits)
        assert not lock_up.look()
    for _ in range(LOOKS - 2):  # the last look of the loop was the first at this wait
        assert not lock_up.look()
    assert lock_up.look()


def test_a_node_in_good_health_is_left_alone(
    graph_env: dict[str, str], domain: int, student: Path
) -> None:
    running = Running(domain, "healthy", student=str(student))
    try:
        if not any(name.startswith(EVENT_THREAD) for name in thread_names()):
            pytest.skip("the middleware is not Fast DDS, or does not name its threads")
        ended, looked = threading.Event(), threading.Event()

        class Counting(LockUp):
            looks = 0

            def look(self) -> bool:
                self.looks += 1
                if self.looks > 5 * LOOKS:
                    looked.set()
                return super().look()

        watch = MiddlewareWatch(ended.set, Counting(), seconds=0.1)
        assert looked.wait(60.0)
        watch.stop()
        assert not ended.is_set()
    finally:
        running.stop()


_LOCKED_UP = """
import ctypes, os, sys, threading, time
from sas_ros.nodes import middleware_watch
from sas_ros.nodes.perception_node import main

def wait() -> None:
    ctypes.CDLL(None).prctl(15, b"dds.ev.0")  # PR_SET_NAME
    lock = threading.Lock()
    lock.acquire()
    while not os.path.exists("now"):
        time.sleep(0.05)
    lock.acquire()

threading.Thread(target=wait, daemon=True).start()
middleware_watch.LOOK_SECONDS = 0.5
raise SystemExit(main())
"""


def test_a_locked_up_node_says_so_saves_its_map_and_ends(
    graph_env: dict[str, str],
    domain: int,
    student: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lock is a real one; whose it is makes no difference to the kernel."""
    monkeypatch.chdir(tmp_path)
    Path("locked_up.py").write_text(_LOCKED_UP)
    file = tmp_path / "room.map.safetensors"
    parameters = {"student": student, "up": "0,0,1", "text_encoder": "none"}
    parameters |= {"map": "build", "map_frame": "lidar", "map_file": file}
    words = ["--ros-args", "-r", "__ns:=/lockedup"]
    for name, value in parameters.items():
        words += ["-p", f"{name}:={value}"]
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    process = Process("locked_up", words, env={**graph_env, "PYTHONPATH": path})
    probe = Probe(domain, "lockedup")
    try:
        probe.until(lambda: probe.state() == "active", what="the node")
        probe.process(coded_cloud(1, stamp_ns=time.time_ns()))
        probe.diagnostics(lambda report: values(report["map"])["clouds"] == "1")
    finally:
        Path("now").touch()
        probe.close()
    assert process.wait(120.0) == LOCKED_UP, process.output
    assert "locked up by a fault of Fast DDS" in process.output
    (rescued,) = tmp_path.glob("rescued-*-room.map.safetensors")
    assert len(load_map(rescued)) > 0 and str(rescued) in process.output
    assert not file.exists()
