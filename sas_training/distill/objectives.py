"""Objectives of distillation: what draws a student's features to what 2D teachers say.

With f_i the student's features on voxels, t_i those of the teachers, q(i) the superpoint of a
voxel, T_q and G_q the plain means of t_i and f_i over superpoint q (method reference 6.5):

- pixel-point (OpenScene's):      mean over i of 1 - cos(f_i, t_i)
- superpoint, of points:    L_p = mean over i of 1 - cos(f_i, T_q(i))
- superpoint, of themselves: L_sp = mean over q of 1 - cos(G_q, T_q)

The paper's stage 1 is L_p + L_sp. `contrastive` puts another distance in the place of 1 - cos: the
cross-entropy between the class distributions softmax(cos(., text) / temperature) of the two sides.
Text vectors are all alike, so that a small angle decides between words; 1 - cos hardly sees it.

Every loss is a sum here, to be divided by a number of terms that may be summed over several
batches and processes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from sas_ros.errors import SasError
from sas_training.distill.losses import scaled_cosine_logits

TARGETS = ("superpoint", "pixel")
DISTANCES = ("cosine", "contrastive")
_SMALL = 1e-12


@dataclass(frozen=True)
class ObjectiveSettings:
    """What stage 1 minimises.

    Attributes:
        targets: "superpoint" is the paper's L_p + L_sp, "pixel" the pixel-point baseline.
        distance: "cosine" is the paper's 1 - cos, "contrastive" compares class distributions.
        temperature: contrastive: of the student's distribution.
        teacher_temperature: contrastive: of the teachers' distribution, the soft targets.
        max_voxels: voxels that count in one part of a batch in one process, drawn at random: in
            stage 1 of those with a target, in stage 2 of all; 0 all. The released code has 20 000
            on each GPU.
    """

    targets: str = "superpoint"
    distance: str = "cosine"
    temperature: float = 0.04
    teacher_temperature: float = 0.04
    max_voxels: int = 0

    def __post_init__(self) -> None:
        if self.targets not in TARGETS:
            raise SasError(f"The targets {self.targets!r} are unknown; use {' or '.join(TARGETS)}.")
        if self.distance not in DISTANCES:
            raise SasError(
                f"The distance {self.distance!r} is unknown; use {' or '.join(DISTANCES)}."
            )
        for name in ("temperature", "teacher_temperature"):
            if not 1e-3 <= getattr(self, name) <= 100:
                raise SasError(f"The {name} must lie in 0.001 to 100, not {getattr(self, name):g}.")
        if self.max_voxels < 0:
            raise SasError(f"max_voxels must be 0 (all) or more, not {self.max_voxels}.")


class Targets(NamedTuple):
    """What the teachers say about T voxels of a batch.

    Attributes:
        features: (T, C) teacher features, of any length.
        superpoint: (T,) int64, 0 ... L-1, each of them at least once.
        superpoints: L.
    """

    features: torch.Tensor
    superpoint: torch.Tensor
    superpoints: int


@dataclass(frozen=True)
class StudentFeatures:
    """(M, C) features `trunk @ kernel`, never made as wide as that unless asked for.

    The last layer of a student is linear, so means and products with C-vectors can be taken on the
    narrow side: exact, and cheaper by the ratio of the widths.

    Attributes:
        trunk: (M, D) output of the network before its last layer.
        kernel: (D, C) that layer.
    """

    trunk: torch.Tensor
    kernel: torch.Tensor

    def rows(self, index: torch.Tensor) -> StudentFeatures:
        """The features of some voxels: (R,) int64 row numbers."""
        return StudentFeatures(self.trunk[index], self.kernel)

    def means(self, group: torch.Tensor, groups: int) -> StudentFeatures:
        """Plain means over groups: (M,) int64 group of each row; rows below 0 are in none."""
        inside = group >= 0
        return StudentFeatures(group_means(self.trunk[inside], group[inside], groups), self.kernel)

    def wide(self) -> torch.Tensor:
        """(M, C) the features themselves."""
        return self.trunk @ self.kernel

    def class_cosines(self, texts: torch.Tensor) -> torch.Tensor:
        """(M, K) cosines with unit text vectors (K, C)."""
        return scaled_cosine_logits(self.trunk, self.kernel, texts, 1.0)

    def class_products(self, texts: torch.Tensor) -> torch.Tensor:
        """(M, K) plain products with text vectors (K, C), the student's own length included."""
        return self.trunk @ (self.kernel @ texts.t())

    def cosines(self, targets: torch.Tensor, owner: torch.Tensor | None = None) -> torch.Tensor:
        """(M,) cosine of each feature with a target (Q, C): that of its row, or of `owner` (M,).

        0 where either side is zero.
        """
        narrow = targets @ self.kernel.t()
        lengths = targets.norm(dim=1)
        if owner is not None:
            narrow, lengths = narrow[owner], lengths[owner]
        gram = self.kernel @ self.kernel.t()
        own = ((self.trunk @ gram) * self.trunk).sum(1).clamp_min(_SMALL).sqrt()
        cosines: torch.Tensor = (self.trunk * narrow).sum(1) / (own * lengths.clamp_min(_SMALL))
        return cosines


