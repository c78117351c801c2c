"""Furnished rooms: which types there are, how large, and how they are put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import arrange, clutter, shell, wall_things
from .furniture import FABRICS, between, chance, pick
from .groups import chairs_round, dining, one_of, seat_at
from .model import DESK, FLOOR, IGNORED, TABLE, Room
from .placing import Placer
from .plan import Cell, draw_plan
from .primitives import box
from .scattering import clutter_all, litter


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
    "built-in cabinet", "single bed", "double bed", "double bed", "double bed", "desk", "desk",
    "long desk", "loveseat", "sofa", "wardrobe", "dresser", "dresser", "bookshelf", "shelf",
    "shelf", "armchair", "nightstand",
    "low bookshelf", "tv stand", "side table", "table", "round table", "small refrigerator",
    "bar table", "padded coffee table", "L table", "corner desk",
)  # fmt: skip
LIVING_EXTRAS = (
    "built-in cabinet", "dresser", "desk", "sofa", "sofa", "sofa", "coffee table", "coffee table",
    "armchair", "table", "table", "round table", "round table", "sofa chair", "bookshelf",
    "sofa", "sideboard", "shelf", "table", "loveseat", "side table", "low bookshelf", "ottoman",
    "console table", "corner sofa", "tv stand", "bar table", "bar table", "round bar table",
    "padded coffee table", "padded coffee table", "L table", "long desk",
)  # fmt: skip
OFFICE_EXTRAS = (
    "built-in cabinet", "dresser", "desk", "desk", "table", "table", "round table", "sofa",
    "filing cabinet", "cabinet", "shelf", "shelf", "shelf", "bookshelf", "low bookshelf",
    "tall cabinet", "stacked chairs", "refrigerator", "L table", "L table", "corner desk",
    "long desk", "bar table",
)  # fmt: skip
KITCHEN_EXTRAS = (
    "built-in cabinet", "cabinet", "tall cabinet", "shelf", "stove", "table", "table",
    "round table", "washing machine", "bar stool", "refrigerator", "kitchen row", "bar table",
    "bar table", "round bar table", "L table",
)  # fmt: skip
BATH_EXTRAS = ("cabinet", "shelf", "washing machine", "sink", "stool", "radiator", "shelf")


ROOM_TYPES: dict[str, RoomType] = {
    "bedroom": RoomType(
        4.2,
        (2.8, 4.6),
        (3.0, 4.8),
        arrange.bedroom,
        ("bathroom", "closet", "corridor"),
        BEDROOM_EXTRAS,
        0.9,
    ),
    "hotel": RoomType(
        3.6,
        (3.2, 4.8),
        (3.6, 5.6),
        arrange.hotel,
        ("bathroom", "corridor", "bathroom"),
        BEDROOM_EXTRAS,
        0.97,
    ),
    "living room": RoomType(
        2.7,
        (3.4, 5.0),
        (3.8, 5.8),
        arrange.living_room,
        ("kitchen", "corridor", "dining"),
        LIVING_EXTRAS,
        0.8,
    ),
    "office": RoomType(
        2.0, (2.5, 4.4), (2.8, 5.6), arrange.office, ("corridor", "meeting"), OFFICE_EXTRAS, 0.25
    ),
    "meeting": RoomType(
        0.7, (3.0, 4.6), (3.4, 6.0), arrange.meeting, ("corridor",), OFFICE_EXTRAS, 0.25
    ),
    "kitchen": RoomType(
        1.2,
        (2.3, 3.8),
        (2.6, 4.6),
        arrange.kitchen_room,
        ("dining", "corridor", "living room"),
        KITCHEN_EXTRAS,
        0.3,
    ),
    "bathroom": RoomType(
        1.5, (1.6, 2.7), (1.8, 3.1), arrange.bath, ("corridor", "bedroom"), BATH_EXTRAS, 0.15
    ),
    "studio": RoomType(
        2.0,
        (3.8, 5.4),
        (4.2, 6.0),
        arrange.studio,
        ("bathroom", "corridor", "kitchen"),
        BEDROOM_EXTRAS,
        0.9,
    ),
    "library": RoomType(
        0.5, (2.8, 4.8), (3.2, 5.6), arrange.library, ("corridor", "office"), OFFICE_EXTRAS, 0.3
    ),
    "dining": RoomType(1.2, (2.8, 4.2), (3.0, 4.8), dining, ("kitchen",), LIVING_EXTRAS, 0.6),
    "corridor": RoomType(
        0.0, (1.0, 2.0), (2.0, 4.0), arrange.corridor, (), ("shoe rack", "cabinet", "bench")
    ),
    "closet": RoomType(0.0, (0.8, 1.2), (1.2, 2.0), arrange.closet, (), ("shelf", "shoe rack")),
}


TALL: dict[str, tuple[str, ...]] = {
    "bedroom": ("wardrobe", "wardrobe", "built-in cabinet", "open wardrobe", "tall cabinet"),
    "hotel": ("wardrobe", "built-in cabinet", "tall cabinet"),
    "studio": ("wardrobe", "built-in cabinet", "tall cabinet", "bookshelf", "shelf"),
    "living room": ("bookshelf", "tall cabinet", "built-in cabinet", "shelf", "bookshelf"),
    "dining": ("tall cabinet", "built-in cabinet", "bookshelf"),
    "office": ("shelf", "tall cabinet", "bookshelf", "filing cabinet"),
    "meeting": ("tall cabinet", "shelf"),
    "library": ("bookshelf", "bookshelf", "tall cabinet", "shelf"),
    "kitchen": ("tall cabinet", "built-in cabinet", "shelf"),
    "bathroom": ("tall cabinet",),
    "corridor": ("wardrobe", "built-in cabinet"),
    "closet": ("shelf", "open wardrobe"),
}
"""What hides the walls of each type of room."""


def _line_walls(p: Placer, cell: Cell) -> None:
    """Put tall things along some of the walls."""
    around = sum(side.length for side in cell.sides)
    for _ in range(int(p.rng.poisson(0.2 * around))):
        p.against(cell, one_of(p.rng, *TALL[cell.kind]))


def _fill(p: Placer, cell: Cell, share: float) -> None:
    """Add furniture of the room's extras until it covers a share of the floor."""
    extras = ROOM_TYPES[cell.kind].extras
    failures = 0
    while failures < 20 and p.filled(cell) < share:
        if chance(p.rng, 0.36):
            large = clutter.choose(p.rng, clutter.LARGE)(p.rng)
            failures += p.against(cell, large, gap=(0.0, 0.2), turn=0.15) is None
            continue
        name = one_of(p.rng, *extras)
        if chance(p.rng, 0.1) and p.in_corner(cell, name) is not None:
            continue
        lone = name in ("chair", "office chair", "armchair", "ottoman", "stool", "sofa chair")
        islands = {
            "table": 0.8,
            "round table": 0.85,
            "coffee table": 0.8,
            "padded coffee table": 0.85,
            "bar table": 0.5,
            "round bar table": 0.8,
            "L table": 0.25,
            "sofa": 0.3,
        }
        if (lone and chance(p.rng, 0.6)) or chance(p.rng, islands.get(name, 0.02)):
            placed = p.inside(cell, name, tries=10, margin=0.04, anywhere=lone)
        else:
            placed = p.against(cell, name, tries=12)
        if placed is None:
            failures += 1
        elif placed.piece.label in (DESK, TABLE) and placed.piece.h > 0.6:
            seat = one_of(p.rng, "chair", "chair", "stool", "office chair")
            chairs_round(p, cell, placed, seat_at(placed, seat), 0.4)


