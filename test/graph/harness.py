"""Real processes on the real middleware: starting the node, and a probe to talk to it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sas_msgs.srv import Query, SetVocabulary
from sensor_msgs.msg import PointCloud2, PointField

from sas_ros.clouds import write_cloud
from sas_ros.nodes.middleware_watch import endless_waits
from sas_ros.nodes.shared_memory import lost_ports
from sas_ros.observation import Cloud

START_SECONDS = 60.0
"""Loading torch and the text encoder on a machine that is busy with other tests."""


class Domain:
    """A ROS domain of our own, held by a lock file as long as the tests run."""

    def __init__(self) -> None:
        folder = Path(tempfile.gettempdir()) / "sas_ros_test_domains"
        folder.mkdir(exist_ok=True)
        for number in range(1, 102):
            handle = open(folder / f"{number}.lock", "w")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                handle.close()
                continue
            self.number, self._handle = number, handle
            return
        raise RuntimeError("All ROS domains are taken by other test runs.")

    def release(self) -> None:
        self._handle.close()


def environment(domain: int, logs: Path) -> dict[str, str]:
    """What every process of a test runs with."""
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(logs),
        "ROS_PYTHON_CHECK_FIELDS": "1",
        "RCUTILS_LOGGING_BUFFERED_STREAM": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


class Process:
    """A Python module of ours in a process group of its own, with its output in a file."""

    known: ClassVar[weakref.WeakSet[Process]] = weakref.WeakSet()

    def __init__(self, module: str, arguments: Sequence[str], *, env: Mapping[str, str]) -> None:
        self._output = tempfile.NamedTemporaryFile("w+", suffix=".log")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=dict(env),
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.known.add(self)

    @property
    def output(self) -> str:
        """Everything it printed so far."""
        return Path(self._output.name).read_text()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def interrupt(self, timeout: float = 5.0) -> int:
        """Send SIGINT and return the exit code; kills it after `timeout` and says so."""
        if self.running:
            self._process.send_signal(signal.SIGINT)
        return self.wait(timeout)

    def wait(self, timeout: float) -> int:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5.0)
            raise AssertionError(
                f"The process did not end within {timeout} s. Its output:\n{self.output}"
            ) from None


def middleware_facts() -> str:
    """For a test that failed: whether Fast DDS is at fault in any process of it, and what those
    that still run have said last."""
    running = [process for process in Process.known if process.running]
    lines = []
    for pid in (os.getpid(), *(process.pid for process in running)):
        folder = Path(f"/proc/{pid}")
        waits, lost = endless_waits(folder / "task"), lost_ports(folder)
        lines.append(f"process {pid}: endless waits {waits}, lost ports {lost}")
    for process in running:
        lines.append(f"--- process {process.pid} has said\n{process.output[-2000:]}")
    return "\n".join(lines)


class Probe:
    """A node of the test itself: publishes clouds, collects answers, calls services."""

    def __init__(self, domain: int, namespace: str = "sas") -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = Node("probe", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._clients: dict[str, Any] = {}
        self._publishers: dict[tuple[str, bool], Any] = {}

    def close(self) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def until(self, done: Callable[[], Any], timeout: float = 60.0, what: str = "it") -> Any:
        """Spin until `done()` is true and return its value; fails after `timeout` seconds."""
        end = time.monotonic() + timeout
        while True:
            value = done()
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"Waited {timeout} s in vain for {what}.")
            self._executor.spin_once(timeout_sec=0.02)

    def listen(
        self,
        kind: Any,
        topic: str,
        *,
        latched: bool = False,
        depth: int = 50,
        reliable: bool = True,
    ) -> list[Any]:
        """Subscribe; the returned list grows."""
        received: list[Any] = []
        profile = QoSProfile(
            depth=depth,
            reliability=(ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT),
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        subscription = self.node.create_subscription(kind, topic, received.append, profile)
        resolved = self.node.resolve_topic_name(topic)
        self.until(lambda: self.node.count_publishers(resolved), what=f"a publisher of {topic}")
        self._last_subscription = subscription
        return received

    def stop_listening(self) -> None:
        """Destroy the newest subscription."""
        self.node.destroy_subscription(self._last_subscription)

    def publisher(self, topic: str = "points", *, reliable: bool = True) -> Any:
        """A publisher of clouds that the node has matched; made once."""
        key = (topic, reliable)
        if key not in self._publishers:
            policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
            profile = QoSProfile(depth=2, reliability=policy)
            self._publishers[key] = self.node.create_publisher(PointCloud2, topic, profile)
        publisher = self._publishers[key]
        self.until(publisher.get_subscription_count, what=f"a subscriber of {topic}")
        return publisher

    def unmatched_publisher(self, topic: str = "points") -> Any:
        """A best-effort publisher that nobody needs to have matched."""
        profile = QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._publishers[topic, False] = self.node.create_publisher(PointCloud2, topic, profile)
        return self._publishers[topic, False]

    def drop_publisher(self, topic: str = "points", *, reliable: bool = True) -> None:
        """Take a publisher off the graph."""
        self.node.destroy_publisher(self._publishers.pop((topic, reliable)))

    def send(self, cloud: Cloud, *, topic: str = "points", reliable: bool = True) -> PointCloud2:
        """Publish a cloud."""
        message = cloud_message(cloud)
        self.publisher(topic, reliable=reliable).publish(message)
        return message

    def call_async(self, kind: Any, name: str, request: Any) -> Any:
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        client = self._clients[name]
        self.until(client.service_is_ready, START_SECONDS, f"the service {name}")
        return client.call_async(request)

    def call(self, kind: Any, name: str, request: Any, timeout: float = 60.0) -> Any:
        """Call a service and return the response."""
        future = self.call_async(kind, name, request)
        self.until(future.done, timeout, f"an answer of {name}")
        return future.result()

    def ask(self, text: str, **fields: Any) -> Any:
        """Call the query service."""
        return self.call(Query, "query", query(text, **fields))

    def ask_async(self, text: str, **fields: Any) -> Any:
        return self.call_async(Query, "query", query(text, **fields))

    def set_labels(self, labels: Sequence[str]) -> Any:
        """Call the set_vocabulary service."""
        request = SetVocabulary.Request(labels=list(labels))
        return self.call(SetVocabulary, "set_vocabulary", request)

    def process(self, cloud: Cloud, timeout: float = 60.0) -> Any:
        """Publish a cloud and wait until a query is answered from it; returns that answer."""
        self.send(cloud)
        return self.await_source(cloud, timeout)

    def await_source(self, cloud: Cloud, timeout: float = 60.0) -> Any:
        """Ask until the answer comes from this cloud."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            answer = self.ask("chair")
            stamp = answer.source.stamp
            if stamp.sec * 10**9 + stamp.nanosec == cloud.header.stamp_ns and answer.student:
                return answer
            self.until(lambda: True)
            self._executor.spin_once(timeout_sec=0.02)
        raise AssertionError(f"The cloud was not processed within {timeout} s.")

    def change_state(self, transition: int, node: str = "perception") -> bool:
        """Run a lifecycle transition by its id."""
        request = ChangeState.Request()
        request.transition.id = transition
        return bool(self.call(ChangeState, f"{node}/change_state", request).success)

    def state(self, node: str = "perception") -> str:
        """The lifecycle state's label."""
        return str(self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label)

    def set_parameter(self, name: str, value: Any) -> Any:
        """Set one parameter; returns the result with `successful` and `reason`."""
        request = SetParameters.Request()
        request.parameters = [Parameter(name, value=value).to_parameter_msg()]
        return self.call(SetParameters, "perception/set_parameters", request).results[0]

    def diagnostics(
        self, done: Callable[[dict[str, Any]], bool] = lambda _: True, timeout: float = 60.0
    ) -> dict[str, Any]:
        """The next report of this namespace's node for which `done` is true, by entry name."""
        received = self.listen(DiagnosticArray, "/diagnostics")
        subscription = self._last_subscription
        prefix = f"{self.node.get_namespace()}/perception: "

        def report() -> dict[str, Any] | None:
            while received:
                statuses = {
                    s.name.removeprefix(prefix): s
                    for s in received.pop(0).status
                    if s.name.startswith(prefix)
                }
                if statuses and done(statuses):
                    return statuses
            return None

        try:
            result: dict[str, Any] = self.until(report, timeout, "a diagnostic report")
        finally:
            self.node.destroy_subscription(subscription)
        return result


def values(status: Any) -> dict[str, str]:
    """The key-value pairs of a diagnostic status."""
    return {pair.key: pair.value for pair in status.values}


def counts(status: Any) -> dict[str, int]:
    """The counters of the `input` entry."""
    names = ("received", "processed", "dropped", "in_flight")
    return {
        key: int(value)
        for key, value in values(status).items()
        if key in names or key.startswith("dropped_")
    }


def query(text: str, **fields: Any) -> Query.Request:
    """A query request; keyword arguments are its fields."""
    request = Query.Request(text=text)
    for name, value in fields.items():
        setattr(request, name, value)
    return request


def cloud_message(cloud: Cloud) -> PointCloud2:
    """The cloud as a plain x, y, z, rgb message."""
    message: PointCloud2 = write_cloud(PointCloud2, PointField, cloud.header, cloud)
    return message
