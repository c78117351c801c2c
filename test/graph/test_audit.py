"""Two sentences of docs/security.md: file names in messages are never opened, and nothing is asked
of the network. Seen with Python's audit events, in a process of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from harness import Probe, Process
from rooms import NAMES, coded_cloud
from sas_msgs.srv import Query
from sensor_msgs.msg import PointCloud2

from sas_ros.language.available import MINILM, encoder_available
from sas_ros.observation import Cloud, SourceHeader

HAS_ENCODER = encoder_available(MINILM) is None
MARK = "never-opened"
NETWORK = ("connect", "bind", "sendto", "sendmsg", "getaddrinfo", "gethostby", "getnameinfo")


@pytest.fixture
def bait(tmp_path: Path) -> list[str]:
    """Paths of files that exist, of kinds that the node reads when a parameter names them."""
    folder = tmp_path / MARK
    folder.mkdir()
    names = ("student.safetensors", "words.txt", "cloud.npy", "map.map.safetensors")
    for name in names:
        (folder / name).write_text("a file that nobody may read")
    paths = [str(folder / name) for name in names]
    return [*paths, f"file://{paths[1]}", f"{folder}/../{MARK}/words.txt"]


@pytest.fixture
def audited(
    graph_env: dict[str, str], student: Path, tmp_path: Path
) -> Iterator[tuple[Process, Path]]:
    log = tmp_path / "audit.log"
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**graph_env, "SAS_AUDIT": str(log), "PYTHONPATH": path}
    words = ["--ros-args", "-r", "__ns:=/audited", "-p", f"student:={student}"]
    words += ["-p", "up:=0,0,1", "-p", "map:=build", "-p", "map_frame:=lidar"]
    process = Process("audited_node", words, env=env)
    yield process, log
    if process.running:
        process.interrupt(10.0)


def of_network(lines: list[str]) -> list[str]:
    return [x for x in lines if x.startswith(tuple(f"socket.{name}" for name in NETWORK))]


def test_names_in_messages_are_not_opened_and_the_network_is_not_asked(
    audited: tuple[Process, Path], domain: int, bait: list[str]
) -> None:
    process, log = audited
    probe = Probe(domain, "audited")
    try:
        probe.until(lambda: probe.state() == "active", what="the node")
        labelled = probe.listen(PointCloud2, "labeled_points")
        frames = ["/etc/passwd", "../../etc/passwd", bait[0], bait[2], "lidar"]
        for number, frame in enumerate(frames):
            sent = coded_cloud(number, stamp_ns=time.time_ns())
            header = SourceHeader(sent.header.stamp_ns, frame)
            probe.process(Cloud(sent.points, header=header))
        probe.until(lambda: len(labelled) == len(frames), what="the labelled clouds")
        assert [message.header.frame_id for message in labelled] == frames
        for text in (*bait, "/etc/passwd", "some where to sit", "http://127.0.0.1/chair"):
            answer = probe.ask(text, return_cloud=True)
            refused = Query.Response.INVALID
            assert (answer.status != refused) == HAS_ENCODER, (text, answer.message)
        for place in bait:
            asked = probe.ask("chair", negatives=[place], target_frame=place)
            assert asked.status == Query.Response.INVALID
            assert probe.ask("chair", source=1, target_frame=place).message
        answer = probe.set_labels([*bait, *NAMES])
        assert answer.success == HAS_ENCODER, answer.message
        last = coded_cloud(7, stamp_ns=time.time_ns())
        probe.process(replace(last, header=SourceHeader(last.header.stamp_ns, bait[3])))
    finally:
        probe.close()
    assert process.interrupt(20.0) == 0, process.output
    lines = log.read_text(errors="replace").splitlines()
    begun = lines.index("BEGIN")
    proof, lines = lines[:begun], lines[begun + 1 :]
    assert [x for x in proof if x.startswith("open") and str(log) in x], "files are seen"
    assert {x.split()[0] for x in of_network(proof)} == {"socket.connect", "socket.getaddrinfo"}
    assert len([x for x in lines if x.startswith("open")]) > 100, "the node itself was watched"
    assert not [x for x in lines if MARK in x or "passwd" in x]
    assert not of_network(lines)
