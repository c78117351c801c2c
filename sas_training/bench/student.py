"""`sas bench student` and `sas bench query`: the network, and a question, against their floors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sas_ros.matching import match_probability
from sas_ros.sparse import CoordinateManager, SparseTensor
from sas_ros.student.bundle import StudentBundle
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


@torch.inference_mode()
def bench_student(config: MinkUNetConfig, voxels: int, rounds: int) -> dict[str, Any]:
    """Forward pass with its kernel maps, and the time of its matrix products alone.

    Returns keys `native_s`, `floor_s`, `ratio_to_floor`, `voxels`, `threads` and others of
    `timing.machine`. `minkowski_s` is null: that backend is not part of this version.
    """
    torch.manual_seed(0)
    network = MinkUNet(config).eval()
    coordinates = room_surface(voxels)
    features = torch.ones((len(coordinates), config.in_channels))

    def forward() -> torch.Tensor:
        output: torch.Tensor = network(
            SparseTensor(features, CoordinateManager(coordinates))
        ).features
        return output

    products = _matrix_products(network, SparseTensor(features, CoordinateManager(coordinates)))

    def floor() -> None:
        for rows, channels_in, channels_out, repeats in products:
            left = scratch[: rows * channels_in].view(rows, channels_in)
            right = scratch[: channels_in * channels_out].view(channels_in, channels_out)
            for _ in range(repeats):
                torch.mm(left, right)

    scratch = torch.randn(max(rows * a for rows, a, _, _ in products))
    seconds = alternate({"native_s": forward, "floor_s": floor}, rounds)
    return {
        **seconds,
        "minkowski_s": None,
        "speedup_vs_minkowski": None,
        "ratio_to_floor": seconds["native_s"] / seconds["floor_s"],
        "voxels": len(coordinates),
        "parameters": sum(p.numel() for p in network.parameters()),
        **machine(),
    }


def _matrix_products(network: MinkUNet, x: SparseTensor) -> list[tuple[int, int, int, int]]:
    """(rows, in, out, repeats) of every dense product a pass cannot do without: per layer, the
    occupied pairs of its kernel map spread evenly over the offsets."""
    from sas_ros.sparse import SparseConvolution, SparseConvolutionTranspose

    products: list[tuple[int, int, int, int]] = []

    def record(layer: Any, inputs: tuple[SparseTensor], output: SparseTensor) -> None:
        tensor = inputs[0]
        if layer.kernel.ndim == 2:
            products.append((len(tensor.features), *layer.kernel.shape, 1))
            return
        table = tensor.manager.kernel_map(tensor.stride, output.stride, layer.kernel_size).table
        pairs = int((table < len(tensor.features)).sum())
        volume, channels_in, channels_out = layer.kernel.shape
        products.append((max(1, pairs // volume), channels_in, channels_out, volume))

    hooks = [
        layer.register_forward_hook(record)
        for layer in network.modules()
        if isinstance(layer, SparseConvolution | SparseConvolutionTranspose)
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return products


def bench_query(bundle: StudentBundle, elements: int, rounds: int) -> dict[str, Any]:
    """A query with cached text on `elements` elements against one read of their features."""
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(
        torch.randn((elements, bundle.feature_dim), generator=generator), dim=1
    )
    query = bundle.vocabulary.embeddings[0]
    seconds = alternate(
        {
            "query_s": lambda: match_probability(
                features, query, bundle.vocabulary, None, bundle.calibration
            ),
            "floor_s": lambda: features.sum(),
        },
        rounds,
    )
    return {
        **seconds,
        "ratio_to_floor": seconds["query_s"] / seconds["floor_s"],
        "elements": elements,
        "feature_dim": bundle.feature_dim,
        **machine(),
    }
