"""Which voxel touches which: coordinate sets per stride and the kernel maps between them.

Maps are built once per network pass and shared by every layer of the same geometry.
"""

from __future__ import annotations

from typing import Any

import torch

from sas_ros.errors import SasError
from sas_ros.sparse.epilogue import Epilogue
from sas_ros.sparse.kernel_map import KernelMap, kernel_offsets
from sas_ros.sparse.native import convolve

# A dense look-up volume is the fastest index of a room, whose surfaces fill a hundredth of it.
# Where there are many more cells it is neither fast nor small.
_MAX_DENSE_CELLS = 2**25
_DENSE_CELLS_PER_VOXEL = 256
_MARGIN = 8


class _Index:
    """Finds the row of a voxel coordinate: a dense volume where it fits, else a sorted list."""

    def __init__(self, cells: torch.Tensor, margin: int) -> None:
        """`cells`: (M, 4) int64 (batch, x, y, z) in units of the stride; look-ups may lie `margin`
        cells outside their bounds."""
        self.count = len(cells)
        low, high = cells.amin(0), cells.amax(0)
        self._low = low.clone()
        self._low[1:] -= margin
        size = high - low + 1
        size[1:] += 2 * margin
        sizes = [int(s) for s in size]
        volume = sizes[0] * sizes[1] * sizes[2] * sizes[3]
        if volume >= 2**62:
            raise SasError("The voxel coordinates span too large a volume to be indexed.")
        self.strides = torch.tensor(
            [sizes[1] * sizes[2] * sizes[3], sizes[2] * sizes[3], sizes[3], 1],
            device=cells.device,
        )
        self._cells = cells
        self._volume = volume
        self._dense: torch.Tensor | None = None
        self._sorted: tuple[torch.Tensor, torch.Tensor] | None = None

    def prepare(self) -> _Index:
        """Make it ready for `rows`, before several threads look things up; returns itself."""
        if self._dense is not None or self._sorted is not None:
            return self
        keys = self.keys(self._cells)
        if self._volume <= min(_MAX_DENSE_CELLS, max(_DENSE_CELLS_PER_VOXEL * self.count, 2**20)):
            options: dict[str, Any] = {"dtype": torch.int32, "device": keys.device}
            self._dense = torch.full((self._volume,), self.count, **options)
            self._dense[keys] = torch.arange(self.count, **options)
        else:
            self._sorted = torch.sort(keys)
        return self

    def keys(self, cells: torch.Tensor) -> torch.Tensor:
        """(M,) int64 linear index of each cell."""
        relative = cells - self._low
        strides = [int(s) for s in self.strides]
        key = relative[:, 0] * strides[0]
        for axis in (1, 2, 3):
            key = key + relative[:, axis] * strides[axis]
        return key

    def rows(self, keys: torch.Tensor) -> torch.Tensor:
        """int32 rows of linear indices inside the bounds; `count` where the cell is empty. The
        index must be prepared."""
        if self._dense is not None:
            return self._dense.index_select(0, keys)
        assert self._sorted is not None
        ordered, order = self._sorted
        position = torch.searchsorted(ordered, keys).clamp_(max=self.count - 1)
        found = ordered[position] == keys
        rows = torch.where(found, order[position], self.count)
        return rows.to(torch.int32)


class CoordinateManager:
    """The coordinate sets of one input at strides 1, 2, 4, … and the cached maps between them.

    Args:
        coordinates: (M, 4) integer tensor of unique rows (batch, x, y, z) at stride 1. Coordinates
            may be negative. Rows at stride 1 keep this order; coarser rows are sorted.
    """

    def __init__(self, coordinates: torch.Tensor) -> None:
        if coordinates.ndim != 2 or coordinates.shape[1] != 4:
            raise SasError(
                f"Voxel coordinates need shape (M, 4) (batch, x, y, z), not "
                f"{tuple(coordinates.shape)}."
            )
        if len(coordinates) == 0:
            raise SasError("There are no voxels: the cloud is empty.")
        self._sets: dict[int, torch.Tensor] = {1: coordinates.long()}
        self._maps: dict[tuple[int, int, int], KernelMap] = {}
        self._indices: dict[tuple[int, int], _Index] = {}

    def coordinates(self, stride: int) -> torch.Tensor:
        """(M, 4) int64 coordinates of a stride in finest-level units; made by `downsample`."""
        return self._sets[stride]

    def has_stride(self, stride: int) -> bool:
        return stride in self._sets

    def downsample(self, stride: int, factor: int) -> None:
        """Make the coordinate set of `stride * factor`: unique floor(c / new) * new."""
        new = stride * factor
        if new in self._sets:
            return
        cells = self._cells(stride, new)
        index = _Index(cells, margin=0)
        keys = torch.unique(index.keys(cells))
        rows = []
        for axis in range(4):
            step = int(index.strides[axis])
            rows.append(keys // step + index._low[axis])
            keys = keys % step
        coarse = torch.stack(rows, dim=1)
        coarse[:, 1:] *= new
        self._sets[new] = coarse

    def kernel_map(self, in_stride: int, out_stride: int, kernel_size: int) -> KernelMap:
        """The map of a convolution (out >= in) or transposed convolution (out < in)."""
        key = (in_stride, out_stride, kernel_size)
        if key not in self._maps:
            if out_stride < in_stride:
                self._maps[key] = self.kernel_map(out_stride, in_stride, kernel_size).transposed()
            else:
                self._maps[key] = self._build(in_stride, out_stride, kernel_size)
        return self._maps[key]

    def convolve(
        self,
        features: torch.Tensor,
        kernel: torch.Tensor,
        in_stride: int,
        out_stride: int,
        kernel_size: int,
        epilogue: Epilogue | None = None,
    ) -> torch.Tensor:
        """Features (num_inputs, in) of `in_stride` to (num_outputs, out) of `out_stride`.

        The one door every backend has; a smaller `out_stride` is a transposed convolution.
        """
        kernel_map = self.kernel_map(in_stride, out_stride, kernel_size)
        return convolve(features, kernel, kernel_map, epilogue)

    def _index(self, stride: int, margin: int) -> _Index:
        """One index per stride for all maps: it may be the largest thing of a pass."""
        key = (stride, margin)
        if key not in self._indices:
            self._indices[key] = _Index(self._cells(stride, stride), margin).prepare()
        return self._indices[key]

    def _cells(self, stride: int, unit: int) -> torch.Tensor:
        coordinates = self._sets[stride]
        cells = coordinates.clone()
        cells[:, 1:] = torch.div(coordinates[:, 1:], unit, rounding_mode="floor")
        return cells

    def _build(self, in_stride: int, out_stride: int, kernel_size: int) -> KernelMap:
        outputs = self._cells(out_stride, in_stride)
        ratio = out_stride // in_stride
        # An output cell is the floor of some input cell: at most ratio - 1 below the bounds.
        index = self._index(in_stride, max(_MARGIN, kernel_size + ratio))
        offsets = kernel_offsets(kernel_size).to(outputs.device)
        deltas = (offsets * index.strides[1:]).sum(1)
        base = index.keys(outputs)
        symmetric = ratio == 1 and kernel_size % 2 == 1

        def find_rows(start: int, stop: int) -> torch.Tensor:
            keys = base[start:stop] + deltas[:, None]
            return index.rows(keys.view(-1)).view(keys.shape)

        return KernelMap(index.count, len(base), len(deltas), find_rows, symmetric=symmetric)
