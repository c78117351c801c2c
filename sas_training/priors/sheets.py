"""Pictures of what the priors can do: to be looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.pictures import write_png
from sas_training.capability.pipelines import load_pipeline
from sas_training.capability.points import prompt_points
from sas_training.capability.segmenters import load_segmenter
from sas_training.distill.words import class_text
from sas_training.experiment.pictures import Picture
from sas_training.priors.captions import TEMPLATES
from sas_training.priors.held_out import thing
from sas_training.priors.saving import PIPELINE, SEGMENTER
from sas_training.priors.stages import PriorsFiles

SAMPLES, RECONSTRUCTIONS, MASKS = "samples.png", "reconstructions.png", "masks.png"
PER_CLASS = 8
STEPS, GUIDANCE = 20, 3.0
_TINT = np.array([255, 60, 60])


def write_sheets(files: PriorsFiles, per_class: int = PER_CLASS) -> list[Path]:
    """Write the sheets that are missing or older than the models; returns what was written.

    samples.png: of each class a row of pictures made from text. reconstructions.png: held-out
    pictures and what the autoencoder makes of them. masks.png: held-out pictures, the true mask
    and SAM's, from points inside the true one, as `sas capability` puts them.
    """
    targets = [files.run / name for name in (SAMPLES, RECONSTRUCTIONS, MASKS)]
    made = files.report.stat().st_mtime_ns
    if all(path.exists() and path.stat().st_mtime_ns >= made for path in targets):
        return []
    model = load_pipeline(files.run / PIPELINE, device="cpu")
    names = files.settings.pictures.names
    write_png(targets[0], samples(model.pipe, names, per_class))
    seen = [thing(files.settings, name, number) for name in names for number in range(2)]
    images, masks = np.stack([one[0] for one in seen]), np.stack([one[1] for one in seen])
    write_png(targets[1], _rows(images, reconstructed(model.pipe.vae, images)))
    sam = load_segmenter("transformers", files.run / SEGMENTER, device="cpu")
    assert sam is not None
    found = np.stack(
        [
            sam.segment(image, prompt_points(mask, frame=0.0).points).mask
            for image, mask in zip(images, masks, strict=True)
        ]
    )
    write_png(targets[2], _rows(images, _tinted(images, masks), _tinted(images, found)))
    return targets


def samples(pipe: Any, names: tuple[str, ...], per_class: int) -> Picture:
    """A row of `per_class` pictures for each class."""
    rows = []
    for name in names:
        made = pipe(
            [TEMPLATES[0].format(class_text(name))] * per_class,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(k) for k in range(per_class)],
            output_type="np",
        ).images
        rows.append(np.concatenate(list(np.rint(made * 255).astype(np.uint8)), axis=1))
    return np.concatenate(rows, axis=0)


def reconstructed(autoencoder: Any, images: Picture) -> Picture:
    """Pictures (P, S, S, 3) through the autoencoder and back."""
    from sas_training.priors.autoencoder import decoded, network_pictures

    with torch.no_grad():
        latents = autoencoder.encode(network_pictures(images)).latent_dist.mean
    return decoded(autoencoder, latents)


def _tinted(images: Picture, masks: npt.NDArray[np.bool_]) -> Picture:
    mixed = (images + _TINT) / 2
    return np.where(masks[..., None], mixed, images).astype(np.uint8)


def _rows(*parts: Picture) -> Picture:
    """Pictures (P, S, S, 3) of equal number above each other, ten groups to a line."""
    groups = np.concatenate(parts, axis=1)
    lines = []
    for start in range(0, len(groups), 10):
        line = np.concatenate(list(groups[start : start + 10]), axis=1)
        wanted = min(10, len(groups)) * groups.shape[2] - line.shape[1]
        lines.append(np.pad(line, ((0, 4), (0, wanted), (0, 0))))
    return np.concatenate(lines, axis=0)
