"""The small SAM: transformers' own classes with a small image encoder, and its training.

Regions are what is shown of a thing or a surface; SAM is asked for them by one to three points
inside, as the capability stage asks. `size` pixels of input give masks of `size / 2`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from sas_training.experiment.pictures import Picture
from sas_training.priors.pictures import LEAST_SIDE, ObjectPictures, RoomPictures, cut_square
from sas_training.priors.settings import SegmenterSettings

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of the colours 0 to 255, as SAM's published models take them."""
VERSION = 2
"""Raised when the same settings begin to give another SAM."""
LEAST_SHARE = 0.01
"""Of a picture's pixels that a region to be found has at least."""
MOST_POINTS = 3
_POSITIONS, _ALIKE = 0.5, 2.0
_FROM_ROOMS = 0.4
_FOCUS = 2.0
_MIDDLE = 0.5

Mask = npt.NDArray[np.bool_]


def new_segmenter(settings: SegmenterSettings, seed: int) -> Any:
    """A network to be trained."""
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    depth, channels = settings.layers, settings.channels
    vision = SamVisionConfig(
        hidden_size=settings.width,
        output_channels=channels,
        num_hidden_layers=depth,
        num_attention_heads=settings.heads,
        image_size=settings.size,
        patch_size=settings.patch,
        window_size=0,
        global_attn_indexes=list(range(depth)),
        mlp_dim=4 * settings.width,
        num_pos_feats=channels // 2,
    )
    prompt = SamPromptEncoderConfig(
        hidden_size=channels, image_size=settings.size, patch_size=settings.patch
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=channels,
        mlp_dim=2 * channels,
        num_attention_heads=settings.heads,
        iou_head_hidden_dim=channels,
    )
    torch.manual_seed(seed)
    config = SamConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompt.to_dict(),
        mask_decoder_config=decoder.to_dict(),
    )
    network: Any = SamModel(config)
    _begin(network)
    return network


def _begin(network: Any) -> None:
    """Fill a SamModel with weights to learn from; transformers' own are made to be loaded over.

    Those of its image encoder are numbers of 1e-10, and the frequencies of its positions have a
    deviation of half the encoder's width, so that neighbouring points have nothing in common.
    Layers begin as torch's do, which is how segment-anything makes them. Further, queries and keys
    between points and image are projected alike: what lies near a point then attends to it from the
    first step on, and a training of minutes need not find out that it should.
    """
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)
    for module in network.modules():
        if isinstance(module, kinds):
            module.reset_parameters()
    nn.init.trunc_normal_(network.vision_encoder.pos_embed, std=0.02)
    positions = network.shared_image_embedding.positional_embedding
    nn.init.normal_(positions, std=_POSITIONS)
    positions.requires_grad_(False)
    transformer = network.mask_decoder.transformer
    between = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        between += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in between:
        nn.init.orthogonal_(attention.q_proj.weight, _ALIKE)
        with torch.no_grad():
            attention.k_proj.weight.copy_(attention.q_proj.weight)
        for projection in (attention.q_proj, attention.k_proj):
            nn.init.zeros_(projection.bias)


