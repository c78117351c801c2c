"""Damaged files of every kind: read as something whole, or refused in one sentence."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bags import CLOUD, cloud_bytes, room, write_bag
from damage import damaged_bytes, damaged_json
from safetensors import safe_open
from safetensors.torch import save_file
from students import untrained_student

from sas_ros.errors import SasError
from sas_ros.mapping import MapIdentity, MapState, load_map, save_map
from sas_ros.mapping.columns import empty_columns, pack
from sas_ros.observation import Cloud, Up
from sas_ros.scans import read_scan, write_ply
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_training.capability.table import CapabilityTable, Measurement
from sas_training.cli import main
from sas_training.vocabularies import read_embeddings, read_words

FILES = int(os.environ.get("SAS_FUZZ_FILES", "30"))
"""Damaged files of each kind."""
SEED = int(os.environ.get("SAS_FUZZ_SEED", "1"))
POINTS = room()[:120]


def refused(read: Callable[[], object]) -> bool:
    """Whether it was, in one sentence; any other exception fails the test."""
    try:
        read()
    except SasError as error:
        assert "\n" not in str(error) and len(str(error)) > 20, error
        return True
    return False


def damage_often(path: Path, read: Callable[[], object], files: int = FILES) -> Counter[bool]:
    """Read damaged versions of a file; counts of refused (True) and read."""
    whole, outcomes = path.read_bytes(), Counter[bool]()
    read()
    for number in range(files):
        path.write_bytes(damaged_bytes(whole, random.Random(f"{SEED} {path.name} {number}")))
        outcomes[refused(read)] += 1
    path.write_bytes(whole)
    assert outcomes[True] > 0.1 * files, outcomes
    return outcomes


# ------------------------------------------------------------------------------------ scans
def ply_text() -> bytes:
    lines = [" ".join(f"{value:.3f}" for value in point) for point in POINTS[:20]]
    head = "ply\nformat ascii 1.0\nelement vertex 20\n"
    head += "".join(f"property float {name}\n" for name in "xyz")
    return (head + "end_header\n" + "\n".join(lines) + "\n").encode()


def pcd(encoding: str, count: int, body: bytes) -> bytes:
    lines = ["VERSION .7", "FIELDS x y z", "SIZE 4 4 4", "TYPE F F F", "COUNT 1 1 1"]
    lines += [f"WIDTH {count}", "HEIGHT 1", "VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {count}"]
    return "\n".join([*lines, f"DATA {encoding}", ""]).encode() + body


def lzf(data: bytes) -> bytes:
    """LZF without any copy: runs of at most 32 bytes."""
    packed = bytearray()
    for start in range(0, len(data), 32):
        piece = data[start : start + 32]
        packed += bytes([len(piece) - 1]) + piece
    return len(packed).to_bytes(4, "little") + len(data).to_bytes(4, "little") + bytes(packed)


def write_scan(path: Path) -> None:
    """A good scan; what stands before the suffix says which kind."""
    kind, raw = path.name, np.ascontiguousarray(POINTS, "<f4").tobytes()
    if kind == "text.ply":
        path.write_bytes(ply_text())
    elif kind == "binary.ply":
        write_ply(path, POINTS, colors=np.full((len(POINTS), 3), 9, np.uint8))
    elif kind == "binary.pcd":
        path.write_bytes(pcd("binary", len(POINTS), raw))
    elif kind == "text.pcd":
        path.write_bytes(pcd("ascii", 20, b"\n".join(b"1 2.5 -3e-1" for _ in range(20))))
    elif kind == "compressed.pcd":
        columns = np.ascontiguousarray(POINTS.T, "<f4").tobytes()
        path.write_bytes(pcd("binary_compressed", len(POINTS), lzf(columns)))
    elif kind == "plain.npy":
        np.save(path, POINTS)
    elif kind == "records.npy":
        np.save(path, np.zeros(50, [("x", "f4"), ("y", "f4"), ("z", "f8"), ("label", "i4")]))
    elif kind.endswith(".npz"):
        save = np.savez_compressed if kind.startswith("packed") else np.savez
        save(path, points=POINTS, labels=np.arange(len(POINTS)))
    else:
        path.write_bytes(np.c_[POINTS, np.full(len(POINTS), 0.5)].astype("<f4").tobytes())


SCANS = ("text.ply", "binary.ply", "binary.pcd", "text.pcd", "compressed.pcd", "plain.npy")
SCANS += ("records.npy", "plain.npz", "packed.npz", "kitti.bin")


@pytest.mark.parametrize("name", SCANS)
def test_scans(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_scan(path)
    head = 200 if name.endswith(("ply", "pcd", "npy")) else 4096

    def read() -> None:
        cloud = read_scan(path)
        assert cloud.points.shape == (cloud.height * cloud.width, 3) and len(cloud.points)
        for more in (cloud.colors, cloud.labels):
            assert more is None or len(more) == len(cloud.points)

    if name == "kitti.bin":  # has no header, so that most damage is not damage
        whole = path.read_bytes()
        for cut in range(1, 16):
            path.write_bytes(whole[:-cut])
            assert refused(read)
        return
    whole, outcomes = path.read_bytes(), Counter[bool]()
    for number in range(FILES):
        rng = random.Random(f"{SEED} {name} {number}")
        path.write_bytes(damaged_bytes(whole, rng, head))
        outcomes[refused(read)] += 1
    assert outcomes[True] > 0.2 * FILES, outcomes


# ------------------------------------------------------------------------------------ students
@pytest.fixture
def student(tmp_path: Path) -> Path:
    path = tmp_path / "student.safetensors"
    untrained_student(dim=8).save(path)
    return path


def parts(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        described = json.loads(file.metadata()["sas_student"])
        return described, {key: file.get_tensor(key) for key in file.keys()}


def load_student(path: Path) -> None:
    StudentBundle.load(path).network()


def test_bytes_of_a_student(student: Path) -> None:
    damage_often(student, lambda: load_student(student))


def test_descriptions_of_a_student(student: Path) -> None:
    described, tensors = parts(student)
    outcomes = Counter[bool]()
    for number in range(2 * FILES):
        changed = damaged_json(described, random.Random(f"{SEED} description {number}"))
        save_file(tensors, student, {"sas_student": json.dumps(changed)})
        outcomes[refused(lambda: load_student(student))] += 1
    assert outcomes[True] > 0.4 * outcomes.total(), outcomes


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.int(),
        lambda value: value.bool(),
        lambda value: torch.full_like(value, torch.nan),
        lambda value: value.reshape(-1)[:-1].clone(),
        lambda value: None,
    ],
    ids=["whole numbers", "flags", "nan", "shorter", "missing"],
)
def test_tensors_of_a_student(student: Path, change: Callable[[Any], Any]) -> None:
    described, tensors = parts(student)
    for name in ("model.final.kernel", "vocabulary.embeddings"):
        changed = {**tensors, name: change(tensors[name])}
        kept = {key: value for key, value in changed.items() if value is not None}
        save_file(kept, student, {"sas_student": json.dumps(described)})
        assert refused(lambda: load_student(student)), name


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), True, "1"])
def test_numbers_that_are_none(student: Path, tmp_path: Path, value: Any) -> None:
    described, tensors = parts(student)
    table = tmp_path / "table.json"
    CapabilityTable(("one",), ("a",), np.ones((1, 1))).save(table)
    for place, key in ((described, "voxel_size"), (described["calibration"], "temperature")):
        kept, place[key] = place[key], value
        save_file(tensors, student, {"sas_student": json.dumps(described)})
        assert refused(lambda: load_student(student)), key
        place[key] = kept
    table.write_text(json.dumps({**json.loads(table.read_text()), "level": value}))
    assert refused(lambda: CapabilityTable.load(table))


def test_a_description_that_asks_for_more_than_the_file_holds(student: Path) -> None:
    """Widths that would take hundreds of gigabytes are compared before they are made."""
    described, tensors = parts(student)
    described["architecture"].update(planes=[4096] * 8, layers=[64] * 8)
    save_file(tensors, student, {"sas_student": json.dumps(described)})
    assert refused(lambda: load_student(student))
    described["architecture"].update(planes=[8] * 8, layers=[4096] * 8)
    save_file(tensors, student, {"sas_student": json.dumps(described)})
    assert refused(lambda: load_student(student))


def test_a_student_that_loads_gives_numbers(student: Path) -> None:
    """Of single bits of its weights nobody can know; what comes out is a label for every point."""
    whole = student.read_bytes()
    cloud, up = Cloud(POINTS), Up(np.array([0.0, 0.0, 1.0]))
    for number in range(8):
        data = bytearray(whole)
        rng = random.Random(f"{SEED} weights {number}")
        for _ in range(50):
            data[rng.randrange(len(data) // 2, len(data))] ^= 1 << rng.randrange(8)
        student.write_bytes(bytes(data))

        def label() -> None:
            bundle = StudentBundle.load(student)
            segmenter = Segmenter(bundle, device="cpu", backend="native")
            found = segmenter.label(segmenter.segment(cloud, up), bundle.vocabulary)
            assert np.isfinite(found.confidence).all()

        refused(label)


# ------------------------------------------------------------------------------------ words
def test_word_lists(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("chair\ntable = a wooden table\n# nothing\nsofa é\n", encoding="utf-8")
    whole = path.read_bytes()

    def read() -> None:
        words = read_words(str(path), "a {}")
        vectors = np.eye(len(words.names), len(words.names) + 1, dtype=np.float32)
        assert len(words.vocabulary(vectors)) == len(words.names)

    read()
    outcomes: Counter[bool] = Counter()
    for number in range(FILES):
        path.write_bytes(damaged_bytes(whole, random.Random(f"{SEED} words {number}")))
        outcomes[refused(read)] += 1
    assert outcomes[False] and outcomes[True], outcomes


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_embeddings(tmp_path: Path, suffix: str) -> None:
    path, rows = tmp_path / f"rows{suffix}", np.eye(3, 5, dtype=np.float32)
    if suffix == ".npz":
        np.savez(path, names=np.array(["a", "b", "c"]), embeddings=rows)
    else:
        named = {"names": json.dumps(["a", "b", "c"])}
        save_file({"embeddings": torch.from_numpy(rows)}, path, named)
    damage_often(path, lambda: read_embeddings(path), 2 * FILES)


# ------------------------------------------------------------------------------------ tables
def test_capability_tables(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    scores = np.linspace(0, 1, 6).reshape(2, 3)
    made = Measurement(("a {}",), (1, 2), {"images": "x"}, 4, {"by": "me"})
    intervals = np.stack([scores * 0.9, scores], axis=-1)
    CapabilityTable(("one", "two"), ("a", "b", "c"), scores, made, scores, intervals).save(path)
    damage_often(path, lambda: CapabilityTable.load(path))
    content = json.loads(path.read_text())
    outcomes = Counter[bool]()
    for number in range(2 * FILES):
        changed = damaged_json(content, random.Random(f"{SEED} table {number}"))
        path.write_text(json.dumps(changed))
        outcomes[refused(lambda: CapabilityTable.load(path))] += 1
    assert outcomes[True] > 0.4 * outcomes.total(), outcomes


# ------------------------------------------------------------------------------------ maps
def test_maps(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.map.safetensors", 12
    columns = empty_columns(rows, 4)
    cells = np.zeros((rows, 3), np.int64)
    cells[:, 0] = np.arange(rows)
    columns = replace(columns, keys=pack(cells), counts=columns.counts + 1)
    identity = MapIdentity("tiny", "ab" * 32, 4, 0.1, "map")
    save_map(MapState(identity, columns, clouds=3, stamp_ns=5), path)
    damage_often(path, lambda: load_map(path), 2 * FILES)
    with safe_open(path, framework="pt") as file:
        described = json.loads(file.metadata()["sas_map"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}

    def refused_as(changed: Any) -> bool:
        save_file(tensors, path, {"sas_map": json.dumps(changed)})
        return refused(lambda: load_map(path))

    outcomes = Counter[bool]()
    for number in range(2 * FILES):
        outcomes[refused_as(damaged_json(described, random.Random(f"{SEED} map {number}")))] += 1
    assert outcomes[True] > 0.4 * outcomes.total(), outcomes
    for key in described:
        for value in (10**400, -(10**400)):
            assert refused_as({**described, key: value}), key
    assert refused_as({**described, "viewpoint": [10**400] * 16})


# ------------------------------------------------------------------------------------ commands
def run(capsys: pytest.CaptureFixture[str], *words: object) -> int:
    """Run a verb; an exit code of 1 or 2 comes with one line that names the verb."""
    arguments = [str(word) for word in words]
    code = main(argv=arguments)
    errors = capsys.readouterr().err
    assert code in (0, 1, 2) and "Traceback" not in errors
    if code == 2:
        assert errors.startswith(f"sas {arguments[0]}: "), errors
        assert len(errors.splitlines()) == 1 and errors.strip().endswith((".", ")")), errors
    return code


def test_segment_says_which_file_is_damaged(
    tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: Counter[int] = Counter()
    output = tmp_path / "out.ply"
    for name in ("binary.ply", "compressed.pcd", "plain.npz"):
        scan = tmp_path / name
        write_scan(scan)
        words = ("segment", scan, "--student", student, "--up", "0,0,1", "-o", output)
        assert run(capsys, *words) == 0
        output.unlink()
        for number in range(5):
            rng = random.Random(f"{SEED} segment {name} {number}")
            other = tmp_path / f"other{scan.suffix}"
            other.write_bytes(damaged_bytes(scan.read_bytes(), rng, 300))
            code = run(capsys, "segment", other, *words[2:])
            codes[code] += 1
            assert output.exists() == (code == 0), "half a result"
            output.unlink(missing_ok=True)
    assert codes[2] >= 3, codes


def test_a_damaged_student_is_one_sentence_of_every_verb(
    tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = tmp_path / "binary.ply"
    write_scan(scan)
    bag = write_bag(tmp_path / "bag", [("/points", CLOUD, 1, cloud_bytes(POINTS))])
    described, tensors = parts(student)
    del described["vocabulary"]
    save_file(tensors, student, {"sas_student": json.dumps(described)})
    common = ("--student", student, "--up", "0,0,1", "-o", tmp_path / "out")
    assert run(capsys, "segment", scan, *common) == 2
    assert run(capsys, "label", bag, *common) == 2
    assert run(capsys, "bench", "query", "--student", student) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_label_of_a_damaged_bag(
    tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str], storage: str
) -> None:
    messages = [("/points", CLOUD, n, cloud_bytes(POINTS, stamp_ns=n)) for n in range(1, 6)]
    folder = write_bag(tmp_path / "bag", messages, storage=storage)
    (file,) = (path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))
    codes: Counter[int] = Counter()
    whole = file.read_bytes()
    for number in range(8):
        rng = random.Random(f"{SEED} bag {storage} {number}")
        other = tmp_path / f"{number}{file.suffix}"
        other.write_bytes(damaged_bytes(whole, rng, len(whole)))
        words = ("--student", student, "--up", "0,0,1", "-o", tmp_path / f"out{number}")
        codes[run(capsys, "label", other, *words)] += 1
    assert codes[1] + codes[2] >= 3, codes
