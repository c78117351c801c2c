"""A perception node in a thread of the test's own process: starts in a second, and a test may put
other parts into it."""

from __future__ import annotations

import threading
from typing import Any

from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter

from sas_ros.nodes.perception_node import PerceptionNode


class Running:
    """The node, configured and active unless `autostart` is False; parameters as keywords."""

    def __init__(self, domain: int, namespace: str, **parameters: Any) -> None:
        self._context = Context()
        self._context.init(domain_id=domain)
        values = {"backend": "native", "text_encoder": "none", "up": "0,0,1", **parameters}
        self.node = PerceptionNode(
            namespace=namespace,
            context=self._context,
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        if self.node.autostart:
            assert self.node.start()
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def set(self, **values: Any) -> None:
        """Set parameters."""
        for result in self.node.set_parameters([Parameter(n, value=v) for n, v in values.items()]):
            assert result.successful, result.reason

    def stop(self) -> None:
        """End the thread, then the node."""
        self._executor.shutdown(timeout_sec=5.0)
        self._context.try_shutdown()
        self._thread.join(10.0)
        self.node.close()
        self.node.destroy_node()
