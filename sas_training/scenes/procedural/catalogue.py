"""Names and sizes of all furniture: one table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from . import bathroom, beds, kitchen, seating, sofas, storage, tables, wall_things
from .furniture import Rng, between
from .model import Piece

Range = tuple[float, float]

# fmt: off
SIZES: dict[str, tuple[Range, Range, Range]] = {
    # metres:                 width         depth         height
    "chair":                 ((0.38, 0.55), (0.40, 0.55), (0.76, 1.05)),
    "office chair":          ((0.52, 0.70), (0.52, 0.68), (0.82, 1.25)),
    "armchair":              ((0.62, 0.92), (0.62, 0.92), (0.70, 1.05)),
    "stool":                 ((0.30, 0.45), (0.30, 0.45), (0.40, 0.50)),
    "bar stool":             ((0.32, 0.42), (0.32, 0.42), (0.60, 0.78)),
    "stacked chairs":        ((0.42, 0.52), (0.48, 0.60), (0.90, 1.20)),
    "folding chair":         ((0.42, 0.50), (0.45, 0.55), (0.76, 0.88)),
    "sofa":                  ((1.45, 2.70), (0.78, 1.10), (0.68, 1.00)),
    "loveseat":              ((1.05, 1.45), (0.75, 0.95), (0.70, 0.95)),
    "sofa chair":            ((0.80, 1.05), (0.78, 1.00), (0.72, 0.98)),
    "corner sofa":           ((2.00, 3.00), (1.50, 2.40), (0.70, 0.95)),
    "bench":                 ((0.90, 1.60), (0.32, 0.45), (0.40, 0.50)),
    "ottoman":               ((0.40, 0.80), (0.40, 0.65), (0.35, 0.48)),
    "table":                 ((0.75, 2.20), (0.65, 1.10), (0.64, 0.84)),
    "round table":           ((0.65, 1.45), (0.65, 1.25), (0.60, 0.82)),
    "bar table":             ((0.60, 2.40), (0.40, 0.85), (0.90, 1.15)),
    "round bar table":       ((0.60, 0.90), (0.60, 0.90), (0.95, 1.12)),
    "L table":               ((1.40, 2.60), (1.30, 2.20), (0.70, 0.80)),
    "coffee table":          ((0.60, 1.45), (0.45, 0.90), (0.30, 0.54)),
    "padded coffee table":   ((0.65, 1.35), (0.55, 0.95), (0.34, 0.48)),
    "round coffee table":    ((0.50, 1.00), (0.50, 0.90), (0.35, 0.55)),
    "side table":            ((0.35, 0.60), (0.35, 0.60), (0.42, 0.65)),
    "console table":         ((0.80, 1.80), (0.28, 0.45), (0.70, 0.90)),
    "meeting table":         ((1.80, 3.60), (0.95, 1.40), (0.70, 0.78)),
    "desk":                  ((0.95, 1.90), (0.52, 0.85), (0.68, 0.80)),
    "long desk":             ((1.80, 3.60), (0.55, 0.80), (0.70, 0.78)),
    "corner desk":           ((1.40, 2.00), (1.20, 1.80), (0.70, 0.78)),
    "cabinet":               ((0.45, 1.60), (0.32, 0.60), (0.60, 1.30)),
    "tall cabinet":          ((0.45, 1.30), (0.35, 0.62), (1.50, 2.25)),
    "built-in cabinet":      ((0.90, 3.20), (0.38, 0.66), (2.10, 2.50)),
    "sideboard":             ((1.00, 2.00), (0.38, 0.52), (0.65, 0.95)),
    "filing cabinet":        ((0.38, 0.95), (0.45, 0.65), (0.55, 1.40)),
    "wardrobe":              ((0.80, 2.20), (0.50, 0.68), (1.75, 2.35)),
    "open wardrobe":         ((0.80, 1.60), (0.50, 0.62), (1.70, 2.20)),
    "bookshelf":             ((0.50, 1.80), (0.24, 0.42), (1.10, 2.30)),
    "low bookshelf":         ((0.60, 1.60), (0.25, 0.40), (0.60, 1.10)),
    "shelf":                 ((0.60, 2.00), (0.30, 0.55), (1.00, 2.20)),
    "dresser":               ((0.70, 1.50), (0.42, 0.55), (0.70, 1.20)),
    "nightstand":            ((0.35, 0.60), (0.32, 0.45), (0.42, 0.65)),
    "tv stand":              ((0.90, 1.90), (0.35, 0.50), (0.38, 0.62)),
    "shoe rack":             ((0.60, 1.00), (0.28, 0.38), (0.40, 0.90)),
    "single bed":            ((0.85, 1.10), (1.90, 2.10), (0.42, 0.64)),
    "double bed":            ((1.40, 2.10), (1.95, 2.25), (0.42, 0.78)),
    "bunk bed":              ((0.90, 1.15), (1.95, 2.15), (1.55, 1.95)),
    "crib":                  ((0.62, 0.80), (1.15, 1.40), (0.85, 1.05)),
    "toilet":                ((0.35, 0.44), (0.62, 0.74), (0.70, 0.86)),
    "sink":                  ((0.45, 0.70), (0.40, 0.56), (0.76, 0.90)),
    "bathtub":               ((1.45, 1.80), (0.68, 0.85), (0.40, 0.62)),
    "shower":                ((0.80, 1.10), (0.80, 1.00), (1.90, 2.10)),
    "kitchen row":           ((1.20, 3.60), (0.56, 0.66), (0.84, 0.96)),
    "kitchen island":        ((1.00, 2.20), (0.50, 0.95), (0.86, 1.08)),
    "refrigerator":          ((0.58, 0.95), (0.60, 0.85), (1.45, 1.95)),
    "small refrigerator":    ((0.45, 0.60), (0.45, 0.60), (0.52, 0.90)),
    "stove":                 ((0.50, 0.76), (0.58, 0.66), (0.84, 0.94)),
    "washing machine":       ((0.58, 0.68), (0.55, 0.65), (0.84, 1.00)),
    "radiator":              ((0.60, 1.80), (0.08, 0.16), (0.45, 0.75)),
}
# fmt: on

BUILDERS: dict[str, Callable[[Rng, float, float, float], Piece]] = {
    "chair": seating.dining_chair,
    "office chair": seating.office_chair,
    "armchair": seating.armchair,
    "stool": seating.stool,
    "bar stool": partial(seating.stool, name="bar stool"),
    "stacked chairs": seating.stacked_chairs,
    "folding chair": seating.folding_chair,
    "sofa": sofas.sofa,
    "loveseat": partial(sofas.sofa, name="loveseat"),
    "sofa chair": partial(sofas.sofa, name="sofa chair"),
    "corner sofa": sofas.corner_sofa,
    "bench": seating.bench,
    "ottoman": seating.ottoman,
    "table": tables.table,
    "round table": tables.round_table,
    "bar table": partial(tables.table, name="bar table"),
    "round bar table": partial(tables.round_table, name="bar table"),
    "L table": tables.l_table,
    "padded coffee table": tables.padded_table,
    "coffee table": partial(tables.table, name="coffee table"),
    "round coffee table": partial(tables.round_table, name="coffee table"),
    "side table": partial(tables.table, name="side table"),
    "console table": partial(tables.table, name="console table"),
    "meeting table": tables.meeting_table,
    "desk": tables.desk,
    "long desk": partial(tables.desk, name="desk"),
    "corner desk": tables.corner_desk,
    "cabinet": storage.cabinet,
    "tall cabinet": partial(storage.cabinet, name="tall cabinet"),
    "built-in cabinet": partial(storage.cabinet, name="built-in cabinet"),
    "sideboard": partial(storage.cabinet, name="sideboard"),
    "filing cabinet": storage.filing_cabinet,
    "wardrobe": storage.wardrobe,
    "open wardrobe": storage.open_wardrobe,
    "bookshelf": storage.bookshelf,
    "low bookshelf": storage.bookshelf,
    "shelf": storage.rack,
    "dresser": storage.dresser,
    "nightstand": storage.nightstand,
    "tv stand": storage.tv_stand,
    "shoe rack": storage.shoe_rack,
    "single bed": partial(beds.bed, name="single bed"),
    "double bed": partial(beds.bed, name="double bed"),
    "bunk bed": beds.bunk_bed,
    "crib": beds.crib,
    "toilet": bathroom.toilet,
    "sink": bathroom.sink,
    "bathtub": bathroom.bathtub,
    "shower": bathroom.shower,
    "kitchen row": kitchen.kitchen_row,
    "kitchen island": kitchen.counter_island,
    "refrigerator": kitchen.refrigerator,
    "small refrigerator": partial(kitchen.refrigerator, name="mini fridge"),
    "stove": kitchen.stove,
    "washing machine": kitchen.washing_machine,
    "radiator": wall_things.radiator,
}


def make(name: str, rng: Rng, widest: float = 99.0, highest: float = 99.0) -> Piece:
    """Build one piece of the named kind at a random size, at most `widest` and `highest` m.

    It never gets narrower than its kind allows. Raises KeyError for an unknown name.
    """
    wide, deep, high = SIZES[name]
    w = between(rng, wide[0], max(wide[0], min(wide[1], widest)))
    return BUILDERS[name](rng, w, between(rng, *deep), min(between(rng, *high), highest))
