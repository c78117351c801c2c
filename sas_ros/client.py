"""`sas query`: a client of the running node's query service."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

from sas_ros.errors import SasError

STATUS_NAMES = ("OK", "NOT_FOUND", "NO_DATA", "STALE", "BUSY", "INVALID", "NOT_ACTIVE")
"""Names of the status values of sas_msgs/srv/Query, by number."""

FOUND, NOT_FOUND, ERROR = 0, 1, 2
"""Exit codes of `sas query`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `sas query`."""
    parser.add_argument("text", help='what to look for, such as "chair"')
    parser.add_argument(
        "--negatives", nargs="+", default=[], metavar="TEXT", help="words that compete with it"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.0, help="probability needed; 0 = the node's default"
    )
    parser.add_argument(
        "--max-instances", type=int, default=0, help="most objects; 0 = the node's default"
    )
    parser.add_argument(
        "--max-age", type=float, default=0.0, help="refuse clouds older than this, s; 0 = any age"
    )
    parser.add_argument(
        "--set-target",
        action="store_true",
        help='hold it as the target of query_mask and obstacles ("" lets the target go)',
    )
    parser.add_argument(
        "--map", action="store_true", help="ask the node's map instead of the newest cloud"
    )
    parser.add_argument(
        "--frame", default="", help="frame of the poses in the answer (that of cloud or map)"
    )
    parser.add_argument("--indices", action="store_true", help="with --json: indices of the points")
    parser.add_argument("--namespace", default="sas", help="ROS namespace of the node (sas)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait (10)")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def run_query(arguments: argparse.Namespace, ros_arguments: Sequence[str] = ()) -> int:
    """Ask and print; returns 0 when found, 1 when not found, 2 when it could not be answered."""
    if not arguments.timeout > 0:
        raise SasError(f"--timeout must be positive, not {arguments.timeout}.")
    if not 0 <= arguments.max_age < 2**31 or arguments.max_instances < 0:
        raise SasError("--max-age and --max-instances must not be negative.")
    response, elapsed = ask_node(arguments, ros_arguments)
    answer = as_json(response, round_trip_ms=elapsed * 1e3)
    print(json.dumps(answer, indent=2) if arguments.json else as_table(arguments.text, answer))
    return {"OK": FOUND, "NOT_FOUND": NOT_FOUND}.get(answer["status"], ERROR)


def ask_node(arguments: argparse.Namespace, ros_arguments: Sequence[str] = ()) -> tuple[Any, float]:
    """Call the service once; returns the response and the seconds that the call took.

    Raises:
        SasError: no service, or no answer in time; says what to do.
    """
    import rclpy
    from rclpy.node import Node
    from sas_msgs.srv import Query

    from sas_ros.nodes.outputs import of_services

    rclpy.init(args=list(ros_arguments))
    try:
        node = Node("sas_query", namespace=arguments.namespace)
        client = node.create_client(Query, "query", qos_profile=of_services())
        deadline = time.monotonic() + arguments.timeout
        if not client.wait_for_service(arguments.timeout):
            raise SasError(
                f"There is no service {client.service_name} after {arguments.timeout:g} s; start "
                "the node with `sas run`, or name its namespace with --namespace."
            )
        started = time.perf_counter()
        future = client.call_async(make_request(arguments, Query.Request()))
        left = max(deadline - time.monotonic(), 0.1)
        rclpy.spin_until_future_complete(node, future, timeout_sec=left)
        if not future.done():
            raise SasError(
                f"{client.service_name} did not answer within {arguments.timeout:g} s; ask with a "
                "longer --timeout, and see /diagnostics."
            )
        return future.result(), time.perf_counter() - started
    finally:
        rclpy.try_shutdown()


def make_request(arguments: argparse.Namespace, request: Any) -> Any:
    """Fill a sas_msgs/srv/Query request from the command line."""
    request.text = arguments.text
    request.negatives = list(arguments.negatives)
    request.threshold = float(arguments.threshold)
    request.max_instances = int(arguments.max_instances)
    seconds, fraction = divmod(arguments.max_age, 1.0)
    request.max_age.sec, request.max_age.nanosec = int(seconds), int(fraction * 1e9)
    request.source = request.SOURCE_MAP if arguments.map else request.SOURCE_LATEST
    request.target_frame = arguments.frame
    request.set_target = arguments.set_target
    request.return_indices = arguments.indices
    return request


def as_json(response: Any, *, round_trip_ms: float) -> dict[str, Any]:
    """The answer as plain JSON types; the keys are documented in docs/formats.md and stable."""
    stamp = response.source.stamp
    return {
        "status": STATUS_NAMES[response.status],
        "message": response.message,
        "frame": response.source.frame_id,
        "stamp": stamp.sec + stamp.nanosec * 1e-9,
        "age_s": response.age_s,
        "up": _triple(response.up),
        "best_score": response.best_score,
        "alternatives": [
            {"label": label, "score": score}
            for label, score in zip(response.alternatives, response.alternative_scores, strict=True)
        ],
        "instances": [_instance(item) for item in response.instances],
        "label_version": response.label_version,
        "map_version": response.map_version,
        "student": response.student,
        "timing_ms": {
            **dict(zip(response.timing.names, response.timing.ms, strict=True)),
            "round_trip": round_trip_ms,
        },
    }


def _instance(item: Any) -> dict[str, Any]:
    turn = item.pose.orientation
    height = item.support_height
    return {
        "label": item.label,
        "score": item.score,
        "center": _triple(item.pose.position),
        "orientation_xyzw": [turn.x, turn.y, turn.z, turn.w],
        "size": _triple(item.size),
        "centroid": _triple(item.centroid),
        "num_points": item.num_points,
        "support_height": height if math.isfinite(height) else None,
        "indices": list(item.indices),
    }


def _triple(value: Any) -> list[float]:
    return [value.x, value.y, value.z]


def as_table(text: str, answer: dict[str, Any]) -> str:
    """The answer for people."""
    lines = [f"{text}: {answer['status']}  {answer['message']}".rstrip()]
    if answer["instances"]:
        lines.append("  score  points  centre x, y, z (m)        size (m)")
    for item in answer["instances"]:
        center = ", ".join(f"{value:6.2f}" for value in item["center"])
        size = " x ".join(f"{value:.2f}" for value in item["size"])
        lines.append(f"  {item['score']:5.2f}  {item['num_points']:6d}  {center:<25} {size}")
    if answer["alternatives"]:
        seen = ", ".join(f"{a['label']} {a['score']:.2f}" for a in answer["alternatives"])
        lines.append(f"  seen instead: {seen}")
    if answer["frame"] or answer["student"]:
        lines.append(
            f"  frame {answer['frame']!r}, {answer['age_s']:.1f} s old, "
            f"{answer['timing_ms']['round_trip']:.0f} ms, student {answer['student']}"
        )
    return "\n".join(lines)


def main() -> int:
    """Entry point of `ros2 run sas_ros query TEXT [options] [--ros-args ...]`."""
    words = sys.argv[1:]
    at = words.index("--ros-args") if "--ros-args" in words else len(words)
    parser = argparse.ArgumentParser(prog="query", description=__doc__)
    add_arguments(parser)
    try:
        return run_query(parser.parse_args(words[:at]), words[at:])
    except SasError as error:
        print(f"query: {error}", file=sys.stderr)
        return ERROR
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
