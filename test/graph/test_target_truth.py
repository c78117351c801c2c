"""The held target against ground truth, point by point, while other clients ask other things.

The student is an oracle, so that whatever is wrong in the outputs is the node's doing.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from harness import Probe, query
from inprocess import Running
from rooms import CHAIR, NAMES, THINGS, coded_cloud, coded_labels, coded_points, number_in_stamp
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
OTHERS = ("table", "sofa", "door", "wall", "floor", "chair")
"""What the others ask; one of them for the very thing that is held."""


class Oracle:
    """Stands in for `Segmenter`: knows the class of every point of a coded cloud.

    An element is what one class has in one voxel.
    """

    def __init__(self, bundle: StudentBundle, **_: Any) -> None:
        self.bundle = bundle
        self.device = torch.device("cpu")
        self.engine = SimpleNamespace(description="an oracle.")

    def warm_up(self) -> None:
        """Nothing to load."""

    def segment(self, cloud: Cloud, up: Up) -> SceneFeatures:
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
    np.testing.assert_array_equal(rows(message), coded_points(number)[kept])


def check_mask(message: Any) -> None:
    """Every point of the target, in its order, and no other."""
    number = number_of(message)
    target = coded_labels(number) == CHAIR
    np.testing.assert_array_equal(rows(message), coded_points(number)[target])


def test_the_target_and_nothing_else_is_cut_out_whatever_others_ask(
    oracle_node: Running, probe: Probe
) -> None:
    mask = probe.listen(PointCloud2, "query_mask")
    obstacles = probe.listen(PointCloud2, "obstacles")
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
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
        probe.send(coded_cloud(number, stamp_ns=time.time_ns()))
        probe.until(lambda: arrived(number), what=f"cloud {number}")  # noqa: B023
    assert len(obstacles) == ROUNDS + 2 and len(mask) == ROUNDS + 1
    # Faster than the node: some are dropped, none is mixed up with another.
    last = ROUNDS + BURST
    for number in range(ROUNDS + 1, last + 1):
        probe.send(coded_cloud(number, stamp_ns=time.time_ns()))
    probe.until(lambda: arrived(last), what="the last of the burst")
    for message in obstacles[1:]:
        check_obstacles(message, held=True)
    for message in mask:
        check_mask(message)
    assert [m.header for m in mask] == [m.header for m in obstacles[1:]]
    probe.until(lambda: crowd.look() or len(crowd.answered) == len(OTHERS), what="all answers")
    assert probe.ask("", set_target=True).status == Query.Response.OK
    seen = len(obstacles)
    probe.send(coded_cloud(last + 1, stamp_ns=time.time_ns()))
    probe.until(lambda: number_of(obstacles[-1]) == last + 1, what="the whole cloud")
    for message in obstacles[seen:]:
        check_obstacles(message, held=False)
    assert crowd.answered.total() > CLIENTS