def group_means(values: torch.Tensor, group: torch.Tensor, groups: int) -> torch.Tensor:
    """(groups, D) means of the rows (M, D) of each group (M,) int64; zero for a group of none."""
    total = values.new_zeros((groups, values.shape[1])).index_add(0, group, values)
    count = torch.bincount(group, minlength=groups).clamp_min(1)
    return total / count[:, None].to(values.dtype)


def soft_labels(features: torch.Tensor, texts: torch.Tensor, temperature: float) -> torch.Tensor:
    """(Q, K) softmax of the cosines of features (Q, C) with unit text vectors (K, C)."""
    cosines = nn.functional.normalize(features, dim=1) @ texts.t()
    return torch.softmax(cosines / temperature, dim=1)


def stage_one(
    student: StudentFeatures, targets: Targets, texts: torch.Tensor, settings: ObjectiveSettings
) -> dict[str, torch.Tensor]:
    """Sums of the stage-1 losses over T voxels, "points", and L superpoints, "superpoints".

    Args:
        student: of the T voxels of `targets`, in their order.
        texts: (K, C) unit text vectors; used by the contrastive distance alone.
    """
    if settings.targets == "pixel":
        return {"points": _distance(student, targets.features, None, texts, settings)}
    owner = targets.superpoint
    means = group_means(targets.features, owner, targets.superpoints)
    grouped = student.means(owner, targets.superpoints)
    return {
        "points": _distance(student, means, owner, texts, settings),
        "superpoints": _distance(grouped, means, None, texts, settings),
    }


def stage_one_terms(targets: Targets, settings: ObjectiveSettings) -> dict[str, int]:
    """How many terms each sum of `stage_one` has."""
    terms = {"points": len(targets.features)}
    if settings.targets == "superpoint":
        terms["superpoints"] = targets.superpoints
    return terms


def _distance(
    student: StudentFeatures,
    targets: torch.Tensor,
    owner: torch.Tensor | None,
    texts: torch.Tensor,
    settings: ObjectiveSettings,
) -> torch.Tensor:
    """Sum over the student's rows of the distance to their targets."""
    if settings.distance == "cosine":
        return (1 - student.cosines(targets, owner)).sum()
    wanted = soft_labels(targets, texts, settings.teacher_temperature)
    if owner is not None:
        wanted = wanted[owner]
    logits = student.class_cosines(texts) / settings.temperature
    return -(wanted * torch.log_softmax(logits, dim=1)).sum()


def cross_entropy(
    student: StudentFeatures,
    labels: torch.Tensor,
    texts: torch.Tensor,
    temperature: float,
    normalise: bool,
) -> torch.Tensor:
    """Sum of the cross-entropies with class labels (M,) int64; rows below 0 add nothing.

    Logits are the cosines with the unit text vectors (K, C), or with `normalise` false the plain
    products, divided by `temperature`.
    """
    known = torch.nonzero(labels >= 0).squeeze(1)
    rows = student.rows(known)
    products = rows.class_cosines(texts) if normalise else rows.class_products(texts)
    return nn.functional.cross_entropy(products / temperature, labels[known], reduction="sum")
