"""Pictures of masks: the image with each mask in a colour of its label."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sas_training.teachers.teacher import Image, LabelledMask


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


def label_tint(label: str) -> tuple[int, int, int]:
    """A colour for a label, the same on every machine."""
    red, green, blue = hashlib.sha256(label.encode()).digest()[:3]
    return 40 + red * 215 // 255, 40 + green * 215 // 255, 40 + blue * 215 // 255


def _edge(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels of the mask whose right or lower neighbour is none of it, or the other way round."""
    edge = np.zeros_like(mask)
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    return edge
