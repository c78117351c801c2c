"""Voting as in the released evaluation: random turns and scales, summed (method reference 7.4).

Each vote turns and scales the scan as training does, without bending or mirroring it, and puts it
into voxels anew; the products of the words with the features as they come, of any length, are
summed over the votes. Nothing lays the walls along the axes, as `Segmenter` does. The draws follow
from a seed and the name of the scan, so that the same figures come out again.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.gravity import rotation_to_z_up
from sas_ros.observation import Up
from sas_ros.segmenter import Segmenter
from sas_ros.tiles import rim_of, tiles
from sas_training.distill.feature_batches import BatchSettings, Sample, sample
from sas_training.distill.feature_scenes import FeatureScene
from sas_training.distill.scene_augment import AugmentSettings
from sas_training.evaluation.labelled import AnnotatedScan
from sas_training.evaluation.protocol import ProtocolWords
from sas_training.evaluation.scoring import IntArray, Predict, classes_of_words

RELEASED_VOTES = 5


def released_predictions(
    segmenter: Segmenter, labels: str, up: Up, words: ProtocolWords | None = None, seed: int = 0
) -> Predict:
    """As `student_predictions`, by the votes of the released evaluation; those of the segmenter are
    left out."""
    bundle = segmenter.bundle
    vocabulary = bundle.vocabulary if words is None else words.vocabulary
    to_class = classes_of_words(segmenter, labels) if words is None else words.to_class
    texts = torch.tensor(vocabulary.embeddings, device=segmenter.device)
    rotation = rotation_to_z_up(up.direction)
    settings = BatchSettings(
        bundle.inputs, bundle.voxel_size, (0.0, 0.0), 1.0, AugmentSettings().rigid, False, 0, 0
    )

    def predict(name: str, scan: AnnotatedScan) -> IntArray:
        rng = np.random.default_rng((seed, zlib.crc32(Path(name).name.encode())))
        points = (scan.points @ rotation.T).astype(np.float32)
        nowhere = np.full(len(points), -1)
        unseen = np.empty((0, bundle.feature_dim), np.float16)
        scene = FeatureScene(name, points, scan.colors, unseen, nowhere, nowhere.astype(np.int32))
        total = np.zeros((len(points), len(vocabulary)), dtype=np.float32)
        for _ in range(RELEASED_VOTES):
            vote = sample(scene, settings, rng)
            total[vote.points] += _products(segmenter, vote, texts)[vote.voxels]
        return np.where(np.isfinite(points).all(axis=1), to_class[total.argmax(axis=1)], -1)

    return predict


def _products(segmenter: Segmenter, vote: Sample, texts: torch.Tensor) -> npt.NDArray[np.float32]:
    """(M, K) products of the raw features of a vote's voxels with text vectors (K, C)."""
    coordinates, inputs = torch.from_numpy(vote.coordinates), torch.from_numpy(vote.inputs)
    found = np.empty((len(coordinates), len(texts)), dtype=np.float32)
    rim = rim_of(segmenter.engine.config)
    for tile in tiles(vote.coordinates, segmenter.tile_voxels, rim):
        raw = segmenter.engine.forward(coordinates[tile.rows], inputs[tile.rows])
        found[tile.rows[tile.core]] = (raw.float() @ texts.T).cpu().numpy()[tile.core]
    return found
