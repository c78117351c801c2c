"""A scene into multi-view fusion: the few lines between `Scene` and `sas_training.fusion`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_training.fusion.constants import DATASETS
from sas_training.fusion.multiview import FeatureSource, MultiView, PixelFeatures, fuse_views
from sas_training.fusion.projection import ProjectionSettings, View
from sas_training.scenes.scene import Frame, Frames, Scene
from sas_training.teachers.cache import FrameCache
from sas_training.teachers.teacher import PixelTeacher


class FrameViews(Sequence[View]):
    """Frames as fusion asks for them: one is kept, so that an image is read once for its view and
    for all teachers."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._kept: tuple[int, Frame] | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def frame(self, number: int) -> Frame:
        """The frame of a view; raises `SasError` for one that cannot be used."""
        if self._kept is None or self._kept[0] != number:
            self._kept = None  # two frames are never held at a time
            self._kept = (number, self._frames[number])
        return self._kept[1]

    def __getitem__(self, number: Any) -> Any:
        """The view of that number; a bad one is noted among the frames and raises `SasError`."""
        if isinstance(number, slice):
            return [self[place] for place in range(len(self))[number]]
        return self.frame(range(len(self))[number]).view


@dataclass(frozen=True, eq=False)
class FrameSource:
    """A teacher as a scene sees it.

    Attributes:
        name: of the teacher.
        channels: width C of its features.
        read: features of the pixels of a frame, of the size of its image; None where the teacher
            has nothing to say.
        settings: goes into the settings of the point features.
    """

    name: str
    channels: int
    read: Callable[[Frame], PixelFeatures | None]
    settings: Mapping[str, Any] = field(default_factory=dict)


def fuse_scene(
    scene: Scene,
    sources: Sequence[FrameSource],
    settings: ProjectionSettings,
    *,
    device: str | torch.device = "cpu",
    memory: int = 4 << 30,
    progress: Callable[[Iterable[int]], Iterable[int]] = lambda numbers: numbers,
) -> MultiView:
    """Mean feature of every point of a scene over the frames that see it, all teachers in one walk.

    Arguments and errors are those of `fuse_views`. Frames that cannot be used are counted in
    `scene.frames.skipped` with their reasons, and in the result.
    """
    views = FrameViews(scene.frames)

    def source(one: FrameSource) -> FeatureSource:
        return FeatureSource(
            one.name, one.channels, lambda number: one.read(views.frame(number)), one.settings
        )

    return fuse_views(
        scene.points,
        views,
        [source(one) for one in sources],
        settings,
        scene=scene.name,
        device=device,
        memory=memory,
        progress=progress,
    )


def teacher_source(
    teacher: PixelTeacher, name: str = "", cache: FrameCache | None = None
) -> FrameSource:
    """A dense teacher, asked for one frame at a time.

    Args:
        teacher: of pixels.
        name: what its features are called; "": as the teacher calls itself.
        cache: keeps what it says about frames; None for a teacher that is quick to ask again.
    """

    def read(frame: Frame) -> PixelFeatures | None:
        if cache is None:
            found = teacher.features([frame.image])[0].at_pixels(*frame.image.shape[:2])
        else:
            found = cache.pixel_features(teacher, frame.image)
        nothing = found.valid is not None and not bool(found.valid.any())
        return None if nothing else found

    about = teacher.description
    settings = {"teacher": about.to_json(), "text_encoder": teacher.text_encoder}
    return FrameSource(name or about.name, teacher.channels, read, settings)


_LIKE = {"scannet": "scannet", "matterport": "matterport3d", "nuscenes": "nuscenes"}


def projection_of(kind: str, version: str = "paper") -> ProjectionSettings:
    """What counts as seen in scenes of a kind: the constants of its data set, and for kinds that no
    paper speaks of (7-Scenes, bags, generated rooms) those of ScanNet, which is nearest to them."""
    name = next((like for begin, like in _LIKE.items() if kind.startswith(begin)), "")
    name = name or ("replica" if kind.startswith("replica") else "scannet")
    return DATASETS[name].settings(version)


def color_source() -> FrameSource:
    """The image itself as a teacher of 3 channels, 0 to 255: shows whether poses, cameras and
    occlusion are right, since fused colours must look like those of the scan."""

    def read(frame: Frame) -> PixelFeatures:
        return PixelFeatures(torch.from_numpy(np.array(frame.image)).float())

    return FrameSource("colour", 3, read)


@dataclass(frozen=True, eq=False)
class ColorAgreement:
    """How far fused colours are from a scan's own.

    Attributes:
        mean_error: mean absolute difference over points that were seen and the three channels, in
            steps of 0 to 255.
        median_error: the median of the points' mean over channels.
        seen: share of the points that a frame shows.
        views: mean number of frames behind a point that was seen.
        colors: (N, 3) uint8, the fused ones; grey (128) where no frame shows the point.
        mask: (N,) bool, which were seen.
    """

    mean_error: float
    median_error: float
    seen: float
    views: float
    colors: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]


def color_agreement(scene: Scene, settings: ProjectionSettings) -> ColorAgreement:
    """Fuse the frames' colours onto the points and compare them with the points' own.

    Raises:
        SasError: the scene has no colours, or no frame shows a point.
    """
    if scene.colors is None:
        raise SasError(f"The points of {scene.name} have no colours to compare with.")
    fused = fuse_scene(scene, [color_source()], settings)
    found = fused.features["colour"]
    if not found.mask.any():
        why = scene.frames.skipped.sentence()
        raise SasError(f"No frame of {scene.name} shows any of its points. {why}".strip())
    colors = np.full((len(scene.points), 3), 128, dtype=np.uint8)
    colors[found.mask] = np.rint(found.features.astype(np.float32)).astype(np.uint8)
    own = scene.colors[found.mask].astype(np.float32)
    errors = np.abs(found.features.astype(np.float32) - own)
    return ColorAgreement(
        mean_error=float(errors.mean()),
        median_error=float(np.median(errors.mean(axis=1))),
        seen=float(found.mask.mean()),
        views=float(fused.views["colour"][found.mask].mean()),
        colors=colors,
        mask=found.mask,
    )
