"""The convolution itself, in plain PyTorch: gather, matrix product, no scatter-add.

Two ways give the same sums. *im2col* gathers all neighbours of a chunk of outputs into one wide
row and multiplies once: few kernel launches, but empty neighbours are multiplied too. *pairs*
multiplies the occupied neighbours of each offset and adds them to their outputs: no wasted
products, but every output row is read and written once per offset. Which one is cheaper depends on
the channel counts and on how full the neighbourhoods are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sas_ros.sparse.kernel_map import KernelMap

# im2col rows are gathered in chunks of about this many values, to stay in cache.
_CHUNK_VALUES = 2**19


def convolve(features: torch.Tensor, kernel: torch.Tensor, kernel_map: KernelMap) -> torch.Tensor:
    """`y[u] = sum_k x[table[u, k]] @ W[k]`, with gradients for features and kernel.

    Args:
        features: (num_inputs, in) float.
        kernel: (volume, in, out) float.
        kernel_map: table of (num_outputs, volume).

    Returns:
        (num_outputs, out) of the features' dtype.
    """
    apply: Any = _Convolution.apply  # untyped in torch
    result: torch.Tensor = apply(features, kernel, kernel_map)
    return result


def _use_im2col(channels_in: int) -> bool:
    # Measured on room surfaces (3^3 neighbourhoods 40-57 % full): im2col wins only while a row is
    # too short to be worth a gather of its own, which is the input layer.
    return channels_in < 16


def _forward(features: torch.Tensor, kernel: torch.Tensor, kernel_map: KernelMap) -> torch.Tensor:
    if _use_im2col(kernel.shape[1]):
        return _im2col(features, kernel, kernel_map)
    pairs, symmetric = kernel_map.pairs(), kernel_map.symmetric
    return _by_pairs(features, kernel, pairs, kernel_map.num_outputs, symmetric)


def _input_gradient(
    gradient: torch.Tensor, kernel: torch.Tensor, kernel_map: KernelMap
) -> torch.Tensor:
    """`dx[i] = sum_k dy[u] @ W[k]^T` over all pairs (i, u) of offset k."""
    flipped = kernel.transpose(1, 2)
    if _use_im2col(flipped.shape[1]):
        return _im2col(gradient, flipped.contiguous(), kernel_map.transposed())
    swapped = [(outputs, inputs) for inputs, outputs in kernel_map.pairs()]
    return _by_pairs(gradient, flipped, swapped, kernel_map.num_inputs, kernel_map.symmetric)


def _by_pairs(
    features: torch.Tensor,
    kernel: torch.Tensor,
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]],
    num_outputs: int,
    symmetric: bool,
) -> torch.Tensor:
    output = features.new_zeros((num_outputs, kernel.shape[2]))
    centre = len(pairs) // 2 if symmetric else -1
    for k, (weight, (inputs, outputs)) in enumerate(zip(kernel, pairs, strict=True)):
        if k == centre:
            output.addmm_(features, weight)  # the centre maps every row onto itself
        elif len(inputs):
            # No output row occurs twice in one offset: read, add, write back, no scatter-add.
            partial = output.index_select(0, outputs)
            partial.addmm_(features.index_select(0, inputs), weight)
            output.index_copy_(0, outputs, partial)
    return output


def _im2col(features: torch.Tensor, kernel: torch.Tensor, kernel_map: KernelMap) -> torch.Tensor:
    volume, channels_in, channels_out = kernel.shape
    padded = torch.cat([features, features.new_zeros((1, channels_in))])
    weight = kernel.reshape(volume * channels_in, channels_out)
    output = features.new_empty((kernel_map.num_outputs, channels_out))
    rows = max(1, _CHUNK_VALUES // (volume * channels_in))
    for start in range(0, kernel_map.num_outputs, rows):
        table = kernel_map.table[start : start + rows]
        columns = padded.index_select(0, table.reshape(-1)).view(len(table), -1)
        torch.mm(columns, weight, out=output[start : start + rows])
    return output


def _kernel_gradient(
    features: torch.Tensor, gradient: torch.Tensor, kernel_map: KernelMap, shape: torch.Size
) -> torch.Tensor:
    volume, channels_in, channels_out = shape
    if _use_im2col(channels_in):
        padded = torch.cat([features, features.new_zeros((1, channels_in))])
        total = gradient.new_zeros((volume * channels_in, channels_out))
        rows = max(1, _CHUNK_VALUES // (volume * channels_in))
        for start in range(0, kernel_map.num_outputs, rows):
            table = kernel_map.table[start : start + rows]
            columns = padded.index_select(0, table.reshape(-1)).view(len(table), -1)
            total.addmm_(columns.t(), gradient[start : start + rows])
        return total.view(shape)
    result = gradient.new_zeros(shape)
    for k, (inputs, outputs) in enumerate(kernel_map.pairs()):
        if len(inputs):
            torch.mm(
                features.index_select(0, inputs).t(),
                gradient.index_select(0, outputs),
                out=result[k],
            )
    return result


class _Convolution(torch.autograd.Function):
    """Own backward: the gradient of the input is a convolution over the transposed map."""

    @staticmethod
    def forward(
        ctx: Any, features: torch.Tensor, kernel: torch.Tensor, kernel_map: KernelMap
    ) -> torch.Tensor:
        ctx.save_for_backward(features, kernel)
        ctx.kernel_map = kernel_map
        return _forward(features, kernel, kernel_map)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        features, kernel = ctx.saved_tensors
        gradient = gradient.contiguous()
        features_gradient = kernel_gradient = None
        if ctx.needs_input_grad[0]:
            features_gradient = _input_gradient(gradient, kernel, ctx.kernel_map)
        if ctx.needs_input_grad[1]:
            kernel_gradient = _kernel_gradient(features, gradient, ctx.kernel_map, kernel.shape)
        return features_gradient, kernel_gradient, None
