"""What a camera or a LiDAR sees of a generated room: the first triangle along each ray."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sas_ros.errors import SasError

from .model import Room
from .primitives import Array, merge
from .raster import Raster


@dataclass(frozen=True)
class Hits:
    """What R rays met; those of views come view by view and row by row.

    `distance (R,)` float32 m along the ray (inf: nothing), `thing (R,)` int32 row of
    `room.objects` (-1: nothing), `facing (R,)` cosine between ray and surface normal, 0..1,
    `origins (R, 3)` and `directions (R, 3)` float32 of the rays in the room, `triangle (R,)` int64
    for `RoomRays.normals` (-1: nothing).
    """

    distance: Array
    thing: Array
    facing: Array
    origins: Array
    directions: Array
    triangle: Array


class Engine(Protocol):
    """Finds the first triangle along each ray."""

    def first(self, poses: Array, width: int, height: int, fov: float) -> tuple[Array, Array]:
        """Distance (R,) m along rays of pinhole views (inf: none), triangle (R,) (-1: none)."""

    def along(self, origin: Array, directions: Array) -> tuple[Array, Array]:
        """The same along unit `directions (R, 3)` float32 from one point (3,)."""


class _Open3d:
    """Rays through open3d's Embree scene: fast, for making many rooms."""

    def __init__(self, vertices: Array, triangles: Array) -> None:
        import open3d

        core: Any = open3d.core  # its stubs do not accept numpy's array types
        self._tensor = core.Tensor
        self._scene = open3d.t.geometry.RaycastingScene(nthreads=1)
        self._scene.add_triangles(self._tensor(vertices), self._tensor(triangles.astype(np.uint32)))

    def first(self, poses: Array, width: int, height: int, fov: float) -> tuple[Array, Array]:
        return self._cast(*view_rays(poses, width, height, fov))

    def along(self, origin: Array, directions: Array) -> tuple[Array, Array]:
        return self._cast(np.broadcast_to(origin.astype(np.float32), directions.shape), directions)

    def _cast(self, origins: Array, directions: Array) -> tuple[Array, Array]:
        rays = np.concatenate([origins, directions], 1)
        answer = self._scene.cast_rays(self._tensor(rays), nthreads=1)
        distance, triangle = answer["t_hit"].numpy(), answer["primitive_ids"].numpy()
        return distance, np.where(np.isfinite(distance), triangle.astype(np.int64), -1)


class RoomRays:
    """The triangles of a room, ready to be looked at.

    Args:
        room: the room.
        engine: "open3d", "numpy" (with numba nearly as fast, without several times slower), or
            "auto": open3d where it loads. The two differ by a few rays at silhouettes.

    Raises:
        SasError: the engine is unknown, or open3d is asked for and does not load.
    """

    def __init__(self, room: Room, engine: str = "auto") -> None:
        self.room = room
        mesh = merge(thing.mesh for thing in room.objects)
        counts = [len(thing.mesh.triangles) for thing in room.objects]
        self._thing_of = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        corners = mesh.vertices[mesh.triangles]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        self._normals = (normals / np.maximum(length, 1e-12)).astype(np.float32)
        self.labels = np.array([thing.label for thing in room.objects], np.int64)
        self.instances = np.array([thing.instance for thing in room.objects], np.int32)
        self.colors = np.array([thing.color for thing in room.objects], np.float32)
        self.seen = np.array([thing.seen for thing in room.objects], np.float32)
        self.ceiling = np.array([thing.name == "ceiling" for thing in room.objects])
        self._engine = _engine(engine, mesh.vertices, mesh.triangles)

    def look(self, poses: Array, width: int, height: int, fov: float) -> Hits:
        """Look from camera-to-room `poses (V, 4, 4)` of optical frames; `fov` across, radians."""
        found = self._engine.first(poses, width, height, fov)
        return self._hits(*found, *view_rays(poses, width, height, fov))

    def cast(self, origin: Array, directions: Array) -> Hits:
        """Look from one point (3,) m along unit `directions (R, 3)` float32."""
        found = self._engine.along(np.asarray(origin), directions)
        origins = np.broadcast_to(np.asarray(origin, np.float32), directions.shape)
        return self._hits(*found, origins, directions)

    def _hits(self, distance: Array, triangle: Array, origins: Array, directions: Array) -> Hits:
        thing = np.where(triangle >= 0, self._thing_of[triangle], np.int32(-1))
        facing = np.abs((self._normals[triangle] * directions).sum(1))
        return Hits(distance, thing, facing, origins, directions, triangle)

    def normals(self, triangle: Array) -> Array:
        """Unit normals (R, 3) float32 of triangles, to either side."""
        normals: Array = self._normals[triangle]
        return normals


def _engine(name: str, vertices: Array, triangles: Array) -> Engine:
    if name not in ("auto", "open3d", "numpy"):
        raise SasError(f"There is no ray engine {name!r}; use 'auto', 'open3d' or 'numpy'.")
    if name == "numpy":
        return Raster(vertices, triangles)
    problem = _open3d_problem()
    if problem is None:
        return _Open3d(vertices, triangles)
    if name == "open3d":
        raise SasError(
            f"open3d does not load here ({problem}); install it with "
            "pip install '.[training]' in a checkout, or use the engine 'numpy'."
        )
    return Raster(vertices, triangles)


@functools.cache
def _open3d_problem() -> str | None:
    """Why open3d does not load, None where it does; where it is installed all the same, that is
    said once a process, since rooms then take longer for no visible reason."""
    try:
        import open3d  # noqa: F401
    except (ImportError, OSError) as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "open3d"
        if not absent:
            print(
                f"open3d is installed, but does not load ({error}). Rooms are made without it, "
                "which takes longer; docs/troubleshooting.md says what it needs.",
                file=sys.stderr,
                flush=True,
            )
        return str(error)
    return None


def pose_at(position: Array, yaw: float, pitch: float, roll: float = 0.0) -> Array:
    """Camera-to-room matrix (4, 4) of an optical frame (x right, y down, z ahead).

    `yaw` turns about room z (0 looks along +x), `pitch` is up positive, radians.
    """
    ahead = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(ahead, right)
    c, s = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = c * right + s * down, c * down - s * right, ahead
    pose[:3, 3] = position
    return pose


def pixel_rays(width: int, height: int, fov: float) -> Array:
    """Unit directions (height * width, 3) of all pixels, optical frame; `fov` across, radians."""
    focal = width / 2 / np.tan(fov / 2)
    u, v = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    rays = np.stack([u.ravel() / focal, v.ravel() / focal, np.ones(u.size)], 1)
    unit: Array = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit.astype(np.float32)


def view_rays(poses: Array, width: int, height: int, fov: float) -> tuple[Array, Array]:
    """Origins and unit directions (V * height * width, 3) float32 of all views, room frame."""
    turns = np.asarray(poses[:, :3, :3], np.float32)
    directions = pixel_rays(width, height, fov)[None] @ turns.transpose(0, 2, 1)
    origins = np.repeat(np.asarray(poses[:, :3, 3], np.float32), width * height, 0)
    return origins, directions.reshape(-1, 3)
