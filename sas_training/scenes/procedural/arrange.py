"""What stands where in each type of room."""

from __future__ import annotations

import numpy as np

from . import bathroom, catalogue, kitchen, wall_things
from .furniture import Rng, between, chance
from .placing import Placed, Placer
from .plan import Cell, Side


def one_of(rng: Rng, *names: str) -> str:
    return names[int(rng.integers(len(names)))]


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
    rng = p.rng
    name = one_of(rng, "desk", "desk", "desk", "desk", "long desk", "corner desk")
    place = p.against(cell, name, sides, front=0.35)
    if place is not None and chance(rng, 0.9):
        kind = one_of(rng, "office chair", "office chair", "office chair", "chair", "folding chair")
        x, y = (
            between(rng, -0.2, 0.2) * place.piece.w,
            place.piece.d / 2 + between(rng, -0.05, 0.45),
        )
        if name == "corner desk":
            x, y = 0.0, 0.15
        turn = np.pi + float(rng.normal(0, 0.5))
        p.near(cell, place, kind, x, y, turn, under=True)
    return place


def bed_place(p: Placer, cell: Cell, name: str) -> Placed | None:
    rng = p.rng
    sides = None
    bed = p.against(cell, name, sides, tries=20, front=0.15)
    if bed is None and name == "double bed":
        bed = p.against(cell, "single bed", tries=20)
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
    if chance(rng, 0.8):
        low = catalogue.make(
            one_of(rng, "coffee table", "coffee table", "round coffee table", "ottoman"), rng
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
    for _ in range(count):
        p.against(cell, one_of(p.rng, *names))


def bedroom(p: Placer, cell: Cell) -> None:
    rng = p.rng
    kind = one_of(rng, "double bed", "double bed", "single bed", "single bed", "bunk bed")
    bed_place(p, cell, kind)
    if chance(rng, 0.45) or (kind == "single bed" and chance(rng, 0.6)):
        bed_place(p, cell, kind)
    if chance(rng, 0.12):
        p.against(cell, "crib")
    if chance(rng, 0.7):
        p.against(cell, one_of(rng, "wardrobe", "wardrobe", "built-in cabinet", "open wardrobe"))
    if chance(rng, 0.65):
        desk_place(p, cell)
    storage_row(
        p,
        cell,
        int(rng.integers(1, 4)),
        "wardrobe",
        "wardrobe",
        "built-in cabinet",
        "open wardrobe",
        "dresser",
        "cabinet",
        "bookshelf",
        "low bookshelf",
        "small refrigerator",
        "shoe rack",
        "tall cabinet",
    )
    if chance(rng, 0.4):
        p.against(
            cell,
            one_of(rng, "armchair", "chair", "round table", "side table", "ottoman", "tv stand"),
        )


def living_room(p: Placer, cell: Cell) -> None:
    rng = p.rng
    sofa_group(p, cell)
    if chance(rng, 0.4):
        sofa_group(p, cell)
    if cell.area > 14 and chance(rng, 0.6):
        dining(p, cell)
    storage_row(
        p,
        cell,
        int(rng.integers(1, 5)),
        "bookshelf",
        "bookshelf",
        "low bookshelf",
        "cabinet",
        "sideboard",
        "tall cabinet",
        "console table",
        "shelf",
        "armchair",
    )
    if chance(rng, 0.3):
        desk_place(p, cell)


def dining(p: Placer, cell: Cell) -> None:
    rng = p.rng
    name = one_of(rng, "table", "table", "round table")
    against = chance(rng, 0.25)
    table = p.against(cell, name, front=0.4) if against else p.inside(cell, name, margin=0.45)
    if table is None:
        table = p.against(cell, name)
    if table is not None:
        chairs_round(
            p,
            cell,
            table,
            one_of(rng, "chair", "chair", "chair", "stool", "armchair", "folding chair"),
            between(rng, 0.45, 1.0),
        )


def office(p: Placer, cell: Cell) -> None:
    rng = p.rng
    wanted = max(2, int(cell.area / between(rng, 2.5, 5.0)))
    if chance(rng, 0.3):  # a row along one wall
        side = max(cell.sides, key=lambda s: s.length)
        for _ in range(wanted):
            desk_place(p, cell, [side])
    for _ in range(wanted):
        desk_place(p, cell)
    if chance(rng, 0.35):
        row = p.against(cell, "console table", front=0.2)
        if row is not None:
            chairs_round(p, cell, row, "office chair", 0.5)
    storage_row(
        p,
        cell,
        int(rng.integers(1, 5)),
        "filing cabinet",
        "filing cabinet",
        "cabinet",
        "bookshelf",
        "low bookshelf",
        "tall cabinet",
        "shelf",
        "console table",
    )
    if chance(rng, 0.4):
        p.inside(cell, one_of(rng, "office chair", "chair", "round table"), margin=0.05)
    if chance(rng, 0.6):
        p.on_wall(
            cell, wall_things.board(rng, between(rng, 0.8, 2.2), between(rng, 0.6, 1.3)), (0.8, 1.1)
        )


def meeting(p: Placer, cell: Cell) -> None:
    rng = p.rng
    table = p.inside(cell, "meeting table", tries=25, margin=0.4) or p.inside(
        cell, "table", margin=0.4
    )
    if table is not None:
        chairs_round(
            p, cell, table, one_of(rng, "office chair", "chair", "chair"), between(rng, 0.6, 1.0)
        )
    for _ in range(int(rng.integers(0, 4))):
        p.against(cell, one_of(rng, "chair", "chair", "stacked chairs", "office chair", "armchair"))
    storage_row(
        p,
        cell,
        int(rng.integers(0, 3)),
        "cabinet",
        "sideboard",
        "console table",
        "bookshelf",
        "filing cabinet",
    )
    p.on_wall(
        cell, wall_things.board(rng, between(rng, 1.2, 2.6), between(rng, 0.9, 1.3)), (0.8, 1.0)
    )


def kitchen_room(p: Placer, cell: Cell) -> None:
    rng = p.rng
    for _ in range(2 if chance(rng, 0.6) else 1):
        row = p.against(cell, "kitchen row", front=0.4, gap=(0.0, 0.01), tries=20, turn=0.0)
        if row is not None and chance(rng, 0.75):
            w = row.piece.w * between(rng, 0.4, 1.0)
            upper = kitchen.wall_cabinet(rng, w, between(rng, 0.28, 0.4), between(rng, 0.5, 0.85))
            x, y = row.at(
                (row.piece.w - w) / 2 * between(rng, -1, 1), -row.piece.d / 2 + upper.d / 2
            )
            p.put(upper, x, y, between(rng, 1.38, 1.55), row.yaw, solid=False)
    p.against(cell, "refrigerator" if chance(rng, 0.85) else "small refrigerator", front=0.3)
    if chance(rng, 0.35):
        p.against(cell, one_of(rng, "stove", "washing machine"))
    if chance(rng, 0.35):
        island = p.inside(cell, "kitchen island", margin=0.4)
        if island is not None:
            chairs_round(p, cell, island, "bar stool", 0.4)
    elif chance(rng, 0.6):
        dining(p, cell)
    storage_row(
        p, cell, int(rng.integers(0, 3)), "cabinet", "tall cabinet", "shelf", "small refrigerator"
    )


def bath(p: Placer, cell: Cell) -> None:
    rng = p.rng
    if chance(rng, 0.75):
        tub = p.against(cell, "bathtub", gap=(0.0, 0.01), tries=40, turn=0.0)
        if tub is not None and chance(rng, 0.75):
            rail = bathroom.shower_curtain(rng, tub.piece.w, 0.1, between(rng, 1.85, 2.1))
            x, y = tub.at(0.0, tub.piece.d / 2 + 0.02)
            p.put(rail, x, y, 0.0, tub.yaw, solid=False)
    else:
        stall = p.against(cell, "shower", gap=(0.0, 0.01), turn=0.0)
        if stall is not None and chance(rng, 0.6):
            rail = bathroom.shower_curtain(rng, stall.piece.w, 0.1, between(rng, 1.85, 2.05))
            x, y = stall.at(0.0, stall.piece.d / 2 + 0.03)
            p.put(rail, x, y, 0.0, stall.yaw, solid=False)
    p.against(cell, "toilet", front=0.15, gap=(0.0, 0.04), tries=80)
    place = p.against(cell, "sink", front=0.15, gap=(0.0, 0.01), tries=80, turn=0.0)
    if place is not None and chance(rng, 0.7):
        x, y = place.at(0.0, -place.piece.d / 2)
        p.put(wall_things.mirror(rng, place.piece.w * 0.9, 0.8), x, y, 1.15, place.yaw, solid=False)
    for _ in range(int(rng.integers(0, 3))):
        p.on_wall(cell, bathroom.towel_rail(rng, between(rng, 0.4, 0.8), 0.1, 0.9), (0.4, 0.7))
    if chance(rng, 0.35):
        p.against(cell, one_of(rng, "cabinet", "washing machine", "shelf", "stool"))


def library(p: Placer, cell: Cell) -> None:
    rng = p.rng
    storage_row(
        p,
        cell,
        int(rng.integers(2, 7)),
        "bookshelf",
        "bookshelf",
        "bookshelf",
        "low bookshelf",
        "cabinet",
        "tall cabinet",
        "filing cabinet",
    )
    for _ in range(int(rng.integers(1, 3))):
        dining(p, cell)
    if chance(rng, 0.5):
        p.against(cell, one_of(rng, "armchair", "sofa", "loveseat", "desk"))


def studio(p: Placer, cell: Cell) -> None:
    rng = p.rng
    bed_place(p, cell, one_of(rng, "double bed", "single bed"))
    if chance(rng, 0.7):
        kitchen_row = p.against(cell, "kitchen row", front=0.3, gap=(0.0, 0.01), turn=0.0)
        if kitchen_row is not None:
            upper = kitchen.wall_cabinet(rng, kitchen_row.piece.w * 0.9, 0.35, 0.7)
            x, y = kitchen_row.at(0.0, -kitchen_row.piece.d / 2 + 0.18)
            p.put(upper, x, y, 1.45, kitchen_row.yaw, solid=False)
        p.against(cell, "refrigerator")
    sofa_group(p, cell)
    if chance(rng, 0.6):
        desk_place(p, cell)
    if chance(rng, 0.5):
        dining(p, cell)
    storage_row(
        p,
        cell,
        int(rng.integers(1, 4)),
        "wardrobe",
        "cabinet",
        "bookshelf",
        "bar table",
        "tall cabinet",
        "dresser",
    )


def corridor(p: Placer, cell: Cell) -> None:
    storage_row(
        p,
        cell,
        int(p.rng.integers(0, 3)),
        "shoe rack",
        "cabinet",
        "console table",
        "bench",
        "wardrobe",
    )


def closet(p: Placer, cell: Cell) -> None:
    storage_row(p, cell, 2, "open wardrobe", "shelf", "shoe rack")
    p.litter(cell, 3)
