"""What a robot loses: a thread, memory, shared memory, the whole process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import START_SECONDS, Domain, Probe, Process, counts, values
from inprocess import Running
from rooms import coded_cloud, coded_points, number_in_stamp
from sas_msgs.srv import Query

from sas_ros.observation import Cloud, SceneFeatures, Up
from sas_ros.scans import write_ply
from sas_ros.segmenter import Segmenter

OK = Query.Response.OK


class Injected(BaseException):
    """Nothing that the worker expects, so that its thread ends."""


class Failing(Segmenter):
    """Raises what `to_raise` holds, one for each cloud; what devices raise, in every pass."""

    to_raise: list[BaseException]

    def segment(self, cloud: Cloud, up: Up) -> SceneFeatures:
        if not type(self).to_raise:
            return super().segment(cloud, up)
        error = type(self).to_raise.pop(0)
        if not isinstance(error, torch.cuda.OutOfMemoryError):
            raise error

        def short(*_: Any) -> None:
            raise error

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.engine, "forward", short)
            return super().segment(cloud, up)


@pytest.fixture
def failing(
    graph_env: dict[str, str], domain: int, student: Path
) -> Iterator[tuple[list[BaseException], Running, Probe]]:
    Failing.to_raise = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sas_ros.nodes.model.Segmenter", Failing)
        running = Running(domain, "loss", student=str(student))
    probe = Probe(domain, "loss")
    yield Failing.to_raise, running, probe
    probe.close()
    running.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_thread_that_is_killed_comes_back_and_says_so(
    failing: tuple[list[BaseException], Running, Probe],
) -> None:
    to_raise, _, probe = failing
    assert probe.process(coded_cloud(0, stamp_ns=time.time_ns())).status == OK
    for restarts in (1, 2):
        to_raise.append(Injected())
        probe.send(coded_cloud(1, stamp_ns=time.time_ns()))
        told = probe.diagnostics(
            lambda s, n=restarts: values(s["student"])["worker_restarts"] == str(n)
        )
        assert told["student"].level == b"\x02" and "died" in told["student"].message
        # Answers go on from the older cloud, and the next cloud is processed.
        assert number_in_stamp(probe.ask("chair").source.stamp.nanosec) in (0, 2)
        assert probe.process(coded_cloud(2, stamp_ns=time.time_ns())).status == OK
        now = counts(probe.diagnostics(lambda s: not counts(s["input"])["in_flight"])["input"])
        assert now["dropped"] == now["dropped_error"] == restarts
        assert now["received"] == now["processed"] + now["dropped"]


@pytest.mark.parametrize(
    "error",
    [MemoryError("no tile is small enough."), torch.cuda.OutOfMemoryError("CUDA out of memory.")],
    ids=["tiles", "device"],
)
def test_a_cloud_for_which_memory_is_short_is_dropped_with_the_remedy(
    failing: tuple[list[BaseException], Running, Probe], error: BaseException
) -> None:
    to_raise, _, probe = failing
    assert probe.process(coded_cloud(0, stamp_ns=time.time_ns())).status == OK
    to_raise.append(error)
    probe.send(coded_cloud(1, stamp_ns=time.time_ns()))
    told = probe.diagnostics(lambda s: counts(s["input"])["dropped"] == 1)
    assert counts(told["input"])["dropped_memory"] == 1
    assert values(told["student"])["worker_restarts"] == "0"
    assert probe.process(coded_cloud(2, stamp_ns=time.time_ns())).status == OK


def test_killed_and_started_again_it_answers_within_the_time_of_a_start(
    graph_env: dict[str, str], domain: int, student: Path, tmp_path: Path
) -> None:
    folders = {name: tmp_path / name for name in ("tmp", "home", "cache")}
    for folder in folders.values():
        folder.mkdir()
    env = {**graph_env, "TMPDIR": str(folders["tmp"]), "HOME": str(folders["home"])}
    env["XDG_CACHE_HOME"] = str(folders["cache"])
    words = ["--ros-args", "-r", "__ns:=/phoenix", "-p", f"student:={student}", "-p", "up:=0,0,1"]
    words += ["-p", "text_encoder:=none"]
    before = student.read_bytes()
    processes, probes = [], []

    def start(number: int) -> float:
        """Start the node and a client that knows nothing of an earlier one; seconds to answer."""
        started = time.monotonic()
        processes.append(Process("sas_ros.nodes.perception_node", words, env=env))
        probes.append(Probe(domain, "phoenix"))
        answer = probes[-1].process(coded_cloud(number, stamp_ns=time.time_ns()), START_SECONDS)
        assert answer.status == OK and number_in_stamp(answer.source.stamp.nanosec) == number
        return time.monotonic() - started

    try:
        first = start(1)
        old = probes[0]
        # In the middle of everything: a cloud in work, a call open.
        old.send(coded_cloud(11, stamp_ns=time.time_ns()))
        calls = [old.ask_async("chair")]
        os.kill(processes[0].pid, signal.SIGKILL)
        assert processes[0].wait(10.0) == -signal.SIGKILL
        again = start(2)
        assert again < 3 * first + 5  # seconds are those of the machine, busy as it is

        # A client from before has to ask again, and is answered.
        def answered() -> bool:
            calls.append(old.ask_async("chair"))
            return any(call.done() for call in calls[1:])

        old.until(answered, what="an answer to the old client")
        left = [path for folder in folders.values() for path in folder.rglob("*")]
        assert not [path for path in left if path.is_file()], left
        assert [path.name for path in student.parent.iterdir()] == [student.name]
        assert student.read_bytes() == before
    finally:
        for probe in probes:
            probe.close()
        for process in processes:
            if process.running:
                assert process.interrupt(30.0) == 0, process.output


_NO_NAMESPACE = "a mount namespace of one's own is not permitted here"


def with_small_shared_memory(megabytes: int, *command: str) -> list[str]:
    """The command with a /dev/shm of its own; skips the test where that is not possible."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no program unshare")
    mount = f"mount -t tmpfs -o size={megabytes}m tmpfs /dev/shm"
    for flags in ("-m", "-rm"):
        tried = subprocess.run([unshare, flags, "sh", "-c", mount], capture_output=True)
        if tried.returncode == 0:
            return [unshare, flags, "sh", "-c", f'{mount} && exec "$@"', "sh", *command]
    pytest.skip(_NO_NAMESPACE)


