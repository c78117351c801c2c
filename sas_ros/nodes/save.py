"""The next cloud of a topic as a PLY file: what the node publishes, for any viewer."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.clouds import read_cloud
from sas_ros.clouds.layout import checked_bytes, field_column, find_field
from sas_ros.errors import SasError
from sas_ros.scans import write_ply


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `sas save`."""
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .ply file")
    parser.add_argument("--topic", default="labeled_points", help="relative to the namespace")
    parser.add_argument("--namespace", default="sas", help="ROS namespace (sas)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait (30)")


def run_save(arguments: argparse.Namespace) -> int:
    """Wait for one cloud and write it; returns the exit code.

    Raises:
        SasError: nothing came in time; says what to check.
    """
    import rclpy
    from rclpy.node import Node
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import PointCloud2

    received: list[Any] = []
    rclpy.init()
    try:
        node = Node("save", namespace=arguments.namespace)
        node.create_subscription(PointCloud2, arguments.topic, received.append, QoSProfile(depth=1))
        topic = node.resolve_topic_name(arguments.topic)
        deadline = time.monotonic() + arguments.timeout
        while rclpy.ok() and not received and time.monotonic() < deadline:
            rclpy.spin_once(node, timeout_sec=0.2)
        heard = node.count_publishers(topic)
    finally:
        rclpy.try_shutdown()
    if not received:
        raise SasError(
            f"No cloud came on {topic} within {arguments.timeout:g} s "
            f"({heard} publishers there); is the node running and fed?"
        )
    write_message(arguments.output, received[0])
    print(f"wrote {arguments.output}", file=sys.stderr)
    return 0


def write_message(path: Path, message: Any) -> None:
    """Write a PointCloud2 as PLY, with label, confidence and instance where it has them."""
    cloud = read_cloud(message)
    data = checked_bytes(message)

    def values(name: str, dtype: type[np.generic]) -> npt.NDArray[Any] | None:
        field = find_field(message, name)
        if field is None:
            return None
        return field_column(message, data, field).reshape(-1).astype(dtype)

    write_ply(
        path,
        cloud.points + cloud.origin,
        colors=cloud.colors,
        label=values("label", np.uint32),
        confidence=values("confidence", np.float32),
        instance=values("instance", np.uint32),
    )
