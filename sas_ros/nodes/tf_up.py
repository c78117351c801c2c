"""Up from TF: the z axis of the inference frame, seen from the cloud's frame at its stamp."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.time import Time

from sas_ros.boxes import rotation_matrix
from sas_ros.errors import SasError
from sas_ros.observation import Float64Array, SourceHeader

_POLL_SECONDS = 0.01


class TfUp:
    """Asks a TF buffer from the worker thread; the executor goes on receiving transforms.

    tf2_ros is imported here, because robots without it can do everything else.

    Raises:
        SasError: tf2_ros is not installed.
    """

    def __init__(self, node: Node, inference_frame: str) -> None:
        try:
            import tf2_ros
        except ImportError as error:
            raise SasError(
                f"inference_frame is {inference_frame!r}, but tf2_ros is not installed, so up is "
                "worked out without it; install tf2_ros or set the parameter up."
            ) from error
        self._frame = inference_frame
        self._buffer: Any = tf2_ros.Buffer(node=node)
        self._listener: Any = tf2_ros.TransformListener(self._buffer, node)

    def __call__(self, header: SourceHeader, timeout: float) -> Float64Array | None:
        """(3,) unit vector in the cloud's frame, or None when TF does not know within `timeout` s.

        The transform is asked for at the cloud's stamp, never "the latest": on a moving head that
        would tilt the room.
        """
        stamp = Time(nanoseconds=header.stamp_ns)
        end = time.monotonic() + timeout
        # A zero time-out does not block; waiting inside tf2 would sleep through the arrival.
        while not self._buffer.can_transform(header.frame_id, self._frame, stamp):
            if time.monotonic() >= end:
                return None
            time.sleep(_POLL_SECONDS)
        turn = self._buffer.lookup_transform(header.frame_id, self._frame, stamp).transform.rotation
        return np.asarray(rotation_matrix((turn.x, turn.y, turn.z, turn.w))[:, 2])

    def clear(self) -> None:
        """Forget transforms after a backward jump of the clock."""
        self._buffer.clear()

    def destroy(self) -> None:
        """Stop listening."""
        self._listener.unregister()
