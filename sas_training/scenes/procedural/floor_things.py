"""Larger things without a class that stand on the floor."""

from __future__ import annotations

import numpy as np

from .furniture import FABRICS, METALS, PAINTS, WOODS, Rng, between, chance, pick
from .model import IGNORED, Piece
from .primitives import box, cushion, cylinder, lathe, lump, tube

ALL = FABRICS + PAINTS + WOODS + METALS


def thing(name: str, w: float, d: float, h: float, rng: Rng, label: int = IGNORED) -> Piece:
    return Piece(name, label, w, d, h, color=pick(rng, ALL))


def computer(rng: Rng, s: float = 1.0) -> Piece:
    """Computer tower."""
    w, d, h = between(rng, 0.16, 0.22), between(rng, 0.4, 0.5), between(rng, 0.35, 0.48)
    return thing("computer tower", w, d, h, rng).add(box(w, d, h))


def suitcase(rng: Rng, s: float = 1.0) -> Piece:
    """Suitcase, standing or lying."""
    w, d, h = between(rng, 0.35, 0.5), between(rng, 0.2, 0.3), between(rng, 0.5, 0.75)
    if chance(rng, 0.4):
        d, h = h, d
    return thing("suitcase", w, d, h, rng).add(
        cushion(w, d, h, rng, rough=0.01), box(w * 0.4, 0.03, 0.06, z=h)
    )


def floor_lamp(rng: Rng, s: float = 1.0) -> Piece:
    """Standing lamp."""
    h, r = between(rng, 1.3, 1.8), between(rng, 0.12, 0.24)
    shade = lathe([(r, h - 0.3), (r * between(rng, 0.4, 1.0), h)], sides=14)
    return thing("floor lamp", 0.35, 0.35, h, rng).add(
        cylinder(0.15, 0.03), cylinder(0.015, h - 0.1, sides=6), shade
    )


def fan(rng: Rng, s: float = 1.0) -> Piece:
    """Standing fan, tripod, music stand or vacuum cleaner: thin things on the floor."""
    h = between(rng, 0.7, 1.3)
    piece = thing("fan", 0.4, 0.4, h, rng).add(
        cylinder(0.18, 0.03), cylinder(0.02, h - 0.2, sides=6)
    )
    return piece.add(cylinder(0.2, 0.1, sides=14).tilted(1.5).moved(0, 0.05, h - 0.2))


def drying_rack(rng: Rng, s: float = 1.0) -> Piece:
    """Rack with clothes."""
    w, d, h = between(rng, 0.8, 1.3), 0.55, between(rng, 0.8, 1.1)
    piece = thing("drying rack", w, d, h, rng)
    for sx in (-1, 1):
        piece.add(
            tube((sx * w / 2, -d / 2, 0), (sx * w / 2, d / 2, h), 0.012),
            tube((sx * w / 2, d / 2, 0), (sx * w / 2, -d / 2, h), 0.012),
        )
    for _ in range(int(rng.integers(2, 7))):
        cloth = box(between(rng, 0.25, 0.5), 0.03, between(rng, 0.3, 0.7))
        drop = float(cloth.vertices[:, 2].max())
        piece.add(
            cloth.moved(
                between(rng, -0.3, 0.3) * w, between(rng, -0.4, 0.4) * d, h - drop
            ).roughened(rng, 0.015, 0.3)
        )
    return piece


def bicycle(rng: Rng, s: float = 1.0) -> Piece:
    """Two wheels and a frame."""
    piece = thing("bicycle", 1.65, 0.5, 1.05, rng)
    for x in (-0.52, 0.52):
        ring = lathe(
            [(0.33, -0.02), (0.35, 0.0), (0.33, 0.02), (0.3, 0.0), (0.33, -0.02)], sides=16
        )
        piece.add(ring.tilted(1.5708).moved(x, 0, 0.34))
    hub, saddle, bar = (-0.52, 0.0, 0.34), (-0.2, 0.0, 0.9), (0.4, 0.0, 0.95)
    pedal = (-0.05, 0.0, 0.3)
    for a, b in (
        (hub, pedal),
        (pedal, saddle),
        (hub, saddle),
        (pedal, bar),
        (saddle, bar),
        (bar, (0.52, 0.0, 0.34)),
    ):
        piece.add(tube(a, b, 0.02))
    return piece.add(
        tube((0.4, -0.25, 1.0), (0.4, 0.25, 1.0), 0.015),
        cushion(0.25, 0.14, 0.07, rng, -0.2, 0, 0.92),
    )


