"""The stages of the experiment: every file, what makes it, and the files it is made from.

Repetitions are independent of each other, but for the teachers where they share them. So the
students of one begin while the teachers of the next are still being taught, and teachers that are
shared look at every room once.
"""

from __future__ import annotations

from pathlib import Path

from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.files import FEATURES, GROUPS, Files
from sas_training.experiment.making import (
    compare,
    distil_row,
    fuse,
    fused_path,
    make_cloud_files,
    make_object_pictures,
    make_room_files,
    make_word_file,
    measure,
    predict_2d,
    predict_3d,
    room_files,
    teach,
)
from sas_training.experiment.room_views import superpoints_path
from sas_training.experiment.settings import TEACHERS
from sas_training.experiment.students import ROWS_3D, SAME_AT_FIRST
from sas_training.jobs import Job, Stage


def stages_of(files: Files) -> list[Stage]:
    """All of them; earlier ones come first where a process may choose.

    Teachers need the rooms of the first group alone. Where fewer of them than processes are left
    to teach, the other rooms and the pictures of objects are made beside them.
    """
    teaching, students, held_out = GROUPS
    return [
        words_stage(files),
        rooms_stage(files, teaching),
        _teachers(files),
        *(of(files, group) for group in (students, held_out) for of in (rooms_stage, clouds_stage)),
        _pictures(files),
        _capability(files),
        _features(files),
        _students(files),
        _predictions_2d(files),
        _predictions_3d(files),
        _compared(files),
    ]


def words_stage(files: Files) -> Stage:
    """The text vectors."""
    return Stage("words", [Job(files.words, make_word_file, (files,))])


def rooms_stage(files: Files, group: str) -> Stage:
    """The rooms of a group; `begin_rooms` comes before."""
    jobs = []
    for index in range(files.rooms(group)):
        *before, last = room_files(files, group, index)
        jobs.append(Job(last, make_room_files, (files, group, index), (), tuple(before)))
    return Stage(f"rooms: {group}", jobs)


def clouds_stage(files: Files, group: str) -> Stage:
    """The points, labels and superpoints of its rooms."""
    clouds = files.clouds(group)
    return Stage(
        f"clouds: {group}",
        [
            Job(
                superpoints_path(clouds, index),
                make_cloud_files,
                (files, group, index),
                (room_files(files, group, index)[-1],),
            )
            for index in range(files.rooms(group))
        ],
    )


def _teachers(files: Files) -> Stage:
    rooms = range(files.rooms("teaching"))
    needed = (files.words, *(room_files(files, "teaching", index)[-1] for index in rooms))
    return Stage(
        "teachers",
        [
            Job(files.teacher(name, seeds[0]), teach, (files, name, seeds[0]), needed)
            for seeds in _sharing(files)
            for name in TEACHERS
        ],
    )


def _sharing(files: Files) -> list[tuple[int, ...]]:
    """The seeds of repetitions, those together that have the same teachers."""
    seeds = files.seeds.runs
    return [seeds] if files.settings.teachers_once else [(seed,) for seed in seeds]


def _taught(files: Files, seed: int) -> tuple[Path, ...]:
    return tuple(files.teacher(name, seed) for name in TEACHERS)


def _pictures(files: Files) -> Stage:
    return Stage(
        "pictures of single objects",
        [
            Job(files.pictures(seed, name), make_object_pictures, (files, name, seed))
            for seed in files.seeds.runs
            for name in SCANNET20.names
        ],
    )


def _capability(files: Files) -> Stage:
    return Stage(
        "capability",
        [
            Job(
                files.capability(seed),
                measure,
                (files, seed),
                (*_taught(files, seed), *(files.pictures(seed, n) for n in SCANNET20.names)),
            )
            for seed in files.seeds.runs
        ],
    )


def _fusing(files: Files, seeds: tuple[int, ...], group: str, index: int) -> tuple[Path, ...]:
    """What is read to fuse the teachers of `seeds` in a room."""
    tables = (files.capability(seed) for seed in seeds)
    cloud = superpoints_path(files.clouds(group), index)
    return (*_taught(files, seeds[0]), *tables, cloud)


def _features(files: Files) -> Stage:
    jobs = []
    for seeds in _sharing(files):
        for index in range(files.rooms("students")):
            made = [fused_path(files, seed, which, index) for seed in seeds for which in FEATURES]
            after = _fusing(files, seeds, "students", index)
            jobs.append(Job(made[-1], fuse, (files, seeds, index), after, tuple(made[:-1])))
    return Stage("features for students", jobs)


def _fused(files: Files, seed: int) -> tuple[Path, ...]:
    """What the students of a repetition learn from."""
    rooms = range(files.rooms("students"))
    return tuple(fused_path(files, seed, which, index) for which in FEATURES for index in rooms)


def _students(files: Files) -> Stage:
    first, second = SAME_AT_FIRST
    # What another waits for at first, then the longest: the end finds no process alone with one.
    rows = (first, *(row for row in reversed(ROWS_3D) if row != first))

    def needed(row: str, seed: int) -> tuple[Path, ...]:
        begun = (files.student(first, seed),) if row == second else ()
        return (*_fused(files, seed), *begun)

    return Stage(
        "students",
        [
            Job(files.student(row, seed), distil_row, (files, row, seed), needed(row, seed))
            for seed in files.seeds.runs
            for row in rows
        ],
    )


def _predictions_2d(files: Files) -> Stage:
    jobs = []
    for seeds in _sharing(files):
        for index in range(files.rooms("held_out")):
            made = [files.predictions_2d(seed, index) for seed in seeds]
            after = _fusing(files, seeds, "held_out", index)
            jobs.append(Job(made[-1], predict_2d, (files, seeds, index), after, tuple(made[:-1])))
    return Stage("teachers in held-out rooms", jobs)


def _predictions_3d(files: Files) -> Stage:
    held_out = range(files.rooms("held_out"))
    clouds = tuple(superpoints_path(files.clouds("held_out"), index) for index in held_out)
    return Stage(
        "students in held-out rooms",
        [
            Job(
                files.predictions_3d(row, seed, held_out[-1]),
                predict_3d,
                (files, row, seed),
                (files.student(row, seed), *clouds),
            )
            for row in ROWS_3D
            for seed in files.seeds.runs
        ],
    )


def _compared(files: Files) -> Stage:
    return Stage(
        "students in rooms of their own",
        [
            Job(
                files.learned(row, seed),
                compare,
                (files, row, seed),
                (files.student(row, seed), *_fused(files, seed)),
            )
            for row in ROWS_3D
            for seed in files.seeds.runs
        ],
    )
