"""The errors of a depth camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .furniture import Rng
from .primitives import Array
from .rays import Hits


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
        distance[pixel] += (rng.random(len(pixel)) ** 2 * step[stack, row, column]).astype(
            np.float32
        )
        valid: Array = met & (distance > self.near) & (roll <= share * late * flat)
        return distance, valid
