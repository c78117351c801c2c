"""A map as queries see it: a cloud of voxel means and the features of its elements.

Everything that answers about a cloud answers about this: an element is a voxel, and its one point
lies at the mean of the points seen there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sas_ros.mapping.columns import HIGH, LOW, POINTS, POSITION, corners
from sas_ros.mapping.voxel_map import MapState
from sas_ros.observation import (
    Cloud,
    Float32Array,
    Float64Array,
    IntArray,
    SceneFeatures,
    SourceHeader,
    Up,
)

_FAR = 4096.0
"""Metres from the frame's origin beyond which float32 would lose tenths of a millimetre."""


@dataclass(frozen=True, eq=False)
class MapView:
    """An immutable map, ready to be asked.

    Attributes:
        cloud: one point per voxel; colours where all voxels have one. Stamp of the newest cloud,
            the map's frame.
        scene: the voxels as elements; up is z.
        state: what the view is made of; row i of its columns is point and element i.
    """

    cloud: Cloud
    scene: SceneFeatures
    state: MapState

    def last_seen(self, voxels: IntArray) -> int:
        """Stamp, ns, of the newest cloud that saw one of the voxels."""
        return int(self.state.columns.last_seen[voxels].max(initial=0))


def view_of(state: MapState) -> MapView:
    """Make the view; features are not copied."""
    columns, size = state.columns, state.identity.voxel_size
    corner = corners(columns.keys, size)
    origin = _origin(corner)
    corner -= origin
    places = (corner + columns.shape[:, POSITION]).astype(np.float32)
    header = SourceHeader(state.stamp_ns, state.identity.frame)
    known = bool(len(columns)) and bool((columns.colored > 0).all())
    colors = np.rint(columns.colors).astype(np.uint8) if known else None
    cloud = Cloud(places, colors=colors, header=header, origin=origin)
    scene = SceneFeatures(
        features=columns.features,
        positions=(corner + size / 2).astype(np.float32),
        element_of_point=np.arange(len(columns), dtype=np.int32),
        header=header,
        up=Up(np.array([0.0, 0.0, 1.0]), "map"),
        origin=origin,
        element_size=size,
    )
    _remember(scene, corner, columns.shape)
    return MapView(cloud, scene, state)


def _remember(scene: SceneFeatures, corner: Float64Array, shape: Float32Array) -> None:
    """Keep with the scene what would be worked out from the points of a cloud, as it was when the
    voxels were seen: the smallest object and the gaps between objects are those of clouds."""
    points = np.maximum(np.rint(shape[:, POINTS]), 1).astype(np.int64)
    points.setflags(write=False)
    scene.kept.get("points", None, lambda: points)
    scene.kept.get("grid turn", None, lambda: 0.0)
    extents = (corner + shape[:, LOW], corner + shape[:, HIGH])
    scene.kept.get("extents", None, lambda: extents)


def _origin(corner: Float64Array) -> Float64Array:
    """(3,) metres, zero unless the map lies far from its frame's origin."""
    if not len(corner) or np.abs(corner).max() < _FAR:
        return np.zeros(3)
    return np.asarray(np.round((corner.min(axis=0) + corner.max(axis=0)) / 2))
