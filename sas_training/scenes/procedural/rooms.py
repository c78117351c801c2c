"""Furnished rooms: what stands where in each type of room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import bathroom, catalogue, clutter, kitchen, shell, wall_things
from .furniture import Rng, between, chance
from .model import FLOOR, Room
from .placing import Placed, Placer
from .plan import Cell, Side, draw_plan
from .primitives import box


def _one(rng: Rng, *names: str) -> str:
    return names[int(rng.integers(len(names)))]


def _chairs(p: Placer, cell: Cell, table: Placed, kind: str, share: float) -> None:
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


def _desk_place(p: Placer, cell: Cell, sides: list[Side] | None = None) -> Placed | None:
    rng = p.rng
    name = _one(rng, "desk", "desk", "desk", "desk", "long desk", "corner desk")
    place = p.against(cell, name, sides, front=0.35)
    if place is not None and chance(rng, 0.9):
        kind = _one(rng, "office chair", "office chair", "office chair", "chair", "folding chair")
        x, y = (
            between(rng, -0.2, 0.2) * place.piece.w,
            place.piece.d / 2 + between(rng, -0.05, 0.45),
        )
        if name == "corner desk":
            x, y = 0.0, 0.15
        turn = np.pi + float(rng.normal(0, 0.5))
        p.near(cell, place, kind, x, y, turn, under=True)
    return place


def _bed_place(p: Placer, cell: Cell, name: str) -> Placed | None:
    rng = p.rng
    sides = None
    bed = p.against(cell, name, sides, tries=20, front=0.15)
    if bed is None and name == "double bed":
        bed = p.against(cell, "single bed", tries=20)
    if bed is not None:
        for side in (-1, 1):
            if chance(rng, 0.6):
                stand = catalogue.make(
                    _one(rng, "nightstand", "nightstand", "nightstand", "stool", "side table"), rng
                )
                x = side * (bed.piece.w / 2 + stand.w / 2 + between(rng, 0.02, 0.12))
                p.near(cell, bed, stand, x, -bed.piece.d / 2 + stand.d / 2 + 0.03)
        if chance(rng, 0.15):
            p.near(cell, bed, _one(rng, "bench", "ottoman"), 0.0, bed.piece.d / 2 + 0.3)
    return bed


def _sofa_group(p: Placer, cell: Cell) -> None:
    rng = p.rng
    name = _one(rng, "sofa", "sofa", "corner sofa", "loveseat")
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
            _one(rng, "coffee table", "coffee table", "round coffee table", "ottoman"), rng
        )
        p.near(cell, sofa, low, between(rng, -0.3, 0.3), ahead + low.d / 2)
    for side in (-1, 1):
        if chance(rng, 0.4):
            p.near(cell, sofa, "side table", side * (sofa.piece.w / 2 + 0.35), -sofa.piece.d * 0.2)
        if chance(rng, 0.45):
            kind = _one(rng, "armchair", "armchair", "sofa chair", "ottoman")
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


def _storage(p: Placer, cell: Cell, count: int, *names: str) -> None:
    for _ in range(count):
        p.against(cell, _one(p.rng, *names))


def bedroom(p: Placer, cell: Cell) -> None:
    rng = p.rng
    kind = _one(rng, "double bed", "double bed", "single bed", "single bed", "bunk bed")
    _bed_place(p, cell, kind)
    if chance(rng, 0.3) or (kind == "single bed" and chance(rng, 0.6)):
        _bed_place(p, cell, kind)
    if chance(rng, 0.12):
        p.against(cell, "crib")
    if chance(rng, 0.65):
        _desk_place(p, cell)
    _storage(
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
            cell, _one(rng, "armchair", "chair", "round table", "side table", "ottoman", "tv stand")
        )


def living_room(p: Placer, cell: Cell) -> None:
    rng = p.rng
    _sofa_group(p, cell)
    if chance(rng, 0.25):
        _sofa_group(p, cell)
    if cell.area > 14 and chance(rng, 0.6):
        dining(p, cell)
    _storage(
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
        _desk_place(p, cell)


def dining(p: Placer, cell: Cell) -> None:
    rng = p.rng
    name = _one(rng, "table", "table", "round table")
    against = chance(rng, 0.25)
    table = p.against(cell, name, front=0.4) if against else p.inside(cell, name, margin=0.45)
    if table is None:
        table = p.against(cell, name)
    if table is not None:
        _chairs(
            p,
            cell,
            table,
            _one(rng, "chair", "chair", "chair", "stool", "armchair", "folding chair"),
            between(rng, 0.45, 1.0),
        )


def office(p: Placer, cell: Cell) -> None:
    rng = p.rng
    wanted = max(2, int(cell.area / between(rng, 2.5, 5.0)))
    if chance(rng, 0.3):  # a row along one wall
        side = max(cell.sides, key=lambda s: s.length)
        for _ in range(wanted):
            _desk_place(p, cell, [side])
    for _ in range(wanted):
        _desk_place(p, cell)
    if chance(rng, 0.35):
        row = p.against(cell, "console table", front=0.2)
        if row is not None:
            _chairs(p, cell, row, "office chair", 0.5)
    _storage(
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
        p.inside(cell, _one(rng, "office chair", "chair", "round table"), margin=0.05)
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
        _chairs(p, cell, table, _one(rng, "office chair", "chair", "chair"), between(rng, 0.6, 1.0))
    for _ in range(int(rng.integers(0, 4))):
        p.against(cell, _one(rng, "chair", "chair", "stacked chairs", "office chair", "armchair"))
    _storage(
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
    for k in range(2 if chance(rng, 0.6) else 1):
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
        p.against(cell, _one(rng, "stove", "washing machine"))
    if chance(rng, 0.35):
        island = p.inside(cell, "kitchen island", margin=0.4)
        if island is not None:
            _chairs(p, cell, island, "bar stool", 0.4)
    elif chance(rng, 0.6):
        dining(p, cell)
    _storage(
        p, cell, int(rng.integers(0, 3)), "cabinet", "tall cabinet", "shelf", "small refrigerator"
    )


def bath(p: Placer, cell: Cell) -> None:
    rng = p.rng
    if chance(rng, 0.75):
        tub = p.against(cell, "bathtub", front=0.15, gap=(0.0, 0.01), tries=25, turn=0.0)
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
    p.against(cell, "toilet", front=0.25, gap=(0.0, 0.04), tries=25)
    place = p.against(cell, "sink", front=0.2, gap=(0.0, 0.01), tries=25, turn=0.0)
    if place is not None and chance(rng, 0.7):
        x, y = place.at(0.0, -place.piece.d / 2)
        p.put(wall_things.mirror(rng, place.piece.w * 0.9, 0.8), x, y, 1.15, place.yaw, solid=False)
    for _ in range(int(rng.integers(0, 3))):
        p.on_wall(cell, bathroom.towel_rail(rng, between(rng, 0.4, 0.8), 0.1, 0.9), (0.4, 0.7))
    if chance(rng, 0.35):
        p.against(cell, _one(rng, "cabinet", "washing machine", "shelf", "stool"))


def library(p: Placer, cell: Cell) -> None:
    rng = p.rng
    _storage(
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
        p.against(cell, _one(rng, "armchair", "sofa", "loveseat", "desk"))


def studio(p: Placer, cell: Cell) -> None:
    rng = p.rng
    _bed_place(p, cell, _one(rng, "double bed", "single bed"))
    if chance(rng, 0.7):
        kitchen_row = p.against(cell, "kitchen row", front=0.3, gap=(0.0, 0.01), turn=0.0)
        if kitchen_row is not None:
            upper = kitchen.wall_cabinet(rng, kitchen_row.piece.w * 0.9, 0.35, 0.7)
            x, y = kitchen_row.at(0.0, -kitchen_row.piece.d / 2 + 0.18)
            p.put(upper, x, y, 1.45, kitchen_row.yaw, solid=False)
        p.against(cell, "refrigerator")
    _sofa_group(p, cell)
    if chance(rng, 0.6):
        _desk_place(p, cell)
    if chance(rng, 0.5):
        dining(p, cell)
    _storage(
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
    _storage(
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
    _storage(p, cell, 2, "open wardrobe", "shelf", "shoe rack")
    p.litter(cell, 3)


@dataclass(frozen=True)
class RoomType:
    """How often a type of room comes, how large it is, how it is furnished and what adjoins it."""

    weight: float
    w: tuple[float, float]
    d: tuple[float, float]
    furnish: Callable[[Placer, Cell], None]
    annexes: tuple[str, ...]
    extras: tuple[str, ...]
    curtains: float = 0.4


# What fills a room that is still too empty after its main furniture stands.
BEDROOM_EXTRAS = (
    "built-in cabinet", "single bed",
    "desk",
    "desk",
    "loveseat",
    "wardrobe",
    "dresser",
    "cabinet",
    "bookshelf",
    "shelf",
    "shelf",
    "chair",
    "armchair",
    "desk",
    "nightstand",
    "low bookshelf",
    "tv stand",
    "shelf",
    "dresser",
    "ottoman",
    "side table",
    "tall cabinet",
    "chair",
    "round table",
    "office chair",
    "shelf",
)
LIVING_EXTRAS = (
    "built-in cabinet", "dresser", "desk",
    "sofa",
    "sofa",
    "coffee table",
    "armchair",
    "armchair",
    "chair",
    "table",
    "round table",
    "sofa",
    "sofa chair",
    "bookshelf",
    "cabinet",
    "sideboard",
    "shelf",
    "shelf",
    "loveseat",
    "side table",
    "low bookshelf",
    "ottoman",
    "chair",
    "console table",
    "bench",
    "tv stand",
)
OFFICE_EXTRAS = (
    "built-in cabinet", "dresser", "desk",
    "desk",
    "console table",
    "office chair",
    "office chair",
    "chair",
    "table",
    "round table",
    "filing cabinet",
    "cabinet",
    "shelf",
    "shelf",
    "shelf",
    "bookshelf",
    "table",
    "chair",
    "low bookshelf",
    "tall cabinet",
    "stacked chairs",
    "console table",
)
KITCHEN_EXTRAS = (
    "built-in cabinet", "built-in cabinet", "cabinet",
    "tall cabinet",
    "shelf",
    "stove",
    "chair",
    "chair",
    "table",
    "round table",
    "washing machine",
    "bar stool",
    "small refrigerator",
    "kitchen row",
)
BATH_EXTRAS = ("cabinet", "shelf", "washing machine", "sink", "stool", "radiator", "low bookshelf")

ROOM_TYPES: dict[str, RoomType] = {
    "bedroom": RoomType(
        2.4,
        (2.5, 4.2),
        (2.8, 4.8),
        bedroom,
        ("bathroom", "closet", "corridor"),
        BEDROOM_EXTRAS,
        0.7,
    ),
    "living room": RoomType(
        2.3,
        (3.0, 5.0),
        (3.2, 5.6),
        living_room,
        ("kitchen", "corridor", "dining"),
        LIVING_EXTRAS,
        0.55,
    ),
    "office": RoomType(
        2.0, (2.3, 4.4), (2.6, 5.6), office, ("corridor", "meeting"), OFFICE_EXTRAS, 0.15
    ),
    "meeting": RoomType(1.0, (2.8, 4.6), (3.4, 6.0), meeting, ("corridor",), OFFICE_EXTRAS, 0.15),
    "kitchen": RoomType(
        1.2,
        (2.1, 3.6),
        (2.4, 4.5),
        kitchen_room,
        ("dining", "corridor", "living room"),
        KITCHEN_EXTRAS,
        0.2,
    ),
    "bathroom": RoomType(
        1.1, (1.6, 2.7), (1.8, 3.1), bath, ("corridor", "bedroom"), BATH_EXTRAS, 0.1
    ),
    "studio": RoomType(
        1.2, (3.6, 5.6), (4.0, 6.2), studio, ("bathroom", "corridor"), BEDROOM_EXTRAS, 0.7
    ),
    "library": RoomType(
        0.8, (2.8, 4.8), (3.2, 5.6), library, ("corridor", "office"), OFFICE_EXTRAS, 0.2
    ),
    "dining": RoomType(0.9, (2.6, 4.0), (2.8, 4.6), dining, ("kitchen",), LIVING_EXTRAS, 0.4),
    "corridor": RoomType(
        0.0, (1.0, 2.0), (2.0, 4.0), corridor, (), ("shoe rack", "cabinet", "bench")
    ),
    "closet": RoomType(0.0, (0.8, 1.2), (1.2, 2.0), closet, (), ("shelf", "shoe rack")),
}


def _fill(p: Placer, cell: Cell, share: float) -> None:
    """Add furniture of the room's extras until it covers a share of the floor."""
    extras = ROOM_TYPES[cell.kind].extras
    for _ in range(24):
        if p.filled(cell) >= share:
            break
        if chance(p.rng, 0.25):
            p.against(cell, clutter.choose(p.rng, clutter.LARGE)(p.rng), gap=(0.0, 0.2), turn=0.15)
            continue
        name = _one(p.rng, *extras)
        if chance(p.rng, 0.1) and p.in_corner(cell, name) is not None:
            continue
        seat = name in ("chair", "office chair", "armchair", "ottoman", "stool")
        if (seat and chance(p.rng, 0.6)) or chance(p.rng, 0.08):
            p.inside(cell, name, tries=8, margin=0.03, anywhere=seat)
            continue
        placed = p.against(cell, name, tries=12)
        if placed is not None and name in ("desk", "table", "round table", "console table"):
            _chairs(
                p,
                cell,
                placed,
                _one(p.rng, "chair", "office chair", "stool", "folding chair"),
                0.45,
            )


