"""examples/sros2/policy.xml against what the nodes really offer, publish and hear."""

from __future__ import annotations

import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import START_SECONDS, Domain
from inprocess import Running
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from sas_msgs.srv import Query
from sensor_msgs.msg import PointCloud2
from students import untrained_student

POLICY = Path(__file__).resolve().parents[2] / "examples" / "sros2" / "policy.xml"
KINDS = (("topic", "publish"), ("topic", "subscribe"), ("service", "reply"), ("service", "request"))

TF_TOPICS = {"/tf", "/tf_static"}
TF_SERVICE = "/sas/tf2_frames"
"""What listening to TF adds: the service comes with tf2's buffer."""

CPP = {"/parameter_events"}
"""Heard by ordinary C++ nodes for use_sim_time, not by those of rclpy."""

Names = dict[tuple[str, str], set[str]]


def allowed(name: str) -> Names:
    """The policy of one enclave, with full names."""
    root = ElementTree.parse(POLICY).getroot()
    (enclave,) = [e for e in root.iter("enclave") if e.get("path") == f"/sas/{name}"]
    (profile,) = enclave.iter("profile")
    assert (profile.get("ns"), profile.get("node")) == ("/sas", name)
    found: Names = {kind: set() for kind in KINDS}
    for what, how in KINDS:
        for group in profile.findall(f"{what}s"):
            assert {k for k, _ in group.items()} <= {"publish", "subscribe", "reply", "request"}
            if group.get(how) == "ALLOW":
                listed = [full(str(item.text), name) for item in group]
                assert len(listed) == len(set(listed)), "listed twice"
                found[what, how] |= set(listed)
    return found


def full(name: str, node: str) -> str:
    if name.startswith("/"):
        return name
    return f"/sas/{node}/{name[2:]}" if name.startswith("~/") else f"/sas/{name}"


def live(node: Node) -> Names:
    """What a node of this process has on the graph, as soon as all that it has made is there: the
    middleware hears of it in a thread of its own."""
    of = (node.get_name(), node.get_namespace())
    asked = (
        node.get_publisher_names_and_types_by_node,
        node.get_subscriber_names_and_types_by_node,
        node.get_service_names_and_types_by_node,
        node.get_client_names_and_types_by_node,
    )
    made = (
        {one.topic_name for one in node.publishers},
        {one.topic_name for one in node.subscriptions},
        {one.service_name for one in node.services},
        {one.service_name for one in node.clients},
    )
    deadline, pause = time.monotonic() + START_SECONDS, threading.Event()
    while True:
        found = [{name for name, _ in ask(*of)} for ask in asked]
        if all(own <= names for own, names in zip(made, found, strict=True)):
            return dict(zip(KINDS, found, strict=True))
        assert time.monotonic() < deadline, (made, found)
        pause.wait(0.02)


@pytest.fixture(scope="module")
def domains(graph_env: dict[str, str]) -> Iterator[list[Domain]]:
    """Domains that are given back when all tests have run, so that no two tests have the same."""
    taken: list[Domain] = []
    yield taken
    for one in taken:
        one.release()


@pytest.fixture
def own_domain(domains: list[Domain]) -> int:
    """Another than that of the other tests, where there is a node of the same name: its answers
    would be lost, and of two nodes of one name the graph tells only what one of them has. A node
    that has ended stays on the graph until its context is collected."""
    domains.append(Domain())
    return domains[-1].number


@pytest.fixture
def perception(own_domain: int, tmp_path: Path) -> Iterator[Running]:
    path = tmp_path / "tiny.safetensors"
    untrained_student().save(path)
    running = Running(own_domain, "sas", student=str(path), use_sim_time=True)
    yield running
    running.stop()


def test_the_policy_is_the_node_and_nothing_else(perception: Running) -> None:
    has, may = live(perception.node), allowed("perception")
    assert may["topic", "publish"] == has["topic", "publish"]
    assert may["topic", "subscribe"] == has["topic", "subscribe"] | TF_TOPICS
    assert may["service", "reply"] == has["service", "reply"] | {TF_SERVICE}
    assert may["service", "request"] == has["service", "request"] == set()
    assert "/sas/points" in has["topic", "subscribe"] and "/clock" in has["topic", "subscribe"]
    assert "/sas/perception/change_state" in has["service", "reply"]


@pytest.fixture
def ordinary(own_domain: int, request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node as rclpy makes it, of the name that the test gives."""
    context = Context()
    context.init(domain_id=own_domain)
    simulated = Parameter("use_sim_time", value=True)
    node = Node(request.param, namespace="sas", context=context, parameter_overrides=[simulated])
    yield node
    node.destroy_node()
    context.try_shutdown()


@pytest.mark.parametrize("ordinary", ["driver"], indirect=True)
def test_a_driver_may_be_an_ordinary_node_that_publishes_clouds(ordinary: Node) -> None:
    ordinary.create_publisher(PointCloud2, "points", 2)
    has, may = live(ordinary), allowed("driver")
    assert "/clock" in has["topic", "subscribe"]
    assert may == {**has, ("topic", "subscribe"): has["topic", "subscribe"] | CPP}


@pytest.mark.parametrize("ordinary", ["planner"], indirect=True)
def test_a_planner_may_be_an_ordinary_node_that_asks_and_listens(
    ordinary: Node, perception: Running
) -> None:
    ordinary.create_client(Query, "query")
    outputs = live(perception.node)["topic", "publish"]
    shown = {name for name in outputs if name not in ("/rosout", "/parameter_events")}
    shown -= {"/sas/perception/transition_event", "/sas/visualization"}
    has, may = live(ordinary), allowed("planner")
    assert may["service", "request"] == has["service", "request"] == {"/sas/query"}
    assert may["topic", "publish"] == has["topic", "publish"]
    assert may["service", "reply"] == has["service", "reply"] | {TF_SERVICE}
    clock = has["topic", "subscribe"]
    assert may["topic", "subscribe"] == shown | clock | CPP | TF_TOPICS


def test_nobody_in_the_policy_may_set_the_nodes_parameters() -> None:
    for name in ("perception", "planner", "driver"):
        for service in allowed(name)["service", "request"]:
            assert not service.startswith("/sas/perception/"), service
