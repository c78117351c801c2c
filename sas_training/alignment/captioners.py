"""Captions for masks: what a captioner is, and a mask teacher whose masks have captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.language.prompts import normalise_text
from sas_training.teachers.teacher import (
    Description,
    Image,
    LabelledMask,
    MaskTeacher,
    images_a_call,
)

CAPTIONERS = ("none", "blip", "florence-2", "program")


class Captioner(Protocol):
    """Masks of images to sentences about them."""

    @property
    def description(self) -> Description: ...

    def captions(
        self, images: Sequence[Image], masks: Sequence[Sequence[LabelledMask]]
    ) -> list[list[str]]:
        """A sentence for each mask of each image, in their order; empty where there is none."""
        ...


class CaptionedTeacher:
    """A mask teacher whose masks a captioner has looked at; a `MaskTeacher` itself."""

    def __init__(self, teacher: MaskTeacher, captioner: Captioner) -> None:
        self._teacher, self._captioner = teacher, captioner
        inner, captions = teacher.description, captioner.description
        self.description = Description(
            inner.name,
            f"{inner.model} {captions.model}",
            {"teacher": inner.to_json(), "captioner": captions.to_json()},
        )
        self.images_a_call = max(images_a_call(teacher), images_a_call(captioner))

    def masks(self, images: Sequence[Image]) -> list[tuple[LabelledMask, ...]]:
        """The teacher's masks with captions; raises `SasError` when their number does not fit."""
        found = self._teacher.masks(images)
        texts = self._captioner.captions(images, found)
        if [len(one) for one in texts] != [len(one) for one in found]:
            raise SasError(
                f"The captioner {self._captioner.description.name!r} did not give one caption "
                "for each mask."
            )
        return [
            tuple(
                replace(mask, caption=normalise_text(text))
                for mask, text in zip(masks, each, strict=True)
            )
            for masks, each in zip(found, texts, strict=True)
        ]


def load_captioner(
    name: str,
    weights: Path | None = None,
    program: Sequence[str] = (),
    device: str = "auto",
    timeout: float = 0.0,
) -> Captioner | None:
    """The captioner of that name; None for "none".

    Args:
        name: one of `CAPTIONERS`.
        weights: folder of a model, as transformers saves it, for "blip" and "florence-2".
        program: command line, for "program" (`sas_training.teachers.program`).
        device: "auto", "cpu" or "cuda".
        timeout: seconds for one call of a program, 0 for none.

    Raises:
        SasError: no such captioner, or something it needs is missing.
    """
    if name == "none":
        return None
    if name == "program":
        from sas_training.teachers.program import ProgramCaptioner

        return ProgramCaptioner(program, timeout)
    if name in ("blip", "florence-2"):
        from sas_training.alignment.caption_models import CaptionModel

        return CaptionModel(name, weights, device)
    raise SasError(f"There is no captioner {name!r}; known are {', '.join(CAPTIONERS)}.")


def cut_out(image: Image, mask: npt.NDArray[np.bool_], margin: float = 0.15) -> Image:
    """The box of a mask with some of what is around it, (height, width, 3) uint8.

    Args:
        image: (height, width, 3).
        mask: (height, width) with at least one pixel.
        margin: of the box's size on every side, as far as the image goes. A captioner that sees
            the mask alone takes its outline for the thing.
    """
    box = []
    for axis in (0, 1):
        places = np.flatnonzero(mask.any(axis=1 - axis))
        low, high = int(places[0]), int(places[-1]) + 1
        more = round(margin * (high - low))
        box.append(slice(max(0, low - more), min(mask.shape[axis], high + more)))
    return image[box[0], box[1]]
