"""Stage 2, temporal-ensembling self-distillation: a student learns from its own history.

The history H_i of every point averages what the student said about it over epochs
(`sas_training.distill.history`); Hsp_q is its mean over superpoint q. In the last epochs their
classes are labels (method reference 6.7):

    L = CE(logits of f_i, cls(H_i)) + CE(logits of G_q, cls(Hsp_q)),    added to the stage-1 loss.

Equation 11 of the paper averages features as the student puts them out:

    H_i <- a H_i + (1 - a) f_i,    cls(H_i) = argmax over the words of H_i . text.

Variant `literal` does just that, from H = 0 on, and its logits are the plain products f . text.
Variant `paper`, the default, departs from it in two things beside the logits (below):

- `normalise`: the history averages cosines, that is features of length one, since the cosine losses
  of stage 1 leave the length free: it may differ between epochs and points. In the paper a long
  feature counts more, so that labels of points and of superpoints can differ;
- `bias_correction`: H_i / (1 - a^n) after n updates. No point's own label differs; but crops see
  some points of a superpoint more often than others. Without it these weigh more in the mean of the
  superpoint, with it all weigh the same, so that its label can differ.

Where paper and released code differ, variant `paper` is the paper and `released` the code:

- losses: stage 1 goes on beside the new ones for the last 30 of 100 epochs - a second run of up to
  100 epochs, with a fresh optimiser and learning rate, has only the new ones;
- start of the history: not mentioned, here `history_epoch`, ten epochs before its first use - one
  pass over all whole scenes, turned and scaled but neither bent nor mirrored (other styles of
  augmentation than `reference` leave them as they are), averaged over superpoints;
- what is averaged: the paper does not say in what view of a scene f is; here (`views`) what the
  student says about whole scenes as they lie in the file, with averaged weights where it has any,
  in a pass over all of them every `history_every` epochs - what it says in training, of distorted
  scenes with the weights of every step, as in variant `literal`. Crops that are thinned out make
  poor labels, and a student that learns these makes poorer ones (docs/experiment.md, Controls);
- alpha: no value, 0.9 here - 0.9999, so that the history hardly moves;
- label of a point: cls(H_i) - that of its superpoint;
- logits: products in the equations, here cosines / 0.04, since stage 1 leaves the length of
  features free - plain products, no temperature;
- voxels of the new losses: all - at most `objective.max_voxels` on each GPU, 20 000;
- superpoint means: over the points of the superpoint that have a history, in both - over voxels of
  the sample in the code, which hardly differs where histories began as means of superpoints.

Voxels that no teacher has seen take part too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_training.distill.feature_batches import FeatureBatch, ScenePart
from sas_training.distill.history import PRECISIONS, History, SceneHistory
from sas_training.distill.objectives import StudentFeatures, cross_entropy

VARIANTS = ("paper", "released", "literal", "none")
VIEWS = ("whole", "training")
POINT_LABELS = ("own", "superpoint")


@dataclass(frozen=True)
class SelfDistillation:
    """How a student learns from its history.

    Attributes:
        variant: name of the preset that the other values began as; "none" leaves stage 2 out.
        start_epoch: epochs of stage 1 before the new losses begin.
        history_epoch: epochs before the history begins.
        views: what the history averages: "whole", what the student that would be exported says
            about whole scenes, or "training", what the trained one says about its samples.
        history_every: epochs from one pass over whole scenes to the next; for "whole" alone.
        alpha: weight of the past in the history.
        bias_correction: divide by 1 - alpha^n, so that the first update counts in full, and points
            of few updates as much as others in the mean of their superpoint.
        temperature: that the logits of the new losses are divided by.
        normalise: history and logits are of cosines, not of plain products.
        point_labels: "own" or "superpoint".
        keep_stage_one: the stage-1 loss goes on beside the new ones.
        initialise: fill histories that are empty when stage 2 begins by a pass over whole scenes.
        fresh_optimiser: begin stage 2 with a new optimiser and learning rate.
        weight: of the new losses.
        classes: label set or file of words whose embeddings make the labels; empty: the student's.
        precision: numbers of the stored history.
    """

    variant: str = "paper"
    start_epoch: int = 70
    history_epoch: int = 60
    views: str = "whole"
    history_every: int = 1
    alpha: float = 0.9
    bias_correction: bool = True
    temperature: float = 0.04
    normalise: bool = True
    point_labels: str = "own"
    keep_stage_one: bool = True
    initialise: bool = False
    fresh_optimiser: bool = False
    weight: float = 1.0
    classes: str = ""
    precision: str = "float16"

    def __post_init__(self) -> None:
        known = {
            "variant": VARIANTS,
            "views": VIEWS,
            "point_labels": POINT_LABELS,
            "precision": tuple(PRECISIONS),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise SasError(
                    f"The {name} {getattr(self, name)!r} is unknown; use {' or '.join(values)}."
                )
        if not 0 <= self.history_epoch <= self.start_epoch:
            raise SasError(
                f"The history must begin in epoch 0 to {self.start_epoch}, where its labels are "
                f"first used, not in {self.history_epoch}."
            )
        if self.initialise and self.views == "whole":
            raise SasError(
                "initialise is for histories of what a student says in training (views = "
                '"training"); with views = "whole" they begin with a pass over whole scenes anyway.'
            )
        if not 1 <= self.history_every <= 1_000_000:
            raise SasError(f"history_every must be 1 epoch or more, not {self.history_every}.")
        if not 0 <= self.alpha < 1:
            raise SasError(f"alpha must lie in 0 to below 1, not {self.alpha:g}.")
        if not 1e-3 <= self.temperature <= 1000:
            raise SasError(f"The temperature must lie in 0.001 to 1000, not {self.temperature:g}.")
        if not 0 < self.weight <= 1000:
            raise SasError(f"The weight must lie above 0, up to 1000, not {self.weight:g}.")

    @property
    def used(self) -> bool:
        return self.variant != "none"


def variant(name: str) -> SelfDistillation:
    """The preset of a name in `VARIANTS`."""
    if name == "literal":
        return SelfDistillation(
            variant=name,
            views="training",
            bias_correction=False,
            temperature=1.0,
            normalise=False,
        )
    if name != "released":
        return SelfDistillation(variant=name)
    return SelfDistillation(
        variant=name,
        start_epoch=100,
        history_epoch=100,
        views="training",
        alpha=0.9999,
        bias_correction=False,
        temperature=1.0,
        normalise=False,
        point_labels="superpoint",
        keep_stage_one=False,
        initialise=True,
        fresh_optimiser=True,
    )


class PseudoLabels(NamedTuple):
    """What the history says about a batch.

    Attributes:
        voxels: (M,) int64 class of every voxel, -1 for none.
        superpoints: (S,) int64 class of every superpoint of the batch, -1 for none.
    """

    voxels: torch.Tensor
    superpoints: torch.Tensor


def class_scores(
    student: StudentFeatures, texts: torch.Tensor, settings: SelfDistillation
) -> npt.NDArray[np.float32]:
    """(M, K) what the history averages: cosines or products with the text vectors (K, C)."""
    with torch.no_grad():
        normalise = settings.normalise
        scores = student.class_cosines(texts) if normalise else student.class_products(texts)
        return scores.float().cpu().numpy()


def remember(
    history: History,
    batch: FeatureBatch,
    scores: npt.NDArray[np.float32],
    step: int,
    settings: SelfDistillation,
) -> list[SceneHistory]:
    """Put the scores (M, K) of a batch's voxels into the histories of its scenes, on disk too.

    A point takes the score of the voxel it lies in; points that the sample left out keep theirs.

    Returns the new history of each scene of the batch.
    """
    states = []
    for part in batch.parts:
        old = history.read(part.scene, part.scene_points)
        new = old.updated(
            part.points, scores[part.voxels], settings.alpha, settings.bias_correction
        )
        history.write(part.scene, step, new)
        states.append(new)
    return states


def recall(history: History, batch: FeatureBatch, step: int) -> list[SceneHistory]:
    """The histories of a batch's scenes as they were after a step; SasError where one is not there.

    That of no other step will do: another process may be further, or its files come late.
    """
    return [history.read_at(part.scene, part.scene_points, step) for part in batch.parts]


def initial_state(
    part: ScenePart, scores: npt.NDArray[np.float32], settings: SelfDistillation
) -> SceneHistory:
    """The history a scene begins with: scores (M, K) of its voxels, averaged over superpoints."""
    state = SceneHistory.empty(part.scene_points, scores.shape[1], settings.precision)
    state = state.updated(part.points, scores[part.voxels], 0.0)
    means = state.superpoint_scores(part.scene_superpoint)
    rows = np.where(part.scene_superpoint >= 0, part.scene_superpoint, 0)
    inside = (part.scene_superpoint >= 0) & (state.updates > 0)
    averaged = np.where(inside[:, None], means[rows] if len(means) else 0.0, state.scores)
    return SceneHistory(averaged.astype(state.scores.dtype), state.updates)


def pseudo_labels(
    batch: FeatureBatch, states: list[SceneHistory], settings: SelfDistillation
) -> PseudoLabels:
    """cls of the histories `states` of a batch's scenes, for its voxels and superpoints."""
    voxels, superpoints = [], []
    for part, state in zip(batch.parts, states, strict=True):
        of_scene = state.superpoint_labels(part.scene_superpoint)
        labels = state.labels(part.representative)
        if settings.point_labels == "superpoint" and len(of_scene):
            owner = part.scene_superpoint[part.representative]
            labels = np.where(owner >= 0, of_scene[np.maximum(owner, 0)], labels)
        voxels.append(labels)
        superpoints.append(of_scene[part.superpoints])
    return PseudoLabels(
        torch.from_numpy(np.concatenate(voxels)), torch.from_numpy(np.concatenate(superpoints))
    )


