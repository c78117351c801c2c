"""The convolution itself, in plain PyTorch: gather, multiply, add.

Each kernel offset multiplies only the rows it connects. Outputs are made in chunks: gather what all
offsets read, one matrix product an offset, add up what belongs to an output. Every output is added
up in the order of the offsets, on one core, so nothing depends on the order in which threads work:
convolutions and their gradients are bit-equal at any number of threads.

An input layer of few channels goes another way, because a row of one number is not worth a gather
of its own: per channel, the neighbourhoods become one wide matrix.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from sas_ros.errors import SasError
from sas_ros.sparse.epilogue import Epilogue
from sas_ros.sparse.kernel_map import Chunk, KernelMap, standard_rows
from sas_ros.sparse.parallel import for_each, spread

# Output rows per chunk: of 1k to 8k, the fastest for 4k to 48k voxels of 24 to 96 channels. What
# more of them gather leaves the cache, fewer need more calls.
_CHUNK_ROWS = 2**12
_GPU_CHUNK_ROWS = 2**15  # bounds the memory
# The gradient of a kernel is summed in so many parts, whatever the number of threads.
_LANES = 8
# Below so many channels the call of oneDNN's operator takes longer than it saves.
_NARROW = 48
_BLOCK_ROWS = 2**11
_FEW_ROWS = 2**12

_FEW_CHANNELS = 4


def convolve(
    features: torch.Tensor,
    kernel: torch.Tensor,
    kernel_map: KernelMap,
    epilogue: Epilogue | None = None,
) -> torch.Tensor:
    """`y[u] = sum_k x[input_k(u)] @ W[k]`, with gradients for features and kernel.

    Args:
        features: (num_inputs, in) float.
        kernel: (volume, in, out) float.
        kernel_map: which rows each offset connects.
        epilogue: what follows at once; in inference only.

    Returns:
        (num_outputs, out) of the features' dtype; half precision is summed in float32.
    """
    _refuse_gradients(epilogue, features, kernel)
    if epilogue is None and torch.is_grad_enabled():
        apply: Any = _Convolution.apply  # untyped in torch
        result: torch.Tensor = apply(features, kernel, kernel_map)
        return result
    return _forward(features, kernel, kernel_map, epilogue or Epilogue())


def pointwise(
    features: torch.Tensor, kernel: torch.Tensor, epilogue: Epilogue | None = None
) -> torch.Tensor:
    """A convolution of kernel size 1: (num, in) @ (in, out), with gradients, as `convolve`."""
    _refuse_gradients(epilogue, features, kernel)
    if epilogue is None and torch.is_grad_enabled():
        apply: Any = _Pointwise.apply
        result: torch.Tensor = apply(features, kernel)
        return result
    epilogue = epilogue or Epilogue()
    return replace(epilogue, bias=None).finish(_by_blocks(features, kernel, epilogue.bias))


def _refuse_gradients(epilogue: Epilogue | None, *tensors: torch.Tensor) -> None:
    """An epilogue has no gradients: better no result than one that silently lacks them."""
    if epilogue is None or not torch.is_grad_enabled():
        return
    everything = (*tensors, epilogue.bias, epilogue.residual)
    if any(tensor is not None and tensor.requires_grad for tensor in everything):
        raise SasError("A folded network is for inference; gradients need the unfolded one.")


def multiply(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """(n, in) @ (in, out) + (out,), with the faster matrix product of this PyTorch.

    Fast for a number of rows that `standard_rows` knows, or one that comes again and again.
    """
    if _by_onednn(rows, weight):
        linear: Any = torch.ops.mkldnn._linear_pointwise
        result: torch.Tensor = linear(rows, weight.t(), bias, "none", [], "")
        return result
    return torch.mm(rows, weight) if bias is None else torch.addmm(bias, rows, weight)


def _by_onednn(rows: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether products of these (n, in), (.., in, out) are made by oneDNN."""
    narrow = rows.dtype == torch.float32 and max(weight.shape[-2:]) < _NARROW
    return rows.device.type == "cpu" and not narrow and has_onednn(rows.dtype)


