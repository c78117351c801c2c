"""The held target against ground truth, point by point, while other clients ask other things.

The student is an oracle, so that whatever is wrong in the outputs is the node's doing.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from harness import Probe, query, values
from inprocess import Running
from rooms import (
    CHAIR,
    NAMES,
    TABLE,
    THINGS,
    coded_cloud,
    coded_header,
    coded_labels,
    coded_points,
    number_in_stamp,
    two_chairs,
)
from sas_msgs.srv import Query
from sensor_msgs.msg import PointCloud2
from students import untrained_student

from sas_ros.clouds import read_cloud
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.observation import Cloud, ElementLabels, SceneFeatures, Up
from sas_ros.student.bundle import StudentBundle
from sas_ros.word_scores import scene_scores

CLIENTS = int(os.environ.get("SAS_TARGET_CLIENTS", "10"))
ROUNDS = 8
BURST = 8
VOXEL = 0.08
STRIDE = 1 / 32
"""Metres from one cloud to the next: what is held may be followed over the clouds of a burst that
are dropped."""
OTHERS = ("table", "sofa", "door", "wall", "floor", "chair")
"""What the others ask; one of them for the very thing that is held."""


class Oracle:
    """Stands in for `Segmenter`: knows the class of every point of a coded cloud.

    An element is what one class has in one voxel. Clouds with a stamp in `told` have those classes.
    """

    told: ClassVar[dict[int, npt.NDArray[np.int64]]] = {}

    def __init__(self, bundle: StudentBundle, **_: Any) -> None:
        self.bundle = bundle
        self.device = torch.device("cpu")
        self.engine = SimpleNamespace(description="an oracle.")

    def warm_up(self) -> None:
        """Nothing to load."""

    def segment(self, cloud: Cloud, up: Up) -> SceneFeatures:
        labels = self.told.get(cloud.header.stamp_ns)
        if labels is None:
            labels = coded_labels(number_in_stamp(cloud.header.stamp_ns % 10**9))
        cells = np.floor(cloud.points / VOXEL).astype(np.int64)
        elements, inverse = np.unique(np.c_[cells, labels], axis=0, return_inverse=True)
        return SceneFeatures(
            features=torch.from_numpy(self.bundle.vocabulary.embeddings[elements[:, 3]].copy()),
            positions=((elements[:, :3] + 0.5) * VOXEL).astype(np.float32),
            element_of_point=inverse.reshape(-1).astype(np.int32),
            header=cloud.header,
            up=up,
            origin=cloud.origin,
            element_size=VOXEL,
        )

    def label(self, scene: SceneFeatures, vocabulary: Vocabulary) -> ElementLabels:
        return scene_scores(scene, vocabulary, self.bundle.calibration.temperature).labels


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = untrained_student(dim=16)
    path = tmp_path_factory.mktemp("oracle") / "oracle.safetensors"
    words = Vocabulary(NAMES, np.eye(len(NAMES), 16, dtype=np.float32), THINGS, distinct_colors(6))
    StudentBundle(
        name="oracle",
        architecture=bundle.architecture,
        weights=bundle.weights,
        inputs=bundle.inputs,
        voxel_size=VOXEL,
        text_encoder="none",
        prompt="{}",
        vocabulary=words,
        calibration=Calibration(),
    ).save(path)
    return path


@pytest.fixture(scope="module")
def oracle_node(graph_env: dict[str, str], domain: int, student: Path) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sas_ros.nodes.model.Segmenter", Oracle)
        running = Running(domain, "truth", student=str(student))
    yield running
    running.stop()


@pytest.fixture
def probe(graph_env: dict[str, str], domain: int) -> Iterator[Probe]:
    own = Probe(domain, "truth")
    yield own
    own.close()


class Crowd:
    """Clients that ask again as soon as they are answered; every answer is checked."""

    def __init__(self, probe: Probe) -> None:
        self._clients = [probe.node.create_client(Query, "query") for _ in range(CLIENTS)]
        probe.until(lambda: all(c.service_is_ready() for c in self._clients), what="the service")
        self._asked: list[tuple[str, Any]] = [self._ask(place) for place in range(CLIENTS)]
        self.answered: Counter[str] = Counter()

    def _ask(self, place: int, turn: int = 0) -> tuple[str, Any]:
        text = OTHERS[(place + turn) % len(OTHERS)]
        return text, self._clients[place].call_async(query(text, return_indices=True))

    def look(self) -> None:
        """Check what came in, and ask again."""
        for place, (text, future) in enumerate(self._asked):
            if future.done():
                self._check(text, future.result())
                self.answered[text] += 1
                self._asked[place] = self._ask(place, self.answered.total())

    def _check(self, text: str, answer: Any) -> None:
        labels = coded_labels(number_in_stamp(answer.source.stamp.nanosec))
        there = bool((labels == NAMES.index(text)).any())
        wanted = Query.Response.OK if there else Query.Response.NOT_FOUND
        assert answer.status == wanted, (text, answer.status, answer.message)
        for instance in answer.instances:
            assert set(labels[np.array(instance.indices)]) == {NAMES.index(text)}


def rows(message: Any) -> npt.NDArray[np.float32]:
    return read_cloud(message).points


def number_of(message: Any) -> int:
    return number_in_stamp(message.header.stamp.nanosec)


def check_obstacles(message: Any, *, held: bool) -> None:
    """Every point that is not the target, in its order, and no other."""
    number = number_of(message)
    kept = coded_labels(number) != CHAIR if held else np.ones(len(coded_labels(number)), bool)
    np.testing.assert_array_equal(rows(message), coded_points(number, STRIDE)[kept])


def check_mask(message: Any) -> None:
    """Every point of the target, in its order, and no other."""
    number = number_of(message)
    target = coded_labels(number) == CHAIR
    np.testing.assert_array_equal(rows(message), coded_points(number, STRIDE)[target])


def test_the_target_and_nothing_else_is_cut_out_whatever_others_ask(
    oracle_node: Running, probe: Probe
) -> None:
    mask = probe.listen(PointCloud2, "query_mask")
    obstacles = probe.listen(PointCloud2, "obstacles")
    probe.process(coded_cloud(0, stamp_ns=time.time_ns(), step=STRIDE))
    probe.until(lambda: obstacles, what="the whole cloud")
    check_obstacles(obstacles[0], held=False)
    crowd = Crowd(probe)
    held = probe.ask("chair", set_target=True, max_instances=1, return_indices=True)
    assert held.status == Query.Response.OK
    truth = np.flatnonzero(coded_labels(0) == CHAIR)
    np.testing.assert_array_equal(np.array(held.instances[0].indices), truth)
    probe.until(lambda: mask and len(obstacles) == 2, what="the mask of the cloud that was asked")

    def arrived(number: int) -> bool:
        crowd.look()
        return number_of(mask[-1]) == number and number_of(obstacles[-1]) == number

    for number in range(1, ROUNDS + 1):
        probe.send(coded_cloud(number, stamp_ns=time.time_ns(), step=STRIDE))
        probe.until(partial(arrived, number), what=f"cloud {number}")
    assert len(obstacles) == ROUNDS + 2 and len(mask) == ROUNDS + 1
    # Faster than the node: some are dropped, none is mixed up with another.
    last = ROUNDS + BURST
    for number in range(ROUNDS + 1, last + 1):
        probe.send(coded_cloud(number, stamp_ns=time.time_ns(), step=STRIDE))
    probe.until(lambda: arrived(last), what="the last of the burst")
    for message in obstacles[1:]:
        check_obstacles(message, held=True)
    for message in mask:
        check_mask(message)
    assert [m.header for m in mask] == [m.header for m in obstacles[1:]]
    probe.until(lambda: crowd.look() or len(crowd.answered) == len(OTHERS), what="all answers")
    assert probe.ask("", set_target=True).status == Query.Response.OK
    seen = len(obstacles)
    probe.send(coded_cloud(last + 1, stamp_ns=time.time_ns(), step=STRIDE))
    probe.until(lambda: number_of(obstacles[-1]) == last + 1, what="the whole cloud")
    for message in obstacles[seen:]:
        check_obstacles(message, held=False)
    assert crowd.answered.total() > CLIENTS


class Chairs:
    """A node that is shown two chairs which look the same to it, and what it holds of them."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.mask = probe.listen(PointCloud2, "query_mask")
        self.obstacles = probe.listen(PointCloud2, "obstacles")
        self.number = -1

    def show(self, *gone: npt.NDArray[np.bool_], third: bool = False) -> None:
        """Send a cloud in which some points have another class; `third` adds another chair."""
        self.number += 1
        points, labels, _ = two_chairs()
        if third:
            first = points[two_chairs()[2] == 1]
            points = np.concatenate([points, first - np.array([1.5, 0, 0], np.float32)])
            labels = np.concatenate([labels, np.full(len(first), CHAIR)])
        for part in gone:
            labels = np.where(part, TABLE, labels)
        self.points = points + np.array([self.number * STRIDE, 0, 0], np.float32)
        header = coded_header(self.number, time.time_ns())
        Oracle.told[header.stamp_ns] = labels
        self._probe.process(Cloud(self.points, header=header))

    def check(self, held: npt.NDArray[np.bool_] | None) -> None:
        """The newest outputs are these points and all others, in their order; None: no mask."""
        self._probe.until(lambda: number_of(self.obstacles[-1]) == self.number, what="obstacles")
        if held is None:
            np.testing.assert_array_equal(rows(self.obstacles[-1]), self.points)
            assert not self.mask or number_of(self.mask[-1]) < self.number
            return
        self._probe.until(lambda: number_of(self.mask[-1]) == self.number, what="the mask")
        # Of the cloud that was asked there are two: before the question, and after.
        self._probe.until(
            lambda: self.obstacles[-1].width == np.count_nonzero(~held), what="the obstacles"
        )
        np.testing.assert_array_equal(rows(self.mask[-1]), self.points[held])
        np.testing.assert_array_equal(rows(self.obstacles[-1]), self.points[~held])


