"""Both engines give the same: outputs and every gradient, layer by layer and for whole networks.

Differences are relative to the largest value of the tensor: sums of hundreds of float32 products
in another order differ by what the largest terms round to, however small the sum itself is.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from torch import nn

from sas_ros.errors import SasError
from sas_ros.sparse import (
    CoordinateManager,
    SparseBatchNorm,
    SparseConvolution,
    SparseConvolutionTranspose,
    SparseTensor,
    minkowski,
)
from sas_ros.sparse.manager import Manager
from sas_ros.sparse.minkowski import MinkowskiManager
from sas_ros.student.minkunet import (
    MinkUNet,
    MinkUNetConfig,
    minkunet14a,
    minkunet18a,
    minkunet34c,
)

if not minkowski.is_installed():
    if os.environ.get("SAS_REQUIRE_MINKOWSKI"):
        pytest.fail("MinkowskiEngine is not installed, and is required here.", pytrace=False)
    pytest.skip("MinkowskiEngine is not installed; `make all` builds it", allow_module_level=True)

TOLERANCE = 1e-4
# A network as a function of a manager and the features on it.
Network = Callable[[Manager, torch.Tensor], SparseTensor]


def scattered(seed: int, batches: int, count: int = 300, reach: int = 5) -> torch.Tensor:
    """Unique (batch, x, y, z) rows in [-reach, reach]^3, shuffled: many without some neighbour."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(-reach, reach + 1, (count, 3), generator=generator)
    batch = torch.randint(0, batches, (count, 1), generator=generator)
    unique = torch.unique(torch.cat([batch, cells], dim=1), dim=0)
    return unique[torch.randperm(len(unique), generator=generator)]


def surface(seed: int, batches: int) -> torch.Tensor:
    """(M, 4) shuffled voxels of corners of rooms, 56 wide, on both sides of the origin."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.meshgrid(torch.arange(-28, 28, 2), torch.arange(-28, 28), indexing="ij")
    wave = (a.div(5, rounding_mode="floor") + b) % 3
    planes = [torch.stack(p, -1).reshape(-1, 3) for p in ((a, b, wave), (wave - 20, a, b))]
    rows = []
    for batch in range(batches):
        cells = torch.unique(torch.cat(planes), dim=0) + batch
        cells = cells[torch.rand(len(cells), generator=generator) < 0.5]
        rows.append(nn.functional.pad(cells, (1, 0), value=batch))
    cells = torch.cat(rows)
    return cells[torch.randperm(len(cells), generator=generator)]


def order(coordinates: torch.Tensor) -> torch.Tensor:
    """Row numbers that sort coordinates."""
    return torch.unique(coordinates, dim=0, return_inverse=True)[1].argsort()


def values(
    network: Network, manager: Manager, features: torch.Tensor, parameters: dict[str, nn.Parameter]
) -> dict[str, torch.Tensor]:
    """Output, rows sorted by coordinates, and gradients of a loss that weighs each value apart."""
    features = features.clone().requires_grad_()
    tensor = network(manager, features)
    coordinates = manager.coordinates(tensor.stride)
    output = tensor.features[order(coordinates)]
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    loss = (output * weights.to(output.dtype)).sum()
    gradients = torch.autograd.grad(loss, [features, *parameters.values()])
    found = dict(zip(["features", *parameters], gradients, strict=True))
    return {"output": output.detach(), "coordinates": coordinates[order(coordinates)], **found}


def assert_same(
    network: Network,
    coordinates: torch.Tensor,
    features: torch.Tensor,
    parameters: dict[str, nn.Parameter],
    tolerance: float = TOLERANCE,
) -> None:
    native = values(network, CoordinateManager(coordinates), features, parameters)
    other = values(network, MinkowskiManager(coordinates), features, parameters)
    assert torch.equal(native.pop("coordinates"), other.pop("coordinates"))
    for name, expected in native.items():
        largest = float(expected.abs().max())
        assert largest > 1e-6, f"{name} is all zeros: comparing it says nothing"
        difference = float((other[name] - expected).abs().max())
        assert difference <= tolerance * largest, f"{name}: {difference} of {largest}"


@pytest.mark.parametrize("batches", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("channels", [(3, 20), (24, 8)])
def test_convolution_and_batch_norm(
    size: int, stride: int, batches: int, channels: tuple[int, int]
) -> None:
    torch.manual_seed(size)
    layers = nn.Sequential(SparseConvolution(*channels, size, stride), SparseBatchNorm(channels[1]))
    coordinates = scattered(size, batches)
    features = torch.randn(len(coordinates), channels[0])
    parameters = dict(layers.named_parameters())
    assert_same(
        lambda manager, x: layers(SparseTensor(x, manager)), coordinates, features, parameters
    )


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_transposed_convolution(size: int, encoded: bool) -> None:
    """With and without the convolution whose map it turns round; from stride 4 to 2 to 1."""
    torch.manual_seed(size)
    down = nn.ModuleList([SparseConvolution(4, 6, size, 2), SparseConvolution(6, 18, size, 2)])
    up = nn.ModuleList(
        [SparseConvolutionTranspose(18, 7, size), SparseConvolutionTranspose(7, 5, size)]
    )

    def network(manager: Manager, x: torch.Tensor) -> SparseTensor:
        tensor = SparseTensor(x, manager)
        if encoded:
            for layer in down:
                tensor = layer(tensor)
        else:
            manager.downsample(1, 2)
            manager.downsample(2, 4 // 2)
            rows = manager.coordinates(4)
            # The same feature for the same place, whatever the order of rows.
            coarse = torch.cos(rows[:, 1:].float() @ x[:3, :3] + rows[:, :1])
            tensor = SparseTensor(coarse.repeat(1, 6), manager, 4)
        for layer in up:
            tensor = layer(tensor)
        return tensor

    coordinates = scattered(size, 3)
    parameters = dict((nn.ModuleList([down, up]) if encoded else up).named_parameters())
    assert_same(network, coordinates, torch.randn(len(coordinates), 4), parameters)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("make", [minkunet14a, minkunet18a, minkunet34c])
def test_whole_networks(
    make: Callable[[int, int], MinkUNetConfig], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything in float64, where only a wrong sum makes a difference; in float32 the output, and
    with a smooth activation the gradients: that of a ReLU jumps where rounding decides the sign.
    """
    torch.manual_seed(0)
    network = MinkUNet(make(3, 16))
    coordinates = surface(0, batches=2)
    features = torch.randn(len(coordinates), 3)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.uniform_(layer.weight, 0.7, 1.3)
            nn.init.uniform_(layer.bias, -0.3, 0.3)
            layer.momentum = None  # take the statistics of one pass as they are
    if mode == "eval":
        # Statistics of real activations: with those of a new network, 30 layers would let the
        # signal grow or vanish, and the comparison with it.
        network(SparseTensor(features, CoordinateManager(coordinates)))
        network.eval()

    def forward(manager: Manager, x: torch.Tensor) -> SparseTensor:
        output: SparseTensor = network(SparseTensor(x, manager))
        return output

    native, other = (
        forward(manager, features).features.detach()
        for manager in (CoordinateManager(coordinates), MinkowskiManager(coordinates))
    )
    assert float((native - other).abs().max()) <= TOLERANCE * float(native.abs().max())
    if mode == "eval":
        folded = network.folded()
        with torch.inference_mode():
            other = folded(SparseTensor(features, MinkowskiManager(coordinates))).features
        assert float((native - other).abs().max()) <= TOLERANCE * float(native.abs().max())
    parameters = dict(network.named_parameters())
    with monkeypatch.context() as patch:
        patch.setattr(
            "sas_ros.sparse.modules.relu", lambda x: x.replace(nn.functional.silu(x.features))
        )
        assert_same(forward, coordinates, features, parameters)
    network.double()
    assert_same(forward, coordinates, features.double(), parameters, tolerance=1e-9)


