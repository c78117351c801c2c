"""Small things that lie on, under and beside furniture."""

from __future__ import annotations

from collections.abc import Callable

from .floor_things import (
    bicycle,
    box_stack,
    cable,
    computer,
    drying_rack,
    fan,
    floor_lamp,
    heap,
    leaning,
    machine,
    partition,
    suitcase,
    thing,
)
from .furniture import FABRICS, Rng, between, chance, pick
from .model import IGNORED, OTHERFURNITURE, Piece
from .primitives import box, cushion, cylinder, lathe, lump, merge


def carton(rng: Rng, s: float = 1.0) -> Piece:
    """Cardboard box, sometimes open."""
    w, d, h = (between(rng, 0.12, 0.5) * s for _ in range(3))
    piece = thing("box", w, d, h, rng).add(box(w, d, h))
    if chance(rng, 0.25):
        piece.add(box(w * 0.5, d, 0.01, -w * 0.7, 0, h).tilted(0.5, 1, (-w / 2, 0, h)))
    return piece


def bottle(rng: Rng, s: float = 1.0) -> Piece:
    """Bottle, can or jar."""
    r, h = between(rng, 0.025, 0.06) * s, between(rng, 0.1, 0.33) * s
    neck = r * between(rng, 0.3, 1.0)
    return thing("bottle", 2 * r, 2 * r, h, rng).add(
        lathe([(0, 0), (r, 0), (r, h * 0.65), (neck, h * 0.8), (neck, h), (0, h)], sides=8)
    )


def books(rng: Rng, s: float = 1.0) -> Piece:
    """Stack of books or papers."""
    w, d = between(rng, 0.15, 0.24) * s, between(rng, 0.2, 0.32) * s
    piece, z = thing("books", w, d, 0.1, rng), 0.0
    for _ in range(int(rng.integers(1, 7))):
        t = between(rng, 0.01, 0.05)
        piece.add(box(w, d, t).turned(between(rng, -0.3, 0.3)).moved(0, 0, z))
        z += t
    piece.h = z
    return piece


def monitor(rng: Rng, s: float = 1.0) -> Piece:
    """Computer screen on a foot."""
    w, h = between(rng, 0.4, 0.7) * s, between(rng, 0.28, 0.4) * s
    lift = between(rng, 0.08, 0.16)
    piece = thing("monitor", w, 0.2, h + lift, rng)
    piece.color = (32, 32, 35)
    piece.add(box(0.22, 0.17, 0.02), box(0.05, 0.04, lift + 0.05, 0, -0.04))
    return piece.add(box(w, 0.05, h, 0, 0, lift).tilted(between(rng, -0.1, 0.2)))


def laptop(rng: Rng, s: float = 1.0) -> Piece:
    """Open or closed portable computer."""
    w, d = between(rng, 0.3, 0.38), between(rng, 0.21, 0.26)
    piece = thing("laptop", w, d, 0.24, rng).add(box(w, d, 0.02))
    if chance(rng, 0.75):
        piece.add(
            box(w, 0.012, d, 0, -d / 2, 0.01).tilted(between(rng, 0.1, 0.5), 0, (0, -d / 2, 0.01))
        )
    return piece


def keyboard(rng: Rng, s: float = 1.0) -> Piece:
    """Keyboard with a mouse."""
    piece = thing("keyboard", 0.55, 0.18, 0.03, rng)
    return piece.add(box(0.43, 0.15, 0.025, -0.05), lump(0.07, 0.11, 0.04, rng, 0.24))


def printer(rng: Rng, s: float = 1.0) -> Piece:
    """Printer or copier."""
    w, d, h = between(rng, 0.35, 0.55), between(rng, 0.3, 0.5), between(rng, 0.18, 0.45)
    return thing("printer", w, d, h, rng).add(
        box(w, d, h), box(w * 0.7, 0.12, 0.02, 0, d / 2, h * 0.4)
    )


def microwave(rng: Rng, s: float = 1.0) -> Piece:
    """Microwave, toaster oven or radio."""
    w, d, h = between(rng, 0.3, 0.52), between(rng, 0.25, 0.4), between(rng, 0.18, 0.32)
    return thing("microwave", w, d, h, rng).add(
        box(w, d, h, z=0.015), box(0.02, 0.03, h * 0.7, w * 0.3, d / 2, h * 0.15)
    )


def lamp(rng: Rng, s: float = 1.0) -> Piece:
    """Table lamp with a shade."""
    h, r = between(rng, 0.3, 0.65) * s, between(rng, 0.09, 0.2) * s
    shade = lathe([(r, h * 0.55), (r * between(rng, 0.5, 1.0), h)], sides=14)
    foot = (
        lump(r, r, h * 0.5, rng, square=0.9, rough=0.02)
        if chance(rng, 0.4)
        else cylinder(r * 0.7, 0.03)
    )
    return thing("lamp", 2 * r, 2 * r, h, rng).add(foot, cylinder(0.015, h * 0.7), shade)


