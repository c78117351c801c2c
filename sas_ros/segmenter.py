"""The algorithm on one page: points -> upright, canonical pose -> voxels -> student -> features.

Everything the robot needs at run time (method reference 6.8): only the 3D network and text
embeddings. Text comes in afterwards, see `sas_ros.matching` and `sas_ros.query`.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from sas_ros.errors import SasError
from sas_ros.gravity import rotation_to_z_up
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.memory import (
    SMALLEST_TILE,
    default_budget,
    free_bytes,
    is_out_of_memory,
    voxels_within,
)
from sas_ros.observation import Cloud, ElementLabels, Observation, SceneFeatures, Up
from sas_ros.pose import columns_of, lay_along_walls, turn_in_place
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.engine import StudentEngine
from sas_ros.student.inputs import COLOUR_INPUTS, input_features, mean_colors
from sas_ros.tiles import rim_of, tiles
from sas_ros.voxels import voxelise_columns
from sas_ros.word_scores import scene_scores

_EXACT_SHARE = 0.25
"""Features that would take more than this share of the budget are kept in half precision."""


class Segmenter:
    """Runs a student: cloud in, one unit feature per voxel out.

    Args:
        bundle: the student.
        device: "auto", "cuda" or "cpu".
        votes: 1, 2, 4 or 8: how many symmetric views (quarter turns about the vertical, then
            mirrored) of the voxel grid are averaged. More is steadier and as many times slower.
        memory_budget: MiB that a pass of the network may take; 0 is 2048, or half of what is free
            now where that is less. Larger clouds go through the network in overlapping tiles; out
            of memory halves them. The features of the whole cloud come on top: where they would
            take more than a quarter of the budget in single precision, they are kept in half
            precision.
        backend, precision: how the network is run, see `StudentEngine`.
    """

    def __init__(
        self,
        bundle: StudentBundle,
        *,
        device: str = "auto",
        votes: int = 1,
        memory_budget: float = 0.0,
        backend: str = "auto",
        precision: str = "auto",
    ) -> None:
        if votes not in (1, 2, 4, 8):
            raise SasError(f"votes must be 1, 2, 4 or 8, not {votes}.")
        if not 0 <= memory_budget <= 1e9:
            raise SasError(f"memory_budget must be 0 to 1e9 MiB, not {memory_budget}.")
        self.bundle = bundle
        self.engine = StudentEngine(bundle, device=device, backend=backend, precision=precision)
        self.device = self.engine.device
        self.votes = votes
        self._budget = int(memory_budget * 2**20) or default_budget(self.device)
        self._fitted: int | None = None
        self._rim = rim_of(self.engine.config)
        self._network_seconds = 0.0

    @property
    def tile_voxels(self) -> int:
        """Voxels that go through the network at once: what the memory budget allows."""
        itemsize = self.engine.dtype.itemsize
        within = voxels_within(self._budget, self.engine.config, itemsize, self.votes)
        return within if self._fitted is None else min(within, self._fitted)

    def segment(self, observation: Observation | Cloud, up: Up) -> SceneFeatures:
        """Features of every occupied voxel of a cloud, metres, any frame whose `up` is known.

        A `Cloud` alone is short for an observation that holds nothing else.

        Points are rotated, never resampled; everything returned is in the cloud's own frame.

        Raises:
            SasError: something the student requires is missing, no point is finite, or the
                coordinates cannot be metres.
            MemoryError: even the smallest tiles do not fit the device.
        """
        if isinstance(observation, Cloud):
            observation = Observation(observation)
        missing = sorted({"points", *self.bundle.requires} - observation.holds)
        cloud = observation.cloud
        if missing or cloud is None:
            raise SasError(
                f"The student {self.bundle.name!r} needs {', '.join(missing)}, which the "
                "observation does not hold."
            )
        valid = cloud.valid
        if not valid.any():
            raise SasError("The cloud is empty or has no finite point: there is nothing to label.")
        rotation = rotation_to_z_up(up.direction)
        columns = columns_of(cloud.points, valid)
        turn_in_place(columns, rotation)
        turn, origin = lay_along_walls(columns)
        grid = voxelise_columns(columns, self.bundle.voxel_size, origin=origin)
        del columns
        heights = (grid.coordinates[:, 3] + 0.5) * grid.voxel_size
        colors = None
        if cloud.colors is not None and not set(COLOUR_INPUTS).isdisjoint(self.bundle.inputs):
            given = cloud.colors if valid.all() else cloud.colors[valid]
            colors = mean_colors(given, grid.inverse, len(heights))
        inputs = torch.from_numpy(input_features(self.bundle.inputs, heights, colors))
        self._network_seconds = 0.0
        features = self._features(torch.from_numpy(grid.coordinates), inputs)
        element_of_point = np.full(len(cloud.points), -1, dtype=np.int32)
        element_of_point[valid] = grid.inverse
        positions = np.ascontiguousarray(grid.centers.T, dtype=np.float64)
        turn_in_place(positions, (turn @ rotation).T)  # canonical -> source
        return SceneFeatures(
            features=features,
            positions=np.ascontiguousarray(positions.T, dtype=np.float32),
            element_of_point=element_of_point,
            header=cloud.header,
            up=up,
            origin=cloud.origin,
            element_size=self.bundle.voxel_size,
            network_s=self._network_seconds,
        )

    def label(self, scene: SceneFeatures, vocabulary: Vocabulary) -> ElementLabels:
        """Best word of the vocabulary per element, with its probability; kept with the scene."""
        return scene_scores(scene, vocabulary, self.bundle.calibration.temperature).labels

    def warm_up(self) -> None:
        """Run once on a small block, so that the first real cloud pays no start-up costs."""
        steps = np.arange(12) * self.bundle.voxel_size
        x, y, z = np.meshgrid(steps, steps, steps[:2], indexing="ij")
        points = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
        self.segment(Cloud(points), Up(np.array([0.0, 0.0, 1.0])))

    def _features(self, coordinates: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        limit, kept = self.tile_voxels, self._kept_precision(len(coordinates))
        while True:
            try:
                return self._tiled(coordinates, inputs, limit, kept)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                limit = self._fitted = min(limit, len(coordinates)) // 2
                if limit < SMALLEST_TILE:
                    self._fitted = None  # another time there may be more memory
                    raise MemoryError(
                        f"A cloud of {len(coordinates)} voxels does not fit the memory of "
                        f"{self.device}, not even in tiles."
                    ) from error
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _tiled(
        self, coordinates: torch.Tensor, inputs: torch.Tensor, limit: int, kept: torch.dtype
    ) -> torch.Tensor:
        """(M, C) unit features, in tiles of at most `limit` voxels where there are more."""
        if len(coordinates) <= limit:
            return self._unit(coordinates, inputs).to(kept)
        shape = (len(coordinates), self.bundle.feature_dim)
        features = torch.empty(shape, dtype=kept, device=self.device)
        for tile in tiles(coordinates.numpy(), limit, self._rim):
            rows, core = torch.from_numpy(tile.rows), torch.from_numpy(tile.core)
            unit = self._unit(coordinates[rows], inputs[rows])
            features[rows[core].to(self.device)] = unit[core.to(self.device)].to(kept)
        return features

    def _kept_precision(self, voxels: int) -> torch.dtype:
        """Half precision on a GPU or where single would take too much of the budget; MemoryError
        where even half does not fit."""
        values = voxels * self.bundle.feature_dim
        single = self.device.type == "cpu" and values * 4 <= self._budget * _EXACT_SHARE
        kept = torch.float32 if single else torch.float16
        # The system promises more than it has; a process that believes it is killed.
        if self.device.type == "cpu" and values * kept.itemsize > free_bytes(self.device):
            raise MemoryError(
                f"The features of {voxels} voxels take {values * kept.itemsize / 2**30:.1f} GiB, "
                "more than is free."
            )
        return kept

    @torch.no_grad()
    def _unit(self, coordinates: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """(n, C) float32 unit features of one tile, averaged over its symmetric views."""
        total: torch.Tensor | None = None
        for vote in range(self.votes):
            started = time.perf_counter()
            raw = self.engine.forward(symmetric_view(coordinates, vote, self.votes), inputs)
            if self.device.type == "cuda":
                torch.cuda.current_stream(self.device).synchronize()
            self._network_seconds += time.perf_counter() - started
            unit = _normalise(raw.float())
            total = unit if total is None else total.add_(unit)
        assert total is not None
        return total if self.votes == 1 else _normalise(total)


def symmetric_view(coordinates: torch.Tensor, vote: int, votes: int) -> torch.Tensor:
    """Voxel coordinates (M, 4) turned by a multiple of 90 degrees about z, mirrored from the fifth
    of eight views on; exact on the grid, because floor(-t) = -floor(t) - 1 off the borders."""
    quarter = vote * 2 if votes == 2 else vote % 4
    x, y = coordinates[:, 1], coordinates[:, 2]
    for _ in range(quarter):
        x, y = -y - 1, x
    if vote >= 4:
        x = -x - 1
    return torch.stack([coordinates[:, 0], x, y, coordinates[:, 3]], dim=1)


def _normalise(features: torch.Tensor) -> torch.Tensor:
    """Rows to length 1, in place: a copy of all features would be the largest thing in memory."""
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features.div_(length.clamp_min_(1e-12))
