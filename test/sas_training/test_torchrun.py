"""`torchrun ... sas distill` and `sas train`: two processes, killed between checkpoints, end as if
they were not.

Nothing here is timed: what is started looks for the instant to die itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distillation import WORDS
from killed import contents
from labelled_rooms import write_rooms
from teachers import box_room, write_scenes

from sas_ros.language.available import MINILM, encoder_available
from sas_ros.observation import Cloud, Up
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_training.distill.run_folder import CHECKPOINT
from sas_training.evaluation.labels import SCANNET20

pytest.importorskip("tqdm")
if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("this PyTorch has no gloo", allow_module_level=True)

RECIPE = """
description = "for a test"
[network]
family = "tiny"
inputs = ["one", "height"]
[vocabulary]
text_encoder = "minilm-l6-v2"
prompt = "{{}}"
[samples]
voxel_size = 0.5
[schedule]
epochs = 3
batch = 2
[self_distillation]
start_epoch = 2
history_epoch = 1
views = "{views}"
"""
"""Two steps an epoch; the history begins at step 3 and is learned from since step 5. In training it
is written after steps 3 to 6; of whole scenes there are passes after steps 2 and 4."""

SITE = """
import os, signal
from pathlib import Path

rank, replace = os.environ.get("RANK"), Path.replace

def noted(path, target):
    replace(path, target)
    with open(os.environ["NOTES"], "a") as notes:
        print(rank, target, file=notes)
    if rank == "0" and Path(target).match(os.environ["DEATH"]):
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

if rank is not None:
    Path.replace = noted
"""
"""What Python runs first in every process: notes down which rank gave which file its name, and
kills the launcher and the first process after the file that is named."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_scenes(tmp_path / "scenes", WORDS, points=60)
    np.savez(tmp_path / "words.npz", names=np.array(SCANNET20.names), embeddings=WORDS)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    return tmp_path


def torchrun(
    place: Path, name: str, verb: str, arguments: Sequence[str], death: str = ""
) -> tuple[int, str, str]:
    """Train a student NAME in two processes; the launcher's exit status, and what all of them said.

    Returns when nobody is left who could say anything.
    """
    own = place / name
    own.mkdir(exist_ok=True)
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")},
        "OMP_NUM_THREADS": "1",
        "NOTES": str(own / "notes"),
        "DEATH": death or "nothing",
        "PYTHONPATH": os.pathsep.join([str(place / "site"), str(Path(__file__).parents[2])]),
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "sas_training.cli", verb, "--device", "cpu"]
    command += ["--run-folder", str(own / "run"), "--workers", "0", "--quiet", "--name", "s"]
    command += ["-o", str(own / "s.safetensors"), *arguments]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, cwd=place
    )
    return ended.returncode, ended.stdout, ended.stderr


def distil(place: Path, name: str, every: int, death: str = "") -> tuple[int, str, str]:
    """Distil with a checkpoint `every` so many steps."""
    arguments = ["--data", str(place / "scenes"), "--recipe", str(place / "recipe.toml")]
    arguments += ["--embeddings", str(place / "words.npz"), "--json"]
    return torchrun(place, name, "distill", [*arguments, "--checkpoint-every", str(every)], death)


def written_by(place: Path, name: str) -> dict[str, list[Path]]:
    """Which rank gave which files their names, in their order."""
    written: dict[str, list[Path]] = {"0": [], "1": []}
    for line in (place / name / "notes").read_text().splitlines():
        rank, path = line.split(" ", 1)
        written[rank].append(Path(path))
    return written


def checkpoint(place: Path, name: str) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(place / name / "run" / CHECKPOINT, weights_only=True)
    return state


@pytest.mark.parametrize(
    ("views", "every", "death", "after"), [("training", 2, 5, 4), ("whole", 3, 4, 3)]
)
def test_two_processes_killed_between_checkpoints_go_on(
    place: Path, views: str, every: int, death: int, after: int
) -> None:
    """The first dies when it has written a history of step `death`, its checkpoint of `after`."""
    (place / "recipe.toml").write_text(RECIPE.format(views=views))
    code, out, said = distil(place, "whole", every)
    assert code == 0, said
    # The first process speaks and writes; of what others have seen they write the histories.
    report = json.loads(out)
    assert report["steps"] == 6 and "self_points" in report["last_losses"]
    written = {rank: set(paths) for rank, paths in written_by(place, "whole").items()}
    run = place / "whole" / "run"
    assert {run / CHECKPOINT, place / "whole" / "s.safetensors"} <= written["0"]
    assert written["1"] and {path.parent for path in written["1"]} == {run / "history"}
    assert not written["0"] & written["1"]

    # The histories are further than the checkpoint that a killed run goes on from.
    last = f"*.{death:09d}.safetensors"
    code, out, said = distil(place, "cut", every, f"history/{last}")
    assert (code, out) == (-signal.SIGKILL, ""), said
    assert checkpoint(place, "cut")["step"] == after
    assert list((place / "cut" / "run" / "history").glob(last))
    assert not (place / "cut" / "s.safetensors").exists()
    code, out, said = distil(place, "cut", every)
    assert code == 0 and said.count(f"going on from step {after} of 6") == 1, said
    assert json.loads(out)["last_losses"] == report["last_losses"]
    # No update of a history is lost, none counts twice, and nothing half written is left.
    ends = [contents(place / name / "run", CHECKPOINT, "events.*") for name in ("cut", "whole")]
    assert ends[0] == ends[1] and len(ends[0]) > 4

    cut, whole = (StudentBundle.load(place / name / "s.safetensors") for name in ("cut", "whole"))
    for key, value in whole.weights.items():
        torch.testing.assert_close(cut.weights[key], value, rtol=0, atol=0, msg=key)
    scene = Segmenter(cut, device="cpu").segment(
        Cloud(box_room(9, 400)[0]), Up(np.array([0.0, 0.0, 1.0]), "parameter")
    )
    assert torch.isfinite(scene.features).all() and scene.features.shape[1] == 16


@pytest.mark.skipif(encoder_available(MINILM) is not None, reason="needs the MiniLM weights")
def test_two_processes_that_learn_labels_go_on(place: Path) -> None:
    write_rooms(place / "world")
    arguments = ["--data", str(place / "world"), "--steps", "4", "--scans-per-step", "2"]
    arguments += ["--voxel-size", "0.3", "--checkpoint-every", "2"]
    code, _, said = torchrun(place, "whole", "train", arguments)
    assert code == 0, said
    written = written_by(place, "whole")
    assert written["0"].count(place / "whole" / "run" / CHECKPOINT) == 2 and not written["1"]

    code, out, said = torchrun(place, "cut", "train", arguments, f"run/{CHECKPOINT}")
    assert (code, out) == (-signal.SIGKILL, ""), said
    assert checkpoint(place, "cut")["step"] == 2
    code, _, said = torchrun(place, "cut", "train", arguments)
    assert code == 0 and said.count("going on from step 2 of 4") == 1, said
    cut, whole = (StudentBundle.load(place / name / "s.safetensors") for name in ("cut", "whole"))
    for key, value in whole.weights.items():
        torch.testing.assert_close(cut.weights[key], value, rtol=0, atol=0, msg=key)
    assert whole.provenance["processes"] == 2
