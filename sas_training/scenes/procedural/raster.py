"""A small depth buffer in numpy, so that a room can be scanned without open3d."""

from __future__ import annotations

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
        focal = width / 2 / np.tan(fov / 2)
        seen = (self._corners - pose[:3, 3]) @ pose[:3, :3]
        front = np.flatnonzero(seen[:, :, 2].min(1) > NEAR)
        seen = seen[front]
        u = seen[:, :, 0] / seen[:, :, 2] * focal + (width - 1) / 2
        v = seen[:, :, 1] / seen[:, :, 2] * focal + (height - 1) / 2
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
        x = left[drawn][row] + step % columns[row]
        y = top[drawn][row] + step // columns[row]
        inverse, inside = _weights(u[drawn], v[drawn], seen[drawn, :, 2], row, x, y)
        row, pixel, inverse = row[inside], (y * width + x)[inside], inverse[inside]
        order = np.lexsort((-inverse, pixel))  # per pixel, the nearest first
        pixel = pixel[order]
        first = (
            order[np.flatnonzero(np.append(True, pixel[1:] != pixel[:-1]))] if len(order) else order
        )
        at = (y * width + x)[inside][first]
        distance = np.full(width * height, np.inf, np.float32)
        triangle = np.full(width * height, -1, np.int64)
        ray = np.hypot(
            np.hypot((at % width - (width - 1) / 2) / focal, 1.0),
            (at // width - (height - 1) / 2) / focal,
        )
        distance[at] = ray / inverse[first]
        triangle[at] = self._source[front[drawn[row[first]]]]
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
