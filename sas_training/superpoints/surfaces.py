"""From a mesh or a raw cloud to the graph that is segmented: neighbours, normals, differences.

The difference of two neighbours is `1 - n_a . n_b`, squared where the surface is convex between
them, so that parts end at folds sooner than at ridges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.superpoints.graph import Array, IntArray, compiled, segment_graph, sorted_order

Float64Array = npt.NDArray[np.float64]

MODES = ("indoor", "outdoor")


@dataclass(frozen=True)
class SuperpointSettings:
    """How superpoints are made.

    Attributes:
        mode: "indoor" segments the surface; "outdoor" makes every point its own superpoint, as the
            method does for sparse lidar.
        k: tolerance of a single vertex; more makes larger superpoints.
        min_size: vertices that a superpoint should have.
        neighbours: clouds: nearest points that a point is joined to.
        normal_neighbours: clouds: nearest points that its normal is fitted to.
    """

    mode: str = "indoor"
    k: float = 0.01
    min_size: int = 60
    neighbours: int = 8
    normal_neighbours: int = 10

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise SasError(f"There is no superpoint mode {self.mode!r}; use {' or '.join(MODES)}.")
        if not 0 <= self.k <= 1000:
            raise SasError(f"k must lie in 0 to 1000, not {self.k:g}.")
        if self.min_size < 1:
            raise SasError(f"The smallest size must be 1 or more, not {self.min_size}.")
        for name, value in (("edges", self.neighbours), ("normals", self.normal_neighbours)):
            if not 2 <= value <= 200:
                raise SasError(f"Neighbours for {name} must lie in 2 to 200, not {value}.")


def mesh_superpoints(
    points: npt.NDArray[np.floating[Any]],
    faces: npt.NDArray[np.integer[Any]],
    settings: SuperpointSettings | None = None,
) -> IntArray:
    """Superpoints of the vertices of a mesh.

    Vertex normals are the plain mean of the unit normals of the faces around (not unit vectors
    where those differ, as in the released code). A face gives the edges (1, 2), (1, 3), (3, 2), so
    that inner ones are there twice. Faces without area have no normal, and vertices with no other
    faces have the difference 1 to all.

    Args:
        points: (N, 3) metres; what is not finite is no part of the mesh.
        faces: (F, 3) vertex numbers, counter-clockwise seen from outside.
        settings: `k` and `min_size` of it are used.

    Returns:
        (N,) int32, 0 ... L-1 in the order of first vertices; -1 where a vertex is not finite.
    """
    settings = settings or SuperpointSettings()
    places, finite = _checked(points)
    if settings.mode == "outdoor":
        return _numbered(np.arange(len(places), dtype=np.int32), finite)
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise SasError(f"A mesh needs triangles (F, 3), not {faces.dtype} {faces.shape}.")
    if len(faces) and (faces.min() < 0 or faces.max() >= len(places)):
        raise SasError(f"The faces name vertices outside 0 to {len(places) - 1}.")
    corners = np.ascontiguousarray(faces, np.int32)
    corners = np.ascontiguousarray(corners[finite[corners].all(axis=1)])
    normals = mesh_normals(places, corners)
    edges = corners[:, [0, 1, 0, 2, 2, 1]].reshape(-1, 2)
    weights = edge_weights(places, normals, edges)
    labels = segment_graph(edges, weights, len(places), settings.k, settings.min_size)
    return _numbered(labels, finite)


def cloud_superpoints(
    points: npt.NDArray[np.floating[Any]],
    settings: SuperpointSettings | None = None,
    viewpoint: npt.NDArray[np.floating[Any]] | None = None,
) -> IntArray:
    """Superpoints of a cloud that is no mesh.

    Each point is joined to its nearest ones and has the normal of the plane through them. Normals
    get their side from their neighbours', along the tree of most parallel ones; each connected
    piece then faces `viewpoint` with the greater part of it. Thin things seen from both sides may
    come out wrong; a wrong side only confuses ridges with folds.

    The points are put in order of their coordinates first: the same points in another order have
    the same superpoints (points at the very same place excepted).

    Args:
        points: (N, 3) metres, any frame.
        settings: how; the defaults are the method's for rooms.
        viewpoint: (3,) metres, where the surfaces were seen from; by default the middle of the
            cloud, right for a room and wrong for a single object.

    Returns:
        (N,) int32, 0 ... L-1 in the order of first points; -1 where a point is not finite.
    """
    settings = settings or SuperpointSettings()
    places, finite = _checked(points)
    if settings.mode == "outdoor":
        return _numbered(np.arange(len(places), dtype=np.int32), finite)
    kept = np.flatnonzero(finite)
    kept = kept[np.lexsort(places[kept].T)]
    places = np.ascontiguousarray(places[kept])
    labels = np.full(len(points), -1, np.int32)
    if len(places) < 4:  # too few for a plane
        labels[kept] = np.arange(len(places), dtype=np.int32)
        return _numbered(labels, finite)
    edges, weights = cloud_graph(places, settings, viewpoint)
    labels[kept] = segment_graph(edges, weights, len(places), settings.k, settings.min_size)
    return _numbered(labels, finite)


def cloud_graph(
    points: Float64Array,
    settings: SuperpointSettings,
    viewpoint: npt.NDArray[np.floating[Any]] | None = None,
) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """Edges (E, 2), each once, and their weights (E,) of finite points (N, 3), N at least 4."""
    most = min(len(points) - 1, max(settings.neighbours, settings.normal_neighbours))
    near = nearest(points, most)
    normals = fitted_normals(points, near[:, : settings.normal_neighbours])
    edges: IntArray = compiled(_undirected)(np.ascontiguousarray(near[:, : settings.neighbours]))
    middle = (points.min(axis=0) + points.max(axis=0)) / 2 if viewpoint is None else viewpoint
    normals = oriented(points, normals, edges, np.asarray(middle, np.float64))
    return edges, edge_weights(points, normals, edges)


def mesh_normals(points: Float64Array, faces: IntArray) -> Float64Array:
    """(N, 3) mean of the unit normals of the faces (F, 3) at each vertex, zeros where none is."""
    normals: Float64Array = compiled(_mesh_normals)(points, faces)
    return normals


def edge_weights(
    points: Float64Array, normals: Float64Array, edges: IntArray
) -> npt.NDArray[np.float32]:
    """(E,) float32 differences of the normals (N, 3) over edges (E, 2), squared where convex."""
    weights: npt.NDArray[np.float32] = compiled(_edge_weights)(
        points, normals, np.ascontiguousarray(edges)
    )
    return weights


def nearest(points: Float64Array, count: int) -> IntArray:
    """(N, count) int32 numbers of the nearest other points (N, 3), nearest first."""
    try:
        from scipy.spatial import cKDTree
    except ImportError as error:
        raise SasError(
            f"Superpoints of clouds need scipy, which does not load here ({error}); install it "
            "with pip install 'sas_ros[training]'."
        ) from error
    found = cKDTree(points).query(points, k=count + 1)[1].astype(np.int32)
    # A point is not always the first of several at its place; it goes there, and then out.
    own = np.arange(len(points), dtype=np.int32)[:, None]
    first = np.argsort(found != own, axis=1, kind="stable")
    near: IntArray = np.take_along_axis(found, first, axis=1)[:, 1:]
    return near


def fitted_normals(points: Float64Array, near: IntArray) -> Float64Array:
    """(N, 3) unit normals, of either side, of planes through each point and its neighbours."""
    moments = compiled(_covariances)(points, np.ascontiguousarray(near))
    return np.ascontiguousarray(np.linalg.eigh(moments)[1][:, :, 0])


def oriented(
    points: Float64Array, normals: Float64Array, edges: IntArray, viewpoint: Float64Array
) -> Float64Array:
    """The normals (N, 3), turned to agree with their neighbours' and face the viewpoint (3,)."""
    if not len(edges):
        return normals
    along = np.einsum("ij,ij->i", normals[edges[:, 0]], normals[edges[:, 1]])
    order = sorted_order(np.clip(1 - np.abs(along), 0, 1).astype(np.float32))
    turned: Float64Array = compiled(_oriented)(points, normals, edges, along, order, viewpoint)
    return turned


