"""The backend on MinkowskiEngine: the only module that imports that library.

Kernels have the same layout on both sides (reference 6.3), so nothing is converted: coordinate sets
and kernel maps are MinkowskiEngine's, parameters and layers are ours. It takes its threads from the
environment variable OMP_NUM_THREADS, whatever PyTorch was told later; with more than one its sums
are not bit-equal between runs.
"""

from __future__ import annotations

import collections
import collections.abc
import importlib.util
import os
import warnings
from functools import cache
from typing import Any

import torch

from sas_ros.errors import SasError
from sas_ros.sparse.epilogue import Epilogue

# Coordinates are int32 there, and neighbours must not overflow either.
_LARGEST_COORDINATE = 2**30


def is_installed() -> bool:
    """Whether the package is there, without importing it; it may still be broken."""
    return importlib.util.find_spec("MinkowskiEngine") is not None


def check(device: torch.device) -> None:
    """Raises SasError when MinkowskiEngine is missing, broken, or cannot compute on `device`."""
    engine = _engine()
    if device.type == "cpu" or (device.type == "cuda" and engine.is_cuda_available()):
        return
    raise SasError(
        f"This build of MinkowskiEngine computes on the CPU only, not on {device}: choose the "
        "backend native, or the device cpu."
    )


def quantise(coordinates: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """MinkowskiEngine's own way from (N, 3) places in voxels to distinct voxels, and the voxel of
    every place; for comparison only. Raises SasError when it cannot be used."""
    found: tuple[torch.Tensor, ...] = _engine().utils.sparse_quantize(
        coordinates, return_index=True, return_inverse=True
    )
    return found


class MinkowskiManager:
    """As `CoordinateManager`, with MinkowskiEngine's maps and convolutions.

    Args:
        coordinates: (M, 4) integer tensor of unique rows (batch, x, y, z) at stride 1. Coordinates
            may be negative. Rows at stride 1 keep this order; coarser rows have the engine's.

    Raises SasError when MinkowskiEngine is missing, or the coordinates are empty, ill-shaped,
    repeated or too far away.
    """

    def __init__(self, coordinates: torch.Tensor) -> None:
        if coordinates.ndim != 2 or coordinates.shape[1] != 4:
            raise SasError(
                f"Voxel coordinates need shape (M, 4) (batch, x, y, z), not "
                f"{tuple(coordinates.shape)}."
            )
        if len(coordinates) == 0:
            raise SasError("There are no voxels: the cloud is empty.")
        check(coordinates.device)
        if int(coordinates.abs().amax()) > _LARGEST_COORDINATE:
            raise SasError("The voxel coordinates span too large a volume for MinkowskiEngine.")
        kinds = _engine().CoordinateMapType
        kind = kinds.CPU if coordinates.device.type == "cpu" else kinds.CUDA
        self._manager = _engine().CoordinateManager(D=3, coordinate_map_type=kind)
        cells = coordinates.int().contiguous()
        key, _ = self._manager.insert_and_map(cells, tensor_stride=1)
        kept = self._manager.get_coordinates(key)
        if len(kept) != len(cells):
            raise SasError(
                f"{len(cells) - len(kept)} voxels occur twice; a backend needs each one once."
            )
        if not torch.equal(kept, cells):
            raise SasError(
                "This build of MinkowskiEngine changes the order of the voxels: choose the "
                "backend native."
            )
        self._keys = {1: key}
        self._sets = {1: coordinates.long()}

    def coordinates(self, stride: int) -> torch.Tensor:
        """(M, 4) int64 coordinates of a stride in finest-level units; made by `downsample`."""
        if stride not in self._sets:
            self._sets[stride] = self._manager.get_coordinates(self._keys[stride]).long()
        return self._sets[stride]

    def has_stride(self, stride: int) -> bool:
        return stride in self._keys

    def downsample(self, stride: int, factor: int) -> None:
        """Make the coordinate set of `stride * factor`: unique floor(c / new) * new."""
        if stride * factor not in self._keys:
            self._keys[stride * factor] = self._manager.stride(self._keys[stride], factor)

    def convolve(
        self,
        features: torch.Tensor,
        kernel: torch.Tensor,
        in_stride: int,
        out_stride: int,
        kernel_size: int,
        epilogue: Epilogue | None = None,
    ) -> torch.Tensor:
        """Features (num_inputs, in) of `in_stride` to (num_outputs, out) of `out_stride`; a smaller
        `out_stride` is a transposed convolution."""
        finer, coarser = sorted((in_stride, out_stride))
        if out_stride < in_stride:
            function = _engine().MinkowskiConvolutionTransposeFunction
        else:
            function = _engine().MinkowskiConvolutionFunction
        result: torch.Tensor = function.apply(
            features,
            kernel.contiguous(),
            _kernel_generator(kernel_size, coarser // finer),
            _default_mode(),
            self._keys[in_stride],
            self._keys[out_stride],
            self._manager,
        )
        return result if epilogue is None else epilogue.finish(result)


@cache
def _kernel_generator(kernel_size: int, stride: int) -> Any:
    engine = _engine()
    kind = engine.RegionType.HYPER_CUBE
    return engine.KernelGenerator(kernel_size, stride, region_type=kind, dimension=3)


@cache
def _default_mode() -> Any:
    from MinkowskiEngineBackend._C import ConvolutionMode

    return ConvolutionMode.DEFAULT


@cache
def _engine() -> Any:
    """The package MinkowskiEngine; raises SasError when it is missing or broken."""
    if not is_installed():
        raise SasError(
            "MinkowskiEngine is not installed: choose the backend native, which needs nothing "
            "else, or run `make all` in the repository, which builds it."
        )
    if not hasattr(collections, "Sequence"):
        # The last release still looks for it where Python 3.9 had it.
        collections.Sequence = collections.abc.Sequence  # type: ignore[attr-defined]
    threads = os.environ.get("OMP_NUM_THREADS")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this build is for CPUs only, and the like
            import MinkowskiEngine
        return MinkowskiEngine
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise SasError(
            f"MinkowskiEngine is installed but cannot be imported ({reason}): choose the backend "
            "native, or build it anew for this PyTorch with `make all` in the repository."
        ) from error
    finally:
        # On large machines the import writes this variable, which child processes would inherit.
        if threads is None:
            os.environ.pop("OMP_NUM_THREADS", None)
