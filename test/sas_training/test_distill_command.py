"""`sas distill` as it is typed: from files to a bundle that the robot loads."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from distillation import WORDS
from encoders import HashEncoder
from teachers import box_room, write_scenes

from sas_ros.observation import Cloud, Up
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_training.cli import main
from sas_training.distill import recipes, scalars
from sas_training.distill.feature_scenes import FEATURES_SUFFIX, FeatureScenes
from sas_training.distill.run_folder import CHECKPOINT
from sas_training.evaluation.labels import SCANNET20
from sas_training.fusion.features import PointFeatures

RECIPE = """
description = "for a test"
[network]
family = "tiny"
inputs = ["one", "height"]
[vocabulary]
text_encoder = "minilm-l6-v2"
prompt = "{}"
[samples]
voxel_size = 0.25
[schedule]
epochs = 3
batch = 2
learning_rate = 5e-3
[self_distillation]
start_epoch = 2
history_epoch = 1
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(recipes, "TINY_PLANES", (8,) * 8)
    write_scenes(tmp_path / "scenes", WORDS, points=150)
    np.savez(tmp_path / "words.npz", names=np.array(SCANNET20.names), embeddings=WORDS)
    (tmp_path / "mine.toml").write_text(RECIPE)
    return tmp_path


def arguments(world: Path, *more: str) -> list[str]:
    return [
        *("distill", "--data", str(world / "scenes"), "--recipe", str(world / "mine.toml")),
        *("--embeddings", str(world / "words.npz"), "--run", str(world / "run")),
        *("--device", "cpu", "--workers", "0", "--quiet"),
        *more,
    ]


