"""`sas bench precision`: what half precision gains, and what it costs."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from sas_ros.observation import Cloud, Up
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_training.bench.timing import machine


def bench_precision(bundle: StudentBundle, cloud: Cloud, up: Up, rounds: int) -> dict[str, Any]:
    """The network of a student in single and in half precision, on one cloud, native backend.

    Half precision is bfloat16 on a CPU and float16 on a GPU.

    Returns keys `single_s`, `half_s` (network only), `speedup`, `cosine_mean` and `cosine_p1` (mean
    and first percentile over voxels of the cosine between both features), `labels_changed` (share
    of the voxels), `precision`, `voxels`, and those of `timing.machine`.
    """
    half = "float16" if torch.cuda.is_available() else "bfloat16"
    segmenters = {
        "single_s": Segmenter(bundle, backend="native", precision="float32"),
        "half_s": Segmenter(bundle, backend="native", precision=half),
    }
    scenes = {name: segmenter.segment(cloud, up) for name, segmenter in segmenters.items()}
    labels = [segmenters[name].label(scenes[name], bundle.vocabulary).label for name in scenes]
    single, reduced = (scene.features.float() for scene in scenes.values())
    cosine = torch.nn.functional.cosine_similarity(single, reduced)
    times: dict[str, list[float]] = {name: [] for name in segmenters}
    for _ in range(rounds):
        for name, segmenter in segmenters.items():
            times[name].append(segmenter.segment(cloud, up).network_s)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    return {
        **seconds,
        "speedup": seconds["single_s"] / seconds["half_s"],
        "cosine_mean": float(cosine.mean()),
        "cosine_p1": float(cosine.quantile(0.01)),
        "labels_changed": float((labels[0] != labels[1]).mean()),
        "precision": half,
        "voxels": len(single),
        **machine(),
    }
