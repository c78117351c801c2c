"""The voxel map against a slow transcription, its bounds, and its view for queries."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from students import untrained_student

from sas_ros.errors import SasError
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.mapping import (
    MapIdentity,
    VoxelMap,
    load_map,
    merge_maps,
    observe,
    save_map,
    student_fingerprint,
    view_of,
)
from sas_ros.mapping.columns import POINTS, POSITION, REACH, pack, unpack
from sas_ros.mapping.voxel_map import MapState, empty_state
from sas_ros.observation import Cloud, SceneFeatures, SourceHeader, Up
from sas_ros.query import QueryAnswer, QueryStatus, TextQuery, answer

DIM, SIZE = 6, 0.1
IDENTITY = MapIdentity("tiny", "ab" * 32, DIM, SIZE, "map")


def pose_of(yaw: float, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Any:
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, z], [0, 0, 0, 1]])


def looked(
    seed: int,
    *,
    points: int = 300,
    colors: bool = True,
    stamp: int | None = None,
    spread: float = 1,
) -> tuple[SceneFeatures, Cloud]:
    """A random cloud of a small place, a feature for every third of its points, one without."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-spread, spread, (points, 3)).astype(np.float32) * [1, 1, 0.2]
    places[0] = np.nan
    elements = points // 3
    features = rng.normal(size=(elements, DIM)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    features[-1] = 0.0
    of_point = rng.integers(0, elements, points).astype(np.int32)
    of_point[0] = -1
    header = SourceHeader(seed * 10**9 if stamp is None else stamp, "lidar")
    tint = rng.integers(0, 256, (points, 3)).astype(np.uint8) if colors else None
    origin = np.array([0.5, 0, 0])
    cloud = Cloud(places.astype(np.float32), colors=tint, header=header, origin=origin)
    scene = SceneFeatures(
        torch.from_numpy(features), np.zeros((elements, 3), np.float32), of_point, header,
        Up(np.array([0.0, 0, 1])), origin, 0.08,
    )  # fmt: skip
    return scene, cloud


def built(*seeds: int, cap: int = 50, **options: Any) -> VoxelMap:
    made = VoxelMap(empty_state(IDENTITY), cap=cap, **options)
    for seed in seeds:
        scene, cloud = looked(seed)
        made.integrate(scene, cloud, pose_of(0.3 * seed, 0.1 * seed))
    return made


class Transcription:
    """The same map as a dictionary of Python floats, one point after the other."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.voxels: dict[tuple[int, ...], dict[str, Any]] = {}

    def integrate(self, scene: SceneFeatures, cloud: Cloud, pose: Any) -> None:
        found: dict[tuple[int, ...], list[int]] = {}
        places = {}
        for index, element in enumerate(scene.element_of_point):
            if element < 0:
                continue
            here = cloud.points[index].astype(float) + cloud.origin
            place = pose[:3, :3] @ here + pose[:3, 3]
            places[index] = place
            found.setdefault(tuple(math.floor(v / SIZE) for v in place), []).append(index)
        for key, members in found.items():
            corner = np.array(key) * SIZE
            at = np.array([places[index] - corner for index in members])
            rows = scene.features.numpy()[scene.element_of_point[members]].astype(float)
            seen = {
                "feature": rows.mean(axis=0),
                "shape": np.concatenate(
                    [at.mean(axis=0), at.min(axis=0), at.max(axis=0), [len(members)]]
                ),
            }
            old = self.voxels.setdefault(key, {"count": 0, "stamp": 0})
            share = max(1 / (old["count"] + 1), 1 / self.cap)
            for name, value in seen.items():
                before = old.get(name, np.zeros_like(value))
                old[name] = before + share * (value - before)
            if cloud.colors is not None:
                value = cloud.colors[members].astype(float).mean(axis=0)
                share = max(1 / (old.get("colored", 0) + 1), 1 / self.cap)
                before = old.get("color", np.zeros(3))
                old["color"] = before + share * (value - before)
                old["colored"] = min(old.get("colored", 0) + 1, self.cap)
            old["count"] = min(old["count"] + 1, self.cap)
            old["stamp"] = max(old["stamp"], scene.header.stamp_ns)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_features_that_are_none_do_not_spoil_the_file(tmp_path: Path, value: float) -> None:
    scene, cloud = looked(1)
    rows = scene.features.clone()
    rows[7, 2] = value
    made, wanted = built(), built()
    made.integrate(replace(scene, features=rows), cloud, np.eye(4))
    save_map(made.state, tmp_path / "a.map.safetensors")
    again = load_map(tmp_path / "a.map.safetensors")
    rows[7] = 0.0
    wanted.integrate(replace(scene, features=rows), cloud, np.eye(4))
    np.testing.assert_array_equal(np.sort(again.columns.keys), np.sort(wanted.state.columns.keys))
    np.testing.assert_allclose(again.columns.agreement.sum(), wanted.state.columns.agreement.sum())


@pytest.mark.parametrize("cap", [3, 50])
def test_the_map_is_its_slow_transcription(cap: int) -> None:
    made, slow = VoxelMap(empty_state(IDENTITY), cap=cap), Transcription(cap)
    for seed in range(1, 9):
        scene, cloud = looked(seed, colors=seed != 2)
        pose = pose_of(0.4 * seed, 0.2 * seed, -0.1, 0.05 * seed)
        touched = made.integrate(scene, cloud, pose)
        slow.integrate(scene, cloud, pose)
        assert touched <= len(made)
    state = made.state
    columns = state.columns
    assert (len(made), state.clouds, state.stamp_ns) == (len(slow.voxels), 8, 8 * 10**9)
    np.testing.assert_allclose(state.viewpoint, pose_of(3.2, 1.6, -0.1, 0.4))
    for row, key in enumerate(map(tuple, columns.coordinates.tolist())):
        voxel = slow.voxels[key]
        mean = columns.features[row].double().numpy() * float(columns.agreement[row])
        np.testing.assert_allclose(mean, voxel["feature"], atol=3e-3)
        np.testing.assert_allclose(columns.shape[row], voxel["shape"], atol=2e-5)
        np.testing.assert_allclose(columns.colors[row], voxel.get("color", 0), atol=1e-3)
        assert columns.counts[row] == voxel["count"]
        assert columns.colored[row] == voxel.get("colored", 0)
        assert columns.last_seen[row] == voxel["stamp"]


def assert_same(one: MapState, other: MapState, tolerance: float = 3e-3) -> None:
    order, others = np.argsort(one.columns.keys), np.argsort(other.columns.keys)
    mine, yours = one.columns.rows(order), other.columns.rows(others)
    for item in fields(mine):
        a, b = np.asarray(getattr(mine, item.name)), np.asarray(getattr(yours, item.name))
        if item.name == "features":  # the direction of a mean that is nearly zero is noise
            a, b = a * mine.agreement[:, None], b * yours.agreement[:, None]
        np.testing.assert_allclose(a, b, atol=tolerance, err_msg=item.name)


def test_the_order_of_the_clouds_does_not_matter() -> None:
    assert_same(built(1, 2, 3, 4, 5).state, built(4, 2, 5, 1, 3).state)


def test_merging_is_integrating_both() -> None:
    merged = merge_maps([built(1, 2, 3).state, built(4, 5).state])
    whole = built(1, 2, 3, 4, 5).state
    assert_same(merged, whole)
    assert (merged.clouds, merged.stamp_ns) == (whole.clouds, whole.stamp_ns)
    np.testing.assert_array_equal(merged.viewpoint, whole.viewpoint)
    assert merged.version > max(built(1, 2, 3).state.version, built(4, 5).state.version)
    assert_same(merge_maps([built(4, 5).state, built(1, 2, 3).state]), whole)


def test_maps_of_strangers_are_not_merged() -> None:
    mine = built(1).state
    for change, word in (
        ({"fingerprint": "cd" * 32}, "student"),
        ({"voxel_size": 0.2}, "0.2 m"),
        ({"frame": "odom"}, "odom"),
    ):
        identity = MapIdentity(**{**IDENTITY.__dict__, **change})
        with pytest.raises(SasError, match=word):
            merge_maps([mine, empty_state(identity)])
    with pytest.raises(SasError, match="no map"):
        merge_maps([])


def test_a_state_never_changes_afterwards() -> None:
    made = built(1, 2)
    state = made.state
    before = {
        f.name: np.array(np.asarray(getattr(state.columns, f.name))) for f in fields(state.columns)
    }
    for seed in (1, 2, 3):
        made.integrate(*looked(seed), pose_of(0.3 * seed, 0.1 * seed))
    made.rewind(5)
    made.reset()
    assert len(made) == 0 and made.state.version > state.version
    for name, values in before.items():
        np.testing.assert_array_equal(np.asarray(getattr(state.columns, name)), values)
    again = VoxelMap(state)
    again.integrate(*looked(1), pose_of(0))
    np.testing.assert_array_equal(state.columns.counts, before["counts"])


def test_what_was_carried_away_fades() -> None:
    """With a cap of 4, twelve clouds leave 3 % of what a voxel was before."""
    made = VoxelMap(empty_state(IDENTITY), cap=4)
    header = SourceHeader(1, "map")
    cloud = Cloud(np.full((3, 3), 0.05, np.float32), header=header)
    for number in range(112):
        feature = torch.zeros((1, DIM))
        feature[0, int(number >= 100)] = 1.0
        scene = SceneFeatures(
            feature, cloud.points[:1], np.zeros(3, np.int32), header,
            Up(np.array([0.0, 0, 1])), np.zeros(3), 0.08,
        )  # fmt: skip
        made.integrate(scene, cloud, np.eye(4))
    columns = made.state.columns
    mean = columns.features[0].float() * float(columns.agreement[0])
    assert float(mean[0]) == pytest.approx(0.75**12, abs=2e-3)
    assert float(mean[1]) == pytest.approx(1 - 0.75**12, abs=2e-3)


def test_the_map_stays_within_its_limit_and_lets_the_oldest_and_farthest_go() -> None:
    limit = 200
    made = VoxelMap(empty_state(IDENTITY), max_voxels=limit)
    for seed in range(1, 6):
        scene, cloud = looked(seed, points=150)
        made.integrate(scene, cloud, pose_of(0, 10.0 * seed))
        assert len(made) <= limit
    state = made.state
    assert state.let_go > 0
    assert int(state.columns.last_seen.min()) >= 3 * 10**9  # the first places are gone
    # One cloud that is too large by itself: what lies near the sensor stays.
    made = VoxelMap(empty_state(IDENTITY), max_voxels=limit)
    scene, cloud = looked(9, points=4000, spread=5)
    made.integrate(scene, cloud, pose_of(0))
    kept = np.linalg.norm(made.state.columns.coordinates * SIZE, axis=1)
    everything = observe(scene, cloud, pose_of(0), SIZE)
    away = np.linalg.norm(everything.coordinates * SIZE, axis=1)
    assert len(made) + made.state.let_go == len(everything)
    assert kept.max() <= np.sort(away)[len(made)] + 1e-9
    assert made.nbytes < 2 * limit * (2 * DIM + 100)
    # A file made with a larger limit is cut as it comes.
    assert len(VoxelMap(built(1, 2, 3).state, max_voxels=50)) <= 50


def test_after_a_jump_back_new_clouds_are_not_old() -> None:
    made = VoxelMap(empty_state(IDENTITY), max_voxels=150)
    made.integrate(*looked(9, points=100), pose_of(0, 0))
    made.rewind(2 * 10**9)
    made.integrate(*looked(3, points=150), pose_of(0, 30))
    seen = made.state.columns.last_seen
    assert made.state.stamp_ns == 3 * 10**9
    assert np.count_nonzero(seen == 3 * 10**9) > 100 and seen.max() == 3 * 10**9


def test_what_a_map_began_with_keeps_its_times_after_a_jump_back() -> None:
    today = 100 * 10**9
    given = VoxelMap(empty_state(IDENTITY))
    given.integrate(*looked(1, stamp=today), pose_of(0))
    made = VoxelMap(given.state)
    made.rewind(3 * 10**9)
    made.integrate(*looked(1, stamp=3 * 10**9), pose_of(0))  # seen again, by an older bag
    made.integrate(*looked(3, stamp=4 * 10**9), pose_of(0, 30))  # places that the map lacks
    made.rewind(10**9)  # the bag begins anew
    columns = made.state.columns
    old = np.isin(columns.keys, given.state.columns.keys)
    assert old.sum() == len(given) and not old.all()
    assert (columns.last_seen[old] == today).all() and (columns.last_seen[~old] == 10**9).all()
    made.integrate(*looked(1, stamp=today + 5), pose_of(0))
    columns = made.state.columns
    old = np.isin(columns.keys, given.state.columns.keys)
    assert (columns.last_seen[old] == today + 5).all()
    # It forgets in the order of its own clock nevertheless: what is new must have a place.
    small = VoxelMap(given.state, max_voxels=len(given))
    small.rewind(3 * 10**9)
    small.integrate(*looked(3, stamp=3 * 10**9 + 1), pose_of(0, 30))
    columns = small.state.columns
    old = np.isin(columns.keys, given.state.columns.keys)
    assert small.state.let_go and (~old).sum() > 50
    assert (columns.last_seen[old] == today).all()
    small.reset()
    small.integrate(*looked(1, stamp=5), pose_of(0))
    assert (small.state.columns.last_seen == 5).all()


@pytest.mark.parametrize(
    "pose",
    [
        np.full((4, 4), np.nan),
        np.diag([1.0, 1, -1, 1]),
        np.diag([2.0, 2, 2, 1]),
        np.eye(3),
        np.ones((4, 4)),
    ],
)
def test_what_is_no_pose_is_refused_and_changes_nothing(pose: Any) -> None:
    made = built(1)
    before = made.state
    with pytest.raises(SasError, match="pose"):
        made.integrate(*looked(2), pose)
    assert made.state.version == before.version and len(made) == len(before)


def test_strange_clouds() -> None:
    made = built(1)
    size = len(made)
    scene, cloud = looked(2)
    # Beyond the reach of the keys: left out, whatever is near is kept.
    assert made.integrate(scene, cloud, pose_of(0, x=1e6)) == 0
    assert len(made) == size
    cloud.points[5] = 1e7
    assert 0 < made.integrate(scene, cloud, pose_of(0)) < 300
    with pytest.raises(SasError, match="points"):
        made.integrate(scene, Cloud(cloud.points[:7]), pose_of(0))
    narrow = SceneFeatures(
        torch.ones((100, 3)), scene.positions, scene.element_of_point, scene.header, scene.up,
        scene.origin, 0.08,
    )  # fmt: skip
    with pytest.raises(SasError, match="another student"):
        made.integrate(narrow, cloud, pose_of(0))


def test_keys_hold_their_coordinates_and_sort_like_them() -> None:
    rng = np.random.default_rng(0)
    cells = rng.integers(-REACH, REACH, (500, 3))
    cells[:2] = [[-REACH] * 3, [REACH - 1] * 3]
    keys = pack(cells)
    np.testing.assert_array_equal(unpack(keys), cells)
    np.testing.assert_array_equal(np.argsort(keys), np.lexsort(cells.T[::-1]))
    with pytest.raises(SasError, match="within"):
        pack(np.array([[0, 0, REACH]]))


# ------------------------------------------------------------------------------- asking it
NAMES = ("floor", "chair", "table")
WORDS = Vocabulary(NAMES, np.eye(3, DIM, dtype=np.float32), (False, True, True), distinct_colors(3))
CALIBRATION = Calibration(temperature=20.0, threshold=0.5)


def furnished(stamp: int = 5, colors: bool = True) -> tuple[SceneFeatures, Cloud]:
    """A floor, two chairs 9 cm apart and a table, with the features of their words."""
    rng = np.random.default_rng(1)
    parts = [
        (0, rng.uniform([0, 0, 0], [3, 3, 0], (9000, 3))),
        (1, rng.uniform([0.5, 0.5, 0.2], [1.0, 1.0, 0.6], (4000, 3))),
        (1, rng.uniform([1.09, 0.5, 0.2], [1.6, 1.0, 0.6], (4000, 3))),
        (2, rng.uniform([0.4, 1.8, 0.6], [1.9, 2.6, 0.7], (4000, 3))),
    ]
    points = np.concatenate([part for _, part in parts]).astype(np.float32)
    kind = np.concatenate([np.full(len(part), label) for label, part in parts])
    cells = np.column_stack([kind, np.floor(points / 0.08)]).astype(np.int64)
    rows, of_point = np.unique(cells, axis=0, return_inverse=True)
    header = SourceHeader(stamp, "map")
    tint = np.full((len(points), 3), 90, np.uint8) if colors else None
    scene = SceneFeatures(
        torch.from_numpy(WORDS.embeddings[rows[:, 0]]),
        ((rows[:, 1:] + 0.5) * 0.08).astype(np.float32), of_point.reshape(-1).astype(np.int32),
        header, Up(np.array([0.0, 0, 1])), np.zeros(3), 0.08,
    )  # fmt: skip
    return scene, Cloud(points, colors=tint, header=header)


def ask(scene: SceneFeatures, cloud: Cloud, word: str, **fields_: Any) -> QueryAnswer:
    row = WORDS.embeddings[NAMES.index(word)] if word in NAMES else np.eye(DIM, dtype=np.float32)[5]
    return answer(
        scene, cloud, TextQuery(word, **fields_), row, None, WORDS, CALIBRATION,
        default_max_instances=10, min_points=20,
    )  # fmt: skip


def test_a_map_of_one_cloud_answers_like_the_cloud() -> None:
    scene, cloud = furnished()
    made = VoxelMap(empty_state(MapIdentity("tiny", "ab" * 32, DIM, 0.08, "map")))
    for _ in range(3):
        made.integrate(scene, cloud, np.eye(4))
    view = view_of(made.state)
    assert view.cloud.header == SourceHeader(5, "map") and view.cloud.colors is not None
    assert (view.cloud.colors == 90).all()
    for word, number in (("chair", 2), ("table", 1)):
        direct, mapped = ask(scene, cloud, word), ask(view.scene, view.cloud, word)
        assert mapped.status == direct.status == QueryStatus.OK
        assert len(mapped.instances) == len(direct.instances) == number
        found = sorted(mapped.instances, key=lambda item: float(item.center[0]))
        wanted = sorted(direct.instances, key=lambda item: float(item.center[0]))
        for one, other in zip(found, wanted, strict=True):
            assert np.abs(one.center - other.center).max() < 0.04
            assert (one.size > other.size - 0.16).all() and (one.size < other.size + 0.01).all()
            assert abs(one.score - other.score) < 0.1
            assert view.last_seen(one.elements) == 5
    nothing = ask(view.scene, view.cloud, "elephant")
    assert nothing.status == QueryStatus.NOT_FOUND
    assert {name for name, _ in nothing.alternatives} <= {"chair", "table"}


def test_a_turned_sensor_far_from_the_origin_is_answered_where_it_stands() -> None:
    """A pose 40 km away and on its side: float32 alone would be off by millimetres."""
    scene, cloud = furnished()
    turn = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # sensor z is the map's x
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, [40_000.0, -40_000.0, 12.0]
    lying = Cloud(cloud.points @ turn.astype(np.float32), header=cloud.header)
    made = VoxelMap(empty_state(MapIdentity("tiny", "ab" * 32, DIM, 0.08, "map")))
    made.integrate(scene, lying, pose)
    view = view_of(made.state)
    found = ask(view.scene, view.cloud, "table").instances
    (wanted,) = ask(scene, cloud, "table").instances
    assert len(found) == 1
    np.testing.assert_allclose(found[0].center - pose[:3, 3], wanted.center, atol=0.05)
    assert view.cloud.colors is None
    # The view's points are the voxels' mean positions.
    columns = made.state.columns
    mean = columns.coordinates * 0.08 + columns.shape[:, POSITION]
    np.testing.assert_allclose(view.cloud.points + view.cloud.origin, mean, atol=1e-4)


def test_things_of_few_points_are_no_objects_on_the_map_either() -> None:
    scene, cloud = furnished()
    few = np.concatenate([np.arange(9000), 9000 + np.arange(15)])  # 15 points of a chair
    sparse = SceneFeatures(
        scene.features, scene.positions, scene.element_of_point[few], scene.header, scene.up,
        scene.origin, scene.element_size,
    )  # fmt: skip
    made = VoxelMap(empty_state(MapIdentity("tiny", "ab" * 32, DIM, 0.08, "map")))
    for _ in range(5):
        made.integrate(sparse, Cloud(cloud.points[few], header=cloud.header), np.eye(4))
    view = view_of(made.state)
    assert ask(view.scene, view.cloud, "chair").status == QueryStatus.NOT_FOUND
    assert int(view.scene.points_per_element.sum()) == int(
        made.state.columns.shape[:, POINTS].sum()
    )


def test_the_fingerprint_tells_students_apart_and_not_their_words() -> None:
    one, other = untrained_student(seed=0), untrained_student(seed=1)
    print_one = student_fingerprint(one)
    assert print_one == student_fingerprint(untrained_student(seed=0, name="renamed"))
    assert print_one != student_fingerprint(other)
    renamed = replace(one, calibration=replace(one.calibration, threshold=0.7))
    assert student_fingerprint(renamed) == print_one
    assert student_fingerprint(replace(one, voxel_size=0.05)) != print_one


@pytest.mark.parametrize(
    ("change", "word"),
    [({"voxel_size": 0.0}, "voxel size"), ({"voxel_size": math.nan}, "voxel size"),
     ({"frame": ""}, "frame"), ({"feature_dim": 0}, "features")],
)  # fmt: skip
def test_an_identity_that_is_none_is_a_sentence(change: dict[str, Any], word: str) -> None:
    with pytest.raises(SasError, match=word):
        MapIdentity(**{**IDENTITY.__dict__, **change})
    with pytest.raises(SasError, match="room"):
        VoxelMap(empty_state(IDENTITY), max_voxels=0)
