"""Where to look from: a perspective camera that shows a room as a person would photograph it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.observation import Float64Array

FIELD_OF_VIEW = 36.0
"""Degrees, of the shorter side of a picture: long lenses keep furniture in proportion."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in coordinates with z up.

    Attributes:
        eye: (3,) metres.
        axes: (3, 3) rows are the picture's right, down and forward.
        focal: pixels.
        middle: (2,) pixel of the optical axis.
    """

    eye: Float64Array
    axes: Float64Array
    focal: float
    middle: Float64Array

    def project(self, points: Float64Array) -> tuple[Float64Array, Float64Array]:
        """(N, 2) pixels (x right, y down) and (N,) depths in metres, negative behind the eye."""
        local = (points - self.eye) @ self.axes.T
        depth = local[:, 2]
        safe = np.where(np.abs(depth) < 1e-6, 1e-6, depth)
        return local[:, :2] * (self.focal / safe)[:, None] + self.middle, depth


def camera_axes(azimuth: float, elevation: float) -> Float64Array:
    """Axes of a camera that stands at `azimuth` (radians from x) and looks down by `elevation`."""
    cos_e, sin_e = math.cos(elevation), math.sin(elevation)
    cos_a, sin_a = math.cos(azimuth), math.sin(azimuth)
    forward = np.array([-cos_e * cos_a, -cos_e * sin_a, -sin_e])
    right = np.array([-sin_a, cos_a, 0.0])
    return np.stack([right, np.cross(forward, right), forward])


def frame(
    points: Float64Array, axes: Float64Array, size: tuple[int, int], area: npt.NDArray[np.float64]
) -> Camera:
    """The camera with the given axes, as near as shows all `points`.

    Args:
        points: (N, 3) that must be seen.
        axes: (3, 3) as in `Camera`.
        size: picture width and height, pixels.
        area: left, top, right, bottom in pixels: where the points should be.
    """
    focal = min(size) / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2)
    local = points @ axes.T
    target = (local.min(axis=0) + local.max(axis=0)) / 2
    half = np.array([area[2] - area[0], area[3] - area[1]]) / 2 / focal
    distance = 0.0
    for _ in range(4):
        offset = local - target
        distance = float((np.abs(offset[:, :2]) / half - offset[:, 2:]).max())
        distance = max(distance, 0.1)
        seen = offset[:, :2] / (offset[:, 2:] + distance)
        target[:2] += (seen.min(axis=0) + seen.max(axis=0)) / 2 * distance
    middle = np.array([(area[0] + area[2]) / 2, (area[1] + area[3]) / 2])
    eye = axes.T @ (target - [0.0, 0.0, distance])
    return Camera(eye, axes, focal, middle)
