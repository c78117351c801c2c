"""Label sets: the facts of the data sets, and files that hold something else."""

from __future__ import annotations

import csv
import io
import site
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_training.evaluation.label_files import load_label_set, read_label_set
from sas_training.evaluation.labels import (
    LABEL_SETS,
    MATTERPORT21,
    MATTERPORT40,
    MATTERPORT80,
    MATTERPORT160,
    NUSCENES16,
    NUSCENES43,
    SCANNET20,
    STUFF,
)

# Copied by hand from the data sets' documentation: NYU40 -> ScanNet-20, nuScenes lidarseg -> 16.
NYU40_OF_SCANNET = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39]
CLASS_OF_LIDARSEG = {
    2: 6, 3: 6, 4: 6, 6: 6, 9: 0, 12: 7, 14: 1, 15: 2, 16: 2, 17: 3, 18: 4, 21: 5, 22: 8, 23: 9,
    24: 10, 25: 11, 26: 12, 27: 13, 28: 14, 30: 15,
}  # fmt: skip
CLASS_OF_43 = (
    [0] * 2 + [1, 2, 3] + [4] * 5 + [5] + [6] * 2 + [7] + [8] * 5 + [9, 10] + [11] * 3 + [12]
    + [13] * 6 + [14] * 4 + [15] * 8
)  # fmt: skip


def test_sizes_and_names() -> None:
    sizes = {name: len(labels) for name, labels in LABEL_SETS.items()}
    assert sizes == {
        "scannet20": 20,
        "matterport21": 21,
        "matterport40": 40,
        "matterport80": 80,
        "matterport160": 160,
        "nuscenes16": 16,
    }
    for labels in (*LABEL_SETS.values(), NUSCENES43):
        count = len(labels)
        assert labels.ids == tuple(range(count)) and labels.ignore_id == 255
        assert len(set(labels.names)) == len(labels.colors) == len(labels.prompts) == count
        assert len(labels.prompt_names) == count
        assert [labels.id_of(name) for name in labels.names] == list(labels.ids)


def test_nyu40_becomes_scannet_and_matterport() -> None:
    scannet, matterport = SCANNET20.raw_table(), MATTERPORT21.raw_table()
    assert [scannet[k] for k in NYU40_OF_SCANNET] == list(range(20))
    assert np.count_nonzero(scannet != 255) == 20 and scannet[0] == scannet[22] == 255
    np.testing.assert_array_equal(np.delete(matterport, 22), np.delete(scannet, 22))
    assert matterport[22] == 20 == MATTERPORT21.id_of("ceiling")
    for labels in (SCANNET20, MATTERPORT21):
        table = [labels.from_nyu40(number) for number in range(256)]
        np.testing.assert_array_equal(labels.raw_table(), table)
        known = {number for raw in labels.raw_ids for number in raw} | set(labels.ignored_ids)
        assert known == set(range(1, 41))
    assert SCANNET20.from_category("refridgerator") == SCANNET20.id_of("refrigerator") == 14
    assert SCANNET20.from_category("whiteboard") == 255 and "whiteboard" in SCANNET20.ignored


def test_prompts_of_rooms() -> None:
    for labels, other in ((SCANNET20, "otherfurniture"), (MATTERPORT21, "other")):
        for name, prompts in zip(labels.names, labels.prompts, strict=True):
            assert prompts == (("other",) if name == other else (f"a {name} in a scene",))
    assert MATTERPORT21.id_of("other") == 19
    for labels in (MATTERPORT40, MATTERPORT80, MATTERPORT160):
        # The released evaluation puts "other" in the place of the last class but one.
        assert labels.prompts == tuple((f"a {name} in a scene",) for name in labels.names)
        assert labels.names == MATTERPORT160.names[: len(labels)]
    last = [labels.names[-2] for labels in (MATTERPORT40, MATTERPORT80, MATTERPORT160)]
    assert last == ["air vent", "headboard", "person"]


def test_categories_of_matterport() -> None:
    assert MATTERPORT160.from_category("refridgerator") == 49
    assert MATTERPORT40.from_category("refridgerator") == 255
    assert "refridgerator" in MATTERPORT40.ignored
    assert [labels.from_category("faucet") for labels in (MATTERPORT40, MATTERPORT80)] == [39, 39]
    for name in ("void", "unknown", "", "Wall"):
        assert MATTERPORT160.from_category(name) == 255
    with pytest.raises(SasError, match="category table"):
        MATTERPORT80.raw_table()


