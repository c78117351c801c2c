"""Learning rates, and a network that computes in half precision."""

from __future__ import annotations

import torch
from torch import nn

from sas_ros.sparse import SparseBatchNorm, SparseTensor
from sas_ros.student.minkunet import MinkUNet
from sas_training.distill.objectives import StudentFeatures
from sas_training.distill.parallel import SynchronisedNorm
from sas_training.distill.recipes import ScheduleSettings


def learning_rate(settings: ScheduleSettings, step: int, steps: int) -> float:
    """The learning rate of a step, 0 ... steps - 1, of a stage of so many.

    "linear" goes from `learning_rate` in the first step to `final_learning_rate` in the last;
    "poly" is `learning_rate` times (1 - step / steps) to the power (method reference 6.6).
    """
    rate = settings.learning_rate
    if settings.schedule == "linear":
        progress = step / max(1, steps - 1)
        rate += (settings.final_learning_rate - rate) * progress
    elif settings.schedule == "poly":
        rate *= (1 - step / max(1, steps)) ** settings.power
    return rate * min(1.0, (step + 1) / max(1, settings.warmup))


class Trunk(nn.Module):
    """A student up to its last layer, which computes in `dtype` with weights kept in float32.

    Kernels are cast on the way, so that their gradients come back in float32; norms stay as they
    are. The last layer is left to float32: its products decide between words that are all alike.
    """

    def __init__(self, network: MinkUNet, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network, self._dtype = network, dtype

    def forward(self, x: SparseTensor) -> torch.Tensor:
        """(M, D) output of the trunk in `dtype`."""
        return self.network.trunk(x).features

    def features(self, x: SparseTensor) -> StudentFeatures:
        """The student's features on voxels, float32."""
        if self._dtype == torch.float32:
            trunk: torch.Tensor = self(x)
        else:
            cast = {
                name: parameter.to(self._dtype)
                for name, parameter in self.named_parameters()
                if name.endswith(".kernel")
            }
            x = x.replace(x.features.to(self._dtype))
            trunk = torch.func.functional_call(self, cast, (x,))
        return StudentFeatures(trunk.float(), self.network.final.kernel)


def freeze_norms(network: nn.Module) -> None:
    """Make batch norms use their running statistics and leave these alone, as in evaluation."""
    for module in network.modules():
        if isinstance(module, (SparseBatchNorm, SynchronisedNorm)):
            module.eval()
