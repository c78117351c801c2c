"""A small untrained student for tests: same classes, same file format, random weights."""

from __future__ import annotations

import numpy as np
import torch

from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig

NAMES = ("wall", "floor", "chair", "table")


def untrained_student(*, dim: int = 16, seed: int = 0, name: str = "untrained") -> StudentBundle:
    """A bundle of a network with random weights and random unit class embeddings."""
    return student_of(MinkUNetConfig(2, dim, 8, (8,) * 8, (1,) * 8), seed=seed, name=name)


def student_of(
    config: MinkUNetConfig,
    *,
    seed: int = 0,
    name: str = "untrained",
    voxel_size: float = 0.08,
    inputs: tuple[str, ...] = ("one", "height"),
) -> StudentBundle:
    """The same of any network that takes these inputs."""
    torch.manual_seed(seed)
    network = MinkUNet(config)
    dim = config.out_channels
    embeddings = np.random.default_rng(seed).normal(size=(len(NAMES), dim)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    vocabulary = Vocabulary(
        NAMES,
        embeddings,
        (False, False, True, True),
        np.arange(12, dtype=np.uint8).reshape(4, 3) * 20,
    )
    return StudentBundle(
        name=name,
        architecture=config.to_dict(),
        weights=network.state_dict(),
        inputs=inputs,
        voxel_size=voxel_size,
        text_encoder="none",
        prompt="{}",
        vocabulary=vocabulary,
        calibration=Calibration(),
    )
