"""The boxes that come with a ScanNet room, found again among its objects.

VoteNet's preprocessing keeps a room's boxes beside its points (docs/formats.md): along the axes of
the room, around all vertices of an object, of which the scan has some. They do not say which
object they are of.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.evaluation.labelled import SCANNET_VERTICES
from sas_training.evaluation.labels import LabelSet

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_BOXES = "_bbox.npy"
_SAME = 0.5  # IoU with the box of the object's own points; in two real rooms 0.87 or more


def boxes_beside(
    path: Path,
    labels: LabelSet,
    points: npt.NDArray[np.floating],
    objects: IntArray,
    classes: IntArray,
) -> Float64Array | None:
    """The box of each true object of the scan in `path`, where one lies beside it.

    Args:
        points: (N, 3) metres, the scan.
        objects: (N,) number of each point's object, from 0; -1 for none.
        classes: (k,) class of each object, of `labels`.

    Returns:
        (k, 6) metres: centre, longer horizontal, other horizontal, vertical side; NaN for an object
        without a box. A box is that of the object of its class that it fits best, and of no other.
        None where the scan has no boxes.

    Raises:
        SasError: the file of boxes is none.
    """
    file = Path(str(path).removesuffix(SCANNET_VERTICES) + _BOXES)
    if not path.name.endswith(SCANNET_VERTICES) or not file.exists():
        return None
    low, high, of_boxes = _read(file, labels)
    found = np.full((len(classes), 6), np.nan)
    fit = np.zeros((len(classes), len(of_boxes)))
    for number in range(len(classes)):
        mine = points[objects == number].astype(np.float64)
        if len(mine):
            overlap = _iou(mine.min(axis=0), mine.max(axis=0), low, high)
            fit[number] = np.where(of_boxes == classes[number], overlap, 0.0)
    while fit.size and fit.max() >= _SAME:
        best, box = np.unravel_index(int(fit.argmax()), fit.shape)
        sides = high[box] - low[box]
        found[best] = [*(low[box] + high[box]) / 2, *sorted(sides[:2], reverse=True), sides[2]]
        fit[best], fit[:, box] = 0.0, 0.0
    return found


def _read(file: Path, labels: LabelSet) -> tuple[Float64Array, Float64Array, IntArray]:
    """Least and greatest corners (b, 3), metres, and classes (b,) of `labels`."""
    try:
        boxes = np.asarray(np.load(file, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise SasError(f"{file} holds no boxes ({error}).") from error
    if boxes.ndim != 2 or boxes.shape[1] != 7 or not np.isfinite(boxes).all():
        raise SasError(
            f"{file} must hold a row of finite numbers a box: centre, three sides, NYU40 class."
        )
    classes = [labels.from_nyu40(int(number)) for number in boxes[:, 6]]
    half = boxes[:, 3:6] / 2
    return boxes[:, :3] - half, boxes[:, :3] + half, np.array(classes, dtype=np.int64)


def _iou(
    low: Float64Array, high: Float64Array, lows: Float64Array, highs: Float64Array
) -> Float64Array:
    """(b,) IoU of one box with others (b, 3), all along the same axes."""
    common = np.maximum(np.minimum(high, highs) - np.maximum(low, lows), 0.0).prod(axis=1)
    union = (high - low).prod() + (highs - lows).prod(axis=1) - common
    return np.asarray(common / np.maximum(union, 1e-12))
