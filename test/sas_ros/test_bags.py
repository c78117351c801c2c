"""Reading bags, and `sas label`: labelled bags or PLYs, a report, gates, going on, bad messages."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from students import NAMES, untrained_student

pytest.importorskip("rosbags", reason="bags need the library rosbags")

from bags import CLOUD, cloud_bytes, room, rooms_bag, text_bytes, write_bag

from sas_ros.bags import Bag, MessageTypes
from sas_ros.bags.gates import Gates, judge, parse_expectation
from sas_ros.bags.job import LabelJob, check_definition, copied_topics
from sas_ros.bags.labelling import BagLabeller, confidence_histogram
from sas_ros.bags.messages import LABEL_INFO_DEFINITION
from sas_ros.bags.output import ply_names
from sas_ros.bags.reading import Topic
from sas_ros.bags.report import BagReport
from sas_ros.cli import main
from sas_ros.clouds import read_cloud
from sas_ros.errors import SasError
from sas_ros.scans import read_scan

ROOT = Path(__file__).resolve().parents[2]
TYPES = MessageTypes()


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("student") / "tiny.safetensors"
    untrained_student().save(path)
    return path


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rooms_bag(tmp_path_factory.mktemp("bags") / "rooms", 4)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, rooms: Path) -> dict[str, bytes]:
    """The data files of a bag in both storages, by suffix."""
    other = rooms_bag(tmp_path_factory.mktemp("bags") / "rooms", 2, storage="sqlite3")
    paths = [rooms / "rooms.mcap", other / "rooms.db3"]
    return {path.suffix: path.read_bytes() for path in paths}


def label(bag: Path, output: Path, student: Path, *words: str) -> int:
    arguments = ["label", str(bag), "-o", str(output), "--student", str(student), "--up", "0,0,1"]
    return main(argv=[*arguments, *words])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def report_of(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return result


# ------------------------------------------------------------------------------------ reading
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("as_file", [False, True], ids=["folder", "file"])
def test_a_bag_gives_its_messages_in_order(tmp_path: Path, storage: str, as_file: bool) -> None:
    folder = rooms_bag(tmp_path / "bag", 3, storage=storage)
    path = next(folder.glob("bag.*")) if as_file else folder
    with Bag(path) as bag:
        assert bag.storage == storage and bag.start_ns == 10**18
        names = [(t.name, t.message_type, t.messages) for t in bag.topics]
        assert names == [("/log", "std_msgs/msg/String", 3), ("/points", CLOUD, 3)]
        found = list(bag.messages(bag.cloud_topics()))
    assert [(m.topic, m.number, m.time_ns) for m in found] == [
        ("/points", n, 10**18 + n * 10**8) for n in range(3)
    ]
    for number, message in enumerate(found):
        cloud = read_cloud(TYPES.read_cloud_message(message.data))
        np.testing.assert_array_equal(cloud.points, room(number))
        assert cloud.header.stamp_ns == message.time_ns and cloud.header.frame_id == "lidar"


def test_the_embedded_definition_is_that_of_the_file() -> None:
    lines = (ROOT / "msg" / "msg" / "LabelInfo.msg").read_text().splitlines()
    declared = [" ".join(line.split("#")[0].split()) for line in lines]
    assert [line for line in declared if line] == LABEL_INFO_DEFINITION.split("\n")[:-1]


def test_topics_are_chosen_by_name(tmp_path: Path) -> None:
    clouds = [(name, CLOUD, 5, cloud_bytes(room())) for name in ("/b", "/a")]
    folder = write_bag(
        tmp_path / "bag", [*clouds, ("/t", "std_msgs/msg/String", 5, text_bytes(""))]
    )
    with Bag(folder) as bag:
        assert [t.name for t in bag.cloud_topics()] == ["/a", "/b"]
        assert [t.name for t in bag.cloud_topics(["/b", "/b"])] == ["/b"]
        for wrong in ("/t", "/nowhere"):
            with pytest.raises(SasError, match=rf"no point clouds on '{wrong}'.*/a .*/t "):
                bag.cloud_topics([wrong])


def test_two_publishers_of_one_topic_are_one_topic(tmp_path: Path) -> None:
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability
    from rosbags.interfaces import QosTime as Time
    from rosbags.rosbag2 import StoragePlugin, Writer

    latched = Qos(
        QosHistory.KEEP_LAST,
        1,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL,
        Time(0, 0),
        Time(0, 0),
        QosLiveliness.AUTOMATIC,
        Time(0, 0),
        False,
    )
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for number, qos in enumerate(([], [latched])):
            connection = writer.add_connection(
                "/p", CLOUD, typestore=TYPES.store, offered_qos_profiles=qos
            )
            for turn in range(2):
                writer.write(connection, 10 * turn + number, cloud_bytes(room(number)[:5]))
    with Bag(tmp_path / "bag") as bag:
        (topic,) = bag.cloud_topics()
        assert topic.messages == 4
        found = [(m.time_ns, m.number) for m in bag.messages([topic])]
    assert found == [(0, 0), (1, 1), (10, 2), (11, 3)]


def test_other_definitions_are_noticed(tmp_path: Path) -> None:
    good = TYPES.hash_of(CLOUD)
    check_definition([Topic("/a", CLOUD, 1), Topic("/b", CLOUD, 1, good)], TYPES)
    with pytest.raises(SasError, match=r"/c .*another definition"):
        check_definition([Topic("/c", CLOUD, 1, "RIHS01_00")], TYPES)
    topics = (
        Topic("/log", "std_msgs/msg/String", 1),
        Topic("/mine", "my_msgs/msg/Thing", 1),
        Topic("/odd", "std_msgs/msg/String", 1, "RIHS01_00"),
    )
    chosen, told = copied_topics(SimpleNamespace(topics=topics), (), TYPES)  # type: ignore[arg-type]
    assert [topic.name for topic in chosen] == ["/log"]
    assert "my_msgs/msg/Thing is not known" in told[0] and "another definition" in told[1]


def test_bags_know_no_nodes() -> None:
    for path in (ROOT / "sas_ros" / "bags").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            assert not any(name.startswith("sas_ros.nodes") for name in names), path


@pytest.mark.parametrize("name", ["../../etc/x", "/a/b", "/a_b", "", "/..//", "/ü", "/a/b\n"])
def test_topic_names_cannot_leave_the_folder(name: str) -> None:
    names = ply_names([Topic("/a/b", CLOUD, 1), Topic("/a_b", CLOUD, 1), Topic(name, CLOUD, 1)])
    assert len(set(names.values())) == len(names)
    for value in names.values():
        assert value and all(c.isascii() and (c.isalnum() or c == "_") for c in value)


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (None, "gone.mcap", "There is no bag"),
        (b"", "empty.mcap", "cannot be opened"),
        (b"nonsense" * 40, "noise.mcap", "cannot be opened"),
        (b"nonsense" * 40, "noise.db3", "cannot be opened"),
        (b"x", "scan.ply", "is no bag"),
        ("a: [", "metadata.yaml", "cannot be opened"),
        ("rosbag2_bagfile_information: {version: 99}", "metadata.yaml", "cannot be opened"),
        ("- 1", "metadata.yaml", "cannot be opened"),
    ],
)
def test_what_is_no_bag_is_refused_in_a_sentence(
    tmp_path: Path, content: bytes | str | None, name: str, words: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SasError, match=words) as caught:
        Bag(tmp_path if name == "metadata.yaml" else path)
    assert "\n" not in str(caught.value)


def test_files_of_a_bag_are_looked_for_in_its_folder_only(tmp_path: Path) -> None:
    rooms_bag(tmp_path / "other", 1)
    bag = rooms_bag(tmp_path / "bag", 1)
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("bag.mcap", "../other/other.mcap"))
    with pytest.raises(SasError, match="cannot be opened"):
        Bag(bag)


@given(cut=st.integers(0, 3000), place=st.integers(0, 3000), value=st.integers(0, 255))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_messages_are_a_sentence_or_a_cloud(cut: int, place: int, value: int) -> None:
    data = bytearray(cloud_bytes(room()[:200]))
    data[min(place, len(data) - 1)] = value
    try:
        cloud = read_cloud(TYPES.read_cloud_message(bytes(data[: len(data) - cut % len(data)])))
    except SasError as error:
        assert "\n" not in str(error)
    else:
        assert cloud.points.shape == (cloud.height * cloud.width, 3)


@given(
    suffix=st.sampled_from([".mcap", ".db3"]),
    place=st.integers(0, 10**6) | st.integers(0, 600) | st.integers(-1500, -1),
    value=st.integers(0, 255),
    cut=st.integers(0, 3000),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_files_are_refused_or_end_with_a_sentence(
    files: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    place: int,
    value: int,
    cut: int,
) -> None:
    data = bytearray(files[suffix])
    data[place % len(data)] = value
    path = tmp_path_factory.mktemp("damaged") / f"x{suffix}"
    path.write_bytes(data[: len(data) - cut] if cut % 2 else data)
    try:
        with Bag(path) as bag:
            for message in bag.messages(bag.cloud_topics()):
                assert message.topic
    except SasError as error:
        assert "\n" not in str(error)


# ------------------------------------------------------------------------------------ labelling
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_labelled_bag_holds_every_point_and_says_what_labels_mean(
    tmp_path: Path, student: Path, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from rosbags.rosbag2 import Reader

    bag, output = rooms_bag(tmp_path / "bag", 3, storage=storage), tmp_path / "out"
    assert label(bag, output, student, "--copy", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    report = report_of(output)
    assert printed == report
    assert report["totals"]["labelled"] == 3 and report["totals"]["finite_points"] == 12_000
    assert sum(report["confidence_histogram"]) == 12_000
    assert sorted(p.name for p in output.iterdir()) == ["labelled", "report.json", "report.md"]
    with Reader(output / "labelled") as reader:
        by_topic: dict[str, list[tuple[int, bytes]]] = {}
        for connection, time_ns, data in reader.messages():
            by_topic.setdefault(connection.topic, []).append((time_ns, data))
        (info,) = by_topic["/sas/label_info"]
        words = TYPES.store.deserialize_cdr(info[1], "sas_msgs/msg/LabelInfo")
        (latched,) = [c for c in reader.connections if c.topic == "/sas/label_info"]
        assert latched.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"
    assert tuple(words.names) == NAMES
    assert [data for _, data in by_topic["/log"]] == [text_bytes(f"cloud {n}") for n in range(3)]
    labelled = by_topic["/points/labeled_points"]
    assert [time for time, _ in labelled] == [time for time, _ in by_topic["/points"]]
    counts = np.zeros(len(NAMES), np.int64)
    for number, (time_ns, data) in enumerate(labelled):
        message = TYPES.read_cloud_message(data)
        cloud = read_cloud(message)
        np.testing.assert_array_equal(cloud.points, room(number))
        assert (cloud.header.stamp_ns, cloud.header.frame_id) == (time_ns, "lidar")
        row = np.frombuffer(message.data, "<u4").reshape(-1, 8)
        counts += np.bincount(row[:, 4], minlength=len(NAMES))
    rows = report["totals"]["labels"]
    assert {NAMES[k]: int(n) for k, n in enumerate(counts) if n} == {
        name: row["points"] for name, row in rows.items()
    }


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_labels_of_an_older_run_are_not_mixed_with_ours(
    tmp_path: Path, student: Path, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.safetensors"
    bundle = untrained_student(seed=1)
    words = replace(bundle.vocabulary, names=("sky", "sea", "sand", "dune"))
    replace(bundle, vocabulary=words).save(old)
    recorded = rooms_bag(tmp_path / "bag", 2, storage=storage)
    assert label(recorded, tmp_path / "first", old, "--copy") == 0
    bag, output = tmp_path / "first" / "labelled", tmp_path / "out"
    with Bag(bag) as first:
        before = [m.data for m in first.messages(first.cloud_topics(["/points/labeled_points"]))]
    capsys.readouterr()
    assert label(bag, output, student, "--copy", "--topic", "/points") == 0
    said, report = capsys.readouterr().err, report_of(output)
    for name in ("/sas/label_info", "/points/labeled_points"):
        assert f"{name} is not copied" in said
        assert any(s.startswith(f"{name} is not") for s in report["settings"]["not_copied"])
        assert f"{name} is not copied" in (output / "report.md").read_text()
    assert report["settings"]["copy"] == ["/log", "/points"]
    with Bag(output / "labelled") as made:
        by_name = {topic.name: topic for topic in made.topics}
        (info,) = made.messages([by_name["/sas/label_info"]])
        after = [m.data for m in made.messages([by_name["/points/labeled_points"]])]
        assert by_name["/log"].messages == by_name["/points"].messages == 2
    told = TYPES.store.deserialize_cdr(info.data, "sas_msgs/msg/LabelInfo")
    assert tuple(told.names) == NAMES
    assert len(after) == 2 and not set(after) & set(before)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_name_of_two_types_is_two_topics(tmp_path: Path, student: Path, storage: str) -> None:
    messages = []
    for number in range(2):
        messages.append(("/p", "std_msgs/msg/String", 20 * number, text_bytes(f"line {number}")))
        messages.append(("/p", CLOUD, 20 * number + 10, cloud_bytes(room(number))))
    bag, output = write_bag(tmp_path / "bag", messages, storage=storage), tmp_path / "out"
    assert label(bag, output, student, "--copy") == 0
    assert [c["number"] for c in report_of(output)["clouds"]] == [0, 1]
    with Bag(output / "labelled") as made:
        found = [(m.topic, m.message_type, m.time_ns, m.data) for m in made.messages(made.topics)]
    copies = [item for item in found if item[0] == "/p"]
    assert copies == messages
    labelled = [item[2] for item in found if item[0] == "/p/labeled_points"]
    assert labelled == [10, 30]


def test_labels_that_are_gone_are_an_error(
    tmp_path: Path,
    student: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bag, output = rooms_bag(tmp_path / "bag", 2), tmp_path / "out"
    original = LabelJob._write_bag

    def without(job: LabelJob, types: Any, work: Path, records: Any) -> str:
        (work / "0-000001.safetensors").unlink()
        return original(job, types, work, records)

    with monkeypatch.context() as patch:
        patch.setattr(LabelJob, "_write_bag", without)
        assert label(bag, output, student) == 2
    assert "labels of /points 1 are gone" in capsys.readouterr().err
    assert not (output / "report.json").exists() and not (output / "labelled").exists()
    assert label(bag, output, student) == 0


@pytest.mark.parametrize("form", ["bag", "ply"])
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_second_run_gives_the_same_bytes(
    tmp_path: Path, student: Path, form: str, storage: str
) -> None:
    bag = rooms_bag(tmp_path / "bag", 2, storage=storage)
    for name in ("one", "two"):
        assert label(bag, tmp_path / name, student, "--format", form) == 0
    first = contents(tmp_path / "one")
    assert first == contents(tmp_path / "two")
    assert len(first) == 4
    for row in report_of(tmp_path / "one")["outputs"]:
        assert hashlib.sha256(first[row["name"]]).hexdigest() == row["sha256"]
        assert len(first[row["name"]]) == row["bytes"]


def test_plys_are_the_chosen_messages(tmp_path: Path, rooms: Path, student: Path) -> None:
    assert label(rooms, tmp_path / "out", student, "--format", "ply", "--every", "3") == 0
    files = sorted((tmp_path / "out" / "clouds").iterdir())
    assert [f.name for f in files] == ["points-000000.ply", "points-000003.ply"]
    for path, number in zip(files, (0, 3), strict=True):
        scan = read_scan(path)
        np.testing.assert_array_equal(scan.points, room(number))
        assert scan.labels is not None and set(scan.labels) <= {0, 1, 2, 3}


def test_labels_are_those_of_segment(tmp_path: Path, rooms: Path, student: Path) -> None:
    assert label(rooms, tmp_path / "out", student, "--format", "ply", "--every", "4") == 0
    np.save(tmp_path / "room.npy", room(0))
    words = [str(tmp_path / "room.npy"), "--student", str(student), "--up", "0,0,1"]
    assert main(argv=["segment", *words, "-o", str(tmp_path / "room.ply")]) == 0
    ours = read_scan(tmp_path / "out" / "clouds" / "points-000000.ply")
    theirs = read_scan(tmp_path / "room.ply")
    assert ours.labels is not None and theirs.labels is not None
    np.testing.assert_array_equal(ours.labels, theirs.labels)


class Interrupted:
    """Counts labelled messages, and is interrupted at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int | None) -> None:
        self.calls = 0
        original = BagLabeller.label

        def counted(labeller: BagLabeller, message: Any) -> Any:
            self.calls += 1
            if self.calls == at:
                raise KeyboardInterrupt
            return original(labeller, message)

        monkeypatch.setattr(BagLabeller, "label", counted)


