"""Names and sizes of all furniture: one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import bathroom, beds, kitchen, seating, storage, tables, wall_things
from .furniture import Rng, between
from .model import Piece

Range = tuple[float, float]


@dataclass(frozen=True)
class Kind:
    """A kind of furniture: how it is built and its width, depth and height in metres."""

    build: Callable[[Rng, float, float, float], Piece]
    w: Range
    d: Range
    h: Range

    def make(self, rng: Rng, widest: float = 99.0) -> Piece:
        """Build one at a random size, at most `widest` m wide (but never below its minimum)."""
        w = between(rng, self.w[0], max(self.w[0], min(self.w[1], widest)))
        return self.build(rng, w, between(rng, *self.d), between(rng, *self.h))


# fmt: off
KINDS: dict[str, Kind] = {
    #                            builder                    width          depth         height
    "chair":            Kind(seating.dining_chair,      (0.38, 0.55), (0.40, 0.55), (0.76, 1.05)),
    "office chair":     Kind(seating.office_chair,      (0.52, 0.70), (0.52, 0.68), (0.82, 1.25)),
    "armchair":         Kind(seating.armchair,          (0.62, 0.92), (0.62, 0.92), (0.70, 1.05)),
    "stool":            Kind(seating.stool,             (0.30, 0.45), (0.30, 0.45), (0.40, 0.50)),
    "bar stool":        Kind(partial(seating.stool, name="bar stool"), (0.32, 0.42), (0.32, 0.42), (0.60, 0.78)),
    "stacked chairs":   Kind(seating.stacked_chairs,    (0.42, 0.52), (0.48, 0.60), (0.90, 1.20)),
    "folding chair":    Kind(seating.folding_chair,     (0.42, 0.50), (0.45, 0.55), (0.76, 0.88)),
    "sofa":             Kind(seating.sofa,              (1.35, 2.50), (0.75, 1.05), (0.68, 1.00)),
    "loveseat":         Kind(partial(seating.sofa, name="loveseat"), (1.05, 1.45), (0.75, 0.95), (0.70, 0.95)),
    "sofa chair":       Kind(partial(seating.sofa, name="sofa chair"), (0.80, 1.05), (0.78, 1.00), (0.72, 0.98)),
    "corner sofa":      Kind(seating.corner_sofa,       (2.00, 3.00), (1.50, 2.40), (0.70, 0.95)),
    "bench":            Kind(seating.bench,             (0.90, 1.60), (0.32, 0.45), (0.40, 0.50)),
    "ottoman":          Kind(seating.ottoman,           (0.40, 0.80), (0.40, 0.65), (0.35, 0.48)),
    "table":            Kind(tables.table,              (0.75, 2.00), (0.70, 1.00), (0.68, 0.80)),
    "round table":      Kind(tables.round_table,        (0.70, 1.35), (0.70, 1.20), (0.66, 0.80)),
    "bar table":        Kind(partial(tables.table, name="bar table"), (0.90, 2.40), (0.40, 0.70), (0.90, 1.10)),
    "coffee table":     Kind(partial(tables.table, name="coffee table"), (0.60, 1.30), (0.45, 0.75), (0.32, 0.52)),
    "round coffee table": Kind(partial(tables.round_table, name="coffee table"), (0.50, 1.00), (0.50, 0.90), (0.35, 0.55)),
    "side table":       Kind(partial(tables.table, name="side table"), (0.35, 0.60), (0.35, 0.60), (0.42, 0.65)),
    "console table":    Kind(partial(tables.table, name="console table"), (0.80, 1.80), (0.40, 0.65), (0.68, 0.85)),
    "meeting table":    Kind(tables.meeting_table,      (1.80, 3.60), (0.95, 1.40), (0.70, 0.78)),
    "desk":             Kind(tables.desk,               (0.95, 1.90), (0.52, 0.85), (0.68, 0.80)),
    "long desk":        Kind(partial(tables.desk, name="desk"), (1.80, 3.60), (0.55, 0.80), (0.70, 0.78)),
    "corner desk":      Kind(tables.corner_desk,        (1.40, 2.00), (1.20, 1.80), (0.70, 0.78)),
    "cabinet":          Kind(storage.cabinet,           (0.45, 1.60), (0.32, 0.60), (0.60, 1.30)),
    "tall cabinet":     Kind(partial(storage.cabinet, name="tall cabinet"), (0.45, 1.30), (0.35, 0.62), (1.50, 2.25)),
    "built-in cabinet": Kind(partial(storage.cabinet, name="built-in cabinet"), (0.90, 3.20), (0.38, 0.66), (2.10, 2.50)),
    "sideboard":        Kind(partial(storage.cabinet, name="sideboard"), (1.00, 2.00), (0.38, 0.52), (0.65, 0.95)),
    "filing cabinet":   Kind(storage.filing_cabinet,    (0.38, 0.95), (0.45, 0.65), (0.55, 1.40)),
    "wardrobe":         Kind(storage.wardrobe,          (0.80, 2.20), (0.50, 0.68), (1.75, 2.35)),
    "open wardrobe":    Kind(storage.open_wardrobe,     (0.80, 1.60), (0.50, 0.62), (1.70, 2.20)),
    "bookshelf":        Kind(storage.bookshelf,         (0.50, 1.80), (0.24, 0.42), (1.10, 2.30)),
    "low bookshelf":    Kind(storage.bookshelf,         (0.60, 1.60), (0.25, 0.40), (0.60, 1.10)),
    "shelf":            Kind(storage.rack,              (0.60, 2.00), (0.30, 0.55), (1.00, 2.20)),
    "dresser":          Kind(storage.dresser,           (0.70, 1.50), (0.42, 0.55), (0.70, 1.20)),
    "nightstand":       Kind(storage.nightstand,        (0.35, 0.60), (0.32, 0.45), (0.42, 0.65)),
    "tv stand":         Kind(storage.tv_stand,          (0.90, 1.90), (0.35, 0.50), (0.38, 0.62)),
    "shoe rack":        Kind(storage.shoe_rack,         (0.60, 1.00), (0.28, 0.38), (0.40, 0.90)),
    "single bed":       Kind(partial(beds.bed, name="single bed"), (0.85, 1.10), (1.90, 2.10), (0.42, 0.64)),
    "double bed":       Kind(partial(beds.bed, name="double bed"), (1.35, 2.00), (1.95, 2.20), (0.42, 0.70)),
    "bunk bed":         Kind(beds.bunk_bed,             (0.90, 1.15), (1.95, 2.15), (1.55, 1.95)),
    "crib":             Kind(beds.crib,                 (0.62, 0.80), (1.15, 1.40), (0.85, 1.05)),
    "toilet":           Kind(bathroom.toilet,           (0.35, 0.44), (0.62, 0.74), (0.70, 0.86)),
    "sink":             Kind(bathroom.sink,             (0.45, 0.70), (0.40, 0.56), (0.76, 0.90)),
    "bathtub":          Kind(bathroom.bathtub,          (1.45, 1.80), (0.68, 0.85), (0.40, 0.62)),
    "shower":           Kind(bathroom.shower,           (0.80, 1.10), (0.80, 1.00), (1.90, 2.10)),
    "kitchen row":      Kind(kitchen.kitchen_row,       (1.20, 3.60), (0.56, 0.66), (0.84, 0.96)),
    "kitchen island":   Kind(kitchen.counter_island,    (1.00, 2.20), (0.50, 0.95), (0.86, 1.08)),
    "refrigerator":     Kind(kitchen.refrigerator,      (0.55, 0.95), (0.58, 0.80), (1.35, 1.95)),
    "small refrigerator": Kind(partial(kitchen.refrigerator, name="mini fridge"), (0.45, 0.60), (0.45, 0.60), (0.52, 0.90)),
    "stove":            Kind(kitchen.stove,             (0.50, 0.76), (0.58, 0.66), (0.84, 0.94)),
    "washing machine":  Kind(kitchen.washing_machine,   (0.58, 0.68), (0.55, 0.65), (0.84, 1.00)),
    "radiator":         Kind(wall_things.radiator,      (0.60, 1.80), (0.08, 0.16), (0.45, 0.75)),
}
# fmt: on


def make(name: str, rng: Rng, widest: float = 99.0) -> Piece:
    """Build one piece of the named kind; raises KeyError for an unknown name."""
    return KINDS[name].make(rng, widest)
