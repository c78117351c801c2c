"""`sas segment SCAN`: label a scan file, find words in it, write a PLY and a picture."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.commands import add_scan_arguments, parse_up, png_path
from sas_ros.errors import SasError
from sas_ros.instances import ObjectInstance
from sas_ros.language.available import OPEN_CLIP_PREFIX
from sas_ros.language.encoder import TextEncoder, check_encoder, load_encoder
from sas_ros.language.prompts import apply_prompt
from sas_ros.language.vocabulary import UNLABELLED
from sas_ros.observation import Cloud, ElementLabels, SceneFeatures
from sas_ros.query import (
    MAX_INSTANCES,
    MIN_POINTS,
    QueryAnswer,
    QueryStatus,
    TextQuery,
    answer,
    check_text,
)
from sas_ros.student.bundle import StudentBundle


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scan", type=Path, help=".ply, .pcd, .npy, .npz, or KITTI / nuScenes .bin")
    add_scan_arguments(parser)
    parser.add_argument("--query", nargs="+", default=[], metavar="TEXT", help="words to look for")
    parser.add_argument("--threshold", type=float, default=0.0, help="probability a point needs")
    parser.add_argument("--text-weights", type=Path, help="local weights of the text encoder")
    parser.add_argument("-o", "--output", type=Path, help="write the labelled cloud as PLY")
    parser.add_argument("--picture", type=png_path, help="write a PNG of the labelled cloud")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    from sas_ros.gravity import resolve_up
    from sas_ros.scans import read_scan
    from sas_ros.segmenter import Segmenter
    from sas_ros.student.locate import find_student

    if not 0 <= arguments.threshold <= 1:
        raise SasError(f"--threshold must lie in 0 to 1, not {arguments.threshold:g}.")
    cloud = read_scan(arguments.scan)
    bundle = StudentBundle.load(find_student(arguments.student))
    up = resolve_up(cloud, parse_up(arguments.up))
    segmenter = Segmenter(
        bundle,
        device=arguments.device,
        votes=arguments.votes,
        memory_budget=arguments.memory_budget,
        backend=arguments.backend,
        precision=arguments.precision,
    )
    started = time.perf_counter()
    scene = segmenter.segment(cloud, up)
    labels = segmenter.label(scene, bundle.vocabulary)
    seconds = time.perf_counter() - started
    texts, weights = arguments.query, arguments.text_weights
    answers = answer_texts(scene, cloud, bundle, texts, arguments.threshold, weights)

    report = _report(arguments.scan, cloud, scene, labels, bundle, answers, seconds)
    report["engine"] = segmenter.engine.description
    if arguments.output:
        _write_ply(arguments.output, cloud, scene, labels, answers)
        report["output"] = str(arguments.output)
    if arguments.picture:
        _write_picture(arguments.picture, cloud, scene, labels, bundle, answers)
        report["picture"] = str(arguments.picture)
    print(json.dumps(report, indent=2) if arguments.json else _table(report))
    return 0


def answer_texts(
    scene: SceneFeatures,
    cloud: Cloud,
    bundle: StudentBundle,
    texts: list[str],
    threshold: float,
    text_weights: Path | None = None,
) -> list[tuple[str, QueryAnswer]]:
    """Answer each text; words of the vocabulary need no text encoder, others load it once."""
    answers = []
    encoder: TextEncoder | None = None
    for text in texts:
        query = TextQuery(text=text, threshold=threshold)
        complaint = check_text(query)
        if complaint:
            raise SasError(complaint)
        embedding = bundle.vocabulary.embedding(text)
        if embedding is None:
            encoder = encoder or _encoder_for(text, bundle, text_weights)
            embedding = encoder.encode([apply_prompt(bundle.prompt, text)])[0]
        result = answer(
            scene,
            cloud,
            query,
            embedding,
            None,
            bundle.vocabulary,
            bundle.calibration,
            default_max_instances=MAX_INSTANCES,
            min_points=MIN_POINTS,
        )
        answers.append((text, result))
    return answers


def _encoder_for(text: str, bundle: StudentBundle, weights: Path | None) -> TextEncoder:
    """The student's text encoder; raises SasError that says which words do without it."""
    try:
        encoder = load_encoder(bundle.text_encoder, weights=weights)
    except SasError as error:
        needs_file = bundle.text_encoder.startswith(OPEN_CLIP_PREFIX) and weights is None
        raise SasError(
            f"{text!r} is not in the student's vocabulary ({', '.join(bundle.vocabulary.names)}), "
            f"and new words need its text encoder. {error}"
            + (" The option is --text-weights." if needs_file else "")
        ) from error
    check_encoder(bundle.text_encoder, bundle.feature_dim, encoder)
    return encoder


def point_values(scene: SceneFeatures, values: npt.NDArray[Any], missing: Any) -> npt.NDArray[Any]:
    """(N,) values of each point's element; `missing` where a point has none."""
    result = np.full(len(scene.element_of_point), missing, dtype=values.dtype)
    has = scene.element_of_point >= 0
    result[has] = values[scene.element_of_point[has]]
    return result


