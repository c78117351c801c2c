"""Superpoints: the segmentation rule, meshes and clouds, files, figures and the command."""

from __future__ import annotations

import ast
import json
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_training.superpoints import (
    Superpoints,
    SuperpointSettings,
    cloud_superpoints,
    mesh_superpoints,
    points_hash,
    segment_graph,
)

pytest.importorskip("numba")
pytest.importorskip("scipy")

from sas_training.cli import main
from sas_training.superpoints import graph, surfaces
from sas_training.superpoints.meshes import read_faces
from sas_training.superpoints.quality import achievable_accuracy, measure, voxel_partition

ROOT = Path(__file__).resolve().parents[2]


# --------------------------------------------------------------------------- the slow reference
def slow_partition(
    edges: list[tuple[int, int]], weights: list[float], count: int, k: float, min_size: int
) -> list[int]:
    """The rule as it is written down, with sets: no forest, no bit tricks."""
    parts = [{vertex} for vertex in range(count)]
    tolerances = [k] * count

    def part_of(vertex: int) -> int:
        return next(number for number, part in enumerate(parts) if vertex in part)

    order = sorted(range(len(edges)), key=lambda edge: (weights[edge], edge))
    for edge in order:
        a, b = (part_of(vertex) for vertex in edges[edge])
        if a != b and weights[edge] <= tolerances[a] and weights[edge] <= tolerances[b]:
            parts[a] |= parts[b]
            tolerances[a] = weights[edge] + k / len(parts[a])
            parts[b] = set()
    for edge in order:
        a, b = (part_of(vertex) for vertex in edges[edge])
        if a != b and (len(parts[a]) < min_size or len(parts[b]) < min_size):
            parts[a] |= parts[b]
            parts[b] = set()
    numbers: dict[int, int] = {}
    return [numbers.setdefault(part_of(vertex), len(numbers)) for vertex in range(count)]


def slow_mesh(points: np.ndarray, faces: np.ndarray) -> tuple[list[tuple[int, int]], list[float]]:
    """Edges and weights of a mesh, one vertex after the other."""
    around: list[list[np.ndarray]] = [[] for _ in points]
    for face in faces:
        normal = np.cross(points[face[1]] - points[face[0]], points[face[2]] - points[face[0]])
        length = np.linalg.norm(normal)
        for vertex in face if length > 0 else ():
            around[vertex].append(normal / length)
    normals = [np.mean(found, axis=0) if found else np.zeros(3) for found in around]
    edges = [pair for a, b, c in faces.tolist() for pair in ((a, b), (a, c), (c, b))]
    weights = []
    for a, b in edges:
        weight = max(0.0, 1.0 - float(normals[a] @ normals[b]))
        step = points[b] - points[a]
        if float(normals[b] @ step) / (float(np.linalg.norm(step)) or 1.0) > 0:
            weight = weight**2
        weights.append(weight)
    return edges, weights


def segment(edges: Any, weights: Any, count: int, k: float, min_size: int = 1) -> list[int]:
    ends = np.array(edges, np.int64).reshape(-1, 2)
    return segment_graph(ends, np.array(weights, np.float64), count, k, min_size).tolist()


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[float], int]:
    count = draw(st.integers(1, 14))
    vertex = st.integers(0, count - 1)
    edges = draw(st.lists(st.tuples(vertex, vertex), max_size=40))
    # Few values make many ties; multiples of 1/64 are exact in float32.
    steps = st.integers(0, draw(st.sampled_from([2, 64])))
    weights = draw(st.lists(steps, min_size=len(edges), max_size=len(edges)))
    return edges, [step / 64 for step in weights], count


@given(graphs(), st.sampled_from([0.0, 0.01, 0.1, 0.5, 2.0]), st.integers(0, 6))
@settings(max_examples=300, deadline=None)
def test_the_partition_is_that_of_the_rule(
    drawn: tuple[list[tuple[int, int]], list[float], int], k: float, min_size: int
) -> None:
    edges, weights, count = drawn
    assert segment(edges, weights, count, k, min_size) == slow_partition(
        edges, weights, count, k, min_size
    )


