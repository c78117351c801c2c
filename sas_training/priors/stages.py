"""From settings to the two folders: every stage reads files and makes those that are missing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sas_ros import __version__
from sas_ros.errors import SasError
from sas_ros.files import atomic_path, atomic_write
from sas_ros.student.inputs import choose_device
from sas_training.experiment.pictures import Picture
from sas_training.jobs import Job, Workers, followed, key_of
from sas_training.priors import autoencoder as coding
from sas_training.priors.captions import colours_of
from sas_training.priors.denoiser import DenoiserLoss, new_denoiser
from sas_training.priors.fit import Fit, read_checkpoint
from sas_training.priors.held_out import segmenter_figures
from sas_training.priors.pictures import (
    ObjectPictures,
    object_pictures,
    pictures_folder,
    render,
    room_pictures,
)
from sas_training.priors.saving import (
    FORMAT_VERSION,
    KIND,
    PIPELINE,
    REPORT,
    SEGMENTER,
    read_report,
    save_pipeline,
    save_segmenter,
)
from sas_training.priors.segmenter import VERSION as SEGMENTER_VERSION
from sas_training.priors.segmenter import Examples, SegmenterLoss, new_processor, new_segmenter
from sas_training.priors.settings import FitSettings, PriorsSettings, SegmenterSettings
from sas_training.priors.text import Sentences, text_parts
from sas_training.scenes.procedural.manifest import WORLD_VERSION

VERSION = 2
"""Raised when the same settings begin to give other weights."""
CHECKPOINT = ".checkpoint.pt"


@dataclass(frozen=True)
class PriorsFiles:
    """The paths of a run; names have keys of what the files are made of.

    Attributes:
        run: folder of everything.
        settings: of the priors.
    """

    run: Path
    settings: PriorsSettings

    @property
    def pictures(self) -> Path:
        return pictures_folder(self.run, self.settings.seed)

    @property
    def autoencoder(self) -> Path:
        return self._weights("autoencoder", asdict(self.settings.autoencoder))

    @property
    def latents(self) -> Path:
        return self.run / f"latents-{key_of(self.autoencoder.stem)}.safetensors"

    @property
    def denoiser(self) -> Path:
        return self._weights("denoiser", asdict(self.settings.denoiser), self.latents.stem)

    @property
    def segmenter(self) -> Path:
        return self._weights("segmenter", asdict(self.settings.segmenter), SEGMENTER_VERSION)

    @property
    def report(self) -> Path:
        """What the two folders are; written last."""
        return self.run / REPORT

    def _weights(self, name: str, *about: Any) -> Path:
        pictures = asdict(self.settings.pictures)
        key = key_of(VERSION, self.pictures.name, pictures, *about)
        return self.run / f"{name}-{key}.safetensors"


def make_priors(files: PriorsFiles, workers: Workers) -> None:
    """Everything, from the pictures to `diffusion/`, `sam/` and priors.json.

    Raises:
        SasError: diffusers, transformers or the package of the text encoder is missing.
    """
    text_parts(1, files.settings.denoiser.words)  # before anything takes time
    _libraries()
    render(files.pictures, files.settings.pictures, files.settings.seed, workers)
    workers.do("autoencoder", [Job(files.autoencoder, _fit_autoencoder, (files,))])
    workers.do("latents", [Job(files.latents, _encode, (files,))])
    workers.do(
        "text-to-image model and SAM",
        [
            Job(files.denoiser, _fit_denoiser, (files,)),
            Job(files.segmenter, _fit_segmenter, (files,)),
        ],
    )
    if _written(files):
        workers.say("folders: are there already and have been kept")
        return
    workers.say("folders: diffusion and sam")
    write_folders(files)


def _libraries() -> None:
    try:
        import diffusers  # noqa: F401

        new_processor(SegmenterSettings())
    except ImportError as error:
        raise SasError(
            f"The priors are made with diffusers and transformers, from 5 on ({error}); install "
            'the extra in a checkout of sas_ros with: pip install ".[capability]"'
        ) from None


def _written(files: PriorsFiles) -> bool:
    try:
        report = read_report(files.run)
    except SasError:
        return False
    return report["weights"] == _names(files) and report.get("world_version") == WORLD_VERSION


def _names(files: PriorsFiles) -> list[str]:
    return [path.stem for path in (files.autoencoder, files.denoiser, files.segmenter)]


# ------------------------------------------------------------------------------------------- jobs
def _things(files: PriorsFiles) -> ObjectPictures:
    return object_pictures(files.pictures, files.settings.pictures, files.settings.seed)


def _fitted(
    target: Path,
    network: Any,
    loss: Callable[[np.random.Generator], torch.Tensor],
    settings: FitSettings,
    seed: tuple[int, ...],
    title: str,
    ends: Sequence[nn.Parameter] = (),
) -> None:
    """Train a network and write its weights."""
    checkpoint = target.with_suffix(CHECKPOINT)
    fit = Fit(network, loss, settings, seed, target.stem, checkpoint, ends)
    begun, before = time.process_time(), fit.step
    for _ in followed(fit.steps(), settings.steps, fit.step, title):
        pass
    spent = time.process_time() - begun
    done = max(settings.steps - before, 1)
    facts = {"loss": fit.loss, "seconds_per_step": spent / done}
    coding.save_weights(target, network, facts)
    checkpoint.unlink(missing_ok=True)


def _autoencoder(files: PriorsFiles) -> Any:
    settings = files.settings
    return coding.new_autoencoder(
        settings.autoencoder, settings.pictures.size, 1000 * settings.seed + 1
    )


def _fit_autoencoder(files: PriorsFiles) -> None:
    settings, device = files.settings, choose_device("auto")
    things, rooms = _things(files), room_pictures(files.pictures, settings.pictures)
    images = np.concatenate([things.images, squares_of(rooms.images, settings.pictures.size)])
    network = _autoencoder(files).to(device)
    loss = coding.AutoencoderLoss(network, images, settings.autoencoder, device)
    ends = (network.encoder.conv_in.weight, network.decoder.conv_out.weight)
    fit, seed = settings.autoencoder.fit, (settings.seed, 81)
    _fitted(files.autoencoder, network, loss, fit, seed, "autoencoder", ends)


def squares_of(images: Picture, size: int) -> Picture:
    """The middle squares of pictures (P, H, W, 3), `size` pixels across."""
    from sas_training.priors.pictures import cut_square

    side = min(images.shape[1:3])
    cut = ((images.shape[1] - side) // 2, (images.shape[2] - side) // 2, side)
    return np.stack([cut_square(image, image[..., 0], cut, size)[0] for image in images])


def _encode(files: PriorsFiles) -> None:
    from safetensors.torch import save_file

    device = choose_device("auto")
    network = _autoencoder(files).to(device)
    coding.load_weights(files.autoencoder, network)
    latents = coding.latents_of(network.eval(), _things(files).images, device)
    scale = 1 / float(latents.std())
    with atomic_path(files.latents) as temporary:
        save_file({"latents": (latents * scale).contiguous()}, temporary, {"scale": repr(scale)})


def _latents(files: PriorsFiles) -> tuple[torch.Tensor, float]:
    from safetensors import SafetensorError, safe_open

    if not files.latents.is_file():
        raise SasError(
            f"There are no latents at {files.latents} yet: they are made when the autoencoder has "
            "ended. Run the same command without --now."
        )
    try:
        with safe_open(files.latents, framework="pt") as file:
            return file.get_tensor("latents"), float((file.metadata() or {})["scale"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise SasError(f"{files.latents} holds no latents ({error}); remove it.") from error


def _denoiser(files: PriorsFiles) -> Any:
    settings, coder = files.settings, files.settings.autoencoder
    size, text = settings.pictures.size // coder.shrinks, 384
    seed = 1000 * settings.seed + 2
    return new_denoiser(settings.denoiser, coder.latents, size, text, seed)


def _fit_denoiser(files: PriorsFiles) -> None:
    settings, device = files.settings, choose_device("auto")
    things, (latents, _) = _things(files), _latents(files)
    network = _denoiser(files).to(device)
    sentences = Sentences(*text_parts(settings.denoiser.text_layers, settings.denoiser.words))
    colours = colours_of(things.images, things.masks)
    loss = DenoiserLoss(
        network, latents, things.classes, colours, sentences, settings.denoiser, device
    )
    ends = (network.conv_in.weight, network.conv_out.weight)
    fit, seed = settings.denoiser.fit, (settings.seed, 82)
    _fitted(files.denoiser, network, loss, fit, seed, "text-to-image model", ends)


def _fit_segmenter(files: PriorsFiles) -> None:
    settings, device = files.settings, choose_device("auto")
    things, rooms = _things(files), room_pictures(files.pictures, settings.pictures)
    network = new_segmenter(settings.segmenter, 1000 * settings.seed + 3).to(device)
    examples = Examples(things, rooms, settings.pictures.size, settings.segmenter)
    loss = SegmenterLoss(network, examples, settings.segmenter, device)
    fit, seed = settings.segmenter.fit, (settings.seed, 83)
    _fitted(files.segmenter, network, loss, fit, seed, "SAM")


def write_folders(files: PriorsFiles) -> None:
    """Write `diffusion/`, `sam/` and, last, priors.json, which is gone while they are replaced.

    A training that has not ended, or that another process is still busy with, is taken from its
    last checkpoint.

    Raises:
        SasError: a model of which there is nothing yet, or a library is missing.
    """
    _libraries()
    settings = files.settings
    coder, denoiser = _autoencoder(files), _denoiser(files)
    segmenter = new_segmenter(settings.segmenter, 0)
    facts = {
        "autoencoder": _filled(files.autoencoder, coder),
        "denoiser": _filled(files.denoiser, denoiser),
        "segmenter": _filled(files.segmenter, segmenter),
    }
    coder.register_to_config(scaling_factor=_latents(files)[1])
    text = text_parts(settings.denoiser.text_layers, settings.denoiser.words)
    files.report.unlink(missing_ok=True)
    save_pipeline(files.run / PIPELINE, coder, denoiser, text, settings)
    save_segmenter(files.run / SEGMENTER, segmenter, settings)
    names = [
        f"{name}-after-{one['unfinished']}" if "unfinished" in one else name
        for name, one in zip(_names(files), facts.values(), strict=True)
    ]
    report = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "made_with": f"sas_ros {__version__}",
        "world_version": WORLD_VERSION,
        "weights": names,
        "training": facts,
        "held_out": {"segmenter": segmenter_figures(files.run / SEGMENTER, settings)},
        "settings": settings.to_dict(),
    }
    atomic_write(files.report, (json.dumps(report, indent=2) + "\n").encode())


def _filled(path: Path, network: Any) -> dict[str, Any]:
    """Fill a network from its weights, or from its checkpoint; returns what is known of it."""
    checkpoint = path.with_suffix(CHECKPOINT)
    if not path.exists() and not checkpoint.exists():
        raise SasError(
            f"There is nothing of {path} yet, not even a checkpoint. Run the same command without "
            "--now."
        )
    if path.exists():
        return coding.load_weights(path, network)
    state = read_checkpoint(checkpoint)
    network.load_state_dict(state["average"])
    return {"loss": float(state["loss"]), "unfinished": int(state["step"])}
