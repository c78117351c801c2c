"""Layers with MinkowskiEngine's parameter names, so that OpenScene and SAS checkpoints load."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from sas_ros.errors import SasError
from sas_ros.sparse.epilogue import Epilogue
from sas_ros.sparse.manager import Manager
from sas_ros.sparse.native import pointwise


@dataclass(frozen=True)
class SparseTensor:
    """(M, C) features on the coordinate set `stride` of a manager."""

    features: torch.Tensor
    manager: Manager
    stride: int = 1

    def replace(self, features: torch.Tensor) -> SparseTensor:
        """The same voxels with other features."""
        return SparseTensor(features, self.manager, self.stride)


def relu(x: SparseTensor) -> SparseTensor:
    return x.replace(torch.relu(x.features))


def cat(*tensors: SparseTensor) -> SparseTensor:
    """Concatenate channels of tensors that live on the same voxels."""
    first = tensors[0]
    if any(t.manager is not first.manager or t.stride != first.stride for t in tensors):
        raise SasError("Only tensors on the same coordinates can be concatenated.")
    return first.replace(torch.cat([t.features for t in tensors], dim=1))


class SparseConvolution(nn.Module):
    """Convolution without bias; stride 1 keeps the voxels, stride 2 makes the next coarser set.

    `kernel` is (volume, in, out), or (in, out) for kernel size 1 at stride 1 (reference 6.3).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        volume = kernel_size**3
        if kernel_size == 1 and stride == 1:
            shape: tuple[int, ...] = (in_channels, out_channels)
            fan = in_channels  # the reference takes the input channels here (reference 6.1)
        else:
            shape = (volume, in_channels, out_channels)
            fan = volume * out_channels
        self.kernel = nn.Parameter(torch.randn(shape) * math.sqrt(2.0 / fan))

    def forward(self, x: SparseTensor, epilogue: Epilogue | None = None) -> SparseTensor:
        if self.kernel.ndim == 2:
            return x.replace(pointwise(x.features, self.kernel, epilogue))
        if self.stride > 1:
            x.manager.downsample(x.stride, self.stride)
        out_stride = x.stride * self.stride
        y = x.manager.convolve(
            x.features, self.kernel, x.stride, out_stride, self.kernel_size, epilogue
        )
        return SparseTensor(y, x.manager, out_stride)


class SparseConvolutionTranspose(nn.Module):
    """Transposed convolution onto the finer coordinate set the encoder left behind."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 2, stride: int = 2
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        volume = kernel_size**3
        bound = 1.0 / math.sqrt(out_channels * volume)
        self.kernel = nn.Parameter(
            torch.empty((volume, in_channels, out_channels)).uniform_(-bound, bound)
        )

    def forward(self, x: SparseTensor, epilogue: Epilogue | None = None) -> SparseTensor:
        out_stride = x.stride // self.stride
        if not x.manager.has_stride(out_stride):
            raise SasError(f"No voxels of stride {out_stride} exist to transpose onto.")
        y = x.manager.convolve(
            x.features, self.kernel, x.stride, out_stride, self.kernel_size, epilogue
        )
        return SparseTensor(y, x.manager, out_stride)


class SparseBatchNorm(nn.Module):
    """Batch norm over voxels; the parameters live under `.bn.` as in MinkowskiEngine."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels, eps=1e-5, momentum=0.1)

    def forward(self, x: SparseTensor) -> SparseTensor:
        if self.training and len(x.features) == 1:
            # Variance of one voxel is undefined; a lone coarse voxel must not stop the training.
            bn = self.bn
            y = nn.functional.batch_norm(
                x.features, bn.running_mean, bn.running_var, bn.weight, bn.bias, False, 0.0, bn.eps
            )
            return x.replace(y)
        return x.replace(self.bn(x.features))


class FoldedNorm(nn.Module):
    """What is left of a batch norm whose scale went into the kernel before it: `bias` (out,)."""

    bias: torch.Tensor

    def __init__(self, bias: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("bias", bias)


Norm = SparseBatchNorm | FoldedNorm
Convolution = SparseConvolution | SparseConvolutionTranspose


def fold(convolution: Convolution, norm: Norm) -> FoldedNorm:
    """Put the scale of a batch norm in evaluation mode into the kernel; returns the rest of it.

    `(y - mean) / sqrt(var + eps) * weight + bias` is `y` of a scaled kernel plus a constant.
    """
    if isinstance(norm, FoldedNorm):
        return norm
    bn = norm.bn
    assert bn.running_var is not None and bn.running_mean is not None
    scale = bn.weight.detach() / torch.sqrt(bn.running_var + bn.eps)
    convolution.kernel = nn.Parameter(convolution.kernel.detach() * scale, requires_grad=False)
    return FoldedNorm(bn.bias.detach() - bn.running_mean * scale)


def unit(
    convolution: Convolution,
    norm: Norm,
    x: SparseTensor,
    residual: SparseTensor | None = None,
    activate: bool = True,
) -> SparseTensor:
    """`relu(norm(convolution(x)) + residual)`, in one go where the norm is folded."""
    if isinstance(norm, FoldedNorm):
        added = None if residual is None else residual.features
        output: SparseTensor = convolution(x, Epilogue(norm.bias, added, activate))
        return output
    y: SparseTensor = norm(convolution(x))
    if residual is not None:
        y = y.replace(y.features + residual.features)
    return relu(y) if activate else y
