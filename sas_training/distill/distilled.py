"""From a distilled network to a student bundle: its words, and where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros import __version__
from sas_ros.language.calibration import Calibration
from sas_ros.language.encoder import TextEncoder
from sas_ros.language.prompts import apply_prompt
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.minkunet import MinkUNet, count_parameters
from sas_ros.student.published import CALIBRATION, PROMPT
from sas_training.distill.feature_scenes import FeatureScenes
from sas_training.distill.recipes import Recipe
from sas_training.distill.words import class_text
from sas_training.one_thread import one_thread
from sas_training.vocabularies import WORD_SETS, Words, pick_rows, read_embeddings, read_words

SUPERVISION = "distilled from 2D teachers; no 3D labels"


def words_of(labels: str, prompt: str) -> Words:
    """The words of a label set or file, with the texts that are embedded for them.

    A label set has its own sentences with the prompt they are made with, else its names are put
    into `prompt`. Raises `SasError` for neither a set nor a file.
    """
    words = read_words(labels, prompt)
    if labels in WORD_SETS and prompt != PROMPT:
        texts = tuple((apply_prompt(prompt, class_text(name)),) for name in words.names)
        return Words(words.source, words.names, texts, words.colors)
    return words


def embed(
    words: Words, encoder: TextEncoder | None, embeddings: Path | None
) -> npt.NDArray[np.float32]:
    """(K, C) float32 unit rows of words: of a file where one is given, else of the encoder."""
    if embeddings is not None:
        return pick_rows(words, *read_embeddings(embeddings))
    assert encoder is not None
    with one_thread():
        return words.embedded(encoder)


def distilled_bundle(
    name: str,
    network: MinkUNet,
    recipe: Recipe,
    words: Words,
    embeddings: npt.NDArray[np.float32],
    provenance: dict[str, Any],
) -> StudentBundle:
    """A bundle that nothing is calibrated for; weights are copied to the CPU."""
    clip = recipe.vocabulary.text_encoder.startswith("open_clip:")
    return StudentBundle(
        name=name,
        architecture=network.config.to_dict(),
        weights={key: value.detach().cpu().clone() for key, value in network.state_dict().items()},
        inputs=recipe.network.inputs,
        voxel_size=recipe.samples.voxel_size,
        text_encoder=recipe.vocabulary.text_encoder,
        prompt=recipe.vocabulary.prompt,
        vocabulary=words.vocabulary(embeddings),
        calibration=CALIBRATION if clip else Calibration(),
        provenance=provenance,
    )


def provenance_of(
    scenes: FeatureScenes,
    recipe: Recipe,
    network: MinkUNet,
    *,
    steps: int,
    losses: dict[str, float],
    started_from: str | None,
    licence: str,
) -> dict[str, Any]:
    """What a distilled bundle says about itself: plain JSON, for people."""
    made = {f.teacher: dict(f.settings) for f in scenes.facts}
    return {
        "supervision": SUPERVISION,
        "teachers": made,
        "data": f"{len(scenes)} scenes with features of 2D teachers",
        "scenes": list(scenes.names) if len(scenes) <= 32 else None,
        "scenes_sha256": scenes.fingerprint(),
        "points": sum(facts.points for facts in scenes.facts),
        "points_seen": sum(facts.seen for facts in scenes.facts),
        "recipe": recipe.to_dict(),
        "steps": steps,
        "last_losses": {name: round(value, 4) for name, value in losses.items()},
        "started_from": started_from,
        "parameters": count_parameters(network),
        "made_with": f"sas_ros {__version__}",
        "licence": licence,
    }
