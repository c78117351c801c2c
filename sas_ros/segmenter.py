"""The algorithm on one page: points -> upright, canonical pose -> voxels -> student -> features.

Everything the robot needs at run time (method reference 6.8): only the 3D network and text
embeddings. Text comes in afterwards, see `sas_ros.matching` and `sas_ros.query`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_ros.gravity import canonical_yaw, rotation_to_z_up
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.matching import label_elements
from sas_ros.observation import Cloud, ElementLabels, Observation, SceneFeatures, Up
from sas_ros.sparse import CoordinateManager, SparseTensor
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.inputs import FLOOR_PERCENTILE, choose_device, input_features
from sas_ros.voxels import voxelise

_OVERLAP_VOXELS = 32
_SMALLEST_TILE = 2_000


class Segmenter:
    """Runs a student: cloud in, one unit feature per voxel out.

    Args:
        bundle: the student.
        device: "auto", "cuda" or "cpu"; half precision on a GPU.
        votes: 1, 2, 4 or 8: how many symmetric views (quarter turns about the vertical, then
            mirrored) of the voxel grid are averaged. More is steadier and as many times slower.
        max_voxels: larger clouds go through the network in overlapping tiles of at most this many
            voxels; out of memory halves it.
    """

    def __init__(
        self,
        bundle: StudentBundle,
        *,
        device: str = "auto",
        votes: int = 1,
        max_voxels: int = 400_000,
    ) -> None:
        if votes not in (1, 2, 4, 8):
            raise SasError(f"votes must be 1, 2, 4 or 8, not {votes}.")
        self.bundle = bundle
        self.device = choose_device(device)
        self.votes = votes
        self.max_voxels = max(max_voxels, _SMALLEST_TILE)
        self._dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self._network = bundle.network().to(self.device, self._dtype)

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
        points = cloud.points[valid].astype(np.float64) @ rotation.T
        turn, origin = canonical_pose(points)
        points = points @ turn.T
        grid = voxelise(points, self.bundle.voxel_size, origin=origin)
        heights = (grid.coordinates[:, 3] + 0.5) * grid.voxel_size
        inputs = torch.from_numpy(input_features(self.bundle.inputs, heights))
        features = self._features(torch.from_numpy(grid.coordinates), inputs)
        element_of_point = np.full(len(cloud.points), -1, dtype=np.int32)
        element_of_point[valid] = grid.inverse
        to_source = turn @ rotation  # source -> canonical; its transpose goes back
        return SceneFeatures(
            features=features,
            positions=(grid.centers.astype(np.float64) @ to_source).astype(np.float32),
            element_of_point=element_of_point,
            header=cloud.header,
            up=up,
            origin=cloud.origin,
            element_size=self.bundle.voxel_size,
        )

    def label(self, scene: SceneFeatures, vocabulary: Vocabulary) -> ElementLabels:
        """Best word of the vocabulary per element, with its probability."""
        return label_elements(scene.features, vocabulary, self.bundle.calibration.temperature)

    def warm_up(self) -> None:
        """Run once on a small block, so that the first real cloud pays no start-up costs."""
        steps = np.arange(12) * self.bundle.voxel_size
        x, y, z = np.meshgrid(steps, steps, steps[:2], indexing="ij")
        points = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
        self.segment(Cloud(points), Up(np.array([0.0, 0.0, 1.0])))

    def _features(self, coordinates: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        limit = self.max_voxels
        while True:
            try:
                return self._voted(coordinates, inputs, limit)
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                limit = min(limit, len(coordinates)) // 2
                if limit < _SMALLEST_TILE:
                    raise MemoryError(
                        f"A cloud of {len(coordinates)} voxels does not fit the memory of "
                        f"{self.device}, not even in tiles."
                    ) from error
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _voted(self, coordinates: torch.Tensor, inputs: torch.Tensor, limit: int) -> torch.Tensor:
        total: torch.Tensor | None = None
        for vote in range(self.votes):
            raw = self._tiled(symmetric_view(coordinates, vote, self.votes), inputs, limit)
            unit = torch.nn.functional.normalize(raw.float(), dim=1)
            total = unit if total is None else total.add_(unit)
        assert total is not None
        if self.votes > 1:
            total = torch.nn.functional.normalize(total, dim=1)
        return total.to(self._dtype)

    def _tiled(self, coordinates: torch.Tensor, inputs: torch.Tensor, limit: int) -> torch.Tensor:
        """Forward in tiles: halve along the longer side until a tile with its overlap fits."""
        if len(coordinates) <= limit:
            return self._forward(coordinates, inputs)
        horizontal = coordinates[:, 1:3]
        extent = horizontal.amax(0) - horizontal.amin(0)
        position = horizontal[:, int(extent.argmax())]
        middle = int(position.median())
        low, high = position < middle, position >= middle
        output: torch.Tensor | None = None
        for core in (low, high):
            if not bool(core.any()):
                continue
            edge = position[core]
            near = (position >= int(edge.min()) - _OVERLAP_VOXELS) & (
                position <= int(edge.max()) + _OVERLAP_VOXELS
            )
            if bool(near.all()):
                near = core  # too narrow to overlap and still get smaller
            if bool(near.all()):
                return self._forward(coordinates, inputs)
            tile = self._tiled(coordinates[near], inputs[near], limit)
            if output is None:
                output = tile.new_empty((len(coordinates), tile.shape[1]))
            output[core] = tile[core[near].to(tile.device)]
        assert output is not None
        return output

    @torch.inference_mode()
    def _forward(self, coordinates: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        manager = CoordinateManager(coordinates.to(self.device))
        features = inputs.to(self.device, self._dtype)
        output: torch.Tensor = self._network(SparseTensor(features, manager)).features
        return output


def canonical_pose(
    points: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A pose about the vertical that depends on the room, not on how the sensor was turned.

    Args:
        points: (N, 3) metres, z up.

    Returns:
        The (3, 3) rotation about z that puts the walls along the axes and the heavier side of the
        room in the first quadrant, and the (3,) grid origin in the rotated frame: the middle of
        the bounds horizontally, the floor vertically.
    """
    turn = _about_z(-canonical_yaw(points))
    rotated = points @ turn.T
    low, high = rotated[:, :2].min(axis=0), rotated[:, :2].max(axis=0)
    heavy = rotated[:, :2].mean(axis=0) - (low + high) / 2
    quarter = int(np.floor(np.arctan2(heavy[1], heavy[0]) / (np.pi / 2)))
    if quarter:
        square = np.round(_about_z(-quarter * np.pi / 2))
        turn = square @ turn
        rotated = rotated @ square.T
        low, high = rotated[:, :2].min(axis=0), rotated[:, :2].max(axis=0)
    floor = np.percentile(rotated[:, 2], FLOOR_PERCENTILE)
    return turn, np.array([*(low + high) / 2, floor])


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


def _about_z(angle: float) -> npt.NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or (
        "can't allocate memory" in text or "not enough memory" in text or "out of memory" in text
    )