def test_rows_keep_the_order_of_the_caller() -> None:
    coordinates = scattered(0, 3)
    manager = MinkowskiManager(coordinates.to(torch.int32))
    assert torch.equal(manager.coordinates(1), coordinates)
    manager.downsample(1, 2)
    for stride in (1, 2):
        rows = manager.coordinates(stride)
        places = (rows.float() @ torch.tensor([1000.0, 1.0, 20.0, 400.0]))[:, None]
        kernel = torch.zeros(27, 1, 1)
        kernel[13] = 1.0  # the centre
        assert torch.equal(manager.convolve(places, kernel, stride, stride, 3), places)
    assert manager.has_stride(2) and not manager.has_stride(4)


def test_strides_can_be_made_in_one_step_or_two() -> None:
    coordinates = scattered(1, 2)
    one, two = MinkowskiManager(coordinates), MinkowskiManager(coordinates)
    one.downsample(1, 4)
    two.downsample(1, 2)
    two.downsample(2, 2)
    native = CoordinateManager(coordinates)
    native.downsample(1, 4)
    for manager in (one, two):
        rows = manager.coordinates(4)
        assert torch.equal(rows[order(rows)], native.coordinates(4))


@pytest.mark.parametrize(
    ("coordinates", "words"),
    [
        (torch.empty((0, 4), dtype=torch.int32), "empty"),
        (torch.zeros((3, 3), dtype=torch.int64), r"\(M, 4\)"),
        (torch.zeros(4, dtype=torch.int64), r"\(M, 4\)"),
        (torch.tensor([[0, 1, 2, 3], [0, 0, 0, 0], [0, 1, 2, 3]]), "twice"),
        (torch.tensor([[0, 2**31 + 5, 0, 0]]), "too large"),
    ],
)
def test_unusable_coordinates_are_a_sentence(coordinates: torch.Tensor, words: str) -> None:
    with pytest.raises(SasError, match=words):
        MinkowskiManager(coordinates)


def test_transposing_needs_the_finer_voxels() -> None:
    tensor = SparseTensor(torch.ones(2, 1), MinkowskiManager(scattered(0, 1)[:2]), stride=4)
    with pytest.raises(SasError, match="stride"):
        SparseConvolutionTranspose(1, 1)(tensor)


def test_single_voxel_runs_through_all_layers() -> None:
    manager = MinkowskiManager(torch.tensor([[0, -7, 3, 2]]))
    x = SparseTensor(torch.ones(1, 2), manager)
    y = SparseConvolutionTranspose(3, 2)(SparseConvolution(2, 3, 2, 2)(x))
    assert SparseBatchNorm(2)(y).features.shape == (1, 2)


def test_nothing_is_warned_about(recwarn: pytest.WarningsRecorder) -> None:
    manager = MinkowskiManager(scattered(0, 2))
    x = SparseTensor(torch.ones(len(manager.coordinates(1)), 2, requires_grad=True), manager)
    SparseConvolution(2, 3)(x).features.sum().backward()
    assert not [str(warning.message) for warning in recwarn]
