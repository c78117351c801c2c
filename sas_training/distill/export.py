"""From a trained network to a calibrated, measured student bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.language.calibration import Calibration
from sas_ros.language.encoder import TextEncoder
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.minkunet import MinkUNet
from sas_training.distill.calibrate import calibrate_bundle
from sas_training.distill.words import WordBank
from sas_training.evaluation.labels import STUFF, LabelSet


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
        bundle, metrics = calibrate_bundle(bundle, recipe.labels, encoder, validation)
    bundle.save(path)
    return metrics
