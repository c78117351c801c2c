"""Looks at a live graph for a while and writes down what it sees; judges nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from sas_ros.clouds import read_cloud
from sas_ros.doctor.facts import (
    BEST_EFFORT,
    OUTPUTS,
    RELIABLE,
    Endpoint,
    GraphFacts,
    NodeFacts,
    Sample,
)
from sas_ros.errors import SasError
from sas_ros.nodes.parameter_table import SPECS
from sas_ros.nodes.points_input import POINTS, choose_reliability

CLOUD = "sensor_msgs/msg/PointCloud2"
_REPORTS = 3
"""Reports of the node, one a second, after which enough is known about what it counts."""


def look_at_graph(
    namespace: str, node_name: str, seconds: float, ros_arguments: Sequence[str] = ()
) -> GraphFacts:
    """Join the graph, look for at most `seconds`, and leave."""
    context = Context()
    context.init(args=list(ros_arguments))
    try:
        probe = GraphProbe(context, namespace, node_name)
        try:
            return probe.observe(seconds)
        finally:
            probe.close()
    finally:
        context.try_shutdown()


class GraphProbe:
    """A node that only listens and asks.

    Args:
        context: initialised.
        namespace: of the perception node.
        node_name: its name.
    """

    def __init__(self, context: Context, namespace: str, node_name: str) -> None:
        self._namespace = "/" + namespace.strip("/")
        self._name = node_name
        self._full = f"{self._namespace.rstrip('/')}/{node_name}"
        self._node = Node("sas_doctor", context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._reports: list[dict[str, int]] = []
        self._sample: Sample | None = None
        self._clock_ns: int | None = None
        self._state = ""
        self._parameters: Mapping[str, object] = {}
        self._asked: dict[str, Any] = {}
        self._input: tuple[str, str] | None = None  # topic, reliability of our subscription
        self._subscription: Any = None
        reliable = QoSProfile(depth=20)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._report, reliable)
        best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._node.create_subscription(Clock, "/clock", self._tick, best_effort)

    def observe(self, seconds: float) -> GraphFacts:
        """Look for at most `seconds`, and no longer than until everything is known."""
        started = time.monotonic()
        while (passed := time.monotonic() - started) < seconds and not self._complete():
            self._executor.spin_once(timeout_sec=0.05)
            self._ask_node()
            self._follow_input()
        return self._facts(round(passed, 1))

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()

    def _complete(self) -> bool:
        known = self._state and self._parameters and self._sample is not None
        return bool(known and len(self._reports) >= _REPORTS)

    # What comes in.

    def _report(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"{self._full}: input":
                counts = {}
                for pair in status.values:
                    if pair.key in ("received", "processed") or pair.key.startswith("dropped"):
                        counts[str(pair.key)] = int(pair.value)
                self._reports.append(counts)

    def _tick(self, message: Clock) -> None:
        self._clock_ns = int(message.clock.sec) * 10**9 + int(message.clock.nanosec)

    def _receive(self, data: bytes) -> None:
        # One that came before the first tick of a clock cannot be compared with it.
        timeless = self._sample is not None and self._sample.clock_ns is None
        if self._sample is None or (timeless and self._clock_ns is not None):
            self._sample = sample_of(data, time.time_ns(), self._clock_ns)

    # What is asked.

    def _ask_node(self) -> None:
        if not self._count():
            return
        names = [*(spec.name for spec in SPECS), "use_sim_time"]
        self._ask("get_state", GetState, GetState.Request(), self._keep_state)
        request = GetParameters.Request(names=names)
        self._ask(
            "get_parameters",
            GetParameters,
            request,
            lambda answer: self._keep_parameters(names, answer),
        )

    def _ask(self, name: str, kind: Any, request: Any, keep: Callable[[Any], None]) -> None:
        """Call a service of the node once, as soon as it is there."""
        if name not in self._asked:
            self._asked[name] = self._node.create_client(kind, f"{self._full}/{name}")
        client = self._asked[name]
        if client is not None and client.service_is_ready():
            client.call_async(request).add_done_callback(lambda future: keep(future.result()))
            self._asked[name] = None

    def _keep_state(self, answer: Any) -> None:
        self._state = str(answer.current_state.label)

    def _keep_parameters(self, names: list[str], answer: Any) -> None:
        pairs = zip(names, answer.values, strict=False)
        self._parameters = {name: parameter_value_to_python(value) for name, value in pairs}

    def _follow_input(self) -> None:
        """Subscribe to what the node subscribes to, as reliably as its publishers allow."""
        if self._sample is not None:
            return
        topic = self._input_topic()
        offered = [e.reliability for e in self._publishers(topic) if e.message_type == CLOUD]
        wanted = (topic, choose_reliability("auto", offered))
        if not offered or wanted == self._input:
            return
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        policy = (
            ReliabilityPolicy.RELIABLE if wanted[1] == RELIABLE else ReliabilityPolicy.BEST_EFFORT
        )
        profile = QoSProfile(depth=1, reliability=policy)
        self._subscription = self._node.create_subscription(
            PointCloud2, topic, self._receive, profile, raw=True
        )
        self._input = wanted

    # What is seen.

    def _count(self) -> int:
        pairs = self._node.get_node_names_and_namespaces()
        return sum((name, space) == (self._name, self._namespace) for name, space in pairs)

    def _input_topic(self) -> str:
        """What the node subscribes to; its usual name while it subscribes to nothing."""
        try:
            subscribed = self._node.get_subscriber_names_and_types_by_node(
                self._name, self._namespace
            )
        except Exception:  # the node is not there, or left meanwhile
            subscribed = []
        clouds = [topic for topic, types in subscribed if CLOUD in types]
        return str(clouds[0]) if clouds else f"{self._namespace.rstrip('/')}/{POINTS}"

    def _publishers(self, topic: str) -> tuple[Endpoint, ...]:
        return tuple(_endpoint(info) for info in self._node.get_publishers_info_by_topic(topic))

    def _facts(self, seconds: float) -> GraphFacts:
        count, topic = self._count(), self._input_topic()
        node = None
        if count:
            first, last = (self._reports or [{}])[0], (self._reports or [{}])[-1]
            node = NodeFacts(
                name=self._full,
                count=count,
                state=self._state,
                parameters=self._parameters,
                input_topic=topic,
                counts=last,
                gained={key: value - first.get(key, 0) for key, value in last.items()},
            )
        return GraphFacts(
            namespace=self._namespace,
            seconds=seconds,
            node=node,
            nodes_elsewhere=self._elsewhere(),
            publishers=self._publishers(topic),
            cloud_topics=self._cloud_topics(topic),
            sample=self._sample,
            listeners={name: self._listeners(name) for name in OUTPUTS},
            clock_publishers=self._node.count_publishers("/clock"),
            clock_ns=self._clock_ns,
            tf_publishers=self._tf_publishers(),
        )

    def _elsewhere(self) -> tuple[str, ...]:
        pairs = self._node.get_node_names_and_namespaces()
        there = {f"{space.rstrip('/')}/{name}" for name, space in pairs if name == self._name}
        return tuple(sorted(there - {self._full}))

    def _cloud_topics(self, own: str) -> tuple[str, ...]:
        outputs = {f"{self._namespace.rstrip('/')}/{name}" for name in OUTPUTS}
        return tuple(
            sorted(
                topic
                for topic, types in self._node.get_topic_names_and_types()
                if CLOUD in types
                and topic not in {own, *outputs}
                and self._node.count_publishers(topic)
            )
        )

    def _listeners(self, name: str) -> tuple[Endpoint, ...]:
        topic = f"{self._namespace.rstrip('/')}/{name}"
        return tuple(_endpoint(i) for i in self._node.get_subscriptions_info_by_topic(topic))

    def _tf_publishers(self) -> int:
        spaces = {"", self._namespace.rstrip("/")}
        topics = [f"{space}/{name}" for space in spaces for name in ("tf", "tf_static")]
        return sum(self._node.count_publishers(topic) for topic in topics)


def sample_of(data: bytes, received_ns: int, clock_ns: int | None = None) -> Sample:
    """The facts of a serialised cloud, and when it came by the wall clock and by /clock."""
    try:
        message = deserialize_message(data, PointCloud2)
    except Exception as error:  # of the middleware, as many kinds as there are middlewares
        return Sample(problem=f"The cloud's bytes are damaged: {error}.", received_ns=received_ns)
    found = Sample(
        size=len(message.data),
        frame=str(message.header.frame_id),
        stamp_ns=int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec),
        received_ns=received_ns,
        clock_ns=clock_ns,
    )
    try:
        cloud = read_cloud(message)
    except SasError as error:
        return replace(found, problem=str(error))
    return replace(
        found,
        points=len(cloud.points),
        finite_points=int(cloud.valid.sum()),
        colored=cloud.colors is not None,
    )


def _endpoint(info: Any) -> Endpoint:
    best_effort = info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    return Endpoint(
        node=f"{info.node_namespace.rstrip('/')}/{info.node_name}",
        message_type=str(info.topic_type),
        reliability=BEST_EFFORT if best_effort else RELIABLE,
        latched=info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
    )
