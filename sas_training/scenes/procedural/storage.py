"""Cabinets, wardrobes, bookshelves, racks, dressers, nightstands."""

from __future__ import annotations

import numpy as np

from .furniture import (
    FABRICS,
    METALS,
    PAINTS,
    WOODS,
    Rng,
    between,
    carcass,
    chance,
    handles,
    legs,
    pick,
)  # fmt: skip
from .model import BOOKSHELF, CABINET, IGNORED, Piece, Surface
from .primitives import Mesh, box, lump, merge, tube


def fronts(
    rng: Rng, piece: Piece, columns: int, rows: int, z0: float, z1: float, upright: bool
) -> None:
    """Cover the front of a piece between z0 and z1 with doors or drawers that have handles."""
    w, y = piece.w, piece.d / 2
    each, rise = w / columns, (z1 - z0) / rows
    metal = pick(rng, METALS)
    bare = chance(rng, 0.2)  # push to open
    for c in range(columns):
        for r in range(rows):
            x, z = -w / 2 + each * (c + 0.5), z0 + rise * r
            ajar = chance(rng, 0.03)
            out = between(rng, 0.1, 0.25) if ajar and not upright else 0.0
            piece.add(box(each - 0.015, 0.02, rise - 0.015, x, y - 0.005 + out, z + 0.007))
            if out:
                piece.add(
                    *[
                        box(0.02, out, rise * 0.6, x + s * each * 0.42, y + out / 2, z)
                        for s in (-1, 1)
                    ]
                )
            side = each * 0.38 * (1 if c % 2 == 0 else -1) if upright else 0.0
            height = z + rise * (0.5 if not upright or z1 > 1.2 else 0.75)
            if not bare:
                piece.add(handles(rng, x + side, y + 0.012 + out, height, upright), color=metal)


