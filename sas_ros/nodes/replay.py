"""A scan file as a sensor: publishes it as PointCloud2 at a rate; a bag as it was recorded."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sas_ros.bags.reading import is_bag
from sas_ros.errors import SasError
from sas_ros.nodes.transport import use_large_cloud_profile
from sas_ros.observation import Cloud, SourceHeader

DEFAULT_FRAME = "scan"
SCAN_RATE = 2.0
"""Clouds per second."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `sas replay`."""
    parser.add_argument(
        "scan",
        type=Path,
        help=".ply .pcd .npy .npz, or KITTI / nuScenes .bin; or a bag: .mcap .db3 or its folder",
    )
    parser.add_argument("--topic", default="points", help="relative to the namespace (points)")
    parser.add_argument("--namespace", default="sas", help="ROS namespace (sas)")
    parser.add_argument(
        "--rate",
        type=float,
        default=None,
        help="clouds per second (2); of a bag: times the recorded speed (1)",
    )
    parser.add_argument(
        "--frame-id", default=None, help=f"frame of the cloud (the file's own, or {DEFAULT_FRAME})"
    )
    parser.add_argument(
        "--stamps",
        choices=("now", "original"),
        default=None,
        help="stamp clouds with the clock, or with the file's own stamp (0 where it has none); "
        "default: now, and with --clock original",
    )
    parser.add_argument("--reliability", choices=("reliable", "best_effort"), default="reliable")
    parser.add_argument(
        "--transport",
        choices=("large", "default"),
        default="large",
        help="large: through enough shared memory for any cloud; default: as a driver that was "
        "not told about it, whose best-effort clouds above 0.5 MB get lost",
    )
    parser.add_argument("--count", type=int, default=0, help="clouds to publish; 0 never ends")
    parser.add_argument("--once", action="store_true", help="the same as --count 1")
    parser.add_argument(
        "--wait", type=float, default=0.0, help="seconds to wait for a subscriber; 0 waits for ever"
    )
    bag = parser.add_argument_group("bags")
    bag.add_argument(
        "--bag-topic",
        metavar="NAME",
        help="the clouds to play, where the bag has several topics of them",
    )
    bag.add_argument(
        "--also",
        nargs="+",
        default=[],
        metavar="NAME",
        help="other topics of the bag, such as /tf, under their own names",
    )
    bag.add_argument(
        "--clock",
        nargs="?",
        type=float,
        const=100.0,
        default=0.0,
        metavar="HZ",
        help="publish the time of the recording on /clock, for nodes with use_sim_time (100)",
    )
    bag.add_argument("--loop", action="store_true", help="begin again at the end")


