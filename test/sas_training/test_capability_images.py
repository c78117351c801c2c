"""Making images with attention: loading pipelines, seeds, batches, files, and being stopped."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sas_ros.errors import SasError
from sas_training.capability.files import (
    CapabilityFiles,
    folder_names,
    read_plane,
    read_run,
    safe_name,
    write_image,
    write_mask,
)
from sas_training.capability.samples import Sample
from sas_training.capability.sheets import COLUMNS, MORE, MOST, SIDE, class_sheet
from sas_training.teachers.images import read_image

pytest.importorskip("diffusers")

from tiny_diffusion import SIZE, save_pipeline

from sas_training.capability.images import ImageSettings, make_batch, make_images
from sas_training.capability.pipelines import TextToImage, find_pipeline, load_pipeline

CLASSES = ("chair", "shower curtain")
FAST = ImageSettings(steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("pipeline")
    save_pipeline(where, scheduler="pndm")
    return where


@pytest.fixture(scope="module")
def model(folder: Path) -> TextToImage:
    return load_pipeline(folder, device="cpu")


# Loading


def test_a_pipeline_is_loaded_with_what_it_is_known_by(folder: Path, model: TextToImage) -> None:
    assert (model.kind, model.scheduler) == ("StableDiffusionPipeline", "PNDMScheduler")
    assert (model.precision, model.size) == ("float32", SIZE)
    assert model.model.startswith("sha256:")
    other = load_pipeline(str(folder), scheduler="DDIM", device="cpu")
    assert other.scheduler == "DDIMScheduler" and other.model == model.model
    with pytest.raises(SasError, match=r"scheduler 'Best' does not fit .* DDIM, "):
        load_pipeline(folder, scheduler="Best", device="cpu")


def test_what_is_missing_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        SasError, match=r'is not in the local cache .* "hf download nobody/nothing"'
    ):
        find_pipeline("nobody/nothing")
    with pytest.raises(SasError, match="no folder of a pipeline at"):
        find_pipeline(tmp_path / "nothing")
    with pytest.raises(SasError, match="its model_index"):
        find_pipeline(tmp_path)
    with pytest.raises(SasError, match="no precision"):
        load_pipeline(folder, precision="float8")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SasError, match=r"pip install \"\.\[capability\]\""):
        load_pipeline(folder)


def test_half_a_pipeline_is_named(folder: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(SasError, match="may not have been fetched whole"):
        load_pipeline(broken, device="cpu")


def test_a_pipeline_of_another_kind_is_refused(tmp_path: Path) -> None:
    import diffusers

    unet = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path)
    with pytest.raises(SasError, match="DDPMPipeline, which has no tokenizer"):
        load_pipeline(tmp_path, device="cpu")


# Images


def close(first: Any, second: Any, most: float) -> bool:
    return bool(np.abs(np.asarray(first, float) - np.asarray(second, float)).max() <= most)


@pytest.mark.parametrize("scheduler", ["PNDM", "EulerAncestralDiscrete"])
def test_an_image_depends_on_its_seed_not_on_its_batch(folder: Path, scheduler: str) -> None:
    model = load_pipeline(folder, scheduler, device="cpu")
    together = make_batch(model, "chair", [0, 1, 2], FAST)
    for one in together:
        (alone,) = make_batch(model, "chair", [one.seed], FAST)
        # Sums of other lengths are rounded otherwise: at most one of 256 steps.
        assert close(alone.image, one.image, 1)
        for rule in ("paper", "released"):
            assert close(alone.attention[rule], one.attention[rule], 1e-3)
    assert not close(together[0].image, together[1].image, 8)
    again = make_batch(model, "chair", [0, 1, 2], FAST)
    for one, other in zip(together, again, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_a_pipeline_with_two_text_encoders_makes_images(tmp_path: Path) -> None:
    save_pipeline(tmp_path, "sdxl")
    model = load_pipeline(tmp_path, device="cpu")
    assert (model.kind, model.scheduler) == ("StableDiffusionXLPipeline", "DDIMScheduler")
    assert (model.precision, model.size) == ("float32", SIZE)
    chairs = make_batch(model, "chair", [0, 1], FAST)
    (curtain,) = make_batch(model, "shower curtain", [0], FAST)
    for one in (*chairs, curtain):
        assert one.image.shape == (SIZE, SIZE, 3) and one.image.dtype == np.uint8
        for rule in ("paper", "released"):
            plane = one.attention[rule]
            assert (plane.min(), plane.max()) == (0, 1) and 0.01 < plane.mean() < 0.99
    (alone,) = make_batch(model, "chair", [1], FAST)
    assert close(alone.image, chairs[1].image, 1)
    assert not close(chairs[0].image, chairs[1].image, 8)  # other noise
    assert not close(chairs[0].image, curtain.image, 0)  # other words
    assert not close(chairs[0].attention["paper"], curtain.attention["paper"], 1e-3)


def test_settings_are_checked() -> None:
    for wrong in ({"steps": 0}, {"guidance": -1.0}, {"size": 12}, {"prompt": "no place"}):
        with pytest.raises(SasError):
            ImageSettings(**wrong)  # type: ignore[arg-type]


# Files


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_images_and_attention_are_written_and_kept(model: TextToImage, tmp_path: Path) -> None:
    files = CapabilityFiles(tmp_path, CLASSES)
    assert make_images(model, files, CLASSES, FAST, images=3, batch=2) == 6
    assert read_image(files.image("chair", 2)).shape == (SIZE, SIZE, 3)
    for rule in ("paper", "released"):
        plane = read_plane(files.attention(rule, "shower curtain", 0))
        assert (plane.min(), plane.max()) == (0, 255)
    run = read_run(tmp_path / "run.json")
    assert run["model"] == model.model and run["steps"] == 2
    assert (run["prompt"], run["size"]) == ("a good photo of {}", SIZE)
    first = contents(tmp_path)
    assert make_images(model, files, CLASSES, FAST, images=3, batch=2) == 0
    files.image("chair", 1).unlink()
    assert make_images(model, files, CLASSES, FAST, images=3, batch=2) == 1
    assert contents(tmp_path) == first
    assert make_images(model, files, CLASSES, FAST, images=4, batch=2) == 2
    assert {**contents(tmp_path), **first} == contents(tmp_path)


def test_other_settings_are_a_sentence_not_a_mix(model: TextToImage, tmp_path: Path) -> None:
    files = CapabilityFiles(tmp_path, CLASSES)
    make_images(model, files, ["chair"], FAST, images=1)
    with pytest.raises(SasError, match="made with steps = 2, not 3"):
        make_images(model, files, ["chair"], ImageSettings(steps=3), images=1)
    run = tmp_path / "run.json"
    for text, said in (
        ("{", "cannot be read"),
        ("[]", "does not describe"),
        (json.dumps({"kind": "sas_capability_run", "format_version": 2}), "format 2"),
        (json.dumps({"kind": "sas_capability_run", "format_version": 1}), "damaged"),
    ):
        run.write_text(text)
        with pytest.raises(SasError, match=said):
            make_images(model, files, ["chair"], FAST, images=1)
    run.unlink()
    with pytest.raises(SasError, match="has images but no run"):
        make_images(model, files, ["chair"], FAST, images=1)


def test_folders_of_classes() -> None:
    assert safe_name(" shower curtain/é ") == "shower_curtain_é"
    assert safe_name("../..") == "_" and safe_name("tv-stand") == "tv-stand"
    with pytest.raises(SasError, match="share the folder"):
        folder_names(["a b", "a_b"])
    with pytest.raises(SasError, match="share the folder"):
        folder_names(["Bed", "bed"])


_KILLED = """
import os, sys
from pathlib import Path
import sas_training.capability.images as images
from sas_training.capability.files import CapabilityFiles, write_image
from sas_training.capability.pipelines import load_pipeline