def new_processor(settings: SegmenterSettings) -> Any:
    """What makes the network's input of pictures and points, saved beside its weights."""
    from transformers import SamProcessor
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    size = settings.size
    image_processor: Any = SamImageProcessorPil(
        size={"longest_edge": size},
        pad_size={"height": size, "width": size},
        mask_size={"longest_edge": size // 2},
        mask_pad_size={"height": size // 2, "width": size // 2},
        image_mean=[m / 255 for m in MEAN],
        image_std=[s / 255 for s in STD],
    )
    processor: Any = SamProcessor(image_processor)
    return processor


def network_input(images: Picture, size: int) -> torch.Tensor:
    """(B, S, S, 3) uint8 squares to (B, 3, size, size) float32, enlarged and normalised."""
    wide = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    wide = functional.interpolate(wide, (size, size), mode="bilinear", antialias=True)
    return (wide - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def points_inside(mask: Mask, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(count, 2) points (x, y) of a mask's pixels, the farther from its edge the likelier.

    In half of the cases the first is the pixel farthest from the edge.
    """
    from scipy import ndimage

    depth = np.pad(mask, 1)
    depth = ndimage.distance_transform_edt(depth)[1:-1, 1:-1]
    weight = (depth**2).reshape(-1)
    chosen = rng.choice(weight.size, size=count, p=weight / weight.sum())
    if rng.random() < _MIDDLE:
        chosen[0] = int(weight.argmax())
    rows, columns = np.divmod(chosen, mask.shape[1])
    return np.stack([columns, rows], axis=1).astype(np.float64)


class Examples:
    """Squares of pictures, each with some of its regions and points inside them."""

    def __init__(
        self, things: ObjectPictures, rooms: RoomPictures, size: int, settings: SegmenterSettings
    ) -> None:
        self._things, self._rooms, self._size, self._settings = things, rooms, size, settings

    def draw(self, rng: np.random.Generator) -> tuple[Picture, Mask, npt.NDArray[np.float64]]:
        """Images (B, S, S, 3), masks (B, M, S, S) and points inside (B, M, 1 to 3, 2), (x, y) in
        pixels of the image; equally many in all regions of a step."""
        images: list[Picture] = []
        masks: list[Mask] = []
        while len(images) < self._settings.fit.batch:
            found = self._one(rng)
            if found is not None:
                images.append(found[0])
                masks.append(found[1])
        count = int(rng.integers(1, MOST_POINTS + 1))
        points = [[points_inside(mask, count, rng) for mask in one] for one in masks]
        return np.stack(images), np.stack(masks), np.array(points)

    def _one(self, rng: np.random.Generator) -> tuple[Picture, Mask] | None:
        """A picture and `masks` of its regions; None where it has none."""
        size, wanted = self._size, self._settings.masks
        if rng.random() < _FROM_ROOMS:
            number = int(rng.integers(len(self._rooms)))
            whole, regions = self._rooms.images[number], self._rooms.regions[number]
            side = int(rng.integers(min(LEAST_SIDE, whole.shape[0]), whole.shape[0] + 1))
            top = int(rng.integers(whole.shape[0] - side + 1))
            left = int(rng.integers(whole.shape[1] - side + 1))
            names, counts = np.unique(
                regions[top : top + side, left : left + side], return_counts=True
            )
            names = names[(counts >= LEAST_SHARE * side * side) & (names > 0)]
            if not len(names):
                return None
            chosen = rng.choice(names, size=wanted, replace=len(names) < wanted)
            cuts = [cut_square(whole, regions == name, (top, left, side), size) for name in chosen]
            image, masks = cuts[0][0], np.stack([mask for _, mask in cuts])
        else:
            number = int(rng.integers(len(self._things)))
            image = self._things.images[number]
            masks = np.repeat(self._things.masks[number][None], wanted, axis=0)
        if not masks.any(axis=(1, 2)).all():
            return None
        if rng.random() < 0.5:
            image, masks = image[:, ::-1], masks[:, :, ::-1]
        light = rng.uniform(0.85, 1.15) * rng.uniform(0.9, 1.1, 3)
        bright = np.clip(image * light, 0, 255).astype(np.uint8)
        return bright, masks


class SegmenterLoss:
    """Cross-entropy, focal, and dice of the masks, and the error of the predicted IoU.

    In every second step of the one mask for clear prompts, else of the best of the three.
    """

    def __init__(
        self, network: Any, examples: Examples, settings: SegmenterSettings, device: torch.device
    ) -> None:
        self._network, self._examples = network, examples
        self._settings, self._device = settings, device

    def __call__(self, rng: np.random.Generator) -> torch.Tensor:
        images, masks, points = self._examples.draw(rng)
        size = self._settings.size
        scale = size / images.shape[1]
        several = bool(rng.random() < 0.5)
        said = self._network(
            pixel_values=network_input(images, size).to(self._device),
            input_points=torch.from_numpy(points * scale).float().to(self._device),
            input_labels=torch.ones(points.shape[:3], dtype=torch.long).to(self._device),
            multimask_output=several,
        )
        logits = said.pred_masks  # (B, M, 3 or 1, h, w)
        true = torch.from_numpy(masks).float().to(self._device)
        true = functional.interpolate(true, logits.shape[-2:], mode="area")[:, :, None]
        each = mask_loss(logits, true)
        best = each.argmin(dim=-1, keepdim=True)
        with torch.no_grad():
            both = (logits > 0) & (true > 0.5)
            either = (logits > 0) | (true > 0.5)
            iou = both.sum(dim=(-2, -1)) / either.sum(dim=(-2, -1)).clamp(min=1)
        error = (said.iou_scores - iou).square().mean()
        result: torch.Tensor = each.gather(-1, best).mean() + error
        return result


def mask_loss(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Focal cross-entropy and dice over the last two axes of logits and of shares of 0 to 1."""
    true = true.expand_as(logits)
    plain = functional.binary_cross_entropy_with_logits(logits, true, reduction="none")
    share = torch.sigmoid(logits)
    wrong = (share * (1 - true) + (1 - share) * true) ** _FOCUS
    focal = (20 * plain * wrong).mean(dim=(-2, -1)) + plain.mean(dim=(-2, -1))
    overlap = (share * true).sum(dim=(-2, -1))
    dice = 1 - (2 * overlap + 1) / (share.sum(dim=(-2, -1)) + true.sum(dim=(-2, -1)) + 1)
    return focal + dice
