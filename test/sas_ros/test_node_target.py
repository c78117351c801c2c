"""The held target in a frame that does not move, while the sensor does; without ROS."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.nodes.log import ThrottledLog
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.shared import Shared
from sas_ros.nodes.target import Lookup, TargetKeeper, ask, best_of, new_target
from sas_ros.nodes.words import words_for
from sas_ros.observation import Cloud, SceneFeatures, SourceHeader, Up
from sas_ros.query import TextQuery

EMBEDDINGS = np.eye(2, dtype=np.float32)
WORDS = Vocabulary(("floor", "chair"), EMBEDDINGS, (False, True), distinct_colors(2))
SECOND = 10**9
NEAR, FAR = (1.0, 0.0, 0.0), (4.0, 0.0, 0.0)
"""Two chairs in the room."""


class Tf:
    """Where the sensor is along x, by stamp in seconds; None is a stamp that TF does not know."""

    def __init__(self, at: dict[int, float | None]) -> None:
        self.at = at
        self.asked: list[tuple[str, str, int, float]] = []

    def __call__(
        self, target: str, source: str, stamp_ns: int, wait: float
    ) -> npt.NDArray[np.float64] | None:
        self.asked.append((target, source, stamp_ns // SECOND, wait))
        x = self.at.get(stamp_ns // SECOND)
        if x is None:
            return None
        pose = np.eye(4)
        pose[0, 3] = x
        return pose


class Bench:
    """A keeper with everything around it faked but the memory."""

    def __init__(self, lookup: Lookup | None = None, **parameters: object) -> None:
        self.time = 0.0
        self.lines: list[str] = []
        self.parameters = PerceptionParameters.from_values({"min_points": 5, **parameters})
        logger = SimpleNamespace(warning=self.lines.append, error=self.lines.append)
        self.shared = Shared(
            parameters=lambda: self.parameters,
            now=lambda: self.time,
            log=ThrottledLog(logger),
        )
        self.memory = self.shared.memory
        self.memory.words = words_for(WORDS, WORDS, Calibration())
        self.published: dict[str, npt.NDArray[np.bool_]] = {}
        self.keeper = TargetKeeper(Calibration(), self.shared, self, lookup)

    def wanted(self) -> Collection[str]:
        return ("query_mask", "obstacles")

    def subset(self, topic: str, cloud: Cloud, mask: npt.NDArray[np.bool_]) -> None:
        self.published[topic] = mask

    def labelled(self, *_: Any) -> None: ...

    visual = instances = markers = labelled

    def see(
        self, stamp: int, chairs: Sequence[tuple[float, float, float]], *, sensor: float = 0.0,
        frame: str = "lidar",
    ) -> list[bool]:  # fmt: skip
        """Which chairs are held in a cloud of the sensor at x; mask and obstacles are its parts."""
        self.time = float(stamp)
        parts = [_chair(at, stamp) - (sensor, 0, 0) for at in chairs]
        parts.append(np.array([[9.0, 9.0, 0.0]]))
        points = np.concatenate(parts).astype(np.float32)
        kind = np.ones(len(points), np.int64)
        kind[-1] = 0
        header = SourceHeader(stamp * SECOND, frame)
        scene = SceneFeatures(
            torch.from_numpy(EMBEDDINGS[kind]), points, np.arange(len(points), dtype=np.int32),
            header, Up(np.array([0.0, 0, 1])), np.zeros(3), 0.1,
        )  # fmt: skip
        snapshot = self.memory.install(Cloud(points, header=header), scene, self.memory.epoch)
        assert snapshot is not None
        self.published.clear()
        self.keeper.publish(snapshot, self.wanted())
        mask = self.published.get("query_mask")
        if mask is None:
            mask = np.zeros(len(points), np.bool_)
        np.testing.assert_array_equal(self.published["obstacles"], ~mask)
        each = np.split(mask[:-1], len(chairs)) if chairs else []
        assert all(part.all() or not part.any() for part in each) and not mask[-1]
        return [bool(part.all()) for part in each]

    def hold(self, chosen: int = 1) -> None:
        """What a query with set_target does."""
        snapshot, words = self.memory.snapshot, self.memory.words
        assert snapshot is not None and words is not None
        found = ask(
            snapshot, TextQuery("chair"), EMBEDDINGS[1], None,
            words=words, calibration=Calibration(), parameters=self.parameters, with_rivals=True,
        )  # fmt: skip
        query, now = TextQuery("chair", max_instances=chosen), self.time
        target = new_target(snapshot, query, EMBEDDINGS[1], None, found, chosen, now)
        assert self.memory.hold(target, snapshot.epoch)

    def hold_at(self, at: tuple[float, float, float]) -> None:
        """Hold the one chair of a cloud at stamp 0."""
        self.see(0, [at])
        self.hold()


def _chair(at: tuple[float, float, float], seed: int) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.25, 0.25, (400, 3))
    side = rng.integers(0, 3, 400)
    points[np.arange(400), side] = 0.25 * np.where(points[np.arange(400), side] < 0, -1, 1)
    return np.asarray(points + at)


def test_a_sensor_that_drives_past_is_no_reason_to_take_another_chair() -> None:
    tf = Tf({0: 0.0, 1: 3.0, 2: 0.5})
    bench = Bench(tf, inference_frame="odom")
    bench.hold_at(NEAR)
    # Seen from there, the far chair stands where the near one stood.
    assert bench.see(1, [FAR], sensor=3.0) == [False]
    assert bench.see(2, [FAR, NEAR], sensor=0.5) == [False, True]
    assert {(to, source) for to, source, *_ in tf.asked} == {("odom", "lidar")}
    assert [stamp for _, _, stamp, _ in tf.asked] == [0, 1, 2]


def test_without_a_fixed_frame_it_is_followed_in_that_of_the_clouds() -> None:
    tf = Tf({})
    bench = Bench(tf)
    bench.hold_at(NEAR)
    assert bench.see(1, [NEAR, FAR], sensor=0.3) == [True, False]
    assert bench.see(2, [FAR, NEAR], sensor=0.6) == [False, True]
    assert tf.asked == []


def test_a_map_that_is_built_gives_the_fixed_frame() -> None:
    tf = Tf({0: 0.0, 1: 2.0})
    bench = Bench(tf, inference_frame="base_link", map="build", map_frame="map")
    bench.hold_at(NEAR)
    assert bench.see(1, [NEAR], sensor=2.0) == [True]
    assert {to for to, *_ in tf.asked} == {"map"}
    bench = Bench(tf, map="read", map_frame="map", map_file="a.map.safetensors")
    bench.hold_at(NEAR)
    assert bench.see(1, [NEAR], sensor=0.1) == [True]
    assert bench.memory.target is not None
    assert bench.memory.target.placed == SourceHeader(SECOND, "lidar")


def test_what_tf_does_not_know_takes_nothing_out_of_the_obstacles() -> None:
    bench = Bench(Tf({0: 0.0, 1: 0.0, 2: None, 3: 5.0}), inference_frame="odom")
    bench.hold_at(NEAR)
    assert bench.see(1, [NEAR]) == [True]
    assert bench.see(2, [NEAR]) == [False]
    assert any("'lidar' to 'odom'" in line for line in bench.lines)
    assert bench.see(3, [NEAR], sensor=5.0) == [True]


def test_a_target_goes_to_the_fixed_frame_as_soon_as_tf_knows_it() -> None:
    tf = Tf({2: 0.4, 3: 5.0})
    bench = Bench(tf, inference_frame="odom", tf_timeout=0.1)
    bench.hold_at(NEAR)
    assert bench.see(1, [NEAR], sensor=0.2) == [True]
    assert bench.see(2, [NEAR], sensor=0.4) == [True]
    assert bench.see(3, [NEAR], sensor=5.0) == [True]
    assert sum("as if that did not move" in line for line in bench.lines) == 1
    # Only what is asked about for the first time is waited for.
    assert [wait for *_, stamp, wait in tf.asked if stamp < 2] == [0.1, 0.0]


def test_no_tf_at_all_is_the_frame_of_the_clouds() -> None:
    def none(*_: object) -> None:
        raise SasError("tf2_ros is not installed, so TF cannot be asked.")

    bench = Bench(none, inference_frame="odom")
    bench.hold_at(NEAR)
    assert bench.see(1, [NEAR, FAR]) == [True, False]
    bench = Bench(None, inference_frame="odom")
    bench.hold_at(NEAR)
    assert bench.see(1, [NEAR, FAR]) == [True, False]


def test_another_sensor_needs_tf() -> None:
    bench = Bench(Tf({2: 1.0}))
    bench.hold_at(NEAR)
    assert bench.see(1, [NEAR], frame="camera") == [False]
    assert bench.see(2, [NEAR], sensor=1.0, frame="camera") == [True]
    assert bench.see(3, [NEAR]) == [True]


def test_one_of_two_that_stays_away_is_let_go_alone() -> None:
    bench = Bench(target_ttl=5.0)
    bench.see(0, [NEAR, FAR])
    bench.hold(chosen=2)
    for stamp in range(1, 7):
        assert bench.see(stamp, [FAR]) == [True]
    assert bench.see(7, [NEAR, FAR]) == [False, True]
    for stamp in range(8, 14):
        assert not any(bench.see(stamp, [NEAR]))
    assert bench.memory.target is None and "let go" in bench.lines[-1]


def test_what_a_cloud_did_to_an_older_target_does_not_touch_the_one_that_is_held() -> None:
    bench = Bench()
    bench.hold_at(NEAR)
    old = bench.memory.target
    bench.hold()
    new = bench.memory.target
    assert old is not None and new is not None and old.number != new.number
    bench.memory.followed(old)
    assert bench.memory.target is new
    bench.memory.release()
    bench.memory.followed(new)
    assert bench.memory.target is None


def test_an_answer_is_the_best_of_all_that_are_told_apart() -> None:
    bench = Bench()
    bench.see(0, [NEAR, FAR, (7.0, 0.0, 0.0)])
    snapshot, words = bench.memory.snapshot, bench.memory.words
    assert snapshot is not None and words is not None
    query = TextQuery("chair", max_instances=2)

    def asked(with_rivals: bool) -> Any:
        return ask(
            snapshot, query, EMBEDDINGS[1], None, words=words, calibration=Calibration(),
            parameters=bench.parameters, with_rivals=with_rivals,
        )  # fmt: skip

    plain, everything = asked(False), asked(True)
    assert (len(plain.instances), len(everything.instances)) == (2, 3)
    best = best_of(everything, 2)
    assert best.best_score == plain.best_score
    for one, other in zip(best.instances, plain.instances, strict=True):
        np.testing.assert_array_equal(one.point_indices, other.point_indices)
