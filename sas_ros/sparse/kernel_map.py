"""Kernel maps: which input row each kernel offset reads for each output row.

A map is a table, `rows`. Convolution wants it as lists, `chunks`: for a range of outputs, what to
gather (offset after offset, so that every offset has its rows together for one matrix product) and
how to add up the products (output after output).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from sas_ros.sparse.parallel import spread


def kernel_offsets(kernel_size: int) -> torch.Tensor:
    """(kernel_size**3, 3) int64 offsets in kernel order: x fastest; odd sizes are centred."""
    start = -(kernel_size // 2) if kernel_size % 2 else 0
    steps = torch.arange(start, start + kernel_size)
    z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1), z.reshape(-1)], dim=1)


_RANGE = 2**14
"""Outputs that are counted at once."""


class Chunk(NamedTuple):
    """All pairs of the output rows `start` to `stop`.

    Attributes:
        inputs: (R,) int32 input row of every pair, sorted by offset, then by output. In a padded
            chunk every offset's pairs are followed by places without meaning; they read row 0.
        outputs: (R,) int32 output row of every pair, counted from `start`; padded alike.
        counts: pairs of each of the `volume` offsets.
        sizes: their places in the lists, padding included: they sum to R.
        ends: (volume,) int32 where the places of each offset end.
        order: (P,) int32 places of all pairs, sorted by output, then by offset.
        bounds: (stop - start + 1,) int32: those of output u are `order[bounds[u] : bounds[u + 1]]`.
    """

    start: int
    stop: int
    inputs: torch.Tensor
    outputs: torch.Tensor
    counts: list[int]
    sizes: list[int]
    ends: torch.Tensor
    order: torch.Tensor
    bounds: torch.Tensor


def standard_rows(rows: int) -> int:
    """The next of the few row counts that oneDNN's matrix products are made with.

    It compiles a kernel for every new shape, which takes longer than most products here. With these
    counts there are 40 below 32k rows. Of 50k voxels' pairs 2 % are padding, of 3k voxels' 14 %.
    """
    for limit, step in ((2**11, 2**7), (2**13, 2**9)):
        if rows <= limit:
            return -(-rows // step) * step
    return -(-rows // 2**11) * 2**11


class KernelMap:
    """Which input row each kernel offset reads for each output row.

    Args:
        num_inputs, num_outputs, volume: rows on both sides, number of kernel offsets.
        find_rows: `rows` of a range of outputs.
        symmetric: outputs are inputs and offsets are centred (stride 1, odd size): offset -k reads
            u for v where k reads v for u.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        volume: int,
        find_rows: Callable[[int, int], torch.Tensor],
        *,
        symmetric: bool = False,
    ) -> None:
        self.num_inputs, self.num_outputs, self.volume = num_inputs, num_outputs, volume
        self.symmetric = symmetric
        #: Whether the chunks have the offsets in the opposite order: those of a symmetric map serve
        #: its transposed one, which has the same pairs, at the opposite offsets.
        self.backwards = False
        self._find_rows = find_rows
        self._chunks: dict[tuple[int, bool], list[Chunk]] = {}
        self._transposed: KernelMap | None = None

    @property
    def count(self) -> int:
        """Number of pairs of all offsets: rows that must be multiplied."""
        return sum(
            int((self.rows(start, start + _RANGE) < self.num_inputs).sum())
            for start in range(0, self.num_outputs, _RANGE)
        )

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """(volume, stop - start) int32 input rows of these outputs; `num_inputs` marks an empty
        neighbour. Those of all outputs at once may be larger than all features."""
        return self._find_rows(start, min(stop, self.num_outputs))

    def transposed(self) -> KernelMap:
        """Inputs and outputs exchanged, offset by offset: the map of the input's gradient and of
        the transposed convolution."""
        if self._transposed is None:
            self._transposed = _Transposed(self)
        return self._transposed

    def chunks(self, rows: int, *, padded: bool = False) -> list[Chunk]:
        """The map in ranges of at most `rows` outputs; padded: to the counts of `standard_rows`."""
        key = (rows, padded)
        if key not in self._chunks:
            self._chunks[key] = self._split(rows, padded)
        return self._chunks[key]

    def _split(self, rows: int, padded: bool) -> list[Chunk]:
        starts = range(0, self.num_outputs, rows)
        chunks: dict[int, Chunk] = {}

        def make(start: int) -> None:
            chunks[start] = _chunk(self.rows(start, start + rows), start, self.num_inputs, padded)

        spread(self.rows(0, 1).device, starts, make)
        return [chunks[start] for start in starts]


