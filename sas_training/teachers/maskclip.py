"""Dense features of a CLIP vision transformer, after MaskCLIP: no training, no labels.

The last block's attention mixes all patches into each; what a patch itself says are the values that
are mixed. So attention of the last block is left out (every token attends to itself alone), and all
patch tokens are projected as the class token would be. Two readings: `maskclip` keeps the block's
residual path and its two layers, as the released code for transformers does; `values` keeps the
values alone, which others found cleaner.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import MultiheadAttention
from torch.nn.functional import interpolate, linear, normalize

from sas_ros.errors import SasError
from sas_training.teachers.hub_models import first_line, stay_offline
from sas_training.teachers.registry import TeacherOptions, half_on, pick_device, weights_hash
from sas_training.teachers.teacher import DenseFeatures, Description, Image, by_size

READINGS = ("maskclip", "values")
EXAMPLE = "ViT-B-16-quickgelu"


@dataclass(frozen=True)
class MaskClipSettings:
    """How images are looked at.

    Attributes:
        size: pixels that the short side is resized to; both sides become whole patches.
        reading: one of `READINGS`.
    """

    size: int = 448
    reading: str = "maskclip"

    def __post_init__(self) -> None:
        if self.size < 1 or self.reading not in READINGS:
            raise SasError(
                "MaskCLIP needs a size of 1 pixel or more and the reading "
                f"{' or '.join(READINGS)}, not {self.size} and {self.reading!r}."
            )


class MaskClipTeacher:
    """Dense features in a CLIP model's own space; a `PixelTeacher`.

    Args:
        visual: image tower of an open_clip model, with its weights.
        name: of the model, as open_clip has it.
        model: which weights these are.
        settings: how images are looked at.
        device: "cpu" or "cuda".

    Raises `SasError` when the tower is no plain vision transformer.
    """

    def __init__(
        self,
        visual: Any,
        name: str,
        model: str,
        settings: MaskClipSettings | None = None,
        device: str = "cpu",
    ) -> None:
        check_tower(visual, name)
        self._settings = MaskClipSettings() if settings is None else settings
        self._visual: Any = visual.eval().requires_grad_(False).to(device)
        self._device = torch.device(device)
        self.text_encoder = f"open_clip:{name}"
        about = {"model": name, **asdict(self._settings), "half": self._device.type == "cuda"}
        self.description = Description("maskclip", model, about)

    @property
    def channels(self) -> int:
        return int(self._visual.proj.shape[1])

    def features(self, images: Sequence[Image]) -> list[DenseFeatures]:
        """Unit features of each patch; on a GPU images of one size go through together."""
        together = len(images) if self._device.type == "cuda" else 1
        return by_size(images, self._of_one_size, max(1, together))

    @torch.inference_mode()
    def _of_one_size(self, images: Sequence[Image]) -> list[DenseFeatures]:
        height, width = images[0].shape[:2]
        patch = int(self._visual.conv1.kernel_size[0])
        scale = self._settings.size / min(height, width) / patch
        grid = max(1, round(height * scale)), max(1, round(width * scale))
        colours = torch.tensor(np.stack(images), device=self._device).permute(0, 3, 1, 2).float()
        size = (grid[0] * patch, grid[1] * patch)
        colours = interpolate(colours / 255, size, mode="bicubic", antialias=True).clamp(0, 1)
        about = getattr(self._visual, "preprocess_cfg", None) or {}
        mean, std = (
            torch.tensor(about.get(key, usual), device=self._device)[:, None, None]
            for key, usual in (("mean", _MEAN), ("std", _STD))
        )
        with half_on(self._device):
            tokens = dense_tokens(self._visual, (colours - mean) / std, self._settings.reading)
        cells = normalize(tokens.float(), dim=-1).unflatten(1, grid).half().cpu()
        scales = grid[0] / height, grid[1] / width
        return [DenseFeatures(one.permute(2, 0, 1), *scales) for one in cells]


_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def dense_tokens(visual: Any, images: torch.Tensor, reading: str) -> torch.Tensor:
    """(B, patches, C) projected patch tokens of (B, 3, H, W) images, row after row of patches.

    Args:
        visual: image tower as open_clip builds it.
        images: normalised; H and W whole numbers of patches.
        reading: one of `READINGS`.
    """
    maps = visual.conv1(images)
    tokens = maps.flatten(2).transpose(1, 2)
    first = visual.class_embedding.to(tokens.dtype).expand(len(tokens), 1, -1)
    tokens = torch.cat([first, tokens], dim=1)
    tokens = visual.ln_pre(tokens + positions(visual, maps.shape[-2:]).to(tokens.dtype))
    *blocks, last = visual.transformer.resblocks
    batch_first = getattr(visual.transformer, "batch_first", True)
    tokens = tokens if batch_first else tokens.transpose(0, 1)
    for block in blocks:
        tokens = block(tokens)
    tokens = tokens if batch_first else tokens.transpose(0, 1)
    width = tokens.shape[-1]
    attention, normed = last.attn, last.ln_1(tokens)
    bias = None if attention.in_proj_bias is None else attention.in_proj_bias[2 * width :]
    values = attention.out_proj(linear(normed, attention.in_proj_weight[2 * width :], bias))
    if reading == "maskclip":
        tokens = tokens + last.ls_1(values)
        tokens = tokens + last.ls_2(last.mlp(last.ln_2(tokens)))
    else:
        tokens = values
    result: torch.Tensor = visual.ln_post(tokens[:, 1:]) @ visual.proj
    return result


def positions(visual: Any, grid: Sequence[int]) -> torch.Tensor:
    """(1 + patches, width) position embedding for another grid of patches, bicubic."""
    table = visual.positional_embedding
    side = round((len(table) - 1) ** 0.5)
    if (side, side) == tuple(grid):
        return torch.as_tensor(table)
    patches = table[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    patches = interpolate(patches, tuple(grid), mode="bicubic", antialias=True)
    return torch.cat([table[:1].float(), patches[0].flatten(1).T])


def check_tower(visual: Any, name: str) -> None:
    """Raise `SasError` unless it is a plain vision transformer with a class token.

    Other kinds of attention in its blocks do more to the values than mixing them.
    """
    parts = "conv1 class_embedding positional_embedding ln_pre transformer ln_post proj".split()
    plain = all(getattr(visual, part, None) is not None for part in parts)
    patches = len(visual.positional_embedding) - 1 if plain else 0
    square = patches > 0 and round(patches**0.5) ** 2 == patches
    blocks = getattr(visual.transformer, "resblocks", ()) if plain else ()
    usual = [isinstance(getattr(one, "attn", None), MultiheadAttention) for one in blocks]
    pooled = getattr(visual, "attn_pool", None) is not None
    if not (square and usual and usual[-1]) or pooled:
        raise SasError(
            f'The image side of "{name}" is no plain vision transformer, which MaskCLIP needs; '
            f'take one such as "{EXAMPLE}".'
        )


def load(options: TeacherOptions) -> MaskClipTeacher:
    """The teacher `maskclip` of the registry.

    Raises `SasError` when open_clip, the model or the weights are missing or do not fit together.
    """
    settings = options.parsed("maskclip", MaskClipSettings())
    name = options.model
    if importlib.util.find_spec("open_clip") is None:
        raise SasError(
            "The teacher maskclip needs open_clip; install the extra in a checkout of sas_ros "
            'with: pip install ".[clip]"'
        )
    if not name:
        raise SasError(
            f'The teacher maskclip needs the name of an open_clip model, such as "{EXAMPLE}".'
        )
    if options.weights is None:
        raise SasError(
            f'The model "{name}" needs its weights as a local file, because nothing is '
            "downloaded; give an open_clip checkpoint (.safetensors) as weights."
        )
    weights = Path(options.weights)
    if not weights.is_file():
        raise SasError(f'There are no weights for "{name}" at {weights}.')
    stay_offline()
    try:
        import open_clip
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
        raise SasError(
            f"open_clip is installed but does not work ({first_line(error)}); it needs a "
            "torchvision that belongs to the installed torch."
        ) from error
    if name not in open_clip.list_models():
        raise SasError(f'open_clip has no model "{name}"; its list_models() shows all.')
    try:
        network = open_clip.create_model(
            name, pretrained=str(weights), pretrained_text=False, weights_only=True
        )
    except Exception as error:  # unpickling, shapes, keys: each has its own exception
        raise SasError(
            f'The file {weights} does not hold weights of the open_clip model "{name}" '
            f"({first_line(error)})."
        ) from error
    device = pick_device(options.device)
    return MaskClipTeacher(network.visual, name, weights_hash([weights]), settings, device)
