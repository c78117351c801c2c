"""The priors of the procedural world: pictures, captions, losses, trainings that go on, folders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_ros.language.available import MINILM, encoder_available
from sas_training.capability.segmenters import Segmented
from sas_training.cli import main
from sas_training.evaluation.labels import SCANNET20
from sas_training.jobs import Workers
from sas_training.priors import held_out, segmenter, stages
from sas_training.priors.captions import caption, colour_name
from sas_training.priors.fit import Fit
from sas_training.priors.pictures import cut_square, square_around
from sas_training.priors.saving import PIPELINE, SEGMENTER, read_report
from sas_training.priors.segmenter import mask_loss, new_segmenter, points_inside
from sas_training.priors.settings import (
    SCALES,
    FitSettings,
    SegmenterSettings,
    load_priors_settings,
)
from sas_training.priors.stages import PriorsFiles, make_priors, write_folders


# --------------------------------------------------------------------------------------- settings
@pytest.mark.parametrize("scale", SCALES)
def test_settings_of_every_scale_are_read(scale: str) -> None:
    assert load_priors_settings(scale).scale == scale


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sead = 1", "no key 'sead'"),
        ('[pictures]\nclasses = ["tree"]', "'tree' is no class"),
        ("[pictures]\nper_class = 0", "per_class must be 1 or more"),
        ("[pictures]\nsize = 50", "16 times something"),
        ("[autoencoder.fit]\nsteps = 0", "steps of a training"),
        ("[autoencoder.fit]\nlearning_rate = 2.0", "not in 0 to 1"),
        ("[denoiser.fit]\nema = 1.0", "moving average"),
        ("[denoiser]\ndropped = 1.0", "dropped captions"),
        ("[denoiser]\ntext_layers = 7", "layers 1 to 6"),
        ("[denoiser]\nchannels = [8, 8, 8, 8, 8, 8]", "cannot be halved"),
        ("[segmenter]\npatch = 7", "do not fit"),
        (
            "[denoiser]\nfit = { optimiser = 'sgd' }",
            "optimiser 'sgd' is unknown; use adam, adamw, ",
        ),
        ("[segmenter]\nfit = { optimiser = 'muon' }", 'SAM is not fitted with "muon"'),
        ("[segmenter]\nheads = 6", "6 heads do not share a width of 96 and 64 channels"),
    ],
)
def test_mistakes_in_settings_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(SasError, match=message):
        load_priors_settings(str(path))


def test_an_unknown_scale_and_a_missing_run_are_named(tmp_path: Path) -> None:
    with pytest.raises(SasError, match="tiny, small, full"):
        load_priors_settings("huge")
    with pytest.raises(SasError, match="no priors in"):
        read_report(tmp_path)
    (tmp_path / "priors.json").write_text('{"kind": "sas_priors", "format_version": 9}')
    with pytest.raises(SasError, match="format 9"):
        read_report(tmp_path)


def _report() -> dict[str, Any]:
    return {
        "kind": "sas_priors",
        "format_version": 1,
        "weights": ["a", "b", "c"],
        "training": {"autoencoder": {"loss": 0.5}, "denoiser": {"loss": 1, "unfinished": 3}},
        "settings": load_priors_settings("tiny").to_dict(),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": None}, "weights are no list"),
        ({"weights": [1]}, "weights are no list"),
        ({"training": None}, "training is not"),
        ({"training": {"denoiser": {}}}, "training is not"),
        ({"training": {"denoiser": {"loss": 0.1, "unfinished": "3"}}}, "training is not"),
        ({"settings": 3}, "lacks its settings"),
        ({"settings": {"pictures": {"size": "wide"}}}, "size must be"),
        ({"settings": {"pictures": {"classes": 3}}}, "classes must be"),
        ({"settings": {"seeds": 3}}, "no key 'seeds'"),
    ],
)
def test_a_damaged_report_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    for name in (PIPELINE, SEGMENTER):
        (tmp_path / name).mkdir()
    (tmp_path / "priors.json").write_text(json.dumps(_report()))
    assert read_report(tmp_path)["weights"] == _report()["weights"]
    (tmp_path / "priors.json").write_text(json.dumps({**_report(), **change}))
    with pytest.raises(SasError, match=message):
        read_report(tmp_path)


def test_the_report_is_gone_before_folders_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("diffusers", "transformers"):
        pytest.importorskip(package)
    files = PriorsFiles(tmp_path, load_priors_settings("tiny"))
    for name in (PIPELINE, SEGMENTER):
        (tmp_path / name).mkdir()
    files.report.write_text(json.dumps(_report()))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "_filled", lambda *_: {"loss": 0.1})
    monkeypatch.setattr(stages, "_latents", lambda _: (None, 1.0))
    monkeypatch.setattr(stages, "text_parts", lambda *_: ("tokenizer", "model"))
    monkeypatch.setattr(stages, "save_pipeline", lambda *_: None)
    monkeypatch.setattr(stages, "save_segmenter", killed)
    with pytest.raises(KeyboardInterrupt):
        write_folders(files)
    with pytest.raises(SasError, match="no priors in"):
        read_report(tmp_path)


def test_an_old_library_is_named_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("diffusers", "transformers"):
        pytest.importorskip(package)
    # As in transformers 4, which has no such module.
    monkeypatch.setitem(sys.modules, "transformers.models.sam.image_processing_pil_sam", None)
    monkeypatch.setattr(stages, "text_parts", lambda *_: ("tokenizer", "model"))
    files = PriorsFiles(tmp_path / "run", load_priors_settings("tiny"))
    with Workers(1, lambda _: None) as workers, pytest.raises(SasError, match="from 5 on"):
        make_priors(files, workers)
    assert not files.run.exists()


# --------------------------------------------------------------------------------- what is learned
@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((250, 250, 245), "white"),
        ((120, 122, 121), "grey"),
        ((20, 20, 25), "black"),
        ((220, 20, 20), "red"),
        ((110, 75, 45), "brown"),
        ((225, 205, 170), "beige"),
        ((40, 90, 200), "blue"),
        ((50, 140, 60), "green"),
        ((240, 220, 40), "yellow"),
    ],
)
def test_colours_have_their_common_names(rgb: tuple[float, ...], name: str) -> None:
    assert colour_name(np.array(rgb, dtype=np.float64)) == name


def test_captions_name_the_class_in_many_ways() -> None:
    rng = np.random.default_rng(1)
    said = {caption(SCANNET20.id_of("sofa"), "red", rng) for _ in range(300)}
    assert len(said) > 50
    assert {"a good photo of sofa", "a good photo of a sofa in a room"} <= said
    assert any("red couch" in one for one in said)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_square_holds_what_it_is_cut_around(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((120, 160), dtype=bool)
    top, left = int(rng.integers(120)), int(rng.integers(160))
    mask[top : top + int(rng.integers(1, 120)), left : left + int(rng.integers(1, 100))] = True
    row, column, side = square_around(mask, rng)
    assert 72 <= side <= 120
    assert 0 <= row <= 120 - side
    assert 0 <= column <= 160 - side
    assert mask[row : row + side, column : column + side].sum() == mask.sum()


def test_images_and_masks_are_cut_alike() -> None:
    mask = np.zeros((120, 160), dtype=bool)
    mask[30:70, 60:110] = True
    image = np.where(mask[..., None], np.uint8(255), np.uint8(0)) * np.ones(3, np.uint8)
    small, shown = cut_square(image, mask, (10, 30, 100), 50)
    assert small.shape == (50, 50, 3)
    np.testing.assert_array_equal(small[..., 0] > 127, shown)
    assert shown.sum() == 20 * 25


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_points_lie_inside_what_they_ask_for(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((12, 17)) < 0.2
    mask[5, 5] = True
    points = points_inside(mask, count, rng).astype(int)
    assert points.shape == (count, 2)
    assert mask[points[:, 1], points[:, 0]].all()


def test_the_loss_of_masks_is_what_it_says() -> None:
    rng = np.random.default_rng(3)
    logits, true = rng.normal(size=(4, 5)) * 2, (rng.random((4, 5)) < 0.4).astype(np.float64)
    found = mask_loss(torch.from_numpy(logits), torch.from_numpy(true))
    share = 1 / (1 + np.exp(-logits))
    right = np.where(true == 1, share, 1 - share)
    plain = -np.log(right)
    expected = plain.mean() + 20 * (plain * (1 - right) ** 2).mean()
    expected += 1 - (2 * (share * true).sum() + 1) / (share.sum() + true.sum() + 1)
    assert float(found) == pytest.approx(expected, rel=1e-9)
    perfect = mask_loss(torch.from_numpy(40 * (2 * true - 1)), torch.from_numpy(true))
    assert float(perfect) == pytest.approx(0, abs=1e-6)


def _learned(own: bool) -> float:
    """IoU of a SAM, asked for discs around points, in the last ten of 120 steps."""
    torch.manual_seed(1)
    with pytest.MonkeyPatch.context() as patched:
        if not own:  # the weights that transformers begins with
            patched.setattr(segmenter, "_begin", lambda network: None)
        about = SegmenterSettings(size=64, width=16, layers=1, channels=32)
        network = new_segmenter(about, 1)
    learned = [one for one in network.parameters() if one.requires_grad]
    optimiser, chance = torch.optim.AdamW(learned, 3e-3), torch.Generator().manual_seed(1)
    middle, shares = torch.arange(32.0) + 0.5, []
    for _ in range(120):
        points = 64 * torch.rand(8, 1, 1, 2, generator=chance)
        x, y = (middle - points[..., axis, None] / 2 for axis in (0, 1))
        true = (x[..., None, :] ** 2 + y[..., :, None] ** 2 < 8**2).float()  # a disc around it
        said = network(
            pixel_values=torch.zeros(8, 3, 64, 64),
            input_points=points,
            input_labels=torch.ones(8, 1, 1, dtype=torch.long),
            multimask_output=False,
        ).pred_masks
        optimiser.zero_grad()
        mask_loss(said, true).mean().backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        both, either = (said > 0) & (true > 0.5), (said > 0) | (true > 0.5)
        shares.append(float(both.sum() / either.sum()))
    return float(np.mean(shares[-10:]))


def test_a_new_sam_learns_within_seconds_where_a_point_is() -> None:
    pytest.importorskip("transformers")
    assert _learned(own=True) > 0.6  # docs/capability_experiment.md says 0.7
    assert _learned(own=False) < 0.05


def test_figures_of_a_sam_are_means_over_its_masks() -> None:
    image, mask = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), dtype=bool)
    mask[4:12, 4:12] = True

    class Half:
        description: ClassVar[dict[str, Any]] = {}
        scores: ClassVar[list[float]] = [0.9, 0.2]

        def segment(self, image: Any, points: Any) -> Segmented:
            assert mask[points[:, 1], points[:, 0]].all()
            score = self.scores.pop(0)
            return Segmented(mask if score < 0.5 else mask & (np.arange(16) < 8), score)

    found = held_out._figures(Half(), [(image, mask), (image, mask)])
    assert found == {
        "count": 2, "iou": 0.75, "predicted": pytest.approx(0.55), "sure": 0.5, "iou_sure": 0.5,
    }  # fmt: skip


# -------------------------------------------------------------------------------------- trainings
def _fit(checkpoint: Path, about: str = "line", optimiser: str = "adamw") -> Fit:
    torch.manual_seed(0)
    line = torch.nn.Linear(3, 1)

    def loss(rng: np.random.Generator) -> torch.Tensor:
        given = torch.from_numpy(rng.normal(size=(16, 3))).float()
        error: torch.Tensor = line(given)[:, 0] - given.sum(dim=1)
        return error.square().mean()

    settings = FitSettings(12, 16, 0.1, 2, ema=0.5, checkpoint=4, optimiser=optimiser)
    return Fit(line, loss, settings, (1,), about, checkpoint)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_training_that_was_stopped_ends_where_an_undisturbed_one_does(
    tmp_path: Path, optimiser: str
) -> None:
    whole = _fit(tmp_path / "whole.pt", optimiser=optimiser)
    assert list(whole.steps()) == list(range(1, 13))
    first = _fit(tmp_path / "parts.pt", optimiser=optimiser)
    for step in first.steps():
        if step == 6:  # two after the last checkpoint
            break
    second = _fit(tmp_path / "parts.pt", optimiser=optimiser)
    assert second.step == 4
    assert list(second.steps()) == list(range(5, 13))
    for one, other in zip(
        whole.network.state_dict().values(), second.network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
    assert second.loss == whole.loss
    with pytest.raises(SasError, match="another training"):
        _fit(tmp_path / "parts.pt", about="curve")
    (tmp_path / "parts.pt").write_bytes(b"nothing")
    with pytest.raises(SasError, match="cannot be read"):
        _fit(tmp_path / "parts.pt")


_KILLED = """
import os, signal, sys
from sas_training.cli import main
from sas_training.priors.fit import Fit