def _hang_pictures(p: Placer, cell: Cell) -> None:
    rng = p.rng
    walls = 0.5 * sum(side.length for side in cell.sides)
    for _ in range(int(rng.poisson(0.15 * walls))):
        w, h = between(rng, 0.25, 1.2), between(rng, 0.25, 0.95)
        p.on_wall(cell, wall_things.picture(rng, w, h), (0.95, 1.5), 6, 0.05)
    for _ in range(int(rng.poisson(0.4 * walls))):
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
    for _ in range(int(rng.poisson(0.3 * walls))):
        panel = wall_things.built_in(
            rng, between(rng, 0.5, 1.8), between(rng, 0.05, 0.35), between(rng, 0.9, p.plan.height)
        )
        p.against(cell, panel, tries=8, gap=(0.0, 0.01), turn=0.0)


def _lay_rug(p: Placer, cell: Cell) -> None:
    """A rug; annotators call some floor and some a mat, which is none of the 20 classes."""
    rng, (x0, y0, x1, y1) = p.rng, cell.rect
    w, d = (x1 - x0) * between(rng, 0.25, 0.6), (y1 - y0) * between(rng, 0.25, 0.6)
    x, y = between(rng, x0 + w / 2, x1 - w / 2), between(rng, y0 + d / 2, y1 - d / 2)
    rug = box(w, d, between(rng, 0.006, 0.03)).moved(x, y)
    p.structure(rug, FLOOR if chance(rng, 0.5) else IGNORED, "rug", pick(rng, FABRICS))


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
    count = int(rng.choice(3, p=(0.35, 0.45, 0.2))) if recipe.annexes else 0
    annexes = tuple(recipe.annexes[int(rng.integers(len(recipe.annexes)))] for _ in range(count))
    scale = between(rng, 0.95, 1.5)
    size = (scale * between(rng, *recipe.w), scale * between(rng, *recipe.d))
    plan = draw_plan(rng, kind, size, annexes)
    placer = Placer(rng, plan)
    main = plan.cells[0]
    shell.add_inner_doors(placer, main)
    for cell in plan.cells:
        if (cell is main and len(plan.cells) == 1) or chance(rng, 0.4):
            shell.add_door(placer, cell)
        if cell.kind in ("bedroom", "studio", "hotel", "corridor") and chance(rng, 0.12):
            shell.add_closet_doors(placer, cell)
        windows = (
            int(rng.choice(3, p=(0.15, 0.5, 0.35)))
            if cell.kind not in ("corridor", "closet", "bathroom")
            else int(chance(rng, 0.25))
        )
        for _ in range(windows):
            shell.add_window(placer, cell, ROOM_TYPES[cell.kind].curtains)
        if chance(rng, 0.9 * ROOM_TYPES[cell.kind].curtains):
            shell.add_free_curtain(placer, cell)
    for cell in plan.cells:
        ROOM_TYPES[cell.kind].furnish(placer, cell)
        _line_walls(placer, cell)
        _fill(placer, cell, between(rng, 0.45, 0.85))
        _hang_pictures(placer, cell)
    clutter_all(placer, between(rng, 2.5, 9.0))
    for cell in plan.cells:
        litter(placer, cell, int(rng.poisson(between(rng, 1.2, 5.0) * cell.area)))
        if chance(rng, 0.35):
            _lay_rug(placer, cell)
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