def stage_two(
    student: StudentFeatures,
    batch: FeatureBatch,
    labels: PseudoLabels,
    texts: torch.Tensor,
    settings: SelfDistillation,
) -> dict[str, torch.Tensor]:
    """Sums of the new losses over the voxels that count, "self_points", and their superpoints,
    "self_superpoints".

    Args:
        student: of all voxels of the batch.
        texts: (K, C) unit text vectors of the classes.
    """
    device = student.trunk.device
    owner, of_voxels, of_superpoints = batch.superpoint, labels.voxels, labels.superpoints
    if batch.drawn is not None:
        owner, of_voxels = owner[batch.drawn], of_voxels[batch.drawn]
        student = student.rows(batch.drawn.to(device))
        of_superpoints = torch.full_like(of_superpoints, -1)
        there = _distinct(owner)
        of_superpoints[there] = labels.superpoints[there]
    grouped = student.means(owner.to(device), batch.superpoints)
    temperature, normalise = settings.temperature, settings.normalise
    return {
        "self_points": cross_entropy(student, of_voxels.to(device), texts, temperature, normalise),
        "self_superpoints": cross_entropy(
            grouped, of_superpoints.to(device), texts, temperature, normalise
        ),
    }


def stage_two_terms(batch: FeatureBatch) -> dict[str, int]:
    """How many terms each sum of `stage_two` has: every point in the batch has a history by then,
    so that each voxel and its superpoint have a label."""
    if batch.drawn is None:
        return {"self_points": len(batch.coordinates), "self_superpoints": batch.superpoints}
    superpoints = len(_distinct(batch.superpoint[batch.drawn]))
    return {"self_points": len(batch.drawn), "self_superpoints": superpoints}


def _distinct(owner: torch.Tensor) -> torch.Tensor:
    """The superpoints (S,) that some voxels (M,) are of."""
    found: torch.Tensor = torch.unique(owner[owner >= 0])
    return found
