"""The empty room: walls, floor, ceiling, doors, windows and what hangs at them."""

from __future__ import annotations

from . import catalogue, openings, wall_things
from .furniture import FABRICS, FLOORS, WALLS, WOODS, Rng, between, chance, pick
from .model import FLOOR, IGNORED, WALL, Color
from .placing import Placer, wall_rect
from .plan import Cell, Opening, Rect, Side, floor_mesh, wall_mesh
from .primitives import Mesh, box, prism


def _cut(rng: Rng, cell: Cell, w: float, low: float, high: float) -> tuple[Side, float] | None:
    """Cut a hole w wide into a free part of an outer wall; returns the side and its middle."""
    for _ in range(12):
        side = cell.sides[int(rng.integers(4))]
        if side.length < w + 0.3:
            continue
        along = between(rng, w / 2 + 0.12, side.length - w / 2 - 0.12)
        if side.free(along - w / 2, along + w / 2, 0.0, 99.0, 0.12):
            side.openings.append(Opening(along - w / 2, along + w / 2, low, high))
            return side, along
    return None


def add_door(placer: Placer, cell: Cell, leads_out: bool = True) -> None:
    """Put a door into an outer wall, with a bit of corridor behind it."""
    rng, wall = placer.rng, placer.plan.wall
    w, h = between(rng, 0.75, 1.0), between(rng, 1.96, 2.12)
    cut = _cut(rng, cell, w, 0.0, h)
    if cut is None:
        return
    side, along = cut
    _hang_door(placer, side, along, w, h)
    if leads_out:
        deep = between(rng, 0.5, 1.2)
        yaw = side.yaw
        x, y = side.at(along, -wall - deep / 2)
        floor = box(w + 0.4, deep, 0.02, z=-0.02).turned(yaw).moved(x, y)
        placer.structure(floor, FLOOR, "floor", (150, 140, 130))
        x, y = side.at(along, -wall - deep)
        back = box(w + 0.4, 0.05, placer.plan.height, 0, -0.025).turned(yaw).moved(x, y)
        placer.structure(back, WALL, "wall", (205, 200, 190))


def _hang_door(placer: Placer, side: Side, along: float, w: float, h: float) -> None:
    x, y = side.at(along, 0.0)
    placer.put(openings.door(placer.rng, w, h, placer.plan.wall), x, y, 0.0, side.yaw, solid=False)
    placer.clear.append((*wall_rect(side, along, w, between(placer.rng, 0.5, 0.9)), 0.0, 2.0))


def add_inner_doors(placer: Placer, main: Cell) -> None:
    """Hang doors into some of the openings between cells and keep all of them free."""
    rng = placer.rng
    for cell in placer.plan.cells[1:]:
        for side in cell.sides:
            for hole in side.openings:
                w = hole.end - hole.start
                along = (hole.start + hole.end) / 2
                placer.clear.append((*wall_rect(side, along, w, 0.6), 0.0, 2.0))
                if w < 1.05 and chance(rng, 0.45):
                    _hang_door(placer, side, along, w, hole.high)
    for side in main.sides:
        for hole in side.openings:
            if hole.low == 0.0:
                placer.clear.append(
                    (
                        *wall_rect(side, (hole.start + hole.end) / 2, hole.end - hole.start, 0.7),
                        0.0,
                        2.0,
                    )
                )


def add_closet_doors(placer: Placer, cell: Cell) -> None:
    """Sliding or folding doors before a shallow closet; usually shut."""
    rng = placer.rng
    w, h = between(rng, 1.2, 2.2), between(rng, 1.96, 2.15)
    cut = _cut(rng, cell, w, 0.0, h)
    if cut is not None:
        side, along = cut
        x, y = side.at(along, 0.0)
        placer.put(
            openings.sliding_doors(rng, w, h, placer.plan.wall), x, y, 0.0, side.yaw, solid=False
        )
        placer.clear.append((*wall_rect(side, along, w, 0.5), 0.0, 2.0))


def add_window(placer: Placer, cell: Cell, curtains: float) -> None:
    """Cut a window, and perhaps hang a curtain or blinds before it or put a radiator below."""
    rng, wall = placer.rng, placer.plan.wall
    low = between(rng, 0.05, 0.3) if chance(rng, 0.18) else between(rng, 0.6, 1.1)
    high = min(placer.plan.height - 0.15, low + between(rng, 0.9, 1.8))
    w = between(rng, 0.6, 2.4)
    cut = _cut(rng, cell, w, low, high)
    if cut is None:
        return
    side, along = cut
    piece = openings.window(rng, w, high - low, wall)
    placer.hang(side, along, piece, low, 0.08)
    if chance(rng, curtains):
        bottom = 0.02 if chance(rng, 0.8) else max(0.02, low - 0.2)
        span = w + between(rng, 0.2, 1.4)
        if chance(rng, 0.55):  # along the whole wall
            free = [h for h in side.openings if (h.high < 90 and h.low > 0.0) or h.high >= 90]
            if len(free) == len(side.openings) and len([h for h in free if h.high >= 90]) == 0:
                span, along = side.length - 0.06, side.length / 2
        span = min(span, 2 * along - 0.02, 2 * (side.length - along) - 0.02)
        top = min(high + between(rng, 0.08, 0.6), placer.plan.height - 0.04)
        cloth = openings.curtain(rng, max(span, 0.5), top - bottom)
        placer.hang(side, along, cloth, bottom, 0.2)
    elif chance(rng, 0.35):
        placer.hang(side, along, openings.blinds(rng, w, high - low), low, 0.06)
    if low > 0.6 and chance(rng, 0.4):
        heater = catalogue.make("radiator", rng, w)
        x, y = side.at(along, heater.d / 2 + 0.03)
        if placer.free(wall_rect(side, along, heater.w, 0.2), 0.0, heater.h):
            placer.put(heater, x, y, 0.0, side.yaw)


