"""A process full of clients that ask a node and check every answer against the cloud it names.

Cloud number n of the load is the base cloud moved by `n % TURN * STEP` along x, with `n % TURN`
more copies of its first point at its end, and a stamp that ends in n: header, coordinates and
indices all tell which cloud an answer comes from.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.nodes.transport import use_large_cloud_profile
from sas_ros.observation import Float32Array

STEP = 0.25
"""Metres along x from one cloud to the next; a power of two, so that little is rounded."""
TURN = 256
"""Clouds before x begins anew."""
STAMP_STEP = 10**6
"""Nanoseconds of a stamp that hold the number of its cloud."""
_READY_SECONDS = 60.0
_LAST_SECONDS = 60.0
_WORDS = ("chair", "table", "door", "floor", "wall", "sofa", "window", "bed")
_NEW_EVERY, _CLOUD_EVERY = 11, 3
_TOLERANCE = 2e-3  # metres: a centroid of float32 coordinates up to 70 m away


def numbered_points(base: Float32Array, number: int) -> Float32Array:
    """(N + number % TURN, 3) points of cloud `number`."""
    turn = number % TURN
    points = np.concatenate([base, np.repeat(base[:1], turn, axis=0)])
    points[:, 0] += np.float32(turn * STEP)
    return points


def contradiction(answer: Any, base: Float32Array) -> str | None:
    """A sentence when an answer does not fit the cloud that its header names, else None."""
    number = answer.source.stamp.nanosec % STAMP_STEP
    points = numbered_points(base, number)
    parts: list[npt.NDArray[np.int64]] = []
    for place, item in enumerate(answer.instances):
        where = f"cloud {number}, instance {place}"
        chosen = np.array(item.indices, np.int64)
        if len(chosen) != item.num_points or not len(chosen):
            return f"{where}: {len(chosen)} indices for {item.num_points} points"
        if chosen.max() >= len(points):
            return f"{where}: index {chosen.max()} of {len(points)} points"
        if (item.header.stamp, item.header.frame_id) != (
            answer.source.stamp,
            answer.source.frame_id,
        ):
            return f"{where}: its header is not that of the source"
        middle = points[chosen].astype(np.float64).mean(axis=0)
        told = np.array([item.centroid.x, item.centroid.y, item.centroid.z])
        if not np.abs(middle - told).max() < _TOLERANCE:
            return f"{where}: centroid {told} is not that of its points, {middle}"
        parts.append(chosen)
    if answer.cloud.width and parts:
        from sas_ros.clouds import read_cloud

        wanted = points[np.unique(np.concatenate(parts))]
        if not np.array_equal(read_cloud(answer.cloud).points, wanted):
            return f"cloud {number}: the masked points are not those of the indices"
    return None


class _Client:
    """Asks again when it was answered and its turn has come."""

    def __init__(self, node: Any, kind: Any, number: int, period: float) -> None:
        from sas_ros.nodes.outputs import of_services

        self._kind, self._number, self._period = kind, number, period
        self.client = node.create_client(kind, "query", qos_profile=of_services())
        self.future: Any = None
        self.asked = 0
        self._due = self._started = 0.0

    def ask(self) -> None:
        """Send a question if none is open and its time has come."""
        now = time.monotonic()
        if self.future is not None or now < self._due:
            return
        self._due = now + self._period
        turn = self._number + self.asked
        self.asked += 1
        new = turn % _NEW_EVERY == 0
        text = f"thing {self._number} {self.asked}" if new else _WORDS[turn % len(_WORDS)]
        request = self._kind.Request(text=text, return_indices=True)
        request.return_cloud = turn % _CLOUD_EVERY == 0
        self._started = time.perf_counter()
        self.future = self.client.call_async(request)

    def answer(self) -> tuple[Any, float] | None:
        """The answer and its milliseconds once it is there."""
        if self.future is None or not self.future.done():
            return None
        answer, self.future = self.future.result(), None
        return answer, (time.perf_counter() - self._started) * 1e3


def run_clients(
    base: Float32Array, *, namespace: str, clients: int, seconds: float, rate: float
) -> dict[str, Any]:
    """Ask the node of a namespace for `seconds`; `rate` questions a second and client, 0: as soon
    as one is answered.

    Returns:
        `latencies_ms`, `statuses` (number of answers by status), `asked`, `lost` (no answer within
        a minute), `contradictions` (sentences), `clouds` (different ones that were answered from).
    """
    import rclpy
    from rclpy.node import Node
    from sas_msgs.srv import Query

    rclpy.init()
    node = Node("clients", namespace=namespace)
    period = 1.0 / rate if rate > 0 else 0.0
    crowd = [_Client(node, Query, number, period) for number in range(clients)]
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    wrong: list[str] = []
    seen: set[int] = set()

    def look() -> None:
        rclpy.spin_once(node, timeout_sec=0.005 if period else 0.05)
        for client in crowd:
            found = client.answer()
            if found is None:
                continue
            answer, milliseconds = found
            if not latencies:
                print("answered", flush=True)
            latencies.append(milliseconds)
            statuses[str(answer.status)] += 1
            seen.add(answer.source.stamp.nanosec % STAMP_STEP)
            sentence = contradiction(answer, base)
            if sentence is not None:
                wrong.append(sentence)

    try:
        end = time.monotonic() + _READY_SECONDS
        while time.monotonic() < end and not all(c.client.service_is_ready() for c in crowd):
            rclpy.spin_once(node, timeout_sec=0.05)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for client in crowd:
                client.ask()
            look()
        end = time.monotonic() + _LAST_SECONDS
        while time.monotonic() < end and any(client.future is not None for client in crowd):
            look()
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    asked = sum(client.asked for client in crowd)
    return {
        "latencies_ms": latencies,
        "statuses": dict(statuses),
        "asked": asked,
        "lost": asked - len(latencies),
        "contradictions": wrong[:10],
        "clouds": len(seen),
    }


def main() -> int:
    """Entry point of the client processes of `sas bench load`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=Path, required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, required=True)
    arguments = parser.parse_args()
    use_large_cloud_profile()  # before rclpy loads the middleware
    base = np.load(arguments.points, allow_pickle=False)
    result = run_clients(
        base,
        namespace=arguments.namespace,
        clients=arguments.clients,
        seconds=arguments.seconds,
        rate=arguments.rate,
    )
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