@cache
def has_onednn(dtype: torch.dtype) -> bool:
    """Whether PyTorch's operator on oneDNN (what its own compiler emits for linear layers) is here.

    On AMD processors with AVX-512 `torch.mm` in float32 runs MKL without these kernels: oneDNN is
    2.3 times as fast there (`sas bench student` prints both floors). On one with AVX2 only MKL is
    the faster one. Others were not tried.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.float32 and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return False
    rows, weight = torch.arange(6.0).view(2, 3).to(dtype), torch.arange(12.0).view(3, 4).to(dtype)
    try:
        product = torch.ops.mkldnn._linear_pointwise(rows, weight.t(), None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return torch.equal(product.double(), rows.double() @ weight.double())


def _forward(
    features: torch.Tensor,
    kernel: torch.Tensor,
    kernel_map: KernelMap,
    epilogue: Epilogue,
) -> torch.Tensor:
    output = features.new_empty((kernel_map.num_outputs, kernel.shape[2]))

    def finish(sums: torch.Tensor, start: int, stop: int) -> None:
        if epilogue.residual is not None:
            sums += epilogue.residual[start:stop]
        output[start:stop] = sums.relu_() if epilogue.activate else sums

    def run(chunk: Chunk) -> None:
        sums = _by_pairs(features, kernel, chunk)
        if epilogue.bias is not None:
            sums += epilogue.bias
        finish(sums, chunk.start, chunk.stop)

    def run_few(start: int) -> None:
        stop = min(start + _FEW_ROWS, kernel_map.num_outputs)
        finish(by_channels(kernel_map.rows(start, stop)), start, stop)

    if kernel.shape[1] > _FEW_CHANNELS:
        if kernel_map.backwards:
            kernel = kernel.flip(0)
        if not (kernel.is_contiguous() or kernel.transpose(1, 2).is_contiguous()):
            kernel = kernel.contiguous()
        spread(features.device, _chunks(kernel_map, features), run)
    else:
        by_channels = _ByChannels(features, kernel, epilogue.bias)
        spread(features.device, range(0, kernel_map.num_outputs, _FEW_ROWS), run_few)
    return output


def _chunks(kernel_map: KernelMap, features: torch.Tensor) -> list[Chunk]:
    """The chunks that all layers of a map share."""
    if features.device.type != "cpu":
        return kernel_map.chunks(_GPU_CHUNK_ROWS)
    # At least two, but none so small that calls outweigh the work; powers of two are quickly made.
    half = 2 ** (max(kernel_map.num_outputs // 2, 1).bit_length() - 1)
    rows = min(_CHUNK_ROWS, max(_CHUNK_ROWS // 4, half))
    return kernel_map.chunks(rows, padded=has_onednn(features.dtype))


def _by_pairs(features: torch.Tensor, kernel: torch.Tensor, chunk: Chunk) -> torch.Tensor:
    """(rows of the chunk, out) sums in float32 or wider."""
    products = _multiply_groups(features.index_select(0, chunk.inputs), kernel, chunk)
    # A bag is the products of one output: each is read once, and they are added up in registers.
    sums: torch.Tensor = torch.embedding_bag(
        _widen(products), chunk.order, chunk.bounds, mode=0, include_last_offset=True
    )[0]
    return sums


def _multiply_groups(rows: torch.Tensor, kernel: torch.Tensor, chunk: Chunk) -> torch.Tensor:
    """(R, out): the gathered rows (R, in) of each offset times its weights (in, out)."""
    groups = zip(rows.split(chunk.sizes), kernel.unbind(0), strict=True)
    if _by_onednn(rows, kernel) and len(rows):
        return torch.cat([multiply(group, weight) for group, weight in groups if len(group)])
    if _has_groups(rows, kernel.shape):
        return torch.nn.functional.grouped_mm(rows, kernel, offs=chunk.ends)
    products = rows.new_empty((len(rows), kernel.shape[2]))
    for (group, weight), product in zip(groups, products.split(chunk.sizes), strict=True):
        if len(group):
            torch.mm(group, weight, out=product)
    return products


def _has_groups(rows: torch.Tensor, shape: torch.Size) -> bool:
    """Whether PyTorch makes all matrix products of a chunk in one call, with the bits of the single
    ones: in float32, on a CPU, from 2.10 on, and where rows begin at multiples of 16 bytes."""
    return (
        rows.dtype == torch.float32
        and rows.device.type == "cpu"
        and shape[1] % 4 == shape[2] % 4 == 0
        and hasattr(torch.nn.functional, "grouped_mm")
    )


class _ByChannels:
    """As `_by_pairs`, for few channels; equal channels (the usual ones) are multiplied once."""

    def __init__(
        self, features: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None
    ) -> None:
        self._bias = bias
        self._weights = []
        self._values = []
        for members in _equal_columns(features):
            self._values.append(_with_empty(features[:, members[0]]))
            self._weights.append(_widen(kernel[:, members]).sum(1))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(n, out) sums of the outputs whose neighbours are `rows` (volume, n)."""
        sums: torch.Tensor | None = None
        for values, weight in zip(self._values, self._weights, strict=True):
            neighbours = _read(values, rows)
            if sums is None:
                sums = neighbours.t() @ weight
            else:
                sums.addmm_(neighbours.t(), weight)
        assert sums is not None
        return sums if self._bias is None else sums.add_(self._bias)


def _with_empty(values: torch.Tensor) -> torch.Tensor:
    """(n + 1,) the values of one channel, and the 0 that empty neighbours have."""
    return torch.cat([_widen(values), _widen(values.new_zeros(1))])


