"""The MinkUNet family: sparse residual U-Nets with the key names of OpenScene's checkpoints.

Layer by layer as in table 6.1 of the method notes; `minkunet18a` with 3 input and 512 output
channels has exactly the 289 tensors of the published SAS and OpenScene students.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any, cast

from torch import nn

from sas_ros.errors import SasError
from sas_ros.sparse import (
    Norm,
    SparseBatchNorm,
    SparseConvolution,
    SparseConvolutionTranspose,
    SparseTensor,
    cat,
    fold,
    unit,
)

_MOST_BLOCKS = 64  # the deepest published MinkUNet has 23 in a stage


@dataclass(frozen=True)
class MinkUNetConfig:
    """Shape of a MinkUNet: stem channels, widths and block counts of its 8 stages."""

    in_channels: int = 3
    out_channels: int = 512
    stem: int = 32
    planes: tuple[int, ...] = (32, 64, 128, 256, 128, 128, 96, 96)
    layers: tuple[int, ...] = (2, 2, 2, 2, 2, 2, 2, 2)

    def __post_init__(self) -> None:
        if len(self.planes) != 8 or len(self.layers) != 8:
            raise SasError("A MinkUNet has 8 stages: give 8 planes and 8 layers.")
        numbers = (self.in_channels, self.out_channels, self.stem, *self.planes, *self.layers)
        if min(numbers) < 1 or max(numbers) > 4096:
            raise SasError("MinkUNet widths and block counts must lie between 1 and 4096.")
        if max(self.layers) > _MOST_BLOCKS:
            raise SasError(f"A stage of a MinkUNet has at most {_MOST_BLOCKS} blocks.")

    @property
    def least_numbers(self) -> int:
        """Weights that the network has at least: the second convolution of every block."""
        pairs = zip(self.planes, self.layers, strict=True)
        return sum(27 * width * width * blocks for width, blocks in pairs)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> MinkUNetConfig:
        """Raises SasError when a key is unknown or a value is no number."""
        try:
            return MinkUNetConfig(
                in_channels=int(values["in_channels"]),
                out_channels=int(values["out_channels"]),
                stem=int(values["stem"]),
                planes=tuple(int(p) for p in values["planes"]),
                layers=tuple(int(n) for n in values["layers"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, SasError):
                raise
            raise SasError(f"The architecture of the student is incomplete: {error!r}.") from error


def minkunet14a(in_channels: int = 3, out_channels: int = 512) -> MinkUNetConfig:
    return MinkUNetConfig(in_channels, out_channels, layers=(1,) * 8)


def minkunet18a(in_channels: int = 3, out_channels: int = 512) -> MinkUNetConfig:
    return MinkUNetConfig(in_channels, out_channels)


def minkunet34c(in_channels: int = 3, out_channels: int = 512) -> MinkUNetConfig:
    return MinkUNetConfig(
        in_channels,
        out_channels,
        planes=(32, 64, 128, 256, 256, 128, 96, 96),
        layers=(2, 3, 4, 6, 2, 2, 2, 2),
    )


class BasicBlock(nn.Module):
    """conv3 - bn - relu - conv3 - bn, plus the shortcut, relu."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = SparseConvolution(in_channels, out_channels, 3)
        self.norm1: Norm = SparseBatchNorm(out_channels)
        self.conv2 = SparseConvolution(out_channels, out_channels, 3)
        self.norm2: Norm = SparseBatchNorm(out_channels)
        self.downsample: nn.Sequential | None = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                SparseConvolution(in_channels, out_channels, 1), SparseBatchNorm(out_channels)
            )

    def forward(self, x: SparseTensor) -> SparseTensor:
        y = unit(self.conv1, self.norm1, x)
        shortcut = x
        if self.downsample is not None:
            shortcut = unit(*_parts(self.downsample), x, activate=False)
        return unit(self.conv2, self.norm2, y, residual=shortcut)


