"""What a furnished room is made of, and what a scan of it gives."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from sas_training.evaluation.labels import SCANNET20

from .primitives import Array, Mesh, merge

WALL, FLOOR, CABINET, BED, CHAIR, SOFA, TABLE, DOOR, WINDOW, BOOKSHELF = range(10)
PICTURE, COUNTER, DESK, CURTAIN, REFRIGERATOR, SHOWER_CURTAIN, TOILET, SINK = range(10, 18)
BATHTUB, OTHERFURNITURE = 18, 19
IGNORED = SCANNET20.ignore_id

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Part:
    """A mesh with one label. Parts of a piece that share `name` and `label` are one instance.

    `seen` is the chance that a depth ray which hits the part returns a depth at all.
    """

    mesh: Mesh
    label: int
    name: str
    color: Color = (150, 150, 150)
    seen: float = 1.0


@dataclass(frozen=True)
class Surface:
    """A horizontal rectangle that carries things: middle x, y; size w x d; height z; room above."""

    x: float
    y: float
    w: float
    d: float
    z: float
    free: float = 1.0
    mess: float = 0.6


@dataclass
class Piece:
    """A piece of furniture in its own frame.

    The origin is the middle of the footprint on the floor; x is the width, the back is at
    y = -depth / 2 and the front looks along +y.
    """

    name: str
    label: int
    w: float
    d: float
    h: float
    parts: list[Part] = field(default_factory=list)
    surfaces: list[Surface] = field(default_factory=list)
    color: Color = (150, 150, 150)

    def add(self, *meshes: Mesh, color: Color | None = None) -> Piece:
        """Add meshes that belong to the piece itself; returns the piece."""
        mesh = merge(meshes)
        self.parts.append(Part(mesh, self.label, self.name, color or self.color))
        return self

    def add_other(
        self, mesh: Mesh, label: int, name: str, color: Color = (150, 150, 150), seen: float = 1.0
    ) -> Piece:
        """Add something with a label of its own, such as a pillow or a sink; returns the piece."""
        self.parts.append(Part(mesh, label, name, color, seen))
        return self

    def top(self, z: float | None = None, mess: float = 0.6, free: float = 1.0) -> Piece:
        """Declare the footprint at height `z` (default: the top) a surface; returns the piece."""
        height = self.h if z is None else z
        self.surfaces.append(Surface(0.0, 0.0, self.w * 0.95, self.d * 0.92, height, free, mess))
        return self

    def join(
        self, other: Piece, x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0
    ) -> None:
        """Put the parts of another piece at x, y, z of this one."""
        for part in other.parts:
            self.parts.append(replace(part, mesh=part.mesh.turned(yaw).moved(x, y, z)))


@dataclass(frozen=True)
class RoomObject:
    """One labelled thing in room coordinates.

    `instance` counts from 1; 0 is structure (walls, floor, ceiling). `label` is 0..19 or 255.
    """

    mesh: Mesh
    label: int
    instance: int
    name: str
    color: Color
    seen: float = 1.0

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper corner (3,) of the axis-aligned box, metres."""
        return self.mesh.vertices.min(0), self.mesh.vertices.max(0)


@dataclass(frozen=True)
class Room:
    """A furnished room, metres, z up, floor at z = 0.

    `areas` are the rectangles (x0, y0, x1, y1) where somebody could walk if there were no
    furniture; `blocked` are the boxes (x0, y0, x1, y1, z0, z1) that are taken.
    """

    kind: str
    objects: tuple[RoomObject, ...]
    areas: tuple[tuple[float, float, float, float], ...]
    blocked: Array
    height: float

    @property
    def names(self) -> tuple[str, ...]:
        """The finer name of every instance; index 0 is "structure"."""
        names = {thing.instance: thing.name for thing in self.objects if thing.instance > 0}
        return ("structure", *(names[k] for k in sorted(names)))


@dataclass(frozen=True)
class LabelledScan:
    """What a depth camera saw of a room.

    points (N, 3) float32 metres, z up; labels (N,) int64, 0..19 or 255; instances (N,) int32, 0 for
    structure; colors (N, 3) uint8; names: the finer name of every instance, index 0 "structure".
    """

    points: Array
    labels: Array
    instances: Array
    colors: Array
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.points)

    def picked(self, rows: Array) -> LabelledScan:
        """Return the points chosen by indices or a mask."""
        return replace(
            self,
            points=self.points[rows],
            labels=self.labels[rows],
            instances=self.instances[rows],
            colors=self.colors[rows],
        )


def shuffled_rows(count: int, most: int, rng: np.random.Generator) -> Array:
    """Return at most `most` of `count` row numbers in ascending order, chosen at random."""
    if count <= most:
        return np.arange(count)
    return np.sort(rng.choice(count, most, replace=False))
