"""Up from TF: the z axis of the inference frame, seen from the cloud's frame at its stamp."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sas_ros.errors import SasError
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.tf_frames import TfFrames
from sas_ros.observation import Float64Array, SourceHeader


class TfUp:
    """Asks TF from the worker thread; the executor goes on receiving transforms.

    Raises:
        SasError: tf2_ros is not installed.
    """

    def __init__(self, frames: TfFrames, inference_frame: str) -> None:
        try:
            frames.listen()
        except SasError as error:
            raise SasError(
                f"inference_frame is {inference_frame!r}, but tf2_ros is not installed, so up is "
                "worked out without it; install tf2_ros or set the parameter up."
            ) from error
        self._frames, self._frame = frames, inference_frame

    def __call__(self, header: SourceHeader, timeout: float) -> Float64Array | None:
        """(3,) unit vector in the cloud's frame, or None when TF does not know within `timeout` s.

        The transform is asked for at the cloud's stamp.
        """
        pose = self._frames.lookup(header.frame_id, self._frame, header.stamp_ns, timeout)
        return None if pose is None else np.asarray(pose[:3, 2])


def listen_to_tf(
    frames: TfFrames, settings: PerceptionParameters, warn: Callable[[str], object]
) -> TfUp | None:
    """Begin where parameters need TF; what cannot be had without tf2_ros goes to `warn`."""
    if settings.map == "build":
        try:
            frames.listen()
        except SasError as error:
            warn(f"{error} Only clouds in {settings.map_frame!r} itself get on the map.")
    if settings.inference_frame:
        try:
            return TfUp(frames, settings.inference_frame)
        except SasError as error:
            warn(str(error))
    return None
