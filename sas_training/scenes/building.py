"""A cloud from the depths of posed frames: means of voxels, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.scans import read_scan
from sas_training.scenes.cameras import points_of
from sas_training.scenes.scene import Frames

_BITS = 21
_HALF = 1 << (_BITS - 1)
_MOST_VOXELS = 20_000_000
_PENDING = 2_000_000
"""Rows of single frames that wait to be merged."""


class VoxelMeans:
    """Means of the points and colours that fell into each voxel.

    Args:
        voxel: edge, metres; voxels lie on a grid through the world's origin.
    """

    def __init__(self, voxel: float) -> None:
        self.voxel = voxel
        self._keys = np.zeros(0, dtype=np.int64)
        self._sums = np.zeros((0, 7))
        self._waiting: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = []

    def add(
        self, points: npt.NDArray[np.floating], colors: npt.NDArray[np.uint8] | None = None
    ) -> None:
        """Add points (M, 3), metres, and colours (M, 3) uint8; points not finite are left out.

        Raises:
            SasError: points too far away for the grid, or too many voxels.
        """
        rows = np.zeros((len(points), 7))
        rows[:, :3], rows[:, 6] = points, 1
        if colors is not None:
            rows[:, 3:6] = colors
        rows = rows[np.isfinite(rows[:, :3]).all(axis=1)]
        cell = np.floor(rows[:, :3] / self.voxel)
        if len(cell) and np.abs(cell).max() >= _HALF:
            raise SasError(
                f"Points {np.abs(rows[:, :3]).max():.0f} m away do not fit on a grid of "
                f"{self.voxel} m; are the depths in the units that were said, and the poses metres?"
            )
        steps = cell.astype(np.int64) + _HALF
        keys = (steps[:, 0] << 2 * _BITS) | (steps[:, 1] << _BITS) | steps[:, 2]
        self._waiting.append(_reduced(keys, rows))
        if sum(len(keys) for keys, _ in self._waiting) > _PENDING:
            self._merge()

    def _merge(self) -> None:
        parts = [(self._keys, self._sums), *self._waiting]
        self._waiting = []
        self._keys, self._sums = _reduced(
            np.concatenate([keys for keys, _ in parts]), np.concatenate([sums for _, sums in parts])
        )
        if len(self._keys) > _MOST_VOXELS:
            raise SasError(
                f"The cloud has over {_MOST_VOXELS} voxels of {self.voxel} m; take larger ones."
            )

    def means(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Points (V, 3) float32 and colours (V, 3) uint8 in the order of the voxels."""
        self._merge()
        means = self._sums[:, :6] / np.maximum(self._sums[:, 6:], 1)
        return means[:, :3].astype(np.float32), np.rint(means[:, 3:]).astype(np.uint8)


def _reduced(
    keys: npt.NDArray[np.int64], rows: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Keys, sorted and each once, and the sums of their rows."""
    if not len(keys):
        return keys, rows
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return keys[starts], np.add.reduceat(rows[order], starts, axis=0)


def cloud_of_frames(
    frames: Frames, voxel: float = 0.02, scan: Path | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8] | None]:
    """Points (V, 3) float32 metres and colours (V, 3) uint8 of all usable frames with depth.

    A frame is read, back-projected, reduced to voxels and forgotten.

    Args:
        frames: with poses and depths.
        voxel: edge, metres.
        scan: a file whose points are taken instead.

    Raises:
        SasError: no frame has a depth, or the scan cannot be read.
    """
    if scan is not None:
        cloud = read_scan(scan)
        kept = cloud.valid
        points = (cloud.points[kept] + cloud.origin).astype(np.float32)
        return points, None if cloud.colors is None else cloud.colors[kept]
    means = VoxelMeans(voxel)
    for _, frame in frames.usable():
        if frame.depth is None:
            continue
        pixels, places = points_of(frame.depth, frame.intrinsics)
        placed = places @ frame.pose[:3, :3].T + frame.pose[:3, 3]
        means.add(placed, frame.image.reshape(-1, 3)[pixels])
    points, colors = means.means()
    if not len(points):
        why = frames.skipped.sentence() or "None of the frames has a depth."
        raise SasError(f"No cloud can be built: {why}")
    return points, colors