def plant(rng: Rng, s: float = 1.0) -> Piece:
    """Pot with leaves."""
    r, h = between(rng, 0.06, 0.16) * s, between(rng, 0.2, 0.6) * s
    piece = thing("plant", 2 * r, 2 * r, h, rng).add(cylinder(r * 0.75, h * 0.35, top=r, sides=10))
    leaves = []
    for _ in range(int(rng.integers(3, 9))):
        w, d, t = (between(rng, 0.3, 0.8), between(rng, 0.1, 0.4), between(rng, 0.1, 0.5))
        leaf = lump(w * h, d * h, t * h, rng, rough=0.3, detail=8).tilted(between(rng, -0.8, 0.8))
        x, y, z = between(rng, -r, r), between(rng, -r, r), h * between(rng, 0.4, 0.9)
        leaves.append(leaf.turned(between(rng, 0, 6)).moved(x, y, z))
    return piece.add(merge(leaves), color=(60, 110, 55))


def bag(rng: Rng, s: float = 1.0) -> Piece:
    """Bag, backpack or heap of clothes."""
    w, d, h = between(rng, 0.2, 0.5) * s, between(rng, 0.15, 0.4) * s, between(rng, 0.12, 0.5) * s
    name = ("bag", "backpack", "clothes")[int(rng.integers(3))]
    if name == "clothes":
        h *= 0.5
    return thing(name, w, d, h, rng).add(
        lump(w, d, h, rng, square=between(rng, 0.5, 0.9), rough=0.2, detail=14)
    )


def basket(rng: Rng, s: float = 1.0) -> Piece:
    """Laundry basket or storage tub."""
    r, h = between(rng, 0.14, 0.3) * s, between(rng, 0.15, 0.6) * s
    piece = thing("basket", 2 * r, 2 * r, h, rng)
    piece.add(
        lathe([(0, 0), (r * 0.85, 0), (r, h), (r * 0.93, h), (r * 0.8, 0.03), (0, 0.03)], sides=12)
    )
    if chance(rng, 0.5):
        piece.add_other(
            lump(r * 1.5, r * 1.5, h * 0.5, rng, 0, 0, h * 0.6, rough=0.25),
            IGNORED,
            "clothes",
            pick(rng, FABRICS),
        )
    return piece


def trash_can(rng: Rng, s: float = 1.0) -> Piece:
    """Bin: round or square, open or with a lid."""
    r, h = between(rng, 0.11, 0.22), between(rng, 0.24, 0.68)
    piece = thing("trash can", 2 * r, 2 * r, h, rng, OTHERFURNITURE)
    sides = 4 if chance(rng, 0.35) else 12
    if chance(rng, 0.6):
        mesh = lathe(
            [(0, 0), (r * 0.8, 0), (r, h), (r * 0.94, h), (r * 0.75, 0.03), (0, 0.03)], sides=sides
        )
    else:
        mesh = lathe([(0, 0), (r, 0), (r, h * 0.8), (r * 0.7, h), (0, h)], sides=sides)
    return piece.add(mesh.turned(0.785 if sides == 4 else 0.0))


def shoes(rng: Rng, s: float = 1.0) -> Piece:
    """Pair of shoes, not very tidy."""
    piece = thing("shoes", 0.3, 0.32, 0.12, rng)
    for x in (-0.07, 0.07):
        shoe = lump(0.1, 0.28, between(rng, 0.08, 0.14), rng, square=0.7, rough=0.12)
        piece.add(shoe.turned(between(rng, -0.4, 0.4)).moved(x, between(rng, -0.04, 0.04)))
    return piece


def toy(rng: Rng, s: float = 1.0) -> Piece:
    """Soft toy: a few lumps."""
    size = between(rng, 0.12, 0.35) * s
    piece = thing("toy", size, size, size, rng)
    for _ in range(int(rng.integers(2, 5))):
        part = lump(
            size * between(rng, 0.4, 0.7),
            size * between(rng, 0.4, 0.7),
            size * between(rng, 0.4, 0.8),
            rng,
            rough=0.15,
        )
        piece.add(
            part.moved(
                between(rng, -0.3, 0.3) * size,
                between(rng, -0.3, 0.3) * size,
                between(rng, 0, 0.4) * size,
            )
        )
    return piece


def soft(rng: Rng, s: float = 1.0) -> Piece:
    """Cushion lying about."""
    w, d, h = between(rng, 0.3, 0.55) * s, between(rng, 0.28, 0.5) * s, between(rng, 0.1, 0.2)
    return thing("pillow", w, d, h, rng).add(cushion(w, d, h, rng, rough=0.08))