@pytest.fixture
def chairs(oracle_node: Running, probe: Probe) -> Iterator[Chairs]:
    yield Chairs(probe)
    probe.ask("", set_target=True)
    Oracle.told.clear()


def test_of_two_equal_chairs_the_one_that_was_chosen_stays_held(
    oracle_node: Running, probe: Probe, chairs: Chairs
) -> None:
    points, _, chair = two_chairs()
    chairs.show()
    asked = probe.ask("chair", set_target=True, max_instances=1, return_indices=True)
    assert asked.status == Query.Response.OK and len(asked.instances) == 1
    chosen = np.array(asked.instances[0].indices)
    (which,) = np.unique(chair[chosen])
    held, other = chair == which, chair == 3 - which
    np.testing.assert_array_equal(chosen, np.flatnonzero(held))
    probe.until(lambda: chairs.mask, what="the mask")
    chairs.check(held)
    # A third of it, then two thirds, are taken for something else: the other looks larger.
    for low in (0.15, 0.3):
        hidden = held & (points[:, 2] < low)
        chairs.show(hidden)
        best = probe.ask("chair", max_instances=1, return_indices=True).instances[0]
        assert set(chair[np.array(best.indices)]) == {3 - which}
        chairs.check(held & ~hidden)
    chairs.show()
    chairs.check(held)
    # It vanishes: nothing is cut out in its place, and it is still held.
    chairs.show(held)
    chairs.check(np.zeros_like(held))
    assert values(probe.diagnostics()["words"])["target"] == "chair"
    chairs.show(held, other)
    chairs.check(np.zeros_like(held))
    chairs.show()
    chairs.check(held)
    # Unseen for its time to live, it ends, though another chair is there.
    oracle_node.set(target_ttl=0.3)
    try:
        end = time.monotonic() + 0.4
        probe.until(lambda: time.monotonic() > end, what="the time to live")
        chairs.show(held)
        chairs.check(None)
        assert values(probe.diagnostics()["words"])["target"] == ""
    finally:
        oracle_node.set(target_ttl=30.0)
    chairs.show()
    chairs.check(None)


def test_all_chairs_that_were_chosen_are_held_and_a_new_one_is_not(
    probe: Probe, chairs: Chairs
) -> None:
    _, _, chair = two_chairs()
    chairs.show()
    assert len(probe.ask("chair", set_target=True).instances) == 2
    probe.until(lambda: chairs.mask, what="the mask")
    chairs.check(chair > 0)
    new = np.zeros(np.count_nonzero(chair == 1), np.bool_)
    chairs.show(third=True)
    chairs.check(np.concatenate([chair > 0, new]))
    chairs.show(np.concatenate([chair == 1, new]), third=True)
    chairs.check(np.concatenate([chair == 2, new]))
    chairs.show(np.concatenate([chair == 2, new]), third=True)
    chairs.check(np.concatenate([chair == 1, new]))
