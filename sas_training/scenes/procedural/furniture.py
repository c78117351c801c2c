"""Chance, colours and shared bits (legs, handles, blankets) of all furniture."""

from __future__ import annotations

import numpy as np

from .model import IGNORED, Color, Piece
from .primitives import Mesh, box, cushion, cylinder, drape, lump, merge, tube

Rng = np.random.Generator

WOODS: tuple[Color, ...] = (
    (92, 62, 40), (140, 98, 60), (176, 136, 92), (205, 176, 136), (70, 48, 36), (225, 215, 200),
    (120, 74, 46), (52, 36, 28), (158, 120, 84), (150, 130, 108),
)  # fmt: skip
PAINTS: tuple[Color, ...] = (
    (235, 235, 230), (205, 205, 205), (60, 60, 62), (120, 122, 125), (215, 208, 190),
    (150, 160, 165), (28, 28, 30), (240, 238, 234), (90, 92, 96),
)  # fmt: skip
FABRICS: tuple[Color, ...] = (
    (52, 58, 82), (110, 40, 42), (96, 96, 98), (150, 135, 110), (60, 82, 66), (188, 180, 168),
    (36, 36, 38), (126, 96, 70), (88, 116, 140), (176, 120, 60), (30, 36, 90), (140, 60, 90),
    (70, 110, 110), (216, 208, 192), (90, 70, 60),
)  # fmt: skip
METALS: tuple[Color, ...] = ((60, 60, 62), (140, 142, 145), (190, 192, 195), (30, 30, 32))
LINEN: tuple[Color, ...] = (
    (240, 238, 234), (232, 228, 220), (245, 245, 245), (225, 215, 198), (205, 205, 208),
    *FABRICS[:7],
)  # fmt: skip
CURTAINS: tuple[Color, ...] = (
    (238, 236, 230), (228, 222, 210), (205, 198, 180), (150, 150, 130), *FABRICS
)  # fmt: skip
WALLS: tuple[Color, ...] = (
    (236, 232, 222), (244, 244, 242), (225, 220, 208), (230, 226, 214), (200, 190, 170),
    (212, 202, 182), (240, 236, 225), (190, 182, 165), (180, 195, 200), (206, 214, 200),
    (222, 200, 160), (176, 158, 136), (150, 170, 190), (196, 150, 130), (130, 140, 120),
)  # fmt: skip
DOORS: tuple[Color, ...] = (
    (242, 242, 240), (236, 234, 228), (226, 220, 206), (245, 244, 240), (205, 205, 205),
    (110, 112, 116), (70, 90, 110), (130, 60, 50), *WOODS,
)  # fmt: skip
FLOORS: tuple[Color, ...] = (
    *WOODS, (205, 205, 205), (215, 208, 190), (150, 140, 125), (120, 122, 125), (96, 90, 84),
    (70, 72, 80), (170, 160, 140), (110, 70, 60), (80, 90, 110), (190, 184, 172),
)  # fmt: skip


def pick(rng: Rng, colors: tuple[Color, ...]) -> Color:
    """Return one of the colours, lighter or darker and a little changed."""
    base = np.array(colors[int(rng.integers(len(colors)))]) * rng.uniform(0.78, 1.12)
    r, g, b = np.clip(base + rng.integers(-12, 13, 3), 0, 255)
    return int(r), int(g), int(b)


def chance(rng: Rng, probability: float) -> bool:
    """Return True with the given probability."""
    return bool(rng.random() < probability)


def between(rng: Rng, low: float, high: float) -> float:
    """Return a uniform number between two bounds."""
    return float(rng.uniform(low, high))


def legs(
    rng: Rng, w: float, d: float, h: float, thick: float, inset: float = 0.03, splay: float = 0.0
) -> Mesh:
    """Four legs of height `h` under a rectangle w x d, round or square, splayed by `splay` m."""
    round_legs = chance(rng, 0.4)
    bars = []
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = sx * (w / 2 - inset - thick / 2), sy * (d / 2 - inset - thick / 2)
            if splay > 0 or round_legs:
                foot = (x + sx * splay, y + sy * splay, 0.0)
                bars.append(tube(foot, (x, y, h), thick / 2))
            else:
                bars.append(box(thick, thick, h, x, y))
    return merge(bars)


def handles(rng: Rng, x: float, y: float, z: float, upright: bool) -> Mesh:
    """A bar handle or a knob on a front at depth `y`."""
    if chance(rng, 0.4):
        return lump(0.035, 0.03, 0.035, rng, x, y + 0.012, z, 1.0, 0.0, 6)
    length = between(rng, 0.1, 0.2)
    return (
        box(0.02, 0.03, length, x, y + 0.012, z)
        if upright
        else box(length, 0.03, 0.02, x, y + 0.012, z)
    )


def carcass(
    w: float, d: float, h: float, thick: float, z: float = 0.0, back: bool = True
) -> list[Mesh]:
    """Open-fronted case: two sides, top, bottom and a back panel."""
    panels = [
        box(thick, d, h, -w / 2 + thick / 2, 0, z),
        box(thick, d, h, w / 2 - thick / 2, 0, z),
        box(w, d, thick, 0, 0, z),
        box(w, d, thick, 0, 0, z + h - thick),
    ]
    if back:
        panels.append(box(w, thick, h, 0, -d / 2 + thick / 2, z))
    return panels


def blanket(rng: Rng, piece: Piece, w: float, d: float, z: float, x: float, y: float) -> None:
    """Throw a blanket or a heap of clothes over a part of a piece."""
    if chance(rng, 0.5):
        mesh = drape(w, d, z, between(rng, 0.05, 0.3), rng, between(rng, 0.015, 0.04))
        mesh = mesh.moved(x, y)
    else:
        mesh = lump(w, d, between(rng, 0.08, 0.25), rng, x, y, z - 0.02, 0.7, 0.25, 14)
    piece.add_other(mesh, IGNORED, "blanket", pick(rng, FABRICS))


def pillow(rng: Rng, piece: Piece, x: float, y: float, z: float, lean: float = 0.0) -> None:
    """Put a pillow on a piece; `lean` radians tilts it against a back."""
    w, d = between(rng, 0.38, 0.65), between(rng, 0.3, 0.45)
    mesh = cushion(w, d, between(rng, 0.1, 0.18), rng, rough=0.06)
    mesh = (
        mesh.turned(between(rng, -0.3, 0.3))
        .tilted(lean)
        .moved(x, y, z + 0.5 * d * abs(np.sin(lean)))
    )
    piece.add_other(mesh, IGNORED, "pillow", pick(rng, FABRICS))


def star_base(rng: Rng, radius: float, h: float) -> Mesh:
    """Five-armed swivel base with castors and a column up to height `h`."""
    count = 4 if chance(rng, 0.15) else 5
    start = between(rng, 0, 2)
    bars = [cylinder(0.03, h - 0.08, z=0.08, sides=8)]
    for k in range(count):
        a = start + 2 * np.pi * k / count
        x, y = radius * float(np.cos(a)), radius * float(np.sin(a))
        bars.append(tube((0, 0, 0.12), (x, y, 0.07), 0.022, 5))
        bars.append(lump(0.055, 0.055, 0.06, rng, x, y, 0, 1.0, 0.0, 6))
    return merge(bars)
