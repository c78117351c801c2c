"""Tables of all heights and desks."""

from __future__ import annotations

import numpy as np

from .furniture import (
    FABRICS,
    LINEN,
    METALS,
    PAINTS,
    WOODS,
    Rng,
    between,
    chance,
    handles,
    legs,
    pick,
)
from .model import DESK, IGNORED, TABLE, Piece, Surface
from .primitives import Mesh, box, cushion, cylinder, drape, lathe, merge


def _top(rng: Rng, w: float, d: float, h: float, thick: float, round_top: bool) -> Mesh:
    if round_top:
        return cylinder(w / 2, thick, z=h - thick, sides=22, stretch=d / w)
    return box(w, d, thick, z=h - thick)


def _frame(rng: Rng, w: float, d: float, h: float) -> Mesh:
    """What carries a table top: legs, side panels, trestles, a T-shaped frame or pedestals."""
    style = rng.random()
    if style < 0.5:
        thick = between(rng, 0.035, 0.08) if chance(rng, 0.7) else between(rng, 0.08, 0.14)
        bars = [legs(rng, w, d, h, thick, between(rng, 0, 0.08), between(rng, 0, 0.03))]
        if chance(rng, 0.5):
            apron = between(rng, 0.06, 0.14)
            bars += [box(w * 0.9, 0.02, apron, 0, sy * d * 0.42, h - apron) for sy in (-1, 1)]
            bars += [box(0.02, d * 0.84, apron, sx * w * 0.45, 0, h - apron) for sx in (-1, 1)]
        return merge(bars)
    if style < 0.64:
        thick, inset = between(rng, 0.03, 0.08), between(rng, 0.04, 0.2)
        return merge([box(thick, d * 0.92, h, sx * (w / 2 - inset)) for sx in (-1, 1)])
    if style < 0.76:
        feet = [box(0.08, d * 0.8, 0.05, sx * w * 0.38) for sx in (-1, 1)]
        posts = [box(0.07, 0.1, h, sx * w * 0.38) for sx in (-1, 1)]
        return merge([*feet, *posts, box(w * 0.76, 0.03, 0.08, z=h - 0.1)])
    if style < 0.88:
        posts_at = (0.0,) if w < 1.2 else (-w * 0.25, w * 0.25)
        foot = min(w, d) * between(rng, 0.2, 0.32)
        stem = between(rng, 0.04, 0.11)
        return merge(
            [
                mesh
                for x in posts_at
                for mesh in (cylinder(stem, h, x), cylinder(foot, 0.05, x, top=stem, sides=14))
            ]
        )
    return merge(
        [box(0.06, 0.06, h, sx * w * 0.36, sy * d * 0.36) for sx in (-1, 1) for sy in (-1, 1)]
        + [box(w * 0.72, 0.04, 0.04, 0, sy * d * 0.36, 0.1) for sy in (-1, 1)]
    )


def _cloth(rng: Rng, piece: Piece, w: float, d: float, h: float) -> None:
    """A tablecloth that hangs over the edge; it is annotated as a part of the table."""
    drop = between(rng, 0.08, 0.35) if chance(rng, 0.8) else between(rng, 0.4, max(0.41, h - 0.05))
    cloth = drape(w, d, h + 0.004, min(drop, h * 0.9), rng, between(rng, 0.002, 0.012), 0.1)
    piece.add(cloth, color=pick(rng, LINEN))


def table(rng: Rng, w: float, d: float, h: float, name: str = "table", label: int = TABLE) -> Piece:
    """Rectangular table on legs, panels or trestles; low ones often have a shelf below."""
    piece = Piece(name, label, w, d, h, color=pick(rng, WOODS + PAINTS))
    thick = between(rng, 0.02, 0.06)
    piece.add(_top(rng, w, d, h, thick, False), _frame(rng, w, d, h - thick))
    if h < 0.6 and chance(rng, 0.5):
        z = between(rng, 0.08, h * 0.45)
        piece.add(box(w * 0.85, d * 0.8, 0.02, z=z))
        piece.surfaces.append(Surface(0, 0, w * 0.8, d * 0.75, z + 0.02, h - z - 0.08, 0.5))
    elif h < 0.6 and chance(rng, 0.3):
        piece.add(box(w * 0.9, d * 0.85, h - 0.1, z=0.05))
    else:
        piece.surfaces.append(Surface(0, 0, w * 0.7, d * 0.7, 0.0, h * 0.7, 0.3))
    if h > 0.6 and chance(rng, 0.16):
        _cloth(rng, piece, w, d, h)
    return piece.top(mess=between(rng, 0.4, 1.5))


