"""What explains the rows: are measured capabilities the true ones, and has a student learned what
it was told?

A student that is bad in rooms it has never seen has either not learned what its teachers said, or
learned it by heart. The two are told apart in rooms that it was trained on: there it is compared
with the fused features themselves, and both with the truth, which no training read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_training.capability.table import CapabilityTable
from sas_training.distill.words import class_text
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.agreement import agreement
from sas_training.experiment.figures import Counts, RowCounts, miou, room_counts
from sas_training.experiment.settings import TEACHERS
from sas_training.experiment.words import Words
from sas_training.fusion.features import PointFeatures

MOST_ROOMS = 10
"""Rooms that a student is looked at in: enough for a mean over some 300,000 points."""

BOOTSTRAP_SEED = 1
_NAMES = tuple(class_text(name) for name in SCANNET20.names)


def checked_rooms(count: int) -> list[int]:
    """At most `MOST_ROOMS` of the `count` rooms for students, spread over them."""
    chosen = np.linspace(0, count, min(count, MOST_ROOMS), endpoint=False)
    return [int(index) for index in chosen]


@dataclass(frozen=True, eq=False)
class Learned:
    """What a student and its teachers say about the same points, in rooms of its training.

    Attributes:
        told: (20, 21) int64 points by the likeliest word of the fused features (rows) and the
            student's (columns; the last: none).
        teacher, student: (20, 21) int64 the same by the true class and what either says.
        probability: (20,) float64 sum, over the points of which a word is the likeliest, of its
            probability, in the softmax that the contrastive distance takes for its target.
    """

    told: Counts
    teacher: Counts
    student: Counts
    probability: npt.NDArray[np.float64]

    def __add__(self, other: Learned) -> Learned:
        return Learned(
            self.told + other.told,
            self.teacher + other.teacher,
            self.student + other.student,
            self.probability + other.probability,
        )

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **vars(self))

    @staticmethod
    def load(path: Path) -> Learned:
        """Read a file of `save`; raises SasError for anything else."""
        size = len(SCANNET20.names)
        try:
            with np.load(path, allow_pickle=False) as file:
                found = Learned(*(file[name] for name in Learned.__dataclass_fields__))
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise SasError(f"{path} holds no comparison: {error}; remove it.") from error
        shapes = [one.shape for one in (found.told, found.teacher, found.student)]
        if shapes != [(size, size + 1)] * 3 or found.probability.shape != (size,):
            raise SasError(f"The comparison in {path} is damaged; remove it.")
        return found


def learned_in_room(
    features: PointFeatures,
    student: npt.NDArray[np.int64],
    truth: npt.NDArray[np.int64],
    words: Words,
    temperature: float,
) -> Learned:
    """Compare a student's classes (N,) and the fused features of a room it learned from.

    Args:
        features: of its points; those without are left out.
        student: -1 where it says nothing.
        truth: (N,) true classes, 255 ignored.
        words: whose classes the features are compared with.
        temperature: of the softmax over cosines.
    """
    wide = features.features.astype(np.float32)
    lengths = np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    scaled = (wide / lengths) @ words.classes.T / temperature
    teacher = scaled.argmax(axis=1)
    likeliest = 1 / np.exp(scaled - scaled.max(axis=1, keepdims=True)).sum(axis=1)
    said, true = student[features.mask], truth[features.mask]
    size = len(SCANNET20.names)
    return Learned(
        room_counts(teacher, said),
        room_counts(true, teacher),
        room_counts(true, said),
        np.bincount(teacher, weights=likeliest, minlength=size).astype(np.float64),
    )


def learned_figures(parts: Mapping[str, Sequence[Learned]]) -> dict[str, Any]:
    """`students` and `told` of the checks, plain JSON, means over repetitions.

    Args:
        parts: by row, one of each repetition.
    """
    students = []
    for name, every in parts.items():
        rows = [(one.told, one.teacher, one.student) for one in every]
        told, teacher, student = (np.stack(counts) for counts in zip(*rows, strict=True))
        same = np.diagonal(told, axis1=1, axis2=2).sum(axis=1)
        students.append(
            {
                "name": name,
                "agreement": float((same / np.maximum(told.sum(axis=(1, 2)), 1)).mean()),
                "miou_against_teacher": float(miou(told).mean()),
                "miou": float(miou(student).mean()),
                "teacher_miou": float(miou(teacher).mean()),
            }
        )
    first = sum(next(iter(parts.values()))[1:], start=next(iter(parts.values()))[0])
    points = first.told.sum(axis=1)
    told_by_class = {
        name: {
            "share": float(points[k] / max(points.sum(), 1)),
            "probability": float(first.probability[k] / points[k]) if points[k] else None,
        }
        for k, name in enumerate(SCANNET20.names)
    }
    return {"students": students, "told": told_by_class}


def capability_figures(
    tables: Sequence[CapabilityTable], measure: str, rows: Mapping[str, RowCounts]
) -> dict[str, Any]:
    """How well the tables, one of each repetition, agree with the IoU of the teachers' rows.

    Both are means over repetitions; classes that no held-out room has are left out.
    """
    measured = np.mean([one.aligned(TEACHERS, _NAMES, measure=measure) for one in tables], axis=0)
    counts = np.stack([rows[f"2d/{name}"].everywhere.sum(axis=1) for name in TEACHERS])
    size = counts.shape[-2]
    hit = np.diagonal(counts[..., :size], axis1=-2, axis2=-1)
    truth = counts.sum(axis=-1)
    iou = hit / np.maximum(truth + counts[..., :size].sum(axis=-2) - hit, 1)
    there = truth.sum(axis=(0, 1)) > 0
    true = iou.mean(axis=1)
    return agreement(TEACHERS, measured[:, there], true[:, there], BOOTSTRAP_SEED)


def checks_markdown(checks: Mapping[str, Any]) -> list[str]:
    """The checks as lines of Markdown."""
    found = checks["capability"]
    lines = [
        "## Checks",
        "",
        "Capabilities measured on single objects against the true IoU in the held-out rooms, over "
        f"{found['n']} classes.",
        "",
        "| | rank correlation | interval | sign right |",
        "|---|---|---|---|",
    ]
    for name, one in found["teachers"].items():
        lines.append(_ranks(name, one, ""))
    for name, one in found["pairs"].items():
        sign = f"{100 * one['sign_agreement']['value']:.0f} %"
        lines.append(_ranks(name, one["spearman_difference"], sign))
    lines += [
        "",
        f"Students in {checks['rooms']} of the rooms they were trained on, on the points that "
        "they were told something about, in per cent: how often they say the same as the fused "
        "features, mIoU with the features taken for the truth, and mIoU of both with the truth.",
        "",
        "| row | same | mIoU, features as truth | mIoU | mIoU of the features |",
        "|---|---|---|---|---|",
    ]
    for row in checks["students"]:
        values = (row[key] for key in ("agreement", "miou_against_teacher", "miou", "teacher_miou"))
        lines.append(f"| {row['name']} | " + " | ".join(f"{100 * v:.1f}" for v in values) + " |")
    unsure = sorted(
        (one["probability"], name)
        for name, one in checks["told"].items()
        if one["probability"] is not None
    )
    told = ", ".join(f"{name} {value:.2f}" for value, name in unsure)
    return [*lines, "", f"Mean probability of the likeliest word in the fused features: {told}."]


def _ranks(name: str, one: Mapping[str, float], sign: str) -> str:
    return f"| {name} | {one['value']:.2f} | {one['low']:.2f} to {one['high']:.2f} | {sign} |"
