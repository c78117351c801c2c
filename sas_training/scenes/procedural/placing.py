"""Putting furniture into a plan: against walls, beside other pieces, and clutter on everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import catalogue
from .furniture import Rng, between, chance
from .model import (
    IGNORED,
    Color,
    Piece,
    RoomObject,
)
from .plan import Cell, Plan, Rect, Side, overlaps
from .primitives import Mesh

Block = tuple[float, float, float, float, float, float]


@dataclass
class Placed:
    """A piece that has found its place; `block` is its row in the list of taken boxes."""

    piece: Piece
    x: float
    y: float
    z: float
    yaw: float
    block: int
    instance: int = 0  # of the piece itself

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the room position of a point of the piece's own frame."""
        c, s = float(np.cos(self.yaw)), float(np.sin(self.yaw))
        return self.x + c * x - s * y, self.y + s * x + c * y


def footprint(piece: Piece, x: float, y: float, yaw: float, margin: float = 0.0) -> Rect:
    """Axis-aligned rectangle round a turned piece."""
    c, s = abs(float(np.cos(yaw))), abs(float(np.sin(yaw)))
    w = (c * piece.w + s * piece.d) / 2 + margin
    d = (s * piece.w + c * piece.d) / 2 + margin
    return x - w, y - d, x + w, y + d


