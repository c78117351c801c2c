"""From a trained network to a calibrated, measured student bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.language.calibration import Calibration
from sas_ros.language.encoder import TextEncoder
from sas_ros.language.prompts import apply_prompt
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.matching import KnownPhrases, LabelledElements, calibrate, query_quality
from sas_ros.observation import Cloud, Up
from sas_ros.query import TextQuery, answer
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.minkunet import MinkUNet
from sas_training.distill.dataset import voxel_labels
from sas_training.distill.words import WordBank, calibration_phrases
from sas_training.evaluation.labelled import read_labelled
from sas_training.evaluation.labels import STUFF, LabelSet
from sas_training.evaluation.scoring import evaluate, expand

_CALIBRATION_VOXELS = 60_000
_THERE_POINTS = 100
_SIZES = (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32)


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
        elements = _labelled_elements(segmenter, files)
        phrases = _phrases(bundle, encoder)
        bundle = replace(bundle, calibration=calibrate(elements, bundle.vocabulary, phrases))
        views = sorted((validation / "views").glob("*.npz"))[: len(files)]
        groups = [files, views] if views else [files]
        smallest = _smallest_object(segmenter, groups, bundle.calibration)
        bundle = replace(bundle, calibration=replace(bundle.calibration, min_elements=smallest))
        quality = query_quality(elements, bundle.vocabulary, phrases, bundle.calibration)
        score = evaluate(segmenter, files, recipe.labels.name, _up())
        metrics = {
            "held_out_rooms": len(files),
            "held_out_miou_present": round(score["miou_present"], 4),
            "query_f1": round(quality.f1, 4),
            "query_not_found": round(quality.not_found, 4),
            "calibration": bundle.calibration.to_metadata(),
        }
        bundle = replace(bundle, provenance={**provenance, "metrics": metrics})
    bundle.save(path)
    return metrics


def _up() -> Up:
    return Up(np.array([0.0, 0.0, 1.0]), "parameter")


def _labelled_elements(segmenter: Segmenter, files: list[Path]) -> LabelledElements:
    """Voxels of the first rooms, with the majority label of their points."""
    features, labels, scenes = [], [], []
    voxels = 0
    for number, path in enumerate(files):
        points, truth = read_labelled(path)
        scene = segmenter.segment(Cloud(points), _up())
        majority = voxel_labels(
            scene.element_of_point.astype(np.int64),
            truth,
            len(segmenter.bundle.vocabulary),
            len(scene.positions),
        )
        features.append(scene.features)
        labels.append(majority)
        scenes.append(np.full(len(majority), number))
        voxels += len(majority)
        if voxels > _CALIBRATION_VOXELS:
            break
    return LabelledElements(torch.cat(features), np.concatenate(labels), np.concatenate(scenes))


def _smallest_object(
    segmenter: Segmenter, groups: list[list[Path]], calibration: Calibration
) -> int:
    """Elements an object needs, so that class words are found where they are and only there.

    Every thing of the vocabulary is asked for in every scan. With n as the smallest object, a word
    is found when its largest piece has n elements; the best n maximises the shares of right answers
    for words that are there and for words that are not, summed over the groups: fused rooms show
    things whole and want a larger n, single frames show parts and want a smaller one.
    """
    balanced = np.zeros(len(_SIZES))
    for files in groups:
        pieces = [_largest_pieces(segmenter, path, calibration) for path in files]
        sizes, present = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
        for group in (present, ~present):
            if group.any():
                found = [(sizes[group] >= n).mean() for n in _SIZES]
                balanced += np.array(found) if group is present else 1 - np.array(found)
    return _SIZES[int(np.argmax(balanced))]


def _largest_pieces(
    segmenter: Segmenter, path: Path, calibration: Calibration
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """For each thing of the vocabulary: elements of its largest piece in this scan, is it there."""
    vocabulary = segmenter.bundle.vocabulary
    points, truth = read_labelled(path)
    cloud = Cloud(points)
    scene = segmenter.segment(cloud, _up())
    things = [k for k, thing in enumerate(vocabulary.things) if thing]
    largest = []
    for index in things:
        found = answer(
            scene,
            cloud,
            TextQuery(vocabulary.names[index]),
            vocabulary.embeddings[index],
            None,
            vocabulary,
            calibration,
            default_max_instances=64,
            min_points=1,
        )
        largest.append(max((len(piece.elements) for piece in found.instances), default=0))
    counts = np.array([np.count_nonzero(truth == index) for index in things])
    return np.array(largest), counts >= _THERE_POINTS


def _phrases(bundle: StudentBundle, encoder: TextEncoder) -> KnownPhrases:
    names = bundle.vocabulary.names
    phrases = calibration_phrases()
    texts = [apply_prompt(bundle.prompt, phrase) for phrase, _ in phrases]
    meant = [frozenset(names.index(word) for word in words) for _, words in phrases]
    return KnownPhrases(encoder.encode(texts), meant)
