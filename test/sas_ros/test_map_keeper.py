"""The node's map without a graph: its thread, what it leaves out and why, what queries see."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from sas_ros.errors import SasError
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.mapping import MapIdentity, load_map
from sas_ros.mapping.columns import empty_columns, pack
from sas_ros.mapping.voxel_map import empty_state
from sas_ros.nodes import map_keeper
from sas_ros.nodes.diagnostics import Level
from sas_ros.nodes.log import ThrottledLog
from sas_ros.nodes.map_keeper import MapKeeper
from sas_ros.nodes.map_report import map_status
from sas_ros.nodes.map_setup import warn_where_it_cannot_be_saved
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.shared import Shared
from sas_ros.nodes.snapshot import Snapshot
from sas_ros.nodes.words import words_for
from sas_ros.observation import Cloud, Float64Array, SceneFeatures, SourceHeader, Up

EMBEDDINGS = np.eye(3, dtype=np.float32)
WORDS = Vocabulary(("floor", "chair", "table"), EMBEDDINGS, (False, True, True), distinct_colors(3))
IDENTITY = MapIdentity("tiny", "ab" * 32, 3, 0.1, "map")
UP = (0.0, 0.0, 1.0)


class Bench:
    """A keeper with its thread; `lookup` is TF."""

    def __init__(self, lookup: Callable[..., Any] | None = None, **options: Any) -> None:
        self.lines: list[str] = []
        logger = SimpleNamespace(error=self.lines.append, warning=self.lines.append)
        values: dict[str, Any] = {"map": "build", "tf_timeout": 0.0}
        if "limit" in options:
            values["map_max_voxels"] = options.pop("limit")
        parameters = PerceptionParameters.from_values(values)
        self.shared = Shared(
            parameters=lambda: parameters, now=lambda: 10.0, log=ThrottledLog(logger)
        )
        self.memory = self.shared.memory
        self.memory.words = words_for(WORDS, WORDS, Calibration())
        options = {"start": empty_state(IDENTITY), "building": True, **options}
        self.keeper = MapKeeper(
            options.pop("start"), self.shared, Calibration(), lookup or no_tf, **options
        )
        self.keeper.start()

    def until(self, done: Callable[[], Any], what: str = "it") -> Any:
        end = time.monotonic() + 30.0
        while not (value := done()):
            assert time.monotonic() < end, f"waited in vain for {what}"
            self.keeper.tick()
            threading.Event().wait(0.005)
        return value

    def see(self, snapshot: Snapshot) -> None:
        """Offer a snapshot and wait until it is on the map, or was left out."""
        before = self.handled()
        self.keeper.offer(snapshot)
        self.until(lambda: self.handled() > before, "the cloud")

    def handled(self) -> int:
        report = self.keeper.report()
        return report.clouds + sum(report.skipped.values())


def no_tf(target: str, source: str, stamp_ns: int, timeout: float) -> Float64Array | None:
    raise SasError("tf2_ros is not installed, so TF cannot be asked.")


def snapshot(
    x: float = 0.0, *, stamp: int = 1, frame: str = "map", up: Any = UP, epoch: int = 0
) -> Snapshot:
    """Thirty points of a chair in three voxels near x."""
    points = np.full((30, 3), 0.05, np.float32)
    points[:, 0] += x + 0.1 * (np.arange(30) % 3)
    header = SourceHeader(stamp, frame)
    scene = SceneFeatures(
        torch.from_numpy(EMBEDDINGS[[1, 1, 1]]), points[:3], (np.arange(30) % 3).astype(np.int32),
        header, Up(np.array(up), "parameter"), np.zeros(3), 0.1,
    )  # fmt: skip
    return Snapshot(Cloud(points, header=header), scene, 1, epoch)


@pytest.fixture(autouse=True)
def quick_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_keeper, "VIEW_SECONDS", 0.05)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.keeper.stop()


def test_clouds_in_the_maps_frame_need_no_tf_and_are_shown(bench: Bench) -> None:
    assert len(bench.keeper.view.state) == 0
    assert "no cloud was taken in yet" in bench.keeper.why_empty
    bench.see(snapshot(stamp=3))
    view = bench.until(lambda: len(bench.keeper.view.state) and bench.keeper.view, "a view")
    assert view.cloud.header == SourceHeader(3, "map") and len(view.state) == 3
    bench.see(snapshot(5.0, stamp=4))
    newer = bench.until(
        lambda: len(bench.keeper.view.state) == 6 and bench.keeper.view, "a newer view"
    )
    assert newer.state.version > view.state.version and len(view.state) == 3
    status = map_status(bench.keeper.report())
    assert status.level == Level.OK and status.message == "6 voxels of 2 clouds in 'map'."
    assert float(status.values["memory_mb"]) >= 0 and status.values["skipped_busy"] == "0"
    assert "map_ms_p50" in bench.shared.latencies.values()


def test_views_are_compared_with_the_words_before_anybody_asks(bench: Bench) -> None:
    bench.see(snapshot())
    view = bench.until(lambda: len(bench.keeper.view.state) and bench.keeper.view, "a view")

    def kept(words: Any) -> bool:
        found = view.scene.kept._things.get("word scores")
        return found is not None and found[0][0] is words.competing

    first = bench.memory.words
    bench.until(lambda: kept(first), "the words")
    other = words_for(WORDS.with_labels(("chair",), EMBEDDINGS[1:2]), WORDS, Calibration())
    bench.memory.words = other
    bench.until(lambda: kept(other), "the new words")


def test_without_tf_a_cloud_elsewhere_is_left_out_with_a_sentence(bench: Bench) -> None:
    bench.see(snapshot(frame="lidar"))
    report = bench.keeper.report()
    assert (report.clouds, report.skipped) == (0, {"pose": 1})
    for text in (bench.keeper.why_empty, map_status(report).message, bench.lines[0]):
        assert "'lidar'" in text and "'map'" in text and "tf2_ros is not installed" in text
    assert map_status(report).level == Level.WARN
    bench.see(snapshot())
    assert map_status(bench.keeper.report()).level == Level.OK


def test_poses_come_from_tf_at_the_stamp() -> None:
    asked: list[tuple[str, str, int, float]] = []
    turn = np.array([[0.0, 0, 1, 4], [-1, 0, 0, 5], [0, -1, 0, 6], [0, 0, 0, 1]])  # optical

    def lookup(*question: Any) -> Float64Array | None:
        asked.append(question)
        return turn if question[2] != 8 else None

    bench = Bench(lookup)
    try:
        bench.see(snapshot(stamp=7, frame="camera_optical", up=(0, -1, 0)))
        assert asked == [("map", "camera_optical", 7, 0.0)]
        view = bench.until(lambda: len(bench.keeper.view.state) and bench.keeper.view, "a view")
        np.testing.assert_allclose(view.cloud.points.min(axis=0), [4.05, 4.75, 5.95], atol=1e-3)
        np.testing.assert_allclose(view.state.viewpoint, turn)
        bench.see(snapshot(stamp=8, frame="camera_optical", up=(0, -1, 0)))
        report = bench.keeper.report()
        assert report.skipped == {"pose": 1} and "no transform at its stamp" in report.trouble
        # A wrong pose or up would build a map on its side.
        bench.see(snapshot(stamp=9, frame="camera_optical", up=(0, 0, 1)))
        report = bench.keeper.report()
        assert report.skipped == {"pose": 1, "up": 1}
        assert "leans 90 degrees" in report.trouble and "map_frame" in report.trouble
    finally:
        bench.keeper.stop()


def held_up() -> tuple[Callable[..., Float64Array], threading.Event, threading.Event]:
    """A pose that waits; an event that it is asked for, and one that lets it go on."""
    busy, go_on = threading.Event(), threading.Event()

    def slow(*_: Any) -> Float64Array:
        busy.set()
        assert go_on.wait(30.0)
        return np.eye(4)

    return slow, busy, go_on


def test_the_newest_cloud_wins_and_nobody_waits() -> None:
    slow, busy, go_on = held_up()
    bench = Bench(slow)
    try:
        bench.keeper.offer(snapshot(frame="lidar"))
        assert busy.wait(30.0)
        for number in range(4):  # all but the last are replaced
            bench.keeper.offer(snapshot(float(number), stamp=number))
        assert bench.keeper.report().skipped == {"busy": 3}
        assert len(bench.keeper.view.state) == 0  # can be read meanwhile
        go_on.set()
        bench.until(lambda: bench.keeper.report().clouds == 2, "both clouds")
    finally:
        go_on.set()
        bench.keeper.stop()


def test_a_defect_costs_a_cloud_and_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = snapshot()
    wrong = SceneFeatures(
        broken.scene.features, broken.scene.positions, broken.scene.element_of_point[:5],
        broken.scene.header, broken.scene.up, np.zeros(3), 0.1,
    )  # fmt: skip
    bench.see(Snapshot(broken.cloud, wrong, 1, 0))
    report = bench.keeper.report()
    assert report.skipped == {"error": 1} and "SasError" in report.trouble
    assert any("Traceback" in line for line in bench.lines)
    bench.see(snapshot())
    assert bench.keeper.report().clouds == 1


def test_a_reset_is_seen_at_once_and_lasts(bench: Bench) -> None:
    bench.see(snapshot())
    bench.until(lambda: len(bench.keeper.view.state), "a view")
    version = bench.keeper.report().version
    assert bench.keeper.reset() == 3
    assert len(bench.keeper.view.state) == 0
    assert bench.keeper.view.state.version > version
    bench.see(snapshot(2.0))
    bench.until(lambda: len(bench.keeper.view.state) == 3, "the new map")
    assert bench.keeper.view.cloud.points[:, 0].min() > 1.9


def test_after_a_jump_back_the_map_stays_and_time_goes_on_from_there(bench: Bench) -> None:
    bench.see(snapshot(stamp=100))
    bench.see(snapshot(3.0, stamp=5, epoch=1))
    bench.until(lambda: len(bench.keeper.view.state) == 6, "both places")
    assert bench.keeper.view.cloud.header.stamp_ns == 5
    assert bench.keeper.view.state.columns.last_seen.max() == 5


def test_an_old_bag_played_into_todays_map_leaves_its_times(tmp_path: Path) -> None:
    path = tmp_path / "flat.map.safetensors"
    today = Bench(path=path)
    today.see(snapshot(stamp=100))
    today.keeper.save()
    today.keeper.stop()
    bag = Bench(start=load_map(path, IDENTITY), path=path)
    try:
        bag.see(snapshot(stamp=5))
        bag.see(snapshot(3.0, stamp=6))
        view = bag.until(lambda: len(bag.keeper.view.state) == 6 and bag.keeper.view, "a view")
        assert view.cloud.header.stamp_ns == 6
        assert sorted(view.state.columns.last_seen.tolist()) == [6] * 3 + [100] * 3
        bag.keeper.save()
    finally:
        bag.keeper.stop()
    saved = load_map(path, IDENTITY)
    assert sorted(saved.columns.last_seen.tolist()) == [6] * 3 + [100] * 3
    assert saved.stamp_ns == 100


@pytest.mark.parametrize("stamp", [0, -5])
def test_a_cloud_without_a_time_is_left_out_and_ages_nothing(
    bench: Bench, tmp_path: Path, stamp: int
) -> None:
    bench.see(snapshot(stamp=100))
    bench.see(snapshot(3.0, stamp=stamp, epoch=1))  # time seems to have gone back
    report = bench.keeper.report()
    assert report.skipped == {"stamp": 1} and "stamp" in report.trouble
    assert map_status(report).values["skipped_stamp"] == "1"
    bench.see(snapshot(6.0, stamp=101, epoch=2))
    bench.keeper._path = tmp_path / "a.map.safetensors"
    bench.keeper.save()
    assert load_map(bench.keeper._path).columns.last_seen.tolist() == [100] * 3 + [101] * 3


def test_a_map_that_would_be_cut_is_refused_but_may_be_read() -> None:
    empty = empty_columns(1001, IDENTITY.feature_dim)
    cells = np.zeros((1001, 3), np.int64)
    cells[:, 0] = np.arange(1001)
    start = replace(
        empty_state(IDENTITY), columns=replace(empty, keys=pack(cells), counts=empty.counts + 1)
    )
    with pytest.raises(SasError, match="Set map_max_voxels to 1001 or more"):
        Bench(start=start, limit=1000)
    reader = Bench(start=start, limit=1000, building=False)
    assert len(reader.keeper.view.state) == 1001
    reader.keeper.stop()


def test_what_waits_for_the_map_is_not_in_the_devices_memory() -> None:
    slow, busy, go_on = held_up()
    bench = Bench(slow)
    try:
        seen = snapshot(frame="lidar")
        features = OnDevice(seen.scene.features)
        bench.keeper.offer(replace(seen, scene=replace(seen.scene, features=cast(Any, features))))
        assert features.copies == 1
        assert busy.wait(30.0)
        go_on.set()
        bench.until(lambda: bench.keeper.report().clouds == 1, "the cloud")
    finally:
        go_on.set()
        bench.keeper.stop()


class OnDevice:
    """Features on a GPU, as far as the keeper looks at them."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows, self.copies, self.device = rows, 0, torch.device("cuda")

    def detach(self) -> OnDevice:
        return self

    def cpu(self) -> torch.Tensor:
        self.copies += 1
        return self.rows


