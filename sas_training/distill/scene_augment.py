"""What a scene goes through before a student sees it: two styles, by name.

`reference` has the distortions of the paper (method reference 6.4): elastic, rotation, scale,
horizontal flips, a shift of the whole voxel grid - of each scene by itself here, while the released
code draws one shift for all scenes of a batch. `rooms` has those of the label-trained indoor
student (`sas_training.distill.augment`): points dropped, holes, tilt, noise, other colours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.student.inputs import FLOOR_PERCENTILE
from sas_training.distill.augment import (
    AugmentConfig,
    distort,
    recolour,
    rotation_x,
    rotation_y,
    rotation_z,
    thin_out,
)

STYLES = ("reference", "rooms", "none")
_ROOMS = AugmentConfig()

Points = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AugmentSettings:
    """How samples are distorted; what follows `style` counts for the style "reference" alone.

    Attributes:
        style: one of `STYLES`.
        elastic: probability of the elastic distortion.
        elastic_sizes: pairs of the cell of its grid of noise and its strength, metres, one after
            the other: (0.2, 0.4, 0.8, 1.6).
        tilt: largest turn about x and y, radians; about z all turns occur.
        scale: smallest and largest scale.
        flip: probability that flips are drawn at all; then x and y flip with 1/2 each.
        shift: the voxel grid is shifted by 0 to this many voxels, less one, along each axis.
    """

    style: str = "reference"
    elastic: float = 0.95
    elastic_sizes: tuple[float, ...] = (0.2, 0.4, 0.8, 1.6)
    tilt: float = float(np.pi / 64)
    scale: tuple[float, float] = (0.9, 1.1)
    flip: float = 0.95
    shift: int = 100

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise SasError(f"The style {self.style!r} is unknown; known are {', '.join(STYLES)}.")
        for name in ("elastic", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise SasError(f"The probability {name} must lie in 0 to 1.")
        if len(self.elastic_sizes) % 2 or any(size <= 0 for size in self.elastic_sizes):
            raise SasError("elastic_sizes must be pairs of a cell and a strength, above 0 m.")
        if not 0 < self.scale[0] <= self.scale[1] <= 10:
            raise SasError("scale must be two numbers above 0, the smaller first, up to 10.")
        if not 0 <= self.tilt <= np.pi or not 0 <= self.shift <= 100_000:
            raise SasError("tilt must lie in 0 to pi, and shift in 0 to 100000.")

    @property
    def rigid(self) -> AugmentSettings:
        """Of the style "reference" turns and scale alone, what the released code never leaves out;
        of other styles nothing."""
        if self.style != "reference":
            return AugmentSettings(style="none")
        return replace(self, elastic=0.0, flip=0.0, shift=0)


@dataclass(frozen=True, eq=False)
class Distorted:
    """A scene as a student is to see it.

    Attributes:
        rows: (P,) which points are left.
        points: (P, 3) float32 where they are now, metres, z up, the floor near z = 0.
        colors: (P, 3) 0..255, or None.
    """

    rows: npt.NDArray[np.intp]
    points: Points
    colors: npt.NDArray[Any] | None


def floor_height(points: Points) -> float:
    """z of the floor of a scene (N, 3), metres."""
    return float(np.percentile(points[:, 2], FLOOR_PERCENTILE))


def distorted(
    points: Points,
    colors: npt.NDArray[Any] | None,
    groups: npt.NDArray[np.integer[Any]],
    settings: AugmentSettings,
    rng: np.random.Generator,
) -> Distorted:
    """Distort a scene or a part of one.

    Args:
        points: (N, 3) float32 metres, z up, the floor of the scene at z = 0, finite.
        colors: (N, 3) uint8, or None.
        groups: (N,) what belongs together and is painted alike: superpoints.
    """
    everything = np.arange(len(points))
    if settings.style == "none":
        return Distorted(everything, points, colors)
    if settings.style == "reference":
        return Distorted(everything, _as_reference(points, settings, rng), colors)
    rows = thin_out(points, _ROOMS, rng)
    if colors is not None:
        lost = rng.random() < _ROOMS.colourless
        colors = (
            None
            if lost
            else recolour(
                points=points[rows],
                colors=colors[rows],
                objects=groups[rows],
                config=_ROOMS,
                rng=rng,
            )
        )
    return Distorted(rows, distort(points[rows], _ROOMS, rng), colors)


def _as_reference(points: Points, settings: AugmentSettings, rng: np.random.Generator) -> Points:
    moved = points.astype(np.float64)
    if settings.elastic and rng.random() < settings.elastic:
        for cell, strength in np.reshape(settings.elastic_sizes, (-1, 2)):
            moved = moved + smooth_noise(moved, float(cell), rng) * strength
    tilt = settings.tilt
    turns = [
        rotation_x(rng.uniform(-tilt, tilt)),
        rotation_y(rng.uniform(-tilt, tilt)),
        rotation_z(rng.uniform(-np.pi, np.pi)),
    ]
    first, second, third = rng.permutation(3)
    matrix = turns[first] @ turns[second] @ turns[third] * rng.uniform(*settings.scale)
    return np.asarray(moved @ matrix.T, dtype=np.float32)


def smooth_noise(
    points: npt.NDArray[np.float64], cell: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """(N, 3) smooth random offsets: standard Gaussian noise on a grid of `cell` metres, averaged
    over three neighbours along each axis, twice, and interpolated trilinearly at `points`.

    The grid is wider than the points by a cell on each side; outside of it is zero.
    """
    low = points.min(axis=0) - cell
    size = np.ceil((points.max(axis=0) - low) / cell).astype(int) + 2
    noise = rng.standard_normal((*size, 3)).astype(np.float32)
    for _ in range(2):
        for axis in range(3):
            noise = _box3(noise, axis)
    place = (points - low) / cell
    corner = np.minimum(np.floor(place).astype(np.int64), size - 2)
    share = place - corner
    flat, stride = noise.reshape(-1, 3), np.array([size[1] * size[2], size[2], 1])
    result = np.zeros(points.shape)
    for number in range(8):
        bits = np.array([number >> 2 & 1, number >> 1 & 1, number & 1])
        weight = np.where(bits, share, 1 - share).prod(axis=1)
        result += weight[:, None] * flat[(corner + bits) @ stride]
    return result


def _box3(noise: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float32]:
    """The mean of each value and its two neighbours along an axis, zero outside."""
    padding = [(0, 0)] * noise.ndim
    padding[axis] = (1, 1)
    padded = np.moveaxis(np.pad(noise, padding), axis, 0)
    return np.moveaxis((padded[:-2] + padded[1:-1] + padded[2:]) / np.float32(3), 0, axis)


def flipped_and_shifted(
    coordinates: npt.NDArray[np.int32], settings: AugmentSettings, rng: np.random.Generator
) -> npt.NDArray[np.int32]:
    """Voxel coordinates (M, 4) (batch, x, y, z), in style "reference" mirrored and moved."""
    if settings.style != "reference":
        return coordinates
    result = coordinates.copy()
    result[:, 1:] -= result[:, 1:].min(axis=0)
    if rng.random() < settings.flip:
        for axis in (1, 2):
            if rng.random() < 0.5:
                result[:, axis] = result[:, axis].max() - result[:, axis]
    if settings.shift:
        result[:, 1:] += rng.integers(settings.shift, size=3, dtype=np.int32)
    return result
