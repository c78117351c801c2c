"""`sas bench map`: clouds onto a large voxel map, questions to it, its file, against one copy."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sas_ros.mapping import MapIdentity, VoxelMap, load_map, observe, save_map, view_of
from sas_ros.mapping.columns import VoxelColumns
from sas_ros.mapping.voxel_map import empty_state
from sas_ros.observation import Cloud, SceneFeatures, SourceHeader, Up
from sas_ros.query import MAX_INSTANCES, MIN_POINTS, TextQuery, answer
from sas_ros.student.bundle import StudentBundle
from sas_ros.voxels import voxelise
from sas_ros.word_scores import scene_scores, word_scores
from sas_training.bench.query import furnished_room
from sas_training.bench.sweep import building
from sas_training.bench.timing import alternate, machine

_PART = 50_000
"""Voxels that go onto the map at a time while it is made: their features are float32."""


def bench_map(bundle: StudentBundle, voxels: int, points: int, rounds: int) -> dict[str, Any]:
    """Clouds of `points` points of generated rooms onto a map of about `voxels` voxels.

    Returns medians in seconds over `rounds` rounds in which all take turns:
        integrate_s: one cloud, whose voxels are known to the map; `integrate_floor_s`: one copy of
            what that must touch (points, their features, the map's rows, both ways).
        integrate_after_view_s: the same when a view was taken before, so that the map is copied;
            `copy_s`: one copy of the map.
        view_s, prepare_s: a new view, and its comparison with the vocabulary.
        match_s: the scores of a new text that was embedded before; answer_s: all of an answer;
            `read_s`: one read of the features.
        save_s, load_s; `write_s`, `file_s`: writing (to disk) and reading as many bytes.
    all of them again in `cpu`, as processor seconds of this process, which other programs on the
    machine hardly change, and the ratios of these; and `voxels`, `touched` (voxels of the cloud),
    `points`, `map_mb`, `file_mb`, `timing.machine`.
    """
    made, embedding = _large_map(bundle, voxels)
    scene, cloud = _cloud(bundle, points)
    size, pose = bundle.voxel_size, np.eye(4)
    made.integrate(scene, cloud, pose)
    seen = observe(scene, cloud, pose, size)
    view = view_of(made.state)
    vocabulary, calibration = bundle.vocabulary, bundle.calibration
    scores = scene_scores(view.scene, vocabulary, calibration.temperature)
    features = view.scene.features
    touched = _blocks(seen, scene, cloud)
    columns = _bytes_of(made.state.columns)

    def integrate_after_view() -> None:
        _ = made.state
        made.integrate(scene, cloud, pose)

    def ask() -> None:
        answer(
            view.scene, view.cloud, TextQuery("something"), embedding, None, vocabulary,
            calibration, default_max_instances=MAX_INSTANCES, min_points=MIN_POINTS,
        )  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        path, plain = Path(folder) / "a.map.safetensors", Path(folder) / "plain"
        save_map(made.state, path)
        raw = np.fromfile(path, np.uint8)

        def write() -> None:
            with open(plain, "wb") as file:
                raw.tofile(file)
                os.fsync(file.fileno())

        write()
        jobs: dict[str, Callable[[], object]] = {
            "integrate_after_view_s": integrate_after_view,
            "integrate_s": lambda: made.integrate(scene, cloud, pose),
            "integrate_floor_s": lambda: [block.copy() for block in touched],
            "copy_s": lambda: [block.copy() for block in columns],
            "view_s": lambda: view_of(made.state),
            "prepare_s": lambda: word_scores(features, vocabulary, calibration.temperature),
            "match_s": lambda: scores.probability(
                np.zeros(len(vocabulary), np.bool_), embedding[None], embedding[None][:0]
            ),
            "answer_s": ask,
            "read_s": lambda: features.reshape(-1).view(torch.int16).view(torch.int64).sum(),
            "save_s": lambda: save_map(made.state, path),
            "load_s": lambda: load_map(path),
            "write_s": write,
            "file_s": lambda: np.fromfile(plain, np.uint8),
        }
        used: dict[str, list[float]] = {name: [] for name in jobs}
        seconds = alternate({name: _timed(job, used[name]) for name, job in jobs.items()}, rounds)
        megabytes = raw.nbytes / 2**20
    cpu = {name: float(np.median(values[1:])) for name, values in used.items()}
    return {
        **seconds,
        "cpu": cpu,
        "integrate_to_floor": cpu["integrate_s"] / cpu["integrate_floor_s"],
        "match_to_floor": cpu["match_s"] / cpu["read_s"],
        "save_to_floor": cpu["save_s"] / cpu["write_s"],
        "load_to_floor": cpu["load_s"] / cpu["file_s"],
        "voxels": len(made),
        "touched": len(seen),
        "points": points,
        "feature_dim": bundle.feature_dim,
        "map_mb": made.nbytes / 2**20,
        "file_mb": megabytes,
        **machine(),
    }


def _timed(job: Callable[[], object], used: list[float]) -> Callable[[], None]:
    """The job, which notes the processor seconds it took."""

    def run() -> None:
        started = time.process_time()
        job()
        used.append(time.process_time() - started)

    return run


def _large_map(bundle: StudentBundle, voxels: int) -> tuple[VoxelMap, Any]:
    """A furnished hall as a map, and (C,) the embedding of a new text for what stands there."""
    scene, cloud = furnished_room(bundle, voxels)
    identity = MapIdentity(bundle.name, "0" * 64, bundle.feature_dim, bundle.voxel_size, "map")
    made = VoxelMap(empty_state(identity), max_voxels=2 * voxels)
    for start in range(0, len(cloud.points), _PART):
        part = slice(start, start + _PART)
        few = cloud.points[part]
        made.integrate(
            SceneFeatures(
                scene.features[part], few, np.arange(len(few), dtype=np.int32), scene.header,
                scene.up, scene.origin, scene.element_size,
            ),
            Cloud(few),
            np.eye(4),
        )  # fmt: skip
    words = bundle.vocabulary
    row = words.embeddings[next((k for k, thing in enumerate(words.things) if thing), 0)]
    strange = np.random.default_rng(1).standard_normal(bundle.feature_dim).astype(np.float32)
    text = row + 0.5 * strange / np.linalg.norm(strange)
    return made, (text / np.linalg.norm(text)).astype(np.float32)


def _cloud(bundle: StudentBundle, points: int) -> tuple[SceneFeatures, Cloud]:
    """A cloud of generated rooms with random features; off the map's grid, as poses have it."""
    places = building(points) + np.float32(0.031)
    grid = voxelise(places, bundle.voxel_size, origin=(0.017, 0.029, 0.011))
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((len(grid.coordinates), bundle.feature_dim), dtype=np.float32)
    features = torch.nn.functional.normalize(torch.from_numpy(rows), dim=1)
    header = SourceHeader(1, "map")
    scene = SceneFeatures(
        features, grid.centers, grid.inverse.astype(np.int32), header,
        Up(np.array([0.0, 0.0, 1.0]), "bench"), np.zeros(3), bundle.voxel_size,
    )  # fmt: skip
    return scene, Cloud(places, header=header)


def _blocks(seen: VoxelColumns, scene: SceneFeatures, cloud: Cloud) -> list[Any]:
    """What taking in a cloud must read and write at least: points, the features of its elements,
    and the map's rows twice."""
    rows = seen.features.half().numpy()
    return [cloud.points, scene.features.numpy(), rows, rows, seen.shape, seen.shape]


def _bytes_of(columns: VoxelColumns) -> list[Any]:
    return [columns.features.numpy(), columns.shape, columns.colors, columns.keys]
