"""`sas learn`: from posed images to a bundle, made anew only where something changed."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from killed import lives
from made_scenes import make_seven_scenes

from sas_ros.errors import SasError
from sas_ros.files import atomic_write
from sas_ros.observation import Cloud, Up
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_training.cli import main
from sas_training.distill.run_folder import CHECKPOINT
from sas_training.experiment.network import SmallNetwork
from sas_training.experiment.teachers import TeacherFacts, save_teacher
from sas_training.fusion.features import PointFeatures
from sas_training.jobs import Job
from sas_training.learn.files import LearnFiles, Recording
from sas_training.learn.learning import for_few_scenes, refuse_inside, seen_enough
from sas_training.learn.settings import FusionChoice, LearnSettings, TeacherChoice, load_settings
from sas_training.scenes.reading import SceneSettings

pytest.importorskip("transformers", reason="the text encoder needs the extra [text]")

CONFIG = """
fewest_steps = 4
recipe = "procedural-small"
changes = [
    "schedule.epochs=2", "samples.voxel_size=0.2", "schedule.warmup=0",
    "self_distillation.variant='none'",
]
[superpoints]
min_size = 5
[[teachers]]
name = "small"
title = "dense"
weights = "dense.safetensors"
[[teachers]]
name = "small"
title = "regions"
weights = "regions.safetensors"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording, two untrained teachers and a configuration."""
    folder = tmp_path_factory.mktemp("learn")
    make_seven_scenes(folder / "seq-01")
    torch.manual_seed(0)
    words = ("wall", "picture", "window")
    dense = TeacherFacts("dense", "pixels", (), "minilm-l6-v2", 4, 1, 384)
    save_teacher(folder / "dense.safetensors", SmallNetwork(4, 384), dense)
    regions = TeacherFacts("regions", "masks", words, "", 4, 1, 3)
    save_teacher(folder / "regions.safetensors", SmallNetwork(4, 3), regions)
    (folder / "learn.toml").write_text(CONFIG)
    return folder


def arguments(place: Path, run: Path) -> list[str]:
    return [
        *("learn", str(place / "seq-01"), "--kind", "7scenes", "--name", "mine", "--up", "0,-1,0"),
        *("--config", str(place / "learn.toml"), "--run", str(run), "--device", "cpu"),
    ]


def test_a_recording_becomes_a_student_and_a_report(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(arguments(place, run)) == 0
    assert "look at" in capsys.readouterr().out
    report = json.loads((run / "report" / "report.json").read_text())
    assert report["teachers"] == ["dense", "regions"] and report["fusion"] == "addition"
    (scene,) = report["scenes"]
    assert scene["up_from"] == "parameter" and scene["teachers"][0]["seen"] > 0.3
    assert scene["teachers"][0]["frames"]["used"] == 3
    assert (run / "report" / "scenes.png").stat().st_size > 1000
    assert all(0 <= one["agreement"] <= 1 for one in [scene, *scene["teachers"]])
    assert "agreement, not truth" in (run / "report" / "report.md").read_text()
    bundle = StudentBundle.load(run / "mine.safetensors")
    assert bundle.provenance["supervision"].startswith("distilled from 2D teachers")
    (cloud,) = run.glob("clouds-*/*.npz")
    with np.load(cloud) as stored:
        points, turn = stored["points"], stored["rotation"]
    np.testing.assert_allclose(turn @ [0, -1, 0], [0, 0, 1], atol=1e-9)
    scene_features = Segmenter(bundle, device="cpu").segment(
        Cloud(points), Up(np.array([0.0, 0.0, 1.0]))
    )
    assert torch.isfinite(scene_features.features).all()

    # A second time nothing is made again.
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*-*/*.safetensors")}
    assert len(before) >= 4
    assert main(arguments(place, run)) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before

    # Another rule of fusion leaves clouds and teachers as they are.
    other = place / "linear.toml"
    other.write_text(CONFIG + '[fusion]\nrule = "linear"\n')
    capsys.readouterr()
    assert main([*arguments(place, run), "--config", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fusion"] == "linear"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(run.glob("features-*"))) == 2 and len(list(run.glob("said-*"))) == 2


def test_a_run_that_is_killed_in_every_stage_goes_on(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with lives(tmp_path, "torch", "tqdm", "scipy.ndimage", "sas_training.learn.learning") as live:
        for when, pattern, says in (
            ("before", "clouds-*/*.npz", "clouds: 1 to make"),
            ("before", "superpoints-*/*.safetensors", "clouds: 1 to make"),
            ("before", "said-regions-*/*.safetensors", "clouds: 1 of 1 are there"),
            ("before", "features-*/*.safetensors", "superpoints: 1 of 1 are there"),
            ("after", f"training-*/run/{CHECKPOINT}", "teachers: 1 of 1 are there"),
            ("before", "mine.safetensors", "going on from step 2 of 4"),
            ("before", "report/report.json", "going on from step 4 of 4"),
        ):
            assert says in live.killed(when, pattern, arguments(place, run))
            there = {path for path in run.glob(pattern) if not path.name.startswith(".")}
            assert len(there) == (when == "after"), pattern
    assert main(arguments(place, run)) == 0
    assert json.loads((run / "report" / "report.json").read_text())["scenes"]
    assert main(arguments(place, tmp_path / "whole")) == 0
    cut, whole = (
        StudentBundle.load(tmp_path / run / "mine.safetensors").weights for run in ("run", "whole")
    )
    for key, value in whole.items():
        torch.testing.assert_close(cut[key], value, rtol=0, atol=0, msg=key)


@pytest.fixture(scope="module")
def alone(place: Path) -> Path:
    """What one worker made of two recordings."""
    make_seven_scenes(place / "rooms" / "seq-01")
    make_seven_scenes(place / "rooms" / "seq-02")
    for file in (place / "rooms" / "seq-02").glob("frame-000002.*"):
        file.unlink()  # so that the scenes differ
    assert main(of_rooms(place, place / "alone")) == 0
    return place / "alone"


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--workers", "2"), ("--ray", "local")], ids=" ".join)
def test_scenes_made_by_other_processes_are_the_same_bytes(
    more: tuple[str, str],
    place: Path,
    alone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "--ray" in more:
        pytest.importorskip("ray", reason="Ray is an option for clusters")
    run = tmp_path / "run"
    monkeypatch.setenv(MARK, str(run))
    assert main([*of_rooms(place, run), *more]) == 0
    made = of_scenes(alone)
    assert of_scenes(run) == made and len(made) == 2 * 6
    for path in made:
        assert (run / path).read_bytes() == (alone / path).read_bytes(), path
    learned, expected = (StudentBundle.load(one / "mine.safetensors") for one in (run, alone))
    assert learned.weights.keys() == expected.weights.keys()
    for key, value in expected.weights.items():
        torch.testing.assert_close(learned.weights[key], value, rtol=0, atol=0, msg=key)
    scenes = json.loads((run / "report" / "report.json").read_text())["scenes"]
    assert [one["teachers"][0]["frames"]["used"] for one in scenes] == [3, 2]
    end = time.monotonic() + 20
    while marked(str(run)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not marked(str(run))


def of_rooms(place: Path, run: Path) -> list[str]:
    learn, _, *rest = arguments(place, run)
    return [learn, str(place / "rooms"), *rest]


def of_scenes(run: Path) -> set[Path]:
    """The files of all stages in which a scene is a job: two teachers, and four of other stages."""
    stages = ("clouds", "superpoints", "shown", "said", "features")
    return {path.relative_to(run) for stage in stages for path in run.glob(f"{stage}-*/*")}


MARK = "SAS_TEST_MARK"
"""A variable that processes inherit, also those that their parent has left."""


def marked(mark: str) -> list[str]:
    """Commands of processes with that mark, but for the one that Python keeps until its end."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [command for command in found if "resource_tracker" not in command]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no teacher"),
        ('[[teachers]]\nname = ""', "no name"),
        ('[[teachers]]\nname = "lseg"\nweigths = "x"', "no key 'weigths'"),
        ('[[teachers]]\nname = "lseg"\nweights = "absent.ckpt"', "absent.ckpt is not there"),
        ('[[teachers]]\nname = "lseg"\n[[teachers]]\nname = "lseg"', "different names"),
        ('[[teachers]]\nname = "a"\nsentences = "poem"', "sentences must be"),
        ('[[teachers]]\nname = "a"\n[fusion]\nrule = "capability"', "needs a table"),
        ('[[teachers]]\nname = "a"\n[fusion]\nrule = "vote"', "unknown"),
        ('[[teachers]]\nname = "a"\nsettings = { batch = 4 }', "table of texts"),
        ("teachers = 3", "table of its own"),
        ("recipe = [", "TOML"),
    ],
)
def test_mistakes_in_the_configuration_are_sentences(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "learn.toml").write_text(text)
    with pytest.raises(SasError, match=says):
        load_settings(tmp_path / "learn.toml")


