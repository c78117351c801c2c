"""What sits in or on a wall: doors, windows, curtains, pictures, boards, radiators, screens.

Frame: x along the wall, the wall's face at y = 0, the room at y > 0, the wall body at y < 0.
"""

from __future__ import annotations

import numpy as np

from .furniture import FABRICS, METALS, PAINTS, WOODS, Rng, between, chance, handles, pick
from .model import CURTAIN, DOOR, IGNORED, OTHERFURNITURE, PICTURE, WINDOW, Piece, Surface
from .primitives import Mesh, box, cylinder, hanging_sheet, lump, merge


def _frame(w: float, h: float, width: float, depth: float, y: float, bottom: bool) -> Mesh:
    """Strips round an opening w x h, standing on z = 0."""
    strips = [box(width, depth, h + width, s * (w + width) / 2, y) for s in (-1, 1)]
    strips.append(box(w + 2 * width, depth, width, 0, y, h))
    if bottom:
        strips.append(box(w + 2 * width, depth, width, 0, y, -width))
    return merge(strips)


def door(rng: Rng, w: float, h: float, wall: float) -> Piece:
    """Door leaf in its frame, in a hole w x h of a wall `wall` thick; closed, ajar or wide open."""
    piece = Piece("door", DOOR, w, wall, h, color=pick(rng, WOODS + PAINTS))
    piece.add(_frame(w, h, between(rng, 0.04, 0.1), wall + 0.03, -wall / 2, False))
    leaf_t = 0.04
    leaf = [box(w - 0.01, leaf_t, h - 0.02, z=0.01)]
    if chance(rng, 0.5):  # raised panels
        for row in range(int(rng.integers(1, 4))):
            z = 0.12 + row * h * 0.3
            leaf.append(box(w * 0.7, leaf_t + 0.02, h * 0.25, z=z))
    knob = between(rng, 0.95, 1.08)
    side = 1 if chance(rng, 0.5) else -1
    leaf.append(lump(0.06, 0.14, 0.05, rng, side * (w / 2 - 0.07), 0, knob, 0.8, 0.0, 6))
    if chance(rng, 0.4):
        leaf.append(box(0.1, 0.05, 0.03, side * (w / 2 - 0.11), 0.04, knob))
    mesh = merge(leaf)
    state = rng.random()
    y = -between(rng, 0.02, max(wall - 0.02, 0.03)) if chance(rng, 0.5) else -0.02
    if state < 0.6:
        piece.add(mesh.moved(0, y))
    else:
        swing = between(rng, 0.2, 1.9) * (1 if chance(rng, 0.6) else -1)
        hinge = -side * w / 2
        turned = mesh.moved(-hinge).turned(swing * (1 if hinge < 0 else -1)).moved(hinge, y)
        piece.add(turned)
    return piece


def sliding_doors(rng: Rng, w: float, h: float, wall: float) -> Piece:
    """Closet doors, two to four leaves that slide past each other or fold."""
    piece = Piece("closet door", DOOR, w, wall, h, color=pick(rng, WOODS + PAINTS))
    count = int(rng.integers(2, 5))
    each = w / count
    for k in range(count):
        x = -w / 2 + each * (k + 0.5)
        piece.add(box(each * 1.02, 0.03, h - 0.02, x, -0.03 - 0.03 * (k % 2), 0.01))
        if chance(rng, 0.5):
            piece.add(handles(rng, x + each * 0.4, -0.02, 1.0, True))
    piece.add(_frame(w, h, 0.05, 0.04, -0.01, False))
    return piece


def window(rng: Rng, w: float, h: float, wall: float) -> Piece:
    """Frame, bars, sill and a pane that depth cameras mostly look through; lower edge at z = 0."""
    piece = Piece(
        "window", WINDOW, w, wall, h, color=pick(rng, ((240, 240, 240), (90, 70, 55), (60, 60, 62)))
    )
    y = -between(rng, 0.04, max(wall * 0.8, 0.05))
    bar = between(rng, 0.05, 0.1)
    piece.add(
        *[box(bar, 0.06, h, s * (w - bar) / 2, y) for s in (-1, 1)],
        *[box(w, 0.06, bar, 0, y, z) for z in (0, h - bar)],
    )
    for k in range(1, max(1, round(w / between(rng, 0.5, 1.0)))):
        piece.add(box(bar * 0.8, 0.05, h, -w / 2 + w * k / max(1, round(w / 0.7)), y))
    if chance(rng, 0.4):
        piece.add(box(w, 0.05, bar * 0.8, 0, y, h * between(rng, 0.35, 0.75)))
    if chance(rng, 0.6):
        piece.add(_frame(w, h, between(rng, 0.05, 0.1), 0.03, 0.01, True))
    seen = between(rng, 0.05, 0.9)
    piece.add_other(box(w, 0.008, h, 0, y - 0.01), WINDOW, "window", (190, 205, 220), seen)
    if chance(rng, 0.65):
        deep = between(rng, 0.03, 0.25)
        piece.add(box(w + 0.1, deep - y, 0.035, 0, (deep + y) / 2, -0.035))
        if deep > 0.08 or y < -0.1:
            piece.surfaces.append(
                Surface(0, (deep + y) / 2, w * 0.9, (deep - y) * 0.85, 0.0, 0.4, 0.7)
            )
    return piece


