"""Killed (SIGKILL) in the middle of their work, commands go on and end as they would have whole."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killed import Lives, contents, lives, times
from PIL import Image as Pictures
from safetensors.torch import load_file
from teachers import box_room

from sas_ros.language.available import MINILM, encoder_available
from sas_training.distill.run_folder import CHECKPOINT
from sas_training.experiment.network import SmallNetwork
from sas_training.experiment.teachers import TeacherFacts, save_teacher
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.openscene import write_openscene
from sas_training.teachers import reference_plugin

for package in ("scipy", "numba", "tqdm"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    modules = ("torch", "tqdm", "scipy.ndimage", "sas_training.experiment.stages")
    with lives(tmp_path_factory.mktemp("lives"), *modules) as found:
        yield found


# ------------------------------------------------------------------------------------------ world
def test_rooms_of_a_killed_run_are_those_of_a_whole_one(live: Lives, tmp_path: Path) -> None:
    def words(name: str, workers: int) -> list[str]:
        made = ["world", "make", "-o", str(tmp_path / name), "--rooms", "7", "--seed", "5"]
        return [*made, "--frames", "1", "--workers", str(workers)]

    def kept() -> dict[Path, int]:
        # Scan and views of a room come from one chance: they are made together.
        return {**times(cut / "frames"), **times(cut / "rooms")}

    cut = tmp_path / "cut"
    for when, pattern, there in (
        ("after", "frames/room-000000-frame0.npz", "frames/room-000000-frame0.npz"),
        ("before", "rooms/room-000000.npz", "views/room-000000-view0.npz"),
        ("before", "views/room-000001-view0.npz", "frames/room-000001-frame0.npz"),
    ):
        before = kept()
        live.killed(when, pattern, words("cut", 1))
        assert (cut / there).is_file() and (cut / pattern).exists() == (when == "after")
        assert before.items() <= kept().items()
    # Killed in the middle of its processes' work, a run leaves none of them behind: nobody holds
    # the other side of the pipe any more.
    command = [sys.executable, "-m", "sas_training.cli", *words("cut", 2)]
    run = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert run.stderr is not None
    said = b""
    while not re.search(rb"[1-6]/7", said):
        said += os.read(run.stderr.fileno(), 4096)
    run.kill()
    run.communicate(timeout=60)
    assert (cut / "rooms/room-000000.npz").is_file()
    assert not (cut / "rooms/room-000006.npz").exists()
    before = kept()
    assert "there already and have been kept" in live.whole(words("cut", 1))
    assert before.items() <= kept().items()
    live.whole(words("whole", 2))
    assert contents(cut) == contents(tmp_path / "whole")


# ------------------------------------------------------------------------------------------ teach
@pytest.mark.parametrize("kind", ["masks", "pixels", "aligned"])
def test_what_a_killed_teacher_said_is_kept(live: Lives, tmp_path: Path, kind: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(5):
        values = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Pictures.fromarray(values).save(photos / f"photo-{number}.png")
    program = shlex.join([sys.executable, str(reference_plugin.__file__)])
    teacher, suffix = ["program", "--program", program], ".masks.json"
    if kind == "masks":
        teacher.append("--pictures")
    elif kind == "aligned":
        _needs_words()
        teacher += ["--captioner", "program", "--captioner-program", program]
        teacher += ["--align", "noun", "--encoder", MINILM]
        suffix = ".pixels.safetensors"
    else:
        torch.manual_seed(0)
        weights = tmp_path / "small.safetensors"
        facts = TeacherFacts("small", "pixels", (), "minilm-l6-v2", 4, 1, 384)
        save_teacher(weights, SmallNetwork(4, 384), facts)
        teacher, suffix = ["small", "--weights", str(weights)], ".pixels.safetensors"

    def words(name: str) -> list[str]:
        name_of, *more = teacher
        command = ["teach", name_of, str(photos), *more, "--batch", "2", "--device", "cpu"]
        return [*command, "-o", str(tmp_path / name)]

    def kept(*suffixes: str) -> dict[Path, int]:
        return {
            path: time
            for path, time in times(cut).items()
            if path.name.endswith(suffixes or suffix)
        }

    cut, there = tmp_path / "cut", 0
    if kind == "aligned":  # what the program said is kept, and not asked again
        live.killed("after", "cut/masks/*/*.masks.json", words("cut"))
        assert len(kept(".masks.json")) == 1 and not kept()
    for when, number in (("before", 1), ("after", 3)):
        before = kept(suffix, ".masks.json")
        live.killed(when, f"photo-{number}{suffix}", words("cut"))
        there = number + (when == "after")
        assert len(kept()) == there and before.items() <= kept(suffix, ".masks.json").items()
    before = kept()
    assert f"{there} of 5 images were done already" in live.whole(words("cut"))
    assert before.items() <= kept().items()
    live.whole(words("whole"))
    whole = contents(tmp_path / "whole")
    assert len([name for name in whole if name.endswith(suffix)]) == 5
    assert contents(cut, ".*") == whole


def test_published_features_are_converted_though_killed(live: Lives, tmp_path: Path) -> None:
    published = tmp_path / "published"
    published.mkdir()
    for number in range(3):
        rows = np.full((2, 3), number, np.float16)
        features = PointFeatures(rows, np.array([True, False, True]), "lseg", f"scene{number}")
        write_openscene(features, published / f"scene{number}_0.pt")

    def words(name: str) -> list[str]:
        return ["teach", "precomputed", str(published), "-o", str(tmp_path / name)]

    for when in ("before", "after"):
        live.killed(when, "scene1.safetensors", words("cut"))
        assert (tmp_path / "cut" / "scene1.safetensors").exists() == (when == "after")
    live.whole(words("cut"))
    live.whole(words("whole"))
    whole = contents(tmp_path / "whole")
    assert len(whole) == 3 and contents(tmp_path / "cut", ".*") == whole


# ------------------------------------------------------------------------------------------ train
def test_a_killed_training_ends_with_the_same_weights(live: Lives, tmp_path: Path) -> None:
    _needs_words()
    rooms = tmp_path / "world" / "rooms"
    rooms.mkdir(parents=True)
    for number in range(2):
        points, labels, _ = box_room(number, 60)
        np.savez(rooms / f"room-{number}.npz", points=points, labels=labels)

    def words(name: str, every: int = 3) -> list[str]:
        output = ["-o", str(tmp_path / f"{name}.safetensors"), "--run", str(tmp_path / name)]
        small = ["--scans-per-step", "1", "--voxel-size", "0.5", "--steps", "8", "--no-colours"]
        small += ["--name", "s", "--workers", "0", "--device", "cpu", "--quiet"]
        every_so_often = ["--checkpoint-every", str(every)]
        return ["train", "--data", str(tmp_path / "world"), *output, *small, *every_so_often]

    run = tmp_path / "cut"
    for when, count, begun, step in (("after", 1, 0, 3), ("before", 1, 3, 3), ("before", 2, 3, 6)):
        said = live.killed(when, CHECKPOINT, words("cut"), count)
        assert (f"going on from step {begun} of 8" in said) == (begun > 0)
        assert _step(run) == step
        assert len(list(run.glob(".*"))) == (when == "before")  # of the last run alone
    assert not (tmp_path / "cut.safetensors").exists()
    assert "going on from step 6 of 8" in live.whole(words("cut"))
    assert set(contents(run)) == {CHECKPOINT, "lock"}
    live.whole(words("whole", every=250))
    cut, whole = (load_file(tmp_path / f"{name}.safetensors") for name in ("cut", "whole"))
    assert cut.keys() == whole.keys()
    for key, value in whole.items():
        torch.testing.assert_close(cut[key], value, rtol=0, atol=0, msg=key)


def _step(run: Path) -> int:
    """Of the checkpoint in the folder of a run."""
    return int(torch.load(run / CHECKPOINT, weights_only=True)["step"])


def _needs_words() -> None:
    why_not = encoder_available(MINILM)
    if why_not is not None:
        pytest.skip(why_not)


# --------------------------------------------------------------------------------------- ablation
TINY = Path(__file__).parents[2] / "config" / "experiment" / "tiny.toml"
DEATHS = (
    ("before", "words-*.npz", 1, "words: 1 to make"),
    ("after", "world-teaching-*/frames/room-000001-frame1.npz", 1, "words: 1 to make"),
    ("after", "teacher-surfaces-*.checkpoint.pt", 1, "rooms: teaching: 1 of 2 are there"),
    ("after", "teacher-surfaces-*.checkpoint.pt", 1, "rooms: teaching: 2 of 2 are there"),
    ("before", "teacher-objects-*.safetensors", 1, "teachers: 3 to make"),
    ("before", "rooms/room-000001.npz", 1, "teachers: 1 of 3 are there"),
    ("before", "room-000000.superpoints.safetensors", 1, "teachers: 3 of 3 are there"),
    ("before", "objects-*/chair.npz", 1, "rooms: students: 2 of 2 are there"),
    ("before", "capability-*.json", 1, "pictures of single objects: 4 of 20 are there"),
    ("before", "features-three-*/room-000000.*", 1, "single objects: 20 of 20 are there"),
    ("after", f"student-superpoint-*/{CHECKPOINT}", 1, "capability: 1 of 1 are there"),
    ("after", f"student-three-*/{CHECKPOINT}", 2, "features for students: 2 of 2 are there"),
    ("before", f"student-three-*/{CHECKPOINT}", 1, "students: 1 of 5 are there"),
    ("before", "rows-*/room-000001.npz", 1, "students: 1 of 5 are there"),
    ("before", "student-pixel-rooms-*/room-000001.npz", 1, "teachers in held-out rooms: 1 of 2"),
    ("before", "student-pixel-learned-*.npz", 1, "students in held-out rooms: 5 to make"),
    ("before", "ablation.json", 1, "students in held-out rooms: 5 of 5 are there"),
)
"""When to die, at the how-many-th file of which pattern, and what is said before that."""


@pytest.mark.slow
def test_the_ablation_killed_in_every_stage_has_the_same_result(
    live: Lives, tmp_path: Path
) -> None:
    """Of the smallest scale, with teachers that learn beyond their first checkpoint."""
    _needs_words()
    settings = tmp_path / "tiny.toml"
    tiny = TINY.read_text()
    settings.write_text(tiny.replace("steps = 80\nbatch = 2", "steps = 204\nbatch = 1"))

    def words(name: str) -> list[str]:
        scale = ["--scale", str(settings), "--workers", "1"]
        return ["experiment", "ablation", *scale, "--run", str(tmp_path / name)]

    cut, steps = tmp_path / "cut", []
    for when, pattern, count, says in DEATHS:
        assert says in live.killed(when, pattern, words("cut"), count), pattern
        if pattern.endswith(".pt"):
            (checkpoint,) = cut.rglob(pattern)
            steps.append(torch.load(checkpoint, weights_only=True)["step"])
    # Teachers: what began anew would have been killed at step 200 again. Students: an epoch has two
    # steps, and self-distillation begins after four.
    assert steps == [200, 204, 2, 4, 4]
    live.whole(words("cut"))
    live.whole(words("whole"))
    results = [_result(tmp_path / name) for name in ("cut", "whole")]
    assert results[0] == results[1] and len(results[0]["rows"]) > 5
    # Not only the figures: every file that a later stage reads. What was half written is hidden.
    unlike = ("*.pt", "ablation.*", ".*")
    assert contents(cut, *unlike) == contents(tmp_path / "whole", *unlike)


def _result(run: Path) -> dict[str, Any]:
    """Of the ablation, but for the state of the checkout that may change while it runs."""
    told: dict[str, Any] = json.loads((run / "development" / "ablation.json").read_text())
    return {key: value for key, value in told.items() if key not in ("commit", "changed")}
