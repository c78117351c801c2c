"""Chairs, stools, armchairs, sofas, benches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .furniture import (
    FABRICS,
    METALS,
    PAINTS,
    WOODS,
    Rng,
    between,
    blanket,
    chance,
    legs,
    pick,
    pillow,
    star_base,
)  # fmt: skip
from .model import Piece
from .primitives import Mesh, box, cushion, cylinder, lathe, lump, merge, tube


def _curved_back(w: float, h: float, bow: float, thick: float) -> Mesh:
    """Upright panel bowed backwards in its middle, its foot at the origin."""
    xs = np.linspace(-w / 2, w / 2, 7)
    slats = []
    for left, right in pairwise(xs):
        middle = (left + right) / 2
        y = bow * ((2 * middle / w) ** 2 - 1)
        slats.append(box(float(right - left) * 1.05, thick, h, float(middle), float(y)))
    return merge(slats)


def _chair_back(rng: Rng, w: float, h: float, thick: float) -> Mesh:
    """Back of a chair, w wide and h high, its foot at the origin."""
    style = int(rng.integers(5))
    if style == 0:
        return box(w, thick, h)
    if style == 1:
        posts = [box(thick, thick, h, sx * (w / 2 - thick / 2)) for sx in (-1, 1)]
        rails = [
            box(w, thick, 0.05, z=z) for z in np.linspace(h * 0.25, h - 0.05, rng.integers(2, 5))
        ]
        return merge([*posts, *rails])
    if style == 2:
        posts = [box(0.025, thick, h, x) for x in np.linspace(-w / 2, w / 2, rng.integers(4, 8))]
        return merge([*posts, box(w, thick, 0.07, z=h - 0.07)])
    if style == 3:
        posts = [box(thick, thick, h, sx * (w / 2 - thick / 2)) for sx in (-1, 1)]
        return merge([*posts, box(w, thick * 1.4, h * 0.5, z=h * 0.5)])
    return _curved_back(w, h, between(rng, 0.03, 0.09), thick)


def dining_chair(
    rng: Rng, w: float, d: float, h: float, name: str = "chair", label: int = 4
) -> Piece:
    """Chair with legs, a seat and a back; often upholstered, sometimes with arms."""
    piece = Piece(name, label, w, d, h, color=pick(rng, WOODS + PAINTS + FABRICS))
    seat, thick = between(rng, 0.42, 0.49), between(rng, 0.025, 0.05)
    style = rng.random()
    if style < 0.65:
        piece.add(legs(rng, w, d, seat, between(rng, 0.025, 0.05), 0.01, between(rng, 0, 0.04)))
    elif style < 0.8:  # sled base
        for x in (-w / 2 + 0.03, w / 2 - 0.03):
            bars = [tube((x, y, 0.015), (x, y, seat), 0.013) for y in (-d / 2 + 0.03, d / 2 - 0.03)]
            piece.add(*bars, tube((x, -d / 2 + 0.03, 0.015), (x, d / 2 - 0.03, 0.015), 0.013))
    elif style < 0.9:
        piece.add(*[box(0.03, d * 0.9, seat, sx * (w / 2 - 0.02)) for sx in (-1, 1)])
    else:
        piece.add(cylinder(0.03, seat, sides=8), cylinder(0.22, 0.03, sides=12))
    padded = chance(rng, 0.5)
    top = cushion(w, d, 0.09, rng, z=seat - 0.05) if padded else box(w, d, thick, z=seat - thick)
    back = _chair_back(rng, w * between(rng, 0.85, 1.0), h - seat, thick if not padded else 0.06)
    lean = between(rng, 0.0, 0.25)
    piece.add(top, back.tilted(lean).moved(0, -d / 2 + thick, seat - 0.01))
    if chance(rng, 0.3):
        arm = seat + between(rng, 0.18, 0.26)
        for sx in (-1, 1):
            x = sx * (w / 2 - 0.02)
            piece.add(
                box(0.05, d * 0.8, 0.03, x, -0.03, arm),
                box(0.03, 0.03, arm - seat, x, d * 0.3, seat),
            )
    return piece.top(seat + 0.03, mess=0.16, free=0.4)


def office_chair(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Swivel chair with a star base, padded seat, curved back and often arms."""
    piece = Piece(
        "office chair", 4, w, d, h, color=pick(rng, ((36, 36, 38), (60, 60, 66), *FABRICS))
    )
    seat = between(rng, 0.42, 0.54)
    piece.add(star_base(rng, between(rng, 0.26, 0.33), seat - 0.05), color=pick(rng, METALS))
    sw = w * between(rng, 0.72, 0.85)
    piece.add(cushion(sw, d * 0.75, between(rng, 0.07, 0.12), rng, z=seat - 0.06))
    gap = between(rng, 0.0, 0.18)
    bh = h - seat - gap
    back = (
        _curved_back(sw * 0.95, bh, between(rng, 0.03, 0.08), 0.035)
        if chance(rng, 0.5)
        else cushion(sw * 0.95, 0.09, bh, rng)
    )
    y = -d * 0.36
    piece.add(
        back.tilted(between(rng, 0, 0.3)).moved(0, y, seat + gap),
        box(0.08, 0.03, gap + 0.12, 0, y - 0.02, seat - 0.02),
    )
    if chance(rng, 0.15):
        piece.add(cushion(sw * 0.6, 0.08, 0.16, rng, 0, y - 0.08, h + 0.02))
    if chance(rng, 0.65):
        arm = seat + between(rng, 0.16, 0.25)
        for sx in (-1, 1):
            x = sx * (sw / 2 + 0.04)
            piece.add(cushion(0.08, d * 0.42, 0.045, rng, x, 0, arm))
            piece.add(tube((x, 0, seat - 0.03), (x, 0, arm + 0.02), 0.02))
            piece.add(tube((x, 0, seat - 0.02), (x * 0.6, 0, seat - 0.02), 0.02))
    return piece.top(seat + 0.04, mess=0.12, free=0.4)


