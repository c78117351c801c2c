"""The published protocols: prompts, features without a student, 2D-only rules, `.pth` scans."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from encoders import HashEncoder
from made_scenes import make_matterport, save_mesh
from students import untrained_student

from sas_ros.errors import SasError
from sas_ros.language.available import MINILM, encoder_available
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.scans import write_ply
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_training.cli import main
from sas_training.distill.feature_scenes import FeatureScenes
from sas_training.evaluation.feature_predictions import best_words, expand_features, paired
from sas_training.evaluation.foreign import annotated_scene, read_names, scans_of
from sas_training.evaluation.given import GivenScans
from sas_training.evaluation.labelled import read_objects
from sas_training.evaluation.labels import LABEL_SETS, NUSCENES16, SCANNET20, LabelSet
from sas_training.evaluation.protocol import (
    MINILM_WIDTH,
    embedded_prompts,
    embedded_with,
    prompts_of,
)
from sas_training.evaluation.scoring import classes_of_words, expand, words_without_class
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.openscene import write_openscene
from sas_training.scenes.reading import Scenes, numbered
from sas_training.scenes.scene import Scene

WIDTH = 16
POINTS = 700


# ---------------------------------------------------------------- prompts
def test_prompts_are_those_of_the_published_evaluation() -> None:
    for name, count in (("scannet20", 20), ("matterport160", 160), ("nuscenes16", 43)):
        labels = LABEL_SETS[name]
        words, to_class = prompts_of(labels)
        assert len(words.names) == len(words.texts) == len(to_class) == count
        assert words.texts == tuple((text,) for group in labels.prompts for text in group)
    words, to_class = prompts_of(NUSCENES16)
    assert words.names[:3] == ("barrier", "barricade", "bicycle")
    assert to_class.tolist()[:12] == [0, 0, 1, 2, 3, 4, 4, 4, 4, 4, 5, 6]
    assert prompts_of(SCANNET20)[0].names == SCANNET20.names


def test_an_encoder_embeds_the_whole_prompt() -> None:
    encoder = HashEncoder(WIDTH)
    for labels in (SCANNET20, NUSCENES16):
        words = embedded_with(labels, encoder, WIDTH)
        texts = [text for group in labels.prompts for text in group]
        np.testing.assert_allclose(words.vocabulary.embeddings, encoder.encode(texts), atol=1e-6)
        assert words.source == "computed with hash"
    with pytest.raises(SasError, match="16 numbers"):
        embedded_with(SCANNET20, encoder, WIDTH + 1)


def write_embeddings(path: Path, labels: LabelSet, *, prompt_names: bool = False) -> Path:
    """Rows for the prompts of a set, in another order than theirs and of any length."""
    names = prompts_of(labels)[0].names
    if prompt_names:
        names = tuple(word for group in labels.prompt_names for word in group)
    rows = 3 * HashEncoder(WIDTH).encode(names)
    np.savez(path, names=np.array(names[::-1]), embeddings=rows[::-1])
    return path


def test_embeddings_of_a_file_go_by_class_or_prompt_name(tmp_path: Path) -> None:
    by_class = write_embeddings(tmp_path / "a.npz", SCANNET20)
    by_prompt = write_embeddings(tmp_path / "b.npz", SCANNET20, prompt_names=True)
    first = embedded_prompts(SCANNET20, WIDTH, embeddings=by_class)
    second = embedded_prompts(SCANNET20, WIDTH, embeddings=by_prompt)
    encoder = HashEncoder(WIDTH)
    np.testing.assert_allclose(
        first.vocabulary.embeddings, encoder.encode(SCANNET20.names), atol=1e-6
    )
    np.testing.assert_array_equal(
        first.vocabulary.embeddings[:19], second.vocabulary.embeddings[:19]
    )
    np.testing.assert_allclose(
        second.vocabulary.embeddings[19:], encoder.encode(["other"]), atol=1e-6
    )
    assert first.source == "read from a.npz"
    with pytest.raises(SasError, match="16 numbers, but the features have 512"):
        embedded_prompts(SCANNET20, 512, embeddings=by_class)
    with pytest.raises(SasError, match="lack other, ceiling"):
        embedded_prompts(LABEL_SETS["matterport21"], WIDTH, embeddings=by_class)


def test_features_of_no_known_width_need_an_encoder() -> None:
    with pytest.raises(SasError, match="16 numbers belong to no text encoder"):
        embedded_prompts(SCANNET20, WIDTH)
    with pytest.raises(SasError, match=r"no text encoder \"nobody\""):
        embedded_prompts(SCANNET20, WIDTH, encoder="nobody")


# ---------------------------------------------------------------- features without a student
def scene(labels: LabelSet, seed: int) -> dict[str, npt.NDArray[Any]]:
    """Points with classes, and features near the prompts of the classes for three in four."""
    rng = np.random.default_rng(seed)
    words, to_class = prompts_of(labels)
    truth = rng.integers(0, len(labels) - 1, POINTS)  # the last class is absent
    rows = HashEncoder(WIDTH).encode(words.names).astype(np.float64)
    said = np.array([rng.choice(np.flatnonzero(to_class == k)) for k in truth])
    features = rows[said] + rng.normal(scale=0.35, size=(POINTS, WIDTH))
    features *= rng.uniform(0.1, 2.0, (POINTS, 1))  # of any length
    truth[rng.random(POINTS) < 0.1] = 255
    return {
        "points": rng.uniform(0, 4, (POINTS, 3)).astype(np.float32),
        "labels": truth,
        "mask": rng.random(POINTS) < 0.75,
        "features": features.astype(np.float16),
    }


def naive(
    scenes: list[dict[str, npt.NDArray[Any]]], labels: LabelSet, rule: str
) -> tuple[float, float, float]:
    """mIoU over all classes, over those present, and mAcc, float64, straight from the method
    reference: sections 7.2, 7.3."""
    words, to_class = prompts_of(labels)
    rows = HashEncoder(WIDTH).encode(words.names).astype(np.float32).astype(np.float64)
    hit, said, real, missed = np.zeros((4, len(labels)))
    for one in scenes:
        scores = one["features"].astype(np.float64) @ rows.T
        predicted = np.array([to_class[int(np.argmax(row))] for row in scores])
        seen = np.flatnonzero(one["mask"])
        for number, truth in enumerate(one["labels"]):
            if truth == 255:
                continue
            real[truth] += 1
            if not one["mask"][number]:
                if rule == "wrong":
                    missed[truth] += 1
                if rule != "nearest":
                    continue
                away = np.linalg.norm(
                    one["points"][seen].astype(np.float64) - one["points"][number], axis=1
                )
                answer = predicted[seen[int(np.argmin(away))]]
            else:
                answer = predicted[number]
            said[answer] += 1
            if answer == truth:
                hit[truth] += 1
            else:
                missed[truth] += 1
    union = said + missed
    iou = np.divide(hit, union, out=np.zeros(len(labels)), where=union > 0)
    accuracy = np.divide(hit, real, out=np.zeros(len(labels)), where=real > 0)
    return float(iou.mean()), float(iou[real > 0].mean()), float(accuracy[real > 0].mean())


def write_scene(folder: Path, name: str, one: dict[str, npt.NDArray[Any]], suffix: str) -> None:
    (folder / "scans").mkdir(parents=True, exist_ok=True)
    np.savez(folder / "scans" / f"{name}.npz", points=one["points"], labels=one["labels"])
    rows = PointFeatures(one["features"][one["mask"]], one["mask"], "lseg", name, {"views": 7})
    (folder / "features").mkdir(exist_ok=True)
    path = folder / "features" / f"{name}{suffix}"
    if suffix == ".pt":
        write_openscene(rows, path)
    else:
        rows.save(path)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("scannet20", ".safetensors"), ("nuscenes16", ".pt"), ("matterport40", ".safetensors")],
)
def test_point_features_score_as_in_the_equations(
    name: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = LABEL_SETS[name]
    scenes = [scene(labels, seed) for seed in (1, 2)]
    for number, one in enumerate(scenes):
        write_scene(tmp_path, f"s{number}", one, suffix)
    embeddings = write_embeddings(tmp_path / "words.npz", labels)
    command = ["evaluate", str(tmp_path / "scans"), "--features", str(tmp_path / "features")]
    command += ["--labels", name, "--embeddings", str(embeddings), "--json"]
    found = {}
    for rule in ("left-out", "wrong", "nearest"):
        assert main([*command, "--unseen", rule, "--report", str(tmp_path / rule)]) == 0
        result = found[rule] = json.loads(capsys.readouterr().out)
        everywhere, present, accuracy = naive(scenes, labels, rule)
        assert abs(result["miou_all"] - everywhere) < 1e-12
        assert abs(result["miou_present"] - present) < 1e-12
        assert abs(result["macc"] - accuracy) < 1e-12
        unseen = sum(np.count_nonzero(~s["mask"] & (s["labels"] != 255)) for s in scenes)
        assert result["without_prediction"] == (unseen if rule == "left-out" else 0)
        report = json.loads((tmp_path / rule / "report.json").read_text())
        assert report["protocol"]["unseen"] == rule
        assert len(report["subject"]["features_sha256"]) == 2
        assert f"{len(prompts_of(labels)[0].names)} prompts" in report["protocol"]["words"]
    assert found["left-out"]["miou_all"] > 0.4  # the features mean something
    assert len({result["miou_all"] for result in found.values()}) == 3
    assert found["wrong"]["miou_all"] < found["left-out"]["miou_all"]
    assert found["wrong"]["macc"] == found["left-out"]["macc"]
    assert main([word for word in command if word != "--json"]) == 0
    printed = capsys.readouterr().out
    assert "2D features" in printed and "points without prediction" in printed
    if suffix == ".safetensors":
        assert printed.startswith("lseg on 2 scans")


def test_the_best_of_43_names_gives_the_class() -> None:
    """Not the mean of a class's names: a point that is just like one of them belongs to it."""
    words = embedded_with(NUSCENES16, HashEncoder(WIDTH), WIDTH)
    rows = words.vocabulary.embeddings
    np.testing.assert_array_equal(best_words(rows * 0.01, rows), np.arange(43))
    chunks = np.tile(rows, (1000, 1)).astype(np.float16)  # more than are multiplied at once
    np.testing.assert_array_equal(best_words(chunks, rows), np.tile(np.arange(43), 1000))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--features", "{features}/s0.safetensors"], "2 scans and 1 files of features"),
        (["--features", "{features}", "--votes", "4"], "no student runs"),
        (["--features", "{features}", "--points", "0.5"], "no student runs"),
        (["--features", "{scans}"], "holds no .safetensors"),
        (["--features", "{features}", "--labels", "matterport21"], "lack other, ceiling"),
        (["--features", "{features}/s0.safetensors", "{other}"], "call it s1.safetensors"),
        (["--features", "{features}/s0.safetensors", "{few}"], "do not belong together"),
        (["--features", "{features}", "--student", "x", "--up", "0,0,1"], "no --student, --up"),
        (["--features", "{features}", "--memory-budget", "9"], "no --memory-budget"),
        (["--unseen", "wrong"], "--unseen is for --features"),
        (["--embeddings", "{words}"], "--words protocol"),
        (["--words", "protocol", "--queries"], "own words"),
        (["--features", "no-such-file"], "no file or folder"),
    ],
)
def test_what_does_not_fit_is_a_sentence(
    more: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        write_scene(tmp_path, f"s{number}", scene(SCANNET20, number), ".safetensors")
    few = np.zeros((5, WIDTH), np.float16)
    PointFeatures(few, np.ones(5, bool), "a", "b").save(tmp_path / "other.safetensors")
    PointFeatures(few, np.ones(5, bool), "a", "s1").save(tmp_path / "few.safetensors")
    words = write_embeddings(tmp_path / "words.npz", SCANNET20)
    places = {
        "features": tmp_path / "features",
        "scans": tmp_path / "scans",
        "other": tmp_path / "other.safetensors",
        "few": tmp_path / "few.safetensors",
        "words": words,
    }
    filled = [word.format(**places) for word in more]
    command = ["evaluate", str(tmp_path / "scans"), *filled]
    if "--features" in filled:
        command += ["--embeddings", str(words)]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error


def test_features_go_to_the_scan_of_their_name(tmp_path: Path) -> None:
    def features(name: str, scene: str = "") -> Path:
        row = np.zeros((1, 2), np.float16)
        PointFeatures(row, np.ones(1, bool), "lseg", scene or name).save(tmp_path / name)
        return tmp_path / name

    one, ten = features("room1.features.safetensors"), features("room10.safetensors")
    scans = ("a/room10_vert.npy", "a/room1_vert.npy")  # as they are sorted
    assert paired(scans, [one, ten]) == {scans[0]: ten, scans[1]: one}
    renamed = features("b.safetensors", "room10")
    assert paired(scans, [one, renamed]) == {scans[0]: renamed, scans[1]: one}
    parts = [tmp_path / "scene0011_00_0.pt", tmp_path / "scene0011_01_0.pt"]
    names = ("scene0011_01_vh_clean_2.pth", "scene0011_00_vh_clean_2.pth")
    assert paired(names, parts) == {names[0]: parts[1], names[1]: parts[0]}
    numbered = [tmp_path / "hall_1.pt", tmp_path / "hall.pt"]
    assert paired(("hall.npz", "hall_1.npz"), numbered) == {
        "hall.npz": numbered[1],
        "hall_1.npz": numbered[0],
    }
    assert paired(("anything.npz",), [one]) == {"anything.npz": one}
    strange = features("c.safetensors", "elsewhere")
    for wrong in ([one, strange], [one, one], [renamed, ten]):
        with pytest.raises(SasError, match=r"is about a/room\d+_vert"):
            paired(scans, wrong)
    with pytest.raises(SasError, match="more than one"):
        paired(("a/room1.npz", "b/room1.npz"), [one, ten])
    with pytest.raises(SasError, match="given twice"):
        paired(("a/room1.npz", "a/room1.npz"), [one, ten])


def test_what_a_killed_writer_leaves_behind_is_no_scan(tmp_path: Path) -> None:
    for name in ("a.npz", ".a-xyz.partial.npz", "a.safetensors", ".a-xyz.partial.safetensors"):
        (tmp_path / name).write_bytes(b"")
    assert expand([tmp_path]) == [tmp_path / "a.npz"]
    assert expand_features([tmp_path]) == [tmp_path / "a.safetensors"]
    assert numbered(tmp_path, ".npz") == [tmp_path / "a.npz"]
    (tmp_path / "a.npz").unlink()
    with pytest.raises(SasError, match=r"holds no \.npz"):
        expand([tmp_path])
    with pytest.raises(SasError, match="no scenes"):
        FeatureScenes(tmp_path)


# ---------------------------------------------------------------- students
@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ("scannet20", {"otherfurniture": "otherfurniture", "refrigerator": "refrigerator"}),
        ("matterport21", {"otherfurniture": "other", "refrigerator": "refrigerator"}),
        ("matterport160", {"refrigerator": "refridgerator", "Sofa": "sofa", "tv": "television"}),
        ("matterport40", {"night stand": "night stand", "nightstand": "night stand"}),
    ],
)
def test_words_are_classes_under_any_spelling(labels: str, classes: dict[str, str]) -> None:
    segmenter = Segmenter(bundle_with((*classes, "unicorn")), device="cpu")
    label_set = LABEL_SETS[labels]
    numbers = classes_of_words(segmenter, labels)
    assert [label_set.names[number] for number in numbers[:-1]] == list(classes.values())
    assert numbers[-1] == -1 and words_without_class(segmenter, labels) == ("unicorn",)