@given(st.lists(st.floats(0, 2.0**100, width=32), max_size=200))
@settings(max_examples=100, deadline=None)
def test_weights_are_sorted_and_equal_ones_keep_their_order(values: list[float]) -> None:
    weights = np.array(values, np.float32)
    found = graph.sorted_order(weights + np.float32(0))
    np.testing.assert_array_equal(found, np.argsort(weights, kind="stable"))


# --------------------------------------------------------------------------- worked by hand
def test_two_pairs_stay_apart_until_k_is_large() -> None:
    path = [(0, 1), (1, 2), (2, 3)]
    # Both pairs have the tolerance 0.1 + k / 2 when the middle edge comes.
    assert segment(path, [0.1, 0.5, 0.1], 4, k=0.2) == [0, 0, 1, 1]
    assert segment(path, [0.1, 0.5, 0.1], 4, k=0.75) == [0, 0, 1, 1]
    assert segment(path, [0.1, 0.5, 0.1], 4, k=0.85) == [0, 0, 0, 0]


def test_a_part_that_grew_tolerates_less() -> None:
    # A star around 0: the part has the tolerance 0.125 + k/2 = 0.625, 0.125 + k/3, 0.125 + k/4.
    star = [(0, 1), (0, 2), (0, 3), (0, 4)]
    assert segment(star, [0.125, 0.125, 0.125, 0.36], 5, k=1.0) == [0, 0, 0, 0, 0]
    assert segment(star, [0.125, 0.125, 0.125, 0.38], 5, k=1.0) == [0, 0, 0, 0, 1]
    star = [(b, a) for a, b in star]  # whichever end of the edge the part is at
    assert segment(star, [0.125, 0.125, 0.125, 0.38], 5, k=1.0) == [0, 0, 0, 0, 1]


def test_an_edge_as_heavy_as_the_tolerance_merges() -> None:
    assert segment([(0, 1)], [0.5], 2, k=0.5) == [0, 0]
    assert segment([(0, 1)], [0.5], 2, k=0.499) == [0, 1]


def test_small_parts_join_over_their_lightest_edge() -> None:
    edges = [(0, 1), (1, 2), (2, 3), (3, 4)]  # pairs 01 and 34, and 2 between them
    weights = [0.0, 0.75, 0.5, 0.0]
    assert segment(edges, weights, 5, k=0.01, min_size=1) == [0, 0, 1, 2, 2]
    assert segment(edges, weights, 5, k=0.01, min_size=2) == [0, 0, 1, 1, 1]
    assert segment(edges, weights, 5, k=0.01, min_size=3) == [0, 0, 0, 0, 0]


def test_what_no_edge_leaves_stays_small_and_numbers_follow_first_vertices() -> None:
    assert segment([(1, 4), (0, 3)], [0.0, 0.0], 5, k=1, min_size=60) == [0, 1, 2, 0, 1]
    assert segment([], [], 3, k=1, min_size=2) == [0, 1, 2]
    assert segment([], [], 0, k=1) == []


@pytest.mark.parametrize(
    ("edges", "weights", "k", "words"),
    [
        ([(0, 3)], [0.1], 0.1, "outside 0 to 2"),
        ([(-1, 0)], [0.1], 0.1, "outside"),
        ([(0, 1)], [-0.1], 0.1, "not negative"),
        ([(0, 1)], [np.nan], 0.1, "finite"),
        ([(0, 1)], [0.1, 0.2], 0.1, "weights"),
        ([(0, 1)], [0.1], -1.0, "0 or more"),
        ([(0, 1)], [0.1], np.nan, "0 or more"),
    ],
)
def test_graphs_that_cannot_be_meant_are_told(
    edges: Any, weights: Any, k: float, words: str
) -> None:
    with pytest.raises(SasError, match=words):
        segment(edges, weights, 3, k)


