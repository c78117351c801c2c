"""Floor plans: rectangles with corner blocks, joined through openings; their walls as meshes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .furniture import Rng, between, chance
from .primitives import Array, Mesh, box, grid_triangles, merge, wave

Rect = tuple[float, float, float, float]


@dataclass
class Opening:
    """A hole in a wall from `start` to `end` along it and from `low` to `high` above the floor."""

    start: float
    end: float
    low: float
    high: float


@dataclass
class Side:
    """The face of a wall: a straight run seen from inside the room.

    A point `along` metres from the start and `off` metres into the room is
    `start + along * direction + off * inward`; a piece with yaw `yaw` has its back to the wall.
    """

    start: tuple[float, float]
    yaw: float
    length: float
    openings: list[Opening] = field(default_factory=list)

    def at(self, along: float, off: float) -> tuple[float, float]:
        """Return the room position of a point of this wall's frame."""
        c, s = float(np.cos(self.yaw)), float(np.sin(self.yaw))
        return self.start[0] + along * c - off * s, self.start[1] + along * s + off * c

    def free(self, start: float, end: float, low: float, high: float, margin: float = 0.05) -> bool:
        """Whether no opening overlaps the given part of the wall."""
        return all(
            end + margin <= hole.start
            or start - margin >= hole.end
            or high <= hole.low
            or low >= hole.high
            for hole in self.openings
        )


@dataclass
class Cell:
    """One rectangular room with blocks (corner cuts, columns) taken out of it."""

    kind: str
    rect: Rect
    sides: list[Side] = field(default_factory=list)
    blocks: list[Rect] = field(default_factory=list)
    ledges: list[Side] = field(default_factory=list)
    slants: list[Rect] = field(default_factory=list)  # blocks that are cut along their diagonal

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.rect
        w, d = x1 - x0, y1 - y0
        quarter = np.pi / 2
        self.sides = [
            Side((x0, y0), 0.0, w),
            Side((x1, y0), quarter, d),
            Side((x1, y1), 2 * quarter, w),
            Side((x0, y1), -quarter, d),
        ]

    @property
    def area(self) -> float:
        """Floor area in square metres, blocks taken off."""
        x0, y0, x1, y1 = self.rect
        return (x1 - x0) * (y1 - y0) - sum((b[2] - b[0]) * (b[3] - b[1]) for b in self.blocks)

    def holds(self, rect: Rect, slack: float = 0.02) -> bool:
        """Whether a rectangle lies inside the cell and outside its blocks."""
        x0, y0, x1, y1 = self.rect
        inside = (
            rect[0] >= x0 - slack
            and rect[1] >= y0 - slack
            and rect[2] <= x1 + slack
            and rect[3] <= y1 + slack
        )
        return inside and not any(overlaps(rect, block, slack) for block in self.blocks)


def overlaps(a: Rect, b: Rect, slack: float = 0.0) -> bool:
    """Whether two rectangles share more than `slack` metres in both directions."""
    return (
        a[0] < b[2] - slack and b[0] < a[2] - slack and a[1] < b[3] - slack and b[1] < a[3] - slack
    )


@dataclass
class Plan:
    """All cells of a room, wall thickness and height in metres."""

    cells: list[Cell]
    wall: float
    height: float


def add_corner_block(rng: Rng, cell: Cell, w: float, d: float) -> None:
    """Cut a w x d block out of a random corner and offer its faces as walls."""
    x0, y0, x1, y1 = cell.rect
    corner = int(rng.integers(4))
    quarter = np.pi / 2
    if corner == 0:
        block = (x0, y0, x0 + w, y0 + d)
        faces = [Side((x0, y0 + d), 0.0, w), Side((x0 + w, y0 + d), -quarter, d)]
    elif corner == 1:
        block = (x1 - w, y0, x1, y0 + d)
        faces = [Side((x1 - w, y0 + d), 0.0, w), Side((x1 - w, y0), quarter, d)]
    elif corner == 2:
        block = (x1 - w, y1 - d, x1, y1)
        faces = [Side((x1, y1 - d), 2 * quarter, w), Side((x1 - w, y1 - d), quarter, d)]
    else:
        block = (x0, y1 - d, x0 + w, y1)
        faces = [Side((x0 + w, y1 - d), 2 * quarter, w), Side((x0 + w, y1), -quarter, d)]
    cell.blocks.append(block)
    if chance(rng, 0.25):
        cell.slants.append(block)
    else:
        cell.ledges += [face for face in faces if face.length > 0.6]
    for side in cell.sides:  # the covered part of the outer walls is gone for doors and furniture
        spans = [_project(side, block[i], block[j]) for i in (0, 2) for j in (1, 3)]
        along = [a for a, _ in spans]
        if min(off for _, off in spans) < 0.01:
            side.openings.append(Opening(min(along), max(along), -1.0, 99.0))


def _project(side: Side, x: float, y: float) -> tuple[float, float]:
    c, s = float(np.cos(side.yaw)), float(np.sin(side.yaw))
    dx, dy = x - side.start[0], y - side.start[1]
    return dx * c + dy * s, -dx * s + dy * c


