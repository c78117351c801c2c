"""Several processes that train one student, started by `torchrun`; or one process alone.

There is no wrapper around the network: each process makes the gradients of its share of the sums,
all divided by the same counts, and `sum_gradients` adds them up. The result is the gradient of the
whole batch in one process, however unequal the shares are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn

from sas_ros.errors import SasError
from sas_ros.sparse import SparseBatchNorm, SparseTensor
from sas_ros.student.inputs import choose_device
from sas_training.jobs import end_with


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        device: where this one computes.
        rank, world: its number, and how many there are.
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of `values` (any shape, any device) over all processes, the same in each."""
        if self.world == 1:
            return values
        total = values.to(self.device)
        total = total.clone() if total is values else total
        distributed.all_reduce(total)
        return total.to(values.device)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes; one that has none counts as zero."""
        if self.world == 1:
            return
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in wanted]
        flat = self.sum(torch.cat([part.reshape(-1) for part in parts]))
        start = 0
        for parameter, part in zip(wanted, parts, strict=True):
            stop = start + part.numel()
            parameter.grad = flat[start:stop].view_as(part)
            start = stop

    def average_statistics(self, network: nn.Module) -> None:
        """Make the running statistics of batch norms the mean of all processes'."""
        if self.world == 1:
            return
        buffers = [b for b in network.buffers() if b.is_floating_point()]
        flat = self.sum(torch.cat([buffer.reshape(-1) for buffer in buffers])) / self.world
        start = 0
        for buffer in buffers:
            stop = start + buffer.numel()
            buffer.copy_(flat[start:stop].view_as(buffer))
            start = stop

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.world > 1:
            self.sum(torch.zeros(1))


class SynchronisedNorm(nn.Module):
    """Batch norm over the voxels of all processes; key names as in `SparseBatchNorm`."""

    def __init__(self, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        self.bn = nn.SyncBatchNorm.convert_sync_batchnorm(norm)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return x.replace(self.bn(x.features))


def synchronise_norms(network: nn.Module) -> None:
    """Replace every batch norm by one over all processes; on GPUs, PyTorch has none for CPUs."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, SparseBatchNorm):
                setattr(module, name, SynchronisedNorm(child.bn))


@contextmanager
def joined(
    device: str, *, rank: int | None = None, world: int | None = None, meet: str = "env://"
) -> Iterator[Processes]:
    """Take part in the processes that `torchrun` started, and end with it; alone where it did not.

    Args:
        device: "auto", "cuda" or "cpu"; of several GPUs each process takes the one of its local
            rank.
        rank, world: instead of the environment variables RANK and WORLD_SIZE.
        meet: where processes find each other, as `torch.distributed` has it.

    Raises:
        SasError: environment variables that do not fit, or no device.
    """
    world = _variable("WORLD_SIZE", 1) if world is None else world
    rank = _variable("RANK", 0) if rank is None else rank
    chosen = choose_device(device)
    if world == 1:
        yield Processes(chosen)
        return
    if not 0 <= rank < world:
        raise SasError(f"RANK is {rank}, but WORLD_SIZE is {world}; start with torchrun.")
    if chosen.type == "cuda":
        local = _variable("LOCAL_RANK", 0)
        if local >= torch.cuda.device_count():
            raise SasError(
                f"Process {rank} wants GPU {local}, but PyTorch sees {torch.cuda.device_count()}; "
                "start as many processes on a machine as it has GPUs."
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    # One that outlives its launcher would write histories into the run that is started next.
    end_with(os.getppid())
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=meet, rank=rank, world_size=world)
    try:
        yield Processes(chosen, rank, world)
    finally:
        distributed.destroy_process_group()


def _variable(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise SasError(f"The environment variable {name} must be a whole number, not {text!r}.")
    return int(text)