@pytest.fixture
def own_domain() -> Iterator[int]:
    own = Domain()
    yield own.number
    own.release()


@pytest.mark.parametrize("megabytes", [1, 100], ids=["nothing fits", "one segment fits"])
def test_full_shared_memory_costs_speed_and_no_answer(
    own_domain: int, student: Path, tmp_path: Path, megabytes: int
) -> None:
    """With 1 MB not even the middleware's defaults fit; with 100 MB and the large-cloud profile
    the first participant gets its 64 MB and nobody else any."""
    scan = tmp_path / "room.ply"
    write_ply(scan, coded_points(0))
    command = [sys.executable, "-m", "sas_training.cli", "bench", "load", "--json"]
    command += ["--student", str(student), "--scan", str(scan), "--clients", "2"]
    command += ["--seconds", "1", "--killed", "0", "--cloud-rate", "2"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(own_domain)}
    environment |= {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_LOG_DIR": str(tmp_path)}
    environment.pop("FASTDDS_DEFAULT_PROFILES_FILE", None)
    if megabytes > 1:
        from sas_ros.nodes.transport import PROFILE, find_config

        environment["FASTDDS_DEFAULT_PROFILES_FILE"] = str(find_config(PROFILE))
    done = subprocess.run(
        with_small_shared_memory(megabytes, *command),
        capture_output=True,
        text=True,
        timeout=400,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    assert result["lost"] == result["contradictions"] == 0
    assert result["answered"] > 0 and result["clouds_processed"] > 0
