"""Folders color/, depth/, pose/ with a file of the same name for each frame: ScanNet's export, and
everything that OpenScene's preprocessing writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_training.scenes.cameras import Matrix, depth_for_image, resized_color, resized_plane
from sas_training.scenes.images import read_color, read_depth, read_matrix
from sas_training.scenes.reading import SceneSettings, numbered
from sas_training.scenes.scene import Frame, Frames

COLOR_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, eq=False)
class PosedFolder:
    """Where the parts of the frames of one scene are.

    Attributes:
        color: folder of the colour images.
        camera: (3, 3) of a colour image by its stem and (width, height); raises `SasError`.
        units: stored depth values in one metre.
        depth_camera: (3, 3) of the depth images where that is another; None: the colour camera at
            the depth image's size, whatever that is.
        depth_name: name of the depth image by stem.
        at_depth_size: colour images are brought to the size of the depth images, for they are finer
            than what can be told apart in space.
    """

    color: Path
    camera: Callable[[str, tuple[int, int]], Matrix]
    units: float
    depth_camera: Matrix | None = None
    depth_name: Callable[[str], str] = "{}.png".format
    at_depth_size: bool = False

    def frames(self, settings: SceneSettings, only: Sequence[str] | None = None) -> Frames:
        """All frames with a colour image, or those of the stems `only`, in order."""
        images = {path.stem: path for path in numbered(self.color, *COLOR_SUFFIXES)}
        stems = tuple(images) if only is None else tuple(only)
        return Frames(stems, lambda n: self._frame(stems[n], images[stems[n]], settings))

    def _frame(self, stem: str, color: Path, settings: SceneSettings) -> Frame:
        image = read_color(color)
        pose = read_matrix(color.parents[1] / "pose" / f"{stem}.txt", 4, "pose")
        units = settings.depth_units or self.units
        path = color.parents[1] / "depth" / self.depth_name(stem)
        depth = read_depth(path, units, settings.far)
        rows, columns = image.shape[:2]
        camera = self.camera(stem, (columns, rows))
        rows, columns = (depth if self.at_depth_size else image).shape[:2]
        size = settings.size or (columns, rows)
        image, camera = resized_color(image, camera, size)
        return Frame(stem, image, camera, pose, self._fitted(depth, camera, size))

    def _fitted(
        self, depth: npt.NDArray[np.float32], camera: Matrix, size: tuple[int, int]
    ) -> npt.NDArray[np.float32]:
        own = self.depth_camera
        if own is None:
            return resized_plane(depth, size)
        return depth_for_image(depth, own, camera, size)