left = int(sys.argv[3])

def dying(path, image):
    global left
    if left == 0:
        print("now", flush=True)
        sys.stdin.read()  # is killed here
    left -= 1
    write_image(path, image)

images.write_image = dying
model = load_pipeline(sys.argv[1], device="cpu")
files = CapabilityFiles(Path(sys.argv[2]), ("chair", "shower curtain"))
settings = images.ImageSettings(steps=2)
images.make_images(model, files, ("chair", "shower curtain"), settings, images=3, batch=2)
"""


def test_killed_and_resumed_it_ends_with_the_same_files(
    folder: Path, model: TextToImage, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    make_images(model, CapabilityFiles(whole, CLASSES), CLASSES, FAST, images=3, batch=2)
    # In the middle of a batch: its first image is there, the second one's attention too.
    command = [sys.executable, "-W", "ignore", "-c", _KILLED, str(folder), str(cut), "3"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    files = CapabilityFiles(cut, CLASSES)
    assert files.image("shower curtain", 0).parent.exists() or files.image("chair", 2).exists()
    assert len(list(cut.rglob("images/*/*.png"))) == 3
    assert make_images(model, files, CLASSES, FAST, images=3, batch=2) == 3
    assert contents(cut) == contents(whole)


def test_a_partial_file_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a" / "0000.png"
    with pytest.raises(TypeError):
        write_image(path, None)  # type: ignore[arg-type]
    assert not path.exists() and not list(path.parent.iterdir())


@pytest.mark.parametrize("images", [3, MOST + 2 * COLUMNS + 1, MOST + MORE + 5])
def test_a_sheet_shows_every_image_up_to_a_hundred(tmp_path: Path, images: int) -> None:
    """Each of a colour of its own, with a mask over its left half."""
    samples = []
    for number in range(images):
        image, mask = tmp_path / f"{number}.png", tmp_path / f"{number}-mask.png"
        write_image(image, np.full((16, 16, 3), (0, 2 * number, 100), dtype=np.uint8))
        write_mask(mask, np.tile(np.arange(16) < 8, (16, 1)))
        samples.append(Sample("chair", f"{number:04d}", image, mask))
    sheet = class_sheet(samples)
    assert sheet.shape[1] // SIDE == (COLUMNS if images > MOST else 2)
    colours = sheet.astype(np.int64) @ np.array([65536, 256, 1])
    found = dict(zip(*np.unique(colours, return_counts=True), strict=True))
    for number in range(images):
        dark = 256 * round(2 * number * 0.6) + 60  # what the mask leaves out
        assert (found.get(dark, 0) > SIDE * SIDE / 3) == (number < MOST + MORE), number
