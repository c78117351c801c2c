"""CLIPSeg: CLIP with a small decoder that marks what a phrase stands for, as a teacher of masks.

It is asked for each of the user's words; a pixel belongs to the word that it is surest of, if it is
sure enough. The image tower sees an image once, whatever the number of words, and all images of a
call together, as they become squares of one size: the decoder takes its layers and one phrase after
the other, as the library's own forward does for pairs of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from sas_ros.errors import SasError
from sas_ros.language.prompts import apply_prompt
from sas_training.teachers.hub_models import LOCAL, find_model, first_line, transformers_library
from sas_training.teachers.registry import TeacherOptions, half_on, pick_device
from sas_training.teachers.teacher import Description, Image, LabelledMask, check_image

EXAMPLE = "CIDAS/clipseg-rd64-refined"
_WHO = "The teacher clipseg"
_TOGETHER = 16
"""Phrases of one pass through the decoder."""


@dataclass(frozen=True)
class ClipSegSettings:
    """How the words are asked for.

    Attributes:
        threshold: probability that a pixel must reach, 0 to 1.
        prompt: template of the phrases, with one `{}`.
    """

    threshold: float = 0.4
    prompt: str = "a photo of a {}"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise SasError(f"The threshold must lie between 0 and 1, not at {self.threshold:g}.")


class ClipSegTeacher:
    """A `MaskTeacher`: for each word the pixels that it is the likeliest of.

    Args:
        options: `weights` (a folder) or `model` (an id in the local cache), `labels` (the words),
            device, settings.

    Raises:
        SasError: no words, or the model is missing, of another kind, or cannot be loaded.
    """

    def __init__(self, options: TeacherOptions) -> None:
        settings = options.parsed("clipseg", ClipSegSettings())
        if not options.labels:
            raise SasError(
                f"{_WHO} marks words that it is asked for; give them with --words, as a label set "
                "or a file, or as labels of the configuration."
            )
        phrases = [apply_prompt(settings.prompt, word) for word in options.labels]
        library = transformers_library(_WHO)
        found = find_model(options.weights, options.model, _WHO, EXAMPLE)
        self._settings, self._device = settings, torch.device(pick_device(options.device))
        try:
            kind = str(library.AutoConfig.from_pretrained(found.folder, **LOCAL).model_type)
            if kind != "clipseg":
                raise SasError(f"{found.folder} holds a model of the kind {kind!r}, not clipseg.")
            self._prepare: Any = library.AutoImageProcessor.from_pretrained(found.folder, **LOCAL)
            tokens: Any = library.AutoTokenizer.from_pretrained(found.folder, **LOCAL)
            network: Any = library.CLIPSegForImageSegmentation.from_pretrained(
                found.folder, **LOCAL
            )
            self._network = network.eval().requires_grad_(False).to(self._device)
            self._words = self._encoded(tokens, phrases)
        except SasError:
            raise
        except Exception as error:  # the library has an exception for each way to fail
            raise SasError(
                f"The model in {found.folder} cannot be loaded ({first_line(error)})."
            ) from error
        self.labels = tuple(options.labels)
        about = {**asdict(settings), "words": list(self.labels), "half": self._half}
        self.description = Description("clipseg", found.model, about)

    @property
    def _half(self) -> bool:
        return self._device.type == "cuda"

    @torch.inference_mode()
    def _encoded(self, tokens: Any, phrases: list[str]) -> torch.Tensor:
        """(K, P) what the decoder is conditioned on."""
        given = tokens(phrases, padding=True, truncation=True, return_tensors="pt")
        rows: torch.Tensor = self._network.get_conditional_embeddings(
            len(phrases),
            given["input_ids"].to(self._device),
            given["attention_mask"].to(self._device),
        )
        return rows

    def masks(self, images: Sequence[Image]) -> list[tuple[LabelledMask, ...]]:
        """Masks of each image, at most one a word, in the order of the words; none overlap."""
        for image in images:
            check_image(image)
        if not images:
            return []
        found = zip(self.logits(images), images, strict=True)
        return [self._read(logits.sigmoid(), image) for logits, image in found]

    @torch.inference_mode()
    def _read(self, small: torch.Tensor, image: Image) -> tuple[LabelledMask, ...]:
        """Masks of an image from the probabilities (K, S, S) of the words."""
        # The image was squeezed to a square, so that stretching brings every pixel back.
        wide = torch.nn.functional.interpolate(
            small[None], size=image.shape[:2], mode="bilinear", align_corners=False
        )[0]
        best, word = (found.cpu() for found in wide.max(dim=0))
        sure = best >= self._settings.threshold
        result = []
        for number in torch.unique(word[sure]).tolist():
            mask = sure & (word == number)
            score = min(1.0, float(best[mask].mean()))
            result.append(LabelledMask(mask.numpy(), self.labels[number], score))
        return tuple(result)

    @torch.inference_mode()
    def logits(self, images: Sequence[Image]) -> Iterator[torch.Tensor]:
        """For each image (K, S, S) float32 of every word on the square that the network sees."""
        given = self._prepare(images=list(images), return_tensors="pt")
        with half_on(self._device):
            tower = self._network.clip.vision_model(
                pixel_values=given["pixel_values"].to(self._device),
                output_hidden_states=True,
                interpolate_pos_encoding=True,
            )
        layers = [tower.hidden_states[k + 1] for k in self._network.extract_layers]
        for number in range(len(images)):
            with half_on(self._device):
                found = self._decoded([one[number, None] for one in layers])
            yield found

    def _decoded(self, layers: list[torch.Tensor]) -> torch.Tensor:
        """(K, S, S) of the layers (1, tokens, channels) of one image."""
        parts = []
        for start in range(0, len(self._words), _TOGETHER):
            words = self._words[start : start + _TOGETHER]
            same = [one.expand(len(words), -1, -1) for one in layers]
            found = self._network.decoder(same, words).logits
            parts.append(found.reshape(len(words), *found.shape[-2:]).float())
        return torch.cat(parts)


def load(options: TeacherOptions) -> ClipSegTeacher:
    """The teacher `clipseg` of the registry."""
    return ClipSegTeacher(options)
