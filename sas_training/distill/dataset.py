"""Labelled scans on disk to batches of voxels."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from sas_ros.errors import SasError
from sas_ros.files import whole_files
from sas_ros.student.inputs import FLOOR_PERCENTILE, INPUTS, input_features, mean_colors
from sas_ros.voxels import voxelise
from sas_training.distill.augment import (
    AugmentConfig,
    crop_around,
    distort,
    recolour,
    thin_out,
)
from sas_training.distill.words import KINDS
from sas_training.evaluation.labelled import IGNORED, AnnotatedScan, read_objects
from sas_training.evaluation.labels import LabelSet
from sas_training.scenes.procedural.manifest import manifest_path

_PLACES = {name: place for place, name in enumerate(KINDS)}


@dataclass(frozen=True)
class SampleConfig:
    """How scans become samples. Lengths in metres."""

    voxel_size: float = 0.08
    inputs: tuple[str, ...] = INPUTS
    scans_per_step: int = 2
    crop: tuple[float, float] = (3.0, 4.5)
    whole: float = 0.2  # share of samples that are not cropped
    views: float = 0.25  # share of samples that are single depth frames
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class Batch:
    """(M, 4) int32 voxel coordinates, (M, I) float32 inputs, (M,) int64 labels, 255 ignored, (M,)
    int64 `kinds`: places in `KINDS`, -1 unknown."""

    coordinates: torch.Tensor
    inputs: torch.Tensor
    labels: torch.Tensor
    kinds: torch.Tensor


def voxel_labels(
    inverse: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    classes: int,
    voxels: int,
) -> npt.NDArray[np.int64]:
    """(voxels,) majority label of each voxel; 255 where most of its points are ignored."""
    known = np.where((labels >= 0) & (labels < classes), labels, classes)
    votes = np.bincount(inverse * (classes + 1) + known, minlength=voxels * (classes + 1))
    votes = votes.reshape(voxels, classes + 1)
    best = votes[:, :classes].argmax(axis=1)
    ignored = votes[:, classes] > votes[:, :classes].sum(axis=1)
    return np.where(ignored, IGNORED, best)


class LabelledScans(Dataset[Batch]):
    """Item `step` is the batch of that step, the same for the same seed, whoever loads it.

    Args:
        folder: holds `rooms/*.npz` and, optionally, `views/*.npz`.
        rank, world: of `world` processes that share the scans of a step, which one this is. They
            draw scans of one kind at a time, room, part of a room or view, so as to have about as
            much to do.

    Raises:
        SasError: no scans, or processes that cannot have equally many.
    """

    def __init__(
        self,
        folder: Path,
        labels: LabelSet,
        config: SampleConfig,
        *,
        steps: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if config.scans_per_step % world:
            raise SasError(
                f"{config.scans_per_step} scans a step cannot be shared by {world} processes."
            )
        self._rank, self._world = rank, world
        self._rooms = whole_files(folder / "rooms", "*.npz")
        self._views = whole_files(folder / "views", "*.npz")
        if not self._rooms:
            raise SasError(
                f"There are no scans in {folder / 'rooms'}; make some with `sas world make`."
            )
        self._folder, self._labels = folder, labels
        self._classes = len(labels)
        self._stuff = {labels.id_of("wall"), labels.id_of("floor")}
        self._config, self._steps, self._seed = config, steps, seed

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of rooms and of views."""
        return len(self._rooms), len(self._views)

    def fingerprint(self) -> dict[str, Any]:
        """What decides the batches: a resumed run must not go on with others.

        Of the files that is their names and sizes, and where they were generated, what `world.json`
        says: one seed gives files of other sizes in another version of the world.
        """
        files = [f"{path.name} {path.stat().st_size}" for path in (*self._rooms, *self._views)]
        world = manifest_path(self._folder)
        files.append(world.read_text(encoding="utf-8") if world.is_file() else "")
        listing = hashlib.sha256("\n".join(files).encode()).hexdigest()
        shared = {} if self._world == 1 else {"processes": self._world}
        return {"config": asdict(self._config), "seed": self._seed, "files": listing, **shared}

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        if self._world == 1:
            kinds = rng = np.random.default_rng((self._seed, step))
        else:
            kinds = np.random.default_rng((self._seed, step, self._world))
            rng = np.random.default_rng((self._seed, step, self._world, self._rank))
        own = self._config.scans_per_step // self._world
        parts = [self._sample(rng, kinds, batch) for batch in range(own)]
        return Batch(
            *(torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*parts, strict=True))
        )

    def _sample(
        self, rng: np.random.Generator, kinds: np.random.Generator, batch: int
    ) -> tuple[npt.NDArray[Any], ...]:
        """Coordinates, inputs, labels and kinds of one scan; `kinds` draws what is common to all
        processes."""
        config = self._config
        single = bool(self._views) and kinds.random() < config.views
        files = self._views if single else self._rooms
        scan = read_objects(files[rng.integers(len(files))], self._labels)
        points, labels, objects = scan.points, scan.labels, _objects(scan)
        points[:, 2] -= np.percentile(points[:, 2], FLOOR_PERCENTILE)
        rows = np.arange(len(points))
        if not single and kinds.random() >= config.whole:
            center = points[self._center(labels, rng)]
            rows = crop_around(points, center, kinds.uniform(*config.crop))
            points -= [center[0], center[1], 0]
        rows = rows[thin_out(points[rows], config.augment, rng)]
        points, labels, objects = points[rows], labels[rows], objects[rows]
        points = distort(points.astype(np.float32), config.augment, rng)
        origin = (*rng.uniform(0, config.voxel_size, size=2), 0.0)
        grid = voxelise(points, config.voxel_size, origin=origin, batch=batch)
        heights = (grid.coordinates[:, 3] + 0.5) * config.voxel_size
        colors = None
        if scan.colors is not None and rng.random() >= config.augment.colourless:
            painted = recolour(points, scan.colors[rows], objects, config.augment, rng)
            colors = mean_colors(painted, grid.inverse, len(heights))
        majority = voxel_labels(grid.inverse, labels, self._classes, len(heights))
        return (
            grid.coordinates,
            input_features(config.inputs, heights, colors),
            majority,
            voxel_kinds(grid.inverse, labels, _kinds(scan)[rows], majority),
        )

    def _center(self, labels: npt.NDArray[np.int64], rng: np.random.Generator) -> int:
        """A random point of a random class that is here; any point when there is only structure."""
        present = [c for c in np.unique(labels) if c < self._classes and c not in self._stuff]
        if not present:
            return int(rng.integers(len(labels)))
        return int(rng.choice(np.flatnonzero(labels == rng.choice(present))))


def voxel_kinds(
    inverse: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    kinds: npt.NDArray[np.int64],
    majority: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """(voxels,) the kind of one point of each voxel that has the voxel's `majority` label."""
    result = np.full(len(majority), -1, dtype=np.int64)
    speaks = np.flatnonzero(labels == majority[inverse])
    result[inverse[speaks]] = kinds[speaks]
    return result


def _objects(scan: AnnotatedScan) -> npt.NDArray[np.int64]:
    """(N,) a number for everything that is painted alike: an object, or what has a class."""
    instances = 0 if scan.instances is None else scan.instances
    return np.asarray(instances * 256 + scan.labels, dtype=np.int64)


def _kinds(scan: AnnotatedScan) -> npt.NDArray[np.int64]:
    """(N,) place in `KINDS` of the finer name of each point, -1 where it has none."""
    if scan.instances is None or not scan.names:
        return np.full(len(scan.points), -1, dtype=np.int64)
    table = np.array([_PLACES.get(name, -1) for name in scan.names], dtype=np.int64)
    known = (scan.instances >= 0) & (scan.instances < len(table))
    return np.where(known, table[np.where(known, scan.instances, 0)], -1)
