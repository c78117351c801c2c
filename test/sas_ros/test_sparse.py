"""The engine against dense convolutions, offset by offset (method reference 6.3)."""

from __future__ import annotations

import pytest
import torch

from sas_ros.errors import SasError
from sas_ros.sparse import (
    CoordinateManager,
    SparseBatchNorm,
    SparseConvolution,
    SparseConvolutionTranspose,
    SparseTensor,
    cat,
)
from sas_ros.sparse import coordinates as coordinates_module

SIDE = 9


def random_coordinates(seed: int, *, batches: int = 2, count: int = 160) -> torch.Tensor:
    """Unique (batch, x, y, z) rows in [-4, 4]^3, shuffled: negative ones included."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(-4, 5, (count, 3), generator=generator)
    batch = torch.randint(0, batches, (count, 1), generator=generator)
    unique = torch.unique(torch.cat([batch, cells], dim=1), dim=0)
    return unique[torch.randperm(len(unique), generator=generator)]


def to_dense(coordinates: torch.Tensor, features: torch.Tensor, shift: int = 4) -> torch.Tensor:
    """(B, C, X, Y, Z) with zeros where there is no voxel."""
    batches = int(coordinates[:, 0].max()) + 1
    dense = features.new_zeros((batches, SIDE + 1, SIDE + 1, SIDE + 1, features.shape[1]))
    index = coordinates.clone()
    index[:, 1:] += shift
    dense = dense.index_put(tuple(index.t()), features)
    return dense.permute(0, 4, 1, 2, 3)


def dense_kernel(kernel: torch.Tensor, size: int) -> torch.Tensor:
    """(volume, in, out) with x fastest to (out, in, kx, ky, kz)."""
    return kernel.view(size, size, size, *kernel.shape[1:]).permute(4, 3, 2, 1, 0)


def gather(dense: torch.Tensor, coordinates: torch.Tensor, shift: int = 4) -> torch.Tensor:
    b, x, y, z = coordinates.t()
    return dense[b, :, x + shift, y + shift, z + shift]


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize(("channels_in", "channels_out"), [(2, 5), (17, 8)])
def test_odd_stride_one_equals_dense(size: int, channels_in: int, channels_out: int) -> None:
    coordinates = random_coordinates(size)
    features = torch.randn(len(coordinates), channels_in, dtype=torch.float64, requires_grad=True)
    layer = SparseConvolution(channels_in, channels_out, size).double()
    sparse = layer(SparseTensor(features, CoordinateManager(coordinates))).features
    kernel = layer.kernel if layer.kernel.ndim == 3 else layer.kernel[None]
    dense = torch.nn.functional.conv3d(
        to_dense(coordinates, features), dense_kernel(kernel, size), padding=size // 2
    )
    expected = gather(dense, coordinates)
    torch.testing.assert_close(sparse, expected)

    weight = torch.randn_like(expected)
    mine = torch.autograd.grad((sparse * weight).sum(), [features, layer.kernel])
    theirs = torch.autograd.grad((expected * weight).sum(), [features, layer.kernel])
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("channels_in", [3, 20])
def test_stride_two_and_transposed_equal_dense(channels_in: int) -> None:
    coordinates = random_coordinates(7)
    manager = CoordinateManager(coordinates)
    features = torch.randn(len(coordinates), channels_in, dtype=torch.float64, requires_grad=True)
    down = SparseConvolution(channels_in, 6, 2, 2).double()
    up = SparseConvolutionTranspose(6, 4, 2, 2).double()
    coarse = down(SparseTensor(features, manager))
    fine = up(coarse)

    dense = torch.nn.functional.conv3d(
        to_dense(coordinates, features), dense_kernel(down.kernel, 2), stride=2
    )
    rows = manager.coordinates(2)
    b, x, y, z = rows.t()
    expected = dense[b, :, (x + 4) // 2, (y + 4) // 2, (z + 4) // 2]
    torch.testing.assert_close(coarse.features, expected)

    only_coarse = torch.zeros_like(dense)
    only_coarse[b, :, (x + 4) // 2, (y + 4) // 2, (z + 4) // 2] = expected
    kernel = dense_kernel(up.kernel, 2).transpose(0, 1)  # conv_transpose3d wants (in, out, …)
    dense_up = torch.nn.functional.conv_transpose3d(only_coarse, kernel, stride=2)
    expected_up = gather(dense_up, coordinates)
    torch.testing.assert_close(fine.features, expected_up)

    parameters = [features, down.kernel, up.kernel]
    weight = torch.randn_like(expected_up)
    mine = torch.autograd.grad((fine.features * weight).sum(), parameters)
    theirs = torch.autograd.grad((expected_up * weight).sum(), parameters)
    for a, c in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, c)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_each_offset_reads_the_neighbour_the_layout_says(size: int) -> None:
    """One-hot kernels: output at u is the input at u + offset, x fastest."""
    coordinates = random_coordinates(3, batches=1)
    stride = 2 if size == 2 else 1
    lookup = {tuple(row.tolist()): i for i, row in enumerate(coordinates)}
    features = torch.arange(1.0, len(coordinates) + 1)[:, None]
    half = size // 2 if size % 2 else 0
    for k in range(size**3):
        offset = (k % size - half, k // size % size - half, k // size**2 - half)
        layer = SparseConvolution(1, 1, size, stride)
        layer.kernel.data.zero_()
        layer.kernel.data[k] = 1.0
        manager = CoordinateManager(coordinates)
        out = layer(SparseTensor(features, manager))
        for row, value in zip(manager.coordinates(stride).tolist(), out.features, strict=True):
            source = (row[0], *(c + o for c, o in zip(row[1:], offset, strict=True)))
            expected = lookup[source] + 1.0 if source in lookup else 0.0
            assert float(value) == expected


def test_coarse_coordinates_floor_towards_minus_infinity() -> None:
    manager = CoordinateManager(torch.tensor([[0, -1, 0, 1], [0, -2, 1, 0], [1, 3, -3, 5]]))
    manager.downsample(1, 2)
    assert manager.coordinates(2).tolist() == [[0, -2, 0, 0], [1, 2, -4, 4]]


def test_sorted_index_gives_the_same_as_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    coordinates = random_coordinates(5)
    rows = len(coordinates)
    dense = CoordinateManager(coordinates).kernel_map(1, 1, 3).rows(0, rows)
    monkeypatch.setattr(coordinates_module, "_MAX_DENSE_CELLS", 0)
    assert torch.equal(CoordinateManager(coordinates).kernel_map(1, 1, 3).rows(0, rows), dense)


def test_far_apart_voxels_do_not_need_a_dense_volume() -> None:
    far = torch.tensor([[0, 0, 0, 0], [0, 900_000, -900_000, 900_000], [0, 1, 0, 0]])
    table = CoordinateManager(far).kernel_map(1, 1, 3).rows(0, 3)
    assert table[14, 0] == 2  # x + 1
    assert table[:, 1].tolist().count(3) == 26


def test_single_voxel_runs_through_all_layers() -> None:
    manager = CoordinateManager(torch.tensor([[0, -7, 3, 2]]))
    x = SparseTensor(torch.ones(1, 2), manager)
    y = SparseConvolutionTranspose(3, 2)(SparseConvolution(2, 3, 2, 2)(x))
    normed = SparseBatchNorm(2)(y)
    assert cat(normed, x).features.shape == (1, 4)


def test_empty_cloud_is_a_sentence() -> None:
    with pytest.raises(SasError, match="empty"):
        CoordinateManager(torch.empty((0, 4), dtype=torch.int32))


def test_maps_are_built_once_and_shared() -> None:
    manager = CoordinateManager(random_coordinates(1))
    manager.downsample(1, 2)
    assert manager.kernel_map(1, 1, 3) is manager.kernel_map(1, 1, 3)
    assert manager.kernel_map(2, 1, 2) is manager.kernel_map(1, 2, 2).transposed()


def test_transposing_needs_the_finer_voxels() -> None:
    with pytest.raises(SasError, match="stride"):
        SparseConvolutionTranspose(1, 1)(
            SparseTensor(torch.ones(2, 1), CoordinateManager(random_coordinates(0)[:2]), stride=4)
        )


def test_odd_stride_two_equals_dense_whatever_the_order_of_rows() -> None:
    """Even coordinates only: as many coarse voxels as fine ones, in another order."""
    generator = torch.Generator().manual_seed(0)
    coordinates = torch.unique(2 * torch.randint(-2, 3, (40, 3), generator=generator), dim=0)
    coordinates = coordinates[torch.randperm(len(coordinates), generator=generator)]
    coordinates = torch.cat([torch.zeros_like(coordinates[:, :1]), coordinates], dim=1)
    features = torch.randn(len(coordinates), 17, dtype=torch.float64, requires_grad=True)
    layer = SparseConvolution(17, 6, 3, 2).double()
    manager = CoordinateManager(coordinates)
    out = layer(SparseTensor(features, manager)).features
    dense = torch.nn.functional.conv3d(
        to_dense(coordinates, features), dense_kernel(layer.kernel, 3), padding=1
    )
    expected = gather(dense, manager.coordinates(2))
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(expected)
    mine = torch.autograd.grad((out * weight).sum(), [features, layer.kernel])
    theirs = torch.autograd.grad((expected * weight).sum(), [features, layer.kernel])
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)
