"""Words that mean a class, and finer names of things below the class.

Each step shows the student one word per class, so that its features come to lie near everything the
class is called, not near one name only. In a share of the steps some classes are taken apart: an
armchair must then be told from an office chair, and things that have no class of their own, such as
lamps and boxes, are named too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.language.encoder import TextEncoder
from sas_ros.language.prompts import apply_prompt
from sas_training.evaluation.labels import LabelSet
from sas_training.one_thread import one_thread

SYNONYMS: dict[str, tuple[str, ...]] = {
    "wall": ("room wall", "partition wall"),
    "floor": ("ground", "flooring"),
    "cabinet": ("cupboard", "wardrobe"),
    "bed": ("double bed", "bunk bed", "mattress"),
    "chair": ("office chair", "armchair", "stool", "dining chair", "seat"),
    "sofa": ("couch", "corner sofa", "settee"),
    "table": ("dining table", "coffee table", "round table"),
    "door": ("doorway", "wooden door"),
    "window": ("window pane", "glass window"),
    "bookshelf": ("bookcase",),
    "picture": ("painting", "poster", "picture frame"),
    "counter": ("kitchen counter", "countertop", "worktop"),
    "desk": ("office desk", "writing desk", "work desk"),
    "curtain": ("drapes", "window curtain"),
    "refrigerator": ("fridge", "freezer"),
    "shower curtain": ("shower screen",),
    "toilet": ("lavatory", "toilet bowl"),
    "sink": ("washbasin", "kitchen sink"),
    "bathtub": ("bath", "tub"),
    "otherfurniture": (),
}
"""Other words for a class. Dressers, nightstands and shelves for other things than books are no
cabinets and bookshelves: ScanNet's benchmark ignores them, and so do the generated rooms."""

FINER: dict[str, tuple[str, ...]] = {
    "cabinet": (
        "cabinet", "tall cabinet", "wardrobe", "open wardrobe", "built-in cabinet",
        "kitchen cabinet", "filing cabinet", "wall cabinet", "sideboard", "vanity cabinet",
    ),
    "bed": ("single bed", "double bed", "bunk bed", "crib"),
    "chair": (
        "chair", "office chair", "armchair", "stool", "bar stool", "folding chair",
        "stacked chairs",
    ),
    "sofa": ("sofa", "corner sofa", "loveseat", "sofa chair"),
    "table": (
        "table", "round table", "meeting table", "L table", "coffee table", "side table",
        "console table", "bar table",
    ),
    "door": ("door", "closet door"),
    "desk": ("desk", "corner desk"),
    "sink": ("sink", "kitchen sink"),
    "refrigerator": ("refrigerator", "mini fridge"),
    "otherfurniture": (
        "tv stand", "trash can", "radiator", "ottoman", "washing machine", "shoe rack", "bench",
        "bean bag",
    ),
}  # fmt: skip
"""What the generated rooms call the things of a class (`catalogue.py`)."""

CLUTTER = (
    "box", "boxes", "plant", "books", "pillow", "clothes", "copier", "whiteboard", "bag",
    "backpack", "bottle", "dresser", "basket", "blanket", "monitor", "blinds", "television",
    "nightstand", "lamp", "toy", "coat", "stove", "mirror", "room divider", "air conditioner",
    "laptop", "wall shelf", "floor lamp", "dish", "bulletin board", "suitcase", "computer tower",
    "towel", "shoes", "fan", "printer", "shower", "appliance", "bicycle", "blackboard", "clock",
    "coat rack", "desk screen", "dishwasher", "dispenser", "drying rack", "hanging bag", "keyboard",
    "microwave", "notice board", "pot", "range hood", "shelf", "switch", "wall hanging",
)  # fmt: skip
"""What the generated rooms call things without a class: ignored, unless a step names them."""

KINDS: tuple[str, ...] = (*(name for names in FINER.values() for name in names), *CLUTTER)
"""All finer names; a kind is a place in this list."""

TEXTS = {"otherfurniture": "other furniture"}
"""What is embedded for a class whose name is no English word."""


def class_text(name: str) -> str:
    """The text embedded for a class name."""
    return TEXTS.get(name, name)


@dataclass(frozen=True)
class AskedWords:
    """The words of one step.

    Attributes:
        texts: (R, C) float32 unit rows.
        row_of_class: (K,) int64 row of each class; -1 where the class is taken apart.
        row_of_kind: (len(KINDS),) int64 row of each finer name; -1 where it is not asked for.
    """

    texts: npt.NDArray[np.float32]
    row_of_class: npt.NDArray[np.int64]
    row_of_kind: npt.NDArray[np.int64]


class WordBank:
    """Embeddings of every word of every class of a label set, and of all finer names.

    Attributes:
        names: (K, C) float32, unit rows: the class names themselves.
        kinds: (len(KINDS), C) float32, unit rows.
    """

    def __init__(self, labels: LabelSet, encoder: TextEncoder, prompt: str) -> None:
        self._words: list[npt.NDArray[np.float32]] = []
        with one_thread():
            for name in labels.names:
                texts = (class_text(name), *SYNONYMS.get(name, ()))
                self._words.append(encoder.encode([apply_prompt(prompt, text) for text in texts]))
            self.kinds = encoder.encode([apply_prompt(prompt, name) for name in KINDS])
        self.names = np.stack([words[0] for words in self._words])
        self._kinds_of_class = [
            [KINDS.index(kind) for kind in FINER.get(name, ())] for name in labels.names
        ]

    def fingerprint(self) -> bytes:
        """Depends on label set, encoder and prompt: on every embedding."""
        return b"".join(words.tobytes() for words in (*self._words, self.kinds))

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """(K, C) float32: the name of each class with probability 1/2, else one of its synonyms."""
        rows = []
        for words in self._words:
            synonym = len(words) > 1 and rng.random() < 0.5
            rows.append(words[rng.integers(1, len(words)) if synonym else 0])
        return np.stack(rows)

    def ask(self, rng: np.random.Generator, finer: bool) -> AskedWords:
        """A word for each class; if `finer`, half of the classes that have finer names are taken
        apart into them, and half of the things without a class are named."""
        texts = self.draw(rng)
        apart = [finer and bool(kinds) and rng.random() < 0.5 for kinds in self._kinds_of_class]
        asked = np.zeros(len(KINDS), dtype=bool)
        for kinds, split in zip(self._kinds_of_class, apart, strict=True):
            asked[kinds] = split
        clutter = slice(len(KINDS) - len(CLUTTER), None)
        asked[clutter] = finer & (rng.random(len(CLUTTER)) < 0.5)
        whole = ~np.array(apart)
        classes = int(whole.sum())
        return AskedWords(
            texts=np.concatenate([texts[whole], self.kinds[asked]]),
            row_of_class=np.where(whole, np.cumsum(whole) - 1, -1),
            row_of_kind=np.where(asked, classes + np.cumsum(asked) - 1, -1),
        )
