"""A small convolutional network: colour pictures to numbers for each cell of 2 x 2 pixels."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

CELL = 2
"""Pixels across a cell of the output."""
TRUNK = 48
"""Channels before the last layer."""


def _block(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class SmallNetwork(nn.Module):
    """A U-Net of four levels (0.9 M parameters at width 24) and a linear last layer.

    Attributes:
        kernel: (48, outputs) the last layer, without a bias: features of text, or class scores.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        a, b, c, d = width, 2 * width, 4 * width, round(5.34 * width)
        self.down = nn.ModuleList(
            [
                nn.Sequential(_block(3, a, 2, 5), _block(a, a)),
                nn.Sequential(_block(a, b, 2), _block(b, b)),
                nn.Sequential(_block(b, c, 2), _block(c, c), _block(c, c)),
                nn.Sequential(_block(c, d, 2), _block(d, d), _block(d, d)),
            ]
        )
        self.up = nn.ModuleList([_block(d + c, c), _block(c + b, b), _block(b + a, TRUNK)])
        self.kernel = nn.Parameter(torch.randn(TRUNK, outputs) * TRUNK**-0.5)

    @property
    def ends(self) -> tuple[nn.Parameter, nn.Parameter]:
        """The kernels of the first and the last layer."""
        first = self.down[0].get_parameter("0.0.weight")
        return first, self.kernel

    def trunk(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) pictures of -1 to 1 to (B, 48, H / 2, W / 2); sides of whole cells."""
        levels = [pictures]
        for step in self.down:
            levels.append(step(levels[-1]))
        result = levels.pop()
        for step in self.up:
            skip = levels.pop()
            grown = functional.interpolate(result, size=skip.shape[-2:], mode="nearest")
            result = step(torch.cat([grown, skip], dim=1))
        return result

    def rows(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, H / 2, W / 2, 48), the channels of a cell next to each other."""
        return self.trunk(pictures).permute(0, 2, 3, 1)


def channels_last(network: SmallNetwork) -> SmallNetwork:
    """The same network with its weights laid out as `network_input` lays out pictures."""
    moved: SmallNetwork = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def network_input(pictures: torch.Tensor, blur: int) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 of -1 to 1, seen through blur x blur pixels.

    The size stays: what is coarser is repeated.
    """
    wide = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    if blur > 1:
        size = wide.shape[-2:]
        small = functional.avg_pool2d(wide, blur, ceil_mode=True)
        wide = functional.interpolate(small, scale_factor=float(blur), mode="nearest")
        wide = wide[..., : size[0], : size[1]]
    return wide.contiguous(memory_format=torch.channels_last)
