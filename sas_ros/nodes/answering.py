"""Services whose answers reach clients that the middleware has not connected yet.

A question may arrive before the node's writer of answers knows its client: on a busy machine the
two are discovered seconds apart. The middleware then waits for 0.1 s, gives up, and rclpy makes a
Python warning of it that nobody reads. Here such an answer is sent again, a few times.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from sas_ros.nodes.log import Log
from sas_ros.nodes.outputs import of_services

UNDELIVERED = "failed to send response"
"""How the warning begins that rclpy's `service_send_response` gives after a time-out."""

PAUSES = (0.3, 1.0, 3.0)
"""Seconds before each further attempt; an attempt holds up the executor for 0.1 s at most."""


def create_answering_service(
    node: Node, kind: Any, name: str, callback: Callable[[Any, Any], Any], log: Log
) -> Any:
    """A service of `node` that does not give up an answer at the first attempt.

    Reentrant: a question that has to wait must not hold up the next one.
    """
    watch_for_undelivered()
    service = node.create_service(
        kind,
        name,
        callback,
        callback_group=ReentrantCallbackGroup(),
        qos_profile=of_services(),
    )
    # rclpy's executor calls `send_response` of the object that it was given.
    service.send_response = PatientSender(node, service.send_response, name, log)
    return service


class PatientSender:
    """Stands in for a service's `send_response`."""

    def __init__(self, node: Node, send: Callable[[Any, Any], None], name: str, log: Log) -> None:
        self._node, self._send, self._name, self._log = node, send, name, log

    def __call__(self, response: Any, header: Any) -> None:
        """Send an answer, and again after `PAUSES` while it is not delivered."""
        self._attempt(partial(self._send, response, header), 0)

    def _attempt(self, send: Callable[[], None], made: int) -> None:
        if delivered(send):
            return
        if made == len(PAUSES):
            self._log.warn(
                f"undelivered {self._name}",
                f"An answer of {self._name} was given up: its client has gone, or its process is "
                f"not connected with this one {sum(PAUSES):g} s after it asked.",
            )
            return

        def again() -> None:
            self._node.destroy_timer(timer)
            self._attempt(send, made + 1)

        steady = Clock(clock_type=ClockType.STEADY_TIME)
        timer = self._node.create_timer(PAUSES[made], again, clock=steady)


class _Watch(threading.local):
    """Of each thread: whether it is sending, and whether that was warned of."""

    sending = False
    warned = False


_watch = _Watch()
_watching = False


def delivered(send: Callable[[], None]) -> bool:
    """Whether `send` ran without the warning `UNDELIVERED`; needs `watch_for_undelivered`."""
    _watch.sending, _watch.warned = True, False
    try:
        send()
    finally:
        _watch.sending = False
    return not _watch.warned


def watch_for_undelivered() -> None:
    """From now on `delivered` sees the warnings of this process; others are shown as before."""
    global _watching
    if _watching:
        return
    _watching = True
    # Without this it would be given once for each line of code.
    warnings.filterwarnings("always", message=UNDELIVERED, category=RuntimeWarning)
    show_others = warnings.showwarning

    def show(message: Warning | str, *rest: Any, **options: Any) -> None:
        if _watch.sending and str(message).startswith(UNDELIVERED):
            _watch.warned = True
        else:
            show_others(message, *rest, **options)

    warnings.showwarning = show
