"""`sas replay BAG`: times, clock, loop, topics and reliability as a subscriber sees them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="bags need the library rosbags")

from bags import CLOUD, cloud_bytes, room, rooms_bag, text_bytes, write_bag
from harness import Probe, Process
from rclpy.qos import ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from sas_ros.cli import main
from sas_ros.clouds import read_cloud
from sas_ros.errors import SasError
from sas_ros.nodes.bag_replay import message_class

FIRST = 10**18
STEP = 10**8


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rooms_bag(tmp_path_factory.mktemp("bags") / "rooms", 3)


@pytest.fixture
def probe(graph_env: dict[str, str], domain: int) -> Iterator[Probe]:
    own = Probe(domain, "bags")
    yield own
    own.close()


def replay(bag: Path, env: dict[str, str], *words: str) -> Process:
    return Process("sas_ros.nodes.replay", [str(bag), "--namespace", "bags", *words], env=env)


def stamp_of(message: PointCloud2) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def test_a_bag_is_played_with_its_clock_and_other_topics(
    rooms: Path, probe: Probe, graph_env: dict[str, str]
) -> None:
    process = replay(rooms, graph_env, "--clock", "200", "--rate", "0.5", "--also", "/log")
    texts = probe.listen(String, "/log")
    clock = probe.listen(Clock, "/clock", depth=1000)
    clouds = probe.listen(PointCloud2, "points")
    probe.until(lambda: len(clouds) == 3 and len(texts) == 3, what="the whole bag")
    assert process.wait(30.0) == 0, process.output
    assert [stamp_of(m) for m in clouds] == [FIRST + n * STEP for n in range(3)]
    for number, message in enumerate(clouds):
        np.testing.assert_array_equal(read_cloud(message).points, room(number))
    assert [message.data for message in texts] == [f"cloud {n}" for n in range(3)]
    times: list[int] = []

    def half_a_bag_later() -> bool:
        times[:] = [m.clock.sec * 10**9 + m.clock.nanosec for m in clock]
        return bool(times) and times[-1] >= FIRST + STEP

    probe.until(half_a_bag_later, what="the clock")
    assert times == sorted(times) and times[0] >= FIRST
    assert times[-1] < FIRST + 30 * 10**9


def test_a_loop_begins_again_and_stamps_follow_the_clock(
    rooms: Path, probe: Probe, graph_env: dict[str, str]
) -> None:
    words = ["--loop", "--rate", "4", "--reliability", "best_effort", "--frame-id", "head"]
    process = replay(rooms, graph_env, *words)
    clouds = probe.listen(PointCloud2, "points", reliable=False)
    (info,) = probe.node.get_publishers_info_by_topic("/bags/points")
    assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    probe.until(lambda: len(clouds) >= 7, what="the bag played twice and more")
    stamps = [stamp_of(message) for message in clouds]
    assert stamps == sorted(stamps) and stamps[0] > FIRST + 10**17
    assert {message.header.frame_id for message in clouds} == {"head"}
    assert process.interrupt() == 0, process.output
    assert "Traceback" not in process.output


def test_one_cloud_of_a_chosen_topic(
    tmp_path: Path, probe: Probe, graph_env: dict[str, str]
) -> None:
    messages = [("/a", CLOUD, 5, cloud_bytes(room(0))), ("/b", CLOUD, 6, b"\0\1\0\0nonsense")]
    messages += [("/b", CLOUD, 7, cloud_bytes(room(1))), ("/b", CLOUD, 8, cloud_bytes(room(2)))]
    bag = write_bag(tmp_path / "bag", messages)
    process = replay(bag, graph_env, "--bag-topic", "/b", "--once", "--stamps", "original")
    clouds = probe.listen(PointCloud2, "points")
    assert process.wait(60.0) == 0, process.output
    probe.until(lambda: clouds, what="the cloud")
    assert len(clouds) == 1
    np.testing.assert_array_equal(read_cloud(clouds[0]).points, room(1))
    assert "/b 0 is damaged" in process.output and "1 messages were damaged" in process.output


def test_clouds_and_text_of_one_name(
    tmp_path: Path, probe: Probe, graph_env: dict[str, str]
) -> None:
    messages = [("/p", "std_msgs/msg/String", 4, text_bytes("a line"))]
    messages.append(("/p", CLOUD, 5, cloud_bytes(room(0))))
    bag = write_bag(tmp_path / "bag", messages)
    process = replay(bag, graph_env, "--also", "/p", "--stamps", "original")
    texts = probe.listen(String, "/p")
    clouds = probe.listen(PointCloud2, "points")
    probe.until(lambda: clouds and texts, what="the cloud and the line")
    assert process.wait(60.0) == 0, process.output
    assert [message.data for message in texts] == ["a line"]
    assert "damaged" not in process.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "choose with --bag-topic"),
        (["--bag-topic", "/c"], "no point clouds on '/c'"),
        (["--bag-topic", "/a", "--also", "/odd"], "is not installed"),
        (["--bag-topic", "/a", "--also", "/none"], "no topic /none"),
        (["--bag-topic", "/a", "--clock", "--stamps", "now"], "contradict"),
        (["--rate", "0"], "--rate"),
    ],
)
def test_what_cannot_be_played_is_a_sentence(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    messages = [(name, CLOUD, 5, cloud_bytes(room(0))) for name in ("/a", "/b")]
    bag = write_bag(tmp_path / "bag", [*messages, ("/odd", "sensor_msgs/msg/Temperature", 6, b"")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sensor_msgs.msg", None)  # type: ignore[arg-type]
        assert main(argv=["replay", str(bag), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.splitlines()[-1].startswith("sas replay: ")


def test_bag_options_are_refused_for_scans(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "room.npy", room(0))
    assert main(argv=["replay", str(tmp_path / "room.npy"), "--loop"]) == 2
    assert "for bags" in capsys.readouterr().err


def test_nobody_listens(rooms: Path, graph_env: dict[str, str]) -> None:
    process = replay(rooms, graph_env, "--wait", "0.3")
    assert process.wait(60.0) == 1 and "Nobody subscribed" in process.output


def test_text_is_not_mistaken_for_a_module() -> None:
    assert message_class("std_msgs/msg/String") is String
    for name in ("os/msg/path", "../msg/X", "std_msgs/msg/Nothing", "json", "a.b/msg/C", ""):
        with pytest.raises(SasError, match="not installed"):
            message_class(name)


def test_replaying_needs_no_torch() -> None:
    code = "import sys, sas_ros.nodes.bag_replay; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
