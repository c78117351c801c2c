"""Triangle meshes of simple shapes, metres, z up: what all furniture is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Vector = tuple[float, float, float]

_BOX_CORNERS = np.array(
    [(x, y, z) for z in (0.0, 1.0) for y in (-0.5, 0.5) for x in (-0.5, 0.5)], np.float32
)
_BOX_TRIANGLES = np.array(
    [
        (0, 2, 1), (1, 2, 3), (4, 5, 6), (5, 7, 6), (0, 1, 4), (1, 5, 4),
        (2, 6, 3), (3, 6, 7), (0, 4, 2), (2, 4, 6), (1, 3, 5), (3, 7, 5),
    ],
    np.int32,
)  # fmt: skip


@dataclass(frozen=True)
class Mesh:
    """Triangles: `vertices (V, 3)` float32 metres, `triangles (T, 3)` int32 indices."""

    vertices: Array
    triangles: Array

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
        """Return the mesh shifted by x, y, z metres."""
        return Mesh(self.vertices + np.array((x, y, z), np.float32), self.triangles)

    def turned(self, yaw: float) -> Mesh:
        """Return the mesh turned by `yaw` radians about z."""
        return Mesh(self.vertices @ _rotation(2, yaw).T, self.triangles)

    def tilted(self, angle: float, axis: int = 0, about: Vector = (0.0, 0.0, 0.0)) -> Mesh:
        """Return the mesh turned by `angle` radians about an axis (0 x, 1 y) through `about`."""
        pivot = np.array(about, np.float32)
        return Mesh((self.vertices - pivot) @ _rotation(axis, angle).T + pivot, self.triangles)

    def scaled(self, x: float, y: float, z: float) -> Mesh:
        """Return the mesh scaled per axis about the origin."""
        return Mesh(self.vertices * np.array((x, y, z), np.float32), self.triangles)

    def roughened(self, rng: np.random.Generator, height: float, length: float) -> Mesh:
        """Return the mesh bent by smooth noise of about `height` m over `length` m."""
        return Mesh(self.vertices + bend(self.vertices, rng, height, length), self.triangles)


def _rotation(axis: int, angle: float) -> Array:
    c, s = float(np.cos(angle)), float(np.sin(angle))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3, dtype=np.float32)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def merge(meshes: Iterable[Mesh]) -> Mesh:
    """Return one mesh that holds all triangles of `meshes`."""
    parts = list(meshes)
    if not parts:
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate(
            [part.triangles + np.int32(start) for part, start in zip(parts, offsets, strict=True)]
        ),
    )


def wave(points: Array, rng: np.random.Generator, length: float, waves: int = 5) -> Array:
    """Return smooth noise (N,), deviation about 1, at `points (N, D)`; bumps `length` m apart."""
    directions = rng.normal(size=(points.shape[1], waves))
    directions /= np.maximum(np.linalg.norm(directions, axis=0), 1e-9)
    directions *= (2 * np.pi / length) * rng.uniform(0.5, 1.5, waves)
    phases = points @ directions.astype(np.float32) + rng.uniform(0, 2 * np.pi, waves)
    noise: Array = np.sin(phases).sum(1) * np.float32(np.sqrt(2.0 / waves))
    return noise.astype(np.float32)


def bend(points: Array, rng: np.random.Generator, height: float, length: float) -> Array:
    """Return smooth displacements (N, 3) float32, about `height` m each, at `points (N, 3)`."""
    return np.stack([wave(points, rng, length) for _ in range(3)], 1) * np.float32(height)


def box(w: float, d: float, h: float, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
    """Box of width (x), depth (y), height (z); x, y is its middle and z its bottom."""
    size, at = np.array((w, d, h), np.float32), np.array((x, y, z), np.float32)
    return Mesh(_BOX_CORNERS * size + at, _BOX_TRIANGLES)


@cache
def grid_triangles(rows: int, columns: int, closed: bool = False) -> Array:
    """Triangles of a rows x columns vertex grid; `closed` joins the last column to the first.

    The array is shared and cannot be written to.
    """
    spans = columns if closed else columns - 1
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(spans), indexing="ij")
    a, b = r * columns + c, r * columns + (c + 1) % columns
    below, right = a + columns, b + columns
    faces = np.stack([np.stack([a, b, below], -1), np.stack([b, right, below], -1)])
    triangles: Array = faces.reshape(-1, 3).astype(np.int32)
    triangles.flags.writeable = False
    return triangles


def lathe(
    profile: Sequence[tuple[float, float]],
    x: float = 0.0,
    y: float = 0.0,
    z: float = 0.0,
    sides: int = 14,
    stretch: float = 1.0,
) -> Mesh:
    """Turn a profile of (radius, height) about z; `stretch` scales y to make it oval."""
    rz = np.array(profile, np.float32)
    angle = np.arange(sides, dtype=np.float32) * np.float32(2 * np.pi / sides)
    ring = np.stack([np.cos(angle), np.sin(angle) * stretch, np.zeros(sides)], 1)
    vertices = ring[None] * rz[:, None, :1]
    vertices[..., 2] = rz[:, None, 1]
    at = np.array((x, y, z), np.float32)
    return Mesh(
        (vertices.reshape(-1, 3) + at).astype(np.float32), grid_triangles(len(rz), sides, True)
    )


def cylinder(
    radius: float,
    h: float,
    x: float = 0.0,
    y: float = 0.0,
    z: float = 0.0,
    top: float | None = None,
    sides: int = 10,
    stretch: float = 1.0,
) -> Mesh:
    """Closed upright cylinder, or a cone with radius `top` at its upper end."""
    upper = radius if top is None else top
    return lathe([(0, 0), (radius, 0), (upper, h), (0, h)], x, y, z, sides, stretch)


def tube(start: Vector, end: Vector, radius: float, sides: int = 6) -> Mesh:
    """Round bar between two points."""
    a, b = np.array(start, np.float32), np.array(end, np.float32)
    axis = (b - a) / max(float(np.linalg.norm(b - a)), 1e-6)
    helper = np.array((1, 0, 0) if abs(axis[2]) > 0.9 else (0, 0, 1), np.float32)
    u = np.cross(axis, helper)
    u /= np.linalg.norm(u)
    v = np.cross(axis, u)
    angle = np.arange(sides) * (2 * np.pi / sides)
    ring = radius * (np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v)
    return Mesh(
        np.concatenate([a + ring, b + ring]).astype(np.float32), grid_triangles(2, sides, True)
    )


def lump(
    w: float,
    d: float,
    h: float,
    rng: np.random.Generator,
    x: float = 0.0,
    y: float = 0.0,
    z: float = 0.0,
    square: float = 0.6,
    rough: float = 0.08,
    detail: int = 10,
) -> Mesh:
    """Irregular rounded body in a box of w, d, h.

    `square` goes from 0.15 (nearly a box) over 1 (an ellipsoid) to more pointed; `rough` is the
    height of the bumps as a share of the size.
    """
    rows = max(5, detail * 2 // 3)
    lat = np.linspace(-np.pi / 2, np.pi / 2, rows)[:, None]
    lon = (np.arange(detail) * (2 * np.pi / detail))[None]

    def power(value: Array) -> Array:
        return np.sign(value) * np.abs(value) ** square

    xyz = np.stack(
        [
            power(np.cos(lat)) * power(np.cos(lon)),
            power(np.cos(lat)) * power(np.sin(lon)),
            power(np.sin(lat)) * np.ones_like(lon),
        ],
        -1,
    ).reshape(-1, 3)
    if rough > 0:
        xyz = xyz * (1 + rough * wave(xyz.astype(np.float32), rng, 1.6)[:, None])
    xyz = xyz * (w / 2, d / 2, h / 2) + (x, y, z + h / 2)
    xyz[:, 2] = np.maximum(xyz[:, 2], z)
    return Mesh(xyz.astype(np.float32), grid_triangles(rows, detail, True))


def cushion(
    w: float,
    d: float,
    h: float,
    rng: np.random.Generator,
    x: float = 0.0,
    y: float = 0.0,
    z: float = 0.0,
    rough: float = 0.04,
) -> Mesh:
    """Rounded box with slightly uneven faces: upholstery, pillows, mattresses."""
    return lump(w, d, h, rng, x, y, z, float(rng.uniform(0.2, 0.5)), 1.3 * rough, 16)


def drape(
    w: float,
    d: float,
    z: float,
    drop: float,
    rng: np.random.Generator,
    bumps: float = 0.02,
    step: float = 0.07,
) -> Mesh:
    """Blanket over a block of w x d whose top is at `z`; it hangs down `drop` m on all sides."""
    us = np.linspace(-w / 2 - drop, w / 2 + drop, max(5, int((w + 2 * drop) / step)))
    vs = np.linspace(-d / 2 - drop, d / 2 + drop, max(5, int((d + 2 * drop) / step)))
    u, v = np.meshgrid(us, vs, indexing="ij")
    flat = np.stack([u.ravel(), v.ravel()], 1).astype(np.float32)
    rough = wave(flat, rng, 0.45) + 0.6 * wave(flat, rng, 0.2)
    over = np.maximum(np.abs(u) - w / 2, 0) + np.maximum(np.abs(v) - d / 2, 0)
    out = 0.02 + bumps * 0.5 * rough.reshape(u.shape)
    xs = np.where(over > 0, np.clip(u, -w / 2 - out, w / 2 + out), u)
    ys = np.where(over > 0, np.clip(v, -d / 2 - out, d / 2 + out), v)
    zs = z + bumps * np.abs(rough.reshape(u.shape)) - np.minimum(over, drop)
    return Mesh(
        np.stack([xs.ravel(), ys.ravel(), zs.ravel()], 1).astype(np.float32),
        grid_triangles(len(us), len(vs)),
    )


def hanging_sheet(
    w: float,
    h: float,
    depth: float,
    fold: float,
    rng: np.random.Generator,
    x: float = 0.0,
    y: float = 0.0,
    z: float = 0.0,
) -> Mesh:
    """Hanging cloth, w wide along x, with folds `depth` deep every `fold` m."""
    columns, rows = max(4, int(w / max(fold / 5, 0.02))), 4
    us = np.linspace(-w / 2, w / 2, columns)
    phase = np.cumsum(rng.uniform(0.6, 1.4, columns)) * (w / columns) * 2 * np.pi / fold
    heights = np.linspace(0, h, rows)
    flare = np.linspace(1.2, 0.7, rows)[:, None]
    ys = depth * flare * (np.sin(phase)[None] + 0.3 * np.sin(0.37 * phase + 1)[None])
    vertices = np.stack(
        [
            np.broadcast_to(us, ys.shape) + x,
            ys + y,
            np.broadcast_to(heights[:, None], ys.shape) + z,
        ],
        -1,
    )
    return Mesh(vertices.reshape(-1, 3).astype(np.float32), grid_triangles(rows, columns))


def prism(outline: Sequence[tuple[float, float]], h: float, z: float = 0.0) -> Mesh:
    """Upright prism over a convex counter-clockwise outline of (x, y)."""
    flat = np.array(outline, np.float32)
    count = len(flat)
    bottom = np.column_stack([flat, np.full(count, z, np.float32)])
    top = np.column_stack([flat, np.full(count, z + h, np.float32)])
    fan = np.array([(0, k, k + 1) for k in range(1, count - 1)], np.int32)
    sides = grid_triangles(2, count, True)
    return Mesh(
        np.concatenate([bottom, top]).astype(np.float32),
        np.concatenate([fan[:, ::-1], fan + count, sides]),
    )


def tray(
    w: float,
    d: float,
    h: float,
    rim: float,
    floor: float,
    x: float = 0.0,
    y: float = 0.0,
    z: float = 0.0,
) -> Mesh:
    """Box open at the top with walls `rim` thick and a bottom `floor` thick."""
    return merge(
        [
            box(w, rim, h, x, y - d / 2 + rim / 2, z),
            box(w, rim, h, x, y + d / 2 - rim / 2, z),
            box(rim, d, h, x - w / 2 + rim / 2, y, z),
            box(rim, d, h, x + w / 2 - rim / 2, y, z),
            box(w, d, floor, x, y, z),
        ]
    )
