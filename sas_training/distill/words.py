"""Words that mean a class. Each step shows the student one of them per class, so that its features
come to lie near everything the class is called, not near one name only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sas_ros.language.encoder import TextEncoder
from sas_ros.language.prompts import apply_prompt
from sas_training.evaluation.labels import LabelSet

SYNONYMS: dict[str, tuple[str, ...]] = {
    "wall": ("room wall", "partition wall"),
    "floor": ("ground", "flooring"),
    "cabinet": ("cupboard", "wardrobe", "chest of drawers", "dresser"),
    "bed": ("double bed", "bunk bed", "mattress"),
    "chair": ("office chair", "armchair", "stool", "dining chair", "seat"),
    "sofa": ("couch", "corner sofa", "settee"),
    "table": ("dining table", "coffee table", "round table"),
    "door": ("doorway", "wooden door"),
    "window": ("window pane", "glass window"),
    "bookshelf": ("bookcase", "shelf", "shelves"),
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

TEXTS = {"otherfurniture": "other furniture"}
"""What is embedded for a class whose name is no English word."""


def class_text(name: str) -> str:
    """The text embedded for a class name."""
    return TEXTS.get(name, name)


class WordBank:
    """Embeddings of every word of every class of a label set.

    Attributes:
        names: (K, C) float32, unit rows: the class names themselves.
    """

    def __init__(self, labels: LabelSet, encoder: TextEncoder, prompt: str) -> None:
        self._words: list[npt.NDArray[np.float32]] = []
        for name in labels.names:
            texts = (class_text(name), *SYNONYMS.get(name, ()))
            self._words.append(encoder.encode([apply_prompt(prompt, text) for text in texts]))
        self.names = np.stack([words[0] for words in self._words])

    def fingerprint(self) -> bytes:
        """Depends on label set, encoder and prompt: on every embedding."""
        return b"".join(words.tobytes() for words in self._words)

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """(K, C) float32: the name of each class with probability 1/2, else one of its synonyms."""
        rows = []
        for words in self._words:
            synonym = len(words) > 1 and rng.random() < 0.5
            rows.append(words[rng.integers(1, len(words)) if synonym else 0])
        return np.stack(rows)
