"""A bag as a sensor: plays its clouds as they were recorded, with or without its clock."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from sas_ros.bags.reading import Bag, BagMessage, DamagedBag, Topic
from sas_ros.errors import SasError

_TYPE = re.compile(r"([a-z][a-z0-9_]*)/msg/([A-Za-z][A-Za-z0-9]*)")
_PATIENCE = 0.1
"""Seconds after which a wait looks again whether ROS was shut down."""


class BagPlayer:
    """Publishes messages of a bag at their times.

    Args:
        node: to publish with.
        bag: open.
        arguments: of `sas replay`, checked.

    Attributes:
        published: clouds so far.
        bad: messages that were no clouds.

    Raises:
        SasError: a topic is not there, or its message type is not installed.
    """

    def __init__(self, node: Any, bag: Bag, arguments: argparse.Namespace) -> None:
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import PointCloud2

        self._node = node
        self._bag = bag
        self._cloud_type = PointCloud2
        self._rate = 1.0 if arguments.rate is None else float(arguments.rate)
        self._now_stamps = (arguments.stamps or ("original" if arguments.clock else "now")) == "now"
        self._frame = arguments.frame_id
        self._left = 1 if arguments.once else arguments.count
        self._wait = arguments.wait
        self._loop = arguments.loop
        self.published = 0
        self.bad = 0
        self.clouds = choose_clouds(bag, arguments.bag_topic)
        self._others = choose_others(bag, arguments.also)
        self._publisher = node.create_publisher(
            PointCloud2, arguments.topic, _profile(arguments.reliability == "reliable")
        )
        self._other_publishers = {
            topic.name: node.create_publisher(
                message_class(topic.message_type), topic.name, _profile(True, latched(topic))
            )
            for topic in self._others
        }
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._clock: Any = None
        self._anchor: tuple[float, int] | None = None  # steady seconds, recorded ns
        if arguments.clock:
            self._start_clock(float(arguments.clock))

    def done(self) -> bool:
        """Whether as many clouds are out as were asked for, or ROS was shut down."""
        return not self._node.context.ok() or 0 < self._left <= self.published

    def wait_for_subscriber(self) -> bool:
        """Spin until somebody subscribes; False when nobody did in time."""
        started = time.monotonic()
        while not self._publisher.get_subscription_count():
            if self.done() or 0 < self._wait < time.monotonic() - started:
                return False
            self._executor.spin_once(timeout_sec=0.02)
        return True

    def play(self) -> None:
        """Play the bag once, or again and again until `done`.

        Raises:
            DamagedBag: the file cannot be read any further.
        """
        while not self.done():
            before = self.published
            self._anchor = None
            for message in self._bag.messages([self.clouds, *self._others]):
                self._wait_until_due(message)
                if self.done():
                    return
                self._publish(message)
            if not self._loop or self.published == before:
                return

    def finish(self) -> None:
        """Wait until subscribers have acknowledged what was published."""
        from rclpy.duration import Duration

        if self.published and self._node.context.ok():
            self._publisher.wait_for_all_acked(Duration(seconds=2.0))
        self._executor.shutdown(timeout_sec=1.0)

    def _wait_until_due(self, message: BagMessage) -> None:
        if self._anchor is None:
            self._anchor = (time.monotonic(), message.time_ns)
            self._tick()
        started, first = self._anchor
        due = started + (message.time_ns - first) * 1e-9 / self._rate
        while not self.done() and (left := due - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, _PATIENCE))

    def _publish(self, message: BagMessage) -> None:
        if message.key != self.clouds.key:
            self._other_publishers[message.topic].publish(message.data)
            return
        from rclpy.serialization import deserialize_message

        try:
            cloud = deserialize_message(message.data, self._cloud_type)
        except Exception as error:  # of the middleware, as many kinds as there are middlewares
            self.bad += 1
            reason = " ".join(str(error).split())[:160]
            print(f"{message.topic} {message.number} is damaged: {reason}", file=sys.stderr)
            return
        if self._frame:
            cloud.header.frame_id = self._frame
        if self._now_stamps:
            cloud.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(cloud)
        self.published += 1

    def _start_clock(self, hertz: float) -> None:
        from rclpy.clock import Clock, ClockType
        from rosgraph_msgs.msg import Clock as ClockMessage

        self._clock_type = ClockMessage
        self._clock = self._node.create_publisher(ClockMessage, "/clock", _profile(True))
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._node.create_timer(1.0 / hertz, self._tick, clock=steady)

    def _tick(self) -> None:
        if self._clock is None or self._anchor is None:
            return
        started, first = self._anchor
        now = first + int((time.monotonic() - started) * 1e9 * self._rate)
        message = self._clock_type()
        message.clock.sec, message.clock.nanosec = divmod(now, 10**9)
        self._clock.publish(message)


def choose_clouds(bag: Bag, name: str | None) -> Topic:
    """The topic of clouds to play.

    Raises:
        SasError: it is not there, or the bag has several and none was named.
    """
    topics = bag.cloud_topics([name] if name else [])
    if len(topics) > 1:
        raise SasError(
            f"The bag has clouds on {', '.join(t.name for t in topics)}; choose with --bag-topic."
        )
    return topics[0]


def choose_others(bag: Bag, names: Sequence[str]) -> tuple[Topic, ...]:
    """Other topics by name; raises SasError for one that is not there."""
    there = {topic.name: topic for topic in bag.topics}
    for name in names:
        if name not in there:
            raise SasError(f"The bag has no topic {name}; it has {', '.join(sorted(there))}.")
    return tuple(there[name] for name in dict.fromkeys(names))


def message_class(message_type: str) -> Any:
    """The installed class of a message type such as tf2_msgs/msg/TFMessage.

    Raises:
        SasError: it is no message type, or not installed. The name comes from a file: nothing is
            imported that is not written like one.
    """
    match = _TYPE.fullmatch(message_type)
    if match:
        try:
            found = getattr(import_module(f"{match[1]}.msg"), match[2], None)
        except ImportError:
            found = None
        if hasattr(found, "get_fields_and_field_types"):
            return found
    raise SasError(
        f"The message type {message_type!r} is not installed, so its topic cannot be played; "
        "install its package, or leave the topic out of --also."
    )


def latched(topic: Topic) -> bool:
    """Whether a topic was recorded from a publisher that keeps its last message for newcomers."""
    return any(getattr(qos.durability, "name", "") == "TRANSIENT_LOCAL" for qos in topic.qos)


def _profile(reliable: bool, keeps: bool = False) -> Any:
    from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=10 if keeps else 2,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if keeps else DurabilityPolicy.VOLATILE,
    )


def run_bag_replay(arguments: argparse.Namespace, ros_arguments: Sequence[str] = ()) -> int:
    """Play until interrupted or done; returns the exit code.

    1: nobody subscribed in time, the bag is damaged, or not one cloud could be played.
    """
    from sas_ros.nodes.replay import prepare_transport

    prepare_transport(arguments)
    with Bag(arguments.scan) as bag:
        choose_clouds(bag, arguments.bag_topic)  # complaints come before ROS is started
        for topic in choose_others(bag, arguments.also):
            message_class(topic.message_type)
        import rclpy
        from rclpy.executors import ExternalShutdownException
        from rclpy.node import Node

        rclpy.init(args=list(ros_arguments))
        node, player, heard = None, None, False
        try:
            node = Node("replay", namespace=arguments.namespace)
            player = BagPlayer(node, bag, arguments)
            topic = node.resolve_topic_name(arguments.topic)
            print(f"Playing {player.clouds.name} of {bag.path.name} on {topic}.", flush=True)
            heard = player.wait_for_subscriber()
            if heard:
                player.play()
            player.finish()
        except (KeyboardInterrupt, ExternalShutdownException):
            return 0
        except DamagedBag as error:
            print(str(error), file=sys.stderr)
            return 1
        finally:
            if node is not None:
                node.destroy_node()
            rclpy.try_shutdown()
    if not heard:
        print(f"Nobody subscribed within {arguments.wait:g} s.", file=sys.stderr)
        return 1
    if player.bad:
        print(f"{player.bad} messages were damaged and not played.", file=sys.stderr)
    return 0 if player.published else 1
