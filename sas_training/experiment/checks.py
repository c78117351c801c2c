"""What explains the rows: are measured capabilities the true ones, and has a student learned what
it was told?

A student that is bad in rooms it has never seen has either not learned what its teachers said, or
learned it by heart. The two are told apart in rooms that it was trained on: there it is compared
with what it was told, fused features or their means over superpoints, and both with the truth,
which no training read.
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
from sas_training.experiment.figures import Counts, RowCounts, class_iou, miou, room_counts
from sas_training.experiment.settings import TEACHERS, TeachersSettings
from sas_training.experiment.words import Words
from sas_training.fusion.features import PointFeatures

MOST_ROOMS = 10
"""Rooms that a student is looked at in: enough for a mean over some 300,000 points."""

LEARNED_VERSION = 2
"""Of what a `Learned` counts; 1 compared every student with each point's own features."""

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
        told: (20, 21) int64 points by the likeliest word of what the student was told (rows) and
            the student's (columns; the last: none).
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
    superpoint: npt.NDArray[np.integer[Any]] | None = None,
) -> Learned:
    """Compare a student's classes (N,) and what it was told about a room it learned from.

    Args:
        features: of its points; those without are left out.
        student: -1 where it says nothing.
        truth: (N,) true classes, 255 ignored.
        words: whose classes the features are compared with.
        temperature: of the softmax over cosines.
        superpoint: (N,) superpoint of every point, -1 for none: the student was told the means of
            the features over these, and points of none are left out. None: each its own feature.
            A training takes one point of each voxel of a crop; these are means of all points.
    """
    wide = features.features.astype(np.float32)
    said, true = student[features.mask], truth[features.mask]
    if superpoint is not None:
        owner = superpoint[features.mask]
        inside = owner >= 0
        said, true, wide = said[inside], true[inside], _means(wide[inside], owner[inside])
    lengths = np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    scaled = (wide / lengths) @ words.classes.T / temperature
    teacher = scaled.argmax(axis=1)
    likeliest = 1 / np.exp(scaled - scaled.max(axis=1, keepdims=True)).sum(axis=1)
    size = len(SCANNET20.names)
    return Learned(
        room_counts(teacher, said),
        room_counts(true, teacher),
        room_counts(true, said),
        np.bincount(teacher, weights=likeliest, minlength=size).astype(np.float64),
    )


def _means(
    features: npt.NDArray[np.float32], owner: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.float32]:
    """(N, C) of each row (N, C) the mean of those with the same owner (N,), as the training has."""
    import torch

    from sas_training.distill.objectives import group_means

    group = torch.from_numpy(owner.astype(np.int64))
    groups = int(owner.max(initial=-1)) + 1
    return np.asarray(group_means(torch.from_numpy(features), group, groups)[group].numpy())


