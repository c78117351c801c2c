"""What the pictures of things are called: a word of the class, often its colour and its place."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt

from sas_training.distill.words import SYNONYMS, class_text
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.pictures import Picture

TEMPLATES = (
    "a good photo of a {} in a room",
    "a good photo of {}",
    "a good photo of a {}",
    "a photo of a {} in a room",
    "a photo of a {}",
    "a {} in a scene",
)
"""With one place for the words of the thing; the first are the paper's and the released code's."""

AROUND = (" with a wall and a floor", " in front of a wall", " on the floor")
"""What else is shown, said now and then, so that these words have their own places to look at."""

_NAME, _COLOURED, _PLACED = 0.7, 0.35, 0.3
_GREY = 0.13
_HUES = (
    *((0.04, "red"), (0.11, "orange"), (0.19, "yellow"), (0.45, "green"), (0.7, "blue")),
    *((0.8, "purple"), (0.95, "pink"), (1.01, "red")),
)


def colour_name(rgb: npt.NDArray[np.float64]) -> str:
    """The common name of a mean colour (3,), each of 0 to 255."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(float(c) / 255 for c in rgb))
    if value < 0.2:
        return "black"
    if saturation < _GREY:
        return "white" if value > 0.7 else "grey"
    name = next(name for end, name in _HUES if hue < end)
    if name in ("red", "orange", "yellow") and saturation < 0.65 and hue > 0.02:
        return "beige" if value > 0.65 else "brown"
    return name


def caption(label: int, colour: str, rng: np.random.Generator) -> str:
    """A sentence about a picture of a class of ScanNet-20."""
    name = SCANNET20.names[label]
    words = (class_text(name), *SYNONYMS.get(name, ()))
    said = words[0] if rng.random() < _NAME else words[int(rng.integers(len(words)))]
    if rng.random() < _COLOURED:
        said = f"{colour} {said}"
    sentence = TEMPLATES[int(rng.integers(len(TEMPLATES)))].format(said)
    if name not in ("wall", "floor") and rng.random() < _PLACED:
        sentence += AROUND[int(rng.integers(len(AROUND)))]
    return sentence


def colours_of(images: Picture, masks: npt.NDArray[np.bool_]) -> list[str]:
    """The colour of what each mask (P, S, S) shows of its image (P, S, S, 3)."""
    return [
        colour_name(image[mask if mask.any() else slice(None)].reshape(-1, 3).mean(axis=0))
        for image, mask in zip(images, masks, strict=True)
    ]
