"""One cloud, seen from a known pose, as voxels of the map's grid."""

from __future__ import annotations

import numpy as np
import torch

from sas_ros.errors import SasError
from sas_ros.mapping.columns import (
    HIGH,
    LOW,
    POINTS,
    POSITION,
    REACH,
    VoxelColumns,
    empty_columns,
    pack,
)
from sas_ros.observation import Cloud, Float64Array, IntArray, SceneFeatures
from sas_ros.pose import columns_of, turn_in_place
from sas_ros.voxels import voxelise_columns

_LONGEST = 1.1
"""Of a feature: unit length, with room for the rounding of float16."""


def observe(
    scene: SceneFeatures, cloud: Cloud, pose: Float64Array, voxel_size: float
) -> VoxelColumns:
    """What a cloud says about each voxel its points fall into.

    Args:
        scene: features of `cloud`, on any device.
        pose: (4, 4) float64, from the cloud's frame to the map's.
        voxel_size: metres.

    Returns:
        Voxels with counts of 1, sorted by key; features float32. Points further than `REACH` voxels
        from the map's origin are left out; features that are no unit vectors (not finite) count as
        zero, as those of elements without a feature.

    Raises:
        SasError: the pose is no rigid motion, or scene and cloud do not belong together.
    """
    check_pose(pose)
    if len(scene.element_of_point) != len(cloud.points):
        raise SasError(
            f"The scene was made from a cloud of {len(scene.element_of_point)} points, but this "
            f"one has {len(cloud.points)}."
        )
    used = scene.element_of_point >= 0
    places = columns_of(cloud.points, used)
    places += cloud.origin[:, None]
    turn_in_place(places, pose[:3, :3])
    places += pose[:3, 3:]
    near = (np.abs(places) < (REACH - 1) * voxel_size).all(axis=0)
    if not near.all():
        places = places[:, near]
        used[np.flatnonzero(used)[~near]] = False
    width = int(scene.features.shape[1])
    if not places.shape[1]:
        return empty_columns(0, width, torch.float32)
    grid = voxelise_columns(places, voxel_size)
    count = len(grid.coordinates)
    # Sorted by voxel and element, so that what belongs together lies together.
    pair = grid.inverse * len(scene.positions) + scene.element_of_point[used]
    order = np.argsort(pair, kind="stable")
    pair, voxel = pair[order], grid.inverse[order]
    first = _starts(voxel)
    number = np.diff(first, append=len(voxel)).astype(np.float64)

    shape = np.empty((count, 10), np.float32)
    for axis in range(3):
        along = places[axis, order]
        along -= grid.coordinates[voxel, 1 + axis] * voxel_size
        np.clip(along, 0.0, voxel_size, out=along)  # rounding may leave the voxel by a hair
        shape[:, POSITION][:, axis] = np.add.reduceat(along, first) / number
        shape[:, LOW][:, axis] = np.minimum.reduceat(along, first)
        shape[:, HIGH][:, axis] = np.maximum.reduceat(along, first)
    shape[:, POINTS] = number
    colors = np.zeros((count, 3), np.float32)
    if cloud.colors is not None:
        given = cloud.colors[used][order].astype(np.float64)
        colors[:] = np.add.reduceat(given, first, axis=0) / number[:, None]
    mean = _mean_features(scene, pair, number)
    length = mean.norm(dim=1)
    return VoxelColumns(
        keys=pack(grid.coordinates[:, 1:]),
        features=mean.div_(length.clamp_min(1e-12)[:, None]),
        agreement=length.numpy(),
        shape=shape,
        colors=colors,
        colored=np.full(count, int(cloud.colors is not None), np.int32),
        counts=np.ones(count, np.int32),
        last_seen=np.full(count, scene.header.stamp_ns, np.int64),
    )


def _mean_features(scene: SceneFeatures, pair: IntArray, number: Float64Array) -> torch.Tensor:
    """(V, C) float32 mean over each voxel's points of their elements' features; `pair` (n,),
    sorted, is voxel times elements plus element of each point."""
    start = _starts(pair)
    voxel, element = np.divmod(pair[start], len(scene.positions))
    weight = np.diff(start, append=len(pair)) / number[voxel]
    # To main memory first: a float32 copy beside float16 features is not for the GPU.
    rows = scene.features.detach().cpu()[torch.from_numpy(element)].float()
    rows[~(torch.linalg.vector_norm(rows, dim=1) < _LONGEST)] = 0.0  # NaN is not less either
    rows *= torch.from_numpy(weight.astype(np.float32))[:, None]
    mean = torch.zeros((len(number), rows.shape[1]))
    return mean.index_add_(0, torch.from_numpy(voxel), rows)


def _starts(sorted_values: IntArray) -> IntArray:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.diff(sorted_values, prepend=sorted_values[0] - 1))


def check_pose(pose: Float64Array) -> None:
    """Raise SasError unless `pose` (4, 4) is a rotation and a translation, finite."""
    good = np.shape(pose) == (4, 4) and bool(np.isfinite(pose).all())
    if good:
        turn = np.asarray(pose)[:3, :3]
        good = np.abs(turn.T @ turn - np.eye(3)).max() < 1e-3 and np.linalg.det(turn) > 0
        good = bool(good and np.allclose(np.asarray(pose)[3], (0, 0, 0, 1)))
    if not good:
        raise SasError("A pose must be a (4, 4) matrix of a rotation and a translation, finite.")
