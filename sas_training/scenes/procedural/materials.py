"""What things are made of: textures that follow from where a surface is, by material."""

from __future__ import annotations

import numpy as np

from .furniture import Rng, between, chance
from .model import (
    BATHTUB,
    BED,
    CURTAIN,
    FLOOR,
    PICTURE,
    REFRIGERATOR,
    SHOWER_CURTAIN,
    SINK,
    SOFA,
    TOILET,
    WALL,
    Room,
    RoomObject,
)
from .primitives import Array

PLASTER, WOOD, PAINT, FABRIC, TILES, PLANKS, CARPET, GLOSS, METAL, IMAGE = range(10)
MATERIALS = (
    "plaster", "wood", "paint", "fabric", "tiles", "planks", "carpet", "gloss", "metal", "image",
)  # fmt: skip

SHININESS = np.array([0.0, 0.10, 0.06, 0.0, 0.15, 0.12, 0.0, 0.35, 0.45, 0.10], np.float32)
"""Strength of the highlight of each material."""

_SOFT = ("pillow", "clothes", "blanket", "towel", "bag", "backpack", "toy", "coat", "rug", "heap")
_GRID = 256  # cells of the table of noise, which repeats


class Surfaces:
    """The materials of a room's things and the noise they are painted with.

    `kind (T,)` material of each row of `room.objects`; chance decides floors, tiles and colours.
    """

    def __init__(self, room: Room, rng: Rng) -> None:
        wet = room.kind in ("bathroom", "kitchen")
        floor = TILES if wet or chance(rng, 0.2) else (PLANKS if chance(rng, 0.6) else CARPET)
        wall = TILES if room.kind == "bathroom" and chance(rng, 0.7) else PLASTER
        self.kind = np.array([_material(thing, floor, wall) for thing in room.objects])
        count = len(room.objects)
        self._shift = rng.uniform(0, _GRID, (count, 2)).astype(np.float32)
        self._tint = (1 + rng.normal(0, 0.03, (count, 3))).astype(np.float32)
        self._table = rng.random((_GRID, _GRID)).astype(np.float32)
        self._tile = between(rng, 0.12, 0.45)
        self._plank = between(rng, 0.07, 0.2)
        self._wild = rng.uniform(0.15, 1.0, (2, count, 3)).astype(np.float32)
        colors = np.array([thing.color for thing in room.objects], np.float32) / 255
        self._colors = np.square(colors)  # near enough to linear light

    def albedo(self, things: Array, points: Array, normals: Array, detail: float = 1.0) -> Array:
        """Share of light (N, 3) float32, 0..1, that `points (N, 3)` m of `things (N,)` give back.

        The texture lies on the plane that the normal (N, 3) is nearest to; `detail` scales what is
        finer than a few centimetres.
        """
        axis = np.abs(normals).argmax(1)
        u = np.where(axis == 0, points[:, 1], points[:, 0]).astype(np.float32)
        v = np.where(axis == 2, points[:, 1], points[:, 2]).astype(np.float32)
        color = self._colors[things] * self._tint[things]
        kind = self.kind[things]
        for material in range(len(MATERIALS)):
            rows = np.flatnonzero(kind == material)
            if len(rows):
                color[rows] *= self._paint(material, things[rows], u[rows], v[rows], detail)
        return np.asarray(np.clip(color, 0.01, 0.95).astype(np.float32))

    def _paint(self, material: int, things: Array, u: Array, v: Array, detail: float) -> Array:
        """Factors (N, 3) or (N, 1) on the base colours of one material."""
        a, b = self._shift[things].T
        if material in (WOOD, PLANKS):
            shade = np.zeros(len(u), np.float32)
            if material == PLANKS:
                row = np.floor(u / self._plank)
                v = v + 0.618 * row  # the ends of neighbours are not in a line
                a, b = a + 17.0 * row, b + 5.0 * np.floor(v / 1.1)
                seam = (u / self._plank - row < 0.03) | (v / 1.1 % 1.0 < 0.004)
                shade = 0.35 * (self._noise(a * 3.1, b * 7.3) - 0.5) - 0.5 * detail * seam
            grain = self._noise(a + 60 * u, b + 2.5 * v) + 0.5 * self._noise(a + 200 * u, b + 9 * v)
            grain = 0.75 + detail * (grain - 0.75)
            return np.asarray((0.75 + 0.33 * grain + shade)[:, None])
        if material == TILES:
            across, along = u / self._tile, v / self._tile
            grout = (across % 1.0 < 0.03) | (along % 1.0 < 0.03)
            one = self._noise(31.7 * np.floor(across), 17.3 * np.floor(along))
            return np.asarray((0.92 + 0.16 * one - 0.45 * detail * grout)[:, None])
        if material in (FABRIC, CARPET):
            weave = self._noise(a + 180 * u, b + 180 * v) - 0.5
            folds = self._noise(a + 5 * u, b + 5 * v) - 0.5
            pattern = np.where(self._wild[0, things, 0] > 0.75, np.sign(np.sin(40 * u)), 0.0)
            return np.asarray((1 + 0.4 * detail * weave + 0.25 * folds + 0.12 * pattern)[:, None])
        if material == IMAGE:
            mix = self._noise(a + 6 * u, b + 6 * v)[:, None]
            fine = self._noise(a + 25 * u, b + 25 * v)[:, None]
            both = self._wild[0, things] * mix + self._wild[1, things] * (1 - mix)
            return np.asarray(2.2 * both * (0.6 + 0.8 * fine))
        if material == METAL:
            return np.asarray((0.85 + 0.3 * detail * self._noise(a + 4 * u, b + 150 * v))[:, None])
        stains = self._noise(a + 1.3 * u, b + 1.3 * v) - 0.5
        fine = self._noise(a + 120 * u, b + 120 * v) - 0.5
        rough = 0.10 if material == PLASTER else 0.04
        return np.asarray((1 + 0.14 * stains + rough * detail * fine)[:, None])

    def _noise(self, x: Array, y: Array) -> Array:
        """Smooth noise (N,) in 0..1 with bumps of length 1, repeating after 256."""
        column, row = np.floor(x), np.floor(y)
        fx, fy = x - column, y - row
        fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
        i, j = column.astype(np.int64) % _GRID, row.astype(np.int64) % _GRID
        k, m = (i + 1) % _GRID, (j + 1) % _GRID
        table = self._table
        upper = table[j, i] + (table[j, k] - table[j, i]) * fx
        lower = table[m, i] + (table[m, k] - table[m, i]) * fx
        return np.asarray((upper + (lower - upper) * fy).astype(np.float32))


def _material(thing: RoomObject, floor: int, wall: int) -> int:
    """What a thing is made of, from its label, its name and how brown it is."""
    red, _, blue = thing.color
    if thing.name == "rug":
        return CARPET
    if thing.label == FLOOR:
        return floor
    if thing.name == "wallpaper":
        return WOOD if red > blue + 25 else FABRIC
    if thing.label == WALL or thing.name == "ceiling":
        return wall if thing.label == WALL else PLASTER
    if thing.label == PICTURE:
        return IMAGE
    if thing.label in (SOFA, BED, CURTAIN, SHOWER_CURTAIN) or thing.name in _SOFT:
        return FABRIC
    if thing.label in (TOILET, SINK, BATHTUB):
        return GLOSS
    if thing.label == REFRIGERATOR:
        return METAL
    if "chair" in thing.name and "office" in thing.name:
        return FABRIC
    if red > blue + 25:
        return WOOD
    return PAINT if red > 70 else METAL
