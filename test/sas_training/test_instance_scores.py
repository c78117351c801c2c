"""Objects against annotated ones: cases counted by hand, DBSCAN against a plain search, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from students import untrained_student

from sas_ros.errors import SasError
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_training.cli import main
from sas_training.evaluation.instances import (
    SMALLEST_OBJECT,
    InstanceScores,
    Objects,
    annotated,
    average_precision,
)
from sas_training.evaluation.instances_boxes import boxes_beside
from sas_training.evaluation.instances_dbscan import dbscan
from sas_training.evaluation.labelled import read_labelled, read_objects
from sas_training.evaluation.labels import NUSCENES16, SCANNET20, STUFF

FLOOR, CHAIR, TABLE = 0, 1, 2
THINGS = np.array([False, True, True])
IntArray = npt.NDArray[np.int64]


def runs(*parts: tuple[int, int]) -> IntArray:
    """(value, times) after (value, times)."""
    return np.concatenate([np.full(times, value) for value, times in parts])


def objects(
    of_point: IntArray, classes: list[int], confidence: list[float] | None = None, shift: float = 0
) -> Objects:
    """Objects with unit boxes whose centres lie `shift` beside the origin."""
    centers = np.tile([shift, 0.0, 0.0], (len(classes), 1))
    sizes = np.tile([1.0, 1.0, 1.0 + 3 * shift], (len(classes), 1))
    given_ = np.zeros(len(classes)) if confidence is None else np.array(confidence)
    return Objects(of_point, np.array(classes, dtype=np.int64), centers, sizes, given_)


def score(
    labels: IntArray, instances: IntArray, found: Objects, scores: InstanceScores | None = None
) -> InstanceScores:
    scores = InstanceScores(("floor", "chair", "table"), THINGS) if scores is None else scores
    of_point, classes, unknown = annotated(labels, instances, THINGS)
    scores.add(objects(of_point, classes.tolist()), found, unknown)
    return scores


LABELS = runs((CHAIR, 100), (CHAIR, 100), (TABLE, 200), (FLOOR, 100))
INSTANCES = runs((1, 100), (2, 100), (3, 200), (0, 100))


@pytest.mark.parametrize(
    ("hits", "true", "expected"),
    [
        ([(0.9, True), (0.8, False), (0.7, True)], 3, (1 + 2 / 3) / 3),
        ([(0.7, True), (0.9, False)], 1, 0.5),
        (
            [(0.9, False), (0.8, True), (0.7, True)],
            2,
            2 / 3,
        ),  # the better precision counts for both
        ([], 2, 0.0),
        ([(0.5, False)], 0, None),
    ],
)
def test_average_precision_by_hand(
    hits: list[tuple[float, bool]], true: int, expected: float | None
) -> None:
    assert average_precision(hits, true) == (None if expected is None else pytest.approx(expected))


def test_what_is_found_as_it_is_scores_one() -> None:
    of_point = runs((0, 100), (1, 100), (2, 200), (-1, 100))
    found = objects(of_point, [CHAIR, CHAIR, TABLE], [0.9, 0.8, 0.7], shift=0.1)
    result = score(LABELS, INSTANCES, found).summary()
    assert result["ap25"] == result["ap50"] == 1
    assert (result["true"], result["found"], result["split"], result["merged"]) == (3, 3, 0, 0)
    assert result["center_error_m"] == pytest.approx(0.1)
    assert result["size_error_m"] == pytest.approx(0.1)  # 0.3 m of one side of three
    assert set(result["per_class"]) == {"chair", "table"}


def test_two_chairs_found_as_one_are_a_merge() -> None:
    found = objects(runs((0, 200), (1, 200), (-1, 100)), [CHAIR, TABLE], [0.9, 0.9])
    chair = score(LABELS, INSTANCES, found).summary()["per_class"]["chair"]
    assert (chair["merged"], chair["split"], chair["found"]) == (1, 0, 1)
    assert chair["ap25"] == 0.5  # IoU is one half with both; it takes one
    assert chair["ap50"] == 0.0  # above one half, not at it


def test_a_table_found_as_two_is_a_split() -> None:
    of_point = runs((-1, 200), (0, 120), (1, 60), (2, 15), (-1, 105))
    found = objects(of_point, [TABLE, TABLE, TABLE], [0.5, 0.9, 0.95])
    table = score(LABELS, INSTANCES, found).summary()["per_class"]["table"]
    assert (table["split"], table["merged"], table["found"]) == (1, 0, 3)
    # Ranked 15, 60, 120 points: the second has an IoU of 0.3, the third is late for 0.25.
    assert table["ap25"] == pytest.approx(1 / 2)
    assert table["ap50"] == pytest.approx(1 / 3)


def test_a_crumb_is_no_split() -> None:
    of_point = runs((-1, 200), (0, 180), (1, 19), (-1, 101))
    table = score(LABELS, INSTANCES, objects(of_point, [TABLE, TABLE], [0.9, 0.1])).summary()
    assert table["split"] == 0 and table["per_class"]["table"]["ap50"] == 1


def test_points_nobody_annotated_do_not_count() -> None:
    labels, instances = runs((CHAIR, 100), (255, 300)), runs((1, 100), (9, 300))
    found = objects(runs((0, 200), (1, 200)), [CHAIR, CHAIR], [0.5, 0.9])
    chair = score(labels, instances, found).summary()["per_class"]["chair"]
    assert chair["ap50"] == 1 and chair["found"] == 1  # the one on unknown points is not wrong
    labels[:] = runs((CHAIR, 100), (FLOOR, 300))
    chair = score(labels, instances, found).summary()["per_class"]["chair"]
    assert chair["ap25"] == 0.5 and chair["found"] == 2  # IoU one half, after a wrong one


def test_small_and_uncounted_objects_are_unknown() -> None:
    few = SMALLEST_OBJECT - 1
    labels = runs((CHAIR, few), (CHAIR, 100), (TABLE, 100), (FLOOR, 50), (255, 5))
    instances = runs((1, few), (2, 100), (0, 100), (4, 50), (5, 5))
    of_point, classes, unknown = annotated(labels, instances, THINGS)
    assert classes.tolist() == [CHAIR]
    np.testing.assert_array_equal(of_point >= 0, instances == 2)
    expected = (instances == 1) | (labels == TABLE) | (labels == 255)
    np.testing.assert_array_equal(unknown, expected)


def test_classes_of_one_instance_id_are_two_objects() -> None:
    of_point, classes, _ = annotated(runs((CHAIR, 60), (TABLE, 60)), runs((7, 120)), THINGS)
    assert classes.tolist() == [CHAIR, TABLE]
    np.testing.assert_array_equal(of_point, runs((0, 60), (1, 60)))


def test_confidence_ranks_over_all_scans() -> None:
    """A sure mistake in one scan comes before an unsure hit in the other."""
    scores = InstanceScores(("floor", "chair", "table"), THINGS)
    wrong = objects(runs((-1, 400), (0, 100)), [CHAIR], [0.9])
    score(LABELS, INSTANCES, wrong, scores)
    right = objects(runs((0, 100), (-1, 400)), [CHAIR], [0.4])
    score(LABELS, INSTANCES, right, scores)
    assert scores.summary()["per_class"]["chair"]["ap50"] == pytest.approx(0.5 / 4)


def test_boxes_that_came_with_the_scan_are_compared_too() -> None:
    of_point, classes, unknown = annotated(LABELS, INSTANCES, THINGS)
    theirs = np.array([[0, 0, 0.2, 1, 1, 1], [np.nan] * 6, [0, 0, 0.4, 1, 1, 1.6]])
    true = replace(objects(of_point, classes.tolist()), given=theirs)
    found = objects(runs((0, 100), (1, 100), (-1, 300)), [CHAIR, CHAIR], [0.9, 0.8])
    scores = InstanceScores(("floor", "chair", "table"), THINGS)
    scores.add(true, found, unknown)
    result = scores.summary()
    assert result["center_error_m"] == 0  # against our own boxes nothing is wrong
    assert result["given_boxes"] == {
        "boxes": 2,
        "center_error_m": pytest.approx(0.2),  # the table was not found
        "size_error_m": pytest.approx(0.0),
        "true_center_error_m": pytest.approx(0.3),
        "true_size_error_m": pytest.approx(0.1),
    }
    assert score(LABELS, INSTANCES, found).summary()["given_boxes"] is None


def test_boxes_beside_a_room_go_to_the_objects_they_fit(tmp_path: Path) -> None:
    path = tmp_path / "room_vert.npy"
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 2) for z in (0, 0.5)])
    points = np.concatenate([corners, corners + 5, corners + 10, corners + np.array([1.4, 0, 0])])
    of_point = np.repeat([0, 1, 2, 3], 8)
    classes = np.array([SCANNET20.id_of(n) for n in ("chair", "chair", "bed", "chair")])

    def beside(path: Path) -> npt.NDArray[np.float64] | None:
        return boxes_beside(path, SCANNET20, points, of_point, classes)

    assert beside(path) is None
    assert beside(tmp_path / "room.npz") is None
    chair, bed = 5.0, 4.0  # of NYU40
    boxes = [
        [5.5, 6.1, 5.3, 1.0, 2.2, 0.6, chair],  # of the second object
        [1.6, 1.0, 0.25, 1.0, 2.0, 0.5, chair],  # between the first and the last, nearer the last
        [10.5, 11, 10.25, 1.0, 2.0, 0.5, chair],  # where a bed is
        [30.5, 11, 10.25, 1.0, 2.0, 0.5, bed],  # far away
    ]
    np.save(tmp_path / "room_bbox.npy", np.array(boxes))
    found = beside(path)
    assert found is not None
    np.testing.assert_allclose(found[1], [5.5, 6.1, 5.3, 2.2, 1.0, 0.6])
    np.testing.assert_allclose(found[3], [1.6, 1.0, 0.25, 2.0, 1.0, 0.5])
    assert np.isnan(found[[0, 2]]).all()
    for wrong in (np.zeros((2, 6)), np.full((1, 7), np.nan), np.array(["a"])):
        np.save(tmp_path / "room_bbox.npy", wrong)
        with pytest.raises(SasError, match="room_bbox"):
            beside(path)


def test_nothing_there_and_nothing_found() -> None:
    result = score(runs((FLOOR, 50)), runs((0, 50)), objects(runs((-1, 50)), [])).summary()
    assert result["ap25"] is None and result["center_error_m"] is None
    assert json.loads(json.dumps(result)) == result


@settings(deadline=None, derandomize=True, max_examples=60)
@given(seed=st.integers(0, 100_000), count=st.integers(1, 80), reach=st.sampled_from([1, 3, 6]))
def test_dbscan_is_that_of_a_plain_search(seed: int, count: int, reach: int) -> None:
    generator = np.random.default_rng(seed)
    cells = np.unique(generator.integers(-4, 4, size=(count, 4)) % [2, 8, 8, 8], axis=0)
    generator.shuffle(cells)
    points = generator.integers(1, 6, len(cells))
    cluster = dbscan(cells, points, reach)
    squared = ((cells[:, None, 1:] - cells[None, :, 1:]) ** 2).sum(axis=2)
    near = (squared <= reach) & (cells[:, None, 0] == cells[None, :, 0])
    core = near @ points >= 10
    reachable = near & core[:, None] & core[None, :]
    for _ in range(len(cells)):
        reachable |= reachable @ reachable
    same = cluster[:, None] == cluster[None, :]
    np.testing.assert_array_equal(same[np.ix_(core, core)], reachable[np.ix_(core, core)])
    np.testing.assert_array_equal(cluster < 0, ~(near & core[None, :]).any(axis=1))
    for row in np.flatnonzero(~core & (cluster >= 0)):
        nearest = np.where(near[row] & core, squared[row], 99)
        assert cluster[row] in cluster[nearest == nearest.min()]


def test_scannet_rooms_are_read(tmp_path: Path) -> None:
    vertices = np.random.default_rng(0).uniform(0, 3, (5, 6)).astype(np.float32)
    path = tmp_path / "scene0000_00_vert.npy"
    np.save(path, vertices)
    with pytest.raises(SasError, match=r"scene0000_00_sem_label\.npy"):
        read_objects(path)
    nyu40 = np.array([1, 5, 0, 40, 39], dtype=np.uint32)
    np.save(tmp_path / "scene0000_00_sem_label.npy", nyu40)
    assert read_objects(path).instances is None
    np.save(tmp_path / "scene0000_00_ins_label.npy", np.array([0, 4, 2, 0, 1], dtype=np.uint32))
    scan = read_objects(path)
    np.testing.assert_array_equal(scan.points, vertices[:, :3])
    assert scan.labels.tolist() == [0, 4, 255, 255, 19]
    assert scan.instances is not None and scan.instances.tolist() == [0, 4, 2, 0, 1]
    assert read_labelled(path, SCANNET20)[1].tolist() == scan.labels.tolist()
    with pytest.raises(SasError, match="nuscenes16"):
        read_objects(path, NUSCENES16)


@pytest.mark.parametrize("wrong", [np.zeros(4, np.int64), np.zeros(3), np.array(["a"] * 3)])
def test_instances_are_one_whole_number_a_point(tmp_path: Path, wrong: IntArray) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, points=np.zeros((3, 3)), labels=np.zeros(3), instances=wrong)
    with pytest.raises(SasError, match="instance id a point"):
        read_objects(path)


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """An untrained student that knows the twenty words."""
    bundle = untrained_student()
    embeddings = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    things = tuple(name not in STUFF for name in SCANNET20.names)
    words = Vocabulary(SCANNET20.names, embeddings, things, distinct_colors(20))
    path = tmp_path / "tiny.safetensors"
    replace(bundle, vocabulary=words).save(path)
    return path


def test_objects_of_a_generated_room(
    student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """True labels of rooms, made into objects, are mostly the objects of the rooms."""
    world = tmp_path / "world"
    make = ["world", "make", "-o", str(world), "--rooms", "2", "--seed", "5", "--workers", "1"]
    assert main(make) == 0
    expected = 0
    for path in (world / "rooms").glob("*.npz"):
        scan = read_objects(path)
        assert scan.instances is not None
        for name in set(SCANNET20.names) - STUFF:
            mine = (scan.labels == SCANNET20.id_of(name)) & (scan.instances > 0)
            expected += int((np.bincount(scan.instances[mine]) >= SMALLEST_OBJECT).sum())
    capsys.readouterr()
    evaluate = ["evaluate", "--student", str(student), str(world / "rooms"), "--instances"]
    for clustering in ("objects", "dbscan"):
        assert main([*evaluate, "--true-labels", "--clustering", clustering, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["instances"]
        assert found["true_labels"] is True and found["clustering"] == clustering
        assert found["true"] == expected > 0
        assert found["ap25"] >= 0.6 and found["found"] >= 0.6 * found["true"]
        assert found["center_error_m"] < 0.2 and found["size_error_m"] < 0.2
    assert main(evaluate) == 0
    assert "the student's labels" in capsys.readouterr().out


def test_what_cannot_be_scored_is_a_sentence(
    student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scan.npz"
    points = np.random.default_rng(0).uniform(0, 2, (500, 3))
    np.savez(path, points=points, labels=np.zeros(500))
    evaluate = ["evaluate", "--student", str(student), str(path)]
    assert main([*evaluate, "--instances"]) == 2
    assert "no instances" in capsys.readouterr().err
    assert main([*evaluate, "--true-labels"]) == 2
    assert "--instances" in capsys.readouterr().err


def test_real_rooms_are_scored(
    student: Path, test_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rooms = test_data / "scannet_rooms"
    scan = str(rooms / "scene0006_00_vert.npy")
    evaluate = ["evaluate", "--student", str(student), scan, "--instances", "--true-labels"]
    assert main([*evaluate, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["instances"]
    assert found["true"] == 12 and found["ap25"] >= 0.8
    chairs = found["per_class"]["chair"]
    assert (chairs["true"], chairs["ap25"]) == (3, 1)
    boxes = found["given_boxes"]
    assert boxes["boxes"] == 12
    assert boxes["true_center_error_m"] < 0.03 and boxes["true_size_error_m"] < 0.03
    assert main(evaluate) == 0
    assert "against 12 boxes of the data" in capsys.readouterr().out
