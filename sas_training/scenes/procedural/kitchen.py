"""Kitchen rows, refrigerators, stoves."""

from __future__ import annotations

from .bathroom import basin, counter_top, faucet
from .furniture import METALS, PAINTS, WOODS, Rng, between, chance, handles, pick
from .model import CABINET, COUNTER, IGNORED, REFRIGERATOR, SINK, Piece, Surface
from .primitives import box, cylinder, merge, prism
from .storage import fronts


def kitchen_row(rng: Rng, w: float, d: float, h: float, name: str = "kitchen cabinet") -> Piece:
    """Base cabinets under a counter, with a sink and often a stove let in."""
    piece = Piece(name, CABINET, w, d, h, color=pick(rng, WOODS + PAINTS))
    color, metal = pick(rng, PAINTS + WOODS), pick(rng, METALS)
    cells = max(1, round(w / 0.6))
    each = w / cells
    order = list(rng.permutation(cells))
    sink_at = order.pop() if cells >= 2 and chance(rng, 0.85) else -1
    stove_at = order.pop() if cells >= 3 and chance(rng, 0.7) else -1
    washer_at = order.pop() if cells >= 4 and chance(rng, 0.4) else -1
    gap = -0.02
    for k in range(cells):
        x = -w / 2 + each * (k + 0.5)
        if k == stove_at:
            oven = merge(
                [
                    box(each * 0.99, d, h - 0.02, x, 0, 0.02),
                    box(each * 0.7, 0.03, 0.03, x, d / 2 + 0.03, h - 0.2),
                ]
            )
            piece.add_other(oven, IGNORED, "stove", pick(rng, METALS))
            plates = [
                cylinder(between(rng, 0.07, 0.1), 0.025, x + sx * each * 0.22, sy * d * 0.2, h)
                for sx in (-1, 1)
                for sy in (-1, 1)
            ]
            piece.add_other(merge(plates), IGNORED, "stove", (30, 30, 32))
            if chance(rng, 0.5):
                pot = cylinder(0.11, between(rng, 0.08, 0.2), x + each * 0.2, -d * 0.2, h + 0.02)
                piece.add_other(pot, IGNORED, "pot", metal)
            continue
        cell = Piece(name, CABINET, each, d, h - 0.04, color=piece.color)
        if k == washer_at:
            piece.add_other(
                box(each * 0.98, d - 0.02, h - 0.06, x), IGNORED, "dishwasher", pick(rng, PAINTS)
            )
        elif k == sink_at:
            cell.add(
                box(each, 0.02, h - 0.1, 0, d / 2 - 0.04, 0.08),
                box(0.02, d - 0.05, h - 0.1, each / 2, 0, 0.08),
                box(0.02, d - 0.05, h - 0.1, -each / 2, 0, 0.08),
            )
        else:
            cell.add(
                box(each, d - 0.04, h - 0.12, 0, gap, 0.08), box(each, d - 0.12, 0.08, 0, -0.04)
            )
        if k != washer_at:
            fronts(
                rng,
                cell,
                1 if each < 0.7 else 2,
                int(rng.integers(1, 4)),
                0.1,
                h - 0.05,
                chance(rng, 0.6),
            )
        piece.join(cell, x)
        if k == sink_at:
            bowl_w, bowl_d = each * between(rng, 0.6, 0.85), d * between(rng, 0.55, 0.7)
            top = Piece(name, CABINET, each, d, h)
            counter_top(top, each, d + 0.04, h, 0.0, bowl_w, bowl_d, COUNTER, color)
            bowl, _ = basin(rng, bowl_w, bowl_d, between(rng, 0.12, 0.2), chance(rng, 0.75))
            top.add_other(
                merge([bowl.moved(0, 0.02, h), faucet(rng, 0, -d * 0.4, h)]),
                SINK,
                "kitchen sink",
                metal,
            )
            piece.join(top, x)
        else:
            piece.add_other(box(each, d + 0.04, 0.04, x, 0, h - 0.04), COUNTER, "counter", color)
            piece.surfaces.append(Surface(x, 0, each * 0.92, d * 0.85, h, 0.5, 0.95))
    if chance(rng, 0.5):
        piece.add_other(
            box(w, 0.02, between(rng, 0.06, 0.12), 0, -d / 2 + 0.01, h), COUNTER, "counter", color
        )
    return piece


