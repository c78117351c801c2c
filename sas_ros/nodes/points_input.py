"""The subscription to `points`, whose reliability follows its publishers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from sas_ros.nodes.diagnostics import InputState
from sas_ros.nodes.shared_memory import lost_ports

POINTS = "points"
RELIABLE, BEST_EFFORT = "reliable", "best_effort"
LOOK_SECONDS = 2.0
"""Without a cloud, though somebody publishes: why is looked for from then on."""

_TYPE = "sensor_msgs/msg/PointCloud2"


def choose_reliability(preference: str, offered: Collection[str]) -> str:
    """The reliability to subscribe with.

    Args:
        preference: the parameter points_reliability.
        offered: reliability of every publisher there is.

    A best-effort subscription matches everybody but loses large clouds of a publisher with default
    transports, so `auto` is reliable unless somebody would not match; also while nobody publishes:
    the first cloud of a reliable publisher then arrives, and a best-effort one makes itself known.
    """
    if preference != "auto":
        return preference
    return RELIABLE if all(value == RELIABLE for value in offered) else BEST_EFFORT


class PointsInput:
    """Subscribes while active and creates the subscription anew when publishers change.

    Args:
        node: owner of the subscription.
        arrived: called with every message.
        preference: gives the parameter points_reliability.
        changed: called when publishers may want another reliability; calls `follow_publishers`.
    """

    def __init__(
        self,
        node: Node,
        arrived: Callable[[PointCloud2], None],
        preference: Callable[[], str],
        changed: Callable[[], None],
    ) -> None:
        self._node = node
        self._arrived = arrived
        self._preference = preference
        self._subscription: Any = None
        self._reliability = RELIABLE
        self._incompatible = 0
        self._lost = 0
        self._last = 0.0
        self._lost_at_last_look: set[str] = set()
        # Subscriptions must not be replaced inside their own event callback.
        self._recheck = node.create_guard_condition(changed)
        self.topic = node.resolve_topic_name(POINTS)

    def start(self) -> None:
        """Subscribe."""
        self._last = time.monotonic()
        publishers, _ = self._publishers()
        self._reliability = choose_reliability(self._preference(), publishers)
        self._subscribe()

    def stop(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def follow_publishers(self) -> None:
        """Subscribe anew when the publishers ask for another reliability.

        While nobody publishes it stays as it is: a driver that is started again asks for the same.
        """
        if self._subscription is None:
            return
        publishers, _ = self._publishers()
        if not publishers and self._preference() == "auto":
            return
        reliability = choose_reliability(self._preference(), publishers)
        if reliability != self._reliability:
            self._node.get_logger().info(
                f"Subscribing to {self.topic} {reliability.replace('_', ' ')} now, as its "
                "publishers ask for."
            )
            self._reliability = reliability
            self.stop()
            self._subscribe()

    def state(self) -> InputState:
        """What diagnostics need to know."""
        publishers, others = self._publishers()
        silent = time.monotonic() - self._last if self._subscription is not None else None
        unheard = bool(publishers) and silent is not None and silent > LOOK_SECONDS
        return InputState(
            topic=self.topic,
            reliability=self._reliability,
            publishers=Counter(publishers),
            wrong_types=tuple(sorted(others)),
            incompatible=self._incompatible,
            lost=self._lost,
            silent_for=silent,
            lost_ports=self._lost_ports() if unheard else (),
        )

    def _lost_ports(self) -> tuple[str, ...]:
        """Those that two looks in a row have found: one may be about to be opened."""
        before, self._lost_at_last_look = self._lost_at_last_look, set(lost_ports())
        return tuple(sorted(before & self._lost_at_last_look))

    def _subscribe(self) -> None:
        policy = (
            ReliabilityPolicy.RELIABLE
            if self._reliability == RELIABLE
            else ReliabilityPolicy.BEST_EFFORT
        )
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=1,
            reliability=policy,
            durability=DurabilityPolicy.VOLATILE,
        )
        self._subscription = self._node.create_subscription(
            PointCloud2,
            POINTS,
            self._receive,
            profile,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible, message_lost=self._on_lost
            ),
        )

    def _receive(self, message: PointCloud2) -> None:
        self._last = time.monotonic()
        self._arrived(message)

    def _on_incompatible(self, event: Any) -> None:
        self._incompatible += int(event.total_count_change)
        self._recheck.trigger()

    def _on_lost(self, event: Any) -> None:
        self._lost += int(event.total_count_change)

    def _publishers(self) -> tuple[list[str], set[str]]:
        """Reliability of every publisher of clouds, and the other types under this name."""
        offered, others = [], set()
        for info in self._node.get_publishers_info_by_topic(self.topic):
            if info.topic_type != _TYPE:
                others.add(str(info.topic_type))
            elif info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT:
                offered.append(BEST_EFFORT)
            else:
                offered.append(RELIABLE)
        return offered, others
