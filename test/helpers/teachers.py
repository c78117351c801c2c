"""Scenes with features as 2D teachers would leave them, made from labels: for tests alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_training.fusion.features import PointFeatures
from sas_training.superpoints import Superpoints, SuperpointSettings, points_hash
from sas_training.superpoints.files import SUFFIX


def noisy_teacher(
    labels: npt.NDArray[np.integer],
    groups: npt.NDArray[np.integer],
    embeddings: npt.NDArray[np.float32],
    rng: np.random.Generator,
    *,
    wrong: float = 0.2,
    unseen: float = 0.1,
    scene: str = "scene",
) -> PointFeatures:
    """Every group of points (N,) takes the text vector of its commonest label; a share `wrong` of
    the groups takes that of another class, and a share `unseen` of all points has none."""
    classes = len(embeddings)
    known = (labels >= 0) & (labels < classes)
    count = int(groups.max()) + 1
    votes = np.bincount(groups[known] * classes + labels[known], minlength=count * classes).reshape(
        count, classes
    )
    said = votes.argmax(axis=1)
    mistaken = rng.random(count) < wrong
    said[mistaken] = rng.integers(classes, size=int(mistaken.sum()))
    mask = known & (rng.random(len(labels)) >= unseen)
    rows = embeddings[said[groups[mask]]] * 1.7  # teachers' features are of any length
    settings = {"wrong": wrong, "unseen": unseen}
    return PointFeatures(rows.astype(np.float16), mask, "noisy labels", scene, settings)


def box_room(seed: int, points: int = 3000) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """Points (3N, 3) of a floor, a wall and a bed, their labels (scannet20) and superpoints."""
    rng = np.random.default_rng(seed)
    floor = np.c_[rng.uniform(0, 4, (points, 2)), np.zeros(points)]
    wall = np.c_[rng.uniform(0, 4, points), np.zeros(points), rng.uniform(0, 2.4, points)]
    bed = rng.uniform([1, 1, 0], [3, 2, 0.5], (points, 3))
    places = np.concatenate([floor, wall, bed]).astype(np.float32)
    labels = np.repeat([1, 0, 3], points)
    cells = np.floor(places[:, :2]).astype(int).clip(0, 3)
    _, groups = np.unique(labels * 16 + cells[:, 0] * 4 + cells[:, 1], return_inverse=True)
    first = np.unique(groups, return_index=True)[1]
    rank = np.argsort(np.argsort(first))
    return places, labels, rank[groups.reshape(-1)].astype(np.int32)


def write_scenes(
    folder: Path,
    embeddings: npt.NDArray[np.float32],
    scenes: int = 4,
    points: int = 400,
    wrong: float = 0.0,
) -> Path:
    """Box rooms in the layout of `sas distill`; the labels in them are nonsense on purpose."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(scenes):
        places, labels, groups = box_room(number, points)
        name = f"room-{number}"
        np.savez(folder / f"{name}.npz", points=places, labels=np.full(len(places), 7))
        rng = np.random.default_rng(100 + number)
        features = noisy_teacher(labels, groups, embeddings, rng, wrong=wrong, scene=name)
        features.save(folder / f"{name}.features.safetensors")
        Superpoints(groups, SuperpointSettings(), "cloud", points_hash(places)).save(
            folder / f"{name}{SUFFIX}"
        )
    return folder