class _Transposed(KernelMap):
    """A map with inputs and outputs exchanged, made of the other one."""

    def __init__(self, other: KernelMap) -> None:
        if other.symmetric:

            def find_rows(start: int, stop: int) -> torch.Tensor:
                return other.rows(start, stop).flip(0)
        else:
            table = _exchanged(other.rows(0, other.num_outputs), other.num_inputs)

            def find_rows(start: int, stop: int) -> torch.Tensor:
                return table[:, start:stop]

        super().__init__(
            other.num_outputs, other.num_inputs, other.volume, find_rows, symmetric=other.symmetric
        )
        self._transposed = self._other = other
        self.backwards = other.symmetric and not other.backwards

    def _split(self, rows: int, padded: bool) -> list[Chunk]:
        if self.symmetric:
            return self._other.chunks(rows, padded=padded)
        return super()._split(rows, padded)


def _exchanged(table: torch.Tensor, num_inputs: int) -> torch.Tensor:
    """(offsets, num_inputs) int32: which output each input is read for, of a table (offsets,
    num_outputs) of inputs that are read; `num_outputs` and `num_inputs` mark empty neighbours."""
    offsets, num_outputs = table.shape
    result = table.new_full((offsets, num_inputs + 1), num_outputs)
    outputs = torch.arange(num_outputs, dtype=table.dtype, device=table.device)
    for row, inputs in zip(result, table, strict=True):
        row.index_copy_(0, inputs.long(), outputs)
    # Empty neighbours were written to one place too many.
    return result[:, :-1]


def _chunk(table: torch.Tensor, start: int, empty: int, padded: bool) -> Chunk:
    """The lists of a part of the table (volume, rows)."""
    rows = table.shape[1]
    table = table.contiguous()
    full = _less(table, empty)
    pairs = _nonzero(full.view(-1))
    inputs = table.view(-1).index_select(0, pairs)
    power = rows & (rows - 1) == 0
    outputs = (pairs & (rows - 1) if power else pairs.remainder(rows)).int()
    # A stable sort of whole numbers is a radix sort, the quicker the fewer their bytes.
    order = torch.sort(outputs.short() if rows < 2**15 else outputs, stable=True)[1].int()
    counts = full.sum(1).tolist()
    sizes = counts
    if padded:
        sizes = [standard_rows(count) for count in counts]
        found = torch.tensor(counts)
        missing = torch.tensor(sizes) - found
        shifts = torch.repeat_interleave(missing.cumsum(0) - missing, found)
        places = torch.arange(len(pairs)) + shifts
        inputs = table.new_zeros(sum(sizes)).index_copy_(0, places, inputs)
        outputs = table.new_zeros(sum(sizes)).index_copy_(0, places, outputs)
        order = places.int().index_select(0, order)
    counted = full.sum(0, dtype=torch.int32).cumsum(0, dtype=torch.int32)
    bounds = torch.nn.functional.pad(counted, (1, 0))
    ends = torch.tensor(sizes, device=table.device).cumsum(0, dtype=torch.int32)
    return Chunk(start, start + rows, inputs, outputs, counts, sizes, ends, order, bounds)


# On a CPU numpy does these two four times as fast.
def _less(values: torch.Tensor, limit: int) -> torch.Tensor:
    """values < limit."""
    if values.device.type != "cpu":
        return values < limit
    return torch.from_numpy(values.numpy() < limit)


def _nonzero(mask: torch.Tensor) -> torch.Tensor:
    """Ascending int64 places where a mask (N,) is true."""
    if mask.device.type != "cpu":
        return mask.nonzero().squeeze(1)
    return torch.from_numpy(np.flatnonzero(mask.numpy()))
