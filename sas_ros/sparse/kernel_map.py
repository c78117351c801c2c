"""Kernel maps: which input row each kernel offset reads for each output row.

A kernel map is a table: row `u` of column `k` holds the input row that kernel offset `k` reads for
output `u`, or `num_inputs` where that voxel is empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


def kernel_offsets(kernel_size: int) -> torch.Tensor:
    """(kernel_size**3, 3) int64 offsets in kernel order: x fastest; odd sizes are centred."""
    start = -(kernel_size // 2) if kernel_size % 2 else 0
    steps = torch.arange(start, start + kernel_size)
    z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1), z.reshape(-1)], dim=1)


@dataclass
class KernelMap:
    """(num_outputs, volume) int32 table of input rows; `num_inputs` marks an empty neighbour.

    `symmetric` says that outputs are inputs and offsets are centred (stride 1, odd size): offset k
    seen from the other side is then offset -k, the table read backwards.
    """

    table: torch.Tensor
    num_inputs: int
    symmetric: bool = False
    _transposed: KernelMap | None = field(default=None, repr=False)
    _pairs: list[tuple[torch.Tensor, torch.Tensor]] | None = field(default=None, repr=False)

    @property
    def num_outputs(self) -> int:
        return int(self.table.shape[0])

    def transposed(self) -> KernelMap:
        """The same pairs seen from the input: what the gradient of the input is gathered with."""
        if self._transposed is None and self.symmetric:
            self._transposed = KernelMap(self.table.flip(1).contiguous(), self.num_inputs, True)
            self._transposed._transposed = self
        if self._transposed is None:
            volume = self.table.shape[1]
            flipped = self.table.new_full((self.num_inputs + 1, volume), self.num_outputs)
            outputs = torch.arange(self.num_outputs, dtype=torch.int32, device=self.table.device)
            for k in range(volume):
                flipped[self.table[:, k].long(), k] = outputs
            # The last row collected the empty neighbours; nobody reads it.
            self._transposed = KernelMap(flipped[:-1].contiguous(), self.num_outputs)
            self._transposed._transposed = self
        return self._transposed

    def pairs(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per offset: (input rows, output rows), each int64, every row at most once."""
        if self._pairs is None:
            pairs = []
            for column in self.table.unbind(1):
                outputs = torch.nonzero(column < self.num_inputs).squeeze(1)
                pairs.append((column[outputs].long(), outputs))
            self._pairs = pairs
        return self._pairs