def round_table(rng: Rng, w: float, d: float, h: float, name: str = "round table") -> Piece:
    """Round or oval table on a pedestal or legs."""
    piece = Piece(name, TABLE, w, d, h, color=pick(rng, WOODS + PAINTS))
    thick = between(rng, 0.02, 0.05)
    piece.add(_top(rng, w, d, h, thick, True))
    if chance(rng, 0.6):
        r = between(rng, 0.03, 0.09)
        piece.add(
            cylinder(r, h - thick),
            lathe(
                [(0, 0.0), (w * 0.3, 0.0), (w * 0.28, 0.03), (r, between(rng, 0.05, 0.15))],
                stretch=d / w,
            ),
        )
    else:
        piece.add(legs(rng, w * 0.75, d * 0.75, h - thick, 0.045, 0, between(rng, 0, 0.06)))
    piece.surfaces.append(Surface(0, 0, w * 0.62, d * 0.62, h, 1.0, between(rng, 0.4, 1.5)))
    return piece


def meeting_table(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Long table of an office: rectangular, boat-shaped or oval."""
    piece = Piece("meeting table", TABLE, w, d, h, color=pick(rng, WOODS + PAINTS))
    if chance(rng, 0.35):
        piece.add(_top(rng, w, d, h, 0.04, True))
    else:
        piece.add(box(w, d * 0.86, 0.04, z=h - 0.04), box(w * 0.7, d, 0.04, z=h - 0.04))
    if chance(rng, 0.5):
        piece.add(*[box(0.5, d * 0.5, h - 0.04, sx * w * 0.28) for sx in (-1, 1)])
    else:
        piece.add(_frame(rng, w * 0.95, d * 0.9, h - 0.04))
    return piece.top(mess=between(rng, 0.1, 0.8))


def l_table(rng: Rng, w: float, d: float, h: float) -> Piece:
    """L-shaped table with footprint w x d: two runs of one height, nothing below but what carries
    them."""
    piece = Piece("L table", TABLE, w, d, h, color=pick(rng, WOODS + PAINTS))
    thick, side = between(rng, 0.02, 0.05), 1 if chance(rng, 0.5) else -1
    deep = min(between(rng, 0.5, 0.8), 0.6 * w, 0.6 * d)
    y, x = -d / 2 + deep / 2, side * (w - deep) / 2
    rest = d - deep
    piece.add(box(w, deep, thick, 0, y, h - thick), box(deep, rest, thick, x, deep / 2, h - thick))
    under = h - thick
    if chance(rng, 0.5):
        leg = between(rng, 0.04, 0.09)
        inner = x - side * (deep - leg) / 2
        ends = [(sx * (w - leg) / 2, sy) for sx in (-1, 1) for sy in (-1, 1)]
        feet = [(at, y + sy * (deep - leg) / 2) for at, sy in ends]
        feet += [(side * (w - leg) / 2, (d - leg) / 2), (inner, (d - leg) / 2)]
        piece.add(*[box(leg, leg, under, *foot) for foot in feet])
    else:
        piece.add(
            box(0.04, deep * 0.9, under, -side * (w / 2 - 0.04), y),
            box(deep * 0.9, 0.04, under, x, d / 2 - 0.04),
            box(0.05, 0.05, under, x - side * deep / 2, y + deep / 2),
        )
    mess = between(rng, 0.3, 1.2)
    piece.surfaces += [
        Surface(0, y, w * 0.95, deep * 0.9, h, 1.0, mess),
        Surface(x, deep / 2, deep * 0.9, rest * 0.95, h, 1.0, mess),
        Surface(0, y, w * 0.7, deep * 0.6, 0.0, h * 0.7, 0.3),
    ]
    return piece


def padded_table(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Low table with an upholstered top on short legs or a closed base."""
    piece = Piece("coffee table", TABLE, w, d, h, color=pick(rng, FABRICS))
    base = h * between(rng, 0.25, 0.65)
    piece.add(cushion(w, d, h - base, rng, z=base, rough=0.02))
    if chance(rng, 0.5):
        piece.add(legs(rng, w, d, base + 0.02, 0.06, 0.04), color=pick(rng, WOODS))
    else:
        piece.add(box(w * 0.96, d * 0.96, base + 0.03))
    return piece.top(mess=between(rng, 0.2, 1.2))


def _drawers(
    rng: Rng, piece: Piece, w: float, d: float, h: float, x: float, y: float, z: float
) -> None:
    """A block with drawer fronts under a table top."""
    piece.add(box(w, d, h, x, y, z))
    count = int(rng.integers(2, 5))
    for k in range(count):
        front = z + h * k / count
        piece.add(box(w * 0.94, 0.02, h / count - 0.02, x, y + d / 2 + 0.008, front + 0.01))
        piece.add(
            handles(rng, x, y + d / 2 + 0.015, front + h / count * 0.6, False),
            color=pick(rng, METALS),
        )


def desk(rng: Rng, w: float, d: float, h: float, name: str = "desk") -> Piece:
    """Writing desk: drawers at one or both sides, panels or legs, sometimes a hutch above."""
    piece = Piece(name, DESK, w, d, h, color=pick(rng, WOODS + PAINTS))
    thick = between(rng, 0.02, 0.045)
    piece.add(box(w, d, thick, z=h - thick))
    under = h - thick
    style = rng.random()
    side = 1 if chance(rng, 0.5) else -1
    block = min(between(rng, 0.34, 0.46), w * 0.36)
    if style < 0.4:
        _drawers(rng, piece, block, d * 0.92, under - 0.02, side * (w - block) / 2, 0, 0.02)
        piece.add(box(0.03, d * 0.95, under, -side * (w / 2 - 0.02)))
    elif style < 0.55:
        for sx in (-1, 1):
            _drawers(
                rng, piece, block * 0.9, d * 0.92, under - 0.02, sx * (w - block * 0.9) / 2, 0, 0.02
            )
    elif style < 0.75:
        piece.add(*[box(0.03, d * 0.95, under, sx * (w / 2 - 0.02)) for sx in (-1, 1)])
        if chance(rng, 0.5):
            _drawers(rng, piece, w * 0.9, d * 0.8, 0.12, 0, 0, under - 0.13)
    else:
        piece.add(_frame(rng, w, d, under))
    if chance(rng, 0.5):
        low = between(rng, 0.0, 0.4)
        piece.add(box(w * 0.95, 0.02, under - low, 0, -d / 2 + 0.03, low))
    if chance(rng, 0.18):
        rise, deep = between(rng, 0.35, 0.7), between(rng, 0.2, 0.3)
        y = -d / 2 + deep / 2
        piece.add(
            *[box(0.02, deep, rise, x, y, h) for x in np.linspace(-w / 2 + 0.01, w / 2 - 0.01, 4)]
        )
        piece.add(box(w, deep, 0.02, 0, y, h + rise), box(w, 0.015, rise, 0, -d / 2 + 0.01, h))
        piece.surfaces.append(Surface(0, y, w * 0.9, deep, h + rise + 0.02, 0.5, 0.7))
    elif chance(rng, 0.15):
        piece.add_other(
            box(w, 0.03, between(rng, 0.3, 0.5), 0, -d / 2 + 0.02, h),
            IGNORED,
            "desk screen",
            pick(rng, PAINTS),
        )
    piece.surfaces.append(Surface(0, 0, w * 0.6, d * 0.7, 0.0, under * 0.8, 0.55))
    return piece.top(mess=between(rng, 0.4, 1.0))


def corner_desk(rng: Rng, w: float, d: float, h: float) -> Piece:
    """L-shaped desk with footprint w x d; the long run is at the back."""
    piece = Piece("corner desk", DESK, w, d, h, color=pick(rng, WOODS + PAINTS))
    depth, thick = between(rng, 0.55, 0.75), 0.03
    side = 1 if chance(rng, 0.5) else -1
    x, y = side * (w - depth) / 2, -d / 2 + depth / 2
    piece.add(box(w, depth, thick, 0, y, h - thick), box(depth, d, thick, x, 0, h - thick))
    piece.add(
        box(0.03, depth * 0.9, h - thick, -side * (w / 2 - 0.03), y),
        box(depth * 0.9, 0.03, h - thick, x, d / 2 - 0.03),
    )
    if chance(rng, 0.6):
        _drawers(rng, piece, 0.4, depth * 0.9, h - thick, -side * (w / 2 - 0.25), y, 0.0)
    if chance(rng, 0.5):
        piece.add(box(w, 0.02, h * 0.6, 0, -d / 2 + 0.02, h * 0.4))
    mess = between(rng, 0.4, 1.0)
    piece.surfaces += [
        Surface(0, y, w * 0.95, depth * 0.9, h, 1.0, mess),
        Surface(x, depth / 2, depth * 0.9, d - depth, h, 1.0, mess),
        Surface(0, y, w * 0.6, depth * 0.6, 0.0, h * 0.7, 0.5),
    ]
    return piece
