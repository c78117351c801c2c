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
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from sas_ros.nodes.log import Log
from sas_ros.nodes.outputs import of_services

UNDELIVERED = "failed to send response"
"""How the warning begins that rclpy's `service_send_response` gives after a time-out."""

PAUSES = (0.3, 1.0, 3.0)
"""Seconds before each further attempt; an attempt holds up the executor for 0.1 s at most."""

MOST_WAITING = 16
"""Answers of a service that wait to be sent again; each keeps its clouds and indices meanwhile."""


def create_answering_service(
    node: Node, kind: Any, name: str, callback: Callable[[Any, Any], Any], log: Log
) -> Any:
    """A service of `node` that does not give up an answer at the first attempt.

    Reentrant: a question that has to wait must not hold up the next one.
    """
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


def answer_patiently(node: Node, log: Log) -> None:
    """Make all services that a node has by now send like those of `create_answering_service`: its
    lifecycle's and its parameters' too, whose clients wait for ever as well."""
    for service in node.services:
        if not isinstance(service.send_response, PatientSender):
            name = service.srv_name
            service.send_response = PatientSender(node, service.send_response, name, log)


class PatientSender:
    """Stands in for a service's `send_response`."""

    def __init__(self, node: Node, send: Callable[[Any, Any], None], name: str, log: Log) -> None:
        self._node, self._send, self._name, self._log = node, send, name, log
        self._waiting = 0

    def __call__(self, response: Any, header: Any) -> None:
        """Send an answer, and again after `PAUSES` while it is not delivered."""
        self._attempt(partial(self._send, response, header), 0)

    def _attempt(self, send: Callable[[], None], made: int) -> None:
        try:
            if delivered(send):
                return
            reason = ""
        except rclpy_implementation.RCLError as error:  # a time-out too, before Humble's 3.3.10
            if not self._node.context.ok():
                return  # nobody is answered any more
            reason = f" ({error})"
        if made == len(PAUSES) or self._waiting >= MOST_WAITING:
            self._log.warn(
                f"undelivered {self._name}",
                f"An answer of {self._name} was given up after {made + 1} attempts: its client has "
                f"gone, or its process is not connected with this one yet{reason}.",
            )
            return
        self._waiting += 1

        def again() -> None:
            self._waiting -= 1
            self._node.destroy_timer(timer)
            self._attempt(send, made + 1)

        steady = Clock(clock_type=ClockType.STEADY_TIME)
        timer = self._node.create_timer(PAUSES[made], again, clock=steady)


class _Watch(threading.local):
    """Of each thread: whether it is sending, and whether that was warned of."""

    sending = False
    warned = False


_watch = _Watch()
_show_others: Callable[..., None] = warnings.showwarning


def delivered(send: Callable[[], None]) -> bool:
    """Whether `send` ran without the warning `UNDELIVERED`; other warnings are shown as ever."""
    _listen()
    _watch.sending, _watch.warned = True, False
    try:
        send()
    finally:
        _watch.sending = False
    return not _watch.warned


def _listen() -> None:
    """Every time: whoever leaves `warnings.catch_warnings` puts back what was there before."""
    global _show_others
    if warnings.showwarning is not _show:
        _show_others = warnings.showwarning
        warnings.showwarning = _show
    first = warnings.filters[0] if warnings.filters else None
    if first is None or first[0] != "always" or first[2] is not RuntimeWarning:
        # Without it the warning would be given once for each line of code, or never.
        warnings.filterwarnings("always", message=UNDELIVERED, category=RuntimeWarning)


def _show(message: Warning | str, *rest: Any, **options: Any) -> None:
    if _watch.sending and str(message).startswith(UNDELIVERED):
        _watch.warned = True
    else:
        _show_others(message, *rest, **options)