@pytest.mark.parametrize("form", ["bag", "ply"])
def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(
    tmp_path: Path,
    rooms: Path,
    student: Path,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "out"
    assert label(rooms, whole, student, "--format", form) == 0
    with monkeypatch.context() as patch:
        Interrupted(patch, 3)
        assert label(rooms, output, student, "--format", form) == 130
    assert not (output / "report.json").exists() and not (output / "labelled").exists()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        rest = Interrupted(patch, None)
        assert label(rooms, output, student, "--format", form) == 0
    assert rest.calls == 2
    assert "earlier run was interrupted" in capsys.readouterr().err
    assert contents(output) == contents(whole)
    with monkeypatch.context() as patch:
        again = Interrupted(patch, None)
        assert label(rooms, output, student, "--format", form) == 0
    assert again.calls == 0
    assert "nothing was done" in capsys.readouterr().err
    assert contents(output) == contents(whole)


def test_records_of_another_run_are_not_used(
    tmp_path: Path, rooms: Path, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        Interrupted(patch, 3)
        assert label(rooms, output, student) == 130
    for path in (output / ".work").glob("0-000000*"):
        path.write_bytes(b"damaged")
    with monkeypatch.context() as patch:
        rest = Interrupted(patch, None)
        assert label(rooms, output, student) == 0
        assert rest.calls == 3
        assert label(rooms, tmp_path / "turned", student, "--up", "0,1,0") == 0
        assert rest.calls == 7


def test_plys_are_those_of_the_records(
    tmp_path: Path, rooms: Path, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, output = tmp_path / "other.safetensors", tmp_path / "out"
    untrained_student(seed=1).save(other)
    assert label(rooms, output, student, "--format", "ply") == 0
    first = contents(output / "clouds")
    with monkeypatch.context() as patch:
        Interrupted(patch, 4)
        assert label(rooms, output, other, "--overwrite") == 130
    assert contents(output / "clouds") == first
    with monkeypatch.context() as patch:
        rest = Interrupted(patch, None)
        assert label(rooms, output, other, "--format", "ply") == 0
    assert rest.calls == 1
    assert label(rooms, tmp_path / "whole", other, "--format", "ply") == 0
    assert contents(output) == contents(tmp_path / "whole")
    assert not set(contents(output / "clouds").values()) & set(first.values())


def test_overwrite_uses_nothing_of_an_earlier_run(
    tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag, output = rooms_bag(tmp_path / "bag", 2), tmp_path / "out"
    with monkeypatch.context() as patch:
        counted = Interrupted(patch, 2)
        assert label(bag, output, student) == 130
        assert label(bag, output, student, "--overwrite") == 0
        assert counted.calls == 4
        (output / ".work").mkdir()  # as if it had been ended before it was removed
        (output / ".work" / "0-000000.safetensors").touch()
        assert label(bag, output, student, "--overwrite") == 0
        assert counted.calls == 6


def test_a_run_that_ends_while_it_replaces_can_go_on(
    tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag, output = rooms_bag(tmp_path / "bag", 1), tmp_path / "out"
    assert label(bag, output, student) == 0
    original = Path.unlink

    def ended(path: Path, missing_ok: bool = False) -> None:
        original(path, missing_ok)
        if path.name == "report.json":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", ended)
        assert label(bag, output, student, "--overwrite") == 130
    assert not (output / "report.json").exists()
    assert label(bag, output, student) == 0


def test_a_passing_failure_is_not_kept(
    tmp_path: Path,
    student: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bag, output = rooms_bag(tmp_path / "bag", 3), tmp_path / "out"
    original = BagLabeller._label

    def short(labeller: BagLabeller, message: Any, *rest: Any) -> Any:
        if message.number == 2:
            raise KeyboardInterrupt
        if message.number == 0:
            raise MemoryError
        return original(labeller, message, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(BagLabeller, "_label", short)
        assert label(bag, output, student) == 130
    assert len(list((output / ".work").glob("0-*"))) == 1
    assert label(bag, output, student) == 0
    assert report_of(output)["totals"]["labelled"] == 3

    with monkeypatch.context() as patch:
        patch.setattr(BagLabeller, "_label", short)
        assert label(bag, tmp_path / "two", student, "--every", "3") == 1
    (row,) = report_of(tmp_path / "two")["bad"]
    assert row["passing"] is True and "memory" in row["reason"]
    capsys.readouterr()
    assert label(bag, tmp_path / "two", student, "--every", "3") == 1
    said = capsys.readouterr().err
    assert "0 messages were labelled already and 1 could not be" in said and "--overwrite" in said
    assert label(bag, tmp_path / "two", student, "--every", "3", "--overwrite") == 0


def test_other_results_are_replaced_only_when_asked(
    tmp_path: Path, rooms: Path, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert label(rooms, output, student, "--format", "ply") == 0
    assert label(rooms, output, student, "--format", "ply", "--every", "2") == 2
    assert "other every" in capsys.readouterr().err
    assert len(list((output / "clouds").iterdir())) == 4
    assert label(rooms, output, student, "--every", "2", "--format", "ply", "--overwrite") == 0
    assert len(list((output / "clouds").iterdir())) == 2
    (output / "clouds" / "points-000000.ply").write_bytes(b"ply")
    assert label(rooms, output, student, "--every", "2", "--format", "ply") == 2
    assert "a file was changed" in capsys.readouterr().err
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.tex").touch()
    assert label(rooms, strange, student) == 2
    assert "thesis.tex" in capsys.readouterr().err
    assert [p.name for p in strange.iterdir()] == ["thesis.tex"]


def test_a_changed_bag_or_version_is_noticed(
    tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag, output = rooms_bag(tmp_path / "bag", 2), tmp_path / "out"
    assert label(bag, output, student) == 0
    with monkeypatch.context() as patch:
        patch.setattr("sas_ros.__version__", "99.0")
        assert label(bag, output, student) == 2
    shutil.rmtree(bag)
    rooms_bag(bag, 3)
    assert label(bag, output, student) == 2
    assert label(bag, output, student, "--overwrite") == 0
    assert report_of(output)["totals"]["labelled"] == 3


# ------------------------------------------------------------------------------------ bad input
def test_bad_messages_are_counted_with_a_sentence_each(
    tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = cloud_bytes(room())
    bad = {
        "damaged": good[:30],
        "no finite point": cloud_bytes(np.full((50, 3), np.nan, np.float32)),
        "no field z": cloud_bytes(room(), names="xyw"),
        "needs": good[:-800],
        "metres": cloud_bytes(room() * np.float32(1e9)),
    }
    messages = [("/p", CLOUD, 10 + n, data) for n, data in enumerate([good, *bad.values(), good])]
    bag, output = write_bag(tmp_path / "bag", messages), tmp_path / "out"
    assert label(bag, output, student) == 0
    report = report_of(output)
    assert report["totals"]["labelled"] == 2 and report["totals"]["bad"] == len(bad)
    error = capsys.readouterr().err
    for number, row in enumerate(report["bad"], start=1):
        assert row["number"] == number and row["reason"][-1] in ".?"
        assert f"/p {number}: {row['reason']}" in error
    reasons = " ".join(row["reason"] for row in report["bad"])
    for words in ("damaged", "no finite point", "no field z"):
        assert words in reasons
    assert label(bag, output, student, "--max-bad", "4") == 1
    assert label(bag, output, student, "--max-bad", "5") == 0


def test_a_bag_that_breaks_off_is_labelled_up_to_there(
    tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Chunks end after a megabyte: 60,000 points have one of their own.
    points = np.tile(room(), (25, 1))
    messages = [("/p", CLOUD, 10 + n, cloud_bytes(points)) for n in range(3)]
    bag, output = write_bag(tmp_path / "bag", messages), tmp_path / "out"
    path = bag / "bag.mcap"
    data = bytearray(path.read_bytes())
    place = data.rfind(cloud_bytes(points)[:40])
    data[place - 30 : place - 22] = b"\xff" * 8  # the length of the last message's record
    path.write_bytes(data)
    code = label(bag, output, student)
    report = report_of(output)
    assert report["totals"]["labelled"] == 2
    assert code == 1 and "is damaged after" in report["damaged"]
    assert report["passed"] is False
    assert "is damaged after" in capsys.readouterr().err


def test_nothing_labelled_is_a_failure(tmp_path: Path, student: Path) -> None:
    bag = write_bag(tmp_path / "bag", [("/p", CLOUD, 1, b"\0\1\0\0")])
    assert label(bag, tmp_path / "out", student) == 1
    assert not (tmp_path / "out" / "labelled").exists()
    assert report_of(tmp_path / "out")["totals"]["bad"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--expect", "elephant"], "no word 'elephant'"),
        (["--expect", "chair:2"], "share"),
        (["--fail-below", "1.5"], "--fail-below"),
        (["--topic", "/log"], "no point clouds on '/log'"),
        (["--format", "ply", "--copy"], "--copy"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    rooms: Path,
    student: Path,
    tmp_path: Path,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert label(rooms, tmp_path / "out", student, *words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------ gates
def test_gates_decide_the_exit_code(tmp_path: Path, rooms: Path, student: Path) -> None:
    output = tmp_path / "out"
    assert label(rooms, output, student) == 0
    rows = report_of(output)["totals"]["labels"]
    most = max(rows, key=lambda name: rows[name]["points"])
    share = rows[most]["share"]
    assert label(rooms, output, student, "--expect", most, f"{most}:{share}") == 0
    assert label(rooms, output, student, "--expect", f"{most}:{min(share + 0.001, 1)}") == 1
    report = report_of(output)
    assert report["passed"] is False and report["gates"][0]["found"] == share
    assert "FAILED" in (output / "report.md").read_text()
    sure = sum(report["confidence_histogram"][40:]) / sum(report["confidence_histogram"])
    limit = round(sure, 6)
    words = ["--confidence", "0.4", "--fail-below"]
    assert label(rooms, output, student, *words, str(limit)) == 0
    assert label(rooms, output, student, *words, str(min(limit + 1e-4, 1.0))) == (sure < 1 - 1e-4)


@pytest.mark.parametrize("confidence", [1.0, 0.99, 0.98, 0.0])
def test_full_confidence_can_be_asked_for(confidence: float) -> None:
    sure = [0] * 99 + [10]
    gates = Gates(least_confident=1.0, confidence=confidence)
    assert [g.passed for g in judge(gates, {"bad": 0, "labels": {}}, sure)] == [True]
    unsure = [0] * 98 + [1, 9]
    (result,) = judge(gates, {"bad": 0, "labels": {}}, unsure)
    assert result.passed == (confidence < 0.985)
    assert [g.passed for g in judge(gates, {"bad": 0, "labels": {}}, [])] == [False]


def test_an_expected_word_needs_an_objects_worth_of_points() -> None:
    gates = Gates((parse_expectation("Chair", NAMES),), most_bad=0)
    totals = {"bad": 0, "labels": {"chair": {"share": 0.001, "most_in_one_cloud": 19}}}
    assert [g.passed for g in judge(gates, totals, [])] == [False, True]
    totals["labels"]["chair"]["most_in_one_cloud"] = 20  # type: ignore[index]
    assert [g.passed for g in judge(gates, totals, [])] == [True, True]
    assert [g.passed for g in judge(gates, {"bad": 1, "labels": {}}, [])] == [False, False]


@given(st.text(max_size=20))
@settings(deadline=None)
def test_expectations_are_read_or_refused(text: str) -> None:
    try:
        expectation = parse_expectation(text, NAMES)
    except SasError:
        return
    assert expectation.name in NAMES and 0 <= expectation.share <= 1


@given(st.lists(st.integers(0, 100), max_size=30))
@settings(deadline=None)
def test_the_histogram_counts_whole_steps(hundredths: list[int]) -> None:
    values = np.array([n / 100 for n in hundredths], np.float32)
    histogram = confidence_histogram(values)
    for step in range(100):
        assert sum(histogram[step:]) == sum(n >= step for n in hundredths)


def test_a_report_reads_back(tmp_path: Path, rooms: Path, student: Path) -> None:
    assert label(rooms, tmp_path, student) == 0
    assert json.loads(json.dumps(BagReport.load(tmp_path).to_dict())) == report_of(tmp_path)
    for key, value in (("kind", "x"), ("format_version", 9), ("clouds", [{}]), ("bad", 3)):
        broken = {**report_of(tmp_path), key: value}
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / "sub" / "report.json").write_text(json.dumps(broken))
        with pytest.raises(SasError):
            BagReport.load(tmp_path / "sub")


# ------------------------------------------------------------------------------------ real bags
def test_recorded_bags_are_labelled(test_data: Path, tmp_path: Path, student: Path) -> None:
    bag = test_data / "ros2_bag_d435_tutorial" / "bag_trimmed"
    assert label(bag, tmp_path / "a", student, "--every", "2", "--format", "ply") == 0
    report = report_of(tmp_path / "a")
    assert [c["number"] for c in report["clouds"]] == [0, 2, 4]
    kitchen = test_data / "ros2_bag_redkitchen" / "bag"
    assert label(kitchen, tmp_path / "b", student, "--topic", "/map_cloud", "--copy") == 0
    (cloud,) = report_of(tmp_path / "b")["clouds"]
    assert (cloud["points"], cloud["frame"]) == (128_262, "map")
    with Bag(tmp_path / "b" / "labelled") as made:
        names = {topic.name: topic.messages for topic in made.topics}
        assert names["/tf_static"] == 1 and names["/map_cloud/labeled_points"] == 1
        assert names["/camera/color/image_raw/compressed"] == 4
        static = next(t for t in made.topics if t.name == "/tf_static")
        assert static.qos[0].durability.name == "TRANSIENT_LOCAL"
