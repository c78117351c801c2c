"""What hangs or stands at a wall: pictures, boards, radiators, screens, shelves, steps.

Frame: x along the wall, the wall's face at y = 0, the room at y > 0, the wall body at y < 0.
"""

from __future__ import annotations

import numpy as np

from .furniture import (
    FABRICS,
    PAINTS,
    WOODS,
    Rng,
    between,
    chance,
    pick,
)
from .model import IGNORED, OTHERFURNITURE, PICTURE, WALL, Piece, Surface
from .openings import strips_round
from .primitives import box, cylinder, hanging_sheet, lump


def picture(rng: Rng, w: float, h: float) -> Piece:
    """Framed picture or poster; its lower edge at z = 0."""
    piece = Piece("picture", PICTURE, w, 0.05, h, color=pick(rng, WOODS + PAINTS))
    deep = between(rng, 0.015, 0.06)
    piece.add(box(w, deep, h, 0, deep / 2))
    if chance(rng, 0.6):
        bar = between(rng, 0.02, 0.06)
        piece.add(strips_round(w - 2 * bar, h - 2 * bar, bar, 0.03, deep, True).moved(0, 0, bar))
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
    piece.add(strips_round(w, h, 0.03, 0.03, 0.015, True))
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
    if chance(rng, 0.4) and d > 0.15:  # a niche or fireplace
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


def wall_step(rng: Rng, height: float) -> Piece:
    """A step of the wall itself that is neither door nor cabinet: pilaster, panel, beam or duct."""
    style = rng.random()
    if style < 0.45:  # as wide and high as a door, standing out a few centimetres
        w, h = between(rng, 0.5, 1.6), between(rng, 1.8, height)
        d = between(rng, 0.02, 0.12)
        piece = Piece("wall", WALL, w, d, h)
        return piece.add(box(w, d, h))
    if style < 0.7:  # chimney breast or duct
        w, d = between(rng, 0.15, 0.5), between(rng, 0.1, 0.4)
        piece = Piece("wall", WALL, w, d, height)
        return piece.add(box(w, d, height - 0.01))
    w, h = between(rng, 0.8, 2.4), between(rng, 0.8, 1.3)  # wainscot with a ledge
    d = between(rng, 0.02, 0.08)
    piece = Piece("wall", WALL, w, d, h)
    return piece.add(box(w, d, h), box(w, d + 0.06, 0.04, 0, 0.03, h))


def wall_clutter(rng: Rng) -> Piece:
    """Small things on a wall: switches, clocks, hooks with coats, dispensers, air conditioners."""
    style = int(rng.integers(8))
    color = pick(rng, PAINTS)
    if style == 5:
        w, h = between(rng, 0.4, 1.3), between(rng, 0.5, 1.5)
        piece = Piece("wall hanging", IGNORED, w, 0.08, h, color=pick(rng, FABRICS))
        cloth = hanging_sheet(w, h, between(rng, 0.003, 0.02), between(rng, 0.2, 0.6), rng, 0, 0.04)
        return piece.add(cloth)
    if style == 6:
        w, h = between(rng, 0.3, 0.9), between(rng, 0.3, 0.8)
        piece = Piece("notice board", IGNORED, w, 0.06, h, color=pick(rng, WOODS))
        piece.add(box(w, 0.02, h, 0, 0.01))
        for _ in range(int(rng.integers(2, 8))):
            x, z = between(rng, -0.4, 0.4) * w, between(rng, 0.05, 0.7) * h
            piece.add(box(0.12, 0.03, 0.16, x, 0.015, z), color=pick(rng, PAINTS))
        return piece
    if style == 7:
        size = between(rng, 0.25, 0.6)
        piece = Piece("hanging bag", IGNORED, size, 0.2, size * 1.3, color=pick(rng, FABRICS))
        return piece.add(
            lump(size, 0.2, size * 1.2, rng, 0, 0.11, 0.0, 0.6, 0.2, 12),
            box(0.04, 0.08, 0.05, 0, 0.04, size * 1.2),
        )
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
