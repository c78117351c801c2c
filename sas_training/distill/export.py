"""From a trained network to a calibrated, measured student bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sas_ros.language.calibration import Calibration
from sas_ros.language.encoder import TextEncoder
from sas_ros.language.prompts import apply_prompt
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.matching import calibrate
from sas_ros.observation import Cloud, Up
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.minkunet import MinkUNet
from sas_training.commands.evaluate import evaluate, expand
from sas_training.distill.dataset import read_labelled, voxel_labels
from sas_training.distill.words import WordBank, evaluation_phrases
from sas_training.evaluation.labels import LabelSet

STUFF = ("wall", "floor", "ceiling", "curtain", "shower curtain", "window")
"""Classes that are no countable objects: no instances are made of them."""

_CALIBRATION_VOXELS = 60_000


@dataclass(frozen=True)
class Recipe:
    """What a bundle says about itself besides the weights."""

    name: str
    labels: LabelSet
    words: WordBank
    text_encoder: str
    prompt: str
    inputs: tuple[str, ...]
    voxel_size: float

    def bundle(
        self, network: MinkUNet, calibration: Calibration, provenance: dict[str, Any]
    ) -> StudentBundle:
        vocabulary = Vocabulary(
            names=self.labels.names,
            embeddings=self.words.names,
            things=tuple(name not in STUFF for name in self.labels.names),
            colors=np.array(self.labels.colors, dtype=np.uint8),
        )
        return StudentBundle(
            name=self.name,
            architecture=network.config.to_dict(),
            weights={k: v.detach().cpu().clone() for k, v in network.state_dict().items()},
            inputs=self.inputs,
            voxel_size=self.voxel_size,
            text_encoder=self.text_encoder,
            prompt=self.prompt,
            vocabulary=vocabulary,
            calibration=calibration,
            provenance=provenance,
        )


def export_student(
    path: Path,
    network: MinkUNet,
    recipe: Recipe,
    provenance: dict[str, Any],
    encoder: TextEncoder,
    validation: Path | None,
) -> dict[str, Any]:
    """Write the bundle to `path`; with held-out rooms, calibrate and measure it on them first.

    Returns the metrics that were stored in the provenance.
    """
    bundle = recipe.bundle(network, Calibration(), provenance)
    metrics: dict[str, Any] = {}
    if validation is not None:
        rooms = validation / "rooms" if (validation / "rooms").is_dir() else validation
        files = expand([rooms])
        segmenter = Segmenter(bundle, device="cpu")
        bundle = replace(bundle, calibration=_calibrate(segmenter, files, encoder))
        score = evaluate(segmenter, files, recipe.labels.name, _up())
        metrics = {
            "held_out_rooms": len(files),
            "held_out_miou_present": round(score["miou_present"], 4),
            "calibration": bundle.calibration.to_metadata(),
        }
        bundle = replace(bundle, provenance={**provenance, "metrics": metrics})
    bundle.save(path)
    return metrics


def _up() -> Up:
    return Up(np.array([0.0, 0.0, 1.0]), "parameter")


def _calibrate(segmenter: Segmenter, files: list[Path], encoder: TextEncoder) -> Calibration:
    """Temperature and threshold that suit the phrases of `evaluation_phrases` on these rooms."""
    bundle = segmenter.bundle
    features, labels = [], []
    voxels = 0
    for path in files:
        points, truth = read_labelled(path)
        scene = segmenter.segment(Cloud(points), _up())
        majority = voxel_labels(
            scene.element_of_point.astype(np.int64),
            truth,
            len(bundle.vocabulary),
            len(scene.positions),
        )
        known = majority != 255
        features.append(scene.features[torch.from_numpy(known)])
        labels.append(majority[known])
        voxels += int(known.sum())
        if voxels > _CALIBRATION_VOXELS:
            break
    names = list(bundle.vocabulary.names)
    phrases = [
        (
            encoder.encode([apply_prompt(bundle.prompt, phrase)])[0],
            tuple(names.index(name) for name in classes),
        )
        for phrase, classes in evaluation_phrases()
    ]
    return calibrate(torch.cat(features), np.concatenate(labels), bundle.vocabulary, phrases)
