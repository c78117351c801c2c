"""Small things: on every surface of what has been placed, and on the floor between it."""

from __future__ import annotations

import numpy as np

from . import clutter
from .furniture import between, chance
from .model import BED, CHAIR, COUNTER, DESK, IGNORED, SOFA, TABLE, Surface
from .placing import Placed, Placer, footprint
from .plan import Cell, Rect, overlaps


def clutter_all(placer: Placer, amount: float) -> None:
    """Scatter small things over everything placed so far, suited to each piece."""
    for placed in list(placer.placed):
        piece = placed.piece
        labels = {part.label for part in piece.parts}
        table = "any"
        if piece.label == DESK:
            table = "desk"
        elif piece.label == TABLE:
            table = "table"
        elif COUNTER in labels or "kitchen" in piece.name:
            table = "kitchen"
        elif piece.label in (BED, SOFA, CHAIR):
            table = "soft"
        scatter(placer, placed, table, amount)


def scatter(placer: Placer, placed: Placed, table: str, amount: float = 1.0) -> None:
    """Lay small things on every surface of a piece."""
    for surface in placed.piece.surfaces:
        kind = "floor" if surface.z < 0.01 and placed.z < 0.01 else table
        _scatter_on(placer, placed, surface, clutter.ON_TOP[kind], amount)


def _scatter_on(
    placer: Placer,
    placed: Placed,
    surface: Surface,
    table: tuple[tuple[clutter.Maker, float], ...],
    amount: float,
) -> None:
    rng = placer.rng
    area = max(surface.w, 0.01) * max(surface.d, 0.01)
    count = int(rng.poisson(min(20.0, amount * surface.mess * (1.0 + 9.0 * area))))
    taken: list[Rect] = []
    air = min(surface.free, placer.plan.height - 0.03 - placed.z - surface.z)
    for _ in range(count):
        for scale in (between(rng, 0.7, 1.25), 0.5):  # a smaller thing may still fit
            piece = clutter.choose(rng, table)(rng, scale)
            turned = between(rng, -0.5, 0.5) + (np.pi / 2 if piece.w > surface.w else 0.0)
            reach = footprint(piece, 0.0, 0.0, turned, -0.1 * min(piece.w, piece.d))[2:]
            if piece.h <= air and _fits(reach, surface):
                break
        else:
            continue
        x = surface.x + between(rng, -1, 1) * max(surface.w / 2 - reach[0], 0.0)
        y = surface.y + between(rng, -1, 1) * max(surface.d / 2 - reach[1], 0.0)
        rect = footprint(piece, x, y, turned, -0.1 * min(piece.w, piece.d))
        if any(overlaps(rect, other) for other in taken):
            continue
        taken.append(rect)
        wx, wy = placed.at(x, y)
        merged = placed.instance > 0 and placed.piece.label != IGNORED
        merged = merged and piece.label == IGNORED and piece.h < 0.35 and chance(rng, 0.25)
        placer.put(
            piece,
            wx,
            wy,
            placed.z + surface.z,
            placed.yaw + turned,
            solid=False,
            host=placed if merged else None,
        )


def litter(placer: Placer, cell: Cell, count: int) -> None:
    """Put things on the floor, mostly at walls and beside furniture."""
    rng = placer.rng
    for _ in range(count):
        piece = clutter.choose(rng, clutter.FLOOR)(rng)
        if chance(rng, 0.7):
            placer.against(cell, piece, tries=8, gap=(0.0, 0.25), turn=0.4)
        else:
            placer.inside(cell, piece, tries=6, margin=0.02, anywhere=True)


def _fits(reach: tuple[float, float], surface: Surface) -> bool:
    """Whether half a footprint (x, y) fits a surface, or hangs over it a little."""
    return 2 * reach[0] <= 1.1 * surface.w + 0.02 and 2 * reach[1] <= 1.1 * surface.d + 0.02