class Replay:
    """Publishes one cloud again and again; `done` once it did so often enough.

    Waits for the first subscriber, so that `--once` reaches it.
    """

    def __init__(self, node: Any, cloud: Cloud, arguments: argparse.Namespace) -> None:
        from rclpy.clock import Clock, ClockType
        from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import PointCloud2, PointField

        from sas_ros.clouds import write_cloud

        self._node = node
        self._now_stamps = arguments.stamps != "original"
        self._left = 1 if arguments.once else arguments.count
        self._endless = self._left == 0
        self._wait = arguments.wait
        self.published = 0
        self.unheard = False
        reliable = arguments.reliability == "reliable"
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=2,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )
        self._publisher = node.create_publisher(PointCloud2, arguments.topic, profile)
        self._message = write_cloud(PointCloud2, PointField, cloud.header, cloud)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._started = self._steady.now()
        self._waiting = node.create_timer(0.02, self._first, clock=self._steady)
        self._rate = SCAN_RATE if arguments.rate is None else arguments.rate

    @property
    def done(self) -> bool:
        """Whether the last cloud is out and was acknowledged, or nobody came."""
        return self.unheard or (not self._endless and self.published >= self._left)

    def _first(self) -> None:
        if self._publisher.get_subscription_count() == 0:
            waited = (self._steady.now() - self._started).nanoseconds * 1e-9
            self.unheard = 0 < self._wait < waited
            return
        self._waiting.cancel()
        self._node.create_timer(1.0 / self._rate, self.publish, clock=self._steady)
        self.publish()

    def publish(self) -> None:
        """Publish the cloud once more."""
        if self.done:
            return
        if self._now_stamps:
            self._message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(self._message)
        self.published += 1

    def finish(self) -> None:
        """Wait until subscribers have acknowledged what was published."""
        from rclpy.duration import Duration

        if self.published:
            self._publisher.wait_for_all_acked(Duration(seconds=2.0))


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raises `SasError` for numbers that make no sense."""
    if arguments.rate is not None and not 0.01 <= arguments.rate <= 1000:
        raise SasError(f"--rate must lie in 0.01 to 1000, not {arguments.rate}.")
    if arguments.count < 0:
        raise SasError(f"--count must not be negative, not {arguments.count}.")
    if not arguments.wait >= 0:
        raise SasError(f"--wait must not be negative, not {arguments.wait}.")
    if not (arguments.clock == 0 or 0.1 <= arguments.clock <= 1000):
        raise SasError(f"--clock must lie in 0.1 to 1000 Hz, not {arguments.clock}.")
    bag = is_bag(arguments.scan)
    if not bag and (arguments.clock or arguments.loop or arguments.also or arguments.bag_topic):
        raise SasError(
            f"--clock, --loop, --also and --bag-topic are for bags, and {arguments.scan} is a scan."
        )
    if arguments.clock and arguments.stamps == "now":
        raise SasError("--clock plays the recorded time, so --stamps now would contradict it.")


def prepare_transport(arguments: argparse.Namespace) -> None:
    """Before rclpy is imported: the middleware reads the variable when it is loaded."""
    if arguments.transport == "large":
        print(use_large_cloud_profile(), file=sys.stderr)


def run_replay(arguments: argparse.Namespace, ros_arguments: Sequence[str] = ()) -> int:
    """Publish until interrupted or done; returns the exit code (1: nobody subscribed in time)."""
    from sas_ros.scans import read_scan

    check_arguments(arguments)
    if is_bag(arguments.scan):
        from sas_ros.nodes.bag_replay import run_bag_replay

        return run_bag_replay(arguments, ros_arguments)
    cloud = read_scan(arguments.scan)
    frame = arguments.frame_id or cloud.header.frame_id or DEFAULT_FRAME
    cloud = replace(cloud, header=SourceHeader(cloud.header.stamp_ns, frame))
    prepare_transport(arguments)

    import rclpy
    from rclpy.executors import ExternalShutdownException
    from rclpy.node import Node

    rclpy.init(args=list(ros_arguments))
    node, replay = None, None
    try:
        node = Node("replay", namespace=arguments.namespace)
        replay = Replay(node, cloud, arguments)
        topic = node.resolve_topic_name(arguments.topic)
        print(f"Publishing {len(cloud.points)} points in frame {frame} on {topic}.", flush=True)
        while rclpy.ok() and not replay.done:
            rclpy.spin_once(node, timeout_sec=0.5)
        replay.finish()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    if replay is not None and replay.unheard:
        print(f"Nobody subscribed within {arguments.wait:g} s.", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Entry point of `ros2 run sas_ros replay SCAN-OR-BAG [options] [--ros-args ...]`."""
    own, ros = split_ros_arguments(sys.argv[1:])
    parser = argparse.ArgumentParser(prog="replay", description=__doc__)
    add_arguments(parser)
    try:
        return run_replay(parser.parse_args(own), ros)
    except SasError as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2


def split_ros_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Own arguments, and those from `--ros-args` on."""
    words = list(arguments)
    at = words.index("--ros-args") if "--ros-args" in words else len(words)
    return words[:at], words[at:]


if __name__ == "__main__":
    raise SystemExit(main())
