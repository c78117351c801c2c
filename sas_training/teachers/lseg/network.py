"""The network of LSeg's image side: a ViT-L/16, four taps put together again, a fusion upwards.

The part that makes pixel features, in plain torch, with the key names of the published checkpoint
(after its prefix `net.`). Evaluation only. Order of two operations is changed where it makes no
difference: 1 x 1 convolutions come before the bilinear upsampling that they commute with, which is
four times cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import interpolate, normalize, scaled_dot_product_attention

from sas_ros.errors import SasError

PATCH = 16


@dataclass(frozen=True)
class LsegShape:
    """Sizes of the network; the defaults are those of the published demo checkpoint.

    Attributes:
        width, depth, heads, mlp: of the transformer.
        grid: rows and columns of patches it was trained with; others are interpolated.
        taps: blocks (counted from 0) whose tokens are used.
        reassembled: channels of each tap's map.
        channels: of the fusion.
        out: width of the features, that of the text encoder.
    """

    width: int = 1024
    depth: int = 24
    heads: int = 16
    mlp: int = 4096
    grid: int = 24
    taps: tuple[int, ...] = (5, 11, 17, 23)
    reassembled: tuple[int, ...] = (256, 512, 1024, 1024)
    channels: int = 256
    out: int = 512


class LsegNetwork(nn.Module):
    """Images to unit features at half their resolution."""

    def __init__(self, shape: LsegShape | None = None) -> None:
        super().__init__()
        self.shape = shape = LsegShape() if shape is None else shape
        self.pretrained = nn.ModuleDict({"model": _Transformer(shape)})
        for number, channels in enumerate(shape.reassembled, 1):
            name = f"act_postprocess{number}"
            self.pretrained[name] = _Reassemble(shape.width, channels, number)
        self.scratch = nn.ModuleDict()
        for number, channels in enumerate(shape.reassembled, 1):
            narrow = nn.Conv2d(channels, shape.channels, 3, padding=1, bias=False)
            self.scratch[f"layer{number}_rn"] = narrow
        for number in range(1, 5):
            self.scratch[f"refinenet{number}"] = _Fusion(shape.channels, joins=number < 4)
        self.scratch["head1"] = nn.Conv2d(shape.channels, shape.out, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Pixel features.

        Args:
            images: (B, 3, H, W) RGB, -1 ... 1, H and W multiples of 32.

        Returns:
            (B, C, H/2, W/2) float32, of length 1 over the channels.

        Raises:
            SasError: another size.
        """
        height, width = images.shape[-2:]
        if height % (2 * PATCH) or width % (2 * PATCH) or not height or not width:
            raise SasError(f"LSeg takes images of multiples of 32 pixels, not {width} x {height}.")
        grid = (height // PATCH, width // PATCH)
        tapped = self.pretrained["model"](images, self.shape.taps)
        path: torch.Tensor | None = None
        for number in (4, 3, 2, 1):
            tokens = tapped[number - 1]
            maps = self.pretrained[f"act_postprocess{number}"](tokens, grid)
            skip = self.scratch[f"layer{number}_rn"](maps)
            path = self.scratch[f"refinenet{number}"](skip, path)
            if number == 1:
                path = self.scratch["head1"](path)
            path = interpolate(path, scale_factor=2, mode="bilinear", align_corners=True)
        assert path is not None
        return normalize(path.float(), dim=1)


class _Transformer(nn.Module):
    """A vision transformer with a class token, without its final norm and classifier."""

    def __init__(self, shape: LsegShape) -> None:
        super().__init__()
        self.grid = shape.grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + shape.grid**2, shape.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, shape.width, PATCH, stride=PATCH)})
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.depth))

    def forward(self, images: torch.Tensor, taps: tuple[int, ...]) -> list[torch.Tensor]:
        """(B, 1 + patches, width) tokens after each block of `taps`, the class token first."""
        maps = self.patch_embed["proj"](images)
        tokens = maps.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = tokens + self.positions(maps.shape[-2], maps.shape[-1])
        found = []
        for number, block in enumerate(self.blocks[: max(taps) + 1]):
            tokens = block(tokens)
            if number in taps:
                found.append(tokens)
        return found

    def positions(self, rows: int, columns: int) -> torch.Tensor:
        """Position embedding of another grid: bilinear, corners not aligned, no smoothing."""
        row, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if (rows, columns) == (self.grid, self.grid):
            return self.pos_embed
        grid = grid.reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        grid = interpolate(grid, (rows, columns), mode="bilinear", align_corners=False)
        return torch.cat([row, grid.flatten(2).transpose(1, 2)], dim=1)


class _Block(nn.Module):
    """Attention, then two layers, each after a norm and added to what came in."""

    def __init__(self, shape: LsegShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm1 = nn.LayerNorm(shape.width, eps=1e-6)
        self.attn = nn.ModuleDict(
            {
                "qkv": nn.Linear(shape.width, 3 * shape.width),
                "proj": nn.Linear(shape.width, shape.width),
            }
        )
        self.norm2 = nn.LayerNorm(shape.width, eps=1e-6)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(shape.width, shape.mlp), "fc2": nn.Linear(shape.mlp, shape.width)}
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        count, length, width = tokens.shape
        split = self.attn["qkv"](self.norm1(tokens)).reshape(count, length, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.attn["proj"](mixed.transpose(1, 2).reshape(count, length, width))
        hidden = nn.functional.gelu(self.mlp["fc1"](self.norm2(tokens)))
        result: torch.Tensor = tokens + self.mlp["fc2"](hidden)
        return result


class _Reassemble(nn.Module):
    """Tokens of one tap to a map; the indices are those of the checkpoint's keys."""

    def __init__(self, width: int, channels: int, number: int) -> None:
        super().__init__()
        self.add_module("0", _Readout(width))
        self.add_module("3", nn.Conv2d(width, channels, 1))
        if number == 1:
            self.add_module("4", nn.ConvTranspose2d(channels, channels, 4, stride=4))
        elif number == 2:
            self.add_module("4", nn.ConvTranspose2d(channels, channels, 2, stride=2))
        elif number == 4:
            self.add_module("4", nn.Conv2d(channels, channels, 3, stride=2, padding=1))

    def forward(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        readout, *convolutions = self.children()
        maps: torch.Tensor = readout(tokens).transpose(1, 2).unflatten(2, grid)
        for convolution in convolutions:
            maps = convolution(maps)
        return maps


class _Readout(nn.Module):
    """Each patch token with the class token beside it, projected to one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(2 * width, width), nn.GELU())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        patches, first = tokens[:, 1:], tokens[:, :1]
        result: torch.Tensor = self.project(torch.cat([patches, first.expand_as(patches)], dim=2))
        return result


class _Fusion(nn.Module):
    """What comes from below plus the refined skip, refined; without the upsampling after it."""

    def __init__(self, channels: int, joins: bool) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(channels, channels, 1)
        if joins:  # the deepest has nothing to join
            self.resConfUnit1 = _Refine(channels)
        self.resConfUnit2 = _Refine(channels)

    def forward(self, skip: torch.Tensor, below: torch.Tensor | None) -> torch.Tensor:
        joined = skip if below is None else below + self.resConfUnit1(skip)
        result: torch.Tensor = self.out_conv(self.resConfUnit2(joined))
        return result


class _Refine(nn.Module):
    """Two 3 x 3 convolutions with batch norms, each after a ReLU, added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        inner = self.bn1(self.conv1(torch.relu(maps)))
        result: torch.Tensor = maps + self.bn2(self.conv2(torch.relu(inner)))
        return result
