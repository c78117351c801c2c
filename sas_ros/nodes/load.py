"""Many clients ask one node while clouds arrive; some of them die in the middle of a call."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.client import STATUS_NAMES
from sas_ros.errors import SasError
from sas_ros.nodes.load_clients import STAMP_STEP, numbered_points
from sas_ros.nodes.measured import (
    START_SECONDS,
    MeasuredNode,
    input_counts,
    percentiles,
    wait,
)
from sas_ros.nodes.transport import use_large_cloud_profile
from sas_ros.observation import Cloud, SourceHeader

_PER_PROCESS = 10
_END_SECONDS = 180.0


def load(
    cloud: Cloud,
    *,
    student: str,
    up: str,
    clients: int,
    seconds: float,
    cloud_rate: float,
    query_rate: float,
    killed: int,
    text_encoder: str = "auto",
) -> dict[str, Any]:
    """Start a node, publish numbered clouds, and let clients ask and check every answer.

    Args:
        cloud: the base of all clouds.
        student, up, text_encoder: the node's parameters.
        clients: that ask at the same time, ten to a process.
        seconds: how long they ask.
        cloud_rate: clouds a second.
        query_rate: questions a second and client; 0: as soon as one is answered.
        killed: processes of three more clients each that are killed while their calls are open.

    Returns:
        `clients`, `asked`, `answered`, `lost`, `killed`, `contradictions`, `statuses`, percentiles
        of the latency, `answers_per_s`, `answered_clouds`, `clouds_sent`, `clouds_processed`,
        `clouds_dropped`.

    Raises:
        SasError: the node or a process of clients ended, an answer was lost or fits no cloud.
    """
    use_large_cloud_profile()  # before rclpy loads the middleware
    parameters = {"student": student, "up": up, "text_encoder": text_encoder}
    with tempfile.TemporaryDirectory(prefix="sas-load-") as folder:
        file = Path(folder) / "points.npy"
        np.save(file, cloud.points, allow_pickle=False)
        with MeasuredNode(parameters) as node:
            crowd = _Crowd(file, clients, seconds, query_rate, node.namespace)
            source = _Source(cloud, node, cloud_rate)
            try:
                source.wait_for_labels()
                results = crowd.run(source, killed)
                source.settle()
            finally:
                crowd.close()
                source.close()
    return _summary(results, source, clients, killed, seconds)


def _summary(
    results: Sequence[dict[str, Any]], source: _Source, clients: int, killed: int, seconds: float
) -> dict[str, Any]:
    latencies = [value for result in results for value in result["latencies_ms"]]
    statuses: Counter[str] = Counter()
    for result in results:
        for status, count in result["statuses"].items():
            statuses[STATUS_NAMES[int(status)]] += count
    wrong = [sentence for result in results for sentence in result["contradictions"]]
    lost = sum(result["lost"] for result in results)
    if wrong:
        raise SasError(f"{len(wrong)} answers fit no cloud: {'; '.join(wrong[:3])}.")
    if lost:
        raise SasError(f"{lost} of {lost + len(latencies)} questions were never answered.")
    return {
        "clients": clients,
        "killed": killed,
        "asked": sum(result["asked"] for result in results),
        "answered": len(latencies),
        "lost": lost,
        "contradictions": len(wrong),
        "statuses": dict(statuses),
        **percentiles("query", latencies, 50, 95, 99),
        "answers_per_s": round(len(latencies) / seconds, 1),
        "answered_clouds": max(result["clouds"] for result in results),
        "clouds_sent": source.sent,
        "clouds_processed": source.counts["processed"],
        "clouds_dropped": source.counts["dropped"],
    }


class _Crowd:
    """The processes of clients."""

    def __init__(
        self, file: Path, clients: int, seconds: float, rate: float, namespace: str
    ) -> None:
        self._file, self._seconds, self._rate = file, seconds, rate
        self._namespace = namespace
        self._sizes = [
            min(_PER_PROCESS, clients - first) for first in range(0, clients, _PER_PROCESS)
        ]
        self._processes: list[subprocess.Popen[str]] = []
        self._outputs: list[Any] = []

    def _start(self, clients: int, seconds: float) -> int:
        words = ["--points", str(self._file), "--clients", str(clients)]
        words += ["--seconds", f"{seconds:g}", "--rate", f"{self._rate:g}"]
        words += ["--namespace", self._namespace]
        output = tempfile.TemporaryFile("w+")
        self._outputs.append(output)
        command = [sys.executable, "-m", "sas_ros.nodes.load_clients", *words]
        self._processes.append(
            subprocess.Popen(command, stdout=output, text=True, start_new_session=True)
        )
        return len(self._processes) - 1

    def _lines(self, place: int) -> list[str]:
        output = self._outputs[place]
        output.seek(0)
        return list(output.read().splitlines())

    def run(self, source: _Source, killed: int) -> list[dict[str, Any]]:
        """Let all of them ask, kill some, and return what the others tell."""
        lasting = [self._start(size, self._seconds) for size in self._sizes]
        doomed = [self._start(3, 10 * self._seconds) for _ in range(killed)]
        for place in doomed:
            # Answered once, it asks again at once: a call is open whenever it dies.
            source.until(lambda place=place: bool(self._lines(place)), START_SECONDS)
            self._processes[place].kill()
        ended = self._seconds + START_SECONDS + _END_SECONDS
        source.until(lambda: all(self._processes[p].poll() is not None for p in lasting), ended)
        results = []
        for place in lasting:
            lines = self._lines(place)
            if self._processes[place].returncode or not lines:
                raise SasError("A process of clients ended before it was done.")
            results.append(json.loads(lines[-1]))
        return results

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for output in self._outputs:
            output.close()


class _Source:
    """Publishes numbered clouds at a rate, and listens to what the node says of them."""

    def __init__(self, cloud: Cloud, node: MeasuredNode, rate: float) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.node import Node
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import PointCloud2, PointField

        rclpy.init()
        self._rclpy, self._measured, self._cloud = rclpy, node, cloud
        self._types = PointCloud2, PointField
        self._period = 1.0 / rate
        self._node = Node("load", namespace=node.namespace)
        profile = QoSProfile(depth=2)
        self._publisher = self._node.create_publisher(PointCloud2, "points", profile)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._reported, profile)
        self._due = 0.0
        self.sent = 0
        self.counts: dict[str, int] = {}

    def wait_for_labels(self) -> None:
        """Publish until the node has processed a cloud."""
        self._wait(lambda: self._publisher.get_subscription_count() > 0, START_SECONDS)
        self.until(lambda: self.counts.get("processed", 0) > 0, START_SECONDS)

    def until(self, condition: Any, seconds: float) -> None:
        """Publish at the rate until the condition holds."""

        def spin() -> None:
            if time.monotonic() >= self._due:
                self._due = max(self._due + self._period, time.monotonic())
                self._publish()
            left = min(max(self._due - time.monotonic(), 0.0), 0.05)
            self._rclpy.spin_once(self._node, timeout_sec=left)

        wait(spin, condition, seconds, self._measured, "come to an end")

    def settle(self) -> None:
        """Publish nothing more and wait until every cloud is accounted for."""
        self.counts = {}
        self._wait(lambda: self.counts.get("in_flight", 1) == 0, START_SECONDS)

    def close(self) -> None:
        self._node.destroy_node()
        self._rclpy.try_shutdown()

    def _publish(self) -> None:
        from sas_ros.clouds import write_cloud

        now = int(self._node.get_clock().now().nanoseconds)
        header = SourceHeader(now // STAMP_STEP * STAMP_STEP + self.sent % STAMP_STEP, "lidar")
        numbered = Cloud(numbered_points(self._cloud.points, self.sent), header=header)
        self._publisher.publish(write_cloud(*self._types, header, numbered))
        self.sent += 1

    def _reported(self, message: Any) -> None:
        self.counts = input_counts(message, self._measured.namespace) or self.counts

    def _wait(self, condition: Any, seconds: float) -> None:
        spin = partial(self._rclpy.spin_once, self._node, timeout_sec=0.05)
        wait(spin, condition, seconds, self._measured)
