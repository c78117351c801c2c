"""The teachers' true IoU of every class, in frames of held-out rooms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import UNREADABLE, atomic_path
from sas_training.capability.table import CapabilityTable, Measurement
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.capability_files import VOCABULARY, CapabilityRun
from sas_training.experiment.pictures import HALF, halved
from sas_training.experiment.settings import TEACHERS
from sas_training.experiment.sources import class_map
from sas_training.experiment.words import Words
from sas_training.scenes.procedural.frames import frame_path, read_frame

_IGNORED = 255


def count_room(about: CapabilityRun, index: int) -> None:
    """Write how often teachers are right in the frames of a held-out room: `overlap` and `union`,
    (T, 20) int64 pixels, and `shown`, (20,) int64 pixels that truly are of a class; pixels of no
    class are left out."""
    words = Words.load(about.ablation.words)
    teachers = about.teachers(words)
    frames = min(about.settings.frames, about.ablation.frames("held_out"))
    overlap = np.zeros((len(teachers), len(VOCABULARY)), dtype=np.int64)
    union = np.zeros_like(overlap)
    shown = np.zeros(len(VOCABULARY), dtype=np.int64)
    for number in range(frames):
        frame = read_frame(frame_path(about.ablation.world("held_out"), index, number))
        image = halved(frame.color)
        true = frame.labels[::HALF, ::HALF][: image.shape[0], : image.shape[1]]
        known = true != _IGNORED
        shown += np.bincount(true[known], minlength=len(VOCABULARY))
        for row, teacher in enumerate(teachers.values()):
            said = class_map(teacher, image, words)
            for label in range(len(VOCABULARY)):
                called, there = (said == label) & known, true == label
                overlap[row, label] += np.count_nonzero(called & there)
                union[row, label] += np.count_nonzero(called | there)
    path = about.truth(index)
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, overlap=overlap, union=union, shown=shown)


def true_table(about: CapabilityRun) -> CapabilityTable:
    """IoU of every class over all held-out rooms, as a table.

    Its note `pixels` says how many truly are of each class. Without any, the IoU is 0 whatever a
    teacher knows, and says nothing about it: see `classes_shown`.
    """
    rooms = range(about.ablation.rooms("held_out"))
    counts = np.stack([_read(about.truth(index)) for index in rooms]).sum(axis=0)
    overlap, union, shown = counts[: len(TEACHERS)], counts[len(TEACHERS) : -1], counts[-1]
    scores = overlap / np.maximum(union, 1)
    pixels = dict(zip(VOCABULARY, shown.tolist(), strict=True))
    return CapabilityTable(
        teachers=TEACHERS,
        classes=VOCABULARY,
        scores=scores,
        pooled=scores,
        made=Measurement(
            notes={"truth": "frames of held-out rooms", "rooms": len(rooms), "pixels": pixels}
        ),
    )


def classes_shown(truth: CapabilityTable) -> tuple[str, ...]:
    """The words of a table of `true_table` of which the held-out rooms show at least a pixel."""
    return tuple(name for name in VOCABULARY if truth.made.notes["pixels"][name])


def _read(path: Path) -> npt.NDArray[np.int64]:
    """(2 T + 1, 20): overlap and union of each teacher, and shown."""
    try:
        with np.load(path, allow_pickle=False) as file:
            counts = np.concatenate([file["overlap"], file["union"], file["shown"][None]])
    except UNREADABLE as error:
        raise SasError(f"{path} holds no counts ({error}); remove it.") from error
    if counts.shape != (2 * len(TEACHERS) + 1, len(SCANNET20.names)):
        raise SasError(f"The counts in {path} are damaged; remove it.")
    return np.asarray(counts, dtype=np.int64)
