"""A working day in an hour: a node under a steady load, its memory and latency minute by minute."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.files import atomic_write
from sas_ros.nodes.measured import (
    START_SECONDS,
    MeasuredNode,
    input_counts,
    percentiles,
    wait,
)
from sas_ros.nodes.transport import use_large_cloud_profile
from sas_ros.observation import Cloud

WARM_UP = 5
"""Samples before memory and latency have to be flat: caches fill, pools find their size."""
_NEW_EVERY = 5
"""Every so many questions is one that nobody has asked before."""
_HOLD_EVERY = 30
"""Every so many questions asks for the held target anew, which also lets it go when not found."""
_WORDS = ("table", "chair", "door", "floor")
_LOST_SECONDS = 60.0


def soak(
    clouds: Sequence[Cloud],
    *,
    student: str,
    up: str,
    minutes: float,
    cloud_rate: float,
    query_rate: float,
    output: Path,
    sample_seconds: float = 60.0,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Publish clouds and ask questions at fixed rates; write one row a minute.

    All outputs have a listener and a target is held, so that everything is computed. The load does
    not wait for the node: what it cannot follow is dropped, and counted.

    Args:
        clouds: published in turn.
        student, up: the node's parameters.
        minutes: how long.
        cloud_rate, query_rate: per second.
        output: folder for soak.csv and soak.json, written anew with every row.
        sample_seconds: time between two rows.
        tell: called with a line per row.

    Returns:
        `rows`; `samples`, `clouds_sent`, `clouds_processed`, `clouds_dropped`, `queries`,
        `queries_found`, `queries_lost`, percentiles of the whole run, and slopes per hour after
        `WARM_UP` samples with their 95 % half-width (least squares; samples taken as independent).

    Raises:
        SasError: the node did not come up or ended.
    """
    use_large_cloud_profile()  # before rclpy loads the middleware
    with MeasuredNode({"student": student, "up": up}) as node:
        load = _Load(clouds, node)
        try:
            return load.run(
                minutes * 60.0,
                1.0 / cloud_rate,
                1.0 / query_rate,
                sample_seconds,
                lambda result: _write(output, result, tell),
            )
        finally:
            load.close()


class _Load:
    def __init__(self, clouds: Sequence[Cloud], node: MeasuredNode) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.node import Node
        from rclpy.qos import QoSProfile
        from sas_msgs.msg import InstanceArray
        from sas_msgs.srv import Query
        from sensor_msgs.msg import PointCloud2, PointField

        from sas_ros.clouds import write_cloud
        from sas_ros.nodes.outputs import of_services

        rclpy.init()
        self._rclpy, self._query, self._measured = rclpy, Query, node
        self._node = Node("soak", namespace=node.namespace)
        profile = QoSProfile(depth=5)
        self._publisher = self._node.create_publisher(PointCloud2, "points", profile)
        listen = self._node.create_subscription
        listen(PointCloud2, "labeled_points", self._labelled, profile)
        for topic in ("query_mask", "obstacles", "visualization"):
            listen(PointCloud2, topic, lambda _: None, profile)
        listen(InstanceArray, "instances", lambda _: None, profile)
        listen(DiagnosticArray, "/diagnostics", self._reported, profile)
        self._client = self._node.create_client(Query, "query", qos_profile=of_services())
        self._messages = [write_cloud(PointCloud2, PointField, c.header, c) for c in clouds]
        self._sent: dict[tuple[int, int], float] = {}
        self._open: dict[Any, float] = {}
        self._counts: dict[str, int] = {}
        self._cloud_ms: list[float] = []
        self._query_ms: list[float] = []
        self._clouds = self._queries = self._lost = self._found = 0

    def close(self) -> None:
        self._node.destroy_node()
        self._rclpy.try_shutdown()

    def run(
        self,
        seconds: float,
        cloud_period: float,
        query_period: float,
        sample_seconds: float,
        write: Callable[[dict[str, Any]], None],
    ) -> dict[str, Any]:
        self._wait(lambda: self._publisher.get_subscription_count() > 0, START_SECONDS)
        self._wait(self._client.service_is_ready, START_SECONDS)
        self._cloud()
        self._wait(lambda: bool(self._cloud_ms), START_SECONDS)
        self._ask("table", set_target=True)
        self._wait(lambda: not self._open, START_SECONDS)
        rows: list[dict[str, Any]] = []
        result: dict[str, Any] = {}
        all_clouds: list[float] = []
        all_queries: list[float] = []
        self._cloud_ms, self._query_ms = [], []
        begin = time.monotonic()
        turns = [
            _Turn(begin, cloud_period, self._cloud),
            _Turn(begin, query_period, self._next_question),
        ]
        processor = self._measured.processor_seconds()
        while time.monotonic() < begin + seconds:
            next_row = begin + (len(rows) + 1) * sample_seconds
            while (now := time.monotonic()) < next_row:
                self._measured.check()
                for turn in turns:
                    turn.at(now)
                due = min(next_row, *(turn.due for turn in turns))
                self._spin(min(max(due - time.monotonic(), 0.0), 0.05))
            self._give_up()
            spent = self._measured.processor_seconds()
            rows.append(self._row(now - begin, (spent - processor) / sample_seconds))
            processor = spent
            all_clouds += self._cloud_ms
            all_queries += self._query_ms
            self._cloud_ms, self._query_ms = [], []
            result = {**self._totals(all_clouds, all_queries), **_slopes(rows), "rows": rows}
            write(result)
        return result

    def _row(self, elapsed: float, processors: float) -> dict[str, Any]:
        return {
            "minute": round(elapsed / 60.0, 2),
            "rss_mb": round(self._measured.resident_megabytes(), 1),
            **percentiles("cloud", self._cloud_ms, 50, 95, 99),
            **percentiles("query", self._query_ms, 50, 95, 99),
            "clouds": len(self._cloud_ms),
            "queries": len(self._query_ms),
            "processors": round(processors, 2),
            "files": self._measured.open_files(),
            "threads": self._measured.threads(),
            "load": round(os.getloadavg()[0], 2),
        }

    def _totals(self, clouds: Sequence[float], queries: Sequence[float]) -> dict[str, Any]:
        return {
            "clouds_sent": self._clouds,
            "clouds_processed": self._counts.get("processed", 0),
            "clouds_dropped": self._counts.get("dropped", 0),
            "queries": self._queries,
            "queries_found": self._found,
            "queries_lost": self._lost,
            **percentiles("cloud", clouds, 50, 95, 99),
            **percentiles("query", queries, 50, 95, 99),
        }

    def _cloud(self) -> None:
        message = self._messages[self._clouds % len(self._messages)]
        self._clouds += 1
        stamp = self._node.get_clock().now().to_msg()
        message.header.stamp = stamp
        self._sent[stamp.sec, stamp.nanosec] = time.perf_counter()
        self._publisher.publish(message)

    def _next_question(self) -> None:
        new = self._queries % _NEW_EVERY == 0
        text = f"thing {self._queries}" if new else _WORDS[self._queries % len(_WORDS)]
        if hold := self._queries % _HOLD_EVERY == 0:
            text = "table"
        self._ask(text, set_target=hold)

    def _ask(self, text: str, *, set_target: bool = False) -> None:
        self._queries += 1
        request = self._query.Request(text=text, set_target=set_target, return_indices=True)
        future = self._client.call_async(request)
        self._open[future] = time.perf_counter()
        future.add_done_callback(self._answered)

    def _answered(self, future: Any) -> None:
        started = self._open.pop(future, None)
        if started is not None:
            self._query_ms.append((time.perf_counter() - started) * 1e3)
            self._found += future.result().status == self._query.Response.OK

    def _labelled(self, message: Any) -> None:
        stamp = message.header.stamp
        started = self._sent.pop((stamp.sec, stamp.nanosec), None)
        if started is not None:
            self._cloud_ms.append((time.perf_counter() - started) * 1e3)

    def _reported(self, message: Any) -> None:
        self._counts = input_counts(message, self._measured.namespace) or self._counts

    def _give_up(self) -> None:
        """Stop waiting for what is too late, so that our own memory stays flat too."""
        limit = time.perf_counter() - _LOST_SECONDS
        for future in [future for future, started in self._open.items() if started < limit]:
            del self._open[future]
            self._lost += 1
        self._sent = {key: at for key, at in self._sent.items() if at >= limit}

    def _spin(self, seconds: float) -> None:
        self._rclpy.spin_once(self._node, timeout_sec=seconds)

    def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        wait(lambda: self._spin(0.05), condition, seconds, self._measured)


