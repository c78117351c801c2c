"""What `sas learn` and `sas fuse` do with frames: which points they show, which are bad, and how
many of them a program is asked about at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_scenes import make_seven_scenes

from sas_ros.errors import SasError
from sas_ros.language.available import MINILM, encoder_available
from sas_ros.language.encoder import load_encoder
from sas_training.alignment import AlignedTeacher
from sas_training.cli import main
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.projection import ProjectionSettings
from sas_training.learn import ahead
from sas_training.learn.ahead import look_ahead
from sas_training.learn.files import LearnFiles, Recording
from sas_training.learn.settings import (
    FusionChoice,
    LearnSettings,
    ProjectionChoice,
    TeacherChoice,
    load_settings,
)
from sas_training.scenes.kinds import open_scenes
from sas_training.scenes.reading import SceneSettings
from sas_training.teachers import FrameCache, LabelledMask, reference_plugin
from sas_training.teachers.teacher import Description, Image, MaskTeacher

if encoder_available(MINILM) is not None:
    pytest.skip("needs the offline text encoder", allow_module_level=True)


def program(folder: Path, name: str) -> str:
    """A program that notes down each call with images, as a list for a configuration."""
    script = folder / f"{name}.sh"
    plugin = f"{sys.executable} {reference_plugin.__file__}"
    script.write_text(
        f'[ "$1" = --describe ] || ls "$1/images" | wc -l >> {folder}/{name}.calls\n'
        f'exec {plugin} "$@"\n'
    )
    return json.dumps(["/bin/sh", str(script)])


def fuse(folder: Path, scenes: Path, run: Path, text: str) -> dict[str, Any]:
    (folder / "learn.toml").write_text(text)
    line = ["fuse", str(scenes), "--kind", "7scenes", "--config", str(folder / "learn.toml")]
    line += ["--run", str(run), "--frames", "1", "--up", "0,-1,0", "--device", "cpu"]
    assert main(line) == 0
    report: dict[str, Any] = json.loads((run / "fusion" / "report.json").read_text())
    return report


def test_a_program_is_started_once_for_all_frames_of_a_scene(tmp_path: Path) -> None:
    scenes = make_seven_scenes(tmp_path / "seq-01")
    text = f'[[teachers]]\nname = "program"\nprogram = {program(tmp_path, "seem")}\n'
    text += f'captioner = "program"\ncaptioner_program = {program(tmp_path, "tap")}\n'
    report = fuse(tmp_path, scenes, tmp_path / "run", f'{text}sentences = "noun"\n')
    assert report["points"]["program"]["silent"] < 1
    for name in ("seem", "tap"):
        assert (tmp_path / f"{name}.calls").read_text().split() == ["3"]


class Counting(MaskTeacher):
    """One mask for the whole image; notes down how many images it is asked about."""

    description = Description("counting", "1", {})

    def __init__(self, images_a_call: int) -> None:
        self.images_a_call = images_a_call
        self.calls: list[int] = []

    def masks(self, images: Sequence[Image]) -> list[tuple[LabelledMask, ...]]:
        self.calls.append(len(images))
        return [(LabelledMask(np.ones(one.shape[:2], bool), "wall", 1.0),) for one in images]


def test_only_teachers_of_many_images_look_ahead_and_bad_frames_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = make_seven_scenes(tmp_path / "seq-01")
    (scenes / "frame-000001.color.png").write_bytes(b"no image")
    frames = open_scenes("7scenes", scenes)[0].frames
    encoder, cache = load_encoder(MINILM), FrameCache(tmp_path / "cache")
    inner = [Counting(many) for many in (1, 5, 5)]
    patient, many, forgetful = (
        AlignedTeacher(one, encoder, "label", cache=kept)
        for one, kept in zip(inner, (cache, cache, None), strict=True)
    )
    look_ahead(frames, [patient, many, forgetful])
    assert [one.calls for one in inner] == [[], [2], []]
    many.features([frames[0].image])
    look_ahead(frames, [many])
    assert inner[1].calls == [2]
    # Never more than a few images in memory.
    other = Counting(5)
    monkeypatch.setattr(ahead, "MOST_BYTES", frames[0].image.nbytes)
    blocks = AlignedTeacher(other, encoder, "label", cache=FrameCache(tmp_path / "other"))
    look_ahead(frames, [blocks])
    assert other.calls == [1, 1]


def test_a_bad_frame_is_counted_once_with_its_reason(tmp_path: Path) -> None:
    scenes = make_seven_scenes(tmp_path / "seq-01")
    (scenes / "frame-000001.color.png").write_bytes(b"no image")
    text = f'[[teachers]]\nname = "program"\nprogram = {program(tmp_path, "seem")}\n'
    with pytest.warns(RuntimeWarning, match=r"seq-01: frames were skipped: its .*image.* \(1\)"):
        report = fuse(tmp_path, scenes, tmp_path / "run", text)
    (row,) = report["scenes"]
    assert (row["frames"], row["used"], row["walks"]) == (3, 2, 1)
    assert list(row["skipped"].values()) == [1] and "image" in next(iter(row["skipped"]))


def test_little_memory_for_sums_means_several_walks_that_are_told(tmp_path: Path) -> None:
    scenes = make_seven_scenes(tmp_path / "seq-01")
    text = f'[[teachers]]\nname = "program"\nprogram = {program(tmp_path, "seem")}\n'
    whole = fuse(tmp_path, scenes, tmp_path / "whole", text)
    parts = fuse(tmp_path, scenes, tmp_path / "parts", f"sums_gib = 0.007\n{text}")
    assert whole["points"] == parts["points"]
    assert parts["scenes"][0]["walks"] == 2
    assert "of 3, read 2 times" in (tmp_path / "parts" / "fusion" / "report.md").read_text()
    first, second = (
        PointFeatures.load(next((tmp_path / name).glob("said-*/seq-01.safetensors")))
        for name in ("whole", "parts")
    )
    np.testing.assert_array_equal(first.features, second.features)


def plan(folder: Path, projection: ProjectionChoice, kind: str = "7scenes") -> LearnFiles:
    settings = LearnSettings((TeacherChoice("a"),), projection=projection)
    return LearnFiles.plan(folder / "run", Recording(kind, folder, SceneSettings()), settings)


def test_the_projection_is_that_of_the_data_set_or_ones_own(tmp_path: Path) -> None:
    usual = plan(tmp_path, ProjectionChoice())
    assert usual.projection == ProjectionSettings(10, 0.2)
    released = ProjectionChoice("released")
    assert plan(tmp_path, released, "scannet").projection == ProjectionSettings(10, 0.25)
    own = plan(tmp_path, ProjectionChoice(occlusion=0.05, boundary=3))
    assert own.projection == ProjectionSettings(3, 0.05)
    assert plan(tmp_path, ProjectionChoice(), "nuscenes").projection.occlusion is None
    for path in ("said", "shown"):
        of = [f.said(0, "x") if path == "said" else f.shown("x") for f in (usual, own)]
        assert of[0] != of[1]
    assert usual.cloud("x") == own.cloud("x")


def test_a_stricter_projection_shows_fewer_points(tmp_path: Path) -> None:
    scenes = make_seven_scenes(tmp_path / "seq-01")
    text = f'[[teachers]]\nname = "program"\nprogram = {program(tmp_path, "seem")}\n'
    shown = [
        fuse(tmp_path, scenes, tmp_path / "run", f"{text}[projection]\n{more}")["scenes"]
        for more in ("", "boundary = 20\n")
    ]
    assert 0 < shown[1][0]["shown"] < shown[0][0]["shown"]
    # What the program has said of the images is not asked for again.
    assert (tmp_path / "seem.calls").read_text().split() == ["3"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[projection]\nversion = "mine"', "version is paper or released"),
        ("[projection]\nocclusion = 1.5", "a share below 1"),
        ("sums_gib = 0.0", "sums_gib is above 0"),
        ("captioner_timeout = -1.0", "captioner_timeout is 0 seconds or more"),
    ],
)
def test_wrong_values_are_sentences(tmp_path: Path, text: str, says: str) -> None:
    teacher = '[[teachers]]\nname = "a"\n'
    own = teacher + text if "captioner" in text else f"{text}\n{teacher}"
    (tmp_path / "learn.toml").write_text(own)
    with pytest.raises(SasError, match=says):
        load_settings(tmp_path / "learn.toml")


def test_how_long_a_captioner_may_take_is_no_part_of_what_it_says(tmp_path: Path) -> None:
    def said(timeout: float) -> Path:
        teacher = TeacherChoice("a", captioner_timeout=timeout)
        recording = Recording("7scenes", tmp_path, SceneSettings())
        return LearnFiles.plan(tmp_path / "run", recording, LearnSettings((teacher,))).said(0, "x")

    assert said(0.0) == said(60.0)


def test_the_released_rule_asks_for_its_word_and_takes_pooled_scores() -> None:
    plain = FusionChoice("released", table="t.json")
    with pytest.raises(SasError, match=r"calls 'other' .* lack it"):
        plain.check_words(["wall", "otherfurniture"])
    plain.check_words(["wall", "other"])
    FusionChoice("released", table="t.json", other="").check_words(["wall"])
    assert plain.settings.measure == "micro"
    assert FusionChoice("capability", table="t.json").settings.measure == "macro"
    assert FusionChoice("released", table="t.json", measure="macro").settings.measure == "macro"
