"""A student's network, ready to run: on which device, with which library, in which precision."""

from __future__ import annotations

import torch

from sas_ros.errors import SasError
from sas_ros.sparse import SparseTensor
from sas_ros.sparse.backend import Backend, choose_backend
from sas_ros.sparse.native import has_onednn
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.inputs import choose_device

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
"""What features and weights are stored and multiplied in; sums over neighbours are float32."""

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class StudentEngine:
    """Runs the network of a bundle, without gradients, its batch norms folded into the kernels.

    Args:
        bundle: the student.
        device: "auto", "cuda" or "cpu".
        backend: "auto", "native" or "minkowski", see `sas_ros.sparse.backend`.
        precision: one of `PRECISIONS`; auto is float16 on a GPU and float32 on a CPU.

    Attributes:
        device: where it runs.
        dtype: what it stores.
        backend: which library convolves, and why.

    Raises SasError when something that was named does not exist or cannot be had here.
    """

    def __init__(
        self,
        bundle: StudentBundle,
        *,
        device: str = "auto",
        backend: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.device = choose_device(device)
        if backend == "minkowski" and precision == "auto":
            precision = "float32"
        self.dtype = _choose_precision(precision, self.device)
        self.backend = _choose_backend(backend, self.device, self.dtype)
        network = bundle.network()
        self.config = network.config
        self._network = network.folded().to(self.device, self.dtype)

    @property
    def description(self) -> str:
        """One sentence for people: device, precision, backend and why that one."""
        precision = str(self.dtype).removeprefix("torch.")
        return f"{self.backend.name} on {self.device} in {precision}. {self.backend.reason}"

    @torch.no_grad()  # not inference mode: its tensors could not be used with gradients later
    def forward(self, coordinates: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Raw features (M, C) of `dtype`, on the device.

        Args:
            coordinates: (M, 4) unique integer voxels (batch, x, y, z).
            inputs: (M, in) float32 input channels, see `input_features`.
        """

        def run() -> torch.Tensor:
            manager = self.backend.manager(coordinates.to(self.device))
            features = inputs.to(self.device, self.dtype)
            output: torch.Tensor = self._network(SparseTensor(features, manager)).features
            return output

        return self.backend.run(run, self.device)


def _choose_backend(name: str, device: torch.device, dtype: torch.dtype) -> Backend:
    if dtype is torch.float32:
        return choose_backend(name, device)
    if name == "minkowski":
        raise SasError(
            "MinkowskiEngine computes in float32 only: choose that precision, or the backend "
            "native."
        )
    native = choose_backend("native", device)
    return (
        native if name == "native" else Backend("native", "It is the only one in half precision.")
    )


def _choose_precision(name: str, device: torch.device) -> torch.dtype:
    if name not in PRECISIONS:
        raise SasError(f"There is no precision {name!r}: choose one of {', '.join(PRECISIONS)}.")
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name == "float16" and device.type == "cpu":
        raise SasError(
            "float16 is for GPUs; on a CPU choose float32, or bfloat16 where the processor has "
            "instructions for it."
        )
    if name == "bfloat16" and device.type == "cpu" and not has_onednn(torch.bfloat16):
        raise SasError(
            "This processor, or this PyTorch, has no bfloat16 products that are worth having; "
            "choose float32."
        )
    return _DTYPES[name]