class _Turn:
    """Something that is done once a period, late rather than twice at once."""

    def __init__(self, begin: float, period: float, action: Callable[[], None]) -> None:
        self.due, self._period, self._action = begin, period, action

    def at(self, now: float) -> None:
        if now >= self.due:
            self.due = max(self.due + self._period, now)
            self._action()


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Least-squares slope of y over x and its 95 % half-width; NaN for fewer than three points.

    The half-width is Student's t (Cornish-Fisher expansion of its quantile) times the standard
    error, as if the residuals were independent.
    """
    values = np.array([x, y], float)
    values = values[:, np.isfinite(values).all(axis=0)]
    free = values.shape[1] - 2
    if free < 1:
        return float("nan"), float("nan")
    x0, y0 = values - values.mean(axis=1, keepdims=True)
    spread = float(x0 @ x0)
    gradient = float(x0 @ y0) / spread
    residual = y0 - gradient * x0
    z = 1.959964
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return gradient, t * float(residual @ residual / free / spread) ** 0.5


def _slopes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    steady = rows[WARM_UP:]
    hours = [row["minute"] / 60.0 for row in steady]
    result: dict[str, Any] = {"samples": len(rows), "warm_up_samples": WARM_UP}
    for name, key in (
        ("rss_mb", "rss_mb"),
        ("cloud_p50_ms", "cloud_p50_ms"),
        ("query_p50_ms", "query_p50_ms"),
    ):
        known = [np.nan if row[key] is None else row[key] for row in steady]
        gradient, half = slope(hours, known)
        result[f"{name}_per_hour"] = _rounded(gradient)
        result[f"{name}_per_hour_95"] = _rounded(half)
    return result


def _rounded(value: float) -> float | None:
    """Two places; None for NaN, which JSON does not know."""
    return None if np.isnan(value) else round(value, 2)


def _write(output: Path, result: dict[str, Any], tell: Callable[[str], None]) -> None:
    rows = result["rows"]
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    atomic_write(output / "soak.csv", text.getvalue().encode())
    atomic_write(output / "soak.json", (json.dumps(result, indent=2) + "\n").encode())
    tell("  ".join(f"{key} {value}" for key, value in rows[-1].items()))
