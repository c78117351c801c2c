"""From an attention map to a coarse mask, and from that to points that SAM is prompted with.

As the released code does it, with sizes as shares of the image, so that they mean the same at any
resolution: of a coarse mask a frame of 70 / 512 is cleared; three points, all positive, lie as far
as possible from the edges of its largest parts. Different from it: parts are ranked without the
background (the code takes it to be the largest region), and the image's own edge counts as an edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError

THRESHOLD = 0.7
FRAME = 70 / 512
POINTS = 3
_FEWEST = 10 / 512**2
"""Share of the image below which a mask counts as empty."""
_FALLBACK = (240 / 512, 270 / 512)
_FALLBACK_SIZE = 2 / 512

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PointPrompt:
    """What SAM is asked with.

    Attributes:
        points: (3, 2) int64, x (column) and y (row) of pixels, all of them positive.
        parts: how many parts the mask had without its frame.
        fallback: nothing was left without the frame, and points of the image's middle were taken.
    """

    points: npt.NDArray[np.int64]
    parts: int
    fallback: bool


def coarse_mask(attention: npt.NDArray[np.floating], threshold: float = THRESHOLD) -> Mask:
    """(H, W) bool: where a map (H, W) from 0 to 1 is above the threshold.

    Raises `SasError` for a map of another kind, or a threshold outside 0 to 1.
    """
    if not 0 < threshold < 1:
        raise SasError(f"The threshold of attention lies between 0 and 1, not {threshold:g}.")
    if attention.ndim != 2 or not np.isfinite(attention).all():
        raise SasError(f"A map of attention has the shape (H, W), not {attention.shape}.")
    if attention.min() < 0 or attention.max() > 1:
        raise SasError("A map of attention goes from 0 to 1.")
    return np.asarray(attention > threshold)


def prompt_points(coarse: Mask, frame: float = FRAME) -> PointPrompt:
    """Three points inside a coarse mask (H, W).

    One part: the pixel farthest from its edge, then again without this pixel, and again. Two: two
    points in the larger, one in the smaller. More: one in each of the three largest. Of equal
    pixels the first by row and column is taken, of equal parts too.

    Args:
        coarse: the mask.
        frame: cleared on all sides, as a share of the height and the width.

    Raises `SasError` for an array of another kind, or a frame that leaves nothing.
    """
    from scipy import ndimage

    inner = without_frame(coarse, frame)
    fallback = np.count_nonzero(inner) < max(POINTS, round(_FEWEST * inner.size))
    if fallback:
        inner = _middle(inner.shape)
    parts, count = ndimage.label(inner, np.ones((3, 3)))
    sizes = np.bincount(parts.reshape(-1), minlength=count + 1)[1:]
    order = 1 + np.argsort(-sizes, kind="stable")[:POINTS]
    shares = {1: (3,), 2: (2, 1)}.get(len(order), (1, 1, 1))
    found = [
        point
        for part, wanted in zip(order, shares, strict=True)
        for point in _deepest(parts == part, wanted)
    ]
    return PointPrompt(np.array(found, dtype=np.int64), int(count), bool(fallback))


def without_frame(mask: Mask, frame: float = FRAME) -> Mask:
    """A copy of a mask (H, W) without what lies in the frame."""
    if mask.ndim != 2 or mask.dtype != np.bool_ or mask.size == 0:
        raise SasError(f"A mask is bool of (H, W); got {mask.dtype} of {mask.shape}.")
    if not 0 <= frame < 0.5:
        raise SasError(f"The frame is a share of the image from 0 to below 0.5, not {frame:g}.")
    rows, columns = (round(frame * size) for size in mask.shape)
    inner = np.zeros_like(mask)
    held = (slice(rows, mask.shape[0] - rows), slice(columns, mask.shape[1] - columns))
    inner[held] = mask[held]
    return inner


def _deepest(part: Mask, wanted: int) -> list[tuple[int, int]]:
    """(x, y) of the pixel farthest from the edge, of the next one without it, and so on."""
    from scipy import ndimage

    # Outside the image there is nothing: a rim of one pixel.
    left = np.pad(part, 1)
    found: list[tuple[int, int]] = []
    for _ in range(wanted):
        if not left.any():
            # A part of fewer pixels than points are wanted: the same again.
            found.append(found[-1])
            continue
        row, column = np.unravel_index(
            int(np.argmax(ndimage.distance_transform_edt(left))), left.shape
        )
        left[row, column] = False
        found.append((int(column) - 1, int(row) - 1))
    return found


def _middle(shape: tuple[int, ...]) -> Mask:
    """Four small squares around the middle of the image."""
    mask = np.zeros(shape, dtype=bool)
    rows, columns = ([round(at * size) for at in _FALLBACK] for size in shape)
    height, width = (max(1, round(_FALLBACK_SIZE * size)) for size in shape)
    for row in rows:
        for column in columns:
            mask[row : row + height, column : column + width] = True
    return mask