def blinds(rng: Rng, w: float, h: float) -> Piece:
    """Slats or a roller in front of a window; NYU40 has its own class, so ignored."""
    piece = Piece("blinds", IGNORED, w, 0.05, h, color=pick(rng, PAINTS))
    drop = h * between(rng, 0.25, 1.0)
    if chance(rng, 0.6):
        count = max(3, int(drop / 0.06))
        slats = [
            box(w, 0.035, 0.006, 0, 0.03, h - drop * k / count).tilted(
                0.5, 0, (0, 0.03, h - drop * k / count)
            )
            for k in range(count)
        ]
        piece.add(*slats)
    else:
        piece.add(box(w, 0.01, drop, 0, 0.03, h - drop))
    piece.add(box(w, 0.06, 0.06, 0, 0.03, h))
    return piece


def curtain(rng: Rng, w: float, h: float, low: float = 0.02) -> Piece:
    """Cloth from a rail at height `h` down to `low`: closed, or drawn to both sides."""
    piece = Piece("curtain", CURTAIN, w, 0.15, h, color=pick(rng, FABRICS + PAINTS))
    depth, fold = between(rng, 0.015, 0.07), between(rng, 0.08, 0.3)
    y = 0.05 + depth
    state = rng.random()
    if state < 0.55 or w < 0.6:
        piece.add(hanging_sheet(w, h - low, depth, fold, rng, 0, y, low))
        if chance(rng, 0.3):  # a second, lighter layer in front of the first
            piece.add(hanging_sheet(w * 0.35, h - low, depth, fold, rng, -w * 0.3, y + 0.07, low))
    else:
        share = between(rng, 0.12, 0.42)
        sides = (-1, 1) if state < 0.9 else (1,)
        for s in sides:
            piece.add(
                hanging_sheet(
                    w * share,
                    h - low,
                    depth * 1.3,
                    fold * 0.7,
                    rng,
                    s * w * (1 - share) / 2,
                    y,
                    low,
                )
            )
    if chance(rng, 0.5):
        rod = cylinder(0.015, w + 0.2, sides=6).tilted(np.pi / 2, 1).moved(-w / 2 - 0.1, y, h)
        piece.add_other(rod, IGNORED, "curtain rod", pick(rng, METALS))
    return piece


def picture(rng: Rng, w: float, h: float) -> Piece:
    """Framed picture or poster; its lower edge at z = 0."""
    piece = Piece("picture", PICTURE, w, 0.05, h, color=pick(rng, WOODS + PAINTS))
    deep = between(rng, 0.015, 0.06)
    piece.add(box(w, deep, h, 0, deep / 2))
    if chance(rng, 0.6):
        bar = between(rng, 0.02, 0.06)
        piece.add(_frame(w - 2 * bar, h - 2 * bar, bar, 0.03, deep, True).moved(0, 0, bar))
    return piece


def board(rng: Rng, w: float, h: float) -> Piece:
    """Whiteboard, pin board or blackboard with a tray; ignored."""
    name = ("whiteboard", "bulletin board", "blackboard")[int(rng.choice(3, p=(0.6, 0.25, 0.15)))]
    piece = Piece(
        name,
        IGNORED,
        w,
        0.08,
        h,
        color={"whiteboard": (245, 245, 245), "blackboard": (40, 60, 50)}.get(
            name, (190, 150, 100)
        ),
    )
    piece.add(box(w, 0.025, h, 0, 0.012), box(w * 0.8, 0.07, 0.02, 0, 0.035))
    return piece


def mirror(rng: Rng, w: float, h: float) -> Piece:
    """Mirror, which depth cameras see badly; ignored."""
    piece = Piece("mirror", IGNORED, w, 0.03, h, color=(200, 205, 210))
    piece.add_other(box(w, 0.015, h, 0, 0.01), IGNORED, "mirror", (200, 205, 210), 0.3)
    piece.add(_frame(w, h, 0.03, 0.03, 0.015, True))
    return piece


