"""What stands where in each type of room."""

from __future__ import annotations

from . import bathroom, kitchen, wall_things
from .furniture import between, chance
from .groups import (
    bed_place,
    chairs_round,
    desk_place,
    dining,
    one_of,
    sofa_group,
    storage_row,
)
from .placing import Placer
from .plan import Cell
from .scattering import litter


def bedroom(p: Placer, cell: Cell) -> None:
    rng = p.rng
    kind = one_of(
        rng, "double bed", "double bed", "double bed", "double bed", "single bed", "bunk bed"
    )
    bed_place(p, cell, kind, twin=kind == "single bed" and chance(rng, 0.6))
    if chance(rng, 0.5) or (kind == "single bed" and chance(rng, 0.6)):
        bed_place(p, cell, kind)
    if chance(rng, 0.12):
        p.against(cell, "crib")
    if chance(rng, 0.7):
        p.against(cell, one_of(rng, "wardrobe", "wardrobe", "built-in cabinet", "open wardrobe"))
    if chance(rng, 0.75):
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


def hotel(p: Placer, cell: Cell) -> None:
    """One or two beds side by side, a row of low furniture opposite, and somewhere to sit."""
    rng = p.rng
    kind = one_of(rng, "double bed", "double bed", "single bed")
    bed_place(p, cell, kind, twin=kind == "single bed" or chance(rng, 0.75))
    low = p.against(cell, one_of(rng, "long desk", "tv stand", "dresser", "sideboard"), front=0.3)
    if low is not None and chance(rng, 0.7):
        w = min(low.piece.w, between(rng, 0.7, 1.3))
        screen = wall_things.wall_screen(rng, w, w * 0.58)
        p.put(screen, *low.at(0.0, -0.1), low.piece.h + 0.06, low.yaw, solid=False)
    if chance(rng, 0.85):
        desk_place(p, cell)
    if chance(rng, 0.6):
        table = p.inside(cell, one_of(rng, "round table", "side table", "table"), margin=0.2)
        if table is not None:
            chairs_round(p, cell, table, one_of(rng, "armchair", "chair"), 0.5)
    names = ("armchair", "sofa", "loveseat", "wardrobe", "small refrigerator", "dresser")
    storage_row(p, cell, int(rng.integers(1, 4)), *names)


def living_room(p: Placer, cell: Cell) -> None:
    rng = p.rng
    sofa_group(p, cell)
    if chance(rng, 0.4):
        sofa_group(p, cell)
    if cell.area > 11 and chance(rng, 0.8):
        dining(p, cell)
    if chance(rng, 0.35):
        p.against(cell, one_of(rng, "sofa", "loveseat", "sofa chair"), front=0.3)
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


def office(p: Placer, cell: Cell) -> None:
    rng = p.rng
    wanted = max(2, int(cell.area / between(rng, 2.5, 5.0)))
    if chance(rng, 0.3):  # a row along one wall
        side = max(cell.sides, key=lambda s: s.length)
        for _ in range(wanted):
            desk_place(p, cell, [side])
    for _ in range(wanted):
        desk_place(p, cell)
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
    )
    if chance(rng, 0.4):
        p.inside(cell, one_of(rng, "office chair", "chair", "round table", "L table"), margin=0.05)
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
    if chance(rng, 0.85):  # it stands a bit off the wall
        p.against(cell, "refrigerator", front=0.3, gap=(0.02, 0.14), tries=40)
    else:
        p.against(cell, "small refrigerator", front=0.3)
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
    bed_place(p, cell, one_of(rng, "double bed", "double bed", "single bed"))
    if chance(rng, 0.7):
        kitchen_row = p.against(cell, "kitchen row", front=0.3, gap=(0.0, 0.01), turn=0.0)
        if kitchen_row is not None:
            upper = kitchen.wall_cabinet(rng, kitchen_row.piece.w * 0.9, 0.35, 0.7)
            x, y = kitchen_row.at(0.0, -kitchen_row.piece.d / 2 + 0.18)
            p.put(upper, x, y, 1.45, kitchen_row.yaw, solid=False)
        p.against(cell, "refrigerator", gap=(0.02, 0.14), tries=40)
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
    litter(p, cell, 3)