def heap_small(rng: Rng, s: float = 1.0) -> Piece:
    """Clothes, a towel or a blanket dropped somewhere."""
    w, d, h = between(rng, 0.25, 0.7) * s, between(rng, 0.25, 0.6) * s, between(rng, 0.06, 0.25) * s
    piece = thing("clothes", w, d, h, rng)
    for _ in range(int(rng.integers(1, 4))):
        part = lump(
            w * between(rng, 0.5, 1.0), d * between(rng, 0.5, 1.0), h, rng, 0, 0, 0, 0.8, 0.25, 12
        )
        x, y = between(rng, -0.2, 0.2) * w, between(rng, -0.2, 0.2) * d
        piece.add(part.turned(between(rng, 0, 3)).moved(x, y), color=pick(rng, FABRICS))
    return piece


def bowl(rng: Rng, s: float = 1.0) -> Piece:
    """Bowl, plate, cup or pan."""
    r, h = between(rng, 0.04, 0.16) * s, between(rng, 0.02, 0.12) * s
    return thing("dish", 2 * r, 2 * r, h, rng).add(
        lathe([(0, 0), (r * 0.5, 0), (r, h), (r * 0.85, h), (0, 0.015)], sides=12)
    )


def device(rng: Rng, s: float = 1.0) -> Piece:
    """Kettle, coffee machine, speaker, telephone: a box with something on it."""
    w, d, h = between(rng, 0.1, 0.3) * s, between(rng, 0.1, 0.3) * s, between(rng, 0.1, 0.4) * s
    piece = thing("appliance", w, d, h, rng).add(cushion(w, d, h, rng, rough=0.0))
    return piece.add(box(w * 0.5, d * 0.6, h * 0.3, 0, d * 0.2, h * 0.7))


def tall_plant(rng: Rng, s: float = 1.0) -> Piece:
    """Plant that stands on the floor."""
    return plant(rng, between(rng, 1.6, 2.6))


Maker = Callable[..., Piece]

# What may lie where, with weights. A maker takes (rng, scale).
ON_TOP: dict[str, tuple[tuple[Maker, float], ...]] = {
    "desk": (
        (monitor, 3), (keyboard, 2), (laptop, 1.5), (books, 3), (bottle, 2), (lamp, 1),
        (printer, 0.7), (carton, 1), (bag, 0.7), (device, 1), (bowl, 1), (plant, 0.5), (cable, 0.5),
    ),
    "kitchen": (
        (bottle, 4), (bowl, 4), (microwave, 1.5), (device, 3), (carton, 1.5), (bag, 1),
        (plant, 0.4),
    ),
    "soft": ((bag, 2), (soft, 4), (heap_small, 2), (books, 1), (laptop, 0.7), (toy, 1)),
    "any": (
        (carton, 2.5), (bottle, 2), (books, 3), (lamp, 1), (plant, 1), (bag, 1.5), (basket, 0.7),
        (device, 1), (bowl, 1.5), (toy, 0.7), (heap_small, 0.8),
    ),
    "table": (
        (bowl, 5), (bottle, 4), (books, 3), (carton, 2), (bag, 2), (plant, 1.5), (laptop, 1),
        (lamp, 0.5), (heap_small, 1), (device, 0.7), (toy, 0.5),
    ),
    "floor": (
        (carton, 3), (bag, 3), (shoes, 2), (basket, 1), (suitcase, 1), (computer, 1), (soft, 0.5),
        (books, 0.7), (toy, 0.5), (trash_can, 1), (bottle, 0.5), (cable, 1.5),
    ),
}  # fmt: skip
FLOOR: tuple[tuple[Maker, float], ...] = (
    (carton, 3), (bag, 3), (trash_can, 3), (basket, 1.5), (shoes, 2), (suitcase, 1),
    (floor_lamp, 1.5), (tall_plant, 1.2), (fan, 0.7), (drying_rack, 0.4), (bicycle, 0.2),
    (computer, 0.5), (soft, 0.4), (toy, 0.5), (box_stack, 4), (machine, 2.2), (partition, 1.5),
    (heap, 4), (heap_small, 3), (cable, 2), (leaning, 3),
)  # fmt: skip

# Large things that fill a room without having a class.
LARGE: tuple[tuple[Maker, float], ...] = (
    (box_stack, 2.5), (machine, 1.5), (partition, 1), (heap, 4), (drying_rack, 0.7),
    (tall_plant, 0.8), (leaning, 1.5),
)  # fmt: skip


def choose(rng: Rng, table: tuple[tuple[Maker, float], ...]) -> Maker:
    """Return one maker of a weighted table."""
    weights = [weight for _, weight in table]
    total = sum(weights)
    return table[int(rng.choice(len(table), p=[w / total for w in weights]))][0]
