"""Choosing a view of a cloud by itself, and cutting away what hides the inside of a room."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.observation import Float64Array
from sas_ros.pictures.camera import Camera, camera_axes, frame

_ROOM_ELEVATION = math.radians(50.0)
_HEADINGS = 12
_SAMPLE = 15_000
_CEILING_LOWEST = 1.9
"""Metres above the floor where a ceiling may begin."""
_CUT = 2.15
"""Metres: walls are cut here, below what scans see of ceilings, which leaves them a clean edge."""
_TALLEST_ROOM = 4.5
"""Metres; what is higher is no room, and is not cut."""
_COLUMN = 0.15
"""Metres, the edge of the columns a room is looked at in."""
_WALL_HEIGHT = 1.3
"""Metres; what is at least as high and nothing is in front of, is a wall that hides the room."""
_SKIRTING = 0.12
"""Metres of a wall that is cut away that stay, to show where it stands."""


@dataclass(frozen=True)
class View:
    """A camera and the points it should draw."""

    camera: Camera
    keep: npt.NDArray[np.bool_]


def choose_view(
    points: Float64Array,
    spacing: Float64Array,
    mode: str,
    size: tuple[int, int],
    area: npt.NDArray[np.float64],
) -> View:
    """Choose a camera for a cloud.

    A cloud that was seen from one place (the origin, with all points on one side) is shown from a
    little above that place, for it is empty behind. Any other is shown as a doll's house: from
    above, without its ceiling and without the walls on the near side, from the heading that hides
    least. A floor plan is seen from straight above, x to the right, without the ceiling.

    Args:
        points: (N, 3) finite, metres, z up, relative to the sensor where there was one.
        spacing: (N,) metres to the next points; where it is wide, there is little to see.
        mode: "auto", "room", "sensor" or "top".
        size: picture width and height.
        area: left, top, right, bottom in pixels: where the points should be.
    """
    framed = _without_strays(points, spacing)
    if mode == "sensor" or (mode == "auto" and _seen_from_origin(points)):
        return View(_sensor_camera(points, points[framed], size, area), np.ones(len(points), bool))
    below = _below_ceiling(points)
    framed &= below
    if mode == "top":
        axes = camera_axes(-math.pi / 2, math.pi / 2)
        return View(frame(points[framed], axes, size, area), below)
    best, best_score = None, -1.0
    sample = np.flatnonzero(below)[:: 1 + int(below.sum()) // _SAMPLE]
    fitted = points[framed][:: 1 + int(framed.sum()) // _SAMPLE]
    for index in range(_HEADINGS):
        azimuth = 2 * math.pi * (index + 0.5) / _HEADINGS
        keep = ~_near_walls(points[sample], azimuth)
        camera = frame(fitted, camera_axes(azimuth, _ROOM_ELEVATION), size, area)
        score = _worth_seeing(points[sample][keep], camera, azimuth)
        if score > best_score:
            best, best_score = (azimuth, camera), score
    assert best is not None
    return View(best[1], below & ~_near_walls(points, best[0]))


def _without_strays(points: Float64Array, spacing: Float64Array) -> npt.NDArray[np.bool_]:
    """Points that a picture should be fitted to: not the thin ones, nor single ones far out."""
    dense = spacing <= 4 * np.median(spacing)
    chosen = points[dense]
    low, high = np.percentile(chosen[:: 1 + len(chosen) // 20_000], (1, 99), axis=0)
    slack = 0.05 * (high - low) + 0.05
    return np.asarray(dense & ((points > low - slack) & (points < high + slack)).all(axis=1))


def _seen_from_origin(points: Float64Array) -> bool:
    sample = points[:: 1 + len(points) // 5000]
    distance = np.linalg.norm(sample, axis=1)
    directions = sample[distance > 1e-3] / distance[distance > 1e-3, None]
    if not len(directions):
        return False
    mean = directions.mean(axis=0)
    strength = float(np.linalg.norm(mean))
    # A camera's cone has a mean of 0.9; half of a room seen from its edge comes to 0.7.
    return strength > 0.8 and bool(np.percentile(directions @ mean / strength, 2) > 0.5)


def _sensor_camera(
    points: Float64Array,
    framed: Float64Array,
    size: tuple[int, int],
    area: npt.NDArray[np.float64],
) -> Camera:
    middle = np.median(points, axis=0)
    elevation = math.atan2(-middle[2], math.hypot(middle[0], middle[1]))
    elevation = min(max(elevation + math.radians(14.0), math.radians(18.0)), math.radians(60.0))
    azimuth = math.atan2(-middle[1], -middle[0]) + math.radians(9.0)
    fitted = framed[:: 1 + len(framed) // _SAMPLE]
    return frame(fitted, camera_axes(azimuth, elevation), size, area)


def _below_ceiling(points: Float64Array) -> npt.NDArray[np.bool_]:
    """All points but those of a ceiling."""
    floor, top = np.percentile(points[:, 2], (1, 99.5))
    height = points[:, 2] - floor
    first_high = max(_CEILING_LOWEST, 0.6 * float(top - floor))
    columns = np.floor((points[:, :2] - points[:, :2].min(axis=0)) / _COLUMN).astype(np.int64)
    keys = columns[:, 0] * (int(columns[:, 1].max()) + 1) + columns[:, 1]
    # A piece of ceiling: high up, with nothing at breast height under it. Walls, doors and
    # wardrobes fill the columns below their tops.
    filled = np.zeros(int(keys.max()) + 1, bool)
    filled[keys[(height > 1.0) & (height < _CEILING_LOWEST)]] = True
    piece = (height > first_high) & ~filled[keys]
    # A whole ceiling is at one height, which many pieces share; cut there all around.
    slices = np.floor(height[piece] / 0.1).astype(np.int64)
    pairs = np.unique(np.stack([slices, keys[piece]], axis=1), axis=0)
    share = np.bincount(pairs[:, 0], minlength=1) / len(np.unique(keys))
    whole = np.flatnonzero(share > 0.15)
    cut = 0.1 * (int(whole[0]) - 1) if len(whole) else math.inf
    if top - floor < _TALLEST_ROOM:
        cut = min(cut, _CUT)
    return np.asarray(~piece & (height < cut), dtype=np.bool_)


def _near_walls(points: Float64Array, azimuth: float) -> npt.NDArray[np.bool_]:
    """Which points belong to high things that stand between the viewer and everything else."""
    cell = 0.15
    across = points[:, 0] * -math.sin(azimuth) + points[:, 1] * math.cos(azimuth)
    toward = points[:, 0] * math.cos(azimuth) + points[:, 1] * math.sin(azimuth)
    lane = np.floor((across - across.min()) / cell).astype(np.int64)
    # Nearest place of each lane, without single points outside.
    order = np.lexsort((-toward, lane))
    starts = np.searchsorted(lane[order], np.arange(int(lane.max()) + 1))
    counts = np.diff(np.append(starts, len(lane)))
    first = toward[order[np.minimum(starts + counts // 200, len(lane) - 1)]]
    gap = first[lane] - toward
    floor = float(np.percentile(points[:, 2], 1))
    near = (gap < 0.45) & (gap > -2.0)
    height = points[:, 2] - floor
    tallest = np.zeros(len(first))
    np.maximum.at(tallest, lane[near], height[near])
    return np.asarray(near & (tallest[lane] > _WALL_HEIGHT) & (height > _SKIRTING))


def _worth_seeing(points: Float64Array, camera: Camera, azimuth: float) -> float:
    """How much can be seen: points with nothing in front, those of tall things best far away.

    Things stand with their backs to the walls: from the near side, tall ones show their backs.
    """
    pixels, depth = camera.project(points)
    scale = math.sqrt(len(points)) / 1.5 / float(np.ptp(pixels, axis=0).max() + 1e-6)
    steps = np.floor((pixels - pixels.min(axis=0)) * scale).astype(np.int64)
    keys = steps[:, 0] * (int(steps[:, 1].max()) + 1) + steps[:, 1]
    nearest = np.full(int(keys.max()) + 1, np.inf)
    np.minimum.at(nearest, keys, depth)
    visible = depth < nearest[keys] + 0.25
    toward = points[:, 0] * math.cos(azimuth) + points[:, 1] * math.sin(azimuth)
    low, middle, high = np.percentile(toward, (2, 50, 98))
    away = np.clip((middle - toward) / max(float(high - low) / 2, 1e-6), -1.0, 1.0)
    tall = np.clip((points[:, 2] - np.percentile(points[:, 2], 1)) / 1.2, 0.0, 1.0)
    return float((visible * (1.0 + away * tall)).sum())
