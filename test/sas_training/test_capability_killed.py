"""Killed (SIGKILL) in every stage, commands go on and end as they would have undisturbed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from killed import Lives, lives
from made_scenes import make_seven_scenes
from safetensors.torch import load_file
from untrained import untrained_ablation, untrained_priors

from sas_ros.language.available import MINILM, encoder_available
from sas_training.capability.files import write_image, write_mask
from sas_training.capability.table import CapabilityTable
from sas_training.experiment.network import SmallNetwork
from sas_training.experiment.teachers import TeacherFacts, save_teacher
from sas_training.priors.saving import PIPELINE, save_segmenter
from sas_training.priors.segmenter import new_segmenter
from sas_training.priors.settings import load_priors_settings

for package in ("scipy", "numba", "tqdm", "diffusers", "transformers"):
    pytest.importorskip(package)
if encoder_available(MINILM) is not None:
    pytest.skip("needs the offline text encoder", allow_module_level=True)

SLOW_TO_IMPORT = (
    "scipy.ndimage",
    "tqdm",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "transformers.models.sam.modeling_sam",
    "transformers.models.sam.processing_sam",
    "sas_training.capability.running",
    "sas_training.experiment.capability_stages",
    "sas_training.learn.fusion_report",
    "sas_training.priors.stages",
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    with lives(tmp_path_factory.mktemp("lives"), *SLOW_TO_IMPORT, "warm_capability") as found:
        yield found


def whole(root: Path, *patterns: str) -> list[Path]:
    """Files of a run, but for hidden ones: those are what a killed process leaves behind."""
    found = {path for pattern in patterns or ("**/*",) for path in root.glob(pattern)}
    return sorted(
        path.relative_to(root)
        for path in found
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(root).parts)
    )


def contents(root: Path) -> dict[Path, bytes]:
    return {path: (root / path).read_bytes() for path in whole(root)}


def killed_everywhere(
    live: Lives,
    words: Callable[[Path], list[str]],
    root: Path,
    deaths: Sequence[tuple[str, str]],
) -> tuple[Path, Path]:
    """A run that dies as `deaths` say, one after the other, goes on and ends; and another."""
    cut = root / "cut"
    for when, pattern in deaths:
        before = set(whole(cut, pattern))
        live.killed(when, pattern, words(cut))
        assert len(set(whole(cut, pattern)) - before) == (when == "after"), pattern
    said = live.whole(words(cut))
    live.whole(words(root / "whole"))
    assert whole(cut) == whole(root / "whole"), said
    return cut, root / "whole"


def same_tensors(first: Path, second: Path) -> None:
    """Those of every .safetensors of two runs, bit by bit."""
    paths = whole(first, "**/*.safetensors")
    assert paths
    for path in paths:
        one, other = load_file(first / path), load_file(second / path)
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert torch.equal(value, other[name]), (path, name)


# -------------------------------------------------------------------------------- sas capability
BRIGHT = """
[[teachers]]
name = "small"
title = "dense"
weights = "dense.safetensors"
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two classes with coarse masks, a teacher, and a SAM that has learned nothing."""
    root = tmp_path_factory.mktemp("given")
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:32, :32]
    for label, name in enumerate(("bed", "chair")):
        for number in range(2):
            mask = (row - 16) ** 2 + (column - 14 - 3 * number) ** 2 < 60
            image = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
            image[mask, label] = 250
            write_image(root / "images" / name / f"{number}.png", image)
            write_mask(root / "coarse" / name / f"{number}.png", mask)
    torch.manual_seed(0)
    dense = TeacherFacts("dense", "pixels", (), MINILM, 4, 1, 384)
    save_teacher(root / "dense.safetensors", SmallNetwork(4, 384), dense)
    about = load_priors_settings("tiny")
    save_segmenter(root / "sam", new_segmenter(about.segmenter, 3), about)
    (root / "words.txt").write_text("bed\nchair\nother\n")
    (root / "learn.toml").write_text(BRIGHT)
    return root


def test_capability_is_killed_in_every_stage(live: Lives, given: Path, tmp_path: Path) -> None:
    def words(out: Path) -> list[str]:
        line = ["capability", "-o", str(out), "--words", str(given / "words.txt"), "--keep-all"]
        line += ["--given-images", str(given / "images"), "--given-coarse", str(given / "coarse")]
        line += ["--sam", "transformers", "--sam-weights", str(given / "sam"), "--device", "cpu"]
        return [*line, "--teachers", str(given / "learn.toml"), "--batch", "1"]

    cut, undisturbed = killed_everywhere(
        live,
        words,
        tmp_path,
        [
            ("after", "masks-*/bed/*.png"),
            ("after", "said-*/bed/*.png"),
            ("before", "sheets/chair.png"),
            ("before", "report.md"),
            ("after", "scores.json"),
            ("before", "capability.json"),
        ],
    )
    assert contents(cut) == contents(undisturbed)
    assert CapabilityTable.load(cut / "capability.json").classes == ("bed", "chair", "other")


def test_images_are_made_though_killed(live: Lives, given: Path, tmp_path: Path) -> None:
    untrained_priors(tmp_path / "priors")

    def words(out: Path) -> list[str]:
        line = ["capability", "-o", str(out), "--words", str(given / "words.txt"), "--keep-all"]
        line += ["--model", str(tmp_path / "priors" / PIPELINE), "-m", "3", "--steps", "2"]
        line += ["--sam", "none", "--threshold", "0.5", "--device", "cpu", "--batch", "2"]
        return [*line, "--teachers", str(given / "learn.toml")]

    cut, undisturbed = killed_everywhere(
        live,
        words,
        tmp_path,
        [
            ("before", "images/bed/*.png"),
            ("after", "attention/*/chair/*.png"),
            ("after", "images/chair/*.png"),
            ("before", "masks-*/bed/*.png"),
        ],
    )
    assert contents(cut) == contents(undisturbed)


# ------------------------------------------------------------------------------------- sas fuse
TWO = f"""{BRIGHT}
[[teachers]]
name = "small"
title = "regions"
weights = "regions.safetensors"
"""


def test_fusion_is_killed_in_every_stage(live: Lives, tmp_path: Path) -> None:
    make_seven_scenes(tmp_path / "seq-01")
    torch.manual_seed(0)
    save_teacher(
        tmp_path / "dense.safetensors",
        SmallNetwork(4, 384),
        TeacherFacts("dense", "pixels", (), MINILM, 4, 1, 384),
    )
    save_teacher(
        tmp_path / "regions.safetensors",
        SmallNetwork(4, 3),
        TeacherFacts("regions", "masks", ("wall", "picture", "window"), "", 4, 1, 3),
    )
    (tmp_path / "learn.toml").write_text(TWO)

    def words(run: Path) -> list[str]:
        line = ["fuse", str(tmp_path / "seq-01"), "--kind", "7scenes", "--up", "0,-1,0"]
        line += ["--config", str(tmp_path / "learn.toml"), "--run", str(run), "--frames", "2"]
        return [*line, "--device", "cpu"]

    cut, undisturbed = killed_everywhere(
        live,
        words,
        tmp_path,
        [
            ("before", "clouds-*/*.npz"),
            ("before", "frames/*/*.pixels.safetensors"),
            ("after", "frames/*/*.masks.json"),
            ("after", "said-dense-*/*.safetensors"),
            ("before", "said-regions-*/*.safetensors"),
            ("before", "features-*/*.safetensors"),
            ("after", "fusion/image-000.png"),
            ("before", "fusion/report.md"),
        ],
    )
    # A teacher's points also say, in the header, how often those asked in the same pass were
    # silent; of two teachers, one may have been asked alone after a death.
    same_tensors(cut, undisturbed)
    second = contents(undisturbed)
    for path, first in contents(cut).items():
        assert path.suffix == ".safetensors" or first == second[path], path


# -------------------------------------------------------------------------------------- priors
def test_priors_are_killed_in_every_training(live: Lives, tmp_path: Path) -> None:
    def words(run: Path) -> list[str]:
        return ["world", "train-priors", "--scale", "tiny", "-o", str(run), "--workers", "1"]

    cut, undisturbed = killed_everywhere(
        live,
        words,
        tmp_path,
        [
            ("after", "pictures-*/*bed*"),
            ("after", "autoencoder-*.checkpoint.pt"),
            ("before", "autoencoder-*.safetensors"),
            ("before", "latents-*.safetensors"),
            ("after", "segmenter-*.checkpoint.pt"),
            ("before", "segmenter-*.safetensors"),
            ("before", "priors.json"),
            ("after", "samples.png"),
        ],
    )
    same_tensors(cut, undisturbed)
    first, second = (json.loads((run / "priors.json").read_text()) for run in (cut, undisturbed))
    for report in (first, second):
        for one in report["training"].values():
            del one["seconds_per_step"]
    assert first == second


# --------------------------------------------------------------------- sas experiment capability
def test_the_experiment_is_killed_in_every_stage(live: Lives, tmp_path: Path) -> None:
    untrained_ablation(tmp_path / "ablation", held_out=1, frames=1, points=800)
    untrained_priors(tmp_path / "priors")
    config = tmp_path / "ablation" / "ablation.toml"
    tiny = Path(__file__).parents[2] / "config" / "experiment" / "capability-tiny.toml"
    own = tmp_path / "own.toml"
    own.write_text(tiny.read_text().replace('"tiny"\nimages', f'"{config}"\nimages'))

    def words(run: Path) -> list[str]:
        line = ["experiment", "capability", "--scale", str(own), "--run", str(run)]
        line += ["--ablation", str(config.parent), "--priors", str(tmp_path / "priors")]
        return [*line, "-o", str(run / "result"), "--workers", "1"]

    cut, undisturbed = killed_everywhere(
        live,
        words,
        tmp_path,
        [
            ("before", "frames-*/room-000000.npz"),
            ("before", "frames-*/truth.json"),
            ("after", "true-*/images/chair/0000.png"),
            ("before", "true-*/coarse/chair/0001.png"),
            ("before", "table-sam-*.json"),
            ("after", "generated-*/images/chair/0000.png"),
            ("before", "table-coarse-*.json"),
            ("after", "generated-*/masks-*/chair/*.png"),
            ("before", "generated-*/capability.json"),
            ("before", "rows-*/room-000000.npz"),
            ("before", "result/capability.json"),
        ],
    )
    second = contents(undisturbed)
    for path, first in contents(cut).items():  # pages name the folder of images given to them
        assert first.replace(bytes(cut), bytes(undisturbed)) == second[path], path
