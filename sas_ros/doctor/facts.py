"""What the doctor knows: plain values, so that every rule can be tested without a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

RELIABLE, BEST_EFFORT = "reliable", "best_effort"
OUTPUTS = (
    "labeled_points", "visualization", "instances", "instance_markers", "query_mask", "obstacles",
)  # fmt: skip
"""Topics of the node that are computed only while somebody listens."""


@dataclass(frozen=True)
class Endpoint:
    """A publisher or subscription of a topic.

    Attributes:
        node: full name of its node.
        message_type: such as sensor_msgs/msg/PointCloud2.
        reliability: reliable or best_effort.
        latched: whether it is transient local.
    """

    node: str
    message_type: str
    reliability: str = RELIABLE
    latched: bool = False


@dataclass(frozen=True)
class Sample:
    """One cloud of the input, as the doctor received it itself.

    Attributes:
        problem: why it cannot be read, in a sentence; empty when it can.
        points, finite_points: of it; 0 where it cannot be read.
        size: bytes of its data.
        colored: whether it has colours that are understood.
        frame: its frame.
        stamp_ns: its stamp.
        received_ns: wall clock when it came.
        clock_ns: time on /clock when it came, or None where none had come.
    """

    problem: str = ""
    points: int = 0
    finite_points: int = 0
    size: int = 0
    colored: bool = False
    frame: str = ""
    stamp_ns: int = 0
    received_ns: int = 0
    clock_ns: int | None = None


@dataclass(frozen=True)
class NodeFacts:
    """The perception node, as far as it answers.

    Attributes:
        name: full name.
        count: nodes of that name on the graph.
        state: lifecycle state; empty when it did not answer.
        parameters: by name; empty when it did not answer.
        input_topic: what it subscribes to, or would.
        counts: of clouds, from its newest report: received, processed, dropped_<reason>; empty
            without a report.
        gained: how much the counts grew while the doctor looked.
    """

    name: str
    count: int = 1
    state: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    input_topic: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    gained: Mapping[str, int] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A parameter as text; empty when it is not known."""
        return str(self.parameters.get(name, ""))

    def number(self, name: str, default: float) -> float:
        """A parameter as a number."""
        value = self.parameters.get(name, default)
        return float(value) if isinstance(value, (int, float)) else default


@dataclass(frozen=True)
class GraphFacts:
    """What was seen on the graph.

    Attributes:
        namespace: looked at, with leading slash.
        seconds: how long.
        node: None where no perception node is in that namespace.
        nodes_elsewhere: full names of perception nodes in other namespaces.
        publishers: of the input topic, any type.
        cloud_topics: other topics of PointCloud2 that somebody publishes.
        sample: a cloud of the input, or None when none came.
        listeners: subscriptions of each of `OUTPUTS`.
        clock_publishers: of /clock.
        clock_ns: newest time on /clock, or None.
        tf_publishers: of /tf and /tf_static, of the node's namespace too.
    """

    namespace: str
    seconds: float
    node: NodeFacts | None = None
    nodes_elsewhere: tuple[str, ...] = ()
    publishers: tuple[Endpoint, ...] = ()
    cloud_topics: tuple[str, ...] = ()
    sample: Sample | None = None
    listeners: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    clock_publishers: int = 0
    clock_ns: int | None = None
    tf_publishers: int = 0


@dataclass(frozen=True)
class Surroundings:
    """What is known of this machine and this Python.

    Attributes:
        ros_problem: why rclpy cannot be used; empty when it can.
        interfaces_problem: why sas_msgs cannot be used; empty when it can.
        student_problem: why the student cannot be loaded; empty when it can.
        student_needs: what its observations must hold, such as points and colours.
        student_encoder: name of its text encoder.
        cuda: whether PyTorch finds a CUDA device; None where nobody asked.
        tf2: whether tf2_ros can be imported.
        shared_memory_free: bytes free in /dev/shm.
        domain, discovery, middleware: ROS_DOMAIN_ID, ROS_AUTOMATIC_DISCOVERY_RANGE,
            RMW_IMPLEMENTATION as they are set here; empty where they are not.
    """

    ros_problem: str = ""
    interfaces_problem: str = ""
    student_problem: str = ""
    student_needs: tuple[str, ...] = ("points",)
    student_encoder: str = ""
    cuda: bool | None = None
    tf2: bool = True
    shared_memory_free: int = 2**40
    domain: str = ""
    discovery: str = ""
    middleware: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything; `graph` is None where ROS could not be asked."""

    around: Surroundings
    graph: GraphFacts | None
