"""Kernel maps: which input row each kernel offset reads for each output row.

A map is one list of pairs per kernel offset. An output row occurs at most once in the list of an
offset, and the lists are sorted by it, so that a range of outputs is a slice of every list.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch


def kernel_offsets(kernel_size: int) -> torch.Tensor:
    """(kernel_size**3, 3) int64 offsets in kernel order: x fastest; odd sizes are centred."""
    start = -(kernel_size // 2) if kernel_size % 2 else 0
    steps = torch.arange(start, start + kernel_size)
    z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1), z.reshape(-1)], dim=1)


class Pairs(NamedTuple):
    """What one kernel offset connects: (P,) int64 input rows and output rows, outputs ascending."""

    inputs: torch.Tensor
    outputs: torch.Tensor


class Part(NamedTuple):
    """The pairs of one offset in a chunk: output rows counted from the chunk's first, and input
    rows, of which there are more (`standard_rows`): what they give beyond the outputs is dropped.
    """

    offset: int
    inputs: torch.Tensor
    outputs: torch.Tensor


class Chunk(NamedTuple):
    """Output rows `start` to `stop`, and what every non-empty offset adds to them."""

    start: int
    stop: int
    parts: list[Part]


def standard_rows(rows: int) -> int:
    """The next of the few row counts that matrix products are made with.

    oneDNN compiles a kernel for every new shape, which takes longer than most products here. With
    these counts there are 40 per layer below 32k rows, and 4 % of the rows on average are padding.
    """
    for limit, step in ((2**11, 2**7), (2**13, 2**9)):
        if rows <= limit:
            return -(-rows // step) * step
    return -(-rows // 2**11) * 2**11


class KernelMap:
    """Which input row each kernel offset reads for each output row.

    Args:
        num_inputs, num_outputs, volume: rows on both sides, number of kernel offsets.
        find_pairs: makes the pairs of every offset, in kernel order; called when they are needed.
        find_rows: the same as a table, see `rows`; by default it is made of the pairs.
        symmetric: outputs are inputs and offsets are centred (stride 1, odd size): the pairs of
            offset -k are those of k with inputs and outputs exchanged, and the middle offset
            connects every row with itself.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        volume: int,
        find_pairs: Callable[[], list[Pairs]],
        find_rows: Callable[[int, int], torch.Tensor] | None = None,
        *,
        symmetric: bool = False,
    ) -> None:
        self.num_inputs, self.num_outputs, self.volume = num_inputs, num_outputs, volume
        self.symmetric = symmetric
        self._find_pairs, self._find_rows = find_pairs, find_rows
        self._chunks: dict[int, list[Chunk]] = {}
        self._transposed: KernelMap | None = None

    @cached_property
    def pairs(self) -> list[Pairs]:
        """The pairs of every offset, in kernel order."""
        return self._find_pairs()

    @property
    def count(self) -> int:
        """Number of pairs of all offsets: rows that must be multiplied."""
        return sum(len(pair.inputs) for pair in self.pairs)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """(volume, stop - start) int32 input rows of these outputs; `num_inputs` marks an empty
        neighbour."""
        if self._find_rows is not None:
            return self._find_rows(start, stop)
        return self.table[start:stop].t()

    def transposed(self) -> KernelMap:
        """Inputs and outputs exchanged, offset by offset: the map of the input's gradient and of
        the transposed convolution."""
        if self._transposed is None:
            self._transposed = KernelMap(
                self.num_outputs,
                self.num_inputs,
                self.volume,
                self._exchanged,
                symmetric=self.symmetric,
            )
            self._transposed._transposed = self
        return self._transposed

    def _exchanged(self) -> list[Pairs]:
        if self.symmetric:
            return self.pairs[::-1]
        return [_by_output(Pairs(outputs, inputs)) for inputs, outputs in self.pairs]

    def chunks(self, rows: int) -> list[Chunk]:
        """The map in ranges of at most `rows` outputs."""
        if rows not in self._chunks:
            self._chunks[rows] = self._split(rows)
        return self._chunks[rows]

    def _split(self, rows: int) -> list[Chunk]:
        starts = list(range(0, self.num_outputs, rows))
        edges = torch.tensor([*starts, self.num_outputs], device=self.pairs[0].outputs.device)
        chunks = [Chunk(s, min(s + rows, self.num_outputs), []) for s in starts]
        for offset, (inputs, outputs) in enumerate(self.pairs):
            cuts = torch.searchsorted(outputs, edges).tolist()
            # A slice that is too long reads pairs of the next chunk, and zeros after the last one.
            longest = max(last - first for first, last in pairwise(cuts))
            padded = torch.nn.functional.pad(inputs, (0, standard_rows(longest)))
            for chunk, first, last in zip(chunks, cuts, cuts[1:], strict=False):
                if last > first:
                    rows_in = padded[first : first + standard_rows(last - first)]
                    part = Part(offset, rows_in, outputs[first:last] - chunk.start)
                    chunk.parts.append(part)
        return chunks

    @cached_property
    def table(self) -> torch.Tensor:
        """(num_outputs, volume) int32 input rows; `num_inputs` marks an empty neighbour."""
        shape = (self.volume, self.num_outputs)
        device = self.pairs[0].inputs.device
        columns = torch.full(shape, self.num_inputs, dtype=torch.int32, device=device)
        for column, (inputs, outputs) in zip(columns, self.pairs, strict=True):
            column.index_copy_(0, outputs, inputs.int())
        return columns.t()


def _by_output(pair: Pairs) -> Pairs:
    if len(pair.outputs) < 2 or bool((pair.outputs[1:] > pair.outputs[:-1]).all()):
        return pair
    outputs, order = torch.sort(pair.outputs)
    return Pairs(pair.inputs[order], outputs)