def _hang_pictures(p: Placer, cell: Cell) -> None:
    rng = p.rng
    walls = 0.5 * sum(side.length for side in cell.sides)
    for _ in range(int(rng.poisson(0.22 * walls))):
        w, h = between(rng, 0.25, 1.2), between(rng, 0.25, 0.95)
        p.on_wall(cell, wall_things.picture(rng, w, h), (0.95, 1.5), 6, 0.05)
    for _ in range(int(rng.poisson(0.22 * walls))):
        p.on_wall(cell, wall_things.wall_clutter(rng), (0.9, 1.4), 6, 0.2)
    for _ in range(int(rng.poisson(0.15 * walls))):
        shelf = wall_things.wall_shelf(rng, between(rng, 0.5, 1.5), between(rng, 0.15, 0.3))
        p.on_wall(cell, shelf, (1.0, 1.5), 6, 0.25)
    for _ in range(int(rng.poisson(0.14 * walls))):
        w, h = between(rng, 0.6, 1.6), between(rng, 0.45, 1.0)
        make = (wall_things.wall_screen, wall_things.mirror, wall_things.board)[
            int(rng.integers(3))
        ]
        p.on_wall(cell, make(rng, w, h), (0.8, 1.3), 6)
    for _ in range(int(rng.poisson(0.14 * walls))):
        panel = wall_things.built_in(
            rng, between(rng, 0.5, 1.8), between(rng, 0.05, 0.35), between(rng, 0.9, p.plan.height)
        )
        p.against(cell, panel, tries=8, gap=(0.0, 0.01), turn=0.0)


