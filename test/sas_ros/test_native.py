"""How the native engine works inside: chunks, threads, padding, folding. What it computes is held
against dense convolutions in test_sparse.py."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_ros.sparse import CoordinateManager, SparseTensor, native
from sas_ros.sparse.epilogue import Epilogue
from sas_ros.sparse.kernel_map import KernelMap, kernel_offsets, standard_rows
from sas_ros.sparse.native import convolve, multiply, pointwise
from sas_ros.sparse.parallel import for_each
from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig, minkunet18a


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["one call", "single calls", "oneDNN", "oneDNN, but narrow"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way in which a processor or an older PyTorch may make the matrix products."""
    way = str(request.param)
    if way == "single calls":
        monkeypatch.delattr(torch.nn.functional, "grouped_mm", raising=False)
    elif way == "one call" and not hasattr(torch.nn.functional, "grouped_mm"):
        pytest.skip("this PyTorch has no grouped_mm")
    onednn = way.startswith("oneDNN")
    if onednn and not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(native, "has_onednn", lambda dtype: onednn and dtype == torch.float32)
    monkeypatch.setattr(native, "_NARROW", 2**20 if way.endswith("narrow") else 0)
    return way


def surface(seed: int = 0, side: int = 30) -> torch.Tensor:
    """(M, 4) voxels of a floor and a wall with holes, in order of their coordinates."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.meshgrid(torch.arange(side), torch.arange(-9, side), indexing="ij")
    bump = torch.randint(0, 2, a.shape, generator=generator)
    planes = [torch.stack(p, -1).reshape(-1, 3) for p in ((a, b, bump), (a, bump - 9, b + 9))]
    cells = torch.unique(torch.cat(planes), dim=0)
    cells = cells[torch.rand(len(cells), generator=generator) < 0.9]
    return torch.nn.functional.pad(cells, (1, 0))


def by_definition(
    features: torch.Tensor, kernel: torch.Tensor, kernel_map: KernelMap
) -> torch.Tensor:
    """`y[u] = sum_k x[table[u, k]] @ W[k]` in float64, as a loop over the table."""
    padded = torch.cat([features, torch.zeros_like(features[:1])]).double()
    table = kernel_map.rows(0, kernel_map.num_outputs).t().long()
    products = [padded[table[:, k]] @ kernel[k].double() for k in range(len(kernel))]
    return torch.stack(products).sum(0)


@pytest.mark.parametrize(
    ("channels", "shuffled"),
    [((1, 6), True), ((3, 16), False), ((24, 8), True), ((6, 24), False), ((8, 30), False)],
)
@pytest.mark.parametrize(("strides", "size"), [((1, 1), 3), ((1, 1), 5), ((1, 2), 2), ((2, 1), 2)])
def test_many_small_chunks_on_two_threads(
    shuffled: bool,
    channels: tuple[int, int],
    strides: tuple[int, int],
    size: int,
    monkeypatch: pytest.MonkeyPatch,
    products: str,
    two_threads: None,
) -> None:
    monkeypatch.setattr(native, "_CHUNK_ROWS", 200)
    coordinates = surface()
    if shuffled:
        order = torch.randperm(len(coordinates), generator=torch.Generator().manual_seed(1))
        coordinates = coordinates[order]
    manager = CoordinateManager(coordinates)
    manager.downsample(1, 2)
    kernel_map = manager.kernel_map(*strides, size)
    assert len(kernel_map.chunks(200)) >= 3
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(kernel_map.num_inputs, channels[0], generator=generator)
    kernel = torch.randn(size**3, *channels, generator=generator)
    expected = by_definition(features, kernel, kernel_map)
    features.requires_grad_()
    kernel.requires_grad_()
    output = convolve(features, kernel, kernel_map)
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-4)

    weight = torch.randn(output.shape, generator=generator)
    mine = torch.autograd.grad((output * weight).sum(), [features, kernel])
    reference = by_definition(features, kernel, kernel_map)
    theirs = torch.autograd.grad((reference * weight).sum(), [features, kernel])
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("side", [10, 30])
@pytest.mark.parametrize("channels", [(6, 24), (24, 8)])
def test_the_number_of_threads_changes_nothing(
    side: int, channels: tuple[int, int], monkeypatch: pytest.MonkeyPatch, products: str
) -> None:
    monkeypatch.setattr(native, "_CHUNK_ROWS", 400)
    coordinates = surface(side=side)
    chunks = CoordinateManager(coordinates).kernel_map(1, 1, 3).chunks(100)
    assert len(chunks) > native._LANES if side == 30 else len(coordinates) < 400
    features = torch.randn(len(coordinates), channels[0], requires_grad=True)
    kernel = torch.randn(27, *channels, requires_grad=True)
    weight = torch.randn(len(coordinates), channels[1])
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            kernel_map = CoordinateManager(coordinates).kernel_map(1, 1, 3)
            output = convolve(features, kernel, kernel_map)
            gradients = torch.autograd.grad((output * weight).sum(), [features, kernel])
            results.append([output.detach(), *gradients])
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


@pytest.mark.parametrize(("channels", "together"), [((24, 8), True), ((6, 24), False)])
def test_products_in_one_call_have_the_bits_of_single_ones(
    channels: tuple[int, int], together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    grouped_mm: Any = getattr(torch.nn.functional, "grouped_mm", None)
    if grouped_mm is None:
        pytest.skip("this PyTorch has no grouped_mm")
    calls: list[int] = []

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(1)
        product: torch.Tensor = grouped_mm(*arguments, **options)
        return product

    monkeypatch.setattr(native, "has_onednn", lambda dtype: False)
    monkeypatch.setattr(torch.nn.functional, "grouped_mm", counted)
    coordinates = surface()
    features = torch.randn(len(coordinates), channels[0], requires_grad=True)
    kernel = torch.randn(27, *channels, requires_grad=True)

    def results() -> list[torch.Tensor]:
        kernel_map = CoordinateManager(coordinates).kernel_map(1, 1, 3)
        output = convolve(features, kernel, kernel_map)
        return [output, *torch.autograd.grad(output.square().sum(), [features, kernel])]

    first = results()
    assert bool(calls) == together
    monkeypatch.delattr(torch.nn.functional, "grouped_mm")
    output, features_gradient, kernel_gradient = results()
    assert torch.equal(output, first[0]) and torch.equal(features_gradient, first[1])
    # Sums of chunks are added up, or chunks to the sum.
    torch.testing.assert_close(kernel_gradient, first[2], rtol=1e-4, atol=1e-2)


def test_a_kernel_may_lie_in_memory_as_it_likes(products: str) -> None:
    coordinates = surface(side=12)
    kernel_map = CoordinateManager(coordinates).kernel_map(1, 1, 3)
    features = torch.randn(len(coordinates), 8)
    for kernel in (
        torch.randn(27, 8, 9)[:, :, :8],
        torch.randn(8, 8, 27).permute(2, 0, 1),
        torch.randn(27, 4, 8).transpose(1, 2),
    ):
        output = convolve(features, kernel, kernel_map)
        torch.testing.assert_close(
            output.double(), by_definition(features, kernel, kernel_map), rtol=1e-5, atol=1e-4
        )


def test_outputs_without_any_neighbour_are_zero(products: str) -> None:
    """Kernel 1 at stride 2 reads even coordinates alone, and here there are none."""
    cells = torch.arange(1, 4000, 2)[:, None].expand(-1, 4).clone()
    cells[:, 0] = 0
    manager = CoordinateManager(cells)
    manager.downsample(1, 2)
    kernel_map = manager.kernel_map(1, 2, 1)
    assert kernel_map.count == 0
    features = torch.randn(len(cells), 8, requires_grad=True)
    kernel = torch.randn(1, 8, 16, requires_grad=True)
    output = convolve(features, kernel, kernel_map)
    assert output.shape == (kernel_map.num_outputs, 16) and not output.any()
    gradients = torch.autograd.grad((output * torch.randn(output.shape)).sum(), [features, kernel])
    assert not any(gradient.any() for gradient in gradients)


@given(st.integers(1, 400), st.integers(1, 9), st.floats(0.0, 1.0), st.booleans(), st.integers(0))
def test_a_chunk_lists_every_pair_of_its_table_once(
    rows: int, volume: int, share: float, padded: bool, seed: int
) -> None:
    """Also where an output has no neighbour at all, or nobody has any."""
    generator = torch.Generator().manual_seed(seed % 2**32)
    there = torch.rand((volume, rows), generator=generator) < share
    table = torch.where(there, torch.randint(0, 50, there.shape, generator=generator), 50).int()
    kernel_map = KernelMap(50, rows, volume, lambda start, stop: table[:, start:stop])
    wanted = {(k, int(table[k, u]), u) for k, u in there.nonzero().tolist()}
    found: list[tuple[int, int, int]] = []
    for chunk in kernel_map.chunks(128, padded=padded):
        assert len(chunk.inputs) == len(chunk.outputs) == sum(chunk.sizes) == int(chunk.ends[-1])
        firsts = (chunk.ends - torch.tensor(chunk.sizes)).tolist()
        places = {
            place: (k, int(chunk.inputs[place]), chunk.start + int(chunk.outputs[place]))
            for k, (first, count) in enumerate(zip(firsts, chunk.counts, strict=True))
            for place in range(first, first + count)
        }
        bounds = chunk.bounds.tolist()
        assert len(bounds) == chunk.stop - chunk.start + 1
        for u in range(chunk.stop - chunk.start):
            mine = [places.pop(p) for p in chunk.order[bounds[u] : bounds[u + 1]].tolist()]
            assert all(output == chunk.start + u for _, _, output in mine)
            assert mine == sorted(mine), "in the order of the offsets"
            found += mine
        assert not places
    assert len(found) == len(wanted) and set(found) == wanted


@torch.inference_mode()
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("activate", [False, True])
@pytest.mark.parametrize("channels", [2, 24])
@pytest.mark.parametrize("rows", [200, 2**13])
def test_epilogue_is_bias_residual_and_rectifier(
    with_bias: bool,
    with_residual: bool,
    activate: bool,
    channels: int,
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native, "_CHUNK_ROWS", rows)
    manager = CoordinateManager(surface())
    features = torch.randn(len(manager.coordinates(1)), channels)
    bias = torch.randn(8) if with_bias else None
    residual = torch.randn(len(features), 8) if with_residual else None
    epilogue = Epilogue(bias, residual, activate)

    def finish(y: torch.Tensor) -> torch.Tensor:
        y = y + (0.0 if bias is None else bias) + (0.0 if residual is None else residual)
        return y.clamp(min=0.0) if activate else y

    kernel_map = manager.kernel_map(1, 1, 3)
    kernel = torch.randn(27, channels, 8)
    expected = finish(convolve(features, kernel, kernel_map))
    torch.testing.assert_close(convolve(features, kernel, kernel_map, epilogue), expected)
    expected = finish(features @ kernel[0])
    torch.testing.assert_close(pointwise(features, kernel[0], epilogue), expected)


@torch.inference_mode()
@pytest.mark.parametrize("config", [minkunet18a(2, 16), MinkUNetConfig(1, 8, 8, (8,) * 8)])
def test_folded_network_gives_the_same_features(config: MinkUNetConfig) -> None:
    torch.manual_seed(0)
    network = MinkUNet(config).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            assert layer.running_mean is not None and layer.running_var is not None
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.uniform_(layer.bias, -0.5, 0.5)
            torch.nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
    coordinates = surface()
    features = torch.randn(len(coordinates), config.in_channels)
    plain = network(SparseTensor(features, CoordinateManager(coordinates))).features
    folded = network.folded()
    quick = folded(SparseTensor(features, CoordinateManager(coordinates))).features
    assert float((quick - plain).abs().max()) < 1e-4 * float(plain.abs().max())
    assert not any(isinstance(layer, torch.nn.BatchNorm1d) for layer in folded.modules())
    again = network(SparseTensor(features, CoordinateManager(coordinates))).features
    assert torch.equal(again, plain), "folding must not change the network it was made from"


@torch.inference_mode()
def test_half_precision_is_summed_in_float32() -> None:
    """27 x 64 products of about the same size: sums in bfloat16 would lose the small ones."""
    torch.manual_seed(0)
    manager = CoordinateManager(surface())
    features = torch.rand(len(manager.coordinates(1)), 64)
    kernel = torch.rand(27, 64, 8)
    kernel_map = manager.kernel_map(1, 1, 3)
    exact = by_definition(features.bfloat16(), kernel.bfloat16(), kernel_map)
    half = convolve(features.bfloat16(), kernel.bfloat16(), kernel_map)
    assert half.dtype == torch.bfloat16
    # One rounding of the result (2**-9) and one of each product of an offset, of random sign.
    assert float(((half.double() - exact) / exact).abs().max()) < 2**-7


@given(st.integers(1, 100_000))
def test_standard_row_counts_are_few_and_close(rows: int) -> None:
    padded = standard_rows(rows)
    assert rows <= padded < 1.25 * rows + 128
    assert standard_rows(padded) == padded


def test_there_are_few_standard_row_counts() -> None:
    assert len({standard_rows(rows) for rows in range(1, 2**15 + 1)}) <= 40


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 127, 5000])
def test_products_equal_those_of_pytorch(dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(0)
    left = torch.randn(rows, 24).to(dtype)
    weight, bias = torch.randn(24, 40).to(dtype), torch.randn(40).to(dtype)
    error = 2e-2 if dtype == torch.bfloat16 else 1e-5
    product = left @ weight
    torch.testing.assert_close(
        multiply(left, weight, bias), product + bias, rtol=error, atol=10 * error
    )
    torch.testing.assert_close(pointwise(left, weight), product, rtol=error, atol=10 * error)


def test_pointwise_has_the_gradients_of_a_product() -> None:
    left, weight = torch.randn(3000, 12), torch.randn(12, 5)
    left.requires_grad_()
    weight.requires_grad_()
    mine = torch.autograd.grad(pointwise(left, weight).square().sum(), [left, weight])
    theirs = torch.autograd.grad((left @ weight).square().sum(), [left, weight])
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-2)


def test_work_is_done_once_each_and_on_more_than_one_thread(two_threads: None) -> None:
    names: dict[int, str] = {}
    both = threading.Barrier(2, timeout=30)

    def work(item: int) -> None:
        if item < 2:
            both.wait()  # passes only when two threads are here at once
        assert item not in names
        names[item] = threading.current_thread().name
        assert torch.get_num_threads() == 1
        assert not torch.is_grad_enabled()

    for_each(range(50), work)
    assert sorted(names) == list(range(50))
    assert len(set(names.values())) == 2
    assert torch.get_num_threads() == 2


def test_an_error_on_another_thread_is_raised_here(two_threads: None) -> None:
    def work(item: int) -> None:
        if item == 7:
            raise MemoryError("out of memory")

    with pytest.raises(MemoryError, match="out of memory"):
        for_each(range(20), work)


def test_work_may_ask_for_more_work(two_threads: None) -> None:
    done: list[tuple[int, int]] = []
    for_each(range(4), lambda i: for_each(range(4), lambda j: done.append((i, j))))
    assert sorted(done) == [(i, j) for i in range(4) for j in range(4)]


def test_without_more_threads_the_caller_works_alone() -> None:
    """In a process of its own: what cannot start must not keep it from ending."""
    code = """