def _checked(points: npt.NDArray[Any]) -> tuple[Float64Array, npt.NDArray[np.bool_]]:
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind != "f":
        raise SasError(f"Superpoints need points (N, 3) of floats, not {points.shape}.")
    return np.ascontiguousarray(points, np.float64), np.isfinite(points).all(axis=1)


def _numbered(labels: IntArray, finite: npt.NDArray[np.bool_]) -> IntArray:
    """Labels 0 ... L-1 by first appearance among finite points, -1 elsewhere."""
    _, first, inverse = np.unique(labels[finite], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    result = np.full(len(labels), -1, np.int32)
    result[finite] = rank[inverse]
    return result


# --------------------------------------------------------------------------- compiled by numba
def _mesh_normals(points: Array, faces: Array) -> Array:
    normals = np.zeros((len(points), 3))
    count = np.zeros(len(points), np.int32)
    for face in range(len(faces)):
        a, b, c = faces[face]
        ux, uy, uz = points[b] - points[a]
        vx, vy, vz = points[c] - points[a]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        length = np.sqrt(x * x + y * y + z * z)
        if not length > 0:
            continue
        for vertex in (a, b, c):
            normals[vertex, 0] += x / length
            normals[vertex, 1] += y / length
            normals[vertex, 2] += z / length
            count[vertex] += 1
    for vertex in range(len(points)):
        if count[vertex] > 1:
            for axis in range(3):
                normals[vertex, axis] /= count[vertex]
    return normals


def _edge_weights(points: Array, normals: Array, edges: Array) -> Array:
    weights = np.empty(len(edges), np.float32)
    for edge in range(len(edges)):
        a, b = edges[edge, 0], edges[edge, 1]
        cosine = 0.0
        rise = 0.0
        for axis in range(3):
            cosine += normals[a, axis] * normals[b, axis]
            rise += normals[b, axis] * (points[b, axis] - points[a, axis])
        weight = 1.0 - cosine
        if not weight > 0.0:
            weight = 0.0
        if rise > 0.0:
            weight *= weight
        weights[edge] = weight
    return weights


def _undirected(near: Array) -> Array:
    """(E, 2) each pair of neighbours once, the smaller number first."""
    count, width = near.shape
    edges = np.empty((count * width, 2), np.int32)
    found = 0
    for point in range(count):
        for place in range(width):
            other = near[point, place]
            mutual = False
            if other < point:
                for back in range(width):
                    if near[other, back] == point:
                        mutual = True
                        break
            if not mutual:
                edges[found, 0] = min(point, other)
                edges[found, 1] = max(point, other)
                found += 1
    return edges[:found].copy()


def _covariances(points: Array, near: Array) -> Array:
    count, width = near.shape
    moments = np.zeros((count, 3, 3))
    for point in range(count):
        mean = np.zeros(3)
        for place in range(width):
            for axis in range(3):
                mean[axis] += points[near[point, place], axis] - points[point, axis]
        for axis in range(3):
            mean[axis] /= width + 1
        for i in range(3):
            for j in range(i + 1):
                total = mean[i] * mean[j]  # the point itself
                for place in range(width):
                    other = near[point, place]
                    total += (points[other, i] - points[point, i] - mean[i]) * (
                        points[other, j] - points[point, j] - mean[j]
                    )
                moments[point, i, j] = total
                moments[point, j, i] = total
    return moments


def _oriented(
    points: Array, normals: Array, edges: Array, along: Array, order: Array, viewpoint: Array
) -> Array:
    count = len(points)
    parent = np.arange(count, dtype=np.int32)
    size = np.ones(count, np.int32)
    flip = np.zeros(count, np.bool_)  # against the normal of the parent
    for place in range(len(order)):
        edge = order[place]
        a, b = edges[edge, 0], edges[edge, 1]
        turned = along[edge] < 0
        while parent[a] != a:
            turned ^= flip[a]
            a = parent[a]
        while parent[b] != b:
            turned ^= flip[b]
            b = parent[b]
        if a == b:
            continue
        if size[a] < size[b]:
            a, b = b, a
        parent[b] = a
        flip[b] = turned
        size[a] += size[b]
    facing = np.zeros(count)
    result = normals.copy()
    roots = np.empty(count, np.int32)
    for point in range(count):
        root = point
        turned = False
        while parent[root] != root:
            turned ^= flip[root]
            root = parent[root]
        roots[point] = root
        if turned:
            result[point] = -result[point]
        toward = 0.0
        for axis in range(3):
            toward += result[point, axis] * (viewpoint[axis] - points[point, axis])
        facing[root] += np.sign(toward)
    for point in range(count):
        if facing[roots[point]] < 0:
            result[point] = -result[point]
    return result
