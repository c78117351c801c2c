"""What was learned from, and what became of it: figures, and pictures to look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.files import atomic_write
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.observation import Cloud, Up
from sas_ros.pictures import write_png
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_training.fusion.features import PointFeatures
from sas_training.learn.cloud_panels import cloud_panels
from sas_training.learn.files import LearnFiles
from sas_training.scenes.sheet import Panel, draw_panels

REPORT_VERSION = 1
_PANEL = (420, 320)
_MOST_DRAWN = 6
_MOST_WORDS = 6
_Z_UP = Up(np.array([0.0, 0.0, 1.0]), "parameter")

Labels = npt.NDArray[np.int64]


def write_report(
    files: LearnFiles, names: Sequence[str], bundle: StudentBundle, output: Path
) -> None:
    """`report/report.json`, `report.md` and `scenes.png` under the run."""
    folder = files.run / "report"
    segmenter = Segmenter(bundle, device="cpu")
    rows: list[dict[str, Any]] = []
    panels: list[list[Panel]] = []
    for number, name in enumerate(names):
        row, drawn = _scene(files, name, segmenter, draw=number < _MOST_DRAWN)
        rows.append(row)
        panels += [drawn] if drawn else []
    report = {
        "version": REPORT_VERSION,
        "student": bundle.name,
        "output": output.name,
        "kind": files.recording.kind,
        "recording": files.recording.path.name,
        "teachers": [one.called for one in files.settings.teachers],
        "fusion": files.settings.fusion.rule if len(files.settings.teachers) > 1 else "",
        "recipe": files.settings.recipe,
        "provenance": bundle.provenance,
        "scenes": rows,
    }
    write_png(folder / "scenes.png", draw_panels(panels, _PANEL))
    atomic_write(folder / "report.json", json.dumps(report, indent=2, sort_keys=True).encode())
    atomic_write(folder / "report.md", _markdown(report).encode())


def _scene(
    files: LearnFiles, name: str, segmenter: Segmenter, *, draw: bool
) -> tuple[dict[str, Any], list[Panel]]:
    vocabulary = segmenter.bundle.vocabulary
    with np.load(files.cloud(name), allow_pickle=False) as stored:
        points = stored["points"]
        colors = stored["colors"] if "colors" in stored else None
        up_from = str(stored["up_from"])
    said: dict[str, Labels] = {}
    teachers = []
    for number, choice in enumerate(files.settings.teachers):
        features = PointFeatures.load(files.said(number, name))
        labels = nearest_words(features, vocabulary)
        frames = dict(features.settings.get("frames", {}))
        said[choice.called] = labels
        teachers.append({"name": choice.called, "frames": frames, **_about(labels, vocabulary)})
    if len(teachers) > 1:
        fused = PointFeatures.load(files.feature_file(name))
        said["fused"] = nearest_words(fused, vocabulary)
    scene = segmenter.segment(Cloud(points, colors=colors), _Z_UP)
    elements = segmenter.label(scene, vocabulary).label
    said["student"] = np.where(
        scene.element_of_point >= 0, elements[scene.element_of_point], -1
    ).astype(np.int64)
    taught = said["fused" if len(teachers) > 1 else teachers[0]["name"]]
    for teacher in teachers:
        teacher["agreement"] = _agreement(said[teacher["name"]], said["student"])
    row = {
        "name": name,
        "points": len(points),
        "up_from": up_from,
        "seen": float((taught >= 0).mean()),
        "teachers": teachers,
        "student": _about(said["student"], vocabulary),
        "agreement": _agreement(taught, said["student"]),
    }
    if not draw:
        return row, []
    return row, cloud_panels(name, points, colors, said, vocabulary, _PANEL)


def nearest_words(features: PointFeatures, vocabulary: Vocabulary) -> Labels:
    """(N,) the word with the largest cosine of each point, -1 where nothing was said."""
    labels = np.full(len(features.mask), -1, dtype=np.int64)
    best = [
        (
            features.features[start : start + 65_536].astype(np.float32) @ vocabulary.embeddings.T
        ).argmax(axis=1)
        for start in range(0, len(features.features), 65_536)
    ]
    labels[features.mask] = np.concatenate(best) if best else 0
    return labels


def _agreement(taught: Labels, student: Labels) -> float:
    """Share of the points with both words on which they are the same."""
    both = (taught >= 0) & (student >= 0)
    return float((taught == student)[both].mean()) if both.any() else 0.0


def _about(labels: Labels, vocabulary: Vocabulary) -> dict[str, Any]:
    """Share of points with a word, and the commonest words with their shares of these."""
    known = labels[labels >= 0]
    counts = np.bincount(known, minlength=len(vocabulary))
    order = np.argsort(-counts, kind="stable")[:_MOST_WORDS]
    words = {vocabulary.names[k]: float(counts[k] / len(known)) for k in order if counts[k]}
    return {"seen": float((labels >= 0).mean()), "words": words}


def _markdown(report: dict[str, Any]) -> str:
    lines = [
        f"# {report['student']}",
        "",
        f"Learned from {report['recording']} ({report['kind']}), {len(report['scenes'])} scenes; "
        f"teachers: {', '.join(report['teachers'])}"
        + (f", fused by {report['fusion']}" if report["fusion"] else "")
        + f"; recipe {report['recipe']}. No labels were used.",
        "",
        "![Scenes: colours, teachers, student](scenes.png)",
        "",
        "| scene | points | up from | who | saw | commonest words | student says the same |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["scenes"]:
        first = [row["name"], str(row["points"]), row["up_from"]]
        for about in [*row["teachers"], {"name": "student", **row["student"]}]:
            words = ", ".join(f"{word} {share:.0%}" for word, share in about["words"].items())
            same = f"{about['agreement']:.0%}" if "agreement" in about else ""
            cells = [*first, about["name"], f"{about['seen']:.0%}", words, same]
            lines.append(f"| {' | '.join(cells)} |")
            first = ["", "", ""]
    agreement = np.mean([row["agreement"] for row in report["scenes"]])
    lines += [
        "",
        f"The student says what its teachers say on {agreement:.0%} of the points they saw. That "
        "is agreement, not truth: nobody labelled these scenes.",
        "",
    ]
    for row in report["scenes"]:
        for about in row["teachers"]:
            skipped = about["frames"].get("skipped", {})
            if skipped:
                reasons = ", ".join(f"{reason} ({count})" for reason, count in skipped.items())
                lines.append(f"- {row['name']}, {about['name']}: frames skipped: {reasons}")
            walks = about["frames"].get("walks", 1)
            if walks > 1:
                lines.append(
                    f"- {row['name']}, {about['name']}: frames were read {walks} times, since the "
                    "sums of features need more memory than `sums_gib`"
                )
    return "\n".join(lines) + "\n"
