"""What colour a point of a room has: its material, the light that reaches it, and a camera."""

from __future__ import annotations

import numpy as np

from .furniture import Rng, between, chance
from .light import Light, light_room
from .materials import SHININESS, Surfaces
from .model import WINDOW
from .primitives import Array, wave
from .rays import Hits, RoomRays


class Shading:
    """A room with its lamps lit and its surfaces painted.

    Args:
        rays: the room as rays see it.
        rng: decides lamps, materials, what the windows show, and the colour of the light.
    """

    def __init__(self, rays: RoomRays, rng: Rng) -> None:
        self.rays = rays
        self.surfaces = Surfaces(rays.room, rng)
        self.lights: list[Light] = light_room(rays, rng)
        things = rays.room.objects
        # Windows are over-exposed by day, show dim things at dusk and are black at night.
        bright = between(rng, 0.5, 2.5) if chance(rng, 0.65) else between(rng, 0.0, 0.15)
        panes = np.array([t.label == WINDOW and t.seen < 1.0 for t in things]) * bright
        lit = np.array(["lamp" in t.name and t.bounds[1][2] < rays.room.height for t in things])
        lit = lit * (between(rng, 0.3, 1.2) if chance(rng, 0.4) else 0.0)
        self._glow = (panes + lit).astype(np.float32)
        cast = 1 + rng.normal(0, 0.06, 3)
        self._cast = (cast / cast.mean()).astype(np.float32)

    def radiance(self, hits: Hits, rows: Array, detail: float = 1.0) -> Array:
        """Light (M, 3) float32 that comes back along the rays `rows (M,)`, which met something.

        `detail` scales textures finer than a few centimetres, which fusing views blurs.
        """
        things, looking = hits.thing[rows], hits.directions[rows]
        points = hits.origins[rows] + looking * hits.distance[rows, None]
        normals = self.rays.normals(hits.triangle[rows])
        # Thin things have one side in the mesh and two in the world.
        normals *= -np.sign(np.einsum("ij,ij->i", normals, looking) + 1e-9)[:, None]
        paint = self.surfaces.albedo(things, points, normals, detail)
        shine = SHININESS[self.surfaces.kind[things]]
        incoming = np.full((len(rows), 3), 0.035, np.float32)
        glints = np.zeros((len(rows), 3), np.float32)
        mirrored = looking - 2 * np.einsum("ij,ij->i", normals, looking)[:, None] * normals
        for lamp in self.lights:
            share, direction = lamp.on(points, normals)
            incoming += share[:, None] * lamp.power
            if lamp.glints:
                glint = np.maximum(np.einsum("ij,ij->i", mirrored, direction), 0.0) ** 24
                glints += (shine * glint * share)[:, None] * lamp.power
        light = (paint * incoming + glints + self._glow[things, None]) * self._cast
        return np.asarray(light.astype(np.float32))

    def fused_colors(self, hits: Hits, rows: Array, rng: Rng) -> Array:
        """Colours (M, 3) uint8 sRGB of points that many views have been averaged to.

        Exposure follows what each view shows, so it drifts over the room; no vignette, little
        grain.
        """
        light = self.radiance(hits, rows, 0.4)
        points = hits.origins[rows] + hits.directions[rows] * hits.distance[rows, None]
        drift = 1 + between(rng, 0.03, 0.15) * wave(points, rng, between(rng, 1.5, 4.0))
        gain = np.clip(drift, 0.5, 1.6)[:, None]
        return developed(light, rng, between(rng, 0.1, 0.36), between(rng, 0.006, 0.03), gain)

    def view_colors(self, hits: Hits, rows: Array, rng: Rng) -> Array:
        """Colours (M, 3) uint8 sRGB of the points of one frame, with the grain of one frame."""
        light = self.radiance(hits, rows)
        return developed(light, rng, between(rng, 0.1, 0.34), between(rng, 0.015, 0.05), None)


def developed(light: Array, rng: Rng, exposure: float, grain: float, gain: Array | None) -> Array:
    """Pixels (R, 3) uint8 sRGB of light (R, 3): exposure, white balance, grain, a camera's curve.

    `exposure` is what the middle of the light becomes before the curve, `gain (R, 1)` multiplies
    single pixels, `grain` is the deviation of the noise, 1 being white.
    """
    grey = light.mean(1)
    middle = max(0.5 * float(np.median(grey) + grey.mean()), 1e-3) if len(grey) else 1.0
    exposed = light * (exposure / middle)
    exposed *= (1 + rng.normal(0, 0.03, 3)).astype(np.float32)  # white balance
    if gain is not None:
        exposed *= gain.astype(np.float32)
    curve = np.power(1 - np.exp(-1.2 * np.maximum(exposed, 0.0)), 1 / 2.2)  # highlights roll off
    noise = rng.standard_normal(curve.shape) + rng.standard_normal((len(curve), 1))
    curve += 0.7 * grain * noise.astype(np.float32)
    return np.asarray((255 * np.clip(curve, 0.0, 1.0)).astype(np.uint8))
