"""The subscription to `points`, whose reliability follows its publishers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from itertools import count
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from sas_ros.nodes.diagnostics import InputState
from sas_ros.nodes.middleware_watch import is_awake
from sas_ros.nodes.shared_memory import lost_ports

POINTS = "points"
RELIABLE, BEST_EFFORT = "reliable", "best_effort"
LOOK_SECONDS = 2.0
"""Without a cloud, though somebody publishes: why is looked for from then on."""

FIRST_PATIENCE = 30.0
"""Seconds without a cloud, though somebody offers them, until a second subscription tries. A
middleware that is locked up is noticed before (`middleware_watch`)."""

LONGEST_PATIENCE = 300.0
"""The patience doubles with every attempt that did not help, up to this."""

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
    """Subscribes while active, anew when publishers change, and twice when they are not heard.

    A subscription may stay deaf to a publisher that comes after it, while a later subscription
    hears it (seen with Fast DDS 3.2, cause unknown). From here that looks like a publisher that
    sends nothing. So the old subscription stays beside the new one, and nothing is lost or comes
    twice: the one that a cloud reaches first is kept. A cloud of any publisher counts as heard.

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
        self._subscriptions: dict[int, Any] = {}  # by number, the older first; two on trial
        self._outdone: dict[int, Any] = {}  # to be destroyed
        self._numbers = count()
        self._reliability = RELIABLE
        self._incompatible = 0
        self._lost = 0
        self._last = 0.0
        self._second_tries = 0
        self._offered_since: float | None = None
        self._patience = FIRST_PATIENCE
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
        self._outdone |= self._subscriptions
        self._subscriptions = {}
        self._destroy_outdone()
        self._offered_since, self._patience = None, FIRST_PATIENCE

    def follow_publishers(self) -> None:
        """Subscribe anew when the publishers ask for another reliability, or are not heard.

        While nobody publishes it stays as it is: a driver that is started again asks for the same.
        """
        self._destroy_outdone()
        if not self._subscriptions:
            return
        publishers, _ = self._publishers()
        if not publishers and self._preference() == "auto":
            self._offered_since, self._patience = None, FIRST_PATIENCE
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
        elif self._is_unheard(publishers) and is_awake():
            # In a middleware that is locked up a call would hang, with the interpreter's lock.
            self._try_another()

    def _is_unheard(self, publishers: Collection[str]) -> bool:
        """Has nothing come for as long as the patience lasts, though some publisher matches?"""
        now = time.monotonic()
        if not any(offer == RELIABLE or self._reliability != RELIABLE for offer in publishers):
            self._offered_since, self._patience = None, FIRST_PATIENCE
        elif self._offered_since is None:
            self._offered_since = now
        return self._offered_since is not None and now - self._offered_since > self._patience

    def _try_another(self) -> None:
        if self._patience == FIRST_PATIENCE:
            self._node.get_logger().info(
                f"No cloud on {self.topic} for {self._patience:.0f} s although somebody offers "
                "them: trying a second subscription."
            )
        self._second_tries += 1
        self._offered_since = time.monotonic()
        self._patience = min(2 * self._patience, LONGEST_PATIENCE)
        for number in list(self._subscriptions)[1:]:
            self._outdone[number] = self._subscriptions.pop(number)
        self._destroy_outdone()
        self._subscribe()

    def _destroy_outdone(self) -> None:
        for subscription in self._outdone.values():
            self._node.destroy_subscription(subscription)
        self._outdone = {}

    def state(self) -> InputState:
        """What diagnostics need to know."""
        publishers, others = self._publishers()
        silent = time.monotonic() - self._last if self._subscriptions else None
        unheard = bool(publishers) and silent is not None and silent > LOOK_SECONDS
        return InputState(
            topic=self.topic,
            reliability=self._reliability,
            publishers=Counter(publishers),
            wrong_types=tuple(sorted(others)),
            incompatible=self._incompatible,
            lost=self._lost,
            silent_for=silent,
            second_tries=self._second_tries,
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
        number = next(self._numbers)
        self._subscriptions[number] = self._node.create_subscription(
            PointCloud2,
            POINTS,
            partial(self._receive, number),
            profile,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible, message_lost=self._on_lost
            ),
        )

    def _receive(self, number: int, message: PointCloud2) -> None:
        if self._subscriptions and number not in self._subscriptions:
            return  # the other one had this cloud
        self._last = time.monotonic()
        self._offered_since = None
        if len(self._subscriptions) > 1:
            if number == max(self._subscriptions):
                self._patience = FIRST_PATIENCE  # else the publisher is slow, not unheard
            kept = self._subscriptions.pop(number)
            self._outdone |= self._subscriptions
            self._subscriptions = {number: kept}
            self._recheck.trigger()
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