def test_the_words_of_scannet_in_the_sets_of_matterport() -> None:
    segmenter = Segmenter(bundle_with(SCANNET20.names), device="cpu")
    assert words_without_class(segmenter, "matterport21") == ()
    assert words_without_class(segmenter, "matterport160") == ("otherfurniture",)
    assert words_without_class(segmenter, "matterport40") == (
        *("bookshelf", "refrigerator", "shower curtain", "otherfurniture"),
    )


def bundle_with(names: tuple[str, ...]) -> StudentBundle:
    bundle = untrained_student(dim=WIDTH)
    embeddings = HashEncoder(WIDTH).encode(names)
    vocabulary = Vocabulary(
        names, embeddings, (False,) * len(names), np.zeros((len(names), 3), np.uint8)
    )
    return replace(bundle, vocabulary=vocabulary)


def test_a_students_finer_words_count_for_their_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """43 words of streets in the bundle, or the same as the protocol's prompts: the same score."""
    names = prompts_of(NUSCENES16)[0].names
    bundle_with(names).save(tmp_path / "own.safetensors")
    bundle_with(("house",)).save(tmp_path / "other.safetensors")
    embeddings = write_embeddings(tmp_path / "words.npz", NUSCENES16)
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 3, (3000, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", points=points, labels=rng.integers(0, 16, 3000))
    command = ["evaluate", str(tmp_path / "a.npz"), "--labels", "nuscenes16", "--json", "--student"]
    assert main([*command, str(tmp_path / "own.safetensors")]) == 0
    own = json.loads(capsys.readouterr().out)
    protocol = ["--words", "protocol", "--embeddings", str(embeddings)]
    assert main([*command, str(tmp_path / "other.safetensors"), *protocol]) == 0
    prompts = json.loads(capsys.readouterr().out)
    assert own["per_class"] == prompts["per_class"] and own["accuracy"] > 0
    assert own["protocol"]["words_without_class"] == []
    bundle_with((*names, "house", "moon")).save(tmp_path / "more.safetensors")
    assert main([*command[:-2], "--student", str(tmp_path / "more.safetensors")]) == 0
    assert "no class of nuscenes16: house, moon" in capsys.readouterr().out
    assert prompts["protocol"]["words"] == "43 prompts of the label set, read from words.npz"
    assert main([*command, str(tmp_path / "other.safetensors")]) == 2
    assert "knows no word" in capsys.readouterr().err


# ---------------------------------------------------------------- data sets of others
def some_scene(name: str, ids: list[int], label_set: str) -> Scene:
    points = np.random.default_rng(len(name)).uniform(0, 2, (len(ids), 3)).astype(np.float32)
    labels = np.array(ids, dtype=np.int64)
    return Scene(name, points, labels=labels if label_set else None, label_set=label_set)


@pytest.mark.parametrize(
    ("label_set", "name", "ids", "wanted"),
    [
        ("nyu40", "scannet20", [1, 39, 24, 13, 22, 255, 0], [0, 19, 14, 255, 255, 255, 255]),
        ("nyu40", "matterport21", [1, 39, 24, 13, 22, 255, 0], [0, 19, 14, 255, 20, 255, 255]),
        ("nuscenes32", "nuscenes16", [0, 2, 9, 24, 30, 31, 255], [255, 6, 0, 10, 15, 255, 255]),
        ("scannet20", "scannet20", [0, 19, 255], [0, 19, 255]),
    ],
)
def test_labels_of_a_data_set_become_classes(
    label_set: str, name: str, ids: list[int], wanted: list[int]
) -> None:
    scene = some_scene("a", ids, label_set)
    scan = annotated_scene(scene, LABEL_SETS[name])
    assert scan.labels.tolist() == wanted
    assert scan.points is scene.points


@pytest.mark.parametrize(
    ("label_set", "name"),
    [("nyu40", "nuscenes16"), ("nyu40", "matterport40"), ("nuscenes32", "scannet20"), ("x", "y")],
)
def test_classes_that_do_not_follow_are_a_sentence(label_set: str, name: str) -> None:
    labels = LABEL_SETS.get(name, SCANNET20)
    with pytest.raises(SasError, match="do not follow"):
        annotated_scene(some_scene("a", [1, 2], label_set), labels)
    with pytest.raises(SasError, match="has no labels"):
        annotated_scene(some_scene("a", [1, 2], ""), labels)


def test_every_set_of_matterport_follows_from_its_category_table(tmp_path: Path) -> None:
    house = make_matterport(tmp_path)
    faces = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    columns = {"material_id": [0] * 3, "segment_id": [0, 1, 2], "category_id": [1, 2, 3]}
    save_mesh(house / "region_segmentations" / "region0.ply", faces, columns)
    rows = ["index\tnyu40id\tnyuClass", "1\t1\twall", "2\t17\tdresser", "3\t22\tceiling"]
    (tmp_path / "category_mapping.tsv").write_text("\n".join(rows))
    wanted = {"matterport21": (0, 255, 20), "matterport40": (0, 255, 2), "scannet20": (0, 255, 255)}
    wanted["matterport160"] = (0, LABEL_SETS["matterport160"].id_of("dresser"), 2)
    for name, classes in wanted.items():
        given = GivenScans.of_scenes("matterport", tmp_path, LABEL_SETS[name], None)
        ((_, scan),) = given.scans()
        assert scan.labels[[0, 3, 6]].tolist() == list(classes), name


def test_classes_beyond_those_of_the_set_are_a_sentence() -> None:
    with pytest.raises(SasError, match="the class 21, but matterport21 has classes 0 to 20"):
        annotated_scene(some_scene("a", [0, 21, 255], "matterport21"), LABEL_SETS["matterport21"])


def test_scenes_are_read_one_by_one_and_by_name() -> None:
    read: list[int] = []

    def reader(number: int) -> Scene:
        read.append(number)
        return some_scene("abc"[number], [1, 2], "nyu40")

    scenes = Scenes(("a", "b", "c"), reader)
    scans = scans_of(scenes, SCANNET20, ("c", "a"))
    assert read == []
    assert [name for name, _ in scans] == ["c", "a"] and read == [2, 0]
    assert [name for name, _ in scans_of(scenes, SCANNET20)] == ["a", "b", "c"]
    with pytest.raises(SasError, match="no scene 'd'"):
        list(scans_of(scenes, SCANNET20, ["d"]))


def test_a_list_of_scenes(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text("scene0011_00\n\n scene0011_01 \nscene0011_00\n")
    assert read_names(path) == ("scene0011_00", "scene0011_01")
    path.write_text("\n")
    with pytest.raises(SasError, match="is empty"):
        read_names(path)
    with pytest.raises(SasError, match="cannot be read"):
        read_names(tmp_path / "none.txt")


def test_scannet_as_it_is_downloaded_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for name in ("scene0042_00", "scene0043_00"):
        points = rng.uniform(0, 2, (400, 3)).astype(np.float32)
        folder = tmp_path / "scans" / name
        for part in ("color", "intrinsic"):
            (folder / part).mkdir(parents=True)
        for camera in ("color", "depth"):
            np.savetxt(folder / "intrinsic" / f"intrinsic_{camera}.txt", np.eye(4))
        write_ply(folder / f"{name}_vh_clean_2.ply", points)
        ids = np.where(np.arange(400) < 300, 2, 13).astype(np.uint16)
        write_ply(folder / f"{name}_vh_clean_2.labels.ply", points, label=ids)
    untrained_student().save(tmp_path / "a.safetensors")
    listed = tmp_path / "val.txt"
    listed.write_text("scene0043_00\n")
    command = ["evaluate", str(tmp_path), "--scenes", "scannet", "--json"]
    command += ["--student", str(tmp_path / "a.safetensors")]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["files"] == ["scene0042_00", "scene0043_00"]
    assert result["points"] == 600 == result["per_class"]["floor"]["points"]
    assert result["protocol"]["scenes"] == "scannet"
    assert main([*command, "--list", str(listed)]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["scene0043_00"]
    assert main([*command, "--queries"]) == 2
    assert "read files" in capsys.readouterr().err
    assert main([*command, "--labels", "matterport40"]) == 2
    assert "do not follow" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path), str(tmp_path), "--scenes", "scannet"]) == 2
    assert "one folder" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path), "--list", str(listed)]) == 2
    assert "--scenes" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path), "--scenes", "kitti"]) == 2
    assert "no kind of scenes" in capsys.readouterr().err


