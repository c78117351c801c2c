"""A lifecycle node whose transitions say why they failed and leave nothing half done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from sas_ros.errors import SasError
from sas_ros.nodes.log import describe


class ManagedNode(LifecycleNode):  # type: ignore[misc]
    """Turns four plain methods into transitions.

    rclpy swallows exceptions of transition callbacks; here they are logged (a `SasError` as its
    sentence, anything else with a traceback) and undone: a failed `configure` or `activate` leaves
    the node where it was.
    """

    def setup(self) -> None:
        """Load everything and create publishers."""
        raise NotImplementedError

    def begin(self) -> None:
        """Subscribe and start working."""
        raise NotImplementedError

    def pause(self) -> None:
        """Undo `begin`, however far it came."""
        raise NotImplementedError

    def tear_down(self) -> None:
        """Undo `setup` and `begin`, however far they came."""
        raise NotImplementedError

    @property
    def state_label(self) -> str:
        """Lifecycle state in words: unconfigured, inactive, active, finalized."""
        return str(self._state_machine.current_state[1])

    def start(self) -> bool:
        """Configure and activate; False when one of them failed (the log says why)."""
        success = TransitionCallbackReturn.SUCCESS
        return bool(self.trigger_configure() == success and self.trigger_activate() == success)

    def on_configure(self, state: LifecycleState) -> Any:
        return self._transition("configure", self.setup, undo=self.tear_down)

    def on_activate(self, state: LifecycleState) -> Any:
        return self._transition("activate", self.begin, undo=self.pause)

    def on_deactivate(self, state: LifecycleState) -> Any:
        return self._transition("deactivate", self.pause)

    def on_cleanup(self, state: LifecycleState) -> Any:
        return self._transition("cleanup", self.tear_down)

    def on_shutdown(self, state: LifecycleState) -> Any:
        return self._transition("shutdown", self.tear_down)

    def on_error(self, state: LifecycleState) -> Any:
        return self._transition("error processing", self.tear_down)

    def _transition(
        self, name: str, action: Callable[[], None], undo: Callable[[], None] | None = None
    ) -> Any:
        try:
            action()
            return TransitionCallbackReturn.SUCCESS
        except SasError as error:
            self.get_logger().error(f"The transition {name} failed: {error}")
        except Exception as error:
            self.get_logger().error(f"The transition {name} failed: {describe(error)}")
        if undo is None:
            return TransitionCallbackReturn.ERROR
        try:
            undo()
        except Exception as error:
            self.get_logger().error(f"Undoing {name} failed: {describe(error)}")
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.FAILURE
