"""Teachers for tests: they look at colours, need no weights, and count what they are asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sas_training.teachers.teacher import DenseFeatures, Description, Image, LabelledMask


class ColourFeatures:
    """Three channels of half the image's size: the mean colour of 2 x 2 pixels."""

    text_encoder = "hash"
    channels = 3

    def __init__(self, model: str = "none", gain: float = 1.0) -> None:
        self.description = Description("colours", model, {"gain": gain})
        self.gain = gain
        self.asked: list[int] = []

    def features(self, images: Sequence[Image]) -> list[DenseFeatures]:
        self.asked.append(len(images))
        result = []
        for image in images:
            pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
            cells = torch.nn.functional.avg_pool2d(pixels, 2)[0] * self.gain
            result.append(DenseFeatures(cells.half(), 0.5, 0.5))
        return result


class BrightMasks:
    """A mask "lamp" of bright pixels and an overlapping mask "wall" of the left half."""

    def __init__(self) -> None:
        self.description = Description("bright", "none")
        self.asked: list[int] = []

    def masks(self, images: Sequence[Image]) -> list[tuple[LabelledMask, ...]]:
        self.asked.append(len(images))
        return [self._of(image) for image in images]

    def _of(self, image: Image) -> tuple[LabelledMask, ...]:
        left = np.zeros(image.shape[:2], bool)
        left[:, : image.shape[1] // 2] = True
        bright = image.mean(axis=2) > 128
        found = (LabelledMask(left, "wall", 0.5),)
        return (*found, LabelledMask(bright, "lamp", 0.9)) if bright.any() else found