def counter_island(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Free-standing or bar counter: a slab on a block or on panels."""
    piece = Piece("counter", COUNTER, w, d, h, color=pick(rng, PAINTS + WOODS))
    piece.add(box(w, d, 0.05, z=h - 0.05))
    body = box(w * 0.96, d * between(rng, 0.5, 0.9), h - 0.05, 0, -0.04)
    piece.add_other(body, CABINET, "kitchen island", pick(rng, WOODS + PAINTS))
    return piece.top(mess=0.8)


def wall_cabinet(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Cabinets on the wall above a counter; `h` is their own height, hung by the caller."""
    piece = Piece("wall cabinet", CABINET, w, d, h, color=pick(rng, WOODS + PAINTS))
    piece.add(box(w, d - 0.02, h, 0, -0.01))
    fronts(rng, piece, max(1, round(w / 0.45)), 1, 0.01, h - 0.01, True)
    return piece


def refrigerator(rng: Rng, w: float, d: float, h: float, name: str = "refrigerator") -> Piece:
    """One or two doors over each other, or side by side; long handles; often things on top."""
    piece = Piece(
        name,
        REFRIGERATOR,
        w,
        d,
        h,
        color=pick(
            rng,
            ((240, 240, 238), (236, 234, 226), (200, 202, 204), (170, 172, 176), (40, 40, 42)),
        ),
    )
    front = d / 2
    piece.add(box(w, d - 0.07, h, 0, -0.035, 0.02))
    split = between(rng, 0.28, 0.7)
    side_by_side = w > 0.8 and chance(rng, 0.5)
    metal = pick(rng, METALS)
    if side_by_side:
        for s in (-1, 1):
            piece.add(box(w / 2 - 0.01, 0.06, h - 0.08, s * w / 4, front - 0.03, 0.06))
            piece.add(box(0.03, 0.05, h * 0.45, s * 0.05, front + 0.025, h * 0.35), color=metal)
    else:
        s = 1 if chance(rng, 0.5) else -1
        levels = [(0.06, h * split), (h * split + 0.015, h)] if h > 1.1 else [(0.04, h)]
        for low, high in levels:
            piece.add(box(w, 0.06, high - low, 0, front - 0.03, low))
            grip = min(0.5, (high - low) * 0.6)
            start = high - grip - 0.05 if low < 0.1 else low + 0.05
            piece.add(box(0.03, 0.05, grip, s * (w / 2 - 0.06), front + 0.025, start), color=metal)
    for _ in range(int(rng.integers(0, 4))):  # notes and magnets
        note = box(
            0.12,
            0.006,
            0.16,
            between(rng, -w / 3, w / 3),
            front + 0.003,
            between(rng, 0.5, 0.85) * h,
        )
        piece.add(note, color=pick(rng, PAINTS))
    return piece.top(mess=0.6, free=0.4)


def stove(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Free-standing cooker, ignored."""
    piece = Piece("stove", IGNORED, w, d, h, color=pick(rng, METALS + PAINTS))
    piece.add(
        box(w, d, h),
        box(w, 0.06, 0.12, 0, -d / 2 + 0.03, h),
        handles(rng, 0, d / 2 + 0.01, h * 0.75, False),
    )
    return piece.top(mess=0.5)


def washing_machine(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Front loader."""
    piece = Piece("washing machine", 19, w, d, h, color=pick(rng, PAINTS))
    piece.add(box(w, d, h), cylinder(w * 0.32, 0.04).tilted(-1.57).moved(0, d / 2, h * 0.5))
    return piece.top(mess=0.8)


def range_hood(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Hood with a duct; hung by the caller."""
    piece = Piece("range hood", IGNORED, w, d, h, color=pick(rng, METALS))
    piece.add(prism([(-w / 2, -d / 2), (w / 2, -d / 2), (w / 2, d / 2), (-w / 2, d / 2)], 0.1))
    piece.add(box(w * 0.4, d * 0.5, h, 0, -d * 0.25))
    return piece