def test_a_student_is_distilled_and_loads(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = world / "student.safetensors"
    assert main(arguments(world, "-o", str(output), "--json", "--licence", "Apache-2.0")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["steps"] == 6 and report["teachers"] == ["noisy labels"]
    assert report["scenes"] == 4 and set(report["last_losses"]) >= {"points", "self_superpoints"}
    bundle = StudentBundle.load(output)
    assert bundle.name == "student" and bundle.vocabulary.names == SCANNET20.names
    said = bundle.provenance
    assert said["supervision"] == "distilled from 2D teachers; no 3D labels"
    assert said["teachers"] == {"noisy labels": {"unseen": 0.1, "wrong": 0.0}}
    assert said["licence"] == "Apache-2.0" and said["steps"] == 6
    assert said["recipe"]["schedule"]["epochs"] == 3 and said["scenes"][0] == "room-0"
    cloud = Cloud(box_room(9, 400)[0])
    scene = Segmenter(bundle, device="cpu").segment(
        cloud, Up(np.array([0.0, 0.0, 1.0]), "parameter")
    )
    assert scene.features.shape[1] == 16
    # Again: all steps are done, the bundle is the same.
    assert main(arguments(world, "-o", str(world / "again.safetensors"), "--name", "student")) == 0
    captured = capsys.readouterr()
    assert "going on from step 6 of 6" in captured.err and "no 3D labels" in captured.out
    again = StudentBundle.load(world / "again.safetensors")
    assert all(bool((again.weights[k] == v).all()) for k, v in bundle.weights.items())


def test_students_are_kept_on_the_way(world: Path) -> None:
    output = world / "student.safetensors"
    assert main(arguments(world, "-o", str(output), "--keep-every", "3")) == 0
    kept = [world / f"student-{step:06d}.safetensors" for step in (3, 6)]
    assert sorted(world.glob("student-*")) == kept
    assert [StudentBundle.load(path).provenance["steps"] for path in kept] == [3, 6]
    assert kept[1].read_bytes() == output.read_bytes() != kept[0].read_bytes()


def test_a_run_killed_between_checkpoint_and_student_keeps_that_student(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kept(name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (world / name).glob("s-*.safetensors")}

    def words(name: str) -> list[str]:
        output = world / name / "s.safetensors"
        output.parent.mkdir(exist_ok=True)
        often = ["--keep-every", "2", "--checkpoint-every", "2"]
        return arguments(world, *often, "--run", str(output.parent / "run"), "-o", str(output))

    save = StudentBundle.save

    def killed_at_four(bundle: StudentBundle, path: Path) -> None:
        if path.name == "s-000004.safetensors":
            raise Killed
        save(bundle, path)

    assert main(words("whole")) == 0
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(StudentBundle, "save", killed_at_four)
        main(words("cut"))
    assert (world / "cut" / "run" / CHECKPOINT).is_file() and len(kept("cut")) == 1
    assert main(words("cut")) == 0
    assert kept("cut") == kept("whole") and len(kept("whole")) == 3


def test_a_student_is_calibrated_on_labelled_rooms(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, rooms = HashEncoder(), world / "held_out"
    rooms.mkdir()
    monkeypatch.setattr("sas_ros.language.encoder.load_encoder", lambda *_, **__: encoder)
    for number in range(2):
        points, labels, _ = box_room(20 + number, 150)
        np.savez(rooms / f"room-{number}.npz", points=points, labels=labels)
    command = arguments(world, "--validation", str(rooms), "-o", str(world / "s.safetensors"))
    assert main(command) == 0
    said = StudentBundle.load(world / "s.safetensors").provenance
    assert said["metrics"]["held_out_rooms"] == 2 and "no label" in said["calibration"]
    assert said["supervision"] == "distilled from 2D teachers; no 3D labels"


def test_init_and_other_classes(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = world / "first.safetensors", world / "second.safetensors"
    short = ["--set", "schedule.epochs=1", "--set", "self_distillation.variant=none"]
    assert main(arguments(world, *short, "-o", str(first))) == 0
    words = world / "few.txt"
    words.write_text("chair\nwall\n")
    more = ["--set", f"self_distillation.classes={json.dumps(str(words))}", "--workers", "1"]
    more += ["--init", str(first), "--run", str(world / "run2"), "-o", str(second)]
    assert main(arguments(world, *more)) == 0
    assert StudentBundle.load(second).provenance["started_from"] == "first.safetensors"


def test_overfit_tells_whether_a_scene_was_learned(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(world, "--overfit", "2")) == 1
    assert "room-0 was not learned" in capsys.readouterr().out
    assert main(arguments(world, "--overfit", "2", "--json")) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["scene"] == "room-0" and report["steps"] == 2 and not report["learned"]
    # With the steps of docs/train.md, and the rate of learning that is built in, it succeeds.
    assert main(arguments(world, "--overfit", "400", "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["learned"] and report["loss"] < 0.05 and 2 < report["steps"] < 400
    assert not (world / "run").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "-o NAME.safetensors"),
        (["-o", "student.pt"], "named otherwise"),
        (["-o", "s.safetensors", "--recipe", "nobody"], "no recipe called"),
        (["-o", "s.safetensors", "--set", "schedule.batch=9"], "9 scenes cannot be made of 4"),
        (["-o", "s.safetensors", "--data", "nowhere"], "no scenes in nowhere"),
        (["-o", "s.safetensors", "--set", "vocabulary.labels=x"], "no label set 'x'"),
        (["-o", "s.safetensors", "--init", "nobody"], "no student called"),
        (["-o", "s.safetensors", "--validation", "nowhere"], "no file or folder nowhere"),
        (
            ["-o", "s.safetensors", "--validation", ".", "--set", "vocabulary.labels=nuscenes43"],
            "nuscenes43 are no label set",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    more: list[str], words: str, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(world, *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("sas distill: ") and words in error and "Traceback" not in error


def test_features_of_another_text_encoder_are_refused(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the same width: nothing else would tell."""
    path = world / "scenes" / f"room-2{FEATURES_SUFFIX}"
    features = PointFeatures.load(path)
    for more in (["-o", str(world / "s.safetensors")], ["--overfit", "1"]):
        said = {**features.settings, "text_encoder": "open_clip:ViT-B-32"}
        replace(features, settings=said).save(path)
        assert main(arguments(world, *more)) == 2
        error = capsys.readouterr().err
        assert "room-2 lie in the space of open_clip:ViT-B-32" in error
        assert "in that of minilm-l6-v2" in error and "vocabulary.text_encoder" in error
        assert not (world / "run").exists()
    for encoder in ("minilm-l6-v2", "", None):
        replace(features, settings={"text_encoder": encoder}).save(path)
        scenes = FeatureScenes(world / "scenes")
        scenes.check_space("minilm-l6-v2")
    scenes.check_space("another")  # none of them says


def test_curves_are_written_where_tensorboard_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            written.append((folder, 0.0, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            written.append(("closed", 0.0, 0))

    stand_in = types.ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    monkeypatch.setattr(scalars, "available", lambda: True)
    curves = scalars.Scalars(tmp_path, 7)
    curves.add(8, {"loss": 0.5})
    curves.close()
    assert written == [(str(tmp_path), 0.0, 8), ("loss", 0.5, 8), ("closed", 0.0, 0)]
    monkeypatch.setattr(scalars, "available", lambda: False)
    scalars.Scalars(tmp_path, 7).add(8, {"loss": 0.5})
    assert len(written) == 3


def test_tensorboard_reads_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard (extra `tensorboard`) is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = scalars.Scalars(tmp_path, 0)
    curves.add(1, {"loss": 0.25})
    curves.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.25)]
