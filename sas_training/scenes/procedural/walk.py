"""Where somebody stands and looks while scanning a room."""

from __future__ import annotations

import numpy as np

from .furniture import Rng, between, chance
from .model import Room
from .primitives import Array
from .rays import RoomRays, pose_at
from .sensor import Sensor


def stands(room: Room, rng: Rng, count: int, height: tuple[float, float], gap: float) -> Array:
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
    """Poses (V, 4, 4) of a walk that looks at most of the room: 28-59 views, mostly downwards.

    A person who scans a room goes on until little is missing. So many random glances are tried at
    low resolution, and those that add most to what has been seen are kept, in walking order.
    """
    room, count = rays.room, int(rng.integers(28, 60))
    places = stands(room, rng, 60, (1.2, 1.75), 0.2)
    steep, tries = between(rng, -0.6, -0.05), 220
    poses = np.stack(
        [
            pose_at(
                places[int(rng.integers(len(places)))] + rng.normal(0, 0.05, 3),
                between(rng, -np.pi, np.pi),
                float(np.clip(rng.normal(steep, 0.35), -1.25, 0.35)),
                float(rng.normal(0, 0.06)),
            )
            for _ in range(tries)
        ]
    )
    hits = rays.look(poses, 16, 12, np.radians(58.0))
    each = len(hits.thing) // tries
    good = (hits.distance < 0.85 * sensor.far) & (hits.distance > sensor.near)
    met = hits.origins[good] + hits.directions[good] * hits.distance[good, None]
    grid = np.floor((met + 50.0) / 0.3).astype(np.int64)
    codes, cell = np.unique(grid @ np.array([1000_000, 1000, 1]), return_inverse=True)
    seen = np.zeros((tries, max(len(codes), 1)), np.float32)
    np.add.at(seen, (np.flatnonzero(good) // each, cell), 1.0)
    # Few scan the upper walls with as much care as the rest.
    height = (codes % 1000) * 0.3 - 50.0 if len(codes) else np.zeros(1)
    wanted = between(rng, 3.0, 6.0) * np.clip((between(rng, 1.8, 3.4) - height) / 0.9, 0.05, 1.0)
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


def random_view(room: Room, rng: Rng) -> Array:
    """Pose of one frame of a robot or a person: 0.4-1.8 m high, pitch -60..+10 degrees."""
    height = (0.4, 1.0) if chance(rng, 0.4) else (1.0, 1.8)
    position = stands(room, rng, 1, height, 0.3)[0]
    pitch = np.radians(np.clip(rng.normal(-20, 18), -60, 10))
    # Look to where the room is: at a point away from the nearest wall.
    x0, y0, x1, y1 = room.areas[0]
    target = np.array([between(rng, x0, x1), between(rng, y0, y1)])
    away = target - position[:2]
    yaw = float(np.arctan2(away[1], away[0])) + float(rng.normal(0, 0.4))
    return pose_at(position, yaw, float(pitch), float(rng.normal(0, 0.03)))
