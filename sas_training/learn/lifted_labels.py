"""True words of points from labelled images, where the points themselves have no labels."""

from __future__ import annotations

import numpy as np
import torch

from sas_ros.errors import SasError
from sas_training.evaluation.metrics import IntArray
from sas_training.fusion.multiview import PixelFeatures
from sas_training.fusion.projection import ProjectionSettings
from sas_training.learn.asked_words import AskedWords
from sas_training.scenes.fusing import FrameSource, fuse_scene
from sas_training.scenes.scene import Frame, Scene


def lifted_labels(
    scene: Scene, asked: AskedWords, projection: ProjectionSettings
) -> IntArray | None:
    """(N,) the word that most frames have where they show the point, -1 where none has one.

    Of words that as many frames have, the first in the list. None where the frames have no labels
    that become these words; the first frame that can be read decides.
    """
    if not _labelled(scene, asked):
        return None
    count = len(asked.vocabulary)

    def read(frame: Frame) -> PixelFeatures | None:
        words = asked.truth(scene, frame.labels)
        if words is None:
            return None
        table = torch.cat([torch.eye(count), torch.zeros(1, count)])
        index = torch.from_numpy(words)  # -1 is the last row
        return PixelFeatures(table[index], index >= 0)

    found = fuse_scene(scene, [FrameSource("labels", count, read)], projection).features["labels"]
    labels = np.full(len(found.mask), -1, dtype=np.int64)
    labels[found.mask] = found.features.argmax(axis=1)
    return labels


def _labelled(scene: Scene, asked: AskedWords) -> bool:
    for number in range(len(scene.frames)):
        try:
            frame = scene.frames[number]
        except SasError:
            continue
        return asked.truth(scene, frame.labels) is not None
    return False
