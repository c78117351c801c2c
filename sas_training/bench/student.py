"""`sas bench student`: the network against its floor."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch

from sas_ros.errors import SasError
from sas_ros.sparse import CoordinateManager, SparseTensor
from sas_ros.sparse.backend import Backend, choose_backend
from sas_ros.sparse.native import multiply
from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig
from sas_training.bench.timing import alternate, machine


def room_surface(voxels: int) -> torch.Tensor:
    """About `voxels` coordinates (M, 4) of floors, walls and boxes: surfaces, as scans are."""
    side = max(8, int((voxels / 2.6) ** 0.5))
    rng = np.random.default_rng(0)
    span = np.arange(side)
    a, b = (grid.reshape(-1) for grid in np.meshgrid(span, span, indexing="ij"))
    zero = np.zeros_like(a)
    low = b < side * 0.45
    parts = [np.stack([a, b, zero], 1)]
    parts += [np.stack(p, 1) for p in ((a[low], zero[low], b[low]), (zero[low], a[low], b[low]))]
    for _ in range(12):
        x, y = rng.integers(2, max(3, side - side // 6), size=2)
        top = int(side * rng.uniform(0.05, 0.25))
        box = (a < side // 7) & (b < side // 7)
        parts.append(np.stack([a[box] + x, b[box] + y, zero[box] + top], 1))
        edge = (a < side // 7) & (b < top)
        parts.append(np.stack([a[edge] + x, zero[edge] + y, b[edge]], 1))
        parts.append(np.stack([zero[edge] + x, a[edge] + y, b[edge]], 1))
    cells = np.unique(np.concatenate(parts), axis=0)
    return torch.from_numpy(np.c_[np.zeros(len(cells), np.int64), cells])


def bench_student(
    config: MinkUNetConfig, voxels: int, rounds: int, train: bool = False
) -> dict[str, Any]:
    """Forward pass with its kernel maps on each engine, same weights, and the time of its matrix
    products alone; with `train` also forward and backward, in training mode.

    Returns keys `native_s`, `minkowski_s`, `speedup_vs_minkowski`, `floor_s` with `torch.mm` and
    `floor_own_s` with the product of the native engine, `ratio_to_floor` and `ratio_to_floor_own`
    of `native_s`, `voxels`, `threads`, with `train` the times and the speed-up of `native_train_s`
    as well, and those of `timing.machine`. The times of MinkowskiEngine are null where it is
    missing, and `note` says why.
    """
    torch.manual_seed(0)
    network = MinkUNet(config).eval()
    coordinates = room_surface(voxels)
    features = torch.ones((len(coordinates), config.in_channels))
    engines, note = _engines()

    # The form a robot runs, on both engines: MinkowskiEngine gains from it as well.
    folded = network.folded()
    jobs: dict[str, Callable[[], object]] = {}
    for name, engine in engines.items():
        jobs[f"{name}_s"] = partial(_forward, folded, engine, coordinates, features)
    jobs |= _floors(network, coordinates, features)
    if train:
        student = deepcopy(network).train()
        for name, engine in engines.items():
            jobs[f"{name}_train_s"] = partial(
                _forward_backward, student, engine, coordinates, features
            )
    seconds = alternate(jobs, rounds)
    return {
        **seconds,
        **_speedup(seconds, ""),
        **(_speedup(seconds, "_train") if train else {}),
        **({"note": note} if note else {}),
        "ratio_to_floor": seconds["native_s"] / seconds["floor_s"],
        "ratio_to_floor_own": seconds["native_s"] / seconds["floor_own_s"],
        "voxels": len(coordinates),
        "parameters": sum(p.numel() for p in network.parameters()),
        **machine(),
    }


def _engines() -> tuple[dict[str, Backend], str]:
    """The engines that run here, and why one does not."""
    engines = {"native": choose_backend("native")}
    try:
        engines["minkowski"] = choose_backend("minkowski")
    except SasError as error:
        return engines, str(error)
    return engines, ""


def _speedup(seconds: dict[str, float], kind: str) -> dict[str, float | None]:
    native, other = seconds[f"native{kind}_s"], seconds.get(f"minkowski{kind}_s")
    return {
        f"minkowski{kind}_s": other,
        f"speedup{kind}_vs_minkowski": None if other is None else other / native,
    }


@torch.inference_mode()
def _forward(
    network: MinkUNet, engine: Backend, coordinates: torch.Tensor, features: torch.Tensor
) -> torch.Tensor:
    def run() -> torch.Tensor:
        output: SparseTensor = network(SparseTensor(features, engine.manager(coordinates)))
        return output.features

    return engine.run(run)


def _forward_backward(
    network: MinkUNet, engine: Backend, coordinates: torch.Tensor, features: torch.Tensor
) -> None:
    network.zero_grad()
    output = network(SparseTensor(features, engine.manager(coordinates))).features
    output.square().mean().backward()


def _floors(
    network: MinkUNet, coordinates: torch.Tensor, features: torch.Tensor
) -> dict[str, Callable[[], object]]:
    """The matrix products of a pass and nothing else: with the product that the native engine
    uses, and with `torch.mm` into a buffer that is there."""
    products = _matrix_products(network, CoordinateManager(coordinates), features)
    source = torch.randn(max(rows * a for rows, a, _, _ in products))
    target = torch.empty(max(rows * b for rows, _, b, _ in products))

    @torch.inference_mode()
    def run(product: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], object]) -> None:
        for rows, channels_in, channels_out, repeats in products:
            left = source[: rows * channels_in].view(rows, channels_in)
            right = source[: channels_in * channels_out].view(channels_in, channels_out)
            result = target[: rows * channels_out].view(rows, channels_out)
            for _ in range(repeats):
                product(left, right, result)

    return {
        "floor_own_s": partial(run, lambda left, right, _: multiply(left, right)),
        "floor_s": partial(run, lambda left, right, out: torch.mm(left, right, out=out)),
    }


@torch.inference_mode()
def _matrix_products(
    network: MinkUNet, manager: CoordinateManager, features: torch.Tensor
) -> list[tuple[int, int, int, int]]:
    """(rows, in, out, repeats) of every dense product a pass cannot do without: per layer, the
    occupied pairs of its kernel map spread evenly over the offsets."""
    from sas_ros.sparse import SparseConvolution, SparseConvolutionTranspose

    products: list[tuple[int, int, int, int]] = []

    def record(layer: Any, inputs: tuple[SparseTensor], output: SparseTensor) -> None:
        tensor = inputs[0]
        if layer.kernel.ndim == 2:
            products.append((len(tensor.features), *layer.kernel.shape, 1))
            return
        pairs = manager.kernel_map(tensor.stride, output.stride, layer.kernel_size).count
        volume, channels_in, channels_out = layer.kernel.shape
        products.append((max(1, pairs // volume), channels_in, channels_out, volume))

    hooks = [
        layer.register_forward_hook(record)
        for layer in network.modules()
        if isinstance(layer, SparseConvolution | SparseConvolutionTranspose)
    ]
    network(SparseTensor(features, manager))
    for hook in hooks:
        hook.remove()
    return products