class MinkUNet(nn.Module):
    """Encoder of four stride-2 stages, decoder of four transposed ones, skips concatenated."""

    def __init__(self, config: MinkUNetConfig) -> None:
        super().__init__()
        self.config = config
        stem, p, n = config.stem, config.planes, config.layers
        self.conv0p1s1 = SparseConvolution(config.in_channels, stem, 5)
        self.bn0 = SparseBatchNorm(stem)
        self.conv1p1s2 = SparseConvolution(stem, stem, 2, 2)
        self.bn1 = SparseBatchNorm(stem)
        self.block1 = _stage(stem, p[0], n[0])
        self.conv2p2s2 = SparseConvolution(p[0], p[0], 2, 2)
        self.bn2 = SparseBatchNorm(p[0])
        self.block2 = _stage(p[0], p[1], n[1])
        self.conv3p4s2 = SparseConvolution(p[1], p[1], 2, 2)
        self.bn3 = SparseBatchNorm(p[1])
        self.block3 = _stage(p[1], p[2], n[2])
        self.conv4p8s2 = SparseConvolution(p[2], p[2], 2, 2)
        self.bn4 = SparseBatchNorm(p[2])
        self.block4 = _stage(p[2], p[3], n[3])
        self.convtr4p16s2 = SparseConvolutionTranspose(p[3], p[4])
        self.bntr4 = SparseBatchNorm(p[4])
        self.block5 = _stage(p[4] + p[2], p[4], n[4])
        self.convtr5p8s2 = SparseConvolutionTranspose(p[4], p[5])
        self.bntr5 = SparseBatchNorm(p[5])
        self.block6 = _stage(p[5] + p[1], p[5], n[5])
        self.convtr6p4s2 = SparseConvolutionTranspose(p[5], p[6])
        self.bntr6 = SparseBatchNorm(p[6])
        self.block7 = _stage(p[6] + p[0], p[6], n[6])
        self.convtr7p2s2 = SparseConvolutionTranspose(p[6], p[7])
        self.bntr7 = SparseBatchNorm(p[7])
        self.block8 = _stage(p[7] + stem, p[7], n[7])
        self.final = SparseConvolution(p[7], config.out_channels, 1)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(M, in) features on voxels to (M, out) raw features on the same voxels, same order."""
        output: SparseTensor = self.final(self.trunk(x))
        return output

    def trunk(self, x: SparseTensor) -> SparseTensor:
        """Everything but the last, linear layer: (M, in) to (M, planes[7])."""
        e0 = unit(self.conv0p1s1, self.bn0, x)
        e1 = self.block1(unit(self.conv1p1s2, self.bn1, e0))
        e2 = self.block2(unit(self.conv2p2s2, self.bn2, e1))
        e3 = self.block3(unit(self.conv3p4s2, self.bn3, e2))
        y = self.block4(unit(self.conv4p8s2, self.bn4, e3))
        y = self.block5(cat(unit(self.convtr4p16s2, self.bntr4, y), e3))
        y = self.block6(cat(unit(self.convtr5p8s2, self.bntr5, y), e2))
        y = self.block7(cat(unit(self.convtr6p4s2, self.bntr6, y), e1))
        output: SparseTensor = self.block8(cat(unit(self.convtr7p2s2, self.bntr7, y), e0))
        return output

    def folded(self) -> MinkUNet:
        """A copy for inference alone: every batch norm goes into the kernel before it.

        Its features equal those of this network in evaluation mode up to rounding.
        """
        network = deepcopy(self).eval()
        for name, norm_name in _STEMS:
            setattr(network, norm_name, fold(getattr(network, name), getattr(network, norm_name)))
        for block in network.modules():
            if isinstance(block, BasicBlock):
                block.norm1 = fold(block.conv1, block.norm1)
                block.norm2 = fold(block.conv2, block.norm2)
                if block.downsample is not None:
                    block.downsample[1] = fold(*_parts(block.downsample))
        return network


def _parts(downsample: nn.Sequential) -> tuple[SparseConvolution, Norm]:
    convolution, norm = cast(tuple[SparseConvolution, Norm], tuple(downsample))
    return convolution, norm


_STEMS = (
    ("conv0p1s1", "bn0"),
    ("conv1p1s2", "bn1"),
    ("conv2p2s2", "bn2"),
    ("conv3p4s2", "bn3"),
    ("conv4p8s2", "bn4"),
    ("convtr4p16s2", "bntr4"),
    ("convtr5p8s2", "bntr5"),
    ("convtr6p4s2", "bntr6"),
    ("convtr7p2s2", "bntr7"),
)


def _stage(in_channels: int, out_channels: int, blocks: int) -> nn.Sequential:
    widths = [in_channels] + [out_channels] * (blocks - 1)
    return nn.Sequential(*(BasicBlock(width, out_channels) for width in widths))


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
