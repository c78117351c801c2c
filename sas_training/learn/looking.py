"""What teachers say about single images: masks with sentences, and the word of every pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_training.alignment.aligned import AlignedTeacher
from sas_training.evaluation.metrics import IntArray
from sas_training.fusion.features import PointFeatures
from sas_training.learn.asked_words import AskedWords, Tally
from sas_training.learn.files import LearnFiles
from sas_training.learn.report import nearest_words
from sas_training.learn.stages import fused_of, teacher_of
from sas_training.scenes.sheet import Panel, framed
from sas_training.teachers.cache import FrameCache
from sas_training.teachers.showing import draw_key, draw_masks, draw_words, write_on_masks
from sas_training.teachers.teacher import Image, PixelTeacher

FUSED = "fused"
_MOST_MASKS = 12


@dataclass(frozen=True, eq=False)
class Looked:
    """One image and what was said about it.

    Attributes:
        name: of the image.
        panels: pictures for people: the image, masks, words of pixels, what colours stand for.
        masks: teacher -> its masks, the largest first: `label`, `score`, `caption`, `sentence`,
            `share` of the image.
    """

    name: str
    panels: tuple[Panel, ...]
    masks: dict[str, list[dict[str, Any]]]


class Looker:
    """The teachers of a configuration, asked about one image after the other.

    Args:
        files: of the run; answers are kept in its cache.
        asked: the words.
        device: where teachers compute.
        size: (width, height) of a panel.

    Attributes:
        tallies: by teacher, and of their fusion where there are several.
        mask_counts: number of masks so far, by teacher of masks.

    Raises `SasError` when a teacher cannot be loaded.
    """

    def __init__(
        self, files: LearnFiles, asked: AskedWords, device: str, size: tuple[int, int] = (400, 300)
    ) -> None:
        self._files, self._asked, self._size = files, asked, size
        self._cache = FrameCache(files.cache)
        self.teachers: dict[str, PixelTeacher] = {
            choice.called: teacher_of(files, number, self._cache, device)
            for number, choice in enumerate(files.settings.teachers)
            if choice.looks
        }
        # Where one has features of points alone, the fusion of the others is not the one wanted.
        self._fuses = len(self.teachers) == len(files.settings.teachers) > 1
        names = asked.vocabulary.names
        whose = [*self.teachers, *([FUSED] if self._fuses else [])]
        self.tallies = {name: Tally(names) for name in whose}
        self.mask_counts = {
            name: 0 for name, one in self.teachers.items() if isinstance(one, AlignedTeacher)
        }

    def look(self, name: str, image: Image, truth: IntArray | None = None) -> Looked:
        """Ask all teachers about an image (height, width, 3) uint8; `truth` (height, width) is the
        word of each pixel, -1 where unknown."""
        said, masks = [], {}
        panels = [Panel(name, framed(image, self._size))]
        for called, teacher in self.teachers.items():
            said.append(self._said(called, teacher, name, image))
            if isinstance(teacher, AlignedTeacher):
                rows, panel = self._masks(called, teacher, image)
                masks[called] = rows
                panels.append(panel)
        features = dict(zip(self.teachers, said, strict=True))
        if self._fuses:
            features[FUSED] = fused_of(self._files, said)
        found = {k: nearest_words(v, self._asked.vocabulary) for k, v in features.items()}
        everything = np.ones(image.shape[:2], dtype=bool).reshape(-1)
        for whose, words in found.items():
            self.tallies[whose].add(words, everything, None if truth is None else truth.reshape(-1))
            panels.append(self._panel(f"words of {whose}", image, words))
        if truth is not None:
            panels.append(self._panel("truth", image, truth))
        panels.append(self._key(found, truth))
        return Looked(name, tuple(panels), masks)

    def _said(self, called: str, teacher: PixelTeacher, name: str, image: Image) -> PointFeatures:
        """Features of the pixels, row after row, as those of points."""
        # An aligned teacher keeps its masks itself.
        if isinstance(teacher, AlignedTeacher) or not self._files.settings.keep_pixels:
            found = teacher.features([image])[0].at_pixels(*image.shape[:2])
        else:
            found = self._cache.pixel_features(teacher, image)
        rows = found.features.reshape(-1, teacher.channels)
        valid = torch.ones(len(rows), dtype=torch.bool)
        if found.valid is not None:
            valid = found.valid.reshape(-1)
            rows = rows[valid]
        return PointFeatures(rows.half().numpy(), valid.numpy(), called, name)

    def _masks(
        self, called: str, teacher: AlignedTeacher, image: Image
    ) -> tuple[list[dict[str, Any]], Panel]:
        found = teacher.masks([image])[0]
        self.mask_counts[called] += len(found)
        sentences = teacher.paint(image, found).sentences
        order = sorted(range(len(found)), key=lambda k: -int(found[k].mask.sum()))[:_MOST_MASKS]
        rows = [
            {
                "label": found[k].label,
                "score": float(found[k].score),
                "caption": found[k].caption,
                "sentence": sentences[k].text,
                "share": float(found[k].mask.mean()),
            }
            for k in order
        ]
        texts = [f"{place} {found[k].label}" for place, k in enumerate(order, start=1)]
        # Small images are enlarged first, or the words on them could not be read.
        times = max(1, -(-self._size[1] // image.shape[0]))
        large = [replace(one, mask=_enlarged(one.mask, times)) for one in found]
        tinted = draw_masks(_enlarged(image, times), large)
        drawn = write_on_masks(tinted, [large[k] for k in order], texts)
        title = f"{len(found)} masks of {called}"
        return rows, Panel(title, framed(drawn, self._size))

    def _panel(self, title: str, image: Image, words: IntArray) -> Panel:
        words = words.reshape(image.shape[:2])
        silent = float((words < 0).mean())
        more = f", silent {silent:.0%}" if silent >= 0.005 else ""
        drawn = draw_words(image, words, self._asked.vocabulary.colors)
        return Panel(title + more, framed(drawn, self._size))

    def _key(self, found: dict[str, IntArray], truth: IntArray | None) -> Panel:
        """Words that are there, the commonest first."""
        vocabulary = self._asked.vocabulary
        each = [*found.values(), *([] if truth is None else [truth.reshape(-1)])]
        counts = np.sum(
            [np.bincount(one[one >= 0], minlength=len(vocabulary)) for one in each], axis=0
        )
        order = [k for k in np.argsort(-counts, kind="stable") if counts[k]]
        entries = [(vocabulary.names[k], vocabulary.colors[k].tolist()) for k in order]
        return Panel("colours", draw_key(entries, self._size))


def _enlarged(plane: npt.NDArray[Any], times: int) -> npt.NDArray[Any]:
    """(H, W, ...) with every pixel `times` times in both directions."""
    return plane.repeat(times, axis=0).repeat(times, axis=1)