def wall_screen(rng: Rng, w: float, h: float) -> Piece:
    """Television or projection screen on the wall; ignored."""
    piece = Piece("television", IGNORED, w, 0.1, h, color=(25, 25, 28))
    piece.add_other(
        box(w, 0.05, h, 0, between(rng, 0.04, 0.1)), IGNORED, "television", (25, 25, 28), 0.75
    )
    return piece


def radiator(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Ribbed or flat heater below a window or at a free wall; stands 8-15 cm above the floor."""
    piece = Piece("radiator", OTHERFURNITURE, w, d, h, color=pick(rng, PAINTS))
    low = between(rng, 0.08, 0.15)
    if chance(rng, 0.5):
        piece.add(
            *[
                box(0.05, d * 0.8, h - low, float(x), 0, low)
                for x in np.arange(-w / 2, w / 2, 0.075)
            ]
        )
    else:
        piece.add(box(w, d * 0.7, h - low, 0, 0, low))
    return piece.top(mess=0.15, free=0.3)


def wall_shelf(rng: Rng, w: float, d: float) -> Piece:
    """One to three boards on a wall with things on them; ignored like NYU40 "shelves"."""
    piece = Piece("wall shelf", IGNORED, w, d, 0.03, color=pick(rng, WOODS + PAINTS))
    for k in range(int(rng.integers(1, 4))):
        z = 0.33 * k
        piece.add(box(w, d, 0.025, 0, d / 2, z))
        piece.surfaces.append(Surface(0, d / 2, w * 0.92, d * 0.85, z + 0.025, 0.28, 0.9))
        piece.h = z + 0.3
    return piece


def built_in(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Part of the house that is no plain wall: fireplace, panelling, duct, beam; ignored."""
    piece = Piece("built-in structure", IGNORED, w, d, h, color=pick(rng, WOODS + PAINTS))
    if chance(rng, 0.5) and d > 0.15:  # a niche or fireplace
        side = w * between(rng, 0.15, 0.3)
        low = h * between(rng, 0.0, 0.3)
        piece.add(*[box(side, d, h, s * (w - side) / 2) for s in (-1, 1)])
        piece.add(
            box(w, d, max(low, 0.05)), box(w, d, h * 0.3, z=h * 0.7), box(w, 0.03, h, 0, -d / 2)
        )
    else:
        piece.add(box(w, d, h))
        piece.add(
            *[
                box(w * 0.98, d + 0.03, 0.04, z=float(z))
                for z in np.arange(0.3, h, between(rng, 0.3, 0.9))
            ]
        )
    return piece.top(mess=0.8) if h < 1.6 else piece


def wall_clutter(rng: Rng) -> Piece:
    """Small things on a wall: switches, clocks, hooks with coats, dispensers, air conditioners."""
    style = int(rng.integers(5))
    color = pick(rng, PAINTS)
    if style == 0:
        piece = Piece("switch", IGNORED, 0.1, 0.03, 0.12, color=color)
        return piece.add(box(0.09, 0.02, 0.12, 0, 0.01))
    if style == 1:
        piece = Piece("clock", IGNORED, 0.3, 0.05, 0.3, color=color)
        return piece.add(cylinder(0.15, 0.05, sides=16).tilted(-np.pi / 2).moved(0, 0, 0.15))
    if style == 2:
        w = between(rng, 0.3, 0.9)
        piece = Piece("coat rack", IGNORED, w, 0.15, 0.9, color=pick(rng, WOODS))
        piece.add(box(w, 0.03, 0.08, 0, 0.015, 0.82))
        for x in np.arange(-w / 2 + 0.1, w / 2, 0.22):
            high = between(rng, 0.5, 0.85)
            coat = lump(
                between(rng, 0.18, 0.4),
                between(rng, 0.12, 0.25),
                high,
                rng,
                float(x),
                0.1,
                0.86 - high,
                0.5,
                0.2,
                12,
            )
            piece.add_other(coat, IGNORED, "coat", pick(rng, FABRICS))
        return piece
    if style == 3:
        piece = Piece("dispenser", IGNORED, 0.28, 0.15, 0.35, color=color)
        return piece.add(box(0.28, 0.14, 0.35, 0, 0.07))
    w = between(rng, 0.7, 1.0)
    piece = Piece("air conditioner", IGNORED, w, 0.22, 0.28, color=(238, 238, 236))
    return piece.add(box(w, 0.22, 0.28, 0, 0.11))
