"""The node as a process: lifecycle, parameters, namespaces, ending."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from harness import Probe, Process
from lifecycle_msgs.msg import Transition
from rooms import coded_cloud
from sas_msgs.msg import LabelInfo
from sas_msgs.srv import Query


def test_lifecycle_goes_round(node: Process, probe: Probe) -> None:
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    version = probe.ask("chair").label_version
    assert probe.change_state(Transition.TRANSITION_DEACTIVATE)
    assert probe.state() == "inactive"
    answer = probe.ask("chair")
    assert answer.status == Query.Response.NOT_ACTIVE and "activate" in answer.message
    assert probe.change_state(Transition.TRANSITION_CLEANUP)
    assert probe.state() == "unconfigured"
    assert probe.ask("chair").status == Query.Response.NOT_ACTIVE
    assert not probe.set_labels(["chair"]).success
    assert not probe.change_state(Transition.TRANSITION_ACTIVATE)  # not from here
    assert probe.set_parameter("labels", ["table", "chair"]).successful
    assert probe.change_state(Transition.TRANSITION_CONFIGURE)
    info = probe.listen(LabelInfo, "label_info", latched=True)
    probe.until(lambda: info, what="label_info before the first cloud")
    assert list(info[0].names) == ["table", "chair"] and info[0].version > version
    assert probe.change_state(Transition.TRANSITION_ACTIVATE)
    assert probe.ask("chair").status == Query.Response.NO_DATA
    assert probe.process(coded_cloud(1, stamp_ns=time.time_ns())).status == Query.Response.OK
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert probe.change_state(transition)
    assert probe.set_parameter("student", "/nowhere.safetensors").successful
    assert not probe.change_state(Transition.TRANSITION_CONFIGURE)
    assert probe.state() == "unconfigured"
    assert "no student bundle at /nowhere.safetensors" in node.output


@pytest.fixture(autouse=True)
def put_back(request: pytest.FixtureRequest, probe: Probe, student: object) -> object:
    yield
    if "node" in request.fixturenames and probe.state() == "unconfigured":
        assert probe.set_parameter("student", str(student)).successful
        assert probe.set_parameter("labels", [""]).successful


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("max_rate", -1.0, "max_rate"),
        ("threshold", 2.0, "threshold"),
        ("max_points", 0, "max_points"),
        ("points_reliability", "sometimes", "best_effort"),
        ("up", "0,0", "three numbers"),
        ("up", "0,0,0", "zero"),
        ("up", "nan,0,1", "finite"),
        ("max_age", "old", "type"),
        ("device", "cpu:0", "auto"),
        ("votes", 3, "1, 2, 4 or 8"),
        ("student", "other", "cleanup"),
        ("labels", ["chair"], "set_vocabulary"),
    ],
)
def test_bad_parameter_values_are_refused_with_a_reason(
    node: Process, probe: Probe, name: str, value: object, word: str
) -> None:
    result = probe.set_parameter(name, value)
    assert not result.successful
    assert word in result.reason, result.reason


def test_good_parameter_values_take_effect(node: Process, probe: Probe) -> None:
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    assert len(probe.ask("chair").instances) > 1
    assert probe.set_parameter("max_instances", 1).successful
    try:
        assert len(probe.ask("chair").instances) == 1
    finally:
        assert probe.set_parameter("max_instances", 10).successful


def test_two_namespaces_do_not_hear_each_other(
    node: Process, probe: Probe, start_node: Callable[..., Process], domain: int
) -> None:
    other_node = start_node("robot2/sas", text_encoder="none")
    other = Probe(domain, "robot2/sas")
    try:
        probe.process(coded_cloud(1, stamp_ns=time.time_ns()))
        other.until(lambda: other.state() == "active", 60.0, "the second node")
        assert other.ask("chair").status == Query.Response.NO_DATA
        mine = coded_cloud(2, stamp_ns=time.time_ns())
        assert other.process(mine).source.stamp.nanosec % 10**6 == 2
        assert probe.ask("chair").source.stamp.nanosec % 10**6 == 1
        assert other.set_labels(["chair"]).success
        assert probe.ask("chair").label_version != 0
        assert "input" in other.diagnostics() and "input" in probe.diagnostics()
    finally:
        other.close()
        assert other_node.interrupt() == 0


def test_a_managed_node_waits_and_an_interrupt_at_work_ends_it_cleanly(
    start_node: Callable[..., Process], domain: int, graph_env: dict[str, str]
) -> None:
    process = start_node("managed", autostart="false", text_encoder="none")
    probe = Probe(domain, "managed")
    try:
        assert probe.state() == "unconfigured"
        assert probe.ask("chair").status == Query.Response.NOT_ACTIVE
        assert probe.change_state(Transition.TRANSITION_CONFIGURE)
        assert probe.state() == "inactive"
        assert probe.change_state(Transition.TRANSITION_ACTIVATE)
        assert probe.process(coded_cloud(0, stamp_ns=time.time_ns())).status == 0
        for number in range(1, 4):
            probe.send(coded_cloud(number, stamp_ns=time.time_ns()))
            probe.ask("chair")
        assert process.interrupt(timeout=5.0) == 0, process.output
        assert "Traceback" not in process.output
    finally:
        probe.close()


@pytest.mark.parametrize(
    ("parameters", "code", "word"),
    [
        ({"student": "/nowhere.safetensors"}, 1, "no student bundle"),
        ({"max_age": 3}, 2, "max_age"),
    ],
)
def test_a_bad_start_ends_with_one_sentence(
    start_node: Callable[..., Process], parameters: dict[str, object], code: int, word: str
) -> None:
    process = start_node("bad", **{"text_encoder": "none", **parameters})
    assert process.wait(60.0) == code
    assert word in process.output
    assert "Traceback" not in process.output
