"""The map's file: the same map comes back, whole or not at all; nothing else is taken for one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sas_ros.errors import SasError
from sas_ros.mapping import MapIdentity, MapState, load_map, merge_maps, save_map
from sas_ros.mapping.columns import VoxelColumns, pack
from sas_ros.mapping.voxel_map import empty_state

DIM = 5
IDENTITY = MapIdentity("tiny", "ab" * 32, DIM, 0.08, "map")


def random_state(rows: int, seed: int = 0, **changes: Any) -> MapState:
    """A legal map of random voxels."""
    rng = np.random.default_rng(seed)
    cells = np.unique(rng.integers(-(2**20) + 1, 2**20, (rows, 3)), axis=0)
    rng.shuffle(cells)
    rows = len(cells)
    features = torch.from_numpy(rng.normal(size=(rows, DIM)).astype(np.float32))
    shape = rng.uniform(0, 0.08, (rows, 10)).astype(np.float32)
    columns = VoxelColumns(
        keys=pack(cells),
        features=torch.nn.functional.normalize(features, dim=1).half(),
        agreement=rng.uniform(0, 1, rows).astype(np.float32),
        shape=shape,
        colors=rng.uniform(0, 255, (rows, 3)).astype(np.float32),
        colored=rng.integers(0, 3, rows).astype(np.int32),
        counts=rng.integers(1, 50, rows).astype(np.int32),
        last_seen=rng.integers(0, 2**62, rows),
    )
    values = {"version": 3, "clouds": 7, "let_go": 1, "stamp_ns": 2**62, **changes}
    return MapState(IDENTITY, columns, **values)


def contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
        return tensors, json.loads(file.metadata()["sas_map"])


def rewrite(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
    save_file(tensors, path, {"sas_map": json.dumps(metadata)})


@settings(deadline=None, derandomize=True, max_examples=20)
@given(rows=st.integers(0, 40), seed=st.integers(0, 10**6), stamp=st.integers(0, 2**63 - 1))
def test_a_map_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: int, seed: int, stamp: int
) -> None:
    state = random_state(rows, seed, stamp_ns=stamp)
    path = tmp_path_factory.mktemp("map") / "a.map.safetensors"
    save_map(state, path)
    again = load_map(path, IDENTITY)
    assert again.identity == IDENTITY
    for name in ("version", "clouds", "let_go", "stamp_ns"):
        assert getattr(again, name) == getattr(state, name)
    np.testing.assert_array_equal(again.viewpoint, state.viewpoint)
    order = np.argsort(state.columns.keys)
    wanted = state.columns.rows(order)
    for name in ("keys", "agreement", "shape", "colors", "colored", "counts", "last_seen"):
        np.testing.assert_array_equal(getattr(again.columns, name), getattr(wanted, name))
    assert torch.equal(again.columns.features, wanted.features)
    other = path.with_name("b.map.safetensors")
    save_map(again, other)
    assert other.read_bytes() == path.read_bytes()


@settings(deadline=None, derandomize=True, max_examples=80)
@given(data=st.data())
def test_any_damage_is_a_sentence_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("map") / "a.map.safetensors"
    save_map(random_state(4), path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))]) if data.draw(
        st.booleans()) else bytes(raw))  # fmt: skip
    try:
        state = load_map(path)
    except SasError as error:
        assert str(error).endswith(".")
        return
    assert len(state) == 4 and (state.columns.counts >= 1).all()


def spoiled(name: str, row: int, value: Any) -> Any:
    def change(tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
        tensors[name].view(-1)[row] = value

    return change


def entry(**values: Any) -> Any:
    def change(tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
        metadata.update(values)

    return change


def doubled(tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
    tensors["voxel"][1] = tensors["voxel"][0]


def without(tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
    del tensors["count"]


def widened(tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
    tensors["feature"] = tensors["feature"].float()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (spoiled("feature", 2, 3.0), "unit"),
        (spoiled("feature", 2, float("nan")), "unit"),
        (spoiled("agreement", 0, 1.5), "agreement"),
        (spoiled("shape", 0, 0.2), "outside its voxel"),
        (spoiled("shape", 0, float("inf")), "outside its voxel"),
        (spoiled("shape", 9, -1.0), "number of points"),
        (spoiled("color", 0, 256.0), "colour"),
        (spoiled("count", 1, 0), "count"),
        (spoiled("last_seen", 1, -1), "epoch"),
        (spoiled("voxel", 0, -(2**20)), "reach"),
        (doubled, "sorted"),
        (without, "lacks the tensor 'count'"),
        (widened, "float16"),
        (entry(format_version=2), "format 2"),
        (entry(voxels=5), "not (5"),
        (entry(voxels="many"), "'voxels'"),
        (entry(feature_dim=DIM + 1), "'feature'"),
        (entry(voxel_size="fine"), "'voxel_size'"),
        (entry(voxel_size=1e9), "voxel size"),
        (entry(frame=7), "'frame'"),
        (entry(frame=""), "frame"),
        (entry(viewpoint=[0.0] * 16), "'viewpoint'"),
        (entry(viewpoint=None), "'viewpoint'"),
        (entry(stamp_ns=-1), "'stamp_ns'"),
        (entry(clouds=True), "'clouds'"),
    ],
)
def test_what_is_wrong_inside_is_named(tmp_path: Path, change: Any, word: str) -> None:
    path = tmp_path / "a.map.safetensors"
    save_map(random_state(4), path)
    tensors, metadata = contents(path)
    change(tensors, metadata)
    rewrite(path, tensors, metadata)
    with pytest.raises(SasError, match=r"\.$") as caught:
        load_map(path)
    assert word in str(caught.value) and str(path) in str(caught.value)


def test_what_is_no_map_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SasError, match="no map at"):
        load_map(tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(SasError, match="no readable"):
        load_map(tmp_path / "text")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(SasError, match="is not a map"):
        load_map(tmp_path / "other")
    for raw, word in (("{", "JSON"), ("[1]", "object"), ("[" * 10**5, "JSON")):
        save_file({"a": torch.zeros(1)}, tmp_path / "raw", {"sas_map": raw})
        with pytest.raises(SasError, match=word):
            load_map(tmp_path / "raw")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"fingerprint": "cd" * 32}, "student"),
        ({"voxel_size": 0.05}, "voxels of 0.08 m, and here they are 0.05 m"),
        ({"frame": "odom"}, "frame 'map'"),
    ],
)
def test_a_map_made_with_other_settings_is_refused(
    tmp_path: Path, change: dict[str, Any], word: str
) -> None:
    path = tmp_path / "a.map.safetensors"
    save_map(random_state(3), path)
    with pytest.raises(SasError, match=word):
        load_map(path, MapIdentity(**{**IDENTITY.__dict__, **change}))


def test_an_empty_map_is_a_map(tmp_path: Path) -> None:
    path = tmp_path / "a.map.safetensors"
    save_map(empty_state(IDENTITY), path)
    assert len(load_map(path, IDENTITY)) == 0
    assert len(merge_maps([load_map(path), random_state(5)])) == 5


SAVER = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
import sas_ros.files, os
from test_map_files import random_state
from sas_ros.mapping import save_map

def stopped(descriptor):
    print("written, not renamed", flush=True)
    sys.stdin.read()  # here it is killed

sas_ros.files.os.fsync = stopped
save_map(random_state(9), Path({path!r}))
"""


def test_a_process_killed_while_it_saves_leaves_the_old_map(tmp_path: Path) -> None:
    path = tmp_path / "a.map.safetensors"
    save_map(random_state(4), path)
    before = path.read_bytes()
    script = SAVER.format(folder=str(Path(__file__).parent), path=str(path))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "written, not renamed\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait(30.0) == -signal.SIGKILL
    process.stdout.close()
    assert process.stdin is not None
    process.stdin.close()
    assert path.read_bytes() == before and len(load_map(path)) == 4


def test_a_full_disk_is_an_os_error_and_leaves_the_old_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.map.safetensors"
    save_map(random_state(4), path)

    def full(*_: Any) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_map(random_state(9), path)
    monkeypatch.undo()
    assert len(load_map(path)) == 4 and [p.name for p in tmp_path.iterdir()] == [path.name]
