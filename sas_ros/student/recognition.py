"""Which network a set of tensors belongs to, told by their names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch

from sas_ros.errors import SasError
from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig

_BLOCK = re.compile(r"block([1-8])\.(\d{1,3})\.conv1\.kernel")
_SHOWN = 3
_MOST_BLOCKS = 64

# Decoder widths that MinkowskiEngine's users know by a letter.
_LETTERS: dict[tuple[int, ...], str] = {
    (128, 128, 96, 96): "A",
    (128, 128, 128, 128): "B",
    (192, 192, 128, 128): "C",
    (384, 384, 384, 384): "D",
}
_LETTERS_34: dict[tuple[int, ...], str] = {
    (256, 128, 64, 64): "A",
    (256, 128, 64, 32): "B",
    (256, 128, 96, 96): "C",
}
_DEPTHS: dict[tuple[int, ...], int] = {(1,) * 8: 14, (2,) * 8: 18, (2, 3, 4, 6, 2, 2, 2, 2): 34}
_ENCODER = (32, 64, 128, 256)


def recognise(weights: Mapping[str, torch.Tensor]) -> MinkUNetConfig:
    """Channels, widths and block counts of the MinkUNet that `weights` belong to.

    Raises:
        SasError: no MinkUNet of basic blocks; names what is missing or does not belong.
    """
    if any(name.startswith("block") and name.endswith(".conv3.kernel") for name in weights):
        raise SasError(
            "The checkpoint has bottleneck blocks (three convolutions each, as in MinkUNet50); "
            "MinkUNets of basic blocks can be imported: 14, 18 and 34."
        )
    stem = _shape(weights, "conv0p1s1.kernel", 3)
    final = _shape(weights, "final.kernel", 2)
    numbers: dict[int, set[int]] = {stage: set() for stage in range(1, 9)}
    for name in weights:
        if match := _BLOCK.fullmatch(name):
            numbers[int(match[1])].add(int(match[2]))
    if max(len(found) for found in numbers.values()) > _MOST_BLOCKS:
        raise SasError(f"A stage has more than {_MOST_BLOCKS} blocks: this is no MinkUNet.")
    planes = tuple(_shape(weights, f"block{stage}.0.conv1.kernel", 3)[2] for stage in numbers)
    return MinkUNetConfig(
        in_channels=stem[1],
        out_channels=final[1],
        stem=stem[2],
        planes=planes,
        layers=tuple(len(found) for found in numbers.values()),
    )


def fitting_weights(
    config: MinkUNetConfig, weights: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The tensors of the network `config`, float32 where they are not counters, copied.

    Raises:
        SasError: names the first tensors that are missing, do not belong, have another shape, or
            hold no finite numbers.
    """
    with torch.device("meta"):
        expected = MinkUNet(config).state_dict()
    wrong = [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    complaints = [
        f"{what} {_few(names)}"
        for what, names in (
            ("it lacks", sorted(expected.keys() - weights.keys())),
            ("these do not belong to it:", sorted(weights.keys() - expected.keys())),
            ("of another shape:", wrong),
        )
        if names
    ]
    if complaints:
        raise SasError(
            f"The checkpoint looks like {family_name(config)}, but {'; '.join(complaints)}."
        )
    return {name: _finite(name, weights[name], like) for name, like in expected.items()}


def family_name(config: MinkUNetConfig) -> str:
    """What the network is called, such as "MinkUNet18A", or its widths where it has no name."""
    depth = _DEPTHS.get(config.layers)
    letters = _LETTERS_34 if depth == 34 else _LETTERS
    letter = letters.get(config.planes[4:])
    if depth and letter and config.stem == 32 and config.planes[:4] == _ENCODER:
        return f"MinkUNet{depth}{letter}"
    return (
        f"a MinkUNet of stem {config.stem}, planes {' '.join(map(str, config.planes))}, "
        f"blocks {' '.join(map(str, config.layers))}"
    )


def _shape(weights: Mapping[str, torch.Tensor], name: str, axes: int) -> tuple[int, ...]:
    if name not in weights:
        found = sorted({key.split(".")[0][:40] for key in weights})
        raise SasError(
            f"The checkpoint is of no MinkUNet: it lacks {name}. "
            + (f"Its network's tensors begin with {_few(found)}." if found else "")
        )
    shape = tuple(weights[name].shape)
    if len(shape) != axes:
        raise SasError(f"The tensor {name} of the checkpoint has {len(shape)} axes, not {axes}.")
    return shape


def _finite(name: str, tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    copy = tensor.detach().to(like.dtype, copy=True).contiguous()
    if not bool(torch.isfinite(copy).all()):
        raise SasError(f"The tensor {name} of the checkpoint holds numbers that are not finite.")
    return copy


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
