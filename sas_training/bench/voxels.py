"""`sas bench voxels`: points to voxels and back, against what else does it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sas_ros.sparse import minkowski
from sas_ros.voxels import voxelise
from sas_training.bench.sweep import building
from sas_training.bench.timing import alternate, compared, machine


def bench_voxels(points: int, voxel_size: float, rounds: int) -> dict[str, Any]:
    """Sort `points` points of generated rooms into voxels of `voxel_size` metres.

    The alternative is `numpy.unique` over the rows of coordinates, with the voxel of every point as
    we give it too; the floor is one copy of the points. Where they are installed, MinkowskiEngine's
    `sparse_quantize` (with the voxel of every point) and Open3D's `voxel_down_sample` (without)
    run beside, from arrays that are ready for them.

    Returns:
        `ours_s`, `alternative_s`, `floor_s`, `ratio_to_floor`, `speedup`, `minkowski_s` and
        `open3d_s` (null where not installed), `points`, `voxels` and what `timing.machine` tells.
    """
    cloud = building(points)
    target = np.empty_like(cloud)

    def rows() -> object:
        cells = np.floor(cloud / voxel_size).astype(np.int32)
        return np.unique(cells, axis=0, return_inverse=True)

    jobs: dict[str, Callable[[], object]] = {
        "ours_s": lambda: voxelise(cloud, voxel_size),
        "alternative_s": rows,
        "floor_s": lambda: np.copyto(target, cloud),
    }
    jobs.update(_others(cloud, voxel_size))
    seconds = compared(alternate(jobs, rounds))
    return {
        "minkowski_s": None,
        "open3d_s": None,
        **seconds,
        "points": points,
        "voxels": len(voxelise(cloud, voxel_size).coordinates),
        "voxel_size": voxel_size,
        **machine(),
    }


def _others(cloud: Any, voxel_size: float) -> dict[str, Callable[[], object]]:
    jobs: dict[str, Callable[[], object]] = {}
    if minkowski.is_installed():
        scaled = torch.from_numpy(cloud / voxel_size)
        jobs["minkowski_s"] = lambda: minkowski.quantise(scaled)
    if importlib.util.find_spec("open3d") is not None:
        import open3d

        held = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(cloud.astype(np.float64)))
        jobs["open3d_s"] = lambda: held.voxel_down_sample(voxel_size)
    return jobs
