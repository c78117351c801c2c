"""`sas fuse`: what teachers say about images and points, and how right that is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_scenes import SIZE, make_seven_scenes
from PIL import Image

from sas_ros.errors import SasError
from sas_ros.language.encoder import load_encoder
from sas_ros.language.vocabulary import Vocabulary
from sas_training.cli import main
from sas_training.evaluation.label_files import load_label_set
from sas_training.experiment.network import SmallNetwork
from sas_training.experiment.teachers import TeacherFacts, load_small_teacher, save_teacher
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.openscene import write_openscene
from sas_training.fusion.projection import Places, ProjectionSettings, seen
from sas_training.learn.asked_words import AskedWords, Tally, read_numbers
from sas_training.learn.lifted_labels import lifted_labels
from sas_training.learn.settings import load_settings
from sas_training.scenes.fusing import projection_of
from sas_training.scenes.kinds import open_scenes
from sas_training.scenes.scene import Scene
from sas_training.teachers import LabelledMask, reference_plugin
from sas_training.teachers.images import read_image
from sas_training.teachers.showing import draw_key, draw_words, write_on_masks

pytest.importorskip("transformers", reason="the text encoder needs the extra [text]")

CONFIG = """
[[teachers]]
name = "small"
title = "dense"
weights = "dense.safetensors"
[[teachers]]
name = "small"
title = "regions"
weights = "regions.safetensors"
"""
WORDS = ("wall", "picture", "window")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with labels of pixels, two untrained teachers and a configuration."""
    folder = tmp_path_factory.mktemp("fuse")
    make_seven_scenes(folder / "seq-01")
    rng = np.random.default_rng(0)
    for image in sorted((folder / "seq-01").glob("*.color.*")):
        numbers = rng.choice(np.array([0, 7, 9, 200], np.uint8), SIZE[::-1])
        stem = image.name.split(".")[0]
        Image.fromarray(numbers).save(image.with_name(f"{stem}.segm.png"))
    teachers(folder)
    (folder / "words.txt").write_text("\n".join(WORDS))
    (folder / "numbers.txt").write_text("7 = wall\n9 = window  # 0 and 200 are not scored\n")
    return folder


def teachers(folder: Path) -> None:
    """Two untrained ones and a configuration."""
    torch.manual_seed(0)
    dense = TeacherFacts("dense", "pixels", (), "minilm-l6-v2", 4, 1, 384)
    save_teacher(folder / "dense.safetensors", SmallNetwork(4, 384), dense)
    regions = TeacherFacts("regions", "masks", WORDS, "", 4, 1, 3)
    save_teacher(folder / "regions.safetensors", SmallNetwork(4, 3), regions)
    (folder / "learn.toml").write_text(CONFIG)


def fused(place: Path, what: Path, kind: str, run: Path, *more: str) -> dict[str, Any]:
    command = ["fuse", str(what), "--kind", kind, "--config", str(place / "learn.toml")]
    assert main([*command, "--run", str(run), "--device", "cpu", *more]) == 0
    report: dict[str, Any] = json.loads((run / "fusion" / "report.json").read_text())
    return report