def armchair(
    rng: Rng, w: float, d: float, h: float, name: str = "armchair", label: int = 4
) -> Piece:
    """Upholstered chair with closed arms, or a rounded tub chair."""
    piece = Piece(name, label, w, d, h, color=pick(rng, FABRICS))
    seat, foot = between(rng, 0.38, 0.46), between(rng, 0.0, 0.14)
    if foot > 0.04:
        piece.add(legs(rng, w * 0.8, d * 0.8, foot + 0.02, 0.05), color=pick(rng, WOODS))
    if chance(rng, 0.3):  # tub: half a ring round the seat
        arc = np.linspace(-0.15 * np.pi, 1.15 * np.pi, 11)
        for a in arc:
            rise = (h - foot) * (0.72 + 0.28 * float(np.sin(np.clip(a, 0, np.pi))))
            x, y = (w / 2 - 0.07) * float(np.cos(a)), -(d / 2 - 0.07) * float(np.sin(a))
            piece.add(box(0.2, 0.12, rise, z=foot).turned(-float(a) + np.pi / 2).moved(x, y))
        piece.add(cylinder(w / 2 - 0.08, seat - foot, z=foot, sides=14))
        return piece.top(seat, mess=0.3, free=0.35)
    arm_w, arm_h = between(rng, 0.09, 0.2), between(rng, 0.52, 0.66)
    back_t = between(rng, 0.13, 0.24)
    piece.add(
        box(w, d, max(seat - foot - 0.12, 0.08), z=foot),
        *[
            cushion(arm_w, d * 0.96, arm_h - foot, rng, sx * (w - arm_w) / 2, 0, foot)
            for sx in (-1, 1)
        ],
        cushion(w - 2 * arm_w, d - back_t, 0.17, rng, 0, back_t / 2, seat - 0.14),
        cushion(w * 0.98, back_t, h - foot, rng)
        .tilted(between(rng, 0, 0.14))
        .moved(0, -d / 2 + back_t / 2, foot),
    )
    if chance(rng, 0.4):
        pillow(rng, piece, 0, -d / 2 + back_t + 0.12, seat, 1.1)
    if chance(rng, 0.2):
        blanket(rng, piece, w * 0.6, d * 0.5, seat + 0.04, 0, 0.05)
    return piece.top(seat + 0.02, mess=0.2, free=0.35)


