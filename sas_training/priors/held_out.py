"""How well SAM finds what it has not seen: things in plain rooms and regions of furnished rooms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_training.capability.points import prompt_points
from sas_training.capability.pseudo_masks import RejectionRule
from sas_training.capability.segmenters import Segmenter, load_segmenter
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.pictures import Picture
from sas_training.experiment.single_objects import object_picture
from sas_training.priors.pictures import cut_square, room_frames, square_around
from sas_training.priors.segmenter import LEAST_SHARE
from sas_training.priors.settings import PriorsSettings

PER_CLASS, ROOMS = 4, 4
"""Pictures of each class, and furnished rooms behind those that were learned from."""

Mask = npt.NDArray[np.bool_]


def thing(settings: PriorsSettings, name: str, number: int) -> tuple[Picture, Mask]:
    """A square picture (S, S, 3) uint8 of a class that no model has seen, and its mask (S, S)."""
    seed = (settings.seed, 79, SCANNET20.id_of(name), number)
    found = object_picture(name, seed)
    cut = square_around(found.mask, np.random.default_rng(seed))
    return cut_square(found.image, found.mask, cut, settings.pictures.size)


def regions(settings: PriorsSettings) -> Iterator[tuple[Picture, Mask]]:
    """The same of everything that the middle squares of frames of unseen rooms show."""
    about = settings.pictures
    for index in range(about.rooms, about.rooms + ROOMS):
        for image, names in zip(*room_frames(index, about.frames, settings.seed), strict=True):
            side = min(names.shape)
            cut = ((names.shape[0] - side) // 2, (names.shape[1] - side) // 2, side)
            for name in np.unique(names[names > 0]):
                picture, mask = cut_square(image, names == name, cut, about.size)
                if mask.mean() >= LEAST_SHARE:
                    yield picture, mask


def segmenter_figures(folder: Path, settings: PriorsSettings) -> dict[str, Any]:
    """Figures of the SAM in `folder`, asked by three points of the true mask.

    They are chosen as `sas capability` chooses those of a coarse mask, but no frame of the picture
    is cleared before, which that does: true masks reach to the edge, and all of them are asked for.

    Returns:
        of `things` and of `regions`: `count`; `iou`, mean over the masks; `predicted`, the mean of
        what SAM says its IoU is; `sure`, the share for which it says enough for the usual rule of
        rejection; `iou_sure`, the mean IoU of those, None without any.
    """
    sam = load_segmenter("transformers", folder, device="cpu")
    assert sam is not None
    names = settings.pictures.names
    seen = [thing(settings, name, number) for name in names for number in range(PER_CLASS)]
    return {"things": _figures(sam, seen), "regions": _figures(sam, list(regions(settings)))}


def _figures(sam: Segmenter, examples: list[tuple[Picture, Mask]]) -> dict[str, Any]:
    iou: list[float] = []
    predicted: list[float] = []
    for image, mask in examples:
        found = sam.segment(image, prompt_points(mask, frame=0.0).points)
        both, either = (found.mask & mask).sum(), (found.mask | mask).sum()
        iou.append(float(both) / max(int(either), 1))
        predicted.append(found.score)
    sure = np.array(predicted) >= RejectionRule().least_score
    return {
        "count": len(examples),
        "iou": float(np.mean(iou)),
        "predicted": float(np.mean(predicted)),
        "sure": float(sure.mean()),
        "iou_sure": float(np.array(iou)[sure].mean()) if sure.any() else None,
    }
