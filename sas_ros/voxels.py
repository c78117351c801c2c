"""Points to voxel coordinates and back (method reference 6.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError

# Coordinates span fewer than 2**21 voxels per axis, so that three of them fit one int64 key.
_MAX_EXTENT = 2**20


@dataclass(frozen=True)
class VoxelGrid:
    """Occupied voxels of a cloud.

    Attributes:
        coordinates: (M, 4) int32 rows (batch, x, y, z), sorted by (batch, x, y, z).
        inverse: (N,) int64 voxel row of every input point.
        voxel_size: metres.
        origin: (3,) float64, metres: the corner of voxel (0, 0, 0) in the frame of the points.
    """

    coordinates: npt.NDArray[np.int32]
    inverse: npt.NDArray[np.int64]
    voxel_size: float
    origin: npt.NDArray[np.float64]

    @property
    def centers(self) -> npt.NDArray[np.float32]:
        """(M, 3) float32, metres: the centre of every voxel in the frame of the points."""
        centers = (self.coordinates[:, 1:] + 0.5) * self.voxel_size + self.origin
        return centers.astype(np.float32)


def voxelise(
    points: npt.NDArray[np.floating],
    voxel_size: float,
    *,
    origin: npt.ArrayLike = (0.0, 0.0, 0.0),
    batch: int = 0,
) -> VoxelGrid:
    """Sort finite points (N, 3), metres, into voxels of `voxel_size` metres.

    Coordinates are `floor((points - origin) / voxel_size)` and may be negative.

    Raises:
        SasError: no points, points that are not finite, or an extent above 2**20 voxels.
    """
    if len(points) == 0:
        raise SasError("The cloud is empty: there is nothing to voxelise.")
    corner = np.asarray(origin, dtype=np.float64)
    scaled = np.floor((np.asarray(points, dtype=np.float64) - corner) / voxel_size)
    low, high = scaled.min(axis=0), scaled.max(axis=0)
    if not np.isfinite(low).all() or not np.isfinite(high).all():
        raise SasError("The cloud holds NaN or Inf coordinates; drop them before voxelising.")
    extent = high - low + 1
    if extent.max() > _MAX_EXTENT or max(np.abs(low).max(), np.abs(high).max()) > 2**30:
        raise SasError(
            f"The cloud spans {extent.max() * voxel_size:.0f} m, more than "
            f"{_MAX_EXTENT} voxels of {voxel_size} m; are its coordinates in metres?"
        )
    relative = (scaled - low).astype(np.int64)
    size = extent.astype(np.int64)
    keys = (relative[:, 0] * size[1] + relative[:, 1]) * size[2] + relative[:, 2]
    unique, inverse = np.unique(keys, return_inverse=True)
    coordinates = np.empty((len(unique), 4), dtype=np.int32)
    coordinates[:, 0] = batch
    coordinates[:, 3] = unique % size[2] + int(low[2])
    coordinates[:, 2] = unique // size[2] % size[1] + int(low[1])
    coordinates[:, 1] = unique // (size[1] * size[2]) + int(low[0])
    return VoxelGrid(coordinates, inverse.reshape(-1).astype(np.int64), voxel_size, corner)
