"""Captioners of transformers: BLIP and Florence-2, each shown a mask's surroundings cut out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sas_ros.errors import SasError
from sas_training.alignment.captioners import cut_out
from sas_training.teachers.hub_models import (
    LOCAL,
    Options,
    find_model,
    first_line,
    transformers_library,
)
from sas_training.teachers.registry import half_on, pick_device
from sas_training.teachers.teacher import Description, Image, LabelledMask

_SMALLEST = 32
"""Pixels that a cut-out is enlarged to at least; processors fail on slivers."""


@dataclass(frozen=True)
class _Family:
    """A kind of captioner: its name in config.json, class, prompt, and a model's id."""

    model_type: str
    network: str
    prompt: str
    example: str


FAMILIES = {
    "blip": _Family(
        "blip",
        "BlipForConditionalGeneration",
        "",
        "Salesforce/blip-image-captioning-base",
    ),
    "florence-2": _Family(
        "florence2",
        "Florence2ForConditionalGeneration",
        "<CAPTION>",
        "florence-community/Florence-2-base",
    ),
}


_OPTIONS = Options("captioner weights", "")


class CaptionModel:
    """A `Captioner` of a folder that transformers has saved.

    Captions are made by beam search, so they do not depend on chance; on a GPU in half precision.

    Args:
        name: "blip" or "florence-2".
        weights: folder of the model.
        device: "auto", "cpu" or "cuda".
        batch: masks looked at together.
        beams: of the search.
        tokens: length of a caption at most.

    Raises `SasError` when the model is missing, of another kind, or cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        weights: Path | None,
        device: str = "auto",
        batch: int = 16,
        beams: int = 3,
        tokens: int = 30,
    ) -> None:
        family = FAMILIES[name]
        who = f"The captioner {name}"
        library = transformers_library(who)
        found = find_model(weights, "", who, family.example, _OPTIONS)
        self._device = torch.device(pick_device(device))
        self._prompt, self._batch = family.prompt, batch
        self._search = {"num_beams": beams, "do_sample": False, "max_new_tokens": tokens}
        try:
            config = library.AutoConfig.from_pretrained(found.folder, **LOCAL)
            if config.model_type != family.model_type:
                raise SasError(
                    f"{found.folder} holds a model of the kind {config.model_type!r}, which is no "
                    f"captioner {name}."
                )
            self._prepare: Any = library.AutoProcessor.from_pretrained(found.folder, **LOCAL)
            network = getattr(library, family.network)
            self._network: Any = network.from_pretrained(found.folder, **LOCAL)
        except SasError:
            raise
        except Exception as error:  # the library has an exception for each way to fail
            raise SasError(
                f"The captioner in {found.folder} cannot be loaded ({first_line(error)})."
            ) from error
        self._network.eval().requires_grad_(False).to(self._device)
        about: dict[str, Any] = {"beams": beams, "tokens": tokens, "prompt": family.prompt}
        if self._device.type == "cuda":
            about["half"] = True
        self.description = Description(name, found.model, about)

    def captions(
        self, images: Sequence[Image], masks: Sequence[Sequence[LabelledMask]]
    ) -> list[list[str]]:
        """A sentence for each mask, in order."""
        cuts = [
            cut_out(image, one.mask)
            for image, each in zip(images, masks, strict=True)
            for one in each
        ]
        texts: Iterator[str] = iter(
            text
            for start in range(0, len(cuts), self._batch)
            for text in self._describe(cuts[start : start + self._batch])
        )
        return [[next(texts) for _ in each] for each in masks]

    @torch.inference_mode()
    def _describe(self, cuts: Sequence[Image]) -> list[str]:
        from sas_training.teachers.images import pillow

        pictures = []
        for cut in cuts:
            picture = pillow().fromarray(cut)
            size = (max(_SMALLEST, picture.width), max(_SMALLEST, picture.height))
            pictures.append(picture if picture.size == size else picture.resize(size))
        more = {"text": [self._prompt] * len(cuts)} if self._prompt else {}
        given = self._prepare(images=pictures, return_tensors="pt", **more).to(self._device)
        with half_on(self._device):
            made = self._network.generate(**given, **self._search)
        texts = self._prepare.batch_decode(made, skip_special_tokens=True)
        return [str(text).strip() for text in texts]
