"""Table 6.1 of the method reference, written down in MinkowskiEngine's own layers.

Nothing of `sas_ros` is in it, so that it can contradict `sas_ros.student.minkunet`. Import it only
after `sas_ros.sparse.minkowski.check`, which makes the old library importable.
"""

from __future__ import annotations

from collections.abc import Sequence

import MinkowskiEngine as ME
import torch
from torch import nn

ENCODER = [("conv1p1s2", "bn1"), ("conv2p2s2", "bn2"), ("conv3p4s2", "bn3"), ("conv4p8s2", "bn4")]
DECODER = [
    ("convtr4p16s2", "bntr4"),
    ("convtr5p8s2", "bntr5"),
    ("convtr6p4s2", "bntr6"),
    ("convtr7p2s2", "bntr7"),
]


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Module:
    return ME.MinkowskiConvolution(
        inputs, outputs, kernel_size=size, stride=stride, bias=False, dimension=3
    )


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, 3)
        self.norm1 = ME.MinkowskiBatchNorm(outputs)
        self.conv2 = convolution(outputs, outputs, 3)
        self.norm2 = ME.MinkowskiBatchNorm(outputs)
        self.relu = ME.MinkowskiReLU()
        self.downsample = nn.Identity()
        if inputs != outputs:
            self.downsample = nn.Sequential(
                convolution(inputs, outputs, 1), ME.MinkowskiBatchNorm(outputs)
            )

    def forward(self, x: ME.SparseTensor) -> ME.SparseTensor:
        y = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(y)) + self.downsample(x))


class MinkowskiUNet(nn.Module):
    """(M, 3) features on (M, 4) int32 coordinates to (M, out) features, in the same order."""

    def __init__(
        self,
        out_channels: int,
        planes: Sequence[int] = (32, 64, 128, 256, 128, 128, 96, 96),
        layers: Sequence[int] = (2,) * 8,
        stem: int = 32,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.conv0p1s1 = convolution(in_channels, stem, 5)
        self.bn0 = ME.MinkowskiBatchNorm(stem)
        self.relu = ME.MinkowskiReLU()
        width, skips = stem, [stem]
        for stage, (conv, norm) in enumerate(ENCODER):
            setattr(self, conv, convolution(width, width, 2, 2))
            setattr(self, norm, ME.MinkowskiBatchNorm(width))
            setattr(self, f"block{stage + 1}", self.stage(width, planes[stage], layers[stage]))
            width = planes[stage]
            skips.append(width)
        skips.pop()
        for stage, (conv, norm) in enumerate(DECODER, start=4):
            up = ME.MinkowskiConvolutionTranspose(
                width, planes[stage], kernel_size=2, stride=2, bias=False, dimension=3
            )
            setattr(self, conv, up)
            width = planes[stage]
            setattr(self, norm, ME.MinkowskiBatchNorm(width))
            both = width + skips.pop()
            setattr(self, f"block{stage + 1}", self.stage(both, width, layers[stage]))
        self.final = convolution(width, out_channels, 1)

    @staticmethod
    def stage(inputs: int, outputs: int, blocks: int) -> nn.Module:
        return nn.Sequential(
            *(Block(inputs if i == 0 else outputs, outputs) for i in range(blocks))
        )

    def forward(self, features: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
        x = ME.SparseTensor(features, coordinates=coordinates)
        x = self.relu(self.bn0(self.conv0p1s1(x)))
        skips = [x]
        for stage, (conv, norm) in enumerate(ENCODER, start=1):
            x = self.relu(getattr(self, norm)(getattr(self, conv)(x)))
            x = getattr(self, f"block{stage}")(x)
            skips.append(x)
        skips.pop()
        for stage, (conv, norm) in enumerate(DECODER, start=5):
            x = self.relu(getattr(self, norm)(getattr(self, conv)(x)))
            x = getattr(self, f"block{stage}")(ME.cat(x, skips.pop()))
        return self.final(x).F