def _report(
    scan: Path,
    cloud: Cloud,
    scene: SceneFeatures,
    labels: ElementLabels,
    bundle: StudentBundle,
    answers: list[tuple[str, QueryAnswer]],
    seconds: float,
) -> dict[str, Any]:
    per_point = point_values(scene, labels.label, -1)
    counts = np.bincount(per_point[per_point >= 0], minlength=len(bundle.vocabulary))
    order = np.argsort(-counts, kind="stable")
    return {
        "scan": str(scan),
        "points": len(cloud.points),
        "finite_points": int(cloud.valid.sum()),
        "elements": len(scene.positions),
        "student": bundle.name,
        "up": [float(v) for v in scene.up.direction],
        "up_source": scene.up.source,
        "seconds": round(seconds, 3),
        "labels": {bundle.vocabulary.names[k]: int(counts[k]) for k in order if counts[k]},
        "queries": [_query_report(text, result) for text, result in answers],
    }


def _query_report(text: str, result: QueryAnswer) -> dict[str, Any]:
    return {
        "text": text,
        "status": QueryStatus(result.status).name,
        "message": result.message,
        "best_score": float(result.best_score),
        "alternatives": [[name, float(score)] for name, score in result.alternatives],
        "instances": [_instance_report(instance) for instance in result.instances],
        "timing_ms": {name: round(float(ms), 3) for name, ms in result.timing_ms.items()},
    }


def _instance_report(instance: ObjectInstance) -> dict[str, Any]:
    return {
        "label": instance.label,
        "score": float(instance.score),
        "num_points": len(instance.point_indices),
        "center": [float(v) for v in instance.center],
        "orientation_xyzw": [float(v) for v in instance.orientation],
        "size": [float(v) for v in instance.size],
    }


def _table(report: dict[str, Any]) -> str:
    up = ", ".join(f"{value:.2f}" for value in report["up"])
    lines = [
        f"{report['scan']}: {report['points']} points ({report['finite_points']} finite), "
        f"{report['elements']} voxels, up ({up}) from {report['up_source']}, "
        f"{report['seconds']:.2f} s with {report['student']}",
        "",
    ]
    total = max(1, sum(report["labels"].values()))
    lines += [
        f"  {name:<18} {count:>8} points {100 * count / total:5.1f} %"
        for name, count in report["labels"].items()
    ]
    for query in report["queries"]:
        lines += [
            "",
            f"{query['text']!r}: {query['status']} (best score {query['best_score']:.2f})",
        ]
        if query["message"]:
            lines.append(f"  {query['message']}")
        for item in query["instances"]:
            center = ", ".join(f"{v:.2f}" for v in item["center"])
            size = " x ".join(f"{v:.2f}" for v in item["size"])
            lines.append(
                f"  score {item['score']:.2f} at ({center}) m, size {size} m, "
                f"{item['num_points']} points"
            )
    lines += [f"\nwrote {report[key]}" for key in ("output", "picture") if key in report]
    return "\n".join(lines)


def _write_picture(
    path: Path,
    cloud: Cloud,
    scene: SceneFeatures,
    labels: ElementLabels,
    bundle: StudentBundle,
    answers: list[tuple[str, QueryAnswer]],
) -> None:
    """Class colours; with queries, what was found of them instead."""
    from sas_ros.boxes import rotation_matrix
    from sas_ros.pictures import Box, write_png
    from sas_ros.showing import answer_picture, label_picture

    up = scene.up.direction
    if not answers:
        per_point = point_values(scene, labels.label, -1)
        write_png(path, label_picture(cloud.points, per_point, bundle.vocabulary, up))
        return
    found = [
        (
            text,
            instance.point_indices,
            Box(
                center=instance.center - cloud.origin,
                rotation=rotation_matrix(instance.orientation),
                size=instance.size,
                color=(255, 255, 255),
                label=f"{instance.score:.2f}",
            ),
        )
        for text, result in answers
        for instance in result.instances
    ]
    write_png(path, answer_picture(cloud, up, ", ".join(text for text, _ in answers), found))


def _write_ply(
    path: Path,
    cloud: Cloud,
    scene: SceneFeatures,
    labels: ElementLabels,
    answers: list[tuple[str, QueryAnswer]],
) -> None:
    from sas_ros.scans import write_ply

    instance = np.zeros(len(cloud.points), dtype=np.uint32)
    number = 0
    for _, result in answers:
        for found in result.instances:
            number += 1
            instance[found.point_indices] = number
    label = point_values(scene, labels.label, UNLABELLED).astype(np.uint32)
    confidence = point_values(scene, labels.confidence, np.float32(0))
    points = cloud.points.astype(np.float64) + cloud.origin
    write_ply(
        path, points, colors=cloud.colors, label=label, confidence=confidence, instance=instance
    )