# ---------------------------------------------------------------- OpenScene's scans
def test_openscene_scans_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-3, 3, (50, 3))
    colors = rng.uniform(-1, 1, (50, 3)).astype(np.float32)
    ids = rng.integers(0, 20, 50)
    ids[:5], ids[5:8] = 255, -100
    wanted = np.where(np.arange(50) < 8, 255, ids)
    for name, content in {
        "room_vh_clean_2.pth": (points, colors, ids.astype(np.float64)),
        "region.pth": (torch.tensor(points), torch.tensor(colors), torch.tensor(ids)),
        "street.pth": (points.astype(np.float32), 0, ids.astype(np.int16)),
    }.items():
        torch.save(content, tmp_path / name)
        scan = read_objects(tmp_path / name, SCANNET20)
        np.testing.assert_array_equal(scan.points, points.astype(np.float32))
        np.testing.assert_array_equal(scan.labels, wanted)
        if name == "street.pth":
            assert scan.colors is None
            continue
        assert scan.colors is not None
        np.testing.assert_allclose(scan.colors / 127.5 - 1, colors, atol=0.5 / 127.5 + 1e-6)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"a": 1}, "wanted is a tuple"),
        ((np.zeros((3, 3)), 0), "wanted is a tuple"),
        ((np.zeros((3, 3)), 0, np.array([0, 20, 255])), "class 20, but scannet20 has classes 0"),
        ((np.zeros((3, 3)), 0, np.zeros(4)), "4 labels"),
        ((np.zeros((3, 3)), np.zeros((2, 3)), np.zeros(3)), "colours"),
        ((np.zeros((3, 2)), 0, np.zeros(3)), "points"),
        (("x", 0, np.zeros(3)), "plain array"),
    ],
)
def test_a_wrong_openscene_scan_is_a_sentence(content: Any, sentence: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(SasError, match=sentence):
        read_objects(tmp_path / "a.pth", SCANNET20)


def test_nothing_in_an_openscene_scan_is_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save((np.zeros((3, 3)), Trap(), np.zeros(3)), tmp_path / "a.pth")
    with pytest.raises(SasError, match="nothing of it was run"):
        read_objects(tmp_path / "a.pth", SCANNET20)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.slow
def test_the_students_encoder_embeds_the_prompts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if encoder_available(MINILM) is not None:
        pytest.skip("the MiniLM encoder is not installed")
    bundle = replace(untrained_student(dim=MINILM_WIDTH), text_encoder=MINILM)
    bundle.save(tmp_path / "a.safetensors")
    points = np.random.default_rng(0).uniform(0, 2, (2000, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", points=points, labels=np.arange(2000) % 20)
    command = ["evaluate", str(tmp_path / "a.npz"), "--student", str(tmp_path / "a.safetensors")]
    assert main([*command, "--words", "protocol", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["protocol"]["words"] == f"20 prompts of the label set, computed with {MINILM}"
