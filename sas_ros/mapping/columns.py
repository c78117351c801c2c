"""Voxels as columns: a row for each, the same row in every column."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_ros.observation import Float32Array, Float64Array, IntArray

Int32Array = npt.NDArray[np.int32]

REACH = 2**20
"""Voxels on either side of the frame's origin along each axis: 84 km at 8 cm."""

_BITS = 21  # of each axis in a key

POSITION, LOW, HIGH, POINTS = slice(0, 3), slice(3, 6), slice(6, 9), 9
"""Columns of `shape`."""


@dataclass(frozen=True, eq=False)
class VoxelColumns:
    """M voxels; every mean is over the clouds that saw the voxel, each counting once.

    Attributes:
        keys: (M,) int64, `pack` of the whole-number coordinates, no two alike.
        features: (M, C) unit rows, the direction of the mean of all points' unit features (zeros
            where the network gave nothing); float16 in a map, float32 as observed.
        agreement: (M,) float32 length of that mean: 1 where all points of all clouds agree.
        shape: (M, 10) float32 means of, in metres from the voxel's lowest corner, the `POSITION`
            of the points and their `LOW`est and `HIGH`est coordinates; and of their number,
            `POINTS`.
        colors: (M, 3) float32, 0 to 255, mean over the clouds that had colours.
        colored: (M,) int32 number of those clouds, 0 = colour unknown.
        counts: (M,) int32 number of clouds, 1 or more.
        last_seen: (M,) int64 ns, stamp of the newest cloud.
    """

    keys: IntArray
    features: torch.Tensor
    agreement: Float32Array
    shape: Float32Array
    colors: Float32Array
    colored: Int32Array
    counts: Int32Array
    last_seen: IntArray

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, chosen: Any) -> VoxelColumns:
        """The chosen rows: views for a slice, copies for indices."""
        index = torch.from_numpy(chosen) if isinstance(chosen, np.ndarray) else chosen
        return VoxelColumns(
            **{
                item.name: getattr(self, item.name)[index if item.name == "features" else chosen]
                for item in fields(self)
            }
        )

    def write(self, at: Any, rows: VoxelColumns) -> None:
        """Overwrite the rows `at` (a slice, or indices) in every column."""
        index = torch.from_numpy(at) if isinstance(at, np.ndarray) else at
        for item in fields(self):
            mine, given = getattr(self, item.name), getattr(rows, item.name)
            if item.name == "features":
                mine[index] = given.to(mine.dtype)
            else:
                mine[at] = given

    @property
    def coordinates(self) -> Int32Array:
        """(M, 3) int32 whole-number coordinates of the voxels."""
        return unpack(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take."""
        plain = sum(getattr(self, f.name).nbytes for f in fields(self) if f.name != "features")
        return int(plain + self.features.numel() * self.features.element_size())


def empty_columns(rows: int, feature_dim: int, dtype: torch.dtype = torch.float16) -> VoxelColumns:
    """Columns of `rows` voxels, all zero."""
    return VoxelColumns(
        keys=np.zeros(rows, np.int64),
        features=torch.zeros((rows, feature_dim), dtype=dtype),
        agreement=np.zeros(rows, np.float32),
        shape=np.zeros((rows, 10), np.float32),
        colors=np.zeros((rows, 3), np.float32),
        colored=np.zeros(rows, np.int32),
        counts=np.zeros(rows, np.int32),
        last_seen=np.zeros(rows, np.int64),
    )


def pack(coordinates: npt.NDArray[np.integer[Any]]) -> IntArray:
    """(M, 3) coordinates within `REACH` as (M,) int64 keys; keys sort as x, y, z do."""
    shifted = np.asarray(coordinates, np.int64) + REACH
    if len(shifted) and (shifted.min() < 0 or shifted.max() >= 2 * REACH):
        raise SasError(f"Voxel coordinates must lie within {REACH} of the map's origin.")
    return np.asarray((shifted[:, 0] << 2 * _BITS) | (shifted[:, 1] << _BITS) | shifted[:, 2])


def unpack(keys: IntArray) -> Int32Array:
    """The (M, 3) int32 coordinates of keys (M,)."""
    mask = 2 * REACH - 1
    columns = [keys >> 2 * _BITS, (keys >> _BITS) & mask, keys & mask]
    return (np.stack(columns, axis=1) - REACH).astype(np.int32)


def corners(keys: IntArray, voxel_size: float) -> Float64Array:
    """(M, 3) float64 metres, the lowest corner of each voxel in the map's frame."""
    return unpack(keys).astype(np.float64) * voxel_size
