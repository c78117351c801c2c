"""The MinkUNet family against the published checkpoint layout and itself."""

from __future__ import annotations

import pytest
import torch

from sas_ros.errors import SasError
from sas_ros.sparse import CoordinateManager, SparseTensor
from sas_ros.student.minkunet import (
    MinkUNet,
    MinkUNetConfig,
    count_parameters,
    minkunet14a,
    minkunet18a,
)

# Shapes of every kernel of MinkUNet18A, from the method reference, table 6.2.
PLANES = (32, 64, 128, 256, 128, 128, 96, 96)
BLOCK_INPUTS = (32, 32, 64, 128, 256, 192, 128, 128)


def reference_shapes(features: int) -> dict[str, tuple[int, ...]]:
    """An independent spelling-out of the 289 tensors of a MinkUNet18A checkpoint."""
    shapes: dict[str, tuple[int, ...]] = {"conv0p1s1.kernel": (125, 3, 32)}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{part}"] = (channels,)
        shapes[f"{name}.bn.num_batches_tracked"] = ()

    for i, (name, width) in enumerate(
        [("conv1p1s2", 32), ("conv2p2s2", 32), ("conv3p4s2", 64), ("conv4p8s2", 128)]
    ):
        shapes[f"{name}.kernel"] = (8, width, width)
        norm(f"bn{i}", (32, 32, 32, 64)[i])
    norm("bn4", 128)
    for name, shape in (
        ("convtr4p16s2", (8, 256, 128)),
        ("convtr5p8s2", (8, 128, 128)),
        ("convtr6p4s2", (8, 128, 96)),
        ("convtr7p2s2", (8, 96, 96)),
    ):
        shapes[f"{name}.kernel"] = shape
        norm(f"bntr{name[6]}", shape[2])
    for b, (width, inputs) in enumerate(zip(PLANES, BLOCK_INPUTS, strict=True), start=1):
        for block in (0, 1):
            first = inputs if block == 0 else width
            shapes[f"block{b}.{block}.conv1.kernel"] = (27, first, width)
            shapes[f"block{b}.{block}.conv2.kernel"] = (27, width, width)
            norm(f"block{b}.{block}.norm1", width)
            norm(f"block{b}.{block}.norm2", width)
        if inputs != width:
            shapes[f"block{b}.0.downsample.0.kernel"] = (inputs, width)
            norm(f"block{b}.0.downsample.1", width)
    shapes["final.kernel"] = (96, features)
    return shapes


@pytest.mark.parametrize(("features", "parameters"), [(512, 15_540_384), (768, 15_564_960)])
def test_minkunet18a_has_the_published_tensors(features: int, parameters: int) -> None:
    network = MinkUNet(minkunet18a(3, features))
    expected = reference_shapes(features)
    assert len(expected) == 289
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == expected
    assert count_parameters(network) == parameters


def room_surface(seed: int = 0) -> torch.Tensor:
    """(M, 4) voxels of a small floor and wall, with some missing."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.meshgrid(torch.arange(-20, 20), torch.arange(-15, 15), indexing="ij")
    floor = torch.stack([x, y, torch.zeros_like(x)], dim=-1).reshape(-1, 3)
    wall = torch.stack([x, torch.full_like(x, -15), y + 15], dim=-1).reshape(-1, 3)
    cells = torch.unique(torch.cat([floor, wall]), dim=0)
    cells = cells[torch.rand(len(cells), generator=generator) < 0.9]
    return torch.cat([torch.zeros(len(cells), 1, dtype=torch.int64), cells], dim=1)


@pytest.mark.parametrize("config", [minkunet14a(2, 16), MinkUNetConfig(1, 8, 8, (8,) * 8)])
def test_forward_and_backward_reach_every_parameter(config: MinkUNetConfig) -> None:
    torch.manual_seed(0)
    network = MinkUNet(config)
    coordinates = room_surface()
    features = torch.ones(len(coordinates), config.in_channels)
    output = network(SparseTensor(features, CoordinateManager(coordinates))).features
    assert output.shape == (len(coordinates), config.out_channels)
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_result_does_not_depend_on_the_order_of_the_voxels() -> None:
    torch.manual_seed(0)
    network = MinkUNet(minkunet14a(1, 8)).eval()
    coordinates = room_surface(1)
    order = torch.randperm(len(coordinates))
    with torch.inference_mode():
        ones = torch.ones(len(coordinates), 1)
        plain = network(SparseTensor(ones, CoordinateManager(coordinates))).features
        mixed = network(SparseTensor(ones, CoordinateManager(coordinates[order]))).features
    torch.testing.assert_close(mixed, plain[order], rtol=1e-4, atol=1e-5)


def test_batches_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    network = MinkUNet(minkunet14a(1, 8)).eval()
    one, two = room_surface(1), room_surface(2)
    two[:, 0] = 1
    with torch.inference_mode():
        alone = network(SparseTensor(torch.ones(len(one), 1), CoordinateManager(one))).features
        both = torch.cat([one, two])
        together = network(SparseTensor(torch.ones(len(both), 1), CoordinateManager(both))).features
    torch.testing.assert_close(together[: len(one)], alone, rtol=1e-4, atol=1e-5)


def test_incomplete_architecture_is_a_sentence() -> None:
    with pytest.raises(SasError, match="incomplete"):
        MinkUNetConfig.from_dict({"in_channels": 3})
    with pytest.raises(SasError, match="8 stages"):
        MinkUNetConfig(planes=(1, 2))