def box_stack(rng: Rng, s: float = 1.0) -> Piece:
    """Heap of cartons, some askew, as in a move or a store room."""
    w, d = between(rng, 0.4, 1.0), between(rng, 0.35, 0.6)
    piece, top = thing("boxes", w, d, 0.4, rng), 0.0
    for x in (-w / 4, w / 4):
        z = 0.0
        for _ in range(int(rng.integers(1, 5))):
            bw, bd, bh = (
                w * between(rng, 0.35, 0.55),
                d * between(rng, 0.6, 1.0),
                between(rng, 0.15, 0.42),
            )
            piece.add(
                box(bw, bd, bh).turned(between(rng, -0.25, 0.25)).moved(x, 0, z),
                color=pick(rng, WOODS),
            )
            z += bh
        top = max(top, z)
    piece.h = top
    return piece


def machine(rng: Rng, s: float = 1.0) -> Piece:
    """Copier, server, cart, workbench tool: a block with steps and knobs."""
    w, d, h = between(rng, 0.4, 0.9), between(rng, 0.4, 0.7), between(rng, 0.6, 1.3)
    piece = thing("copier", w, d, h, rng).add(
        box(w, d, h * 0.6), box(w * 0.9, d * 0.8, h * 0.25, 0, 0, h * 0.6)
    )
    for _ in range(int(rng.integers(2, 6))):
        size = between(rng, 0.1, 0.35)
        piece.add(
            box(
                size,
                size,
                between(rng, 0.05, 0.3),
                between(rng, -0.4, 0.4) * w,
                between(rng, -0.4, 0.4) * d,
                h * between(rng, 0.3, 0.8),
            )
        )
    return piece


def partition(rng: Rng, s: float = 1.0) -> Piece:
    """Folding screen, room divider or easel."""
    w, h = between(rng, 0.8, 1.6), between(rng, 1.1, 1.8)
    piece = thing("room divider", w, 0.35, h, rng)
    count = int(rng.integers(1, 4))
    for k in range(count):
        leaf = box(w / count, 0.04, h).turned(0.3 * (-1) ** k if count > 1 else 0.0)
        piece.add(leaf.moved(w * ((k + 0.5) / count - 0.5)))
    return piece.add(box(0.05, 0.35, 0.04, -w / 2), box(0.05, 0.35, 0.04, w / 2))


def heap(rng: Rng, s: float = 1.0) -> Piece:
    """Irregular heap: laundry, coats, bedding, bags on each other."""
    w, d, h = between(rng, 0.5, 1.1), between(rng, 0.4, 0.8), between(rng, 0.25, 0.9)
    piece = thing("clothes", w, d, h, rng)
    for _ in range(int(rng.integers(2, 6))):
        part = lump(
            w * between(rng, 0.4, 0.8),
            d * between(rng, 0.4, 0.8),
            h * between(rng, 0.4, 0.9),
            rng,
            square=0.7,
            rough=0.22,
            detail=14,
        )
        piece.add(
            part.moved(between(rng, -0.25, 0.25) * w, between(rng, -0.25, 0.25) * d, 0.0),
            color=pick(rng, FABRICS),
        )
    return piece


def cable(rng: Rng, s: float = 1.0) -> Piece:
    """Cable or extension lead that winds over the floor, perhaps with a socket strip."""
    length = between(rng, 0.5, 2.0) * s
    piece = thing("cable", length, 0.4, 0.06, rng)
    piece.color = pick(rng, ((30, 30, 32), (240, 240, 238), (150, 150, 150)))
    count, radius = max(4, int(length / 0.12)), between(rng, 0.006, 0.014)
    xs = np.linspace(-length / 2, length / 2, count)
    ys = np.clip(np.cumsum(rng.normal(0, 0.06, count)), -0.18, 0.18)
    for k in range(count - 1):
        start = (float(xs[k]), float(ys[k]), radius)
        piece.add(tube(start, (float(xs[k + 1]), float(ys[k + 1]), radius), radius, 4))
    if chance(rng, 0.4):
        piece.add(box(0.3, 0.06, 0.05, float(xs[-1]) - 0.1, float(ys[-1])))
    return piece


def leaning(rng: Rng, s: float = 1.0) -> Piece:
    """Board, ironing board, mattress or rolled carpet that leans at what stands behind it."""
    w, h = between(rng, 0.3, 1.1) * s, between(rng, 0.6, 1.9) * s
    angle, thick = between(rng, 0.08, 0.45), between(rng, 0.02, 0.16)
    deep = h * float(np.sin(angle)) + thick
    high = h * float(np.cos(angle)) + thick * float(np.sin(angle))
    piece = thing("leaning board", w, deep, high, rng)
    sheet = cylinder(thick, h) if chance(rng, 0.15) else box(w, thick, h)
    # It stands on its lower front edge and leans backwards, to -y.
    sheet = sheet.tilted(angle)
    back, front = sheet.vertices[:, 1].min(), sheet.vertices[:, 1].max()
    return piece.add(sheet.moved(0, -float(back + front) / 2, -float(sheet.vertices[:, 2].min())))
