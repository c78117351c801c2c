"""A scene as a row of pictures: its colours, what each says about its points, and the key."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sas_ros.language.vocabulary import Vocabulary
from sas_ros.pictures import render_cloud
from sas_training.scenes.sheet import Panel
from sas_training.teachers.showing import draw_key

_UNSEEN = (205, 205, 208)
_UP = np.array([0.0, 0.0, 1.0])


def cloud_panels(
    name: str,
    points: npt.NDArray[np.float32],
    colors: npt.NDArray[np.uint8] | None,
    words: Mapping[str, npt.NDArray[np.int64]],
    vocabulary: Vocabulary,
    size: tuple[int, int],
) -> list[Panel]:
    """Pictures of `size` (width, height); z is up.

    Args:
        name: of the scene.
        points: (N, 3), metres.
        colors: (N, 3), or None.
        words: by who says them, (N,) numbers in the vocabulary, -1 where nothing is said.
    """
    palette = np.concatenate([vocabulary.colors, np.array([_UNSEEN], np.uint8)])
    panels = [
        Panel(title, render_cloud(points, tints, up=_UP, size=size))
        for title, tints in [(name, colors), *((who, palette[one]) for who, one in words.items())]
    ]
    counts = np.sum(
        [np.bincount(one[one >= 0], minlength=len(vocabulary)) for one in words.values()], axis=0
    )
    order = [k for k in np.argsort(-counts, kind="stable") if counts[k]]
    entries = [(vocabulary.names[k], vocabulary.colors[k].tolist()) for k in order]
    return [*panels, Panel("colours", draw_key([*entries, ("not shown", _UNSEEN)], size))]