import threading, torch
from sas_ros.sparse.parallel import for_each, lead
torch.set_num_threads(3)
start, allowed = threading.Thread.start, [2]
def limited(thread):
    if thread.name.startswith("sas-convolve"):
        allowed[0] -= 1
        if allowed[0] < 0:
            raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = limited
done = []
for_each(range(10), done.append)
assert sorted(done) == list(range(10)) and lead(lambda: 7) == 7
found = []
threading.Thread.start = start
thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
thread.start(); thread.join()
print(found[0], torch.get_num_threads())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3", "3"]


def test_making_a_team_leaves_the_default_of_other_threads() -> None:
    found: list[int] = []
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for_each(range(4), lambda _: None)
        torch.set_num_threads(5)
        for_each(range(10), lambda _: None)
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert found == [5] and torch.get_num_threads() == 5
    finally:
        torch.set_num_threads(before)


def test_second_derivatives_are_refused_and_folded_gradients_too() -> None:
    kernel_map = CoordinateManager(surface()).kernel_map(1, 1, 3)
    features = torch.randn(kernel_map.num_inputs, 8, requires_grad=True)
    kernel = torch.randn(27, 8, 4, requires_grad=True)
    output = convolve(features, kernel, kernel_map).square().sum()
    (gradient,) = torch.autograd.grad(output, features, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()
    with pytest.raises(SasError, match="inference"):
        convolve(features, kernel, kernel_map, Epilogue(activate=True))
    bias = torch.zeros(4, requires_grad=True)
    with pytest.raises(SasError, match="inference"):
        pointwise(features.detach(), kernel[0].detach(), Epilogue(bias))


def test_scattered_voxels_take_no_dense_volume() -> None:
    generator = torch.Generator().manual_seed(0)
    cells = torch.unique(torch.randint(0, 500, (20_000, 3), generator=generator), dim=0)
    manager = CoordinateManager(torch.nn.functional.pad(cells, (1, 0)))
    kernel_map = manager.kernel_map(1, 1, 3)
    (index,) = manager._indices.values()
    assert index._dense is None and index._sorted is not None
    manager.kernel_map(1, 1, 5)
    assert len(manager._indices) == 1, "maps of one stride share their index"
    features, kernel = torch.randn(len(cells), 4), torch.randn(27, 4, 8)
    # Every voxel by its neighbours' coordinates, as a dictionary has them.
    row = {tuple(cell): number for number, cell in enumerate(cells.tolist())}
    expected = torch.zeros(len(cells), 8)
    for number, cell in enumerate(cells.tolist()):
        for k, offset in enumerate(kernel_offsets(3).tolist()):
            there = row.get(tuple(a + b for a, b in zip(cell, offset, strict=True)))
            if there is not None:
                expected[number] += features[there] @ kernel[k]
    torch.testing.assert_close(
        convolve(features, kernel, kernel_map), expected, rtol=1e-5, atol=1e-4
    )
