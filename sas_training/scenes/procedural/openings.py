"""Doors, windows and what hangs before them.

Frame: x along the wall, the wall's face at y = 0, the room at y > 0, the wall body at y < 0.
"""

from __future__ import annotations

import numpy as np

from .furniture import CURTAINS, DOORS, METALS, PAINTS, Rng, between, chance, handles, pick
from .model import CURTAIN, DOOR, IGNORED, WINDOW, Piece, Surface
from .primitives import Mesh, box, cylinder, hanging_sheet, lump, merge


def strips_round(w: float, h: float, width: float, depth: float, y: float, bottom: bool) -> Mesh:
    """Strips round an opening w x h, standing on z = 0."""
    strips = [box(width, depth, h + width, s * (w + width) / 2, y) for s in (-1, 1)]
    strips.append(box(w + 2 * width, depth, width, 0, y, h))
    if bottom:
        strips.append(box(w + 2 * width, depth, width, 0, y, -width))
    return merge(strips)


def door(rng: Rng, w: float, h: float, wall: float) -> Piece:
    """Door leaf in its frame, in a hole w x h of a wall `wall` thick.

    Mostly shut: set back a few centimetres, flush, or in a frame that stands out. Some stand ajar
    or wide open.
    """
    piece = Piece("door", DOOR, w, wall, h, color=pick(rng, DOORS))
    trim = piece.color if chance(rng, 0.6) else pick(rng, DOORS)
    out = between(rng, 0.01, 0.05)
    deep = wall + out if chance(rng, 0.7) else 0.05 + out
    strip = between(rng, 0.04, 0.13)
    piece.add(strips_round(w, h, strip, deep, out - deep / 2, False), color=trim)
    leaf_t = 0.04
    leaf = [box(w - 0.01, leaf_t, h - 0.02, z=0.01)]
    style = rng.random()
    if style < 0.35:  # raised panels
        rows = int(rng.integers(1, 4))
        for row in range(rows):
            rise = (h - 0.3) / rows
            for side in (-1, 1):
                leaf.append(
                    box(w * 0.32, leaf_t + 0.016, rise - 0.1, side * w * 0.21, 0, 0.15 + row * rise)
                )
    elif style < 0.45:  # a kick plate or a closer
        leaf.append(box(w * 0.9, leaf_t + 0.01, 0.25, z=0.03))
    knob = between(rng, 0.92, 1.1)
    side = 1 if chance(rng, 0.5) else -1
    mesh = merge(leaf)
    grip = [lump(0.06, 0.15, 0.05, rng, side * (w / 2 - 0.07), 0, knob, 0.8, 0.0, 6)]
    if chance(rng, 0.6):
        grip.append(box(0.12, 0.05, 0.03, side * (w / 2 - 0.11), 0.05, knob))
    if chance(rng, 0.3):
        grip.append(box(0.05, 0.06, 0.2, side * (w / 2 - 0.06), 0, knob - 0.08))
    state = rng.random()
    back = min(between(rng, 0.02, 0.07), max(wall - 0.03, 0.02))
    y = -back if chance(rng, 0.7) else between(rng, -0.02, 0.01)
    metal = pick(rng, METALS)
    swing, hinge = 0.0, -side * w / 2
    if state > 0.7:
        swing = between(rng, 0.08, 0.6) if state < 0.84 else between(rng, 0.8, 1.9)
        swing *= (1 if chance(rng, 0.6) else -1) * (1 if hinge < 0 else -1)
    for part, color in ((mesh, piece.color), (merge(grip), metal)):
        piece.add(part.moved(-hinge).turned(swing).moved(hinge, y), color=color)
    return piece


def sliding_doors(rng: Rng, w: float, h: float, wall: float) -> Piece:
    """Closet doors, two to four leaves that slide past each other or fold."""
    piece = Piece("closet door", DOOR, w, wall, h, color=pick(rng, DOORS))
    count = int(rng.integers(2, 5))
    each = w / count
    for k in range(count):
        x = -w / 2 + each * (k + 0.5)
        piece.add(box(each * 1.02, 0.03, h - 0.02, x, -0.03 - 0.03 * (k % 2), 0.01))
        if chance(rng, 0.5):
            piece.add(handles(rng, x + each * 0.4, -0.02, 1.0, True))
    piece.add(strips_round(w, h, 0.05, 0.04, -0.01, False))
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
        piece.add(strips_round(w, h, between(rng, 0.05, 0.1), 0.03, 0.01, True))
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
    piece = Piece("curtain", CURTAIN, w, 0.15, h, color=pick(rng, CURTAINS))
    flat = chance(rng, 0.4)  # stretched cloth and panels have hardly any folds
    depth = between(rng, 0.003, 0.018) if flat else between(rng, 0.015, 0.07)
    fold = between(rng, 0.15, 0.6) if flat else between(rng, 0.08, 0.3)
    y = between(rng, 0.02, 0.1) + depth
    state = rng.random()
    if state < 0.68 or w < 0.6:
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