def learned_figures(parts: Mapping[str, Sequence[Learned]]) -> dict[str, Any]:
    """`students` of the checks, plain JSON, means over repetitions; of `classes` sums over them.

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
                "classes": _by_class(sum(every[1:], start=every[0])),
            }
        )
    return {"students": students}


def _by_class(one: Learned) -> dict[str, Any]:
    points, same = one.told.sum(axis=1), np.diagonal(one.told)
    teacher, student = class_iou(one.teacher), class_iou(one.student)
    there = one.teacher.sum(axis=1) > 0
    return {
        name: {
            "share": float(points[k] / max(points.sum(), 1)),
            "probability": float(one.probability[k] / points[k]) if points[k] else None,
            "same": float(same[k] / points[k]) if points[k] else None,
            "teacher_iou": float(teacher[k]) if there[k] else None,
            "iou": float(student[k]) if there[k] else None,
        }
        for k, name in enumerate(SCANNET20.names)
    }


def known_words(teachers: TeachersSettings) -> npt.NDArray[np.bool_]:
    """(T, 20) whether a teacher, in the order of `TEACHERS`, was taught a word for a class."""
    by_name = teachers.by_name
    return np.array(
        [[one in by_name[name].classes for one in SCANNET20.names] for name in TEACHERS]
    )


def capability_figures(
    tables: Sequence[CapabilityTable],
    measure: str,
    rows: Mapping[str, RowCounts],
    known: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    """How well the tables, one of each repetition, agree with the IoU of the teachers' rows.

    Both are means over repetitions; classes that no held-out room has are left out.

    Args:
        known: of `known_words`.
    """
    measured = np.mean([one.aligned(TEACHERS, _NAMES, measure=measure) for one in tables], axis=0)
    counts = np.stack([rows[f"2d/{name}"].everywhere.sum(axis=1) for name in TEACHERS])
    there = counts.sum(axis=(0, 1, -1)) > 0
    true = class_iou(counts).mean(axis=1)
    return agreement(TEACHERS, measured[:, there], true[:, there], BOOTSTRAP_SEED, known[:, there])


def checks_markdown(checks: Mapping[str, Any]) -> list[str]:
    """The checks as lines of Markdown."""
    found = checks["capability"]
    lines = [
        "## Checks",
        "",
        "Capabilities measured on single objects against the true IoU in the held-out rooms, over "
        f"{found['n']} classes.",
        "",
        "| | rank correlation | interval | signs right, tied, wrong |",
        "|---|---|---|---|",
    ]
    for name, one in found["teachers"].items():
        lines.append(_ranks(name, one, ""))
    for name, one in found["pairs"].items():
        lines.append(_ranks(name, one["spearman_difference"], _signs(one)))
        both = one["known_to_both"]
        if both is not None and both["n"] < found["n"]:
            title = f"the same, {both['n']} classes known to both"
            lines.append(_ranks(title, both["spearman_difference"], _signs(both)))
    lines += [
        "",
        "Of a class that one of two teachers has no word for, that teacher is measured with "
        "nothing and has nothing: such a sign is right without a picture.",
        "",
        *students_markdown(checks),
    ]
    for name in ("3d/pixel", "3d/superpoint"):
        row = next(one for one in checks["students"] if one["name"] == name)
        lines += [
            "",
            f"What `{name}` was told and says, class by class: the share of points that it is the "
            "likeliest word of, its mean probability there, how often the student says the same "
            "there, and the true IoU of what is told and of the student in these rooms.",
            "",
            "| class | share, % | probability | same, % | IoU of what is told | IoU |",
            "|---|---|---|---|---|---|",
        ]
        for label, one in sorted(row["classes"].items(), key=lambda item: -item[1]["share"]):
            keys = ("probability", "same", "teacher_iou", "iou")
            scales, digits = (1, 100, 1, 1), (2, 0, 2, 2)
            cells = [
                "" if one[key] is None else f"{scale * one[key]:.{digit}f}"
                for key, scale, digit in zip(keys, scales, digits, strict=True)
            ]
            lines.append(f"| {label} | {100 * one['share']:.1f} | {' | '.join(cells)} |")
    return lines


def students_markdown(checks: Mapping[str, Any]) -> list[str]:
    """Students in rooms of their own (`learned_figures`) as lines of Markdown."""
    lines = [
        f"Students in {checks['rooms']} of the rooms they were trained on, on the points that "
        "they were told something about, in per cent: how often they say the same as what they "
        "were told (fused features, for `3d/pixel` each point's own, for the others their means "
        "over superpoints), mIoU with that taken for the truth, and mIoU of both with the truth.",
        "",
        "| row | same | mIoU, told as truth | mIoU | mIoU of what is told |",
        "|---|---|---|---|---|",
    ]
    for row in checks["students"]:
        values = (row[key] for key in ("agreement", "miou_against_teacher", "miou", "teacher_miou"))
        lines.append(f"| {row['name']} | " + " | ".join(f"{100 * v:.1f}" for v in values) + " |")
    return lines


def _signs(pair: Mapping[str, Any]) -> str:
    return ", ".join(str(pair["signs"][key]) for key in ("right", "tied", "wrong"))


def _ranks(name: str, one: Mapping[str, float], sign: str) -> str:
    return f"| {name} | {one['value']:.2f} | {one['low']:.2f} to {one['high']:.2f} | {sign} |"
