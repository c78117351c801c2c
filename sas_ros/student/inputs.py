"""What a sparse student is fed, and where it runs: the same in training and on the robot."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError

COLOUR_INPUTS = ("red", "green", "blue", "coloured")
"""Channels that are zero where a cloud has no colours."""

INPUTS = ("one", "height", *COLOUR_INPUTS)
"""Input channels a sparse U-Net may name: all ones, metres above the floor, the mean colour of the
points of the voxel (-1 to 1 of sRGB), and whether there are colours (1 or 0)."""

FLOOR_PERCENTILE = 1.5
"""The floor is this percentile of the heights: a few points below it are noise or drift."""

HEIGHT_RANGE = (-1.0, 4.0)
"""Heights above the floor are clipped to these metres before they enter the network."""


def input_features(
    names: tuple[str, ...],
    heights: npt.NDArray[np.floating],
    colors: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """(M, len(names)) float32 input channels of voxels whose centres lie `heights` (M,) metres
    above the floor, of mean `colors` (M, 3) in -1..1 where there are any; see `INPUTS`."""
    ones = np.ones(len(heights), dtype=np.float32)
    channels = {"one": ones, "height": np.clip(heights, *HEIGHT_RANGE).astype(np.float32)}
    if colors is None:
        channels.update(dict.fromkeys(COLOUR_INPUTS, np.zeros_like(ones)))
    else:
        channels.update(zip(COLOUR_INPUTS, (*colors.T, ones), strict=True))
    return np.stack([channels[name] for name in names], axis=1)


def mean_colors(
    colors: npt.NDArray[np.generic], element: npt.NDArray[np.integer], elements: int
) -> npt.NDArray[np.float32]:
    """(elements, 3) float32 mean colour, -1..1, of the points of each element.

    Args:
        colors: (N, 3) 0..255, sRGB.
        element: (N,) element of each point; every element has one.
    """
    count = np.bincount(element, minlength=elements)
    sums = [np.bincount(element, column, minlength=elements) for column in colors.T]
    return np.stack([(total / count / 127.5 - 1).astype(np.float32) for total in sums], axis=1)


def choose_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one; raises SasError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda"):
        raise SasError(f"The device {device!r} is unknown; use auto, cuda or cpu.")
    if device == "cuda" and not torch.cuda.is_available():
        raise SasError("The device cuda was asked for, but PyTorch sees no GPU; use auto or cpu.")
    return torch.device(device)