def stool(rng: Rng, w: float, d: float, h: float, name: str = "stool") -> Piece:
    """Backless seat on legs, a pedestal, or a bar stool with a low back."""
    piece = Piece(name, 4, w, d, h, color=pick(rng, WOODS + METALS + FABRICS))
    r = w / 2
    if chance(rng, 0.3):
        piece.add(cylinder(0.025, h), cylinder(r * 0.95, 0.025, sides=12))
    else:
        piece.add(legs(rng, w * 0.68, d * 0.68, h - 0.02, 0.03, 0.0, between(rng, 0.0, 0.05)))
        if chance(rng, 0.6):
            z = between(rng, 0.12, 0.3)
            piece.add(*[box(w * 0.7, 0.02, 0.02, 0, sy * d * 0.34, z) for sy in (-1, 1)])
    piece.add(
        cylinder(r, 0.04, z=h - 0.04, sides=12)
        if chance(rng, 0.5)
        else cushion(w, d, 0.09, rng, z=h - 0.06)
    )
    if name == "bar stool" and chance(rng, 0.5):
        piece.add(_curved_back(w, between(rng, 0.15, 0.35), 0.05, 0.03).moved(0, -d / 2 + 0.05, h))
    return piece


def stacked_chairs(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Two to five equal chairs pushed into one another."""
    piece = Piece("stacked chairs", 4, w, d, h, color=pick(rng, PAINTS + FABRICS))
    chair = dining_chair(rng, w, d, between(rng, 0.78, 0.86))
    rise = between(rng, 0.06, 0.12)
    for k in range(int(rng.integers(2, 6))):
        piece.add(merge([p.mesh.moved(0, 0.02 * k, rise * k) for p in chair.parts]))
    return piece


def folding_chair(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Thin chair with crossed legs."""
    piece = Piece("folding chair", 4, w, d, h, color=pick(rng, METALS + WOODS))
    seat = between(rng, 0.42, 0.46)
    for sx in (-1, 1):
        x = sx * (w / 2 - 0.02)
        piece.add(
            tube((x, d / 2, 0), (x, -d / 2, h), 0.014),
            tube((x * 0.9, -d / 2, 0), (x * 0.9, d / 3, seat), 0.014),
        )
    piece.add(
        box(w * 0.9, d * 0.75, 0.025, z=seat),
        box(w * 0.9, 0.02, between(rng, 0.12, 0.3), 0, -d * 0.4, h * 0.74),
    )
    return piece.top(seat + 0.02, mess=0.1, free=0.3)


def bench(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Long seat without a back."""
    piece = Piece("bench", 19, w, d, h, color=pick(rng, WOODS + FABRICS))
    piece.add(
        legs(rng, w, d, h - 0.05, 0.05) if chance(rng, 0.6) else box(w * 0.95, d * 0.9, h - 0.05)
    )
    piece.add(
        box(w, d, 0.05, z=h - 0.05) if chance(rng, 0.5) else cushion(w, d, 0.1, rng, z=h - 0.07)
    )
    return piece.top(mess=0.5)


def ottoman(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Padded footstool: a block, a drum or a bean bag."""
    piece = Piece("ottoman", 19, w, d, h, color=pick(rng, FABRICS))
    style = int(rng.integers(3))
    if style == 0:
        piece.add(cushion(w, d, h, rng))
    elif style == 1:
        piece.add(lathe([(0, 0), (w / 2, 0), (w / 2 * 1.05, h / 2), (w / 2 * 0.95, h), (0, h)]))
    else:
        piece.name = "bean bag"
        piece.add(lump(w * 1.3, d * 1.3, h * 1.3, rng, square=0.8, rough=0.15, detail=14))
    return piece.top(mess=0.25)
