"""Asking a running node to save or reset its map, from the command line."""

from __future__ import annotations

import time
from collections.abc import Sequence

import rclpy
from rclpy.node import Node
from std_srvs.srv import Trigger

from sas_ros.errors import SasError


def call_map_service(
    name: str, *, namespace: str, timeout: float, ros_arguments: Sequence[str] = ()
) -> str:
    """Call `save_map` or `reset_map` of the node in a namespace; returns its sentence.

    Raises:
        SasError: no service, no answer within `timeout` seconds, or the node says no.
    """
    rclpy.init(args=list(ros_arguments))
    try:
        node = Node("sas_map", namespace=namespace)
        client = node.create_client(Trigger, name)
        deadline = time.monotonic() + timeout
        if not client.wait_for_service(timeout):
            raise SasError(
                f"There is no service {client.service_name} after {timeout:g} s; start the node "
                "with `sas run`, or name its namespace with --namespace."
            )
        future = client.call_async(Trigger.Request())
        left = max(deadline - time.monotonic(), 0.1)
        rclpy.spin_until_future_complete(node, future, timeout_sec=left)
        answer = future.result() if future.done() else None
        if answer is None:
            raise SasError(
                f"{client.service_name} did not answer within {timeout:g} s; a large map may take "
                "longer: ask with a longer --timeout."
            )
        if not answer.success:
            raise SasError(answer.message)
        return str(answer.message)
    finally:
        rclpy.try_shutdown()
