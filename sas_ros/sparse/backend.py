"""Which library convolves: chosen by name, or by measuring both once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeVar

import torch

from sas_ros.errors import SasError
from sas_ros.sparse import minkowski
from sas_ros.sparse.coordinates import CoordinateManager
from sas_ros.sparse.manager import Manager
from sas_ros.sparse.parallel import lead

BACKENDS = ("auto", "native", "minkowski")

_MAKE: dict[str, Callable[[torch.Tensor], Manager]] = {
    "native": CoordinateManager,
    "minkowski": minkowski.MinkowskiManager,
}
Result = TypeVar("Result")

_ROUNDS = 5
_CLEARLY = 1.25
_BUDGET_S = 1.0  # a start on a busy machine must not wait for all rounds


@dataclass(frozen=True)
class Backend:
    """`name`: native or minkowski; `reason`: one sentence on why it was chosen."""

    name: str
    reason: str

    def manager(self, coordinates: torch.Tensor) -> Manager:
        """The coordinate sets of one input: (M, 4) unique integer rows (batch, x, y, z)."""
        return _MAKE[self.name](coordinates)

    def run(self, work: Callable[[], Result], device: torch.device | str = "cpu") -> Result:
        """Call `work`, which runs a network on this backend without gradients, on the threads that
        suit it."""
        alone = self.name == "native" and torch.device(device).type == "cpu"
        return lead(work) if alone else work()


def choose_backend(name: str, device: torch.device | str = "cpu") -> Backend:
    """The backend called `name` for networks on `device`; one of `BACKENDS`.

    `auto` measures both on a small surface, once per process and number of threads. It takes
    minkowski where that is faster by a quarter: near a tie the choice would be chance, and results
    would differ between runs by their rounding. It takes native where MinkowskiEngine cannot be
    used, and on a GPU.

    Raises SasError when the name is unknown, or a backend that was named cannot be used.
    """
    device = torch.device(device)
    if name == "native":
        return Backend("native", "It was asked for.")
    if name == "minkowski":
        minkowski.check(device)
        return Backend("minkowski", "It was asked for.")
    if name != "auto":
        raise SasError(f"There is no backend {name!r}: choose one of {', '.join(BACKENDS)}.")
    if device.type != "cpu":
        return Backend("native", f"On {device} it is the only one that auto considers.")
    if not minkowski.is_installed():
        return Backend("native", "MinkowskiEngine is not installed.")
    try:
        minkowski.check(device)
    except SasError as error:
        return Backend("native", str(error))
    return _faster(torch.get_num_threads())


@cache
def _faster(threads: int) -> Backend:
    cells = _corner()
    seconds = _measure(cells)
    native, other = 1000 * seconds["native"], 1000 * seconds["minkowski"]
    figures = (
        f"native with {threads} thread{'s' if threads > 1 else ''} takes {native:.1f} ms and "
        f"minkowski, whose threads are those of OMP_NUM_THREADS, {other:.1f} ms on {len(cells)} "
        "voxels."
    )
    if other * _CLEARLY < native:
        return Backend("minkowski", f"It is clearly faster here: {figures}")
    if native <= other:
        return Backend("native", f"It is the faster one here: {figures}")
    return Backend("native", f"Neither is clearly faster here: {figures}")


def _corner(side: int = 40) -> torch.Tensor:
    """(M, 4) voxels of a floor and two walls: a surface, as scans are."""
    a, b = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    zero = torch.zeros_like(a)
    planes = [torch.stack(p, -1) for p in ((a, b, zero), (a, zero, b), (zero, a, b))]
    cells = torch.unique(torch.cat([plane.reshape(-1, 3) for plane in planes]), dim=0)
    return torch.nn.functional.pad(cells, (1, 0))


def _measure(cells: torch.Tensor) -> dict[str, float]:
    """Median seconds of a small encoder and decoder with its kernel maps, per backend; the
    backends take turns, so that whatever slows the machine for a while slows both."""
    generator = torch.Generator().manual_seed(0)
    # Kernel size, strides of input and output, channels: the layers most of a MinkUNet consists of.
    layers = [
        (size, strides, torch.randn((size**3, *channels), generator=generator) / 16)
        for size, strides, channels in (
            (5, (1, 1), (3, 32)),
            (2, (1, 2), (32, 32)),
            (3, (2, 2), (32, 64)),
            (3, (2, 2), (64, 64)),
            (2, (2, 1), (64, 96)),
            (3, (1, 1), (96, 96)),
        )
    ]

    @torch.inference_mode()
    def forward(backend: Backend) -> None:
        manager = backend.manager(cells)
        features = torch.ones((len(cells), 3))
        for size, (in_stride, out_stride), kernel in layers:
            if out_stride > in_stride:
                manager.downsample(in_stride, out_stride // in_stride)
            features = manager.convolve(features, kernel, in_stride, out_stride, size)

    seconds: dict[str, list[float]] = {name: [] for name in _MAKE}
    begun = time.perf_counter()
    for number in range(_ROUNDS + 1):
        if number > 1 and time.perf_counter() - begun > _BUDGET_S:
            break
        for name in _MAKE:
            backend = Backend(name, "It is being measured.")
            started = time.perf_counter()
            backend.run(partial(forward, backend))
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}
