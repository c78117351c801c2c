"""The student file: what goes in comes out; every damage is a sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from students import untrained_student

from sas_ros.errors import SasError
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.locate import find_student


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "student.safetensors"
    untrained_student().save(target)
    return target


def rewrite(path: Path, **changes: Any) -> None:
    """Store the file again with entries of its description changed; None removes one."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["sas_student"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    for key, value in changes.items():
        if value is None:
            del metadata[key]
        else:
            metadata[key] = value
    save_file(tensors, path, {"sas_student": json.dumps(metadata)})


def test_round_trip(path: Path) -> None:
    before, after = untrained_student(), StudentBundle.load(path)
    assert after.vocabulary.names == before.vocabulary.names
    assert np.array_equal(after.vocabulary.embeddings, before.vocabulary.embeddings)
    assert after.calibration == before.calibration
    assert after.architecture["planes"] == list(before.architecture["planes"])
    for key, value in before.network().state_dict().items():
        assert torch.equal(after.network().state_dict()[key], value), key


def test_no_temporary_file_is_left(path: Path) -> None:
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2}, "format"),
        ({"kind": "image_model"}, "kind"),
        ({"name": None}, "'name'"),
        ({"voxel_size": "big"}, "voxel_size"),
        ({"voxel_size": 50.0}, "voxel size"),
        ({"inputs": ["one", "colour"]}, "colour"),
        ({"inputs": ["one"]}, "channels"),
        ({"prompt": "no slot"}, "prompt"),
        ({"calibration": {}}, "calibration"),
        ({"architecture": {"out_channels": 16}}, "architecture"),
    ],
)
def test_wrong_entries_are_sentences(path: Path, changes: dict[str, Any], words: str) -> None:
    rewrite(path, **changes)
    with pytest.raises(SasError, match=words):
        StudentBundle.load(path).network()


def test_weights_of_another_shape_are_named(path: Path) -> None:
    bundle = StudentBundle.load(path)
    weights = {**bundle.weights, "final.kernel": torch.zeros(8, 3)}
    with pytest.raises(SasError, match=r"final\.kernel"):
        replace(bundle, weights=weights).network()


@pytest.mark.parametrize("content", [b"", b"no tensors here at all", b"\xff" * 64])
def test_damaged_files_are_sentences(tmp_path: Path, content: bytes) -> None:
    target = tmp_path / "broken.safetensors"
    target.write_bytes(content)
    with pytest.raises(SasError, match="safetensors"):
        StudentBundle.load(target)


def test_cut_off_file_is_a_sentence(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SasError, match="cut off"):
        StudentBundle.load(path)


def test_other_safetensors_file_is_no_student(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(SasError, match="not a student"):
        StudentBundle.load(tmp_path / "a.safetensors")


def test_unknown_student_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(SasError, match="no student called"):
        find_student("no-such-student")
    with pytest.raises(SasError, match="no student bundle at"):
        find_student(str(tmp_path / "gone.safetensors"))
