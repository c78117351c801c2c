"""The stages of the experiment, in order; each reads files and makes the ones that are missing."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.errors import SasError
from sas_training.capability.table import CapabilityTable
from sas_training.evaluation.metrics import NO_PREDICTION
from sas_training.experiment.checks import (
    Learned,
    capability_figures,
    checked_rooms,
    known_words,
    learned_figures,
)
from sas_training.experiment.figures import Counts, RowCounts, room_counts
from sas_training.experiment.files import FEATURES, GROUPS, Files, load_predictions
from sas_training.experiment.making import (
    compare,
    distil_row,
    fuse,
    fused_path,
    make_cloud_files,
    make_word_file,
    measure,
    predict_2d,
    predict_3d,
    teach,
)
from sas_training.experiment.room_views import read_labels, superpoints_path
from sas_training.experiment.rows import ROWS_2D
from sas_training.experiment.settings import TEACHERS
from sas_training.experiment.students import ROWS_3D
from sas_training.jobs import Job, Stage, Workers
from sas_training.scenes.procedural.dataset import room_path, write_dataset

BYTES_PER_POINT = 2 * 384 + 1
"""Of fused features, in half precision and as wide as the text encoder's, and their mask."""


def make_everything(files: Files, workers: Workers) -> None:
    """All files that the figures are read from.

    Raises:
        SasError: the disk is too small for what is still missing.
    """
    check_space(files)
    make_rooms(files, workers)
    workers.do("words", [Job(files.words, make_word_file, (files,))])
    workers.do_all(stages_of(files))


def stages_of(files: Files) -> list[Stage]:
    """Everything that is trained, measured and predicted. A repetition needs nothing of another,
    so that its students begin while the teachers of the next are still being taught.
    """
    seeds, held_out = files.seeds.runs, range(files.rooms("held_out"))
    taught = seeds[:1] if files.settings.teachers_once else seeds
    rows = tuple(reversed(ROWS_3D))  # the longest first: the end finds no process alone with one

    def taught_for(seed: int) -> tuple[Path, ...]:
        return tuple(files.teacher(name, seed) for name in TEACHERS)

    def fused(seed: int) -> tuple[Path, ...]:
        rooms = range(files.rooms("students"))
        return tuple(fused_path(files, seed, FEATURES[-1], index) for index in rooms)

    return [
        Stage(
            "teachers",
            [Job(files.teacher(n, s), teach, (files, n, s)) for s in taught for n in TEACHERS],
        ),
        Stage(
            "capability",
            [Job(files.capability(s), measure, (files, s), taught_for(s)) for s in seeds],
        ),
        Stage(
            "features for students",
            [
                Job(path, fuse, (files, s, index), (*taught_for(s), files.capability(s)))
                for s in seeds
                for index, path in enumerate(fused(s))
            ],
        ),
        Stage(
            "students",
            [
                Job(files.student(row, s), distil_row, (files, row, s), fused(s))
                for s in seeds
                for row in rows
            ],
        ),
        Stage(
            "teachers in held-out rooms",
            [
                Job(
                    files.predictions_2d(s, index),
                    predict_2d,
                    (files, s, index),
                    (*taught_for(s), files.capability(s)),
                )
                for s in seeds
                for index in held_out
            ],
        ),
        Stage(
            "students in held-out rooms",
            [
                Job(
                    files.predictions_3d(row, s, held_out[-1]),
                    predict_3d,
                    (files, row, s),
                    (files.student(row, s),),
                )
                for row in ROWS_3D
                for s in seeds
            ],
        ),
        Stage(
            "students in rooms of their own",
            [
                Job(
                    files.learned(row, s),
                    compare,
                    (files, row, s),
                    (files.student(row, s), *fused(s)),
                )
                for row in ROWS_3D
                for s in seeds
            ],
        ),
    ]


def check_space(files: Files) -> None:
    """Raise SasError where the fused features, nearly all of what is written, do not fit."""
    rooms, seeds = range(files.rooms("students")), files.seeds.runs
    paths = [fused_path(files, s, which, i) for s in seeds for which in FEATURES for i in rooms]
    missing = sum(not path.exists() for path in paths)
    needed = missing * files.settings.rooms.points * BYTES_PER_POINT
    files.run.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(files.run).free
    if needed > free:
        raise SasError(
            f"The features of this experiment need {needed / 1e9:.1f} GB, but the disk of "
            f"{files.run} has {free / 1e9:.1f} GB left; take another --run."
        )


def make_rooms(files: Files, workers: Workers) -> None:
    """Rooms with frames, clouds and superpoints of all groups."""
    for group in GROUPS:
        world, count = files.world(group), files.rooms(group)
        if all(room_path(world, index).exists() for index in range(count)):
            workers.say(f"rooms: {group}: all {count} are there already and have been kept")
            continue
        workers.say(f"rooms: {group}")
        with contextlib.redirect_stdout(sys.stderr):  # which belongs to the result here
            seed, frames = files.world_seed(group), files.frames(group)
            write_dataset(world, count, seed, workers.count, frames)
    for group in GROUPS[1:]:
        clouds = files.clouds(group)
        jobs = [
            Job(superpoints_path(clouds, index), make_cloud_files, (files, group, index))
            for index in range(files.rooms(group))
        ]
        workers.do(f"clouds: {group}", jobs)


def counts_of_rows(files: Files) -> dict[str, RowCounts]:
    """The confusions of every row, read from the predictions."""
    clouds, seeds, rooms = files.clouds("held_out"), files.seeds.runs, files.rooms("held_out")
    truths = [read_labels(clouds, index) for index in range(rooms)]
    two: dict[str, list[Counts]] = {name: [] for name in (*ROWS_2D, *ROWS_3D)}
    seen: dict[str, list[Counts]] = {name: [] for name in two}
    for seed in seeds:
        for index, truth in enumerate(truths):
            said = load_predictions(files.predictions_2d(seed, index))
            shown = said[ROWS_2D[0]] != NO_PREDICTION
            for row in ROWS_3D:
                said |= load_predictions(files.predictions_3d(row, seed, index))
            for name in two:
                two[name].append(room_counts(truth, said[name]))
                seen[name].append(room_counts(truth[shown], said[name][shown]))
    shape = (len(seeds), rooms)

    def stacked(parts: list[Counts]) -> Counts:
        return np.stack(parts).reshape(*shape, *parts[0].shape)

    return {name: RowCounts(stacked(two[name]), stacked(seen[name])) for name in two}


def checks_of(files: Files, rows: Mapping[str, RowCounts]) -> dict[str, Any]:
    """The `checks` of the result, from the files and the confusions of every row."""
    seeds = files.seeds.runs
    tables = [CapabilityTable.load(files.capability(seed)) for seed in seeds]
    parts = {row: [Learned.load(files.learned(row, seed)) for seed in seeds] for row in ROWS_3D}
    measure, known = files.settings.capability.measure, known_words(files.settings.teachers)
    return {
        "capability": capability_figures(tables, measure, rows, known),
        "rooms": len(checked_rooms(files.rooms("students"))),
        **learned_figures(parts),
    }
