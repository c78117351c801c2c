"""Scenes to batches of voxels with the teachers' features, the same for the same seed and step.

A sample is cropped, distorted and voxelised. Of each voxel the first point of the scene in it
stands for it: it gives the voxel its target and its superpoint (method reference 6.4). A batch
remembers which voxel every point lies in, so that the history of the points can be written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from sas_ros.errors import SasError
from sas_ros.student.inputs import COLOUR_INPUTS, input_features, mean_colors
from sas_ros.voxels import voxelise
from sas_training.distill.augment import crop_around
from sas_training.distill.epoch_plan import EpochPlan
from sas_training.distill.feature_scenes import FeatureScene, FeatureScenes
from sas_training.distill.objectives import Targets
from sas_training.distill.scene_augment import (
    AugmentSettings,
    distorted,
    flipped_and_shifted,
    floor_height,
)


@dataclass(frozen=True, eq=False)
class ScenePart:
    """The part of a batch that comes from one scene.

    Attributes:
        scene: name.
        scene_points: N, points of the scene.
        scene_superpoint: (N,) int32 superpoint of every point of the scene, -1 for none.
        points: (P,) int64 which points of the scene are in the batch.
        voxels: (P,) int64 the voxel of the batch each of them lies in.
        representative: (m,) int64 the point of the scene that stands for each voxel of this part.
        superpoints: (s,) the superpoint of the scene that each superpoint of this part is.
    """

    scene: str
    scene_points: int
    scene_superpoint: npt.NDArray[np.int32]
    points: npt.NDArray[np.int64]
    voxels: npt.NDArray[np.int64]
    representative: npt.NDArray[np.int64]
    superpoints: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FeatureBatch:
    """M voxels of several scenes.

    Attributes:
        coordinates: (M, 4) int32 (scene of the batch, x, y, z).
        inputs: (M, I) float32 input channels.
        superpoint: (M,) int64 0 ... S-1 over the batch, -1 for none.
        superpoints: S.
        target_rows: (T,) int64 voxels that a teacher has seen and that count.
        targets: what the teachers say about those; features float16.
        parts: where the voxels come from, scene by scene.
        drawn: (D,) int64 voxels that stage 2 counts, ascending; None: all.
    """

    coordinates: torch.Tensor
    inputs: torch.Tensor
    superpoint: torch.Tensor
    superpoints: int
    target_rows: torch.Tensor
    targets: Targets
    parts: tuple[ScenePart, ...]
    drawn: torch.Tensor | None = None


@dataclass(frozen=True)
class BatchSettings:
    """How samples are made; see `SampleSettings`, `NetworkSettings` and `ObjectiveSettings`."""

    inputs: tuple[str, ...]
    voxel_size: float
    crop: tuple[float, float]
    whole: float
    augment: AugmentSettings
    with_superpoints: bool
    max_voxels: int
    seed: int


class FeatureBatches(Dataset[tuple[FeatureBatch, ...]]):
    """Item `step` is what one of `world` processes needs for that step, in `accumulate` batches.

    Whoever loads it, and however many processes and parts there are, a scene's sample is the same;
    `max_voxels` are drawn from each part by itself.
    """

    def __init__(
        self,
        scenes: FeatureScenes,
        plan: EpochPlan,
        settings: BatchSettings,
        *,
        steps: int,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
    ) -> None:
        if plan.batch % (world * accumulate):
            raise SasError(
                f"A batch of {plan.batch} scenes cannot be shared evenly by {world} processes with "
                f"{accumulate} parts each; change schedule.batch or schedule.accumulate."
            )
        self._scenes, self._plan, self._settings = scenes, plan, settings
        self._steps, self._rank, self._world, self._accumulate = steps, rank, world, accumulate

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[FeatureBatch, ...]:
        numbers = self._plan.scenes_of(step)
        size = len(numbers) // (self._world * self._accumulate)
        first = self._rank * self._accumulate
        return tuple(
            self._batch(step, numbers, range(part * size, (part + 1) * size))
            for part in range(first, first + self._accumulate)
        )

    def _batch(self, step: int, numbers: npt.NDArray[np.int64], places: range) -> FeatureBatch:
        samples = []
        for place in places:
            scene = self._scenes.load(int(numbers[place]))
            rng = np.random.default_rng((self._settings.seed, 12, step, place))
            samples.append(sample(scene, self._settings, rng))
        chosen = np.random.default_rng((self._settings.seed, 13, step, places.start))
        return joined_samples(samples, self._settings, chosen)


def whole_scene(
    scene: FeatureScene, settings: BatchSettings, rng: np.random.Generator | None = None
) -> FeatureBatch:
    """A batch of one whole scene: as it is, or with `rng` as `AugmentSettings.rigid` has it."""
    plain = BatchSettings(
        settings.inputs,
        settings.voxel_size,
        (0.0, 0.0),
        1.0,
        AugmentSettings(style="none") if rng is None else settings.augment.rigid,
        settings.with_superpoints,
        0,
        0,
    )
    rng = rng or np.random.default_rng(0)
    return joined_samples([sample(scene, plain, rng)], plain, rng)


@dataclass(frozen=True, eq=False)
class Sample:
    """Voxels (m) of one scene: coordinates without the batch column, inputs, and what it has of
    the points: see `ScenePart`, `voxels` counted from 0 here."""

    scene: FeatureScene
    coordinates: npt.NDArray[np.int32]
    inputs: npt.NDArray[np.float32]
    points: npt.NDArray[np.int64]
    voxels: npt.NDArray[np.int64]
    representative: npt.NDArray[np.int64]


def sample(scene: FeatureScene, settings: BatchSettings, rng: np.random.Generator) -> Sample:
    """Crop, distort and voxelise a scene."""
    rows = np.flatnonzero(np.isfinite(scene.points).all(axis=1))
    points = scene.points[rows]
    if settings.crop[1] > 0 and rng.random() >= settings.whole:
        center = points[_middle(scene.superpoint[rows], rng)].copy()
        inside = crop_around(points, center, rng.uniform(*settings.crop))
    else:
        inside = np.arange(len(points))
        center = points.mean(axis=0)
    center[2] = floor_height(points)
    rows, points = rows[inside], points[inside] - center
    colors = None
    if scene.colors is not None and not set(COLOUR_INPUTS).isdisjoint(settings.inputs):
        colors = scene.colors[rows]
    seen = distorted(points, colors, scene.superpoint[rows], settings.augment, rng)
    rows = rows[seen.rows]
    plain = settings.augment.style == "none"
    within = np.zeros(2) if plain else rng.uniform(0, settings.voxel_size, 2)
    grid = voxelise(seen.points, settings.voxel_size, origin=(*within, 0.0))
    heights = (grid.coordinates[:, 3] + 0.5) * settings.voxel_size
    shades = None
    if seen.colors is not None:
        shades = mean_colors(seen.colors, grid.inverse, len(heights))
    # Assigned last to first, so that the first point of each voxel is what stays.
    representative = np.empty(len(heights), dtype=np.int64)
    representative[grid.inverse[::-1]] = rows[::-1]
    return Sample(
        scene,
        flipped_and_shifted(grid.coordinates, settings.augment, rng),
        input_features(settings.inputs, heights, shades),
        rows,
        grid.inverse,
        representative,
    )


def _middle(superpoint: npt.NDArray[np.int32], rng: np.random.Generator) -> int:
    """A point of a superpoint taken at random, so that walls are not the middle of most crops."""
    chosen = rng.choice(np.unique(superpoint))
    return int(rng.choice(np.flatnonzero(superpoint == chosen)))


def joined_samples(
    samples: list[Sample], settings: BatchSettings, rng: np.random.Generator
) -> FeatureBatch:
    """Put samples into one batch; `rng` draws the voxels that count, where not all do."""
    parts, superpoint, coordinates, targets = [], [], [], []
    first_voxel = first_superpoint = 0
    for number, one in enumerate(samples):
        owner = one.scene.superpoint[one.representative].astype(np.int64)
        names, dense = _dense(owner)
        superpoint.append(np.where(dense >= 0, dense + first_superpoint, -1))
        placed = one.coordinates.copy()
        placed[:, 0] = number
        coordinates.append(placed)
        targets.append(one.scene.rows[one.representative])
        parts.append(
            ScenePart(
                one.scene.name,
                len(one.scene.points),
                one.scene.superpoint,
                one.points,
                one.voxels + first_voxel,
                one.representative,
                names,
            )
        )
        first_voxel += len(placed)
        first_superpoint += len(names)
    all_superpoints = np.concatenate(superpoint)
    rows = np.concatenate(targets)
    wanted = rows >= 0
    if settings.with_superpoints:
        wanted &= all_superpoints >= 0
    chosen = np.flatnonzero(wanted)
    if settings.max_voxels and len(chosen) > settings.max_voxels:
        chosen = np.sort(rng.choice(chosen, settings.max_voxels, replace=False))
    drawn = None
    if settings.max_voxels and len(rows) > settings.max_voxels:
        drawn = np.sort(rng.choice(len(rows), settings.max_voxels, replace=False))
    features = _target_features(samples, targets, chosen)
    target_names, target_superpoint = _dense(all_superpoints[chosen])
    return FeatureBatch(
        coordinates=torch.from_numpy(np.concatenate(coordinates)),
        inputs=torch.from_numpy(np.concatenate([one.inputs for one in samples])),
        superpoint=torch.from_numpy(all_superpoints),
        superpoints=first_superpoint,
        target_rows=torch.from_numpy(chosen),
        targets=Targets(
            torch.from_numpy(features), torch.from_numpy(target_superpoint), len(target_names)
        ),
        parts=tuple(parts),
        drawn=None if drawn is None else torch.from_numpy(drawn),
    )


def _target_features(
    samples: list[Sample], targets: list[npt.NDArray[np.int64]], chosen: npt.NDArray[np.int64]
) -> npt.NDArray[np.float16]:
    """(T, C) float16 teacher features of the chosen voxels of the batch, ascending."""
    features, start = [], 0
    for one, rows in zip(samples, targets, strict=True):
        low, high = np.searchsorted(chosen, [start, start + len(rows)])
        features.append(one.scene.features[rows[chosen[low:high] - start]])
        start += len(rows)
    return np.concatenate(features)


def _dense(
    owner: npt.NDArray[np.integer[Any]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The distinct numbers from 0 up, ascending, and (N,) the place of each number among them, -1
    where it is below 0."""
    inside = owner >= 0
    names, places = np.unique(owner[inside], return_inverse=True)
    dense = np.full(len(owner), -1, dtype=np.int64)
    dense[inside] = places.reshape(-1)
    return names.astype(np.int64), dense
