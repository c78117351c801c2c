"""Facts in, findings out: each rule looks at one thing that goes wrong and says how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from sas_ros.doctor.facts import Facts, GraphFacts, NodeFacts


class Severity(Enum):
    """ERROR: nothing comes out because of it. WARN: something is off. INFO: worth knowing."""

    ERROR = "error"
    WARN = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: stable name for programs, such as `no-publisher`.
        severity: how bad.
        sentence: what is the matter.
        remedy: what to do about it.
    """

    code: str
    severity: Severity
    sentence: str
    remedy: str


Rule = Callable[[Facts], Iterator[Finding]]
GraphRule = Callable[[Facts, GraphFacts, NodeFacts], Iterator[Finding]]


def error(code: str, sentence: str, remedy: str) -> Finding:
    """A finding that explains why nothing comes out."""
    return Finding(code, Severity.ERROR, sentence, remedy)


def warning(code: str, sentence: str, remedy: str) -> Finding:
    """A finding that may explain bad results."""
    return Finding(code, Severity.WARN, sentence, remedy)


def info(code: str, sentence: str, remedy: str) -> Finding:
    """A finding that is worth knowing."""
    return Finding(code, Severity.INFO, sentence, remedy)


def diagnose(facts: Facts) -> list[Finding]:
    """All findings: errors first, and within one severity in the order of cause and effect."""
    from sas_ros.doctor.graph_rules import GRAPH_RULES

    found = [finding for rule in LOCAL_RULES for finding in rule(facts)]
    graph = facts.graph
    if graph is not None and graph.node is not None:
        for graph_rule in GRAPH_RULES:
            found += graph_rule(facts, graph, graph.node)
    order = list(Severity)
    return sorted(found, key=lambda finding: order.index(finding.severity))


def _ros(facts: Facts) -> Iterator[Finding]:
    if facts.around.ros_problem:
        yield error(
            "ros-missing",
            f"ROS cannot be used from this Python: {facts.around.ros_problem}",
            "Source the ROS 2 installation, or use .venv of `make setup`, and start this again.",
        )


def _interfaces(facts: Facts) -> Iterator[Finding]:
    if facts.around.interfaces_problem:
        yield error(
            "interfaces",
            f"The interface package sas_msgs cannot be used: {facts.around.interfaces_problem}",
            "Build it: `make setup`, or `colcon build --base-paths src src/sas_ros/msg` and "
            "`source install/setup.bash`; then start node and clients anew.",
        )


def _node(facts: Facts) -> Iterator[Finding]:
    graph = facts.graph
    if graph is None or graph.node is not None:
        return
    around = facts.around
    if graph.nodes_elsewhere:
        first = graph.nodes_elsewhere[0].rsplit("/", 1)[0].strip("/")
        remedy = f"Look there: `sas doctor --namespace {first}`; clients need it as well."
        there = f"; there is {', '.join(graph.nodes_elsewhere)}"
    else:
        remedy = (
            "Start it: `sas run`, or `ros2 launch sas_ros perception.launch.py`. Where it runs, "
            "its ROS_DOMAIN_ID and discovery range must be those of this shell (here "
            f"{around.domain or '0'} and {around.discovery or 'the default'})."
        )
        there = ""
    yield error(
        "no-node", f"No perception node is in the namespace {graph.namespace}{there}.", remedy
    )


def _is_active(facts: Facts) -> bool:
    """Whether the node has its student and device, wherever it runs: these are looked for here."""
    return bool(facts.graph and facts.graph.node and facts.graph.node.state == "active")


def _student(facts: Facts) -> Iterator[Finding]:
    if facts.around.student_problem and _is_active(facts):
        yield info(
            "student",
            f"The node has a student; here it cannot be loaded: {facts.around.student_problem}",
            "Nothing, where the node runs on another machine. On this one it will not start again: "
            "set the parameter student to a shipped name or to a bundle's path.",
        )
    elif facts.around.student_problem:
        yield error(
            "student",
            f"The student cannot be loaded: {facts.around.student_problem}",
            "Set the parameter student to a shipped name or to a bundle's path, and configure the "
            "node again.",
        )


def _device(facts: Facts) -> Iterator[Finding]:
    if facts.around.cuda is False and _is_active(facts):
        yield info(
            "device",
            "The parameter device is cuda, and the node is active with it; PyTorch finds no CUDA "
            "device here.",
            "Nothing, where the node runs on another machine. On this one check the driver "
            "(`nvidia-smi`) before it is started again.",
        )
    elif facts.around.cuda is False:
        yield error(
            "device",
            "The parameter device is cuda, and PyTorch finds no CUDA device here.",
            "Set device to auto or cpu; or check the driver (`nvidia-smi`), that torch is a CUDA "
            "build, and that a container was started with its GPU.",
        )


def _shared_memory(facts: Facts) -> Iterator[Finding]:
    needed = 192 * 2**20  # as sas_ros.nodes.transport has it
    free = facts.around.shared_memory_free
    if free < needed:
        yield warning(
            "shared-memory",
            f"/dev/shm has {free // 2**20} MB free and large clouds need {needed // 2**20} MB.",
            "Start the container with a larger --shm-size; `fastdds shm clean` removes what "
            "processes that were killed have left.",
        )


LOCAL_RULES: tuple[Rule, ...] = (_ros, _interfaces, _node, _student, _device, _shared_memory)
"""Rules that need no node."""