def attach(
    rng: Rng, cell: Cell, kind: str, wall: float, depth: float, width: float
) -> tuple[Cell, Side, Side] | None:
    """Make a cell behind a free wall of `cell`; returns it and the two facing sides, or None."""
    index = int(rng.integers(4))
    side = cell.sides[index]
    width = min(width, side.length)
    start = between(rng, 0.0, side.length - width)
    if not side.free(start, start + width, 0.0, 2.0):
        return None
    corners = [side.at(start, -wall), side.at(start + width, -wall - depth)]
    xs, ys = sorted(c[0] for c in corners), sorted(c[1] for c in corners)
    annex = Cell(kind, (xs[0], ys[0], xs[1], ys[1]))
    return annex, side, annex.sides[(index + 2) % 4]


def facing(side: Side, other: Side, along: float) -> float:
    """Return the position on `other`, which faces `side` through a wall, of a point of `side`."""
    x, y = side.at(along, 0.0)
    return _project(other, x, y)[0]


def wall_mesh(side: Side, height: float, thick: float, rng: Rng, baseboard: float) -> Mesh:
    """The wall behind a side with its holes, its face at off = 0 and its body outside."""
    holes = sorted((h for h in side.openings if h.high < 90.0), key=lambda hole: hole.start)
    parts: list[Mesh] = []

    def panel(start: float, end: float, low: float, high: float) -> None:
        if end - start > 0.005 and high - low > 0.005:
            parts.append(box(end - start, thick, high - low, (start + end) / 2, -thick / 2, low))
            if baseboard and low == 0.0 and high > 0.3:
                parts.append(box(end - start, 0.016, baseboard, (start + end) / 2, 0.008))

    at = -thick
    for hole in holes:
        panel(at, hole.start, 0.0, height)
        panel(max(at, hole.start), hole.end, 0.0, hole.low)
        panel(max(at, hole.start), hole.end, hole.high, height)
        at = max(at, hole.end)
    panel(at, side.length + thick, 0.0, height)
    mesh = merge(parts).turned(side.yaw)
    return mesh.moved(side.start[0], side.start[1])


def floor_mesh(rect: Rect, z: float, thick: float, rng: Rng, uneven: float) -> Mesh:
    """A slightly uneven horizontal plane over a rectangle and half the wall round it."""
    x0, y0, x1, y1 = rect[0] - thick, rect[1] - thick, rect[2] + thick, rect[3] + thick
    xs, ys = np.linspace(x0, x1, 12), np.linspace(y0, y1, 12)
    u, v = np.meshgrid(xs, ys, indexing="ij")
    flat: Array = np.stack([u.ravel(), v.ravel(), np.full(u.size, z)], 1).astype(np.float32)
    if uneven:
        flat[:, 2] += uneven * wave(flat, rng, 2.5)
    return Mesh(flat, grid_triangles(12, 12))


def draw_plan(rng: Rng, kind: str, size: tuple[float, float], annexes: tuple[str, ...]) -> Plan:
    """Lay out the main cell of `kind`, corner blocks, and `annexes` joined to it by openings."""
    wall, height = between(rng, 0.08, 0.3), between(rng, 2.3, 2.95)
    w, d = size
    main = Cell(kind, (-w / 2, -d / 2, w / 2, d / 2))
    cells = [main]
    roll = rng.random()
    if roll < 0.35 and min(w, d) > 2.6:
        add_corner_block(rng, main, w * between(rng, 0.2, 0.42), d * between(rng, 0.15, 0.4))
    elif roll < 0.55:
        add_corner_block(rng, main, between(rng, 0.25, 0.6), between(rng, 0.2, 0.6))
    for annex_kind in annexes:
        sizes = {"bathroom": (1.5, 2.6), "corridor": (1.0, 2.2), "closet": (0.7, 1.2)}.get(
            annex_kind, (2.0, 3.6)
        )
        depth, width = between(rng, *sizes), between(rng, max(sizes[0], 1.2), sizes[1] + 0.4)
        for _ in range(6):
            made = attach(rng, main, annex_kind, wall, depth, width)
            if made is None or any(overlaps(made[0].rect, c.rect, -wall / 2) for c in cells[1:]):
                continue
            annex, side, other = made
            if other.length < 0.9:
                continue
            span = between(rng, 0.75, 0.95)
            if annex_kind not in ("bathroom", "closet") and chance(rng, 0.5):
                span = between(rng, 0.9, max(1.0, other.length - 0.1))
            span = min(span, other.length - 0.1)
            at = between(rng, span / 2 + 0.05, other.length - span / 2 - 0.05)
            back = facing(other, side, at)
            if not side.free(back - span / 2, back + span / 2, 0.0, 2.1):
                continue
            high = height if span > 1.3 and chance(rng, 0.5) else between(rng, 1.98, 2.12)
            other.openings.append(Opening(at - span / 2, at + span / 2, 0.0, high))
            side.openings.append(Opening(back - span / 2, back + span / 2, 0.0, high))
            cells.append(annex)
            break
    return Plan(cells, wall, height)
