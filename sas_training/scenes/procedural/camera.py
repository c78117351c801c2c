"""A simulated hand-held depth camera: fused scans of a room, single views, organised frames."""

from __future__ import annotations

import numpy as np

from .furniture import Rng, between, chance
from .model import FLOOR, IGNORED, WALL, LabelledScan, Room, shuffled_rows
from .primitives import Array, bend, wave
from .rays import RoomRays, pixel_rays
from .sensor import Sensor
from .shading import Shading
from .smoothing import smoothed
from .walk import random_view, trajectory


def scan_room(
    room: Room,
    rng: Rng,
    *,
    rays: RoomRays | None = None,
    shading: Shading | None = None,
    most: int = 60_000,
    voxel: float = 0.02,
) -> LabelledScan:
    """Walk through a room with a depth camera and fuse all views to voxel means.

    Args:
        room: the room; `rays` and `shading` (light and materials) may be given to share them
            between calls.
        rng: chance for the walk, the sensor and the choice of points.
        most: at most this many points are returned.
        voxel: edge of the fusion voxels, metres.

    Returns:
        Points with labels, z up, floor near 0 with the slow drift of a real scan.
    """
    rays = rays or RoomRays(room)
    shading = shading or Shading(rays, rng)
    sensor = Sensor(far=between(rng, 3.6, 5.2), noise=between(rng, 0.0008, 0.002))
    width, height = 128, 96
    poses = trajectory(rays, rng, sensor)
    hits = rays.look(poses, width, height, np.radians(58.0))
    distance, valid = sensor.measured(rng, hits, rays.seen, (height, width))
    kept = np.flatnonzero(valid)
    ceiling = rays.ceiling[hits.thing[kept]]
    # Most real scans come without a ceiling: nobody looks up, or it has been cut off.
    share = between(rng, 0.1, 0.6) if chance(rng, 0.2) else 0.0
    kept = kept[~ceiling | (rng.random(len(kept)) < share)]
    each = width * height
    reach = _misaimed(hits.directions, each, rng)[kept] * distance[kept, None]
    slip = np.cumsum(rng.normal(0, 0.003, (len(poses), 3)), 0).astype(np.float32)
    points = hits.origins[kept] + reach + (slip - slip.mean(0))[kept // each]
    points, rows = _fuse(points, hits.thing[kept], voxel, int(rng.integers(1, 3)))
    choice = shuffled_rows(len(points), most, rng)
    rows = kept[rows[choice]]
    points = smoothed(points[choice], rng, between(rng, 0.3, 1.0), between(rng, 0.015, 0.035))
    things = hits.thing[rows]
    # Large planes fuse well; what is small and round or has edges comes out bumpy.
    uneven = (rays.labels[things] != WALL) & (rays.labels[things] != FLOOR)
    points[uneven] += bend(points[uneven], rng, between(rng, 0.004, 0.018), between(rng, 0.1, 0.3))
    points[~uneven] += bend(
        points[~uneven], rng, between(rng, 0.001, 0.005), between(rng, 0.15, 0.4)
    )
    points = _drifted(points, rng)
    return LabelledScan(
        points=points.astype(np.float32),
        labels=rays.labels[things],
        instances=rays.instances[things],
        colors=shading.fused_colors(hits, rows, rng),
        names=room.names,
    )


def view_room(
    room: Room,
    rng: Rng,
    *,
    rays: RoomRays | None = None,
    shading: Shading | None = None,
    most: int = 20_000,
    pose: Array | None = None,
) -> LabelledScan:
    """Points of one 320x240 depth frame, z up, z = 0 at the true floor; at most `most` of them."""
    rays = rays or RoomRays(room)
    shading = shading or Shading(rays, rng)
    width, height = 320, 240
    fov = np.radians(between(rng, 55.0, 72.0))
    view = random_view(room, rng) if pose is None else np.asarray(pose)
    for _ in range(4 if pose is None else 0):  # a frame full of one near wall teaches nothing
        glance = rays.look(view[None], 24, 18, fov)
        sight = glance.distance[glance.thing >= 0]
        if len(sight) and float(np.median(sight)) > 1.2:
            break
        view = random_view(room, rng)
    hits = rays.look(view[None], width, height, fov)
    sensor = Sensor(far=between(rng, 4.0, 8.0), noise=between(rng, 0.0008, 0.003))
    distance, valid = sensor.measured(rng, hits, rays.seen, (height, width))
    rows = np.flatnonzero(valid)
    rows = rows[shuffled_rows(len(rows), most, rng)]
    things = hits.thing[rows]
    points = (hits.origins[rows] + hits.directions[rows] * distance[rows, None]).astype(np.float32)
    points += bend(points, rng, between(rng, 0.0, 0.006), between(rng, 0.12, 0.4))
    return LabelledScan(
        points=points,
        labels=rays.labels[things],
        instances=rays.instances[things],
        colors=shading.view_colors(hits, rows, rng),
        names=room.names,
    )


def render_view(
    room: Room,
    pose: Array,
    width: int,
    height: int,
    *,
    fov: float = 1.02,
    rng: Rng | None = None,
    sensor: Sensor | None = None,
    rays: RoomRays | None = None,
) -> tuple[Array, Array, Array]:
    """Render an organised frame from a camera-to-room `pose (4, 4)` of an optical frame.

    Returns:
        depth (height, width) float32 metres along the optical axis, NaN where nothing is measured;
        labels (height, width) int64 (255 there); instances (height, width) int32. Without `rng` the
        depth is exact and complete.
    """
    rays = rays or RoomRays(room)
    hits = rays.look(np.asarray(pose)[None], width, height, fov)
    lost = hits.thing < 0
    distance = hits.distance
    if rng is not None:
        sensor = sensor or Sensor(far=between(rng, 4.5, 8.0), noise=between(rng, 0.001, 0.003))
        distance, valid = sensor.measured(rng, hits, rays.seen, (height, width))
        lost = ~valid
    depth = np.where(lost, np.nan, distance * pixel_rays(width, height, fov)[:, 2]).astype(
        np.float32
    )
    thing = np.maximum(hits.thing, 0)
    labels = np.where(lost, IGNORED, rays.labels[thing])
    instances = np.where(lost, 0, rays.instances[thing]).astype(np.int32)
    shape = (height, width)
    return depth.reshape(shape), labels.reshape(shape), instances.reshape(shape)


def _fuse(points: Array, things: Array, voxel: float, least: int) -> tuple[Array, Array]:
    """Mean of the points of each voxel and thing; voxels with few rays in busy places are dropped.

    Returns points (M, 3) and one original row (M,) for each.
    """
    cell = np.floor((points - points.min(0)) / voxel).astype(np.int64)
    size = cell.max(0) + 1
    place = (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2]
    kinds = int(things.max()) + 1
    key = place * kinds + things
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    counts = np.diff(np.append(starts, len(key)))
    # One point per voxel: the thing that most rays met there.
    voxel_of = key[starts] // kinds
    most = np.maximum.reduceat(
        counts, np.flatnonzero(np.append(True, voxel_of[1:] != voxel_of[:-1]))
    )
    which = np.cumsum(np.append(False, voxel_of[1:] != voxel_of[:-1]))
    chosen = np.flatnonzero((counts == most[which]) & (counts >= least))
    chosen = (
        chosen[np.append(True, voxel_of[chosen][1:] != voxel_of[chosen][:-1])]
        if len(chosen)
        else chosen
    )
    sums = np.add.reduceat(points[order], starts, axis=0)[chosen]
    return sums / counts[chosen, None].astype(np.float32), order[starts[chosen]]


def _misaimed(directions: Array, each: int, rng: Rng) -> Array:
    """Turn the rays of every view (`each` rays) by the small error of its estimated pose."""
    views = len(directions) // each
    error = np.repeat(rng.normal(0, 0.0022, (views, 3)).astype(np.float32), each, 0)
    turned: Array = directions + np.cross(error, directions)
    return turned


def _drifted(points: Array, rng: Rng) -> Array:
    """Bend a fused cloud slowly: surfaces waver by some millimetres, the floor by centimetres."""
    height = between(rng, 0.001, 0.006)
    for axis in range(3):
        points[:, axis] += height * wave(points, rng, between(rng, 0.5, 1.2))
        points[:, axis] += height * wave(points, rng, between(rng, 1.0, 2.0))
    points[:, 2] += between(rng, 0.0, 0.025) * wave(points[:, :2], rng, between(rng, 4.0, 8.0), 3)
    for axis in range(2):
        points[:, axis] += between(rng, 0.0, 0.02) * wave(points, rng, between(rng, 2.0, 5.0), 3)
    points[:, 2] += between(rng, -0.03, 0.05)
    return points
