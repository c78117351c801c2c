"""Universal segmentation models of transformers as a teacher: Mask2Former, OneFormer, MaskFormer.

Their label lists are closed (COCO, ADE20K, Cityscapes ...); alignment through text makes them open.
All three answer with queries, each with a class and a mask, so one reading serves them
(`query_masks`); the library's own leaves out scores, and takes padding for a part of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from sas_ros.errors import SasError
from sas_training.teachers.hub_models import LOCAL, find_model, first_line, transformers_library
from sas_training.teachers.query_masks import KINDS, QueryRules, read_queries
from sas_training.teachers.registry import TeacherOptions, half_on, pick_device
from sas_training.teachers.teacher import Description, Image, LabelledMask, by_size

FAMILIES = ("mask2former", "oneformer", "maskformer")
EXAMPLE = "facebook/mask2former-swin-large-coco-panoptic"


@dataclass(frozen=True)
class UniversalSettings(QueryRules):
    """How the answer is read; see `QueryRules`."""


class UniversalTeacher:
    """A `MaskTeacher` of a universal segmentation model.

    Args:
        options: `weights` (a folder) or `model` (an id in the local cache), device, settings.

    Raises:
        SasError: the model is missing, of another family, or cannot be loaded.
    """

    def __init__(self, options: TeacherOptions) -> None:
        settings = options.parsed("universal", UniversalSettings())
        if settings.kind not in KINDS:
            raise SasError(f'The setting "kind" is {" or ".join(KINDS)}, not {settings.kind!r}.')
        library = transformers_library("The teacher universal")
        found = find_model(options.weights, options.model, "The teacher universal", EXAMPLE)
        self._rules, self._device = settings, torch.device(pick_device(options.device))
        try:
            config = library.AutoConfig.from_pretrained(found.folder, **LOCAL)
            self._family = str(config.model_type)
            if self._family not in FAMILIES:
                raise SasError(
                    f"{found.folder} holds a model of the kind {self._family!r}; the teacher "
                    f"universal takes {', '.join(FAMILIES)}."
                )
            self._prepare: Any = _processor(library, found.folder, self._family, config)
            self._network: Any = library.AutoModelForUniversalSegmentation.from_pretrained(
                found.folder, **LOCAL
            )
        except SasError:
            raise
        except Exception as error:  # the library has an exception for each way to fail
            raise SasError(
                f"The model in {found.folder} cannot be loaded ({first_line(error)})."
            ) from error
        self._network.eval().requires_grad_(False).to(self._device)
        self._labels = {int(key): str(word) for key, word in config.id2label.items()}
        about = {"family": self._family, **asdict(settings), "half": self._device.type == "cuda"}
        self.description = Description("universal", found.model, about)

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's closed list of labels."""
        return tuple(self._labels.values())

    def masks(self, images: Sequence[Image]) -> list[tuple[LabelledMask, ...]]:
        """Masks of each image, of its size; those of one size go through the network together.

        Images of several sizes would be padded to the largest, and these networks see padding.
        """
        return by_size(images, self._of_one_size, max(1, len(images)))

    @torch.inference_mode()
    def _of_one_size(self, images: Sequence[Image]) -> list[tuple[LabelledMask, ...]]:
        more = {"task_inputs": [self._rules.kind] * len(images)}
        given = self._prepare(
            images=list(images),
            return_tensors="pt",
            **(more if self._family == "oneformer" else {}),
        ).to(self._device)
        with half_on(self._device):
            answer = self._network(**given)
        padded = tuple(given["pixel_values"].shape[-2:])
        seen = given["pixel_mask"][0]
        return [
            read_queries(
                answer.class_queries_logits[number].float(),
                answer.masks_queries_logits[number].float(),
                self._labels,
                self._rules,
                padded,
                (int(seen.any(1).sum()), int(seen.any(0).sum())),
                image.shape[:2],
            )
            for number, image in enumerate(images)
        ]


def load(options: TeacherOptions) -> UniversalTeacher:
    """The teacher `universal` of the registry."""
    return UniversalTeacher(options)


def _processor(library: Any, folder: Any, family: str, config: Any) -> Any:
    """What makes tensors of images; OneFormer's also takes its task as text."""
    if family != "oneformer":
        return library.AutoImageProcessor.from_pretrained(folder, **LOCAL)
    # Its list of class names serves training alone, and would be fetched.
    images = library.AutoImageProcessor.from_pretrained(folder, class_info_file=None, **LOCAL)
    tokens = library.AutoTokenizer.from_pretrained(folder, **LOCAL)
    length = int(getattr(config, "task_seq_len", 77))
    return library.OneFormerProcessor(images, tokens, task_seq_length=length)
