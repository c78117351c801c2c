"""Objects from marked elements: connection, boxes, invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.boxes import quaternion_xyzw, upright_box
from sas_ros.gravity import rotation_to_z_up
from sas_ros.instances import ObjectInstance, find_instances, label_instances
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.observation import Cloud, ElementLabels, SceneFeatures, SourceHeader, Up
from sas_ros.pieces import connected_pieces, grid_cells

SIZE = 0.05
Z_UP = np.array([0.0, 0.0, 1.0])


def yaw_rotation(angle: float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])


def matrix(quaternion: np.ndarray) -> np.ndarray:
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def block(center: tuple[float, ...], size: tuple[float, ...], count: int, seed: int) -> np.ndarray:
    """Points on and in a solid block, metres."""
    generator = np.random.default_rng(seed)
    return np.asarray(center) + np.asarray(size) * (generator.random((count, 3)) - 0.5)


def make_scene(
    points: np.ndarray,
    *,
    rotation: np.ndarray | None = None,
    up: np.ndarray = Z_UP,
    origin: np.ndarray | None = None,
    grid_yaw: float = 0.3,
) -> tuple[SceneFeatures, Cloud]:
    """A scene whose elements are voxels of a grid that is turned by `grid_yaw` about the vertical.

    `points` are z up; `rotation` then takes everything into the source frame, whose up is `up`.
    """
    rotation = np.eye(3) if rotation is None else rotation
    finite = np.isfinite(points).all(axis=1)
    turn = yaw_rotation(grid_yaw)
    cells = np.floor(points[finite] @ turn / SIZE).astype(np.int64)
    unique, inverse = np.unique(cells, axis=0, return_inverse=True)
    element_of_point = np.full(len(points), -1, dtype=np.int32)
    element_of_point[finite] = inverse.reshape(-1)
    centers = (unique + 0.5) * SIZE @ turn.T
    origin = np.zeros(3) if origin is None else origin
    scene = SceneFeatures(
        features=torch.zeros(len(unique), 1),
        positions=(centers @ rotation.T).astype(np.float32),
        element_of_point=element_of_point,
        header=SourceHeader(),
        up=Up(up),
        origin=origin,
        element_size=SIZE,
    )
    cloud = Cloud((points @ rotation.T).astype(np.float32), origin=origin)
    return scene, cloud


def find(
    scene: SceneFeatures, cloud: Cloud, probability: np.ndarray | None = None, **changes: float
) -> list[ObjectInstance]:
    if probability is None:
        probability = np.full(len(scene.positions), 0.9, dtype=np.float32)
    settings_ = {"threshold": 0.5, "max_instances": 20, "min_points": 20, **changes}
    return find_instances(scene, cloud, probability, label="it", **settings_)  # type: ignore[arg-type]


def share_inside(instance: ObjectInstance, cloud: Cloud) -> float:
    points = cloud.points[instance.point_indices].astype(np.float64) + cloud.origin
    local = (points - instance.center) @ matrix(instance.orientation)
    return float((np.abs(local) <= instance.size / 2 + 1e-5).all(axis=1).mean())


TWO = np.concatenate(
    [block((0, 0, 0.4), (1.6, 0.8, 0.8), 9000, 1), block((2, 1, 0.25), (0.5, 0.4, 0.5), 2500, 2)]
)


def test_two_blocks_are_two_objects() -> None:
    scene, cloud = make_scene(TWO)
    large, small = find(scene, cloud)
    np.testing.assert_array_equal(large.point_indices, np.arange(9000))
    np.testing.assert_array_equal(small.point_indices, np.arange(9000, 11500))
    assert large.point_indices.dtype == np.uint32
    np.testing.assert_allclose(large.size, (1.6, 0.8, 0.8), atol=0.03)
    np.testing.assert_allclose(large.center, (0, 0, 0.4), atol=0.02)
    np.testing.assert_allclose(large.centroid, (0, 0, 0.4), atol=0.02)
    np.testing.assert_allclose(np.abs(matrix(large.orientation)), np.eye(3), atol=0.02)
    assert large.support_height == pytest.approx(0, abs=0.02)
    assert large.score == pytest.approx(0.9)
    np.testing.assert_allclose(small.size, (0.5, 0.4, 0.5), atol=0.03)
    np.testing.assert_array_equal(
        small.elements, np.unique(scene.element_of_point[small.point_indices])
    )


def test_limits_are_kept() -> None:
    scene, cloud = make_scene(TWO)
    assert len(find(scene, cloud, max_instances=1)) == 1
    assert len(find(scene, cloud, min_points=3000)) == 1
    assert find(scene, cloud, min_points=20000) == []
    assert find(scene, cloud, threshold=0.95) == []
    assert find(scene, cloud, max_instances=0) == []


def test_best_weighs_score_and_size() -> None:
    scene, cloud = make_scene(TWO)
    large = np.zeros(len(scene.positions), dtype=np.bool_)
    large[scene.element_of_point[:9000]] = True
    probability = np.where(large, 0.7, 0.9).astype(np.float32)
    assert [i.score for i in find(scene, cloud, probability)] == pytest.approx([0.7, 0.9])
    probability = np.where(large, 0.51, 0.999).astype(np.float32)
    first = find(scene, cloud, probability)[0]
    assert len(first.elements) == large.sum()  # still three times as large


@pytest.mark.parametrize("angle", [0.0, 0.2, 0.7, 1.3, 3.0])
def test_boxes_turn_with_the_object(angle: float) -> None:
    points = TWO @ yaw_rotation(angle).T + np.array([3.0, -2.0, 1.0])
    instance = find(*make_scene(points))[0]
    np.testing.assert_allclose(instance.size, (1.6, 0.8, 0.8), atol=0.05)
    np.testing.assert_allclose(
        instance.center, yaw_rotation(angle) @ (0, 0, 0.4) + (3, -2, 1), atol=0.03
    )
    axis = matrix(instance.orientation)[:, 0]
    assert abs(axis @ (np.cos(angle), np.sin(angle), 0)) > np.cos(np.radians(1.0))
    assert instance.support_height == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    "up", [(0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (0.3, -0.9, 0.2), (0.0, 0.0, -1.0)]
)
def test_any_frame_gives_the_same_object(up: tuple[float, ...]) -> None:
    direction = np.array(up) / np.linalg.norm(up)
    rotation = rotation_to_z_up(direction).T  # z up -> source
    upright, source = make_scene(TWO), make_scene(TWO, rotation=rotation, up=direction)
    for expected, instance in zip(find(*upright), find(*source), strict=True):
        np.testing.assert_array_equal(instance.point_indices, expected.point_indices)
        np.testing.assert_allclose(instance.size, expected.size, atol=1e-4)
        np.testing.assert_allclose(instance.center, rotation @ expected.center, atol=1e-4)
        np.testing.assert_allclose(
            matrix(instance.orientation), rotation @ matrix(expected.orientation), atol=1e-3
        )
        np.testing.assert_allclose(matrix(instance.orientation)[:, 2], direction, atol=1e-6)
        assert instance.support_height == pytest.approx(expected.support_height, abs=1e-4)
        assert share_inside(instance, source[1]) >= 0.95


@pytest.mark.parametrize("up", [(0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (0.3, -0.9, 0.2)])
@pytest.mark.parametrize("grid_yaw", [0.0, 0.5])
def test_neighbours_on_the_grid_are_parted_by_the_gap_between_their_points(
    up: tuple[float, ...], grid_yaw: float
) -> None:
    """Eight centimetres apart along the grid: never more than one cell is missing between them."""
    direction = np.array(up) / np.linalg.norm(up)
    rotation = rotation_to_z_up(direction).T
    low = block((0, 0, 0.3), (0.5, 0.5, 0.6), 6000, 7)
    high = block((0.58, 0, 0.4), (0.5, 0.5, 0.8), 6000, 8)
    points = np.concatenate([low, high]) @ yaw_rotation(grid_yaw).T
    points[::50] = np.nan
    scene, cloud = make_scene(points, rotation=rotation, up=direction, grid_yaw=grid_yaw)
    tall, small = find(scene, cloud)
    assert tall.point_indices.min() >= 6000 > small.point_indices.max()
    np.testing.assert_allclose(tall.size, (0.5, 0.5, 0.8), atol=0.05)


def test_large_coordinates_keep_their_digits() -> None:
    origin = np.array([5.0e6, -3.0e6, 120.0])
    scene, cloud = make_scene(TWO, origin=origin)
    near, far = find(*make_scene(TWO))[0], find(scene, cloud)[0]
    np.testing.assert_allclose(far.center - origin, near.center, atol=1e-6)
    np.testing.assert_allclose(far.centroid - origin, near.centroid, atol=1e-6)
    assert far.support_height - 120 == pytest.approx(near.support_height, abs=1e-6)
    assert far.center.dtype == np.float64


def test_points_that_are_not_finite_are_in_nothing() -> None:
    points = TWO.copy()
    points[::7] = np.nan
    scene, cloud = make_scene(points)
    instances = find(scene, cloud)
    assert len(instances) == 2
    for instance in instances:
        assert np.isfinite(cloud.points[instance.point_indices]).all()
        assert np.isfinite(instance.center).all()


def test_strays_do_not_stretch_the_box() -> None:
    tail = np.column_stack([np.linspace(0.8, 1.6, 40), np.zeros(40), np.full(40, 0.4)])
    scene, cloud = make_scene(np.concatenate([TWO[:9000], tail]))
    (instance,) = find(scene, cloud)
    assert len(instance.point_indices) == 9040
    np.testing.assert_allclose(instance.size, (1.6, 0.8, 0.8), atol=0.12)


def test_a_single_point_has_a_box() -> None:
    scene, cloud = make_scene(np.array([[1.0, 2.0, 3.0]]))
    (instance,) = find(scene, cloud, min_points=1)
    np.testing.assert_allclose(instance.center, (1, 2, 3), atol=1e-6)
    assert (instance.size > 0).all()


def test_labels_become_things_only() -> None:
    vocabulary = Vocabulary(
        ("floor", "sofa", "chair"),
        np.eye(3, dtype=np.float32),
        (False, True, True),
        distinct_colors(3),
    )
    floor = block((1, 0, -0.05), (5, 5, 0.02), 20000, 3)
    scene, cloud = make_scene(np.concatenate([TWO, floor]))
    label = np.zeros(len(scene.positions), dtype=np.int64)
    label[scene.element_of_point[:9000]] = 1
    label[scene.element_of_point[9000:11500]] = 2
    labels = ElementLabels(label, np.full(len(label), 0.8, dtype=np.float32))
    limits = {"max_instances": 10, "min_points": 20}
    instances = label_instances(scene, cloud, labels, vocabulary, **limits)
    assert [instance.label for instance in instances] == ["sofa", "chair"]
    assert len(instances[0].point_indices) >= 9000
    unlabelled = ElementLabels(np.full(len(label), 65535), labels.confidence)
    assert label_instances(scene, cloud, unlabelled, vocabulary, **limits) == []


def test_touching_objects_of_different_labels_stay_apart() -> None:
    vocabulary = Vocabulary(
        ("bed", "desk"), np.eye(2, dtype=np.float32), (True, True), distinct_colors(2)
    )
    scene, cloud = make_scene(TWO[:9000])
    right = scene.positions[:, 0] > 0
    labels = ElementLabels(right.astype(np.int64), np.full(len(right), 0.9, dtype=np.float32))
    instances = label_instances(scene, cloud, labels, vocabulary, max_instances=10, min_points=20)
    assert sorted(instance.label for instance in instances) == ["bed", "desk"]
    together = np.concatenate([instance.point_indices for instance in instances])
    np.testing.assert_array_equal(np.sort(together), np.arange(9000))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    seed=st.integers(0, 100_000),
    count=st.integers(1, 120),
    span=st.integers(1, 15),
    reach=st.integers(1, 8),
    far=st.booleans(),
)
def test_pieces_are_those_of_a_plain_search(
    seed: int, count: int, span: int, reach: int, far: bool
) -> None:
    generator = np.random.default_rng(seed)
    cells = generator.integers(-span, span, size=(count, 4))
    cells[:, 0] %= 2
    if far:
        cells[0, 1:] += 10**12
    pieces = connected_pieces(cells, reach)
    offset = cells[:, None, 1:].astype(np.float64) - cells[None, :, 1:]
    linked = (offset**2).sum(axis=2) <= reach
    linked &= cells[:, None, 0] == cells[None, :, 0]
    expected = np.arange(count)
    while True:
        smallest = np.where(linked, expected[None, :], count).min(axis=1)
        if (smallest == expected).all():
            break
        expected = smallest
    same = pieces[:, None] == pieces[None, :]
    np.testing.assert_array_equal(same, expected[:, None] == expected[None, :])
    assert set(pieces) == set(range(pieces.max() + 1))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 100_000), turn=st.floats(-4, 4))
def test_the_grid_is_found_again(seed: int, turn: float) -> None:
    generator = np.random.default_rng(seed)
    cells = np.unique(generator.integers(0, 40, size=(2000, 3)), axis=0)
    generator.shuffle(cells)
    positions = ((cells + 0.5) * SIZE @ yaw_rotation(turn).T + (7.0, -3.0, 0.3)).astype(np.float32)
    found = grid_cells(positions.astype(np.float64), SIZE)
    relative, offset = cells - cells[0], found - found[0]
    quarters = [np.round(yaw_rotation(k * np.pi / 2)).astype(np.int64) for k in range(4)]
    assert any(np.array_equal(offset, relative @ quarter.T) for quarter in quarters)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 100_000))
def test_answers_hold_for_any_scene(seed: int) -> None:
    generator = np.random.default_rng(seed)
    parts = [
        block(
            tuple(generator.uniform(-2, 2, 3)),
            tuple(generator.uniform(0.05, 1.0, 3)),
            int(generator.integers(5, 800)),
            seed + k,
        )
        for k in range(6)
    ]
    points = np.concatenate(parts)
    points[generator.random(len(points)) < 0.05] = np.nan
    scene, cloud = make_scene(points, grid_yaw=float(generator.uniform(-3, 3)))
    probability = generator.random(len(scene.positions)).astype(np.float32) ** 0.5
    instances = find(scene, cloud, probability)
    everything = np.concatenate([np.empty(0, np.uint32), *(i.point_indices for i in instances)])
    assert len(np.unique(everything)) == len(everything)
    merit = [i.score * len(i.elements) ** 0.5 for i in instances]
    assert merit == sorted(merit, reverse=True)
    for instance in instances:
        elements = scene.element_of_point[instance.point_indices]
        assert (elements >= 0).all() and (probability[elements] >= 0.5).all()
        assert instance.score == pytest.approx(probability[elements].mean(), abs=1e-5)
        assert share_inside(instance, cloud) >= 0.95
        assert np.linalg.norm(instance.orientation) == pytest.approx(1)
        assert (instance.size > 0).all() and instance.size[0] >= instance.size[1] - 1e-9

    order = generator.permutation(len(points))
    shuffled = find(*make_scene(points, grid_yaw=0.0), None)
    reordered = find(*make_scene(points[order], grid_yaw=0.0), None)
    for one, other in zip(shuffled, reordered, strict=True):
        np.testing.assert_array_equal(one.point_indices, np.sort(order[other.point_indices]))
        np.testing.assert_allclose(one.size, other.size, atol=1e-5)
        np.testing.assert_allclose(one.center, other.center, atol=1e-5)


@settings(deadline=None, derandomize=True)
@given(values=st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_quaternions_are_those_of_the_matrix(values: list[float]) -> None:
    quaternion = np.array(values)
    if np.linalg.norm(quaternion) < 0.1:
        return
    quaternion /= np.linalg.norm(quaternion)
    found = quaternion_xyzw(matrix(quaternion))
    assert found[3] >= 0
    np.testing.assert_allclose(matrix(found), matrix(quaternion), atol=1e-9)


def test_dense_near_faces_do_not_pull_the_box() -> None:
    """A sensor close to one side puts most points there; the far side still counts."""
    near = block((0, -0.39, 0.4), (1.6, 0.02, 0.8), 60000, 5)
    points = np.concatenate([TWO[:9000], near])
    _, element = np.unique(np.floor(points / SIZE), axis=0, return_inverse=True)
    box = upright_box(points, element.reshape(-1))
    np.testing.assert_allclose(box.size, (1.6, 0.8, 0.8), atol=0.06)