class Placer:
    """Collects the objects of one room and knows what space is taken."""

    def __init__(self, rng: Rng, plan: Plan) -> None:
        self.rng = rng
        self.plan = plan
        self.objects: list[RoomObject] = []
        self.taken: list[Block] = []
        self.clear: list[Block] = []  # no furniture here, but somebody may walk through
        self.placed: list[Placed] = []
        self._instances = 0

    def structure(self, mesh: Mesh, label: int, name: str, color: Color, seen: float = 1.0) -> None:
        """Add something without an instance: walls, floor, ceiling."""
        self.objects.append(RoomObject(mesh, label, 0, name, color, seen))

    def free(self, rect: Rect, low: float, high: float, ignore: Sequence[int] = ()) -> bool:
        """Whether the box over `rect` from `low` to `high` touches nothing that is taken."""
        boxes = [box for k, box in enumerate(self.taken) if k not in ignore] + self.clear
        return not any(
            low < box[5] - 0.01 and box[4] < high - 0.01 and overlaps(rect, box[:4], 0.01)
            for box in boxes
        )

    def put(
        self,
        piece: Piece,
        x: float,
        y: float,
        z: float,
        yaw: float,
        solid: bool = True,
        host: Placed | None = None,
    ) -> Placed:
        """Put a piece somewhere without asking; every differently named part is an instance.

        With a `host` the piece carries its label and instance, as what annotators did not bother
        to tell from the table it lies on.
        """
        instances: dict[tuple[str, int], int] = {}
        # Some things return few depths, as dark or shiny ones do; of their colour it says nothing.
        dark = between(self.rng, 0.3, 0.8) if chance(self.rng, 0.04) else 1.0
        for part in piece.parts:
            if not len(part.mesh.triangles):
                continue
            mesh = part.mesh.turned(yaw).moved(x, y, z)
            if host is not None:
                self.objects.append(
                    RoomObject(
                        mesh, host.piece.label, host.instance, host.piece.name, part.color, dark
                    )
                )
                continue
            own = part.name == piece.name and part.label == piece.label
            if own or part.label != IGNORED:
                key = (part.name, part.label)
            else:  # pillows and clothes are things of their own, the slabs of a counter are not
                key = (part.name, -1 - len(instances))
            if key not in instances:
                self._instances += 1
                instances[key] = self._instances
            self.objects.append(
                RoomObject(
                    mesh, part.label, instances[key], part.name, part.color, part.seen * dark
                )
            )
        block = -1
        if solid:
            block = len(self.taken)
            self.taken.append((*footprint(piece, x, y, yaw), z, z + piece.h))
        own_instance = instances.get((piece.name, piece.label), 0)
        placed = Placed(piece, x, y, z, yaw, block, own_instance)
        self.placed.append(placed)
        return placed

    def against(
        self,
        cell: Cell,
        name: str | Piece,
        sides: Sequence[Side] | None = None,
        tries: int = 16,
        gap: tuple[float, float] = (0.0, 0.07),
        front: float = 0.0,
        turn: float = 0.03,
    ) -> Placed | None:
        """Try to put a piece with its back to a wall; `front` metres before it must be free too."""
        runs = list(sides) if sides is not None else [*cell.sides, *cell.ledges]
        longest = max(run.length for run in runs) - 0.05
        if not isinstance(name, str):
            return self._slide(cell, name, runs, tries, gap, front, turn)
        for share in (1.0, 0.7, 0.5):  # a smaller one may still find a place
            piece = self._make(name, longest * share)
            placed = self._slide(cell, piece, runs, tries, gap, front * share, turn)
            if placed is not None:
                return placed
        return None

    def _slide(
        self,
        cell: Cell,
        piece: Piece,
        runs: Sequence[Side],
        tries: int,
        gap: tuple[float, float],
        front: float,
        turn: float,
    ) -> Placed | None:
        """Try positions along the given walls; in the second half further into the room."""
        rng = self.rng
        lengths = np.array([run.length for run in runs])
        for attempt in range(tries):
            side = runs[int(rng.choice(len(runs), p=lengths / lengths.sum()))]
            room = side.length - piece.w
            if room < 0.0:
                continue
            along = piece.w / 2 + between(rng, 0.0, room)
            snap = rng.random()
            if snap < 0.2:
                along = piece.w / 2 + min(room, between(rng, 0.0, 0.06))
            elif snap < 0.4:
                along = side.length - piece.w / 2 - min(room, between(rng, 0.0, 0.06))
            if not side.free(along - piece.w / 2, along + piece.w / 2, 0.0, piece.h, 0.02):
                continue
            askew = float(rng.normal(0, turn))
            deep = footprint(piece, 0.0, 0.0, askew)[3]
            off = deep + 0.015 + between(rng, *gap) + (0.22 if attempt > tries // 2 else 0.0)
            x, y = side.at(along, off)
            rect = footprint(piece, x, y, side.yaw + askew)
            if not cell.holds(rect, 0.04):
                continue
            xf, yf = side.at(along, off + front / 2)
            grown = Piece(piece.name, piece.label, piece.w, piece.d + front, piece.h)
            if self.free(footprint(grown, xf, yf, side.yaw + askew), 0.0, piece.h):
                return self.put(piece, x, y, 0.0, side.yaw + askew)
        return None

    def _make(self, name: str, widest: float = 99.0) -> Piece:
        """A piece of the catalogue that fits under the ceiling."""
        return catalogue.make(name, self.rng, widest, self.plan.height - 0.03)

    def in_corner(self, cell: Cell, name: str) -> Placed | None:
        """Try to put a piece askew into a corner of a cell, facing the middle."""
        rng, (x0, y0, x1, y1) = self.rng, cell.rect
        piece = self._make(name, 1.4)
        reach = (piece.w + piece.d) / 2 * 0.7071 + 0.03
        corner = int(rng.integers(4))
        x = x0 + reach if corner in (0, 3) else x1 - reach
        y = y0 + reach if corner in (0, 1) else y1 - reach
        yaw = (-0.25, 0.25, 0.75, -0.75)[corner] * np.pi
        rect = footprint(piece, x, y, yaw, -0.05)
        if not cell.holds(rect) or not self.free(rect, 0.0, piece.h):
            return None
        return self.put(piece, x, y, 0.0, yaw)

    def inside(
        self,
        cell: Cell,
        name: str | Piece,
        tries: int = 14,
        margin: float = 0.35,
        anywhere: bool = False,
    ) -> Placed | None:
        """Try to put a piece free in the room, `margin` metres from walls and other pieces."""
        rng = self.rng
        x0, y0, x1, y1 = cell.rect
        piece = self._make(name, max(x1 - x0, y1 - y0) - 1.0) if isinstance(name, str) else name
        for _ in range(tries):
            yaw = (
                between(rng, 0, 6.3)
                if anywhere
                else int(rng.integers(4)) * np.pi / 2 + float(rng.normal(0, 0.06))
            )
            x, y = between(rng, x0, x1), between(rng, y0, y1)
            rect = footprint(piece, x, y, yaw, margin)
            if cell.holds(rect) and self.free(rect, 0.0, piece.h):
                return self.put(piece, x, y, 0.0, yaw)
        return None

    def near(
        self,
        cell: Cell,
        host: Placed,
        name: str | Piece,
        x: float,
        y: float,
        yaw: float = 0.0,
        under: bool = False,
    ) -> Placed | None:
        """Try to put a piece at x, y, yaw of a host; with `under` it may overlap the host."""
        piece = self._make(name) if isinstance(name, str) else name
        wx, wy = host.at(x, y)
        turned = host.yaw + yaw
        rect = footprint(piece, wx, wy, turned, -0.03)
        if not cell.holds(rect, 0.03) or not self.free(
            rect, 0.0, piece.h, (host.block,) if under else ()
        ):
            return None
        return self.put(piece, wx, wy, 0.0, turned)

    def on_wall(
        self,
        cell: Cell,
        piece: Piece,
        low: tuple[float, float],
        tries: int = 10,
        deep: float = 0.08,
    ) -> Placed | None:
        """Try to hang a piece on a wall with its lower edge between two heights."""
        rng = self.rng
        runs = [side for side in [*cell.sides, *cell.ledges] if side.length > piece.w + 0.1]
        for _ in range(tries if runs else 0):
            side = runs[int(rng.integers(len(runs)))]
            along = between(rng, piece.w / 2 + 0.03, side.length - piece.w / 2 - 0.03)
            z = between(rng, *low)
            if z + piece.h > self.plan.height - 0.05:
                z = max(low[0], self.plan.height - 0.05 - piece.h)
            if not side.free(along - piece.w / 2, along + piece.w / 2, z, z + piece.h):
                continue
            if self.free(wall_rect(side, along, piece.w, deep), z, z + piece.h):
                return self.hang(side, along, piece, z, deep)
        return None

    def hang(self, side: Side, along: float, piece: Piece, z: float, deep: float) -> Placed:
        """Hang a piece at a position of a wall and take the space before it."""
        x, y = side.at(along, 0.0)
        placed = self.put(piece, x, y, z, side.yaw, solid=False)
        placed.block = len(self.taken)
        self.taken.append((*wall_rect(side, along, piece.w, deep), z, z + piece.h))
        return placed

    def filled(self, cell: Cell) -> float:
        """Share of the cell's floor that solid furniture covers."""
        covered = 0.0
        for placed in self.placed:
            if placed.block >= 0 and placed.z == 0.0 and placed.piece.h > 0.2:
                x0, y0, x1, y1 = self.taken[placed.block][:4]
                if (
                    cell.rect[0] - 0.1 <= x0
                    and cell.rect[1] - 0.1 <= y0
                    and x1 <= cell.rect[2] + 0.1
                ):
                    covered += (x1 - x0) * (y1 - y0) if y1 <= cell.rect[3] + 0.1 else 0.0
        return covered / max(cell.area, 0.1)


def wall_rect(side: Side, along: float, w: float, deep: float) -> Rect:
    """Rectangle in front of a part of a wall, `deep` metres into the room."""
    a, b = side.at(along - w / 2, 0.0), side.at(along + w / 2, deep)
    return min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])