def _read(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """(volume, n): what every offset reads of one channel."""
    return values.index_select(0, rows.reshape(-1)).view(rows.shape)


def _equal_columns(features: torch.Tensor) -> list[list[int]]:
    groups: list[list[int]] = []
    for column in range(features.shape[1]):
        for group in groups:
            if torch.equal(features[:, group[0]], features[:, column]):
                group.append(column)
                break
        else:
            groups.append([column])
    return groups


def _by_blocks(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """`multiply` for any number of rows, in blocks of standard size."""
    if rows.device.type != "cpu":
        return multiply(rows, weight, bias)
    output = rows.new_empty((len(rows), weight.shape[1]))
    in_place = not _by_onednn(rows, weight)

    def run(start: int) -> None:
        block = rows[start : start + _BLOCK_ROWS]
        count = len(block)
        if in_place:
            here = output[start : start + count]
            if bias is None:
                torch.mm(block, weight, out=here)
            else:
                torch.addmm(bias, block, weight, out=here)
            return
        missing = standard_rows(count) - count
        if missing:
            block = torch.nn.functional.pad(block, (0, 0, 0, missing))
        output[start : start + count] = multiply(block, weight, bias)[:count]

    for_each(range(0, len(rows), _BLOCK_ROWS), run)
    return output


def _widen(values: torch.Tensor) -> torch.Tensor:
    """Half precision to float32: 27 sums in bfloat16 would keep only two decimal digits."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _kernel_gradient(
    features: torch.Tensor, gradient: torch.Tensor, kernel_map: KernelMap, shape: torch.Size
) -> torch.Tensor:
    """`dW[k] = sum x[input]^T dy[output]` over the pairs of offset k."""
    channels_in = shape[1]
    if channels_in <= _FEW_CHANNELS:
        result = _widen(gradient.new_zeros(shape))
        for members in _equal_columns(features):
            values = _with_empty(features[:, members[0]])
            for start in range(0, kernel_map.num_outputs, _FEW_ROWS):
                stop = min(start + _FEW_ROWS, kernel_map.num_outputs)
                neighbours = _read(values, kernel_map.rows(start, stop))
                result[:, members] += (neighbours @ _widen(gradient[start:stop])).unsqueeze(1)
        return result.to(gradient.dtype)

    chunks = _chunks(kernel_map, features)
    lanes = min(len(chunks), _LANES) if features.device.type == "cpu" else 1
    sums = _widen(gradient.new_zeros((lanes, *shape)))

    def run(lane: int) -> None:
        for chunk in chunks[lane::lanes]:
            left = _widen(features.index_select(0, chunk.inputs))
            right = _widen(gradient[chunk.start : chunk.stop].index_select(0, chunk.outputs))
            if chunk.sizes == chunk.counts and _has_groups(left, shape):
                sums[lane] += torch.nn.functional.grouped_mm(left.t(), right, offs=chunk.ends)
                continue
            groups = zip(left.split(chunk.sizes), right.split(chunk.sizes), strict=True)
            for total, count, (a, b) in zip(sums[lane], chunk.counts, groups, strict=True):
                if count:
                    total.addmm_(a[:count].t(), b[:count])

    spread(features.device, range(lanes), run)
    total = sums.sum(0).to(gradient.dtype)
    return total.flip(0) if kernel_map.backwards else total


class _Convolution(torch.autograd.Function):
    """Own backward: the gradient of the input is a convolution over the transposed map."""

    @staticmethod
    def forward(
        ctx: Any, features: torch.Tensor, kernel: torch.Tensor, kernel_map: KernelMap
    ) -> torch.Tensor:
        ctx.save_for_backward(features, kernel)
        ctx.kernel_map = kernel_map
        return _forward(features, kernel, kernel_map, Epilogue())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        features, kernel = ctx.saved_tensors
        gradient = gradient.contiguous()
        features_gradient = kernel_gradient = None
        if ctx.needs_input_grad[0]:
            flipped = kernel.transpose(1, 2)
            features_gradient = _forward(gradient, flipped, ctx.kernel_map.transposed(), Epilogue())
        if ctx.needs_input_grad[1]:
            kernel_gradient = _kernel_gradient(features, gradient, ctx.kernel_map, kernel.shape)
        return features_gradient, kernel_gradient, None


class _Pointwise(torch.autograd.Function):
    """A matrix product through `multiply`, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(features, kernel)
        return _by_blocks(features, kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        features, kernel = ctx.saved_tensors
        features_gradient = kernel_gradient = None
        if ctx.needs_input_grad[0]:
            features_gradient = _by_blocks(gradient.contiguous(), kernel.t())
        if ctx.needs_input_grad[1]:
            kernel_gradient = features.t() @ gradient
        return features_gradient, kernel_gradient