save = Fit._save

def saved(self):
    save(self)
    if "denoiser" in self._checkpoint.name:
        os.kill(os.getpid(), signal.SIGKILL)

Fit._save = saved
main(sys.argv[1:])
"""


def test_priors_are_made_though_killed_and_used_by_the_capability_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("scipy", "numba", "tqdm", "diffusers", "transformers"):
        pytest.importorskip(package)
    why_not = encoder_available(MINILM)
    if why_not is not None:
        pytest.skip(why_not)
    from sas_training.capability.pipelines import load_pipeline
    from sas_training.capability.segmenters import load_segmenter
    from sas_training.capability.tokens import class_tokens, prompt_of

    line = ["world", "train-priors", "--scale", "tiny", "-o", str(tmp_path), "--workers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, *line], env=environment, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    files = PriorsFiles(tmp_path, load_priors_settings("tiny"))
    assert files.latents.is_file()
    checkpoint = files.denoiser.with_suffix(".checkpoint.pt")
    assert checkpoint.is_file()
    assert not files.denoiser.exists()
    assert torch.load(checkpoint, weights_only=True)["step"] == 2
    with pytest.raises(SasError, match=f"nothing of .*{files.segmenter.name} yet"):
        write_folders(files)
    with pytest.raises(SasError, match=r"no latents at .* yet"):
        stages._latents(replace(files, run=tmp_path / "empty"))
    kept = files.autoencoder.stat().st_mtime_ns
    (tmp_path / "state.pt").write_bytes(checkpoint.read_bytes())

    assert main([*line, "--json"]) == 0
    printed, said = capsys.readouterr()
    assert said.count("have been kept") == 4  # things, rooms, autoencoder, latents
    assert files.autoencoder.stat().st_mtime_ns == kept
    report = json.loads(printed)
    assert set(report["training"]) == {"autoencoder", "denoiser", "segmenter"}
    figures = report["held_out"]["segmenter"]
    assert figures["things"]["count"] == 2 * held_out.PER_CLASS
    assert figures["regions"]["count"] > 2 * held_out.ROOMS
    assert all((tmp_path / f"{name}.png").is_file() for name in ("samples", "masks"))

    model = load_pipeline(tmp_path / "diffusion", device="cpu")
    assert model.size == 32
    tokens = class_tokens(model.pipe.tokenizer, prompt_of("a good photo of {}", "bed"))
    assert tokens == (5,)
    image = model.pipe(
        "a good photo of bed",
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images[0]
    assert image.shape == (32, 32, 3)
    sam = load_segmenter("transformers", tmp_path / "sam", device="cpu")
    assert sam is not None
    found = sam.segment((255 * image).astype(np.uint8), np.array([[3, 4], [10, 20], [30, 30]]))
    assert found.mask.shape == (32, 32)

    # As if the training were still going on.
    files.denoiser.rename(tmp_path / "aside")
    checkpoint.write_bytes((tmp_path / "state.pt").read_bytes())
    assert main([*line, "--now"]) == 0
    assert "denoiser: last loss" in capsys.readouterr().out
    assert read_report(tmp_path)["training"]["denoiser"]["unfinished"] == 2
    assert read_report(tmp_path)["weights"][1].endswith("-after-2")
    (tmp_path / "aside").rename(files.denoiser)
    assert main(line) == 0  # and now it has ended
    assert "folders: diffusion and sam" in capsys.readouterr().err

    assert main(line) == 0
    printed, said = capsys.readouterr()
    assert "to make" not in said
    assert "folders: are there already" in said
    assert "wrote" not in said
    assert "autoencoder: last loss" in printed