def add_free_curtain(placer: Placer, cell: Cell) -> None:
    """A closed curtain over most of a wall, window or not."""
    rng = placer.rng
    sides = [s for s in cell.sides if not s.openings]
    if sides:
        side = sides[int(rng.integers(len(sides)))]
        w = side.length * between(rng, 0.5, 0.98)
        along = between(rng, w / 2, side.length - w / 2)
        top = placer.plan.height - between(rng, 0.05, 0.4)
        if placer.free(wall_rect(side, along, w, 0.2), 0.0, top):
            placer.hang(side, along, openings.curtain(rng, w, top), 0.0, 0.2)


def build_shell(placer: Placer) -> None:
    """Make walls, blocks, floors and ceiling of all cells, after all holes have been cut."""
    rng, plan = placer.rng, placer.plan
    paint, ground = WALLS[0], FLOORS[0]
    for index, cell in enumerate(plan.cells):
        paint = pick(rng, WALLS) if index == 0 or chance(rng, 0.4) else paint
        ground = pick(rng, FLOORS) if index == 0 or chance(rng, 0.5) else ground
        baseboard = between(rng, 0.06, 0.13) if chance(rng, 0.6) else 0.0
        accent = pick(rng, WALLS + FABRICS) if chance(rng, 0.3) else paint
        striking = int(rng.integers(len(cell.sides)))
        for k, side in enumerate(cell.sides):
            mesh = wall_mesh(side, plan.height, plan.wall / 2, rng, baseboard)
            placer.structure(mesh, WALL, "wall", accent if k == striking else paint)
        _steps_on_walls(placer, cell, paint)
        _coverings(placer, cell)
        for block in cell.blocks:
            mesh = (
                _slant(cell, block, plan.height)
                if block in cell.slants
                else _column(block, plan.height)
            )
            placer.structure(mesh, WALL, "wall", paint)
        floor = floor_mesh(cell.rect, 0.0, plan.wall, rng, 0.004)
        placer.structure(floor, FLOOR, "floor", ground)
        ceiling = floor_mesh(cell.rect, plan.height + 0.002 * index, plan.wall, rng, 0.0)
        placer.structure(ceiling, IGNORED, "ceiling", (235, 235, 235))


def _steps_on_walls(placer: Placer, cell: Cell, paint: Color) -> None:
    """Pilasters, ducts and wainscots where the wall is still free: not every step is a door."""
    rng = placer.rng
    for _ in range(int(rng.poisson(0.13 * sum(side.length for side in cell.sides)))):
        piece = wall_things.wall_step(rng, placer.plan.height)
        side = cell.sides[int(rng.integers(4))]
        if side.length < piece.w + 0.3:
            continue
        along = between(rng, piece.w / 2, side.length - piece.w / 2)
        span = (along - piece.w / 2, along + piece.w / 2)
        if not side.free(*span, 0.0, piece.h, 0.12):
            continue
        if not placer.free(wall_rect(side, along, piece.w, piece.d + 0.01), 0.0, piece.h):
            continue
        x, y = side.at(along, piece.d / 2 - 0.005)
        for part in piece.parts:
            mesh = part.mesh.turned(side.yaw).moved(x, y)
            placer.structure(mesh, WALL, "wall", paint)


def _coverings(placer: Placer, cell: Cell) -> None:
    """Paper, panelling or another paint on parts of a wall: a patch of colour is no picture or
    door."""
    rng, height = placer.rng, placer.plan.height
    for _ in range(int(rng.poisson(0.1 * sum(side.length for side in cell.sides)))):
        side = cell.sides[int(rng.integers(4))]
        if side.length < 0.8:
            continue
        w = side.length * between(rng, 0.15, 1.0)
        style = rng.random()
        if style < 0.35:  # the lower wall
            low, high = 0.0, between(rng, 0.7, 1.4)
        elif style < 0.7:  # from floor to ceiling
            low, high = 0.0, height - 0.01
        else:  # such as the papered field above a bed
            low = between(rng, 0.5, 1.2)
            high = min(low + between(rng, 0.5, 1.6), height - 0.02)
        along = between(rng, w / 2, side.length - w / 2)
        if not side.free(along - w / 2, along + w / 2, low, high, 0.12):
            continue
        x, y = side.at(along, 0.0)
        sheet = box(w, between(rng, 0.002, 0.02), high - low, 0, 0, low)
        name = "wallpaper" if chance(rng, 0.7) else "wall"
        color = pick(rng, FABRICS + WALLS + WOODS)
        placer.structure(sheet.turned(side.yaw).moved(x, y), WALL, name, color)


def _column(block: Rect, height: float) -> Mesh:
    x0, y0, x1, y1 = block
    return box(x1 - x0, y1 - y0, height, (x0 + x1) / 2, (y0 + y1) / 2)


def _slant(cell: Cell, block: Rect, height: float) -> Mesh:
    """The half of a corner block that lies behind its diagonal."""
    x0, y0, x1, y1 = block
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    # The corner opposite to the corner of the room is the one that is cut off.
    middle = ((cell.rect[0] + cell.rect[2]) / 2, (cell.rect[1] + cell.rect[3]) / 2)
    inner = min(corners, key=lambda c: (c[0] - middle[0]) ** 2 + (c[1] - middle[1]) ** 2)
    return prism([corner for corner in corners if corner != inner], height)
