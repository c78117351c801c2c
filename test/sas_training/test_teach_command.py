"""`sas teach`: files it writes, what it keeps, and how it goes on after it was stopped."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_teachers import BrightMasks, ColourFeatures
from encoders import HashEncoder
from PIL import Image as Pictures

from sas_ros.errors import SasError
from sas_training.cli import main
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.openscene import write_openscene
from sas_training.fusion.projection import Intrinsics, ProjectionSettings, View
from sas_training.teachers import FrameCache, LabelledMask, reference_plugin
from sas_training.teachers.cache import feature_source
from sas_training.teachers.folder import teach
from sas_training.teachers.images import read_image
from sas_training.teachers.mask_files import MaskFile
from sas_training.teachers.pixel_files import PixelFile
from sas_training.teachers.showing import draw_masks

PROGRAM = shlex.join([sys.executable, str(Path(reference_plugin.__file__))])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        rng = np.random.default_rng(number)
        image = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Pictures.fromarray(image).save(folder / f"photo-{number}.png")
    return folder


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_masks_of_a_program_with_captions_and_pictures(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["teach", "program", str(photos), "-o", str(tmp_path / "out"), "--pictures"]
    command += ["--program", PROGRAM, "--captioner", "program", "--captioner-program", PROGRAM]
    assert main([*command, "--json", "--batch", "9"]) == 0
    found = said(capsys)
    assert found["teacher"]["name"] == "brightness" and found["kept"] == 0
    assert [row["masks"] for row in found["images"]] == [2] * 5
    masks = MaskFile.load(Path(found["images"][0]["output"])).masks
    assert {one.label for one in masks} == {"light", "shade"}
    assert all(one.caption.endswith("patch") for one in masks)
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.picture.png"))
    assert pictures == [f"photo-{number}.masks.picture.png" for number in range(5)]
    shown = read_image(tmp_path / "out" / pictures[0])
    np.testing.assert_array_equal(shown, draw_masks(read_image(photos / "photo-0.png"), masks))
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "photo-3.masks.json  light, shade" in text
    assert "5 of 5 images were done already" in text


def test_aligned_features_of_a_program(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "sas_ros.language.encoder.load_encoder", lambda name, weights: HashEncoder()
    )
    command = ["teach", "program", str(photos / "photo-1.png"), "-o", str(tmp_path / "out")]
    command += ["--program", PROGRAM, "--align", "label", "--encoder", "hash", "--json"]
    assert main(command) == 0
    (row,) = said(capsys)["images"]
    kept = PixelFile.load(Path(row["output"]))
    assert (kept.text_encoder, tuple(kept.features.features.shape)) == ("hash", (16, 12, 16))
    bright = read_image(photos / "photo-1.png").mean(axis=2) >= 128
    wanted = HashEncoder().encode(["a light in a scene", "a shade in a scene"]).astype(np.float16)
    pixels = kept.features.at_pixels(12, 16).features.numpy()
    np.testing.assert_array_equal(pixels, wanted[np.where(bright, 0, 1)])
    assert main(command) == 0
    assert said(capsys)["kept"] == 1


class Dying(ColourFeatures):
    """Is killed when it is asked the second time."""

    def features(self, images: Sequence[Any]) -> Any:
        if self.asked:
            raise KeyboardInterrupt
        return super().features(images)


def test_it_goes_on_where_it_was_stopped(photos: Path, tmp_path: Path) -> None:
    images = sorted(photos.iterdir())
    with pytest.raises(KeyboardInterrupt):
        list(teach(Dying(), images, tmp_path / "out", batch=2))
    again = ColourFeatures()
    rows = list(teach(again, images, tmp_path / "out", batch=2))
    assert again.asked == [2, 1]
    assert sorted((row.image.name, row.made) for row in rows) == [
        (f"photo-{number}.png", number >= 2) for number in range(5)
    ]


def test_changed_images_settings_and_damaged_files_are_made_anew(
    photos: Path, tmp_path: Path
) -> None:
    images, out = sorted(photos.iterdir()), tmp_path / "out"
    list(teach(ColourFeatures(), images, out))
    Pictures.new("RGB", (16, 12)).save(images[1])
    path = out / "photo-2.pixels.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    changed = {row.image.name for row in teach(ColourFeatures(), images, out) if row.made}
    assert changed == {"photo-1.png", "photo-2.png"}
    assert all(row.made for row in teach(ColourFeatures(gain=0.5), images, out))
    masks = list(teach(BrightMasks(), images, out))
    assert all(row.made and row.output.name.endswith(".masks.json") for row in masks)
    next(out.glob("photo-3.masks-*.png")).unlink()
    changed = {row.image.name for row in teach(BrightMasks(), images, out) if row.made}
    assert changed == {"photo-3.png"}


def test_images_of_one_name_are_refused(photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "photo-0.png"
    other.write_bytes((photos / "photo-0.png").read_bytes())
    with pytest.raises(SasError, match="would both be written to"):
        list(teach(ColourFeatures(), [photos / "photo-0.png", other], tmp_path / "out"))


def test_published_features_are_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    features = PointFeatures(
        np.ones((2, 3), np.float16), np.array([True, False, True]), "lseg", "scene0000_00"
    )
    write_openscene(features, folder / "scene0000_00_0.pt")
    command = ["teach", "precomputed", str(folder), "-o", str(tmp_path / "out"), "--model", "lseg"]
    assert main(command) == 0
    assert "scene0000_00  2 of 3 points, 3 wide" in capsys.readouterr().out
    found = PointFeatures.load(tmp_path / "out" / "scene0000_00.safetensors")
    np.testing.assert_array_equal(found.features, features.features)
    assert (found.teacher, found.scene) == ("lseg", "scene0000_00")
    assert main([*command, "--json"]) == 0
    assert said(capsys)["scenes"][0]["channels"] == 3


def test_published_features_beside_files_of_ours(tmp_path: Path) -> None:
    """Converted into their own folder: what is read is the .pt, not what lies there already."""
    mask = np.array([True, False, True])
    old, new = (PointFeatures(np.full((2, 3), n, np.float16), mask, "lseg", "s") for n in (1, 2))
    old.save(tmp_path / "s.safetensors")
    write_openscene(new, tmp_path / "s.pt")
    assert main(["teach", "precomputed", str(tmp_path), "-o", str(tmp_path)]) == 0
    found = PointFeatures.load(tmp_path / "s.safetensors")
    np.testing.assert_array_equal(found.features, new.features)


def test_scenes_of_one_name_are_not_converted_over_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = PointFeatures(np.ones((2, 3), np.float16), np.ones(2, bool), "lseg", "s")
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
        write_openscene(features, folder / "s.pt")
    words = [*map(str, folders), "-o", str(tmp_path / "out")]
    assert main(["teach", "precomputed", *words]) == 2
    assert "would both be written to" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_teachers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teach", "--list"]) == 0
    text = capsys.readouterr().out
    for name in ("lseg", "maskclip", "universal", "program", "precomputed"):
        assert f"{name} (" in text
    assert main(["teach", "--list", "--json"]) == 0
    assert {entry["name"] for entry in said(capsys)["teachers"]} >= {"lseg", "program"}


def test_a_program_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teach", "--check", "--program", PROGRAM]) == 0
    assert "captions 9 masks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([], "Give a teacher, images, and a folder"),
        (["lsegg", "PHOTOS", "-o", "OUT"], 'Did you mean "lseg"?'),
        (["lseg", "PHOTOS", "-o", "OUT"], "demo_e200.ckpt"),
        (["lseg", "PHOTOS/none.png", "-o", "OUT"], "no image and no folder"),
        (["lseg", "PHOTOS", "-o", "PHOTOS"], "is where the images are"),
        (["lseg", "PHOTOS", "-o", "OUT", "--set", "flip"], "NAME=VALUE"),
        (["program", "PHOTOS", "-o", "OUT"], "give its command line"),
        (["program", "PHOTOS", "-o", "OUT", "--program", "it 's"], "--program is no command line"),
        (["--check", "--program", "it 's"], "--program is no command line"),
        (
            ["program", "PHOTOS", "-o", "OUT", "--program", PROGRAM, "--captioner-program", "'"],
            "--captioner-program is no command line",
        ),
        (["program", "PHOTOS", "-o", "OUT", "--align", "noun"], "give --encoder"),
        (["universal", "PHOTOS", "-o", "OUT"], "nothing is downloaded"),
        (["precomputed", "PHOTOS", "-o", "OUT"], "no .pt files"),
        (["precomputed", "PHOTOS/photo-0.png", "-o", "OUT"], "neither a .pt file nor a folder"),
    ],
)
def test_what_is_missing_is_told(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    sentence: str,
) -> None:
    places = {"PHOTOS": str(photos), "OUT": str(tmp_path / "out")}
    words = [places.get(word, word.replace("PHOTOS/", f"{photos}/")) for word in more]
    assert main(["teach", *words]) != 0
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_features_need_no_captions(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sas_training.teachers.registry.load_teacher", lambda *_: ColourFeatures())
    command = ["teach", "lseg", str(photos), "-o", str(tmp_path / "out")]
    assert main([*command, "--captioner", "blip"]) != 0
    assert "gives features already" in capsys.readouterr().err
    assert main(command) == 0
    assert "photo-2.pixels.safetensors  features" in capsys.readouterr().out


def test_features_reach_fusion(tmp_path: Path) -> None:
    """A teacher, a cache, two views of one plane: each point gets the mean of its pixels."""
    from sas_training.fusion.multiview import fuse_views

    images = [np.full((8, 8, 3), value, np.uint8) for value in (40, 80)]
    view = View(
        width=8,
        height=8,
        intrinsics=Intrinsics(8.0, 8.0, 3.5, 3.5),
        pose=np.eye(4),
    )
    teacher = ColourFeatures()
    source = feature_source(teacher, lambda number: images[number], FrameCache(tmp_path))
    points = np.array([[0.0, 0.0, 2.0], [0.5, 0.5, 2.0], [9.0, 0.0, 2.0]])
    settings = ProjectionSettings(boundary=0)
    found = fuse_views(points, [view, view], [source], settings, memory=1).features["colours"]
    assert found.mask.tolist() == [True, True, False]
    np.testing.assert_allclose(found.features, 60.0)
    assert teacher.asked == [1, 1]  # a block of one point at a time, but each image asked once
    assert found.settings["text_encoder"] == "hash"


def test_a_teacher_that_sees_nothing_is_silent(tmp_path: Path) -> None:
    from sas_training.alignment import AlignedTeacher

    class Blind(BrightMasks):
        def masks(self, images: Sequence[Any]) -> list[tuple[LabelledMask, ...]]:
            return [() for _ in images]

    teacher = AlignedTeacher(Blind(), HashEncoder(), "label")
    source = feature_source(teacher, lambda _: np.zeros((4, 4, 3), np.uint8), FrameCache(tmp_path))
    assert source.read(0) is None
