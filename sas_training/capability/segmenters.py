"""What makes a mask of points on an image: a SAM of one of three libraries, or nothing.

Loading never downloads anything; a sentence names the file, folder or package that is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_training.capability.points import Mask
from sas_training.teachers.hub_models import (
    LOCAL,
    Options,
    find_model,
    first_line,
    transformers_library,
)
from sas_training.teachers.registry import half_on, pick_device
from sas_training.teachers.teacher import Image, check_image

SEGMENTERS = ("none", "segment-anything", "transformers")
"""Names of what can be loaded."""
EXAMPLE = "facebook/sam-vit-huge"
_OPTIONS = Options("--sam-weights", "--sam-model")
_FAMILIES = {"sam": ("SamModel", "SamProcessor"), "sam2": ("Sam2Model", "Sam2Processor")}


@dataclass(frozen=True, eq=False)
class Segmented:
    """A mask and how sure its model is.

    Attributes:
        mask: (H, W) bool.
        score: the model's own prediction of the mask's IoU, cut to 0 ... 1.
    """

    mask: Mask
    score: float


class Segmenter(Protocol):
    """Points on an image to the mask of what they lie on."""

    @property
    def description(self) -> dict[str, Any]:
        """Library, model and settings, plain JSON."""
        ...

    def segment(self, image: Image, points: npt.NDArray[np.int64]) -> Segmented:
        """The mask of an image (H, W, 3) for positive points (P, 2), x and y of pixels."""
        ...


def load_segmenter(
    name: str,
    weights: Path | None = None,
    model: str = "",
    device: str = "auto",
    *,
    multimask: bool = False,
) -> Segmenter | None:
    """Load a segmenter by the name of its library; None for "none": coarse masks stay as they are.

    Args:
        name: one of `SEGMENTERS`.
        weights: the checkpoint of segment-anything, or a folder of transformers.
        model: segment-anything: its type, or a JSON file (see `sam_reference`); transformers: an id
            in the hub's local cache.
        device: "auto", "cpu" or "cuda".
        multimask: let the model give three masks and take the one that it finds best, instead of
            its single answer, which is what was published.

    Raises:
        SasError: no such name, or the package or the weights are missing or do not fit.
    """
    if name == "none":
        return None
    if name == "segment-anything":
        from sas_training.capability.sam_reference import SegmentAnything

        return SegmentAnything(weights, model or "vit_h", device, multimask)
    if name == "transformers":
        return TransformersSam(weights, model, device, multimask)
    raise SasError(f"{name!r} makes no masks here; known are {', '.join(SEGMENTERS)}.")


class TransformersSam:
    """SAM or SAM 2 of transformers, from a folder or the hub's local cache.

    On a GPU the image is looked at in half precision; points become a mask in single precision.

    Raises `SasError` when the library or the model is missing, or of another family. SAM 2's images
    are prepared by torchvision, which must work.
    """

    def __init__(
        self, weights: Path | None, model: str, device: str = "auto", multimask: bool = False
    ) -> None:
        who = "The segmenter transformers"
        library = transformers_library(who)
        found = find_model(weights, model, who, EXAMPLE, _OPTIONS)
        self._device, self._multimask = torch.device(pick_device(device)), multimask
        try:
            config = library.AutoConfig.from_pretrained(found.folder, **LOCAL)
            self.family = str(config.model_type).removesuffix("_video")
            if self.family not in _FAMILIES:
                raise SasError(
                    f"{found.folder} holds a model of the kind {config.model_type!r}; the "
                    f"segmenter transformers takes {' and '.join(_FAMILIES)}."
                )
            network, processor = (getattr(library, one) for one in _FAMILIES[self.family])
            self._prepare: Any = processor.from_pretrained(found.folder, **LOCAL)
            self._network: Any = network.from_pretrained(found.folder, **LOCAL)
        except SasError:
            raise
        except Exception as error:  # the library has an exception for each way to fail
            raise SasError(
                f"The model in {found.folder} cannot be loaded ({first_line(error)})."
            ) from error
        self._network.eval().requires_grad_(False).to(self._device)
        self.description: dict[str, Any] = {
            "library": "transformers",
            "family": self.family,
            "model": found.model,
            "multimask": multimask,
        }
        if self._device.type == "cuda":
            self.description["half"] = True

    @torch.inference_mode()
    def segment(self, image: Image, points: npt.NDArray[np.int64]) -> Segmented:
        """The mask of an image for positive points; see `Segmenter`."""
        given = self._prepare(
            images=check_image(image),
            input_points=[[points.astype(float).tolist()]],
            input_labels=[[[1] * len(points)]],
            return_tensors="pt",
        ).to(self._device)
        sizes = [given.pop("original_sizes")]
        if "reshaped_input_sizes" in given:
            sizes.append(given.pop("reshaped_input_sizes"))
        if "input_points" in given:
            given["input_points"] = given["input_points"].to(torch.float32)
        with half_on(self._device):
            seen = self._network.get_image_embeddings(given.pop("pixel_values"))
        # A list of three sizes with SAM 2.
        seen = [one.float() for one in seen] if isinstance(seen, list) else seen.float()
        answer = self._network(image_embeddings=seen, **given, multimask_output=self._multimask)
        scores = answer.iou_scores.reshape(-1).float().cpu()
        best = int(scores.argmax())
        masks = self._prepare.post_process_masks(
            answer.pred_masks.float().cpu(), *(one.cpu() for one in sizes)
        )[0]
        mask = masks.reshape(-1, *masks.shape[-2:])[best].numpy().astype(bool)
        return Segmented(mask, float(scores[best].clamp(0, 1)))
