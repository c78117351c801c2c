"""Which points of a scene some frame shows, whatever a teacher says about them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from sas_training.fusion.features import PointFeatures
from sas_training.fusion.multiview import PixelFeatures
from sas_training.learn.files import LearnFiles
from sas_training.scenes.fusing import FrameSource, fuse_scene
from sas_training.scenes.scene import Frame, Scene

SHOWN = "shown by a frame"
"""Name of the source, different from that of any teacher."""


def shown_source() -> FrameSource:
    """One channel that every pixel has: its mask is what the projection shows."""

    def read(frame: Frame) -> PixelFeatures:
        return PixelFeatures(torch.ones((*frame.image.shape[:2], 1)))

    return FrameSource(SHOWN, 1, read)


def shown_points(files: LearnFiles, scene: Scene) -> npt.NDArray[np.bool_]:
    """(N,) points of a scene that a frame shows; kept, and made where it is not there."""
    path = files.shown(scene.name)
    if not path.exists():
        if not len(scene.frames):
            return np.zeros(len(scene.points), dtype=np.bool_)
        found = fuse_scene(scene, [shown_source()], files.projection)
        found.features[SHOWN].save(path)
    return PointFeatures.load(path).mask