def make_room(rng: np.random.Generator, kind: str | None = None) -> Room:
    """Furnish one random room.

    Args:
        rng: the only source of chance; equal states give equal rooms.
        kind: a name of `ROOM_TYPES`; drawn by weight when None.

    Returns:
        The room in metres, z up, true floor at z = 0.
    """
    names = list(ROOM_TYPES)
    weights = np.array([ROOM_TYPES[name].weight for name in names])
    kind = kind or names[int(rng.choice(len(names), p=weights / weights.sum()))]
    recipe = ROOM_TYPES[kind]
    count = int(rng.choice(3, p=(0.62, 0.3, 0.08))) if recipe.annexes else 0
    annexes = tuple(recipe.annexes[int(rng.integers(len(recipe.annexes)))] for _ in range(count))
    plan = draw_plan(
        rng, kind, (0.94 * between(rng, *recipe.w), 0.94 * between(rng, *recipe.d)), annexes
    )
    placer = Placer(rng, plan)
    main = plan.cells[0]
    shell.add_inner_doors(placer, main)
    for cell in plan.cells:
        if (cell is main and len(plan.cells) == 1) or chance(rng, 0.4):
            shell.add_door(placer, cell)
        if cell.kind in ("bedroom", "studio", "corridor") and chance(rng, 0.12):
            shell.add_closet_doors(placer, cell)
        windows = (
            int(rng.choice(3, p=(0.3, 0.5, 0.2)))
            if cell.kind not in ("corridor", "closet", "bathroom")
            else int(chance(rng, 0.25))
        )
        for _ in range(windows):
            shell.add_window(placer, cell, ROOM_TYPES[cell.kind].curtains)
        if chance(rng, 0.5 * ROOM_TYPES[cell.kind].curtains):
            shell.add_free_curtain(placer, cell)
    for cell in plan.cells:
        ROOM_TYPES[cell.kind].furnish(placer, cell)
        _fill(placer, cell, between(rng, 0.4, 0.75))
        _hang_pictures(placer, cell)
    placer.clutter_all(between(rng, 1.3, 4.0))
    for cell in plan.cells:
        placer.litter(cell, int(rng.poisson(between(rng, 0.8, 2.8) * cell.area)))
        if chance(rng, 0.3):
            x0, y0, x1, y1 = cell.rect
            rug = box(
                (x1 - x0) * between(rng, 0.3, 0.6),
                (y1 - y0) * between(rng, 0.3, 0.6),
                between(rng, 0.006, 0.02),
            )
            placer.structure(rug.moved((x0 + x1) / 2, (y0 + y1) / 2), FLOOR, "rug", (120, 80, 70))
    shell.build_shell(placer)
    return Room(
        kind=kind,
        objects=tuple(placer.objects),
        areas=tuple(cell.rect for cell in plan.cells),
        blocked=np.array(
            [
                *placer.taken,
                *[(*block, 0.0, plan.height) for cell in plan.cells for block in cell.blocks],
            ],
            np.float32,
        ).reshape(-1, 6),
        height=plan.height,
    )