def test_a_recording_with_labels(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    asked = ["--words", str(place / "words.txt"), "--numbers", str(place / "numbers.txt")]
    more = [*asked, "--frames", "3", "--up", "0,-1,0"]
    report = fused(place, place / "seq-01", "7scenes", run, *more)
    assert "look at" in capsys.readouterr().out
    assert report["fusion"] == "addition" and report["words"] == list(WORDS)
    assert [row["name"] for row in report["images"]] == [f"seq-01 frame-00000{n}" for n in range(3)]

    # What is said about the masks' pixels, from the masks themselves.
    teacher = load_small_teacher(place / "regions.safetensors")
    hits, unions, silent, masks = np.zeros(2), np.zeros(2), 0, 0
    for image in sorted((place / "seq-01").glob("*.color.*")):
        said = np.full(SIZE[::-1], -1)
        found = teacher.masks([read_image(image)])[0]
        masks += len(found)
        for one in found:
            said[one.mask] = WORDS.index(one.label)
        silent += int((said < 0).sum())
        numbers = np.array(Image.open(image.parent / f"{image.name.split('.')[0]}.segm.png"))
        known = (numbers == 7) | (numbers == 9)
        for place_of, (number, word) in enumerate(((7, 0), (9, 2))):
            true, told = (numbers == number) & known, (said == word) & known
            hits[place_of] += (true & told).sum()
            unions[place_of] += (true | told).sum()
    about = report["pixels"]["regions"]
    assert report["masks"] == {"regions": masks}
    assert about["silent"] == pytest.approx(silent / (3 * SIZE[0] * SIZE[1])) and silent
    assert about["figures"]["miou_present"] == pytest.approx((hits / unions).mean())
    assert about["figures"]["per_class"]["picture"]["iou"] is None
    assert report["pixels"]["dense"]["silent"] == report["pixels"]["fused"]["silent"] == 0
    rows = report["images"][0]["masks"]["regions"]
    assert rows[0]["sentence"] == f"a {rows[0]['label']} in a scene"
    assert [row["share"] for row in rows] == sorted((row["share"] for row in rows), reverse=True)

    # Points take the frames' labels; what no frame shows is not silence.
    (scene,) = report["scenes"]
    assert scene["truth_from"] == "frames"
    assert (scene["used"], scene["frames"]) == (3, 3) and 0.3 < scene["shown"] < 1
    assert report["points"]["fused"]["silent"] == 0
    assert 0 < report["points"]["fused"]["figures"]["miou_present"] < 0.6
    assert 0 < report["points"]["regions"]["silent"] < 0.5
    text = (run / "fusion" / "report.md").read_text()
    assert "| window |" in text and "a picture in a scene" in text
    for name in ("scenes.png", "image-000.png", "image-002.png"):
        assert f"({name})" in text and read_image(run / "fusion" / name).std() > 10

    # Nothing is asked again; without --numbers nothing is scored; learning finds the files.
    kept = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    capsys.readouterr()
    again = fused(
        place, place / "seq-01", "7scenes", run, "--up", "0,-1,0", "--frames", "2", "--json"
    )
    assert json.loads(capsys.readouterr().out) == again
    assert len(list((run / "fusion").glob("image-*.png"))) == 2 == len(again["images"])
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")} == kept
    assert again["words"][:2] == ["wall", "floor"] and again["pixels"]["fused"]["figures"] is None
    for folder in again["features"].values():
        assert any((run / folder).glob("seq-01*"))


def test_points_take_the_labels_that_most_frames_have(place: Path) -> None:
    scene = open_scenes("7scenes", place / "seq-01")[0]
    words = load_encoder("minilm-l6-v2").encode(WORDS)
    colors = np.zeros((3, 3), np.uint8)
    vocabulary = Vocabulary(WORDS, words, (False, True, True), colors)
    found = lifted_labels(scene, AskedWords(vocabulary, numbers={7: 0, 9: 2}), ProjectionSettings())
    assert found is not None
    votes = np.zeros((len(scene.points), 3), dtype=int)
    for frame in scene.frames:
        x, y, z = np.linalg.inv(frame.pose)[:3] @ np.c_[scene.points, np.ones(len(votes))].T
        k = frame.intrinsics
        u = np.rint(x / z * k[0, 0] + k[0, 2]).astype(int)
        v = np.rint(y / z * k[1, 1] + k[1, 2]).astype(int)
        near = (u >= 10) & (u < SIZE[0] - 10) & (v >= 10) & (v < SIZE[1] - 10)
        assert frame.labels is not None and frame.depth is not None
        for n in np.flatnonzero(near):
            depth = frame.depth[v[n], u[n]]
            number = frame.labels[v[n], u[n]]
            if abs(depth - z[n]) <= 0.2 * depth and number in (7, 9):
                votes[n, 0 if number == 7 else 2] += 1
    wanted = np.where(votes.any(axis=1), votes.argmax(axis=1), -1)
    assert (found == wanted).mean() > 0.999 and (wanted >= 0).any() and (wanted < 0).any()
    assert lifted_labels(scene, AskedWords(vocabulary), ProjectionSettings()) is None


def test_photographs_without_poses(place: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, size in enumerate(((40, 30), (31, 50))):
        Image.effect_noise(size, 80).convert("RGB").save(photos / f"{number}.png")
    report = fused(place, photos, "images", tmp_path / "run")
    assert [row["name"] for row in report["images"]] == ["0.png", "1.png"]
    assert report["points"] == {} and report["scenes"] == [] and report["features"] == {}
    assert report["pixels"]["dense"]["shown"] == 40 * 30 + 31 * 50
    assert not (tmp_path / "run" / "fusion" / "scenes.png").exists()
    one = fused(place, photos / "1.png", "images", tmp_path / "one")
    assert one["pixels"]["dense"]["shown"] == 31 * 50


def test_published_features_stand_in_for_a_teacher(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As OpenScene's and SAS's are; nothing of the teachers of pixels is kept when so asked."""
    scene = open_scenes("7scenes", place / "seq-01")[0]
    row = load_encoder("minilm-l6-v2").encode(["a window in a scene"]).astype(np.float16)
    mask = np.arange(len(scene.points)) % 3 > 0
    published = PointFeatures(row.repeat(mask.sum(), axis=0), mask, "openseg", "seq-01")
    (tmp_path / "published").mkdir()
    write_openscene(published, tmp_path / "published" / "seq-01_0.pt")
    config = f"""
keep_pixels = false
[[teachers]]
name = "precomputed"
title = "openseg"
weights = "published"
[[teachers]]
name = "small"
weights = {json.dumps(str(place / "dense.safetensors"))}
"""
    (tmp_path / "learn.toml").write_text(config)
    report = fused(tmp_path, place / "seq-01", "7scenes", tmp_path / "run", "--frames", "1")
    assert report["points"]["openseg"]["words"] == {"window": 1.0}
    (row_of,) = report["scenes"]
    assert row_of["shown"] >= mask.mean() and row_of["used"] == 3
    assert list(report["pixels"]) == ["small"] and report["teachers"]["openseg"] is None
    assert set(report["points"]) == {"openseg", "small", "fused"}
    assert not (tmp_path / "run" / "frames").exists()
    kept = PointFeatures.load(next((tmp_path / "run").glob("said-openseg-*/seq-01.safetensors")))
    assert (kept.mask == mask).all() and kept.teacher == "openseg"

    command = ["fuse", str(place / "seq-01"), "--kind", "7scenes", "--run", str(tmp_path / "run")]
    for folder, says in (
        ("", "needs the folder of its features: weights = FOLDER."),
        ('weights = "nowhere"\n', f"teacher 1: {tmp_path}/nowhere is not there."),
    ):
        config = f'[[teachers]]\nname = "precomputed"\n{folder}'
        (tmp_path / "learn.toml").write_text(config)
        assert main([*command, "--config", str(tmp_path / "learn.toml")]) == 2
        assert says in capsys.readouterr().err


def test_what_a_mask_teacher_alone_is_silent_about_is_still_shown(
    place: Path, tmp_path: Path
) -> None:
    weights = json.dumps(str(place / "regions.safetensors"))
    text = f'[[teachers]]\nname = "small"\nweights = {weights}\n'
    (tmp_path / "learn.toml").write_text(text)
    run = tmp_path / "run"
    report = fused(tmp_path, place / "seq-01", "7scenes", run, "--frames", "0")
    scene = open_scenes("7scenes", place / "seq-01")[0]
    places = torch.from_numpy(scene.points.astype(np.float64))
    shown = np.zeros(len(scene.points), dtype=bool)
    for _, frame in scene.frames.usable():
        index, _ = seen(Places.of(places), frame.view, projection_of("7scenes"))
        shown[np.asarray(index)] = True
    said = PointFeatures.load(next(run.glob("said-*/seq-01.safetensors"))).mask
    assert 0 < said.sum() < shown.sum() < len(shown)
    assert report["scenes"][0]["shown"] == pytest.approx(shown.mean())
    silent = 1 - said.sum() / shown.sum()
    assert report["points"]["small"]["silent"] == pytest.approx(silent)
    next(run.glob("shown-*/seq-01.safetensors")).unlink()  # as in runs of before
    again = fused(tmp_path, place / "seq-01", "7scenes", run, "--frames", "0")
    assert again["scenes"] == report["scenes"]


def test_captions_reach_the_report(tmp_path: Path) -> None:
    program = json.dumps([sys.executable, str(Path(reference_plugin.__file__))])
    (tmp_path / "learn.toml").write_text(
        f'[[teachers]]\nname = "program"\nprogram = {program}\nsentences = "noun"\n'
        f'captioner = "program"\ncaptioner_program = {program}\n'
    )
    image = np.full((24, 32, 3), 30, np.uint8)
    image[:, 16:] = 220
    Image.fromarray(image).save(tmp_path / "a.png")
    report = fused(tmp_path, tmp_path / "a.png", "images", tmp_path / "run")
    rows = report["images"][0]["masks"]["program"]
    assert {row["label"] for row in rows} == {"light", "shade"}
    assert all(row["caption"].endswith("patch") for row in rows)
    assert all(row["sentence"].endswith(row["label"]) for row in rows)
    assert "fused" not in report["pixels"] and report["fusion"] == ""
    assert rows[0]["caption"] in (tmp_path / "run" / "fusion" / "report.md").read_text()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("7 = shelf", "none of the words"),
        ("seven = wall", "NUMBER = WORD"),
        ("7 wall", "NUMBER = WORD"),
        ("7 = wall\n7 = window", "each number once"),
        ("# nothing\n\n", "empty"),
    ],
)
def test_wrong_numbers_are_sentences(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text(text)
    with pytest.raises(SasError, match=says):
        read_numbers(path, WORDS)
    with pytest.raises(SasError, match="cannot be read"):
        read_numbers(tmp_path / "absent.txt", WORDS)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--only", "seq-99"], "There is no scene 'seq-99'"),
        (["--words", "scannet21"], "no label set 'scannet21'"),
        (["--kind", "images", "--config", "absent.toml"], "absent.toml"),
        (["--kind", "scannet"], "no ScanNet folder"),
    ],
)
def test_what_is_missing_is_told(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    says: str,
) -> None:
    command = ["fuse", str(place / "seq-01"), "--kind", "7scenes", "--run", str(tmp_path / "run")]
    assert main([*command, "--config", str(place / "learn.toml"), *more]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run" / "fusion").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "lseg"\ncaptioner = "tap"', "captioner must be"),
        ('name = "a"\ncaptioner_weights = "absent"', "absent is not there"),
        ('name = "a"\n[fusion]\n[superpoints]\n', ""),
    ],
)
def test_captioners_of_a_configuration(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "learn.toml").write_text(f"[[teachers]]\n{text}")
    if not says:
        assert load_settings(tmp_path / "learn.toml").teachers[0].captioner == "none"
        return
    with pytest.raises(SasError, match=says):
        load_settings(tmp_path / "learn.toml")


def test_a_captioner_is_for_masks(place: Path, tmp_path: Path) -> None:
    weights = json.dumps(str(place / "dense.safetensors"))
    program = json.dumps([sys.executable, str(Path(reference_plugin.__file__))])
    (tmp_path / "learn.toml").write_text(
        f'[[teachers]]\nname = "small"\nweights = {weights}\n'
        f'captioner = "program"\ncaptioner_program = {program}\n'
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    command = ["fuse", str(tmp_path / "a.png"), "--kind", "images", "--run", str(tmp_path / "run")]
    assert main([*command, "--config", str(tmp_path / "learn.toml")]) == 2


def test_links_stay_links(tmp_path: Path) -> None:
    """An environment's Python is a link; what it points to does not see the packages."""
    (tmp_path / "real").write_text("")
    (tmp_path / "python").symlink_to(tmp_path / "real")
    text = f'[[teachers]]\nname = "program"\nprogram = ["{tmp_path}/python", "python", "-m"]\n'
    (tmp_path / "learn.toml").write_text(text)
    (teacher,) = load_settings(tmp_path / "learn.toml").teachers
    assert teacher.program == (*[str(tmp_path / "python")] * 2, "-m")


def test_weights_of_the_text_encoder_are_a_file_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "clip.safetensors").write_bytes(b"x")
    text = 'text_weights = "clip.safetensors"\n[[teachers]]\nname = "lseg"\n'
    (tmp_path / "learn.toml").write_text(text)
    settings = load_settings(tmp_path / "learn.toml")
    assert settings.text_weights == str(tmp_path / "clip.safetensors")
    (tmp_path / "clip.safetensors").unlink()
    with pytest.raises(SasError, match="is not there"):
        load_settings(tmp_path / "learn.toml")


def test_labels_of_data_sets_become_words() -> None:
    labels = load_label_set("scannet20")
    words = AskedWords(None, labels)  # type: ignore[arg-type]
    points = np.zeros((3, 3), np.float32)

    def scene(label_set: str) -> Scene:
        return Scene("s", points, labels=np.array([1, 22, 0]), label_set=label_set)

    nyu = scene("nyu40")
    found = words.truth(nyu, np.array([[1, 22], [0, 39]]))  # wall, ceiling, nothing, otherfurniture
    assert found is not None
    assert found.tolist() == [[0, -1], [-1, labels.names.index("otherfurniture")]]
    assert words.truth(nyu, None) is None
    assert words.truth(scene("objects"), np.array([1])) is None
    assert AskedWords(None).truth(nyu, np.array([1])) is None  # type: ignore[arg-type]


def test_silence_is_wrong_and_what_is_not_shown_is_left_out() -> None:
    tally = Tally(("a", "b"))
    labels = np.array([0, 1, -1, -1, 0, 1])
    truth = np.array([0, 0, 0, 0, 1, -1])
    shown = np.array([True, True, True, False, True, True])
    tally.add(labels, shown, truth)
    facts = tally.facts()
    assert (facts["shown"], facts["silent"]) == (5, pytest.approx(0.2))
    assert facts["words"] == {"a": 0.5, "b": 0.5}
    # a: one of three shown is right, and one b is called a; the one not shown is in no union.
    assert facts["figures"]["per_class"]["a"]["iou"] == pytest.approx(1 / 4)
    assert facts["figures"]["per_class"]["a"]["acc"] == pytest.approx(1 / 4)
    assert facts["figures"]["per_class"]["b"]["iou"] == 0
    empty = Tally(("a",)).facts()
    assert (empty["silent"], empty["words"], empty["figures"]) == (0.0, {}, None)


def test_pictures_show_what_is_there() -> None:
    image = np.full((60, 80, 3), 100, np.uint8)
    words = np.zeros((60, 80), np.int64)
    words[:, 40:] = -1
    colors = np.array([[255, 0, 0]], np.uint8)
    drawn = draw_words(image, words, colors, strength=0.5)
    assert drawn[0, 0].tolist() == [178, 50, 50] and drawn[0, 79].tolist() == [168, 168, 168]
    mask = np.zeros((60, 80), bool)
    mask[10:50, 20:60] = True
    written = write_on_masks(image, [LabelledMask(mask, "x", 1.0)], ["1 x"])
    changed = np.argwhere((written != image).any(axis=2))
    assert len(changed) > 20 and (abs(changed.mean(axis=0) - (30, 40)) < 8).all()
    assert (write_on_masks(image, [], []) == image).all()
    key = draw_key([("wall", (255, 0, 0)), ("floor", (0, 255, 0))] * 40, (200, 100))
    assert key.shape == (100, 200, 3)
    assert ((key == (255, 0, 0)).all(axis=2)).sum() > 30


def test_real_frames(test_data: Path, tmp_path: Path) -> None:
    """The kitchen with poses, the photograph of SUN RGB-D, and the shelf, which has labels."""
    teachers(tmp_path)
    small = ["--most", "2", "--size", "160x120", "--voxel", "0.05", "--frames", "1"]
    kitchen = test_data / "rgbd_7scenes_redkitchen"
    report = fused(tmp_path, kitchen, "7scenes", tmp_path / "kitchen", *small)
    (scene,) = report["scenes"]
    assert scene["used"] == 2 and scene["shown"] > 0.8 and report["masks"]["regions"] > 0
    with Image.open(test_data / "sunrgbd_single_view" / "000017.jpg") as photo:
        photo.resize((219, 159)).save(tmp_path / "bedroom.png")
    report = fused(tmp_path, tmp_path / "bedroom.png", "images", tmp_path / "photo")
    assert report["pixels"]["fused"]["shown"] == 219 * 159
    (tmp_path / "words.txt").write_text("shelf\nbook\nbox\npipe cleaners\n")
    (tmp_path / "numbers.txt").write_text(
        "0 = shelf\n48 = pipe cleaners\n114 = book\n132 = box\n144 = book\n"
    )
    shelf = [*small, "--depth-units", "10000", "--far", "1"]
    shelf += ["--words", str(tmp_path / "words.txt"), "--numbers", str(tmp_path / "numbers.txt")]
    report = fused(
        tmp_path, test_data / "rgbd_apc_shelf_labelled", "7scenes", tmp_path / "shelf", *shelf
    )
    figures = report["pixels"]["fused"]["figures"]
    assert figures["classes_present"] >= 3 and figures["points"] == 160 * 120
