"""Beds with mattress, bedding and mess."""

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
    blanket,
    chance,
    legs,
    pick,
)
from .model import BED, IGNORED, Piece, Surface
from .primitives import box, cushion, drape, lump


def _bedding(rng: Rng, piece: Piece, w: float, length: float, z: float, y: float) -> None:
    """Mattress top, duvet (flat, crumpled or heaped), pillows and things on a lying surface."""
    head = y - length / 2
    style = rng.random()
    if style < 0.6:
        cover = drape(
            w,
            length * between(rng, 0.65, 1.0),
            z,
            between(rng, 0.02, 0.4),
            rng,
            between(rng, 0.012, 0.06),
        )
        gap = length - (cover.vertices[:, 1].max() - cover.vertices[:, 1].min())
        piece.add(cover.moved(0, y + max(0.0, float(gap)) / 2), color=pick(rng, LINEN))
    if 0.4 < style < 0.9:
        heap = lump(
            w * between(rng, 0.4, 0.9),
            length * between(rng, 0.3, 0.6),
            between(rng, 0.12, 0.35),
            rng,
            square=0.7,
            rough=0.22,
            detail=18,
        )
        x, shift = between(rng, -0.15, 0.15) * w, between(rng, -0.1, 0.3) * length
        piece.add(heap.moved(x, y + shift * 0.6, z - 0.05), color=pick(rng, LINEN))
    rows = int(rng.integers(1, 4))
    across = 1 if w < 1.15 else 2
    for row in range(rows):
        for k in range(across):
            if not chance(rng, 0.88):
                continue
            x = (k - (across - 1) / 2) * w * 0.5 + between(rng, -0.05, 0.05)
            mesh = cushion(
                min(w * 0.9 / across, between(rng, 0.5, 0.75)),
                between(rng, 0.35, 0.48),
                between(rng, 0.11, 0.19),
                rng,
                rough=0.06,
            )
            mesh = mesh.turned(between(rng, -0.2, 0.2)).tilted(between(rng, 0, 0.7))
            piece.add_other(
                mesh.moved(x, head + 0.28 + 0.1 * row, z + 0.03 + 0.1 * row),
                IGNORED,
                "pillow",
                pick(rng, LINEN),
            )
    if chance(rng, 0.45):
        blanket(
            rng,
            piece,
            w * between(rng, 0.4, 0.9),
            between(rng, 0.4, 0.9),
            z + 0.05,
            between(rng, -0.1, 0.1),
            y + length * 0.2,
        )


def bed(rng: Rng, w: float, d: float, h: float, name: str = "bed") -> Piece:
    """Bed with its head at the back: frame or box spring, headboard, sometimes a footboard.

    `h` is the height of the lying surface.
    """
    piece = Piece(name, BED, w, d, h, color=pick(rng, WOODS + PAINTS + FABRICS))
    board = between(rng, 0.04, 0.14)
    mattress = between(rng, 0.16, 0.3)
    frame = max(h - mattress, 0.1)
    if chance(rng, 0.45):  # box spring down to the floor
        piece.add(box(w * 0.98, d - board, frame, 0, board / 2, 0.03))
    else:
        thick = min(between(rng, 0.12, 0.25), frame)
        piece.add(
            legs(rng, w, d, frame, 0.06, 0.02),
            box(w, d - board, thick, 0, board / 2, frame - thick),
        )
    if chance(rng, 0.85):
        top, wide = h + between(rng, 0.2, 0.75), w + between(rng, 0, 0.25)
        if chance(rng, 0.3):  # a panel of the wall behind, as in hotels
            top, wide = h + between(rng, 0.5, 1.0), w + between(rng, 0.1, 0.7)
        head = box(wide, board, top)
        if chance(rng, 0.25):
            head = cushion(w, board + 0.05, top, rng)
        piece.add(head.moved(0, -d / 2 + board / 2, 0))
    if chance(rng, 0.25):
        piece.add(box(w, 0.05, h + between(rng, 0, 0.3), 0, d / 2 - 0.025))
    length = d - board - 0.03
    piece.add(
        cushion(w * 0.98, length, mattress, rng, 0, board / 2, frame, 0.015), color=(225, 222, 215)
    )
    _bedding(rng, piece, w * 0.97, length, h - 0.01, board / 2)
    piece.surfaces.append(Surface(0, d * 0.1, w * 0.7, d * 0.5, h + 0.03, 0.6, 0.45))
    if frame > 0.22:
        piece.surfaces.append(Surface(0, 0, w * 0.9, d * 0.8, 0.0, frame - 0.16, 0.35))
    return piece


def bunk_bed(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Two beds above each other with posts, rails and a ladder; `h` is the height of the posts."""
    piece = Piece("bunk bed", BED, w, d, h, color=pick(rng, WOODS + METALS))
    thick = between(rng, 0.05, 0.09)
    posts = [
        box(thick, thick, h, sx * (w - thick) / 2, sy * (d - thick) / 2)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    piece.add(*posts)
    for level in (between(rng, 0.25, 0.45), h - between(rng, 0.35, 0.5)):
        piece.add(box(w, d, 0.1, z=level), cushion(w * 0.94, d * 0.95, 0.16, rng, z=level + 0.08))
        _bedding(rng, piece, w * 0.9, d * 0.93, level + 0.24, 0.0)
    for z in (h - 0.08, h - 0.24):
        piece.add(*[box(0.03, d, 0.06, sx * w / 2, 0, z) for sx in (-1, 1)])
    y = between(rng, -0.3, 0.3) * d
    rungs = [box(0.04, 0.36, 0.035, w / 2 + 0.04, y, float(z)) for z in np.arange(0.25, h, 0.28)]
    piece.add(*rungs, *[box(0.04, 0.035, h, w / 2 + 0.04, y + s * 0.18) for s in (-1, 1)])
    piece.surfaces.append(Surface(0, 0, w * 0.8, d * 0.8, 0.0, 0.22, 0.4))
    return piece


def crib(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Child's bed with bars."""
    piece = Piece("crib", BED, w, d, h, color=pick(rng, WOODS + PAINTS))
    level = between(rng, 0.25, 0.45)
    for sx in (-1, 1):
        piece.add(
            box(0.03, d, 0.05, sx * w / 2, 0, h - 0.05),
            box(0.03, d, 0.05, sx * w / 2, 0, level - 0.1),
        )
        piece.add(
            *[
                box(0.02, 0.02, h - level, sx * w / 2, float(y), level - 0.05)
                for y in np.linspace(-d / 2, d / 2, 11)
            ]
        )
    piece.add(*[box(w, 0.04, h, 0, sy * d / 2) for sy in (-1, 1)])
    piece.add(cushion(w * 0.95, d * 0.95, 0.14, rng, z=level - 0.05))
    piece.add_other(
        lump(w * 0.6, d * 0.4, 0.15, rng, z=level + 0.06, rough=0.2),
        IGNORED,
        "blanket",
        pick(rng, FABRICS),
    )
    return piece
