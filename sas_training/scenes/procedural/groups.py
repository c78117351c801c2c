"""Furniture that belongs together: tables and chairs, desks, beds, sofas and what is near."""

from __future__ import annotations

import numpy as np

from . import catalogue, clutter, wall_things
from .furniture import Rng, between, chance
from .placing import Placed, Placer
from .plan import Cell, Side


def one_of(rng: Rng, *names: str) -> str:
    """One of the names, each as likely."""
    return names[int(rng.integers(len(names)))]


def seat_at(table: Placed, name: str) -> str:
    """The seat that fits a table: bar stools where it is high, else the named one."""
    return "bar stool" if table.piece.h > 0.87 else name


def chairs_round(p: Placer, cell: Cell, table: Placed, kind: str, share: float) -> None:
    """Chairs round a table: one per 60 cm of each side, some pushed in, some turned away."""
    w, d = table.piece.w, table.piece.d
    for width, depth, yaw in ((w, d, 0.0), (w, d, np.pi), (d, w, np.pi / 2), (d, w, -np.pi / 2)):
        seats = max(1, int(width / 0.62)) if width > 0.55 else 0
        for k in range(seats):
            if not chance(p.rng, share):
                continue
            x = width * ((k + 0.5) / seats - 0.5) + between(p.rng, -0.06, 0.06)
            y = -depth / 2 - between(p.rng, -0.15, 0.35)
            c, s = float(np.cos(yaw)), float(np.sin(yaw))
            swing = float(p.rng.normal(0, 0.25)) if chance(p.rng, 0.85) else between(p.rng, -3, 3)
            p.near(cell, table, kind, c * x - s * y, s * x + c * y, yaw + swing, under=True)


def desk_place(p: Placer, cell: Cell, sides: list[Side] | None = None) -> Placed | None:
    """A desk with its back to a wall, a chair before it and mostly a screen on it."""
    rng = p.rng
    name = one_of(rng, "desk", "desk", "desk", "desk", "long desk", "corner desk")
    place = p.against(cell, name, sides, front=0.35, gap=(0.0, 0.04), turn=0.015)
    if place is None:
        return None
    if chance(rng, 0.9):
        kind = one_of(rng, "office chair", "office chair", "office chair", "chair", "folding chair")
        x, y = (
            between(rng, -0.2, 0.2) * place.piece.w,
            place.piece.d / 2 + between(rng, -0.05, 0.45),
        )
        if name == "corner desk":
            x, y = 0.0, 0.15
        turn = np.pi + float(rng.normal(0, 0.5))
        p.near(cell, place, kind, x, y, turn, under=True)
    if name != "corner desk" and chance(rng, 0.75):
        back = -place.piece.d / 2 + 0.18
        seats = max(1, int(place.piece.w / 1.3))
        for k in range(seats):
            x = place.piece.w * ((k + 0.5) / seats - 0.5) + between(rng, -0.1, 0.1)
            for thing, away in ((clutter.monitor(rng), 0.0), (clutter.keyboard(rng), 0.28)):
                at = place.at(x, back + away)
                turn = place.yaw + float(rng.normal(0, 0.15))
                p.put(thing, *at, place.piece.h, turn, solid=False)
    return place


def bed_place(p: Placer, cell: Cell, name: str, twin: bool = False) -> Placed | None:
    """A bed with its head to a wall and what stands beside it; with `twin` perhaps its like."""
    rng = p.rng
    bed = p.against(cell, name, tries=24, front=0.15)
    if bed is None and name == "double bed":
        bed = p.against(cell, "single bed", tries=20)
    if bed is not None and twin:
        other = catalogue.make(name, rng, bed.piece.w + 0.02)
        gap = (bed.piece.w + other.w) / 2 + between(rng, 0.45, 0.9)
        shift = (other.d - bed.piece.d) / 2
        if p.near(cell, bed, other, gap, shift) is None:
            p.near(cell, bed, other, -gap, shift)
    if bed is not None:
        for side in (-1, 1):
            if chance(rng, 0.6):
                stand = catalogue.make(
                    one_of(rng, "nightstand", "nightstand", "nightstand", "stool", "side table"),
                    rng,
                )
                x = side * (bed.piece.w / 2 + stand.w / 2 + between(rng, 0.02, 0.12))
                p.near(cell, bed, stand, x, -bed.piece.d / 2 + stand.d / 2 + 0.03)
        if chance(rng, 0.15):
            p.near(cell, bed, one_of(rng, "bench", "ottoman"), 0.0, bed.piece.d / 2 + 0.3)
    return bed


def sofa_group(p: Placer, cell: Cell) -> None:
    """A sofa with a low table, armchairs and side tables, and perhaps a television opposite."""
    rng = p.rng
    name = one_of(rng, "sofa", "sofa", "corner sofa", "loveseat")
    sofa = (
        p.inside(cell, name, margin=0.3)
        if chance(rng, 0.25)
        else p.against(cell, name, front=0.4, tries=18)
    )
    if sofa is None:
        sofa = p.against(cell, "loveseat", front=0.2)
    if sofa is None:
        return
    ahead = sofa.piece.d / 2 + between(rng, 0.3, 0.7)
    if name == "corner sofa":
        ahead = between(rng, 0.1, 0.5)
    if chance(rng, 0.9):
        low = catalogue.make(
            one_of(
                rng,
                "coffee table",
                "coffee table",
                "coffee table",
                "round coffee table",
                "padded coffee table",
                "ottoman",
            ),
            rng,
        )
        p.near(cell, sofa, low, between(rng, -0.3, 0.3), ahead + low.d / 2)
    for side in (-1, 1):
        if chance(rng, 0.4):
            p.near(cell, sofa, "side table", side * (sofa.piece.w / 2 + 0.35), -sofa.piece.d * 0.2)
        if chance(rng, 0.45):
            kind = one_of(rng, "armchair", "armchair", "sofa chair", "ottoman")
            away = (sofa.piece.w / 2 + between(rng, 0.3, 0.8), ahead + between(rng, 0.2, 0.9))
            p.near(cell, sofa, kind, side * away[0], away[1], side * between(rng, 0.6, 1.9))
    if chance(rng, 0.6):
        stand = p.against(cell, "tv stand")
        if stand is not None and chance(rng, 0.6):
            w = min(stand.piece.w, between(rng, 0.7, 1.3))
            x, y = stand.at(0.0, 0.0)
            p.put(
                wall_things.wall_screen(rng, w, w * 0.58),
                x,
                y,
                stand.piece.h + 0.05,
                stand.yaw,
                solid=False,
            )


def storage_row(p: Placer, cell: Cell, count: int, *names: str) -> None:
    """So many of the named pieces along the walls."""
    for _ in range(count):
        p.against(cell, one_of(p.rng, *names))


def dining(p: Placer, cell: Cell) -> None:
    """A table with chairs round it, mostly free in the room."""
    rng = p.rng
    name = one_of(
        rng,
        "table",
        "table",
        "table",
        "table",
        "round table",
        "round table",
        "bar table",
        "L table",
    )
    against = chance(rng, 0.8 if name == "L table" else 0.15)
    table = p.against(cell, name, front=0.4) if against else p.inside(cell, name, margin=0.45)
    if table is None:
        table = p.against(cell, name)
    if table is not None:
        seat = one_of(rng, "chair", "chair", "chair", "stool", "armchair", "folding chair")
        chairs_round(p, cell, table, seat_at(table, seat), between(rng, 0.45, 1.0))
