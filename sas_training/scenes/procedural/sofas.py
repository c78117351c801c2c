"""Straight sofas and corner sofas."""

from __future__ import annotations

import numpy as np

from .furniture import FABRICS, WOODS, Rng, between, blanket, chance, legs, pick, pillow
from .model import Piece
from .primitives import box, cushion


def _sofa_run(
    rng: Rng, piece: Piece, w: float, d: float, h: float, seats: int, style: dict[str, float]
) -> Piece:
    """Base, seat cushions and back of one straight run, without arms."""
    run = Piece(piece.name, piece.label, w, d, h, color=piece.color)
    foot, seat, back_t = style["foot"], style["seat"], style["back"]
    run.add(
        box(w, d, seat - foot - 0.13, z=foot),
        box(w, back_t * 0.6, h * 0.9 - foot, 0, -d / 2 + back_t * 0.3, foot),
    )
    each = w / seats
    for k in range(seats):
        x = -w / 2 + each * (k + 0.5)
        run.add(
            cushion(each * 0.99, d - back_t * 0.7, 0.18, rng, x, back_t * 0.35, seat - 0.14, 0.05)
        )
        back = cushion(each * 0.97, back_t, h - seat + 0.05, rng, rough=0.06)
        run.add(back.tilted(between(rng, 0.02, 0.22)).moved(x, -d / 2 + back_t * 0.75, seat - 0.04))
    return run


def _sofa_style(rng: Rng, h: float) -> dict[str, float]:
    return {
        "foot": between(rng, 0.0, 0.13),
        "seat": min(between(rng, 0.38, 0.48), h - 0.25),
        "back": between(rng, 0.16, 0.3),
        "arm": between(rng, 0.1, 0.26),
        "arm_h": between(rng, 0.5, 0.68),
    }


def _sofa_mess(rng: Rng, piece: Piece, w: float, d: float, seat: float) -> None:
    for _ in range(int(rng.integers(0, 7))):
        x = between(rng, -w * 0.4, w * 0.4)
        pillow(
            rng, piece, x, -d / 2 + 0.3 + between(rng, 0, 0.12), seat + 0.02, between(rng, 0.5, 1.3)
        )
    if chance(rng, 0.5):
        blanket(
            rng,
            piece,
            between(rng, 0.4, 0.9),
            d * 0.6,
            seat + 0.05,
            between(rng, -w / 4, w / 4),
            0.05,
        )


def sofa(rng: Rng, w: float, d: float, h: float, name: str = "sofa") -> Piece:
    """Straight sofa of one to four seats with arms, cushions and often a throw."""
    piece = Piece(name, 5, w, d, h, color=pick(rng, FABRICS))
    style = _sofa_style(rng, h)
    arm = style["arm"] if not chance(rng, 0.08) else 0.0
    seats = max(1, round((w - 2 * arm) / between(rng, 0.6, 0.85)))
    piece.join(_sofa_run(rng, piece, w - 2 * arm, d, h, seats, style))
    if arm:
        for sx in (-1, 1):
            x = sx * (w - arm) / 2
            piece.add(
                cushion(arm, d, style["arm_h"] - style["foot"], rng, x, 0, style["foot"], 0.03)
            )
    if style["foot"] > 0.05:
        piece.add(legs(rng, w * 0.94, d * 0.88, style["foot"] + 0.04, 0.05), color=pick(rng, WOODS))
    _sofa_mess(rng, piece, w - 2 * arm, d, style["seat"])
    return piece.top(style["seat"] + 0.05, mess=0.35, free=0.35)


def corner_sofa(rng: Rng, w: float, d: float, h: float) -> Piece:
    """L-shaped sofa or a sofa with a chaise; the footprint is w x d, the long run at the back."""
    piece = Piece("corner sofa", 5, w, d, h, color=pick(rng, FABRICS))
    style = _sofa_style(rng, h)
    depth = between(rng, 0.8, 0.98)
    piece.join(
        _sofa_run(rng, piece, w, depth, h, max(2, round(w / 0.75)), style), y=-d / 2 + depth / 2
    )
    side = 1 if chance(rng, 0.5) else -1
    length = d - depth
    if chance(rng, 0.45):  # chaise: no back on the short run
        piece.add(
            box(
                depth,
                length,
                style["seat"] - style["foot"] - 0.12,
                side * (w - depth) / 2,
                depth / 2,
                style["foot"],
            ),
            cushion(
                depth,
                length + 0.1,
                0.18,
                rng,
                side * (w - depth) / 2,
                depth / 2 - 0.03,
                style["seat"] - 0.14,
                0.05,
            ),
        )
    else:
        run = _sofa_run(rng, piece, length, depth, h, max(1, round(length / 0.75)), style)
        piece.join(run, side * (w - depth) / 2, depth / 2, yaw=side * np.pi / 2)
        piece.add(
            cushion(
                depth,
                style["arm"],
                style["arm_h"],
                rng,
                side * (w - depth) / 2,
                d / 2 - style["arm"] / 2,
            )
        )
    piece.add(
        cushion(
            style["arm"],
            depth,
            style["arm_h"],
            rng,
            -side * (w - style["arm"]) / 2,
            -d / 2 + depth / 2,
        )
    )
    _sofa_mess(rng, piece, w * 0.8, d, style["seat"])
    if chance(rng, 0.6):
        pillow(rng, piece, side * (w - depth) / 2, d / 4, style["seat"] + 0.03)
    return piece
