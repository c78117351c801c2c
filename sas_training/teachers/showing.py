"""Pictures of masks and classes: the image with each mask or pixel in a colour of its word."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sas_ros.pictures.drawing import blend, draw_text
from sas_ros.pictures.font import text_alpha
from sas_training.teachers.teacher import Image, LabelledMask

_PAPER, _INK, _SILENT = (250, 250, 251), (40, 44, 50), 235


def draw_masks(image: Image, masks: Sequence[LabelledMask], strength: float = 0.55) -> Image:
    """The image (height, width, 3) uint8, tinted; edges of masks are white.

    A label has the same colour in every picture. Weaker masks are drawn first.
    """
    shown = image.astype(np.float32)
    edges = np.zeros(image.shape[:2], bool)
    for one in sorted(masks, key=lambda mask: mask.score):
        tint = np.array(label_tint(one.label), np.float32)
        shown[one.mask] = (1 - strength) * image[one.mask] + strength * tint
        edges |= _edge(one.mask)
    shown[edges] = 255
    return shown.astype(np.uint8)


def write_on_masks(picture: Image, masks: Sequence[LabelledMask], texts: Sequence[str]) -> Image:
    """The picture (height, width, 3) with a text on each mask, at its pixel farthest from its edge.

    Masks and texts are as many; masks are those of the picture's size.
    """
    shown = picture.astype(np.float32)
    height = max(8.0, picture.shape[0] / 32)
    for one, text in zip(masks, texts, strict=True):
        row, column = _inmost(one.mask)
        rows, columns = text_alpha(text, height).shape
        left = int(np.clip(column - columns // 2, 1, max(1, picture.shape[1] - columns - 2)))
        middle = int(np.clip(row, rows // 2, max(rows // 2, picture.shape[0] - rows // 2)))
        plate = np.full((rows, columns + 4), 0.75, np.float32)
        blend(shown, middle - rows // 2, left - 2, plate, _PAPER)
        draw_text(shown, text, left, middle, height, _INK)
    return np.asarray(np.clip(np.round(shown), 0, 255).astype(np.uint8))


def draw_words(
    image: Image,
    words: npt.NDArray[np.int64],
    colors: npt.NDArray[np.uint8],
    strength: float = 0.65,
) -> Image:
    """The image (height, width, 3) uint8 in the colours of its pixels' words.

    Args:
        image: what is tinted.
        words: (height, width) row of `colors`, -1 where nothing is said: such pixels are pale.
        colors: (K, 3) uint8.
        strength: of the tint, 0 to 1.
    """
    palette = np.concatenate([colors, np.full((1, 3), _SILENT, np.uint8)]).astype(np.float32)
    grey = image.astype(np.float32).mean(axis=2, keepdims=True)
    shown = (1 - strength) * grey + strength * palette[words]
    return np.asarray(np.round(shown).astype(np.uint8))


def draw_key(entries: Sequence[tuple[str, Sequence[int]]], size: tuple[int, int]) -> Image:
    """A picture of `size` (width, height) that says what colours stand for; as many (word, colour)
    as fit, in two columns."""
    width, height = size
    shown = np.empty((height, width, 3), np.float32)
    shown[:] = _PAPER
    text = max(8.0, height / 26)
    step = round(1.7 * text)
    rows = max(1, height // step)
    for number, (word, color) in enumerate(entries[: 2 * rows]):
        left, middle = 6 + (number // rows) * width // 2, step // 2 + (number % rows) * step
        box = round(text)
        blend(shown, middle - box // 2, left, np.ones((box, box), np.float32), color)
        draw_text(shown, word, left + box + 6, middle, text, _INK)
    return np.asarray(np.clip(np.round(shown), 0, 255).astype(np.uint8))


def label_tint(label: str) -> tuple[int, int, int]:
    """A colour for a label, the same on every machine."""
    red, green, blue = hashlib.sha256(label.encode()).digest()[:3]
    return 40 + red * 215 // 255, 40 + green * 215 // 255, 40 + blue * 215 // 255


def _inmost(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """The pixel of a mask with the most steps to its edge, that of the image counted as one."""
    left = mask
    while True:
        wide = np.pad(left, 1)
        less = left & wide[2:, 1:-1] & wide[:-2, 1:-1] & wide[1:-1, 2:] & wide[1:-1, :-2]
        if not less.any():
            break
        left = less
    rows, columns = np.nonzero(left)
    return int(rows[len(rows) // 2]), int(columns[len(rows) // 2])


def _edge(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels of the mask whose right or lower neighbour is none of it, or the other way round."""
    edge = np.zeros_like(mask)
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    return edge