def test_saved_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "flat.map.safetensors"
    bench = Bench(path=path)
    bench.see(snapshot(stamp=6))
    assert bench.keeper.save() == f"3 voxels of 1 clouds were written to {path}."
    bench.keeper.stop()
    reader = Bench(start=load_map(path, IDENTITY), building=False, path=path)
    try:
        assert len(reader.keeper.view.state) == 3
        reader.keeper.offer(snapshot(9.0))
        assert reader.keeper.report().clouds == 1 and not reader.keeper.report().skipped
        for refused in (reader.keeper.save, reader.keeper.reset):
            with pytest.raises(SasError, match="only read"):
                refused()
        assert map_status(reader.keeper.report()).values["map"] == "read"
    finally:
        reader.keeper.stop()
    nowhere = Bench(path=Path("/proc/none/a.map.safetensors"))
    with pytest.raises(SasError, match="could not be written"):
        nowhere.keeper.save()
    nowhere.keeper.stop()
    unnamed = Bench()
    with pytest.raises(SasError, match="map_file"):
        unnamed.keeper.save()
    unnamed.keeper.stop()


def test_a_folder_that_takes_no_map_is_told_at_once(bench: Bench, tmp_path: Path) -> None:
    warn_where_it_cannot_be_saved(tmp_path / "a.map.safetensors", bench.shared)
    assert not bench.lines
    warn_where_it_cannot_be_saved(tmp_path / "none" / "a.map.safetensors", bench.shared)
    assert str(tmp_path / "none") in bench.lines[0] and "map_file" in bench.lines[0]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"map": "read"}, "map_file"),
        ({"map": "build", "map_frame": " "}, "map_frame"),
        ({"map": "on"}, "none, build, read"),
        ({"map_max_voxels": 5}, "map_max_voxels"),
        ({"map_voxel_size": -1.0}, "map_voxel_size"),
    ],
)
def test_parameters_that_make_no_map_are_sentences(values: dict[str, Any], word: str) -> None:
    with pytest.raises(SasError, match=word):
        PerceptionParameters.from_values(values)
