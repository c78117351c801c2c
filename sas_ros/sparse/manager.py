"""What the layers ask of a backend: one small protocol, so that the same network runs on each."""

from __future__ import annotations

from typing import Protocol

import torch

from sas_ros.sparse.epilogue import Epilogue


class Manager(Protocol):
    """The coordinate sets of one input at strides 1, 2, 4, … and convolution between them.

    Rows at stride 1 keep the caller's order; coarser rows have the backend's own order, which
    `coordinates` tells.
    """

    def coordinates(self, stride: int) -> torch.Tensor:
        """(M, 4) int64 coordinates of a stride in finest-level units; made by `downsample`."""

    def has_stride(self, stride: int) -> bool: ...

    def downsample(self, stride: int, factor: int) -> None:
        """Make the coordinate set of `stride * factor`: unique floor(c / new) * new."""

    def convolve(
        self,
        features: torch.Tensor,
        kernel: torch.Tensor,
        in_stride: int,
        out_stride: int,
        kernel_size: int,
        epilogue: Epilogue | None = None,
    ) -> torch.Tensor:
        """Features (num_inputs, in) of `in_stride` to (num_outputs, out) of `out_stride`, by a
        kernel (volume, in, out), with gradients for both; transposed where `out_stride` is
        smaller. With an epilogue, in inference only, it is applied to the result."""
