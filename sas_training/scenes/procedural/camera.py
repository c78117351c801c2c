"""A simulated hand-held depth camera: rays into a room, the noise of a sensor, fusion to a cloud."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sas_ros.errors import SasError

from .furniture import Rng, between, chance
from .model import IGNORED, LabelledScan, Room, shuffled_rows
from .primitives import Array, wave


@dataclass(frozen=True)
class Hits:
    """What R rays met: `distance (R,)` m along the ray (inf: nothing), `thing (R,)` int32 row of
    `room.objects` (-1: nothing), `facing (R,)` cosine between ray and surface normal, 0..1."""

    distance: Array
    thing: Array
    facing: Array


class RoomRays:
    """The triangles of a room, ready for casting rays.

    Needs open3d (the extra `training`); raises SasError without it.
    """

    def __init__(self, room: Room) -> None:
        try:
            import open3d
        except ImportError as error:
            raise SasError(
                f"Scanning a generated room needs open3d, which does not load here ({error}); "
                "install the extra with pip install 'sas_ros[training]'."
            ) from error
        self.room = room
        meshes = [thing.mesh for thing in room.objects]
        counts = [len(mesh.triangles) for mesh in meshes]
        starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
        vertices = np.concatenate([mesh.vertices for mesh in meshes]).astype(np.float32)
        triangles = np.concatenate(
            [mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)]
        )
        self._thing_of = np.repeat(np.arange(len(meshes), dtype=np.int32), counts)
        self.labels = np.array([thing.label for thing in room.objects], np.int64)
        self.instances = np.array([thing.instance for thing in room.objects], np.int32)
        self.colors = np.array([thing.color for thing in room.objects], np.float32)
        self.seen = np.array([thing.seen for thing in room.objects], np.float32)
        self.ceiling = np.array([thing.name == "ceiling" for thing in room.objects])
        self._scene = open3d.t.geometry.RaycastingScene(nthreads=1)
        self._scene.add_triangles(
            open3d.core.Tensor(vertices), open3d.core.Tensor(triangles.astype(np.uint32))
        )
        self._tensor = open3d.core.Tensor

    def cast(self, origins: Array, directions: Array) -> Hits:
        """Cast R rays from `origins (R, 3)` along unit `directions (R, 3)`, room metres."""
        rays = np.concatenate([origins, directions], 1).astype(np.float32)
        answer = self._scene.cast_rays(self._tensor(rays), nthreads=1)
        distance = answer["t_hit"].numpy()
        triangle = answer["primitive_ids"].numpy()
        met = np.isfinite(distance)
        thing = np.full(len(rays), -1, np.int32)
        thing[met] = self._thing_of[triangle[met]]
        normals = answer["primitive_normals"].numpy()
        facing = np.abs((normals * rays[:, 3:]).sum(1))
        return Hits(distance, thing, facing)


def pose_at(position: Array, yaw: float, pitch: float, roll: float = 0.0) -> Array:
    """Camera-to-room matrix (4, 4) of an optical frame (x right, y down, z ahead).

    `yaw` turns about room z (0 looks along +x), `pitch` is up positive, radians.
    """
    ahead = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(ahead, right)
    c, s = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = c * right + s * down, c * down - s * right, ahead
    pose[:3, 3] = position
    return pose


def pixel_rays(width: int, height: int, fov: float) -> Array:
    """Unit directions (height * width, 3) of all pixels in the optical frame; `fov` across, radians."""
    focal = width / 2 / np.tan(fov / 2)
    u, v = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    rays = np.stack([u.ravel() / focal, v.ravel() / focal, np.ones(u.size)], 1)
    unit: Array = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit.astype(np.float32)


@dataclass(frozen=True)
class Sensor:
    """How the depth camera errs; lengths in metres."""

    near: float = 0.35
    far: float = 4.5
    noise: float = 0.0012  # deviation at 1 m; grows with the square of the distance
    bleed: float = 0.25  # share of rays at depth steps that land between the two depths
    ragged: float = 0.35  # share of rays beside depth steps that are lost
    grazing: float = 0.10  # rays that meet a surface flatter than this cosine are lost

    def measured(
        self, rng: Rng, hits: Hits, seen: Array, shape: tuple[int, int]
    ) -> tuple[Array, Array]:
        """Measure what rays met that form images of `shape` (height, width).

        `seen` is the chance of an answer for every thing of the room. Returns noisy distances (R,)
        and a mask (R,) of the rays that have one: in range, not grazing, not on glass.
        """
        true, rays = hits.distance, len(hits.distance)
        roll = rng.random(rays).astype(np.float32)
        met = hits.thing >= 0
        share = np.where(met, seen[np.maximum(hits.thing, 0)], 0.0)
        late = np.clip((self.far - true) / (0.25 * self.far), 0.0, 1.0)
        flat = np.clip((hits.facing - self.grazing) / 0.12, 0.0, 1.0)
        sigma = self.noise * np.square(np.where(met, true, 0.0))
        distance = true + sigma * rng.standard_normal(rays).astype(np.float32)
        image = true.reshape(-1, *shape)
        with np.errstate(invalid="ignore"):
            step = image[:, :, 1:] - image[:, :, :-1]
            steep = np.abs(step) > 0.06
        border = np.zeros(image.shape, bool)
        border[:, :, :-1] = steep
        border[:, :, 1:] |= steep
        rows = np.flatnonzero(border.ravel())
        share[rows] *= 1.0 - self.ragged
        # Of the borders that answer, some answer with a depth between the two surfaces.
        stack, row, column = np.nonzero(steep & (np.abs(step) < 0.8))
        mixed = rng.random(len(stack)) < self.bleed
        stack, row, column = stack[mixed], row[mixed], column[mixed]
        pixel = (stack * shape[0] + row) * shape[1] + column
        distance[pixel] += (rng.random(len(pixel)) ** 2 * step[stack, row, column]).astype(np.float32)
        valid: Array = met & (distance > self.near) & (roll <= share * late * flat)
        return distance, valid


def _stands(room: Room, rng: Rng, count: int, height: tuple[float, float], gap: float) -> Array:
    """Camera positions (count, 3) in free air, most of them in the first area."""
    found: list[Array] = []
    sizes = np.array([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in room.areas])
    sizes[0] *= 1.6
    best, best_gap = np.array([0.0, 0.0, 1.5]), -1.0
    for _ in range(count * 30):
        x0, y0, x1, y1 = room.areas[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]
        margin = min(0.35, (x1 - x0) * 0.3, (y1 - y0) * 0.3)
        at = np.array(
            [
                between(rng, x0 + margin, x1 - margin),
                between(rng, y0 + margin, y1 - margin),
                between(rng, *height),
            ]
        )
        air = _clearance(room, at)
        if air > best_gap:
            best, best_gap = at, air
        if air > gap:
            found.append(at)
            if len(found) == count:
                break
    return np.array(found) if found else best[None]


def _clearance(room: Room, at: Array) -> float:
    """Distance from a point to the nearest taken box, 0 inside one."""
    if not len(room.blocked):
        return 9.0
    low, high = room.blocked[:, [0, 1, 4]], room.blocked[:, [2, 3, 5]]
    away = np.maximum(np.maximum(low - at, at - high), 0.0)
    return float(np.linalg.norm(away, axis=1).min())


def trajectory(rays: RoomRays, rng: Rng, sensor: Sensor) -> Array:
    """Poses (V, 4, 4) of a walk that looks at most of the room: 22-48 views, mostly downwards.

    A person who scans a room goes on until little is missing. So many random glances are tried at
    low resolution, and those that add most to what has been seen are kept, in walking order.
    """
    room, count = rays.room, int(rng.integers(22, 49))
    stands = _stands(room, rng, 40, (1.2, 1.75), 0.2)
    steep, tries = between(rng, -0.75, -0.4), 220
    poses = np.stack(
        [
            pose_at(
                stands[int(rng.integers(len(stands)))] + rng.normal(0, 0.05, 3),
                between(rng, -np.pi, np.pi),
                float(np.clip(rng.normal(steep, 0.3), -1.25, 0.15)),
                float(rng.normal(0, 0.06)),
            )
            for _ in range(tries)
        ]
    )
    pattern = pixel_rays(16, 12, np.radians(58.0))
    directions = np.einsum("vij,rj->vri", poses[:, :3, :3], pattern).reshape(-1, 3)
    origins = np.repeat(poses[:, :3, 3], len(pattern), 0)
    hits = rays.cast(origins, directions)
    good = (hits.distance < 0.85 * sensor.far) & (hits.distance > sensor.near)
    met = origins[good] + directions[good] * hits.distance[good, None]
    grid = np.floor((met + 50.0) / 0.3).astype(np.int64)
    codes, cell = np.unique(grid @ np.array([1000_000, 1000, 1]), return_inverse=True)
    seen = np.zeros((tries, max(len(codes), 1)), np.float32)
    np.add.at(seen, (np.flatnonzero(good) // len(pattern), cell), 1.0)
    # Nobody scans the upper walls with care.
    height = (codes % 1000) * 0.3 - 50.0 if len(codes) else np.zeros(1)
    wanted = between(rng, 3.0, 6.0) * np.clip((between(rng, 1.4, 2.3) - height) / 0.9, 0.05, 1.0)
    if chance(rng, 0.3):  # a hasty scan: some parts are of no interest
        wanted[rng.random(len(wanted)) < between(rng, 0.1, 0.4)] = 0.5
    chosen: list[int] = []
    for _ in range(count):
        gain = np.minimum(seen, wanted).sum(1) * rng.uniform(0.7, 1.0, tries)
        gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        wanted = np.maximum(wanted - seen[best], 0.0)
    order, rest = [chosen[0]], set(chosen[1:])
    while rest:  # walk to the nearest glance not yet taken
        here = poses[order[-1], :3, 3]
        order.append(min(sorted(rest), key=lambda k: float(np.sum((poses[k, :3, 3] - here) ** 2))))
        rest.remove(order[-1])
    return poses[order]


def _shaded(rays: RoomRays, things: Array, facing: Array, rng: Rng) -> Array:
    """Colours (N, 3) uint8: base colour, darker where the surface is seen at a slant, and grain."""
    light = 0.6 + 0.4 * facing[:, None]
    grain = rng.normal(0, 7, (len(things), 1))
    return np.clip(rays.colors[things] * light + grain, 0, 255).astype(np.uint8)


def scan_room(
    room: Room, rng: Rng, *, rays: RoomRays | None = None, most: int = 60_000, voxel: float = 0.02
) -> LabelledScan:
    """Walk through a room with a depth camera and fuse all views to voxel means.

    Args:
        room: the room; `rays` may be given to share the ray structure between calls.
        rng: chance for the walk, the sensor and the choice of points.
        most: at most this many points are returned.
        voxel: edge of the fusion voxels, metres.

    Returns:
        Points with labels, z up, floor near 0 with the slow drift of a real scan.
    """
    rays = rays or RoomRays(room)
    sensor = Sensor(far=between(rng, 3.6, 5.2), noise=between(rng, 0.0008, 0.002))
    width, height = 160, 120
    pattern = pixel_rays(width, height, np.radians(58.0))
    poses = trajectory(rays, rng, sensor)
    turns = poses[:, :3, :3].astype(np.float32)
    directions = pattern[None] @ turns.transpose(0, 2, 1)
    origins = np.broadcast_to(poses[:, None, :3, 3], directions.shape).astype(np.float32)
    flat = directions.reshape(-1, 3)
    hits = rays.cast(origins.reshape(-1, 3), flat)
    distance, valid = sensor.measured(rng, hits, rays.seen, (height, width))
    kept = np.flatnonzero(valid)
    ceiling = rays.ceiling[hits.thing[kept]]
    kept = kept[~ceiling | (rng.random(len(kept)) < 0.5)]
    reach = _misaimed(flat, len(pattern), rng)[kept] * distance[kept, None]
    points = origins.reshape(-1, 3)[kept] + reach
    slip = np.cumsum(rng.normal(0, 0.003, (len(poses), 3)), 0).astype(np.float32)
    points += (slip - slip.mean(0))[kept // len(pattern)]
    points, rows = _fuse(points, hits.thing[kept], voxel, int(rng.integers(1, 3)))
    choice = shuffled_rows(len(points), most, rng)
    points, rows = _drifted(points[choice], rng), kept[rows[choice]]
    things = hits.thing[rows]
    return LabelledScan(
        points=points.astype(np.float32),
        labels=rays.labels[things],
        instances=rays.instances[things],
        colors=_shaded(rays, things, hits.facing[rows], rng),
        names=room.names,
    )


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
    """Bend a fused cloud slowly: surfaces waver by 5-10 mm, the floor by some centimetres."""
    height = between(rng, 0.003, 0.008)
    for axis in range(3):
        points[:, axis] += height * wave(points, rng, between(rng, 0.35, 0.9))
        points[:, axis] += height * wave(points, rng, between(rng, 1.0, 2.0))
    points[:, 2] += between(rng, 0.0, 0.025) * wave(points[:, :2], rng, between(rng, 4.0, 8.0), 3)
    for axis in range(2):
        points[:, axis] += between(rng, 0.0, 0.02) * wave(points, rng, between(rng, 2.0, 5.0), 3)
    points[:, 2] += between(rng, -0.03, 0.05)
    return points


def random_view(room: Room, rng: Rng) -> Array:
    """Pose of one frame of a robot or a person: 0.4-1.8 m high, pitch -60..+10 degrees."""
    height = (0.4, 1.0) if chance(rng, 0.4) else (1.0, 1.8)
    position = _stands(room, rng, 1, height, 0.3)[0]
    pitch = np.radians(np.clip(rng.normal(-20, 18), -60, 10))
    # Look to where the room is: at a point away from the nearest wall.
    x0, y0, x1, y1 = room.areas[0]
    target = np.array([between(rng, x0, x1), between(rng, y0, y1)])
    away = target - position[:2]
    yaw = float(np.arctan2(away[1], away[0])) + float(rng.normal(0, 0.4))
    return pose_at(position, yaw, float(pitch), float(rng.normal(0, 0.03)))


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
    pattern = pixel_rays(width, height, fov)
    directions = pattern @ np.asarray(pose[:3, :3], np.float32).T
    origins = np.broadcast_to(np.asarray(pose[:3, 3], np.float32), directions.shape)
    hits = rays.cast(origins, directions)
    lost = hits.thing < 0
    distance = hits.distance
    if rng is not None:
        sensor = sensor or Sensor(far=between(rng, 4.5, 8.0), noise=between(rng, 0.001, 0.003))
        distance, valid = sensor.measured(rng, hits, rays.seen, (height, width))
        lost = ~valid
    depth = np.where(lost, np.nan, distance * pattern[:, 2]).astype(np.float32)
    thing = np.maximum(hits.thing, 0)
    labels = np.where(lost, IGNORED, rays.labels[thing])
    instances = np.where(lost, 0, rays.instances[thing]).astype(np.int32)
    shape = (height, width)
    return depth.reshape(shape), labels.reshape(shape), instances.reshape(shape)


def view_room(
    room: Room,
    rng: Rng,
    *,
    rays: RoomRays | None = None,
    most: int = 20_000,
    pose: Array | None = None,
) -> LabelledScan:
    """Points of one 320x240 depth frame, z up with z = 0 at the true floor, at most `most` of them."""
    rays = rays or RoomRays(room)
    width, height = 320, 240
    pattern = pixel_rays(width, height, np.radians(between(rng, 55.0, 72.0)))
    best: tuple[Array, Array, Hits] | None = None
    for _ in range(4):  # a frame full of one near wall teaches nothing
        view = random_view(room, rng) if pose is None else pose
        directions = (pattern @ np.asarray(view[:3, :3], np.float32).T).astype(np.float32)
        origins = np.broadcast_to(np.asarray(view[:3, 3], np.float32), directions.shape)
        hits = rays.cast(origins, directions)
        best = (origins, directions, hits)
        sight = hits.distance[np.isfinite(hits.distance)]
        if pose is not None or (len(sight) and float(np.median(sight)) > 1.2):
            break
    assert best is not None
    origins, directions, hits = best
    sensor = Sensor(far=between(rng, 4.0, 8.0), noise=between(rng, 0.0008, 0.003))
    distance, valid = sensor.measured(rng, hits, rays.seen, (height, width))
    rows = np.flatnonzero(valid)
    rows = rows[shuffled_rows(len(rows), most, rng)]
    things = hits.thing[rows]
    return LabelledScan(
        points=(origins[rows] + directions[rows] * distance[rows, None]).astype(np.float32),
        labels=rays.labels[things],
        instances=rays.instances[things],
        colors=_shaded(rays, things, hits.facing[rows], rng),
        names=room.names,
    )
