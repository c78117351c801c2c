"""Model alignment via text: masks with words become pixel features in the space of a text encoder.

For each mask the sentence of its caption and label (`sentences`) is encoded once, and the mask is
painted with the unit vector. Where masks overlap, the one with the higher score wins, of equal
scores the smaller one, then the one that came first. Pixels of no mask are marked as such; nothing
is invented for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_ros.language.encoder import TextEncoder
from sas_training.alignment.head_noun import Grammar, WordListGrammar
from sas_training.alignment.sentences import MODES, PROMPT, Sentence, sentence_of
from sas_training.teachers.cache import FrameCache
from sas_training.teachers.teacher import (
    DenseFeatures,
    Description,
    Image,
    LabelledMask,
    MaskTeacher,
    images_a_call,
)


@dataclass(frozen=True, eq=False)
class Painted:
    """An image painted with sentences.

    Attributes:
        index: (height, width) int64, the sentence of each pixel, -1 where there is no mask.
        sentences: one per mask, in the masks' order.
    """

    index: npt.NDArray[np.int64]
    sentences: tuple[Sentence, ...]


def winners(masks: Sequence[LabelledMask], height: int, width: int) -> npt.NDArray[np.int64]:
    """(height, width) number of the mask that each pixel belongs to, -1 for none.

    Raises `SasError` when a mask has another size than the image.
    """
    index = np.full((height, width), -1, dtype=np.int64)
    strength = [(one.score, -int(one.mask.sum()), -number) for number, one in enumerate(masks)]
    for number in sorted(range(len(masks)), key=strength.__getitem__):
        if masks[number].mask.shape != index.shape:
            raise SasError(
                f"The mask of {masks[number].label!r} is {masks[number].mask.shape}, the image "
                f"{index.shape}."
            )
        index[masks[number].mask] = number
    return index


class AlignedTeacher:
    """A mask teacher seen through text: a `PixelTeacher`.

    Its features take (C height width) float16 and are quick to make, so what is worth keeping are
    the masks: give a `cache` for these.

    Args:
        teacher: whose masks have captions, or not.
        encoder: gives unit vectors; one that remembers (`load_encoder`) encodes a sentence once
            for all images, any other once for each call.
        mode: rule of the sentences, one of `MODES`.
        grammar: finds nouns and adjectives.
        prompt: template of sentences without a caption.
        cache: where the teacher's masks are kept.

    Raises `SasError` for an unknown mode.
    """

    def __init__(
        self,
        teacher: MaskTeacher,
        encoder: TextEncoder,
        mode: str = "noun",
        grammar: Grammar | None = None,
        prompt: str = PROMPT,
        cache: FrameCache | None = None,
    ) -> None:
        if mode not in MODES:
            raise SasError(f"{mode!r} is no rule for sentences; known are {', '.join(MODES)}.")
        self._teacher, self._encoder, self._cache = teacher, encoder, cache
        self._mode, self._prompt = mode, prompt
        self._grammar = WordListGrammar() if grammar is None else grammar
        # Two files of weights may share a name; their vectors of a sentence do not.
        # What is said ahead of the question must be kept until it comes.
        self.images_a_call = 1 if cache is None else images_a_call(teacher)
        probe = encoder.encode(["a chair in a scene"]).round(2) + 0.0
        inner = teacher.description
        self.description = Description(
            f"{inner.name}+text",
            f"{inner.model} {hashlib.sha256(probe.tobytes()).hexdigest()[:16]}",
            {
                "teacher": inner.to_json(),
                "mode": mode,
                "grammar": self._grammar.name,
                "prompt": prompt,
            },
        )

    @property
    def channels(self) -> int:
        return self._encoder.dim

    @property
    def text_encoder(self) -> str:
        return self._encoder.name

    def paint(self, image: Image, masks: Sequence[LabelledMask]) -> Painted:
        """Which sentence each pixel gets."""
        sentences = tuple(
            sentence_of(self._mode, one.caption, one.label, self._grammar, self._prompt)
            for one in masks
        )
        return Painted(winners(masks, *image.shape[:2]), sentences)

    def masks(self, images: Sequence[Image]) -> list[tuple[LabelledMask, ...]]:
        """The teacher's masks of each image, out of the cache where they are there."""
        if self._cache is None:
            return self._teacher.masks(images)
        return self._cache.masks(self._teacher, images)

    def features(self, images: Sequence[Image]) -> list[DenseFeatures]:
        """Unit features (C, height, width) of each image, valid where a mask is."""
        found = self.masks(images)
        painted = [self.paint(image, masks) for image, masks in zip(images, found, strict=True)]
        texts = [one.text for each in painted for one in each.sentences]
        distinct = list(dict.fromkeys(texts))
        rows = self._encoder.encode(distinct)
        return [self._dense(each, distinct, rows) for each in painted]

    def _dense(
        self, painted: Painted, distinct: list[str], rows: npt.NDArray[np.float32]
    ) -> DenseFeatures:
        place = {text: number for number, text in enumerate(distinct)}
        row_of = [place[one.text] for one in painted.sentences]
        # The last row stands for no mask.
        table = np.zeros((len(row_of) + 1, self.channels), dtype=np.float16)
        table[:-1] = rows[row_of]
        features = torch.from_numpy(table)[torch.from_numpy(painted.index)]
        return DenseFeatures(features.permute(2, 0, 1), valid=torch.from_numpy(painted.index >= 0))
