"""A large cloud in overlapping tiles, each small enough for one pass of the network.

Voxels are taken in blocks of 16, the coarsest cells of the network, so that no coarse voxel is cut
in two. The core of a tile is what it answers for; a rim around it lets the network see past the
cut. What lies further away than the rim changes the features little, see docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.student.minkunet import MinkUNetConfig
from sas_ros.voxels import distinct

BLOCK = 16
"""Voxels along the edge of a block: the coarsest stride of a MinkUNet."""

_RIM_PER_BLOCK = 2 * BLOCK
_WIDEST_RIM = 6 * BLOCK
_THIN = 3
"""A core is not cut below this many rims in length while a narrower rim would do: the tiles would
be mostly rim."""

IntArray = npt.NDArray[np.signedinteger]


def rim_of(config: MinkUNetConfig) -> int:
    """Voxels that a tile sees beyond its core: how far the network's coarsest stage looks.

    Each of its blocks has two convolutions that look one coarse voxel further. What the finer
    stages add to the reach hardly counts: measured in docs/benchmarks.md.
    """
    return min(_RIM_PER_BLOCK * config.layers[3], _WIDEST_RIM)


@dataclass(frozen=True, eq=False)
class Tile:
    """(n,) int64 `rows` of the voxels that a pass sees, ascending, and (n,) bool which of them are
    its core. The cores of all tiles are every voxel once."""

    rows: npt.NDArray[np.int64]
    core: npt.NDArray[np.bool_]


def tiles(coordinates: npt.NDArray[np.int32], most: int, rim: int) -> Iterator[Tile]:
    """Cut voxels into tiles of at most `most` voxels with their rims.

    Args:
        coordinates: (M, 4) voxels (batch, x, y, z) of one cloud.
        most: at least `BLOCK`**3, or a tile of a single full block may be larger than that.
        rim: voxels around each core, a multiple of `BLOCK`; narrower where `most` leaves no room.
    """
    blocks, block_of_voxel = _blocks(coordinates)
    counts = np.bincount(block_of_voxel, minlength=len(blocks))
    for core, seen in _cut(blocks, counts, most, rim // BLOCK):
        in_tile = np.zeros(len(blocks), dtype=np.bool_)
        in_tile[seen] = True
        rows = np.flatnonzero(in_tile[block_of_voxel])
        in_core = np.zeros(len(blocks), dtype=np.bool_)
        in_core[core] = True
        yield Tile(rows, in_core[block_of_voxel[rows]])


def _blocks(coordinates: npt.NDArray[np.int32]) -> tuple[IntArray, npt.NDArray[np.int32]]:
    """(B, 3) occupied blocks and (M,) the block of each voxel."""
    cells = [coordinates[:, axis] // BLOCK for axis in (1, 2, 3)]
    low = [int(cell.min()) for cell in cells]
    size = [int(cell.max()) - start + 1 for cell, start in zip(cells, low, strict=True)]
    keys = np.zeros(len(coordinates), dtype=np.int64)
    for cell, start, extent in zip(cells, low, size, strict=True):
        keys = keys * extent + (cell - start)
    found, block_of_voxel = distinct(keys, size[0] * size[1] * size[2])
    x, rest = np.divmod(found, size[1] * size[2])
    blocks = np.stack([x, *np.divmod(rest, size[2])], axis=1)
    return blocks, block_of_voxel.astype(np.int32, copy=False)


def _cut(
    blocks: IntArray, counts: IntArray, most: int, rim: int
) -> Iterator[tuple[IntArray, IntArray]]:
    """Blocks of each core, and of the core with its rim: halve the longest side until both fit."""
    waiting = [np.arange(len(blocks))]
    while waiting:
        core = waiting.pop()
        low, high = blocks[core].min(axis=0), blocks[core].max(axis=0)
        longest = int((high - low).argmax())
        length = int(high[longest] - low[longest]) + 1
        for width in range(rim, -1, -1):
            near = (blocks >= low - width) & (blocks <= high + width)
            seen = np.flatnonzero(near[:, 0] & near[:, 1] & near[:, 2])
            fits = int(counts[seen].sum()) <= most
            if fits or length > _THIN * width:
                break
        if fits or length == 1:
            yield core, seen
            continue
        place = blocks[core, longest]
        order = np.argsort(place, kind="stable")
        half = np.searchsorted(np.cumsum(counts[core][order]), counts[core].sum() / 2)
        # Somewhere between the ends, so that both parts hold something.
        border = min(max(int(place[order[half]]), int(low[longest]) + 1), int(high[longest]))
        waiting += [core[place >= border], core[place < border]]
