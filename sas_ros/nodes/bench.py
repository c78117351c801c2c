"""Measures a running node from outside, as its users meet it: real process, real middleware."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from sas_ros.nodes.measured import START_SECONDS, MeasuredNode, percentiles, wait
from sas_ros.nodes.transport import use_large_cloud_profile
from sas_ros.observation import Cloud

ANSWER_SECONDS = 60.0


def bench_node(
    cloud: Cloud, *, student: str, rounds: int, queries: int, up: str, memory_budget: int = 0
) -> dict[str, Any]:
    """Latency of clouds and queries, and memory, of a node started for the purpose.

    Args:
        cloud: published again and again, one at a time.
        student: name or path of the student.
        rounds: clouds that are timed, after two to warm up.
        queries: questions of each kind that are timed while the network runs.
        up, memory_budget: the node's parameters of these names.

    Returns:
        Milliseconds `cloud_to_labels_p50/p95`, `query_known_p50/p95`, `query_new_p50/p95`; by the
        node's own clock, medians while no query is asked: `forward_s` of the network, `total_s`
        from arrival to the last output, `added_ratio` of what is not the network to the network,
        and `stages_ms` of every stage; `rss_mb` of the node after all that.

    Raises:
        SasError: the node did not come up or did not answer.
    """
    use_large_cloud_profile()  # before rclpy loads the middleware
    parameters = {"student": student, "up": up, "memory_budget": memory_budget}
    with MeasuredNode(parameters) as node:
        return _Bench(cloud, node).measure(rounds, queries)


class _Bench:
    def __init__(self, cloud: Cloud, node: MeasuredNode) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.node import Node
        from rclpy.qos import QoSProfile
        from sas_msgs.srv import Query
        from sensor_msgs.msg import PointCloud2, PointField

        from sas_ros.clouds import write_cloud
        from sas_ros.nodes.outputs import of_services

        rclpy.init()
        self._rclpy, self._query, self._measured = rclpy, Query, node
        self._node = Node("bench", namespace=node.namespace)
        profile = QoSProfile(depth=1)
        self._publisher = self._node.create_publisher(PointCloud2, "points", profile)
        self._node.create_subscription(PointCloud2, "labeled_points", self._labelled, profile)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._reported, profile)
        self._client = self._node.create_client(Query, "query", qos_profile=of_services())
        self._message = write_cloud(PointCloud2, PointField, cloud.header, cloud)
        self._arrived = 0
        self._reports: list[dict[str, str]] = []

    def measure(self, rounds: int, queries: int) -> dict[str, Any]:
        try:
            self._wait(lambda: self._publisher.get_subscription_count() > 0, START_SECONDS)
            self._wait(self._client.service_is_ready, START_SECONDS)
            clouds = [self._cloud() for _ in range(rounds + 2)][2:]
            stages = self._stages()
            # A second cloud is always under way, so that the network never rests.
            known = [self._ask("chair", busy=True) for _ in range(queries)]
            words = [f"thing number {number} of the bench" for number in range(queries)]
            new = [self._ask(word, busy=True) for word in words]
            return {
                **percentiles("cloud_to_labels", clouds, 50, 95),
                **percentiles("query_known", known, 50, 95),
                **percentiles("query_new", new, 50, 95),
                "forward_s": stages["network"] / 1e3,
                "total_s": stages["total"] / 1e3,
                "added_ratio": stages["total"] / stages["network"] - 1.0,
                "stages_ms": stages,
                "rss_mb": round(self._measured.resident_megabytes()),
                "points": int(self._message.width * self._message.height),
            }
        finally:
            self._node.destroy_node()
            self._rclpy.try_shutdown()

    def _labelled(self, _message: Any) -> None:
        self._arrived += 1

    def _reported(self, message: Any) -> None:
        for status in message.status:
            if status.name == f"/{self._measured.namespace}/perception: student":
                self._reports.append({item.key: item.value for item in status.values})

    def _stages(self) -> dict[str, float]:
        """Median milliseconds of every stage, as the node reports them from now on."""
        # The first report may have been made before the last cloud was finished.
        known = len(self._reports) + 2
        self._wait(lambda: len(self._reports) >= known, ANSWER_SECONDS)
        suffix = "_ms_p50"
        values = self._reports[-1].items()
        return {key.removesuffix(suffix): float(v) for key, v in values if key.endswith(suffix)}

    def _cloud(self) -> float:
        """Publish one cloud and wait for its labels; milliseconds."""
        before = self._arrived
        started = time.perf_counter()
        self._publish()
        self._wait(lambda: self._arrived > before, ANSWER_SECONDS)
        return (time.perf_counter() - started) * 1e3

    def _publish(self) -> None:
        self._message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(self._message)

    def _ask(self, text: str, *, busy: bool) -> float:
        """Ask once, with a fresh cloud before it when the network is to be busy; milliseconds."""
        if busy:
            self._publish()
            # Let the node take the cloud first: the question has to meet a running network.
            self._rclpy.spin_once(self._node, timeout_sec=0.02)
        request = self._query.Request(text=text)
        started = time.perf_counter()
        future = self._client.call_async(request)
        self._wait(future.done, ANSWER_SECONDS)
        return (time.perf_counter() - started) * 1e3

    def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        spin = partial(self._rclpy.spin_once, self._node, timeout_sec=0.05)
        wait(spin, condition, seconds, self._measured)
