"""SAM by its authors' package, segment-anything, which needs torchvision.

A checkpoint is a plain dictionary of tensors (.pth, read without running anything of it) or the
same as .safetensors. Its type is `vit_h`, `vit_l`, `vit_b`, or a JSON file for networks of other
sizes: the arguments of the package's image encoder, any of `img_size`, `patch_size`, `embed_dim`,
`depth`, `num_heads`, `mlp_ratio`, `window_size`, `global_attn_indexes`, `out_chans`.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_training.capability.segmenters import Segmented
from sas_training.teachers.hub_models import first_line
from sas_training.teachers.registry import half_on, pick_device, weights_hash
from sas_training.teachers.teacher import Image, check_image

TYPES = ("vit_h", "vit_l", "vit_b")
_ENCODER: dict[str, Any] = {
    "img_size": 1024,
    "patch_size": 16,
    "embed_dim": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_ratio": 4,
    "window_size": 14,
    "global_attn_indexes": (2, 5, 8, 11),
    "out_chans": 256,
}


class SegmentAnything:
    """A `Segmenter`; images go in as RGB, which the released code of SAS does not do.

    On a GPU the image is looked at in half precision; points become a mask in single precision.

    Raises `SasError` when the package, the checkpoint or its type is missing or does not fit.
    """

    def __init__(
        self, weights: Path | None, kind: str, device: str = "auto", multimask: bool = False
    ) -> None:
        library = _library()
        if weights is None:
            raise SasError(
                "The segmenter segment-anything needs its checkpoint, such as "
                "sam_vit_h_4b8939.pth of 2.4 GiB: give it with --sam-weights."
            )
        if not weights.is_file():
            raise SasError(f"There is no checkpoint of SAM at {weights}.")
        network = _network(library, kind)
        try:
            network.load_state_dict(_read(weights))
        except RuntimeError as error:
            raise SasError(
                f"The weights in {weights} are not those of a SAM of the type {kind} "
                f"({first_line(error)})."
            ) from error
        self._device = torch.device(pick_device(device))
        network.eval().requires_grad_(False).to(self._device)
        self._predictor: Any = library.SamPredictor(network)
        self._multimask = multimask
        self.description: dict[str, Any] = {
            "library": "segment-anything",
            "family": "sam",
            "type": Path(kind).name,
            "model": weights_hash([weights]),
            "multimask": multimask,
        }
        if self._device.type == "cuda":
            self.description["half"] = True

    @torch.inference_mode()
    def segment(self, image: Image, points: npt.NDArray[np.int64]) -> Segmented:
        """The mask of an image for positive points; see `Segmenter`."""
        with half_on(self._device):
            self._predictor.set_image(check_image(image), image_format="RGB")
        self._predictor.features = self._predictor.features.float()
        masks, scores, _ = self._predictor.predict(
            point_coords=points.astype(np.float64),
            point_labels=np.ones(len(points), dtype=np.int64),
            multimask_output=self._multimask,
        )
        best = int(np.argmax(scores))
        return Segmented(np.asarray(masks[best], dtype=bool), float(np.clip(scores[best], 0, 1)))


def _library() -> Any:
    try:
        import segment_anything
    except (ImportError, RuntimeError) as error:
        raise SasError(
            f"The segmenter segment-anything does not work here ({first_line(error)}); it needs "
            'torchvision and the extra in a checkout of sas_ros: pip install ".[capability]". '
            "SAM also runs with transformers alone: --sam transformers."
        ) from None
    return segment_anything


def _read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise SasError(f"{path} is no readable checkpoint ({first_line(error)}).") from error
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise SasError(f"{path} is no readable checkpoint ({first_line(error)}).") from error
    if not isinstance(content, dict) or not all(
        isinstance(one, torch.Tensor) for one in content.values()
    ):
        raise SasError(f"{path} is no checkpoint of SAM: it holds other things than tensors.")
    return content


def _network(library: Any, kind: str) -> Any:
    """A network of a type, with random weights."""
    if kind in TYPES:
        return library.sam_model_registry[kind](checkpoint=None)
    if not kind.endswith(".json"):
        raise SasError(
            f"{kind!r} is no type of SAM; known are {', '.join(TYPES)}, or a JSON file with the "
            "arguments of its image encoder."
        )
    try:
        given = json.loads(Path(kind).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SasError(f"The description of SAM in {kind} cannot be read ({error}).") from error
    if not isinstance(given, dict) or not set(given) <= set(_ENCODER):
        raise SasError(
            f"{kind} is no description of SAM: a JSON object with any of {', '.join(_ENCODER)}."
        )
    try:
        return small_sam({**_ENCODER, **given})
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise SasError(f"{kind} describes no SAM ({first_line(error)}).") from error


def small_sam(encoder: dict[str, Any]) -> Any:
    """A network of the package's own classes, its decoder as published.

    Args:
        encoder: arguments of the image encoder, all of those above.
    """
    from functools import partial

    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    width, cells = int(encoder["out_chans"]), encoder["img_size"] // encoder["patch_size"]
    return Sam(
        image_encoder=ImageEncoderViT(
            **encoder,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            qkv_bias=True,
            use_rel_pos=True,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=width,
            image_embedding_size=(cells, cells),
            input_image_size=(encoder["img_size"], encoder["img_size"]),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=2048, num_heads=8),
            transformer_dim=width,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
