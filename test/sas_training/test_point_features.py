"""Point features on disk: ours, and OpenScene's in its two layouts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from sas_ros.errors import SasError
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.openscene import read_openscene, write_openscene

MASK = np.array([True, False, True, True, False])
FEATURES = np.arange(6, dtype=np.float16).reshape(3, 2)


def some(**changes: Any) -> PointFeatures:
    parts: dict[str, Any] = {
        "features": FEATURES,
        "mask": MASK,
        "teacher": "lseg",
        "scene": "scene0000_00",
        "settings": {"boundary": 10, "occlusion": 0.2},
    }
    return PointFeatures(**{**parts, **changes})


def assert_equal(one: PointFeatures, other: PointFeatures) -> None:
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.mask, other.mask)
    assert (one.teacher, one.scene, dict(one.settings)) == (
        other.teacher,
        other.scene,
        dict(other.settings),
    )
    assert (one.sources is None) == (other.sources is None)
    if one.sources is not None:
        np.testing.assert_array_equal(one.sources, other.sources)


@pytest.mark.parametrize("sources", [None, np.array([1, 0, 2, 3, 0], dtype=np.uint8)])
def test_what_is_saved_is_loaded(tmp_path: Path, sources: Any) -> None:
    features = some(sources=sources)
    features.save(tmp_path / "a.safetensors")
    assert_equal(PointFeatures.load(tmp_path / "a.safetensors"), features)
    features.save(tmp_path / "b.safetensors")
    first, second = ((tmp_path / name).read_bytes() for name in ("a.safetensors", "b.safetensors"))
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_a_scene_that_nobody_saw_survives(tmp_path: Path) -> None:
    features = some(features=np.zeros((0, 2), np.float16), mask=np.zeros(5, bool))
    features.save(tmp_path / "a.safetensors")
    assert_equal(PointFeatures.load(tmp_path / "a.safetensors"), features)
    write_openscene(features, tmp_path / "a.pt")
    assert read_openscene(tmp_path / "a.pt", "lseg", "s").features.shape == (0, 2)


def test_rows_lead_from_points_to_features() -> None:
    assert some().rows().tolist() == [0, -1, 1, 2, -1]
    assert (some().points, some().channels) == (5, 2)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"features": FEATURES.astype(np.float32)}, "float32.*float16"),
        ({"features": FEATURES[0]}, "shape"),
        ({"features": FEATURES[:, :0]}, "no channels"),
        ({"features": FEATURES[:2]}, "2 rows, but the mask marks 3"),
        ({"mask": MASK.astype(np.uint8)}, "bool"),
        ({"mask": MASK[None]}, "bool"),
        ({"features": np.where(FEATURES == 3, np.float16(np.nan), FEATURES)}, "in 1 of 3 rows"),
        ({"features": np.where(FEATURES == 3, np.float16(np.inf), FEATURES)}, "in 1 of 3 rows"),
        ({"sources": np.ones(4, np.uint8)}, "source code for each"),
        ({"sources": np.ones(5, np.int64)}, "source code for each"),
        ({"sources": np.ones(5, np.uint8)}, "contradict"),
    ],
)
def test_parts_that_do_not_fit_are_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SasError, match=f"'lseg' for the scene 'scene0000_00'.*{sentence}"):
        some(**changes)


def test_settings_that_are_not_plain_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    for value in (np.float32(1), float("nan")):
        with pytest.raises(SasError, match="plain JSON"):
            some(settings={"t": value}).save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def described(**changes: Any) -> dict[str, str]:
    content = {"format_version": 1, "teacher": "t", "scene": "s", "settings": {}, **changes}
    return {"sas_point_features": json.dumps(content)}


@pytest.mark.parametrize(
    ("metadata", "tensors", "sentence"),
    [
        ({}, {"features": FEATURES, "mask": MASK}, "no description"),
        ({"sas_point_features": "{"}, {"mask": MASK}, "not valid JSON"),
        ({"sas_point_features": "[]"}, {"mask": MASK}, "not a JSON object"),
        (described(format_version=2), {"mask": MASK}, "format 2"),
        (described(format_version=True), {"mask": MASK}, "format True"),
        (described(teacher=3), {"features": FEATURES, "mask": MASK}, "'teacher'"),
        (described(), {"mask": MASK}, "lacks the tensor features"),
        (described(), {"features": FEATURES[:1], "mask": MASK}, "damaged.*mask marks 3"),
    ],
)
def test_a_wrong_file_is_a_sentence(
    tmp_path: Path, metadata: dict[str, str], tensors: dict[str, Any], sentence: str
) -> None:
    path = tmp_path / "wrong.safetensors"
    save_file(tensors, path, metadata)
    with pytest.raises(SasError, match=f"wrong.safetensors.*{sentence}"):
        PointFeatures.load(path)


def test_a_missing_or_cut_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(SasError, match="no point features at"):
        PointFeatures.load(path)
    some().save(path)
    whole = path.read_bytes()
    for length in (0, 5, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(SasError, match="cut off"):
            PointFeatures.load(path)


def test_openscenes_two_keys_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "scene0000_00_0.pt"
    write_openscene(some(), path)
    content = torch.load(path, weights_only=True)
    assert sorted(content) == ["feat", "mask_full"]
    assert content["feat"].dtype == torch.float16 and content["mask_full"].dtype == torch.bool
    found = read_openscene(path, "lseg", "scene0000_00")
    assert_equal(found, some(settings={"read_from": "openscene"}))


@pytest.mark.parametrize(
    ("chunk", "seen"),
    [
        ([True] * 5, [0, 1, 2]),
        ([False, True, True, True, False], [1, 2]),
        ([False] * 5, []),
    ],
    ids=["whole", "chunk", "empty"],
)
def test_openscenes_three_keys_are_written_and_read(
    tmp_path: Path, chunk: list[bool], seen: list[int]
) -> None:
    path = tmp_path / "scene0000_00_0.pt"
    write_openscene(some(), path, np.array(chunk))
    content = torch.load(path, weights_only=True)
    assert sorted(content) == ["feat", "mask", "mask_full"]
    assert content["feat"].dtype == torch.float16 and content["mask"].dtype == torch.int64
    assert content["mask_full"].tolist() == chunk and len(content["feat"]) == sum(chunk)
    # As OpenScene reads it: a row for each point of the chunk, `mask` marks those that count.
    there = torch.zeros(len(content["feat"]), dtype=torch.bool)
    there[content["mask"]] = True
    np.testing.assert_array_equal(content["feat"][there], FEATURES[seen])
    assert not content["feat"][~there].any()
    mask = MASK & np.array(chunk)
    found = read_openscene(path, "lseg", "scene0000_00")
    wanted = some(features=FEATURES[seen], mask=mask, settings={"read_from": "openscene"})
    assert_equal(found, wanted)


def test_a_chunk_of_other_points_is_a_sentence(tmp_path: Path) -> None:
    for chunk in (np.ones(4, bool), np.ones(5, np.uint8)):
        with pytest.raises(SasError, match="each of the 5 points"):
            write_openscene(some(), tmp_path / "a.pt", chunk)
    assert not list(tmp_path.iterdir())


SEEN = [True, False, True]
"""Which of the three points that MASK marks were seen."""


@pytest.mark.parametrize(
    ("feat", "mask"),
    [
        (FEATURES, torch.tensor(SEEN)),
        (FEATURES, torch.tensor([0, 2])),
        (FEATURES, np.array([0, 2])),
        (FEATURES[[0, 2]], torch.tensor(SEEN)),
    ],
    ids=["bool", "indices", "numpy", "only the seen rows"],
)
def test_openscenes_three_keys_are_read(tmp_path: Path, feat: Any, mask: Any) -> None:
    path = tmp_path / "old.pt"
    content = {"feat": torch.from_numpy(feat), "mask": mask, "mask_full": torch.from_numpy(MASK)}
    torch.save(content, path)
    found = read_openscene(path, "lseg", "scene0000_00")
    assert found.mask.tolist() == [True, False, False, True, False]
    np.testing.assert_array_equal(found.features, FEATURES[[0, 2]])


def test_arrays_of_numpy_are_read_without_running_numpys_own_code(tmp_path: Path) -> None:
    path = tmp_path / "numpy.pt"
    wide = np.asfortranarray(FEATURES.astype(np.float32))
    torch.save({"feat": wide, "mask_full": MASK}, path)
    found = read_openscene(path, "lseg", "scene0000_00")
    np.testing.assert_array_equal(found.features, FEATURES)
    np.testing.assert_array_equal(found.mask, MASK)


class Trap:
    """Runs code when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    path, sprung = tmp_path / "trap.pt", tmp_path / "sprung"
    content = {"feat": Trap(sprung), "mask_full": torch.from_numpy(MASK)}
    for write in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))):
        write(content, path)
        with pytest.raises(SasError, match="nothing of it was run"):
            read_openscene(path, "a", "b")
    objects = {"feat": np.array([Trap(sprung)], dtype=object), "mask_full": MASK}
    torch.save(objects, path)
    with pytest.raises(SasError, match="nothing of it was run"):
        read_openscene(path, "a", "b")
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1, 2], "wanted is a dict"),
        ({"feat": torch.zeros(3, 2)}, "wanted is a dict"),
        ({"feat": torch.zeros(3), "mask_full": torch.tensor(MASK)}, "matrix"),
        ({"feat": torch.zeros(3, 2).long(), "mask_full": torch.tensor(MASK)}, "matrix"),
        ({"feat": torch.zeros(3, 2), "mask_full": torch.arange(5)}, "true and false"),
        ({"feat": "x", "mask_full": torch.tensor(MASK)}, "plain array"),
        ({"feat": torch.zeros(2, 2), "mask_full": torch.tensor(MASK)}, "damaged.*mask marks 3"),
        ({"feat": torch.full((3, 2), 1e6), "mask_full": torch.tensor(MASK)}, "damaged.*finite"),
        (
            {
                "feat": torch.zeros(3, 2),
                "mask": torch.tensor([0, 3]),
                "mask_full": torch.tensor(MASK),
            },
            "does not fit the 3 points",
        ),
        (
            {
                "feat": torch.zeros(4, 2),
                "mask": torch.tensor(SEEN),
                "mask_full": torch.tensor(MASK),
            },
            "has 4 rows",
        ),
    ],
)
def test_a_wrong_openscene_file_is_a_sentence(tmp_path: Path, content: Any, sentence: str) -> None:
    path = tmp_path / "wrong.pt"
    torch.save(content, path)
    with pytest.raises(SasError, match=sentence):
        read_openscene(path, "a", "b")


def test_a_missing_or_cut_openscene_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with pytest.raises(SasError, match="no point features at"):
        read_openscene(path, "a", "b")
    write_openscene(some(), path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SasError, match="cut off"):
        read_openscene(path, "a", "b")
