"""What a sparse student is fed, and where it runs: the same in training and on the robot."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError

INPUTS = ("one", "height")
"""Input channels a sparse U-Net may name: all ones, and metres above the floor."""

FLOOR_PERCENTILE = 1.5
"""The floor is this percentile of the heights: a few points below it are noise or drift."""

HEIGHT_RANGE = (-1.0, 4.0)
"""Heights above the floor are clipped to these metres before they enter the network."""


def input_features(
    names: tuple[str, ...], heights: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """(M, len(names)) float32 input channels of voxels whose centres lie `heights` (M,) metres
    above the floor. "one" is constant, "height" is metres, clipped."""
    channels = {
        "one": np.ones(len(heights), dtype=np.float32),
        "height": np.clip(heights, *HEIGHT_RANGE).astype(np.float32),
    }
    return np.stack([channels[name] for name in names], axis=1)


def choose_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one; raises SasError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda"):
        raise SasError(f"The device {device!r} is unknown; use auto, cuda or cpu.")
    if device == "cuda" and not torch.cuda.is_available():
        raise SasError("The device cuda was asked for, but PyTorch sees no GPU; use auto or cpu.")
    return torch.device(device)
