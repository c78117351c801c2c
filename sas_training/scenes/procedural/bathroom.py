"""Toilets, sinks, bathtubs, showers."""

from __future__ import annotations

import numpy as np

from .furniture import FABRICS, METALS, PAINTS, WOODS, Rng, between, chance, pick
from .model import BATHTUB, CABINET, COUNTER, IGNORED, SHOWER_CURTAIN, SINK, TOILET, Piece, Surface
from .primitives import Mesh, box, cushion, cylinder, hanging_sheet, lathe, merge, prism, tray, tube
from .storage import fronts

WHITE = (236, 236, 232)


def toilet(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Bowl, seat and tank; lid up or down; sometimes wall-hung without a visible tank."""
    piece = Piece("toilet", TOILET, w, d, h, color=WHITE)
    rim = between(rng, 0.37, 0.45)
    tank = not chance(rng, 0.15)
    tank_d = between(rng, 0.16, 0.22) if tank else 0.04
    r = w * between(rng, 0.44, 0.5)
    bowl_d = d - tank_d - 0.02
    y = -d / 2 + tank_d + bowl_d / 2 + 0.02
    stretch = bowl_d / 2 / r
    base = 0.0 if tank or chance(rng, 0.3) else 0.12
    outer = [(0.0, base), (r * 0.62, base), (r * 0.6, rim * 0.45), (r, rim - 0.06), (r, rim)]
    lid_up = chance(rng, 0.35)
    if lid_up:
        profile = [*outer, (r * 0.72, rim), (r * 0.6, rim - 0.12), (0.0, rim - 0.18)]
        lid = lathe([(0, 0), (r * 0.95, 0), (r * 0.95, 0.03), (0, 0.03)], stretch=stretch * 0.95)
        piece.add(lid.tilted(-1.45).moved(0, -d / 2 + tank_d + 0.08, rim + bowl_d * 0.48))
    else:
        profile = [*outer, (r * 1.02, rim + 0.01), (r * 0.95, rim + 0.045), (0.0, rim + 0.05)]
    piece.add(lathe(profile, 0, y, sides=18, stretch=stretch))
    piece.add(
        box(w * 0.55, bowl_d * 0.5, rim * 0.95 - base, 0, -d / 2 + tank_d + bowl_d * 0.25, base)
    )
    if tank:
        piece.add(
            cushion(
                w * between(rng, 0.95, 1.15),
                tank_d,
                h - rim + 0.02,
                rng,
                0,
                -d / 2 + tank_d / 2,
                rim - 0.02,
                0.0,
            ),
            box(w * 1.1, tank_d + 0.02, 0.03, 0, -d / 2 + tank_d / 2, h - 0.03),
        )
        piece.surfaces.append(Surface(0, -d / 2 + tank_d / 2, w * 0.9, tank_d * 0.9, h, 0.4, 0.35))
    return piece


def basin(rng: Rng, w: float, d: float, depth: float, square: bool) -> tuple[Mesh, float]:
    """Sink bowl hanging below z = 0 with a rim just above; returns mesh and rim height."""
    rim = between(rng, 0.0, 0.12) if chance(rng, 0.3) else 0.012
    if square:
        return tray(w, d, depth + rim, 0.025, 0.02, z=-depth), rim
    r = w / 2
    profile = [
        (0.0, -depth),
        (r * 0.5, -depth * 0.96),
        (r * 0.85, -depth * 0.5),
        (r * 0.93, rim * 0.5),
        (r, rim),
        (r * 1.04, 0.0),
    ]
    return lathe(profile, sides=18, stretch=d / w), rim


def faucet(rng: Rng, x: float, y: float, z: float) -> Mesh:
    """Tap with its spout towards +y."""
    rise, reach = between(rng, 0.08, 0.3), between(rng, 0.1, 0.2)
    return merge(
        [
            tube((x, y, z), (x, y, z + rise), 0.016),
            tube((x, y, z + rise), (x, y + reach, z + rise - 0.02), 0.013),
        ]
    )


def sink(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Wash basin on a pedestal, on the wall, or let into a vanity cabinet."""
    piece = Piece("sink", SINK, w, d, h, color=WHITE)
    style = rng.random()
    metal = pick(rng, METALS)
    if style < 0.45:
        depth = between(rng, 0.12, 0.18)
        bowl, _ = basin(rng, w * 0.82, d * 0.74, depth - 0.02, chance(rng, 0.4))
        shell = lathe(
            [
                (w * 0.12, -depth - 0.04),
                (w * 0.4, -depth * 0.8),
                (w * 0.5, -0.03),
                (w * 0.5, 0.0),
                (w * 0.41, 0.0),
            ],
            sides=18,
            stretch=d / w,
        )
        piece.add(
            bowl.moved(0, 0.03, h),
            shell.moved(0, 0, h),
            box(w * 0.9, d * 0.2, 0.14, 0, -d * 0.4, h - 0.12),
        )
        if chance(rng, 0.6):
            piece.add(cylinder(between(rng, 0.07, 0.11), h - depth, 0, -d * 0.15, 0, 0.08))
        piece.add(faucet(rng, 0, -d * 0.38, h), color=metal)
        return piece
    body = Piece("vanity cabinet", CABINET, w, d, h - 0.03, color=pick(rng, WOODS + PAINTS))
    width = max(w, between(rng, 0.6, 1.2))
    body.w = piece.w = width
    foot = between(rng, 0.1, 0.3) if chance(rng, 0.3) else 0.0
    rise = h - foot - 0.04
    body.add(box(width, d - 0.03, 0.02, 0, 0, foot), box(width, 0.02, rise, 0, d / 2 - 0.03, foot))
    body.add(*[box(0.02, d - 0.03, rise, s * (width / 2 - 0.01), 0, foot) for s in (-1, 1)])
    fronts(rng, body, max(1, round(width / 0.45)), 1, foot + 0.02, h - 0.05, True)
    piece.join(body)
    bowl_w, bowl_d = min(w * 0.85, 0.52), d * 0.68
    counter_top(piece, width, d + 0.02, h, 0.0, bowl_w, bowl_d, COUNTER, pick(rng, PAINTS))
    bowl, _ = basin(rng, bowl_w, bowl_d, between(rng, 0.1, 0.16), chance(rng, 0.4))
    piece.add(bowl.moved(0, 0.02, h))
    piece.add(faucet(rng, 0, -d * 0.4, h), color=metal)
    if width > 0.75:
        for sx in (-1, 1):
            free = (width - bowl_w) / 2
            piece.surfaces.append(
                Surface(sx * (width - free) / 2, 0, free * 0.8, d * 0.8, h, 0.5, 0.8)
            )
    return piece


def counter_top(
    piece: Piece,
    w: float,
    d: float,
    h: float,
    x: float,
    hole_w: float,
    hole_d: float,
    label: int,
    color: tuple[int, int, int],
) -> None:
    """Slab 4 cm thick with its top at `h` and a hole round x for a bowl."""
    y, left, right = 0.02, x - hole_w / 2 + w / 2, w / 2 - x - hole_w / 2
    slabs = [
        box(w, d / 2 - hole_d / 2 + y, 0.04, 0, -d / 2 + (d / 2 - hole_d / 2 + y) / 2, h - 0.04),
        box(w, d / 2 - hole_d / 2 - y, 0.04, 0, d / 2 - (d / 2 - hole_d / 2 - y) / 2, h - 0.04),
        box(left, hole_d, 0.04, -w / 2 + left / 2, y, h - 0.04),
        box(right, hole_d, 0.04, w / 2 - right / 2, y, h - 0.04),
    ]
    piece.add_other(merge(slabs), label, "counter", color)


def bathtub(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Built-in tub with an apron, or a free-standing oval one."""
    piece = Piece("bathtub", BATHTUB, w, d, h, color=WHITE)
    if chance(rng, 0.75):
        rim, slope = between(rng, 0.05, 0.12), between(rng, 0.05, 0.12)
        iw, idp, low = w - 2 * rim, d - 2 * rim, between(rng, 0.08, 0.16)
        piece.add(
            box(w, 0.03, h - 0.01, 0, d / 2 - 0.015),
            *[box(0.03, d, h - 0.01, s * (w / 2 - 0.015)) for s in (-1, 1)],
        )
        upper = np.array(
            [
                (-iw / 2, -idp / 2, h),
                (iw / 2, -idp / 2, h),
                (iw / 2, idp / 2, h),
                (-iw / 2, idp / 2, h),
            ]
        )
        lower = upper * (1 - 2 * slope, 1 - 2 * slope, 0) + (0, 0, low)
        corners = np.concatenate([upper, lower]).astype(np.float32)
        faces = [(4, 5, 6), (4, 6, 7)]
        for k in range(4):
            n = (k + 1) % 4
            faces += [(k, n, k + 4), (n, n + 4, k + 4)]
        piece.add(Mesh(corners, np.array(faces, np.int32)))
        piece.add(
            *[box(w, rim, 0.03, 0, s * (d - rim) / 2, h - 0.03) for s in (-1, 1)],
            *[box(rim, d, 0.03, s * (w - rim) / 2, 0, h - 0.03) for s in (-1, 1)],
        )
    else:
        r = w / 2
        profile = [
            (0, 0),
            (r * 0.75, 0.02),
            (r * 0.95, h * 0.6),
            (r, h),
            (r * 0.93, h),
            (r * 0.85, h * 0.5),
            (r * 0.6, 0.12),
            (0, 0.1),
        ]
        piece.add(lathe(profile, sides=22, stretch=d / w))
    side = 1 if chance(rng, 0.5) else -1
    piece.add_other(
        faucet(rng, 0, 0, 0).turned(side * np.pi / 2).moved(side * (w / 2 - 0.02), 0, h),
        IGNORED,
        "tap",
        pick(rng, METALS),
    )
    return piece


def shower_curtain(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Sheet on a rail, drawn across part of its width; hangs clear of the floor."""
    piece = Piece("shower curtain", SHOWER_CURTAIN, w, d, h, color=pick(rng, PAINTS + FABRICS))
    low = between(rng, 0.06, 0.4)
    part = between(rng, 0.35, 1.0)
    x = (1 if chance(rng, 0.5) else -1) * w * (1 - part) / 2
    piece.add(
        hanging_sheet(
            w * part, h - low, between(rng, 0.02, 0.06), between(rng, 0.09, 0.25), rng, x, 0, low
        )
    )
    rail = tube((-w / 2, 0, h), (w / 2, 0, h), 0.014)
    piece.add_other(rail, IGNORED, "rail", pick(rng, METALS))
    return piece


def shower(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Shower tray with glass, which depth cameras hardly see; ignored."""
    piece = Piece("shower", IGNORED, w, d, h, color=WHITE)
    if chance(rng, 0.4):
        cut = min(w, d) * 0.45
        piece.add(
            prism(
                [
                    (-w / 2, -d / 2),
                    (w / 2, -d / 2),
                    (w / 2, d / 2 - cut),
                    (w / 2 - cut, d / 2),
                    (-w / 2, d / 2),
                ],
                0.12,
            )
        )
    else:
        piece.add(tray(w, d, 0.14, 0.05, 0.06))
    for mesh in (box(0.01, d, h, w / 2), box(w, 0.01, h, 0, d / 2)):
        piece.add_other(mesh, IGNORED, "shower glass", (200, 210, 210), 0.12)
    piece.add(
        tube((0, -d / 2 + 0.05, 1.0), (0, -d / 2 + 0.05, min(2.0, h)), 0.012),
        box(0.12, 0.2, 0.04, 0, -d / 2 + 0.14, h - 0.06),
    )
    return piece


def towel_rail(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Towels hanging on a bar on the wall; stands at the height of its bar."""
    piece = Piece("towel", IGNORED, w, d, h, color=pick(rng, FABRICS + PAINTS))
    length = between(rng, 0.4, 0.8)
    sheet = hanging_sheet(w * between(rng, 0.5, 0.95), length, 0.015, 0.3, rng, 0, 0, h - length)
    piece.add(
        sheet,
        sheet.moved(0, 0.05, between(rng, 0, 0.1)),
        tube((-w / 2, 0.02, h), (w / 2, 0.02, h), 0.012),
    )
    return piece