def files(folder: Path, **changes: object) -> LearnFiles:
    settings = LearnSettings((TeacherChoice("a"),))
    recording = Recording("7scenes", folder, SceneSettings())
    chosen = replace(settings, **changes)  # type: ignore[arg-type]
    return LearnFiles.plan(folder / "run", recording, chosen)


def test_folders_follow_from_what_decides_their_files(tmp_path: Path) -> None:
    plain = files(tmp_path)
    two = files(tmp_path, teachers=(TeacherChoice("a"), TeacherChoice("b")))
    linear = files(tmp_path, teachers=two.settings.teachers, fusion=FusionChoice("linear"))
    seeded = files(tmp_path, changes=("seed=3",))
    prompted = files(tmp_path, changes=("vocabulary.prompt='my {}'",))
    encoded = files(tmp_path, changes=("vocabulary.text_encoder='other'",))
    assert plain.cloud("x") == two.cloud("x") and plain.said(0, "x") == two.said(0, "x")
    assert two.said(1, "x") not in (two.said(0, "x"), plain.said(0, "x"))
    assert len({f.features() for f in (plain, two, linear, prompted, encoded)}) == 5
    assert plain.said(0, "x") == prompted.said(0, "x") != encoded.said(0, "x")
    assert plain.features() == seeded.features()
    runs = {
        f.training(names, changes)
        for f in (plain, seeded)
        for names in (["x"], ["x", "y"])
        for changes in ([], ["schedule.repeats=2"])
    }
    assert len(runs) == 8
    up = Recording("7scenes", tmp_path, SceneSettings(), (0.0, 0.0, 1.0))
    moved = LearnFiles.plan(plain.run, up, plain.settings)
    assert moved.cloud("x") != plain.cloud("x") and moved.said(0, "x") != plain.said(0, "x")


