"""Lamps, daylight and what they reach: shadow maps that any ray engine can make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .furniture import Rng, between, chance
from .model import WINDOW
from .primitives import Array
from .rays import RoomRays, pose_at

_QUARTER = np.pi / 2
_FACES = [(k * _QUARTER, 0.0) for k in range(4)] + [(0.0, _QUARTER), (0.0, -_QUARTER)]
_FACE_TURNS = np.stack([pose_at(np.zeros(3), *face)[:3, :3] for face in _FACES]).astype(np.float32)
# Face of a direction by its largest axis: +x +y -x -y are yaws 0..3, then up and down.
_FACE_OF = np.array([[2, 0], [3, 1], [5, 4]])


@dataclass(frozen=True)
class Light:
    """A small lamp with a map of how far it shines.

    `at (3,)` metres in the room, `power (3,)` of red, green and blue, `reach (6, W, W)` float32
    metres to what it meets, inf for nothing: the coarser, the softer its shadows. `glints`: whether
    shiny things mirror it.
    """

    at: Array
    power: Array
    reach: Array
    glints: bool

    def on(self, points: Array, normals: Array) -> tuple[Array, Array]:
        """What reaches `points (N, 3)` with `normals (N, 3)`.

        Returns the share (N,) of light that falls on them, distance included, and the unit
        directions (N, 3) towards the lamp.
        """
        width = self.reach.shape[1]
        to = points - self.at.astype(np.float32)
        away = np.sqrt(np.einsum("ij,ij->i", to, to)) + np.float32(1e-6)
        direction = -to / away[:, None]
        slant = np.maximum(np.einsum("ij,ij->i", normals, direction), 0.0)
        # A step off the surface, so that it does not shade itself by the map's coarseness.
        lifted = to + normals * (0.012 + 2.5 * away[:, None] / width)
        axis = np.abs(lifted).argmax(1)
        face = _FACE_OF[axis, (np.take_along_axis(lifted, axis[:, None], 1)[:, 0] > 0).astype(int)]
        local = np.einsum("ij,ijk->ik", lifted, _FACE_TURNS[face])
        middle = (width - 1) / 2
        scale = width / 2 / local[:, 2]
        column = np.clip(local[:, 0] * scale + middle, 0, width - 1.001)
        row = np.clip(local[:, 1] * scale + middle, 0, width - 1.001)
        i, j = row.astype(np.int64), column.astype(np.int64)
        down, right = row - i, column - j
        # The share of the four cells around that see the point, weighted by how near they are.
        first = (face * width + i) * width + j
        flat = self.reach.reshape(-1)
        far = np.sqrt(np.einsum("ij,ij->i", lifted, lifted)) - np.float32(0.02)
        upper = (far < flat[first]) * (1 - right) + (far < flat[first + 1]) * right
        lower = (far < flat[first + width]) * (1 - right) + (far < flat[first + width + 1]) * right
        free = upper * (1 - down) + lower * down
        return (slant * free / (np.square(away) + 0.4)).astype(np.float32), direction


def light_room(rays: RoomRays, rng: Rng) -> list[Light]:
    """Hang one or two lamps under the ceiling, let daylight in, and add what walls throw back.

    The bounced light is a handful of faint lamps in free air, which darken corners and the space
    under tables as ambient occlusion does.
    """
    room = rays.room
    lights: list[Light] = []
    for x0, y0, x1, y1 in room.areas[:2]:
        middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2, room.height - between(rng, 0.12, 0.5)])
        middle[:2] += rng.normal(0, 0.3, 2)
        warm = np.array([1.0, between(rng, 0.82, 1.0), between(rng, 0.62, 1.0)])
        lights.append(_light(rays, middle, between(rng, 2.0, 4.0) * warm, 128, True))
    panes = [thing for thing in room.objects if thing.label == WINDOW and thing.name == "window"]
    if panes and chance(rng, 0.7):
        pane = panes[int(rng.integers(len(panes)))]
        low, high = pane.bounds
        x0, y0, x1, y1 = room.areas[0]
        inside = (low + high) / 2
        inside[:2] += 0.35 * np.sign(np.array([x0 + x1, y0 + y1]) / 2 - inside[:2])
        power = between(rng, 1.0, 4.0) * np.array([0.92, 0.97, 1.0])
        lights.append(_light(rays, inside, power, 48, True))
    shades = [thing for thing in room.objects if thing.name in ("lamp", "floor lamp")]
    for shade in shades[:2]:
        if chance(rng, 0.4):  # in the free air above its shade
            low, high = shade.bounds
            above = np.append((low[:2] + high[:2]) / 2, high[2] + 0.12)
            warm = np.array([1.0, between(rng, 0.7, 0.9), between(rng, 0.4, 0.7)])
            lights.append(_light(rays, above, between(rng, 0.2, 1.0) * warm, 32, False))
    ambient = between(rng, 0.35, 1.1)  # light walls throw back more
    for _ in range(5):
        x0, y0, x1, y1 = room.areas[int(rng.integers(len(room.areas)))]
        at = np.array(
            [
                between(rng, 0.9 * x0 + 0.1 * x1, 0.1 * x0 + 0.9 * x1),
                between(rng, 0.9 * y0 + 0.1 * y1, 0.1 * y0 + 0.9 * y1),
                between(rng, 1.3, room.height - 0.1),
            ]
        )
        power = ambient * between(rng, 0.3, 0.8) * np.array([1.0, 0.97, 0.93])
        lights.append(_light(rays, at, power, 32, False))
    return lights


def _light(rays: RoomRays, at: Array, power: Array, width: int, glints: bool) -> Light:
    poses = np.repeat(np.eye(4)[None], 6, 0)
    poses[:, :3, :3], poses[:, :3, 3] = _FACE_TURNS, at
    distance = rays.look(poses, width, width, _QUARTER).distance
    reach = distance.reshape(6, width, width).astype(np.float32)
    return Light(np.asarray(at, np.float32), power.astype(np.float32), reach, glints)
