"""Answers whose clients are not connected yet, and signals in the middle of a callback."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import pytest
from harness import Probe, Process
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from std_srvs.srv import Trigger

from sas_ros.nodes import answering
from sas_ros.nodes.answering import PAUSES, UNDELIVERED, PatientSender, delivered

TIMED_OUT = f"{UNDELIVERED} (timeout): client will not receive response"


class Told:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def warn(self, key: str, sentence: str) -> None:
        self.sentences.append(sentence)

    warn_once = error = warn


class Failing:
    """Sends that the middleware gives up `times` times, as rclpy says it."""

    def __init__(self, times: int) -> None:
        self._left = times
        self.sent: list[object] = []

    def __call__(self, response: object, header: object) -> None:
        self.sent.append((response, header))
        if self._left:
            self._left -= 1
            warnings.warn(TIMED_OUT, RuntimeWarning, stacklevel=1)


def test_only_that_warning_while_sending_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(
        warnings, "showwarning", lambda message, *_, **__: shown.append(str(message))
    )
    send = Failing(2)
    assert [delivered(lambda: send(0, 0)) for _ in range(3)] == [False, False, True]
    assert not shown
    assert delivered(lambda: warnings.warn("something else", stacklevel=1))
    Failing(1)(0, 0)  # of a service that is not ours
    assert shown == ["something else", TIMED_OUT]


def test_what_others_do_with_warnings_hides_nothing() -> None:
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert not delivered(lambda: Failing(1)(0, 0))
        assert not delivered(lambda: Failing(1)(0, 0))
        with warnings.catch_warnings(record=True) as seen:
            assert not delivered(lambda: Failing(1)(0, 0))
            warnings.warn("theirs", stacklevel=1)
        assert [str(one.message) for one in seen] == ["theirs"]


@pytest.mark.parametrize("failures", [0, 1, len(PAUSES), len(PAUSES) + 1])
def test_an_answer_is_sent_until_it_arrives_or_is_given_up_with_a_sentence(
    domain: int, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    monkeypatch.setattr(answering, "PAUSES", (0.01,) * len(PAUSES))
    context = Context()
    context.init(domain_id=domain)
    node = Node("answering", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    timers = len(list(node.timers))
    try:
        log, send = Told(), Failing(failures)
        PatientSender(node, send, "query", log)("answer", "header")
        wanted = min(failures, len(PAUSES)) + 1
        end = time.monotonic() + 20
        while len(send.sent) < wanted and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)
        executor.spin_once(timeout_sec=0.05)
        assert send.sent == [("answer", "header")] * wanted
        assert len(list(node.timers)) == timers
        given_up = failures > len(PAUSES)  # the first attempt is one more than there are pauses
        assert len(log.sentences) == given_up
        assert not given_up or "query was given up" in log.sentences[0]
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()


def test_only_so_many_answers_wait_and_errors_are_told(
    domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(response: object, header: object) -> None:
        raise rclpy_implementation.RCLError("failed to send response: timeout")

    monkeypatch.setattr(answering, "PAUSES", (60.0,))
    context = Context()
    context.init(domain_id=domain)
    node = Node("answering", context=context)
    log = Told()
    try:
        sender = PatientSender(node, broken, "query", log)
        for _ in range(answering.MOST_WAITING):
            sender(0, 0)
        assert not log.sentences
        sender(0, 0)
        assert len(log.sentences) == 1 and "timeout" in log.sentences[0]
    finally:
        node.destroy_node()
        context.try_shutdown()
    sender(0, 0)  # after the end nobody is answered, and nothing is said
    assert len(log.sentences) == 1


def test_services_of_the_node_send_patiently(
    graph_env: dict[str, str], domain: int, student: Path
) -> None:
    from inprocess import Running

    running = Running(domain, "patient", student=str(student))
    probe = Probe(domain, "patient")
    try:
        services = {service.srv_name: service for service in running.node.services}
        names = {name.rpartition("/")[2] for name in services}
        assert {"query", "set_vocabulary", "save_map", "reset_map"} <= names
        assert {"get_state", "change_state", "set_parameters"} <= names
        for name, service in services.items():
            assert isinstance(service.send_response, PatientSender), name
        # And rclpy's executor uses what was put in its place.
        sender = services["reset_map"].send_response
        sent: list[object] = []
        send = sender._send

        def counted(response: object, header: object) -> None:
            sent.append(header)
            send(response, header)

        sender._send = counted
        client = probe.node.create_client(Trigger, "reset_map")
        assert client.wait_for_service(20.0)
        call = client.call_async(Trigger.Request())
        probe.until(call.done, what="an answer")
        assert not call.result().success and "no map" in call.result().message
        assert sent  # more than once where the client was not connected yet
    finally:
        probe.close()
        running.stop()


_INTERRUPTED = """
import os, signal, sys, time
import rclpy
from rclpy.node import Node
from std_msgs.msg import String
from sas_ros.nodes.running import run_node

class Interrupted(Node):
    def __init__(self):
        super().__init__("interrupted")
        self._publisher = self.create_publisher(String, "said", 1)
        self.create_timer(0.01, self._work)

    def _work(self):
        os.kill(os.getpid(), signal.SIGINT)
        end = time.monotonic() + 20
        while rclpy.ok() and time.monotonic() < end:
            time.sleep(0.01)
        print("the callback went on", flush=True)
        self._publisher.publish(String(data="too late"))
        print("published", flush=True)

raise SystemExit(run_node(Interrupted))
"""


def test_an_interrupt_waits_for_the_callback_and_is_no_failure(
    graph_env: dict[str, str], tmp_path: Path
) -> None:
    """An exception there might hit rclpy's own code, which makes a SystemError of it."""
    module = tmp_path / "interrupted_node.py"
    module.write_text(_INTERRUPTED)
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    process = Process(module.stem, ["--ros-args"], env={**graph_env, "PYTHONPATH": path})
    assert process.wait(30.0) == 0, process.output
    assert "the callback went on" in process.output and "published" not in process.output
    assert "Traceback" not in process.output


_HANGING = """
import os, signal, time
from rclpy.node import Node
from sas_ros.nodes import running

class Hanging(Node):
    def __init__(self):
        super().__init__("hanging")
        self.create_timer(0.01, self._work)

    def _work(self):
        for _ in range(2):  # of the terminal, and of launch
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        print("patient", flush=True)
        running.PATIENCE_SECONDS = 0.0
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        print("not reached", flush=True)

raise SystemExit(running.run_node(Hanging))
"""


def test_a_late_interrupt_ends_what_hangs(graph_env: dict[str, str], tmp_path: Path) -> None:
    module = tmp_path / "hanging_node.py"
    module.write_text(_HANGING)
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    process = Process(module.stem, ["--ros-args"], env={**graph_env, "PYTHONPATH": path})
    process.wait(30.0)
    assert "patient" in process.output and "not reached" not in process.output