def test_lidarseg_becomes_16_classes_and_43_names_do() -> None:
    table = NUSCENES16.raw_table()
    assert {k: int(v) for k, v in enumerate(table) if v != 255} == CLASS_OF_LIDARSEG
    known = {number for raw in NUSCENES16.raw_ids for number in raw} | set(NUSCENES16.ignored_ids)
    assert known == set(range(32))
    assert NUSCENES16.from_category("vehicle.construction") == NUSCENES16.id_of(
        "construction vehicle"
    )
    assert NUSCENES16.from_category("vehicle.ego") == 255
    of_word = [k for k, group in enumerate(NUSCENES16.prompt_names) for _ in group]
    assert of_word == CLASS_OF_43
    assert NUSCENES43.names[:7] == (
        "barrier", "barricade", "bicycle", "bus", "car", "bulldozer", "excavator",
    )  # fmt: skip
    assert NUSCENES43.names[-1] == "woods" and len(NUSCENES43) == 43
    assert {"wall", "road", "drivable surface"} <= STUFF
    for word, k in zip(range(43), CLASS_OF_43, strict=True):
        assert NUSCENES43.colors[word] == NUSCENES16.colors[k]


def test_a_set_that_is_not_there() -> None:
    with pytest.raises(SasError, match=r"'scannet200' is not installed; looked in .*labels"):
        load_label_set("scannet200")


def test_installed_for_one_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "share" / "sas_ros" / "config" / "labels"
    folder.mkdir(parents=True)
    (folder / "mine.csv").write_text(f"{HEAD}\n0,a,a,#000000,1 a\n")
    monkeypatch.setattr(site, "getuserbase", lambda: str(tmp_path))
    assert load_label_set("mine").names == ("a",)


# ---------------------------------------------------------------- files
HEAD = "id,name,prompt_names,color,lidarseg"


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "some.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_file_becomes_a_set(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "# a comment",
        HEAD,
        "",
        "0,thing,one;two,#0102ff,3 a.b;7 c d",
        "1,rest,=other,#000000,0 zero",
        ",ignored,,,1 e;2 f",
    )
    labels = read_label_set(path)
    assert labels.name == "some" and labels.scheme == "lidarseg"
    assert labels.names == ("thing", "rest") and labels.colors == ((1, 2, 255), (0, 0, 0))
    assert labels.prompt_names == (("one", "two"), ("other",))
    assert labels.prompts == (("a one in a scene", "a two in a scene"), ("other",))
    assert labels.categories == (("a.b", "c d"), ("zero",)) and labels.raw_ids == ((3, 7), (0,))
    assert labels.ignored == ("e", "f") and labels.ignored_ids == (1, 2)
    assert labels.nyu40_ids == ()
    first = labels.first(1, "less")
    assert first.names == ("thing",) and first.ignored == ("zero", "e", "f")
    assert first.ignored_ids == (0, 1, 2) and first.raw_table()[0] == 255


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "must begin with the line id,name"),
        (["id,name,prompt_names,color,other"], "must begin with the line id,name"),
        ([HEAD], "holds no class"),
        ([HEAD, "0,a,a,#000000"], "Line 2 of .*4 cells, not 5"),
        ([HEAD, "1,a,a,#000000,1 a"], "Line 2 of .*id must be 0, not '1'"),
        ([HEAD, "0,a,a,black,1 a"], "colour is written like"),
        ([HEAD, "0,a,a;,#000000,1 a"], "prompt name '' is empty"),
        ([HEAD, "0,a,=,#000000,1 a"], "prompt name '=' is empty"),
        ([HEAD, "0,,a,#000000,1 a"], "name '' is empty"),
        ([HEAD, "0,a,a,#000000,a"], "'a' must begin with a number"),
        ([HEAD, "0,a,a,#000000,256 a"], "'256 a' must begin with a number"),
        ([HEAD, "0,a,a,#000000,1 a;1 b"], "number '1' is there twice"),
        ([HEAD, "0,a,a,#000000,1 a;2 A"], "category 'A' is there twice"),
        ([HEAD, "0,a,a,#000000,1 a", "1,A,b,#000000,2 b"], "Line 3 of .*name 'A' is there twice"),
        ([HEAD, "0,a,a,#000000,1 a", "1,b,a,#000000,2 b"], "prompt name 'a' is there twice"),
        (["id,name,prompt_names,color,nyu40", "0,a,a,#000000,1 a;2 b"], "one class of NYU40"),
    ],
)
def test_a_wrong_file_is_a_sentence(tmp_path: Path, lines: list[str], sentence: str) -> None:
    with pytest.raises(SasError, match=sentence):
        read_label_set(write(tmp_path, *lines))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SasError, match="UTF-8"):
        read_label_set(tmp_path / "a.csv")


cells = st.text(alphabet="ab;=# 01,\"'", max_size=6)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(rows=st.lists(st.lists(cells, min_size=4, max_size=6), max_size=4))
def test_any_text_is_a_set_or_a_sentence(
    rows: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([HEAD.split(","), *rows])
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(text.getvalue(), encoding="utf-8")
    try:
        labels = read_label_set(path)
    except SasError:
        return
    assert len(labels) == len(labels.prompts) == len(labels.categories) > 0