def test_without_numba_a_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(SasError, match=r"sas_ros\[training\]"):
        graph.compiled.__wrapped__(graph._merge)
    monkeypatch.setitem(sys.modules, "scipy.spatial", None)
    with pytest.raises(SasError, match=r"sas_ros\[training\]"):
        surfaces.nearest(np.zeros((5, 3)), 2)


def test_numba_and_scipy_are_imported_inside_functions_and_never_on_the_robot() -> None:
    for folder in ("sas_ros", "sas_training"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            nodes = ast.walk(tree) if folder == "sas_ros" else iter(tree.body)
            for node in nodes:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {name.split(".")[0] for name in names} & {"numba", "scipy"}, path


# --------------------------------------------------------------------------- meshes
def folded(degrees: float, cells: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Two squares of `cells` x `cells` that meet along y, counter-clockwise seen from above.

    The second one rises by `degrees`.
    """
    angle = np.radians(degrees)
    across = np.arange(-cells, cells + 1, dtype=np.float64)
    along = np.arange(cells + 1, dtype=np.float64)
    x = np.where(across > 0, across * np.cos(angle), across)
    z = np.where(across > 0, across * np.sin(angle), 0.0)
    points = np.array([(x[i], y, z[i]) for i in range(len(across)) for y in along])
    width = len(along)
    faces = []
    for i in range(len(across) - 1):
        for j in range(cells):
            a, b = i * width + j, (i + 1) * width + j
            c, d = b + 1, a + 1
            faces += [(a, b, c), (a, c, d)]
    return points, np.array(faces)


def test_two_planes_that_meet_at_an_edge_are_two_superpoints() -> None:
    points, faces = folded(90)
    labels = mesh_superpoints(points, faces, SuperpointSettings(min_size=20))
    assert labels.dtype == np.int32 and labels.max() == 1
    assert set(labels[points[:, 0] < -0.5]) == {0} and set(labels[points[:, 2] > 0.5]) == {1}
    flat, faces = folded(0)
    assert mesh_superpoints(flat, faces).max() == 0


def test_a_bulge_is_one_superpoint_where_a_hollow_of_the_same_bend_is_not() -> None:
    flat, faces = folded(0)
    bend = np.radians(10) * flat[:, 0]  # 10 degrees from row to row of 9 vertices
    bulge = np.column_stack([np.sin(bend), flat[:, 1] / 6, np.cos(bend)])
    hollow = bulge * [1, 1, -1]
    # The rows are parts with the tolerance 0.01 / 9 = 0.0011. From row to row 1 - cos(10 degrees)
    # = 0.015 is more, its square 0.0002 is less. The first and last rows have other normals.
    how = SuperpointSettings(k=0.01, min_size=9)
    assert mesh_superpoints(bulge, faces, how).max() == 0
    assert mesh_superpoints(hollow, faces, how).max() > 10
    # From its other side a hollow is a bulge.
    assert mesh_superpoints(hollow, faces[:, [0, 2, 1]], how).max() == 0


def test_edge_weights_by_hand() -> None:
    normals = np.array([[0, 0, 1.0], [0.6, 0, 0.8], [-0.6, 0, 0.8]])
    points = np.array([[0, 0, 0], [1.0, 0, 0], [1.0, 0, 0]])
    edges = np.array([[0, 1], [0, 2], [1, 2]], np.int32)
    # Away from each other: convex, squared. Towards each other: not. At one place: no direction.
    expected = [0.2**2, 0.2, 1 - (0.64 - 0.36)]
    np.testing.assert_allclose(surfaces.edge_weights(points, normals, edges), expected, rtol=1e-6)


def test_normals_of_vertices_are_plain_means() -> None:
    points = np.array([[0, 0, 0], [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [2.0, 0, 0], [9.0, 9, 9]])
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 1, 4]], np.int32)  # the third one has no area
    normals = surfaces.mesh_normals(points, faces)
    np.testing.assert_allclose(normals[0], [0, 0.5, 0.5])
    np.testing.assert_allclose(normals[2], [0, 0, 1])
    assert not normals[4:].any()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.1, 0.5]), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_a_mesh_gives_the_partition_of_the_slow_reference(
    seed: int, k: float, min_size: int
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(-3, 4, (12, 3)).astype(np.float64)
    faces = rng.integers(0, 12, (16, 3))
    edges, weights = slow_mesh(points, faces)
    normals = surfaces.mesh_normals(points, faces.astype(np.int32))
    ours = surfaces.edge_weights(points, normals, np.array(edges, np.int32))
    # Where a normal is square to an edge, rounding decides which side it is on.
    step = points[[b for _, b in edges]] - points[[a for a, _ in edges]]
    clear = np.abs((normals[[b for _, b in edges]] * step).sum(axis=1)) > 1e-9
    np.testing.assert_allclose(ours[clear], np.array(weights)[clear], rtol=1e-5, atol=1e-7)
    labels = mesh_superpoints(points, faces, SuperpointSettings(k=k, min_size=min_size))
    assert labels.tolist() == slow_partition(edges, ours.astype(float).tolist(), 12, k, min_size)


def test_vertices_in_another_order_make_the_same_mesh_superpoints() -> None:
    rng = np.random.default_rng(3)
    points, faces = folded(40)
    points = points + rng.normal(scale=0.2, size=points.shape)
    how = SuperpointSettings(k=0.003, min_size=3)
    labels = mesh_superpoints(points, faces, how)
    order = rng.permutation(len(points))
    place = np.argsort(order)
    moved = mesh_superpoints(points[order], place[faces], how)
    assert 2 < labels.max() and same_partition(labels, moved[place])


def test_vertices_that_are_not_finite_and_faces_that_are_wrong() -> None:
    points, faces = folded(0)
    points[5] = np.nan
    labels = mesh_superpoints(points, faces)
    assert labels[5] == -1 and set(np.delete(labels, 5)) == {0}
    with pytest.raises(SasError, match="outside"):
        mesh_superpoints(points, faces + len(points))
    with pytest.raises(SasError, match="triangles"):
        mesh_superpoints(points, faces.astype(np.float64))


# --------------------------------------------------------------------------- clouds
def corner(seed: int = 0, count: int = 1200) -> np.ndarray:
    """A floor, two walls and a box on the floor as a cloud with a little noise, metres."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0, 2, (2, count))
    zero = np.zeros(count)
    parts = [np.stack(axes, axis=1) for axes in ((a, b, zero), (a, zero, b), (zero, a, b))]
    top = rng.uniform(1.0, 1.5, (count // 3, 2))
    parts.append(np.column_stack([top, np.full(len(top), 0.4)]))
    points = np.concatenate(parts) + rng.normal(scale=0.001, size=(3 * count + count // 3, 3))
    return points.astype(np.float32)


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    pairs = len(np.unique(np.stack([one, other]), axis=1).T)
    return pairs == len(np.unique(one)) == len(np.unique(other))


def test_surfaces_of_a_cloud_come_apart() -> None:
    points = corner()
    labels = cloud_superpoints(points)
    truth = np.repeat([0, 1, 2, 3], [1200, 1200, 1200, 400])
    assert achievable_accuracy(labels, truth) > 0.97
    assert 4 <= labels.max() + 1 <= 20
    sizes = np.bincount(labels)
    assert sizes.min() >= 60 and sizes.max() > 900


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_points_in_another_order_make_the_same_superpoints(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = corner(seed % 97, 150)
    # A grid makes many neighbours equally far and many weights equal.
    points = np.unique(np.round(points, 1), axis=0) if seed % 2 else points
    order = rng.permutation(len(points))
    how = SuperpointSettings(k=0.005, min_size=5)
    one, other = cloud_superpoints(points, how), cloud_superpoints(points[order], how)
    assert same_partition(one[order], other)
    assert np.array_equal(one, cloud_superpoints(points, how))
    for labels in (one, other):
        first = np.unique(labels, return_index=True)[1]
        assert (np.diff(first) > 0).all() and len(first) == labels.max() + 1


def test_normals_face_the_viewpoint() -> None:
    rng = np.random.default_rng(1)
    ball = rng.normal(size=(3000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    near = surfaces.nearest(ball, 10)
    edges = surfaces.compiled(surfaces._undirected)(np.ascontiguousarray(near))
    fitted = surfaces.fitted_normals(ball, near)
    inward = surfaces.oriented(ball, fitted, edges, np.zeros(3))
    np.testing.assert_allclose((inward * ball).sum(axis=1), -1, atol=0.02)
    outward = surfaces.oriented(ball, fitted, edges, np.array([50.0, 0, 0]))
    # Half of the ball faces a far viewpoint: the whole has one side, whichever it is.
    assert abs((outward * ball).sum(axis=1).mean()) > 0.98


def test_neighbours_are_the_nearest_and_each_edge_is_there_once() -> None:
    points = np.random.default_rng(2).uniform(size=(60, 3))
    points[7] = points[8] = points[9]
    near = surfaces.nearest(points, 5)
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(apart, np.inf)
    found = np.take_along_axis(apart, near.astype(np.int64), axis=1)
    np.testing.assert_allclose(found, np.sort(apart, axis=1)[:, :5])
    edges = surfaces.compiled(surfaces._undirected)(np.ascontiguousarray(near))
    wanted = {(min(i, j), max(i, j)) for i, row in enumerate(near.tolist()) for j in row}
    assert sorted(map(tuple, edges.tolist())) == sorted(wanted)


def test_outdoors_and_tiny_clouds_and_missing_points() -> None:
    points = corner(count=90)
    points[[3, 40]] = np.nan
    outdoor = cloud_superpoints(points, SuperpointSettings(mode="outdoor"))
    assert outdoor[3] == outdoor[40] == -1
    assert outdoor[outdoor >= 0].tolist() == list(range(len(points) - 2))
    indoor = cloud_superpoints(points, SuperpointSettings(min_size=10))
    assert (indoor < 0).nonzero()[0].tolist() == [3, 40]
    kept = np.isfinite(points).all(axis=1)
    assert np.array_equal(
        indoor[kept], cloud_superpoints(points[kept], SuperpointSettings(min_size=10))
    )
    for count in range(6):
        labels = cloud_superpoints(points[10 : 10 + count])
        assert len(labels) == count and set(labels) == set(range(labels.max(initial=-1) + 1))
    assert cloud_superpoints(np.zeros((100, 3), np.float32)).max() == 0
    with pytest.raises(SasError, match=r"\(N, 3\)"):
        cloud_superpoints(points[:, :2])


@pytest.mark.parametrize(
    "wrong", [{"mode": "lunar"}, {"k": -1.0}, {"k": np.nan}, {"min_size": 0}, {"neighbours": 1}]
)
def test_settings_that_are_none_are_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(SasError):
        SuperpointSettings(**wrong)


# --------------------------------------------------------------------------- figures
def test_achievable_accuracy_by_hand() -> None:
    superpoint = np.array([0, 0, 0, 1, 1, 1, -1, 2])
    labels = np.array([4, 4, 7, 7, 255, -1, 4, 255])
    # Superpoint 0 is right for two of three, 1 for its only counted point; -1 and 2 do not count.
    assert achievable_accuracy(superpoint, labels) == 3 / 4
    assert achievable_accuracy(superpoint, np.full(8, 255)) is None
    found = measure(superpoint, labels, min_size=3)
    assert (found.superpoints, found.median_size, found.largest, found.below) == (3, 3, 3, 1)
    with pytest.raises(SasError):
        achievable_accuracy(superpoint, labels[1:])


def test_a_grid_with_about_as_many_cubes() -> None:
    points = corner()
    for wanted in (5, 40, 300):
        cubes = voxel_partition(points, wanted)
        assert abs(len(np.unique(cubes)) - wanted) <= 0.15 * wanted + 3
        assert sorted(set(cubes)) == list(range(cubes.max() + 1))


def test_superpoints_of_a_generated_room_keep_more_than_cubes_do() -> None:
    from sas_training.scenes.procedural import make_room
    from sas_training.scenes.procedural.camera import scan_room

    rng = np.random.default_rng([5, 0])
    scan = scan_room(make_room(rng), rng, most=30_000)
    labels = cloud_superpoints(scan.points)
    accuracy = achievable_accuracy(labels, scan.labels)
    cubes = achievable_accuracy(voxel_partition(scan.points, int(labels.max()) + 1), scan.labels)
    assert accuracy is not None and cubes is not None
    assert accuracy > 0.85 and accuracy > cubes + 0.08


# --------------------------------------------------------------------------- files
@pytest.fixture
def made() -> Superpoints:
    points = corner(count=100)
    return Superpoints(
        cloud_superpoints(points), SuperpointSettings(), "cloud", points_hash(points)
    )


def test_a_file_brings_back_what_was_saved(made: Superpoints, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "scene.superpoints.safetensors"
    made.save(path)
    back = Superpoints.load(path)
    assert np.array_equal(back.labels, made.labels) and back.labels.dtype == np.int32
    assert (back.settings, back.source, back.points_sha256, back.count) == (
        made.settings,
        "cloud",
        made.points_sha256,
        made.count,
    )
    back.check_points(corner(count=100))
    back.check_points(corner(count=100).astype(np.float64))
    with pytest.raises(SasError, match="other points"):
        back.check_points(corner(1, count=100))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def rewrite(path: Path, labels: np.ndarray | None = None, **changes: Any) -> None:
    """Change a file's description or labels without any check."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="numpy") as file:
        metadata = json.loads(file.metadata()["sas_superpoints"])
        tensor = file.get_tensor("superpoint") if labels is None else labels
    metadata.update(changes)
    save_file({"superpoint": tensor}, path, {"sas_superpoints": json.dumps(metadata)})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2}, "format 2"),
        ({"settings": {"k": "small"}}, "damaged|must"),
        ({"settings": {"colour": 1}}, "damaged"),
        ({"settings": {"k": -1}}, "k must lie"),
        ({"settings": None}, "damaged"),
        ({"source": "sea"}, "no source"),
        ({"points_sha256": 5}, "no points"),
        ({"points": 7}, "must hold int32"),
        ({"superpoints": 1}, "not numbered"),
        ({"labels": np.zeros(333, np.int64)}, "must hold int32"),
        ({"labels": np.r_[np.ones(1), np.zeros(332)].astype(np.int32)}, "not numbered"),
        ({"labels": np.full(333, -2, np.int32), "superpoints": 0}, "not numbered"),
    ],
)
def test_damaged_files_are_told(
    made: Superpoints, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    path = tmp_path / "scene.superpoints.safetensors"
    made.save(path)
    rewrite(path, **changes)
    with pytest.raises(SasError, match=words):
        Superpoints.load(path)


def test_files_that_are_none_are_told(made: Superpoints, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "scene.superpoints.safetensors"
    with pytest.raises(SasError, match="no superpoints at"):
        Superpoints.load(path)
    made.save(path)
    whole = path.read_bytes()
    for cut in (0, 4, 100, len(whole) - 10):
        path.write_bytes(whole[:cut])
        with pytest.raises(SasError, match="cut off"):
            Superpoints.load(path)
    save_file({"superpoint": made.labels}, path)
    with pytest.raises(SasError, match="not a file of superpoints"):
        Superpoints.load(path)
    save_file({"superpoint": made.labels}, path, {"sas_superpoints": "[1"})
    with pytest.raises(SasError, match="damaged"):
        Superpoints.load(path)


# --------------------------------------------------------------------------- meshes on disk
def write_mesh(path: Path, points: np.ndarray, faces: np.ndarray, encoding: str) -> None:
    head = (
        f"ply\nformat {encoding} 1.0\nelement vertex {len(points)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty uchar flag\nproperty list uchar int vertex_indices\n"
        "end_header\n"
    ).encode()
    if encoding == "ascii":
        lines = [" ".join(f"{value:.9g}" for value in point) for point in points]
        lines += [" ".join(map(str, [9, len(face), *face])) for face in faces.tolist()]
        path.write_bytes(head + ("\n".join(lines) + "\n").encode())
        return
    order = "<" if "little" in encoding else ">"
    body = points.astype(order + "f4").tobytes()
    for face in faces.tolist():
        body += struct.pack(f"{order}BB{len(face)}i", 9, len(face), *face)
    path.write_bytes(head + body)


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_triangles_are_read(encoding: str, tmp_path: Path) -> None:
    points, faces = folded(30, cells=3)
    path = tmp_path / "mesh.ply"
    write_mesh(path, points, faces, encoding)
    found = read_faces(path)
    assert found is not None
    np.testing.assert_array_equal(found, faces)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SasError, match="mesh"):
        read_faces(path)
    write_mesh(path, points, np.array([[0, 1, 2, 3]]), encoding)
    with pytest.raises(SasError, match="mesh"):
        read_faces(path)
    write_mesh(path, points, faces[:0], encoding)
    assert read_faces(path) is None
    assert read_faces(tmp_path / "cloud.npy") is None


# --------------------------------------------------------------------------- the command
def test_the_command_makes_keeps_and_renews(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = corner(count=300)
    labels = np.repeat([0, 1, 2, 3], [300, 300, 300, 100])
    np.savez(tmp_path / "room.npz", points=points, labels=labels)
    np.save(tmp_path / "bare.npy", points)
    mesh_points, faces = folded(90)
    write_mesh(tmp_path / "mesh.ply", mesh_points, faces, "binary_little_endian")
    scans = [str(tmp_path / name) for name in ("room.npz", "bare.npy", "mesh.ply")]
    out = tmp_path / "out"
    words = ["superpoints", *scans, "-o", str(out), "--min-size", "20", "--up", "0,0,1"]

    assert main([*words, "--pictures"]) == 0
    table = capsys.readouterr().out
    assert "kept" not in table and " %" in table
    files = {scan: out / f"{Path(scan).stem}.superpoints.safetensors" for scan in scans}
    back = Superpoints.load(files[scans[0]])
    back.check_points(points)
    how = SuperpointSettings(min_size=20)
    assert back.settings == how
    assert np.array_equal(back.labels, cloud_superpoints(points, how))
    assert Superpoints.load(files[scans[2]]).source == "mesh"
    assert (out / "room.superpoints.png").read_bytes().startswith(b"\x89PNG")

    stamps = {scan: file.stat().st_mtime_ns for scan, file in files.items()}
    files[scans[1]].write_bytes(b"half")  # damaged: made anew, the others are kept
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["made"] for row in result["scans"]] == [False, True, False] and result["kept"] == 2
    assert result["scans"][0]["accuracy"] > 0.9 and result["scans"][1]["accuracy"] is None
    assert [row["source"] for row in result["scans"]] == ["cloud", "cloud", "mesh"]
    assert files[scans[0]].stat().st_mtime_ns == stamps[scans[0]]
    assert Superpoints.load(files[scans[1]]).count == back.count

    np.savez(tmp_path / "room.npz", points=points[:-1], labels=labels[:-1])  # another scan
    assert main([*words, "--json"]) == 0
    made = [row["made"] for row in json.loads(capsys.readouterr().out)["scans"]]
    assert made == [True, False, False]
    assert main([*words, "--json", "--mode", "outdoor"]) == 0  # other settings
    result = json.loads(capsys.readouterr().out)
    assert [row["superpoints"] for row in result["scans"]] == [999, 1000, len(mesh_points)]


def test_an_interrupted_run_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sas_training import superpoints

    for number in range(3):
        np.save(tmp_path / f"scan{number}.npy", corner(number, count=60))
    words = ["superpoints", *sorted(map(str, tmp_path.glob("*.npy"))), "-o", str(tmp_path / "out")]
    real, calls = superpoints.cloud_superpoints, []

    def stopped(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(superpoints, "cloud_superpoints", stopped)
    assert main(words) == 130
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["scan0.superpoints.safetensors"]
    assert main([*words, "--json"]) == 0
    out = capsys.readouterr().out
    assert [row["made"] for row in json.loads(out)["scans"]] == [False, True, True]
    assert len(calls) == 4


def test_a_run_killed_while_it_writes_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        np.save(tmp_path / f"scan{number}.npy", corner(number, count=60))
    out = tmp_path / "out"
    words = ["superpoints", *sorted(map(str, tmp_path.glob("*.npy"))), "-o", str(out)]
    killed = (
        "import os, signal, sys, safetensors.numpy as st\n"
        "real, calls = st.save_file, []\n"
        "def save(tensors, path, metadata):\n"
        "    real(tensors, path, metadata)\n"
        "    calls.append(path)\n"
        "    if len(calls) == 2:\n"
        "        os.truncate(path, os.path.getsize(path) // 2)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "st.save_file = save\n"
        "from sas_training.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run([sys.executable, "-c", killed, *words], capture_output=True, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    names = [path.name for path in out.iterdir() if not path.name.startswith(".")]
    assert names == ["scan0.superpoints.safetensors"]
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["scans"]
    assert [row["made"] for row in rows] == [False, True, True]
    for row in rows:
        Superpoints.load(Path(row["output"])).check_points(np.load(row["scan"]))


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["-o", str(tmp_path / "out")]
    assert main(["superpoints", str(tmp_path / "none.ply"), *out]) == 2
    assert "none.ply" in capsys.readouterr().err
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "scan.npy", corner(count=20))
    assert main(["superpoints", *map(str, sorted(tmp_path.glob("*/scan.npy"))), *out]) == 2
    assert "both" in capsys.readouterr().err
    assert main(["superpoints", str(tmp_path / "a" / "scan.npy"), *out, "--k", "-1"]) == 2
    assert "k must lie" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_bench_compares_with_a_spanning_tree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "superpoints", "--points", "2000", "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["speedup"] == result["alternative_s"] / result["ours_s"]
    assert result["edges_per_s"] == result["edges"] / result["ours_s"] > 0
    assert result["edges"] > 2000 * 4 and result["superpoints"] >= 1


def test_classes_beside_the_vertices_of_a_room_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = corner(count=20)
    np.save(tmp_path / "scene_vert.npy", points)
    words = ["superpoints", str(tmp_path / "scene_vert.npy"), "-o", str(tmp_path), "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["scans"][0]["accuracy"] is None
    np.save(tmp_path / "scene_sem_label.npy", np.full(len(points), 5))  # chair, of NYU40
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["scans"][0]["accuracy"] == 1.0


@pytest.mark.parametrize("scene", ["scene0000_00", "scene0006_00", "scene0010_00"])
def test_real_rooms_lose_little(scene: str, test_data: Path) -> None:
    from sas_training.evaluation.labelled import read_labelled

    found = sorted(test_data.glob(f"scannet_rooms/**/{scene}_vert.npy"))
    if not found:
        pytest.skip(f"the folder of real scans has no {scene}")
    points, labels = read_labelled(found[0])
    accuracy = achievable_accuracy(cloud_superpoints(points), labels)
    assert accuracy is not None and accuracy > 0.85
