"""A generated room as scanners deliver rooms: depth views fused to a triangle mesh."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.errors import SasError
from sas_ros.files import atomic_write

from .furniture import Rng, between
from .primitives import Array
from .rays import RoomRays, pixel_rays
from .sensor import Sensor
from .shading import Shading
from .walk import trajectory

WIDTH, HEIGHT = 160, 120
_FOV = float(np.radians(58.0))
_VOXEL = 0.04  # m; published scans have vertices about as far apart
_TRUNCATION = 0.12  # m
_SMALL = 60  # triangles; connected pieces of fewer are noise
_BLOCKS = 20_000  # of 8 x 8 x 8 voxels, at first; it grows
_EVERY = 3  # of the rays that say what a vertex belongs to

_VERTEX = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("red", "u1"),
        ("green", "u1"),
        ("blue", "u1"),
        ("label", "u1"),
        ("instance", "<u2"),
    ]
)
_FACE = np.dtype([("count", "u1"), ("corners", "<i4", (3,))])
_PLY_TYPES = {"<f4": "float", "|u1": "uchar", "<u2": "ushort"}


@dataclass(frozen=True, eq=False)
class LabelledMesh:
    """Triangles of a scanned room.

    vertices (V, 3) float32 metres, room frame, z up, floor at z = 0; colors (V, 3) uint8 RGB;
    labels (V,) int64, 0..19 or 255; instances (V,) int32, 0 structure; faces (F, 3) int64.
    """

    vertices: Array
    colors: Array
    labels: Array
    instances: Array
    faces: Array


def mesh_path(out: Path, index: int) -> Path:
    """File of a room's mesh."""
    return out / "meshes" / f"room-{index:06d}.ply"


def scan_mesh(rays: RoomRays, shading: Shading, rng: Rng) -> LabelledMesh:
    """Walk through a room with a depth camera and fuse its views in a truncated distance field.

    Args:
        rays, shading: the room, its light and materials.
        rng: the only source of chance: the walk, the sensor, a drift of some millimetres a view.

    Raises:
        SasError: Open3D is missing, which the fusion is done with.
    """
    try:
        import open3d  # noqa: F401 - asked for before the work begins
    except ImportError as error:
        raise SasError(
            "Meshes are fused with Open3D, which cannot be imported here; install the extra "
            f"`training`, or leave out --mesh ({error})."
        ) from error
    from scipy.spatial import cKDTree

    sensor = Sensor(far=between(rng, 3.6, 5.2), noise=between(rng, 0.0008, 0.002))
    poses = trajectory(rays, rng, sensor)
    hits = rays.look(poses, WIDTH, HEIGHT, _FOV)
    distance, valid = sensor.measured(rng, hits, rays.seen, (HEIGHT, WIDTH))
    colors = np.zeros((len(distance), 3), np.uint8)
    kept = np.flatnonzero(valid)
    colors[kept] = shading.fused_colors(hits, kept, rng)
    along = np.tile(pixel_rays(WIDTH, HEIGHT, _FOV)[:, 2], len(poses))
    depth = np.where(valid, distance * along, 0.0).astype(np.float32)

    slip = np.cumsum(rng.normal(0, 0.002, (len(poses), 3)), axis=0)
    moved = np.array(poses, np.float64)
    moved[:, :3, 3] += slip - slip.mean(axis=0)
    vertices, painted, faces = _integrated(
        depth.reshape(-1, HEIGHT, WIDTH, 1), colors.reshape(-1, HEIGHT, WIDTH, 3), moved
    )
    met = hits.origins[kept[::_EVERY]] + (
        hits.directions[kept[::_EVERY]] * distance[kept[::_EVERY], None]
    )
    _, nearest = cKDTree(met).query(vertices)
    things = hits.thing[kept[::_EVERY]][nearest]
    return LabelledMesh(
        vertices=vertices,
        colors=painted,
        labels=rays.labels[things],
        instances=rays.instances[things].astype(np.int32),
        faces=faces,
    )


def _integrated(depth: Array, colors: Array, poses: Array) -> tuple[Array, Array, Array]:
    """Vertices (V, 3) float32, colours (V, 3) uint8 and faces (F, 3) int64 of depth views
    (P, H, W, 1) metres along the axis, 0 unknown, with camera-to-room poses (P, 4, 4)."""
    import open3d

    core: Any = open3d.core  # its stubs lack arrays
    focal = WIDTH / 2 / np.tan(_FOV / 2)
    camera = core.Tensor(
        np.array([[focal, 0, (WIDTH - 1) / 2], [0, focal, (HEIGHT - 1) / 2], [0, 0, 1.0]])
    )
    kinds: Any = ((1,), (1,), (3,))
    grid = open3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"),
        (core.float32, core.float32, core.float32),
        kinds,
        voxel_size=_VOXEL,
        block_resolution=8,
        block_count=_BLOCKS,
    )
    for view, seen, pose in zip(depth, colors, poses, strict=True):
        image = open3d.t.geometry.Image(core.Tensor(np.ascontiguousarray(view)))
        paint = open3d.t.geometry.Image(core.Tensor(seen.astype(np.float32)))
        to_camera = core.Tensor(np.linalg.inv(pose))
        scale, far, multiple = 1.0, float(depth.max()) + 1.0, _TRUNCATION / _VOXEL
        blocks = grid.compute_unique_block_coordinates(
            image, camera, to_camera, scale, far, multiple
        )
        grid.integrate(blocks, image, paint, camera, camera, to_camera, scale, far, multiple)
    mesh = grid.extract_triangle_mesh(weight_threshold=1.0).to_legacy()
    pieces, sizes, _ = mesh.cluster_connected_triangles()
    mesh.remove_triangles_by_mask(np.asarray(sizes)[np.asarray(pieces)] < _SMALL)
    mesh.remove_unreferenced_vertices()
    vertices = np.asarray(mesh.vertices).astype(np.float32)
    painted = np.clip(np.rint(np.asarray(mesh.vertex_colors)), 0, 255).astype(np.uint8)
    # Blocks come in the order of a hash table; sorted, the same room has the same bytes.
    order = np.lexsort(vertices.T)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    faces = place[np.asarray(mesh.triangles)]
    turns = (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3
    faces = np.take_along_axis(faces, turns, axis=1)
    return vertices[order], painted[order], faces[np.lexsort(faces.T)]


def write_mesh(path: Path, mesh: LabelledMesh) -> None:
    """Write a binary PLY, atomically: x, y, z, red, green, blue, label, instance; triangles."""
    rows = np.zeros(len(mesh.vertices), _VERTEX)
    for column, name in enumerate("xyz"):
        rows[name] = mesh.vertices[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        rows[name] = mesh.colors[:, column]
    rows["label"], rows["instance"] = mesh.labels, mesh.instances
    faces = np.zeros(len(mesh.faces), _FACE)
    faces["count"], faces["corners"] = 3, mesh.faces
    properties = "".join(
        f"property {_PLY_TYPES[_VERTEX[name].str]} {name}\n" for name in _VERTEX.names or ()
    )
    head = (
        "ply\nformat binary_little_endian 1.0\ncomment metres, z up, generated room\n"
        f"element vertex {len(rows)}\n{properties}"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    atomic_write(path, head.encode("ascii") + rows.tobytes() + faces.tobytes())