def cabinet(
    rng: Rng, w: float, d: float, h: float, name: str = "cabinet", label: int = CABINET
) -> Piece:
    """Closed cabinet with doors, drawers or both, on a plinth or legs."""
    piece = Piece(name, label, w, d, h, color=pick(rng, WOODS + PAINTS))
    foot = between(rng, 0.05, 0.16) if chance(rng, 0.35) else 0.0
    if foot:
        piece.add(legs(rng, w, d, foot, 0.04))
    piece.add(box(w, d - 0.02, h - foot, 0, -0.01, foot))
    if chance(rng, 0.3):
        piece.add(box(w + 0.03, d + 0.03, 0.03, z=h - 0.03))
    columns = max(1, round(w / between(rng, 0.35, 0.6)))
    if h > 1.2:
        split = between(rng, 0.25, 0.5) if chance(rng, 0.4) else 0.0
        if split:
            fronts(rng, piece, columns, max(1, int(split / 0.25)), foot + 0.02, h * split, False)
        fronts(rng, piece, columns, 1, max(h * split, foot + 0.02), h - 0.03, True)
    elif chance(rng, 0.5):
        fronts(rng, piece, columns, 1, foot + 0.02, h - 0.03, True)
    else:
        fronts(
            rng, piece, max(1, columns // 2), max(2, round(h / 0.22)), foot + 0.02, h - 0.03, False
        )
    return piece.top(mess=0.85 if h < 1.5 else 0.45, free=0.9)


def filing_cabinet(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Office block with equal drawers."""
    piece = Piece("filing cabinet", CABINET, w, d, h, color=pick(rng, PAINTS))
    piece.add(box(w, d - 0.02, h, 0, -0.01))
    fronts(rng, piece, 1, max(2, round(h / 0.32)), 0.03, h - 0.02, False)
    return piece.top(mess=0.8)


def wardrobe(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Tall closet with two to five doors, hinged or sliding."""
    piece = Piece("wardrobe", CABINET, w, d, h, color=pick(rng, WOODS + PAINTS))
    piece.add(box(w, d - 0.03, h, 0, -0.015))
    if chance(rng, 0.3):
        for k in range(2):
            piece.add(
                box(w * 0.52, 0.02, h - 0.1, (k - 0.5) * w * 0.48, d / 2 - 0.02 + 0.02 * k, 0.05)
            )
    else:
        fronts(rng, piece, max(2, round(w / 0.5)), 1, 0.08, h - 0.03, True)
    return piece.top(mess=0.6, free=0.4)


def open_wardrobe(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Closet without doors: shelves on one side, clothes on a rail on the other."""
    piece = Piece("open wardrobe", CABINET, w, d, h, color=pick(rng, WOODS + PAINTS))
    piece.add(*carcass(w, d, h, 0.025), tube((-w / 2, 0, h - 0.15), (w / 2, 0, h - 0.15), 0.015))
    x = -w / 2 + 0.06
    while x < w / 2 - 0.1:
        length = between(rng, 0.6, 1.1)
        mesh = lump(
            between(rng, 0.04, 0.1), d * 0.75, length, rng, x, 0, h - 0.18 - length, 0.4, 0.12, 8
        )
        piece.add_other(mesh, IGNORED, "clothes", pick(rng, FABRICS))
        x += between(rng, 0.05, 0.16)
    piece.surfaces.append(Surface(0, 0, w * 0.9, d * 0.8, 0.03, 0.4, 0.8))
    return piece.top(mess=0.6, free=0.4)


def book_row(rng: Rng, w: float, d: float, h: float, fill: float) -> Mesh:
    """Books side by side on a board w wide: different heights and depths, some leaning."""
    books = []
    x = -w / 2
    while x < w / 2 - 0.03:
        if not chance(rng, fill):
            x += between(rng, 0.05, 0.25)
            continue
        count = int(rng.integers(3, 9))
        tall = min(between(rng, 0.18, 0.34), h - 0.02)
        for _ in range(count):
            thick = between(rng, 0.015, 0.055)
            if x + thick > w / 2:
                break
            deep = d * between(rng, 0.6, 0.9)
            high = min(tall * between(rng, 0.8, 1.1), h - 0.01)
            book = box(thick, deep, high, x + thick / 2, -d / 2 + deep / 2 + 0.02)
            books.append(
                book.tilted(between(rng, -0.25, 0.25), 1, (x, 0, 0)) if chance(rng, 0.06) else book
            )
            x += thick
    return merge(books)


def bookshelf(
    rng: Rng, w: float, d: float, h: float, name: str = "bookshelf", label: int = BOOKSHELF
) -> Piece:
    """Open shelf with a back panel; crammed, tidy, or nearly empty, sometimes with doors below."""
    piece = Piece(name, label, w, d, h, color=pick(rng, WOODS + PAINTS))
    thick = between(rng, 0.016, 0.04)
    piece.add(*carcass(w, d, h, thick, back=chance(rng, 0.85)))
    columns = max(1, round(w / between(rng, 0.6, 1.0)))
    inner = w / columns
    piece.add(*[box(thick, d, h, -w / 2 + inner * k) for k in range(1, columns)])
    closed = between(rng, 0.25, 0.4) * h if h > 1.4 and chance(rng, 0.25) else 0.0
    if closed:
        fronts(rng, piece, columns, 1, 0.04, closed, True)
        piece.add(box(w, d, thick, z=closed))
    rows = max(1, round((h - closed) / between(rng, 0.28, 0.42)))
    step = (h - closed) / rows
    fill = (0.97, 0.7, 0.4, 0.1)[int(rng.choice(4, p=(0.45, 0.3, 0.15, 0.1)))]
    books_are_shelf = chance(rng, 0.75)
    for r in range(rows):
        z = closed + step * r
        for c in range(columns):
            x = -w / 2 + inner * (c + 0.5)
            if r:
                piece.add(box(inner, d, thick, x, 0, z))
            if chance(rng, 0.8 * fill + 0.1):
                books = book_row(rng, inner - 2 * thick, d, step - thick, fill).moved(
                    x, 0, z + thick
                )
                if not len(books.vertices):
                    continue
                color = pick(rng, FABRICS)
                if books_are_shelf:
                    piece.add(books, color=color)
                else:
                    piece.add_other(books, IGNORED, "books", color)
            else:
                free = step - thick - 0.04
                piece.surfaces.append(
                    Surface(x, 0, inner * 0.85, d * 0.8, z + thick, free, 0.5 * fill)
                )
    return piece.top(mess=0.6, free=0.5)


def rack(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Metal or wire shelf of a store room; ignored like NYU40 "shelves", full of things."""
    piece = Piece("shelf", IGNORED, w, d, h, color=pick(rng, METALS + WOODS))
    piece.add(
        *[
            box(0.035, 0.035, h, sx * (w / 2 - 0.02), sy * (d / 2 - 0.02))
            for sx in (-1, 1)
            for sy in (-1, 1)
        ]
    )
    rows = max(2, round(h / between(rng, 0.35, 0.55)))
    for r in range(rows):
        z = 0.1 + (h - 0.12) * r / max(rows - 1, 1)
        piece.add(box(w, d, 0.025, z=z))
        piece.surfaces.append(Surface(0, 0, w * 0.92, d * 0.9, z + 0.025, h / rows - 0.08, 0.95))
    return piece


def dresser(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Chest of drawers; NYU40 has a class of its own for it, so it carries the ignore label."""
    piece = cabinet(rng, w, d, h, "dresser", IGNORED)
    piece.surfaces.clear()
    return piece.top(mess=0.95)


def nightstand(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Small bedside cabinet or table, ignored (NYU40 "night stand")."""
    if chance(rng, 0.6):
        piece = cabinet(rng, w, d, h, "nightstand", IGNORED)
        piece.surfaces.clear()
        return piece.top(mess=0.95)
    piece = Piece("nightstand", IGNORED, w, d, h, color=pick(rng, WOODS))
    piece.add(
        legs(rng, w, d, h - 0.03, 0.04),
        box(w, d, 0.03, z=h - 0.03),
        box(w * 0.9, d * 0.9, 0.02, z=h * 0.3),
    )
    return piece.top(mess=0.95)


def tv_stand(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Low media unit, open or closed."""
    piece = Piece("tv stand", 19, w, d, h, color=pick(rng, WOODS + PAINTS))
    if chance(rng, 0.5):
        piece.add(box(w, d, h))
        fronts(rng, piece, max(2, round(w / 0.5)), 1, 0.05, h - 0.04, False)
    else:
        piece.add(*carcass(w, d, h, 0.03), box(w, d, 0.025, z=h * 0.5))
        piece.surfaces.append(Surface(0, 0, w * 0.9, d * 0.8, 0.03, h * 0.4, 0.7))
    return piece.top(mess=0.5)


def shoe_rack(rng: Rng, w: float, d: float, h: float) -> Piece:
    """Low open rack."""
    piece = Piece("shoe rack", 19, w, d, h, color=pick(rng, WOODS + METALS))
    piece.add(*[box(0.03, d, h, sx * (w / 2 - 0.02)) for sx in (-1, 1)])
    for z in np.arange(0.1, h, 0.2):
        piece.add(box(w, d, 0.02, z=float(z)))
        piece.surfaces.append(Surface(0, 0, w * 0.9, d * 0.8, float(z) + 0.02, 0.16, 0.8))
    return piece.top(mess=0.6)
