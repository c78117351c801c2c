"""TF as rigid motions: one listener for everything the node asks, begun where it is needed."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.time import Time

from sas_ros.boxes import rotation_matrix
from sas_ros.errors import SasError
from sas_ros.observation import Float64Array

_POLL_SECONDS = 0.01


class TfFrames:
    """Transforms between named frames; safe for several threads.

    tf2_ros is imported when the first transform is wanted, because robots without it can do
    everything else; nothing is subscribed to before.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._buffer: Any = None
        self._listener: Any = None
        self._lock = threading.Lock()  # the two above
        self._closed = False
        self._trouble: type[BaseException] = Exception

    def listen(self) -> bool:
        """Begin to listen; True when this call began it.

        Raises:
            SasError: tf2_ros is not installed.
        """
        with self._lock:
            self._closed = False
            if self._buffer is not None:
                return False
            try:
                import tf2_ros
            except ImportError as error:
                raise SasError("tf2_ros is not installed, so TF cannot be asked.") from error
            self._trouble = tf2_ros.TransformException
            buffer = tf2_ros.Buffer(node=self._node)
            # The node's clock would keep the buffer for ever by this; `clear` does its work.
            jump = getattr(buffer, "jump_handle", None)
            if jump is not None:
                jump.unregister()
            self._listener = tf2_ros.TransformListener(buffer, self._node)
            self._buffer = buffer
            return True

    def lookup(
        self, target: str, source: str, stamp_ns: int, timeout: float = 0.0
    ) -> Float64Array | None:
        """(4, 4) float64, from `source` to `target` at a stamp; None when TF does not know, or
        after `destroy` until somebody calls `listen`.

        The transform of a cloud is asked for at its stamp, never "the latest" (0): on a moving
        head that would tilt the room. Waits at most `timeout` seconds; the executor must go on
        meanwhile.

        Raises:
            SasError: tf2_ros is not installed.
        """
        if target == source:
            return np.eye(4)
        if self._closed:  # this thread has outlived the configured state
            return None
        self.listen()
        buffer = self._buffer
        stamp = Time(nanoseconds=stamp_ns)
        end = time.monotonic() + timeout
        # A zero time-out does not block; waiting inside tf2 would sleep through the arrival.
        while buffer is not None and not buffer.can_transform(target, source, stamp):
            if time.monotonic() >= end:
                return None
            time.sleep(_POLL_SECONDS)
            buffer = self._buffer  # None when `destroy` was called meanwhile
        if buffer is None:
            return None
        try:
            found = buffer.lookup_transform(target, source, stamp).transform
        except self._trouble:  # cleared meanwhile
            return None
        turn, shift = found.rotation, found.translation
        pose = np.eye(4)
        pose[:3, :3] = rotation_matrix((turn.x, turn.y, turn.z, turn.w))
        pose[:3, 3] = shift.x, shift.y, shift.z
        return pose

    def between(self, target: str, source: str, stamp_ns: int) -> Float64Array:
        """`lookup` at once, for an answer.

        Raises:
            SasError: tf2_ros is not installed, or TF does not know; says what to do.
        """
        try:
            begun = target != source and self.listen()
            pose = self.lookup(target, source, stamp_ns)
        except SasError as error:
            raise SasError(
                f"{source!r} cannot be transformed to {target!r}: {error} Ask in the frame "
                f"{source!r} and transform the answer yourself."
            ) from error
        if pose is None and begun:
            raise SasError("The node has only now begun to listen to TF; ask again in a second.")
        if pose is None:
            when = "at the stamp that was asked about" if stamp_ns else "at any time"
            raise SasError(
                f"TF has no transform from {source!r} to {target!r} {when}; see "
                f"`ros2 run tf2_ros tf2_echo {target} {source}`."
            )
        return pose

    def clear(self) -> None:
        """Forget transforms after a backward jump of the clock."""
        buffer = self._buffer
        if buffer is not None:
            buffer.clear()

    def destroy(self) -> None:
        """Stop listening; threads that are still waiting in `lookup` get None."""
        with self._lock:
            self._closed = True
            if self._listener is not None:
                self._listener.unregister()
            # The buffer put this on the node and never takes it off; not every version has it.
            service = getattr(self._buffer, "srv", None)
            if service is not None:
                self._node.destroy_service(service)
            self._buffer = self._listener = None
