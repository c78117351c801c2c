"""A small depth buffer, so that a room can be scanned without open3d.

Where numba is there, it fills the triangles; without, numpy does, to the same bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from .primitives import Array

NEAR = 0.05  # m; triangles that reach nearer to the camera plane are left out
LONGEST = 0.6  # m; longer edges are split first, so that leaving a triangle out costs little
_SIDE = 448  # pixels across a side of the cube that arbitrary rays are looked up in


class Raster:
    """Draws triangles of `vertices (V, 3)` and `triangles (T, 3)` into depth images."""

    def __init__(self, vertices: Array, triangles: Array) -> None:
        self._whole = vertices[triangles].astype(np.float32)
        self._corners, self._source = _split(self._whole)

    def first(self, poses: Array, width: int, height: int, fov: float) -> tuple[Array, Array]:
        """Distance (R,) float32 m along unit rays (inf: none), triangle (R,) int64 (-1: none)."""
        answers = [self._draw(pose, width, height, fov) for pose in np.asarray(poses, np.float32)]
        return np.concatenate([a for a, _ in answers]), np.concatenate([b for _, b in answers])

    def along(self, origin: Array, directions: Array) -> tuple[Array, Array]:
        """Distance (R,) and triangle (R,) along unit `directions (R, 3)` from one point (3,).

        The six sides of a cube round the point are drawn; a ray meets the plane of the triangle
        in its pixel, so that only silhouettes are as coarse as the pixels, 0.2 degrees.
        """
        distance = np.full(len(directions), np.inf, np.float32)
        triangle = np.full(len(directions), -1, np.int64)
        axis = np.abs(directions).argmax(1)
        ahead = np.take_along_axis(directions, axis[:, None], 1)[:, 0]
        for side in range(6):
            rows = np.flatnonzero((axis == side // 2) & ((ahead > 0) == (side % 2 == 0)))
            if not len(rows):
                continue
            pose = _side(origin, side)
            _, drawn = self._draw(pose, _SIDE, _SIDE, np.pi / 2)
            local = directions[rows] @ pose[:3, :3]
            pixel = np.rint(local[:, :2] / local[:, 2:] * (_SIDE / 2) + (_SIDE - 1) / 2)
            column, row = np.clip(pixel, 0, _SIDE - 1).astype(np.int64).T
            found = drawn[row * _SIDE + column]
            rows, found = rows[found >= 0], found[found >= 0]
            corners = self._whole[found] - origin.astype(np.float32)
            normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            slope = (normals * directions[rows]).sum(1)
            with np.errstate(divide="ignore", invalid="ignore"):
                length = (normals * corners[:, 0]).sum(1) / slope
            # Beside a triangle that is seen edge on, its plane may be anywhere.
            reach = np.linalg.norm(corners, axis=2)
            near, far = 0.5 * reach.min(1), 1.05 * reach.max(1) + 0.01
            good = np.isfinite(length) & (length > np.minimum(near, 0.05)) & (length < far)
            distance[rows[good]], triangle[rows[good]] = length[good], found[good]
        return distance, triangle

    def _draw(self, pose: Array, width: int, height: int, fov: float) -> tuple[Array, Array]:
        focal = float(width / 2 / np.tan(fov / 2))
        draw = compiled() or drawn_by_numpy
        at, row, inverse = draw(self._corners, pose, width, height, focal, np.float32(NEAR))
        distance = np.full(width * height, np.inf, np.float32)
        triangle = np.full(width * height, -1, np.int64)
        ray = np.hypot(
            np.hypot((at % width - (width - 1) / 2) / focal, 1.0),
            (at // width - (height - 1) / 2) / focal,
        )
        distance[at] = ray / inverse
        triangle[at] = self._source[row]
        return distance, triangle


def _side(origin: Array, side: int) -> Array:
    """Pose (4, 4) at a point that looks along +x, -x, +y, -y, +z or -z."""
    axis, sign = side // 2, 1.0 if side % 2 == 0 else -1.0
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = 0.0
    pose[(axis + 1) % 3, 0], pose[(axis + 2) % 3, 1] = 1.0, sign
    pose[axis, 2] = sign
    pose[:3, 3] = origin
    return pose


@functools.cache
def compiled() -> Callable[..., tuple[Array, Array, Array]] | None:
    """`_drawn` as machine code, kept on disk between processes; None without numba."""
    try:
        from numba import njit
    except ImportError:
        return None
    result: Callable[..., tuple[Array, Array, Array]] = njit(cache=True, nogil=True)(_drawn)
    return result


def _drawn(
    corners: Array, pose: Array, width: int, height: int, focal: float, near: np.float32
) -> tuple[Array, Array, Array]:
    """What is nearest in every pixel, in plain loops.

    Args:
        corners: (T, 3, 3) float32, metres.
        pose: (4, 4) float32, camera-to-room.
        focal: pixels.
        near: triangles with a corner no further ahead are left out, metres.

    Returns:
        Pixels (P,) that a triangle covers, ascending, v * width + u; the triangle (P,) of each, the
        first among equally near ones; its inverse depth there (P,) float64.
    """
    nearest = np.zeros(width * height)
    owner = np.full(width * height, -1, np.int64)
    count = 0
    u, v, z = np.empty(3), np.empty(3), np.empty(3, np.float32)
    for t in range(len(corners)):
        ahead = True
        for k in range(3):
            x = corners[t, k, 0] - pose[0, 3]
            y = corners[t, k, 1] - pose[1, 3]
            h = corners[t, k, 2] - pose[2, 3]
            z[k] = x * pose[0, 2] + y * pose[1, 2] + h * pose[2, 2]
            if not z[k] > near:
                ahead = False
                break
            across = x * pose[0, 0] + y * pose[1, 0] + h * pose[2, 0]
            down = x * pose[0, 1] + y * pose[1, 1] + h * pose[2, 1]
            u[k] = across / z[k] * focal + (width - 1) / 2
            v[k] = down / z[k] * focal + (height - 1) / 2
        if not ahead:
            continue
        left, right = max(np.ceil(u.min()), 0.0), min(np.floor(u.max()), width - 1.0)
        top, bottom = max(np.ceil(v.min()), 0.0), min(np.floor(v.max()), height - 1.0)
        if left > right or top > bottom:
            continue
        area = (u[1] - u[0]) * (v[2] - v[0]) - (u[2] - u[0]) * (v[1] - v[0])
        if abs(area) < 1e-9:
            continue
        for row in range(int(top), int(bottom) + 1):
            for column in range(int(left), int(right) + 1):
                inverse = 0.0
                inside = True
                for k in range(3):
                    a, b = (k + 1) % 3, (k + 2) % 3
                    edge = (u[b] - u[a]) * (row - v[a]) - (v[b] - v[a]) * (column - u[a])
                    share = edge / area
                    if not share >= -1e-6:
                        inside = False
                        break
                    inverse += share / z[k]
                if not inside:
                    continue
                inverse = max(inverse, 1e-9)
                pixel = row * width + column
                if inverse > nearest[pixel]:
                    count += owner[pixel] < 0
                    nearest[pixel] = inverse
                    owner[pixel] = t
    at = np.empty(count, np.int64)
    place = 0
    for pixel in range(width * height):
        if owner[pixel] >= 0:
            at[place] = pixel
            place += 1
    return at, owner[at], nearest[at]


def drawn_by_numpy(
    corners: Array, pose: Array, width: int, height: int, focal: float, near: np.float32
) -> tuple[Array, Array, Array]:
    """The same as `_drawn`, in numpy."""
    x, y, h = np.moveaxis(corners - pose[:3, 3], 2, 0)
    # Written out: a product of matrices may round otherwise.
    across, down, z = (x * pose[0, k] + y * pose[1, k] + h * pose[2, k] for k in range(3))
    front = np.flatnonzero(z.min(1) > near)
    across, down, z = across[front], down[front], z[front]
    u = across / z * np.float64(focal) + (width - 1) / 2
    v = down / z * np.float64(focal) + (height - 1) / 2
    left = np.maximum(np.ceil(u.min(1)), 0).astype(np.int64)
    right = np.minimum(np.floor(u.max(1)), width - 1).astype(np.int64)
    top = np.maximum(np.ceil(v.min(1)), 0).astype(np.int64)
    bottom = np.minimum(np.floor(v.max(1)), height - 1).astype(np.int64)
    drawn = np.flatnonzero((left <= right) & (top <= bottom))
    # All pixels of all bounding boxes, one row each.
    columns = (right - left + 1)[drawn]
    area = columns * (bottom - top + 1)[drawn]
    row = np.repeat(np.arange(len(drawn)), area)
    step = np.arange(len(row)) - np.repeat(np.cumsum(area) - area, area)
    at_u = left[drawn][row] + step % columns[row]
    at_v = top[drawn][row] + step // columns[row]
    inverse, inside = _weights(u[drawn], v[drawn], z[drawn], row, at_u, at_v)
    row, pixel, inverse = row[inside], (at_v * width + at_u)[inside], inverse[inside]
    order = np.lexsort((-inverse, pixel))  # per pixel, the nearest first
    pixel = pixel[order]
    first = np.flatnonzero(np.append(True, pixel[1:] != pixel[:-1])) if len(order) else order
    order = order[first]
    return pixel[first], front[drawn[row[order]]], inverse[order]


def _weights(u: Array, v: Array, z: Array, row: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Inverse depth of triangles `row` at pixels x, y, and whether the pixels lie inside them."""
    area = (u[:, 1] - u[:, 0]) * (v[:, 2] - v[:, 0]) - (u[:, 2] - u[:, 0]) * (v[:, 1] - v[:, 0])
    flat = np.abs(area) < 1e-9
    area = np.where(flat, 1.0, area)
    inverse = np.zeros(len(row), np.float64)
    inside = ~flat[row]
    for k in range(3):
        a, b = (k + 1) % 3, (k + 2) % 3
        edge = (u[row, b] - u[row, a]) * (y - v[row, a]) - (v[row, b] - v[row, a]) * (x - u[row, a])
        share = edge / area[row]
        inside &= share >= -1e-6
        inverse += share / z[row, k]
    return np.maximum(inverse, 1e-9), inside


def _split(corners: Array) -> tuple[Array, Array]:
    """Halve triangles (T, 3, 3) at their longest edges until none is longer than `LONGEST`."""
    source = np.arange(len(corners))
    done: list[tuple[Array, Array]] = []
    while len(corners):
        edges = np.linalg.norm(corners - np.roll(corners, -1, 1), axis=2)
        long = edges.max(1) > LONGEST
        done.append((corners[~long], source[~long]))
        corners, source = corners[long], source[long]
        turn = (edges[long].argmax(1)[:, None] + np.arange(3)) % 3
        a, b, c = np.moveaxis(np.take_along_axis(corners, turn[:, :, None], 1), 1, 0)
        middle = (a + b) / 2
        corners = np.concatenate([np.stack([a, middle, c], 1), np.stack([middle, b, c], 1)])
        source = np.concatenate([source, source])
    return np.concatenate([c for c, _ in done]), np.concatenate([s for _, s in done])