def test_words_of_a_file_are_what_it_says_not_where_it_lies(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = (
        tmp_path_factory.mktemp("words") / "words.txt"
    )  # not in the recording, which is a key too
    changes = (f"vocabulary.labels={str(path)!r}",)
    folders = []
    for text in ("wall\nchair\n", "wall\nchair = a stool\n", "wall\nsofa\n"):
        path.write_text(text)
        folders.append(files(tmp_path, changes=changes).features())
    assert len(set(folders)) == 3
    path.write_text("wall\nchair\n")
    assert files(tmp_path, changes=changes).features() == folders[0]


def test_a_changed_recording_is_another_one_and_what_we_write_is_not(tmp_path: Path) -> None:
    (tmp_path / "seq").mkdir()
    pose = tmp_path / "seq" / "frame-000000.pose.txt"
    pose.write_text("1 0 0 0")
    first = files(tmp_path)
    (tmp_path / "run" / "frames").mkdir(parents=True)
    (tmp_path / "run" / "frames" / "a").write_text("ours")
    (tmp_path / "learn.toml").write_text("")
    assert files(tmp_path) == first
    pose.write_text("1 0 0 0.5")
    assert files(tmp_path).cloud_key != first.cloud_key
    with pytest.raises(SasError, match="inside the recording"):
        refuse_inside(first, tmp_path / "mine.safetensors")
    refuse_inside(first, tmp_path / "run" / "mine.safetensors")


def test_paths_are_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text("")
    (tmp_path / "my.toml").write_text("")
    (tmp_path / "learn.toml").write_text(
        'recipe = "my.toml"\n[[teachers]]\nname = "program"\nprogram = ["python", "plug.py"]'
    )
    settings = load_settings(tmp_path / "learn.toml")
    assert settings.recipe == str(tmp_path / "my.toml")
    assert settings.teachers[0].program == ("python", str(tmp_path / "plug.py"))


def test_few_scenes_make_small_batches_and_many_passes(tmp_path: Path) -> None:
    some = files(tmp_path, fewest_steps=500)
    epochs = some.recipe.schedule.epochs  # of procedural-small, batches of 4
    assert for_few_scenes(some, 1) == [
        "schedule.batch=1",
        "schedule.accumulate=1",
        f"schedule.repeats={-(-500 // epochs)}",
    ]
    assert for_few_scenes(some, 100) == []
    assert for_few_scenes(some, 4) == [f"schedule.repeats={-(-500 // epochs)}"]
    assert for_few_scenes(some, 5) == [f"schedule.repeats={-(-500 // (2 * epochs))}"]


def test_scenes_that_nobody_saw_are_left_out(tmp_path: Path) -> None:
    made = files(tmp_path)
    seen = np.array([True, False])
    for name, mask in (("good", seen), ("blind", ~seen & seen)):
        features = np.zeros((int(mask.sum()), 4), np.float16)
        PointFeatures(features, mask, "a", name).save(made.feature_file(name))
    said: list[str] = []
    assert seen_enough(made, ["good", "blind"], said.append) == ["good"]
    assert "blind is left out" in said[0]
    with pytest.raises(SasError, match="--check"):
        seen_enough(made, ["blind"], said.append)


@pytest.mark.slow
def test_a_cluster_does_the_jobs_and_hands_back_errors(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is an option for clusters")
    from sas_training.learn.cluster import RayWorkers

    targets = [tmp_path / f"{number}.txt" for number in range(4)]
    targets[0].write_text("there before")
    said: list[str] = []
    with RayWorkers("local", said.append) as workers:
        workers.do("files", [Job(target, atomic_write, (target, b"made")) for target in targets])
        absent = tmp_path / "absent.toml"
        with pytest.raises(SasError, match=r"There is no file .*absent\.toml"):
            workers.do("bad", [Job(tmp_path / "never", load_settings, (absent,))])
        with pytest.raises(SasError, match=r"did not make .*killed: \w+"):
            workers.do("dead", [Job(tmp_path / "killed", os._exit, (1,))])
    assert [target.read_text() for target in targets] == ["there before", *["made"] * 3]
    assert "1 of 4" in said[0]


def test_a_machine_of_the_cluster_that_dies_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what Ray does where a worker process dies, in a stand-in for it."""
    from sas_training.learn.cluster import RayWorkers

    class RayError(Exception):
        pass

    class WorkerCrashedError(RayError):
        def __str__(self) -> str:
            return "The worker died unexpectedly.\nIts log says why."

    def get(_: object) -> None:
        raise WorkerCrashedError

    cancelled: list[object] = []
    reports: list[str] = []
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    ray = SimpleNamespace(
        init=lambda **_: reports.append(os.environ["RAY_USAGE_STATS_ENABLED"]),
        shutdown=lambda: None,
        remote=lambda **_: lambda _: SimpleNamespace(remote=lambda job, _: str(job.target)),
        wait=lambda waiting, num_returns: (waiting[:1], waiting[1:]),
        get=get,
        cancel=cancelled.append,
        exceptions=SimpleNamespace(RayError=RayError),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    jobs = [Job(tmp_path / name, atomic_write, (tmp_path / name, b"")) for name in ("kitchen", "b")]
    with (
        RayWorkers("auto", lambda _: None) as workers,
        pytest.raises(SasError, match=r"kitchen: WorkerCrashedError, Its log says why\. Run the"),
    ):
        workers.do("clouds", jobs)
    assert cancelled == [str(tmp_path / "b")]
    assert reports == ["0"]  # what Ray would tell its makers about a cluster that it starts


def test_a_cluster_works_in_the_folder_of_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sas_training.learn.cluster import _run

    monkeypatch.chdir(tmp_path)  # where the cluster was started
    (tmp_path / "mine").mkdir()
    _run(Job(Path("made"), atomic_write, (Path("made"), b"")), tmp_path / "mine")
    assert (tmp_path / "mine" / "made").exists()
    _run(Job(tmp_path / "whole", atomic_write, (tmp_path / "whole", b"")), tmp_path / "absent")


def test_without_ray_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from sas_training.learn.cluster import RayWorkers

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SasError, match="pip install ray"):
        RayWorkers("auto")
