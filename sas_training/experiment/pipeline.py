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
from sas_training.distill.feature_scenes import FEATURES_SUFFIX
from sas_training.evaluation.metrics import NO_PREDICTION
from sas_training.experiment.capability import measure_capability
from sas_training.experiment.checks import (
    Learned,
    capability_figures,
    checked_rooms,
    known_words,
    learned_figures,
    learned_in_room,
)
from sas_training.experiment.figures import Counts, RowCounts, room_counts
from sas_training.experiment.files import (
    FEATURES,
    GROUPS,
    Files,
    load_predictions,
    save_predictions,
)
from sas_training.experiment.room_views import (
    cloud_path,
    make_cloud,
    make_superpoints,
    read_cloud,
    read_labels,
    read_views,
    room_name,
    superpoints_path,
)
from sas_training.experiment.rows import ROWS_2D, Fusing, point_features, predictions
from sas_training.experiment.settings import PAIR, TEACHERS
from sas_training.experiment.sources import in_text_space
from sas_training.experiment.students import ROWS_3D, StudentClasses, distil, recipe_of
from sas_training.experiment.words import Words, make_words
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.projection import ProjectionSettings
from sas_training.jobs import Job, Stage, Workers, followed
from sas_training.scenes.procedural.dataset import room_path, write_dataset
from sas_training.superpoints import Superpoints
from sas_training.teachers.teacher import PixelTeacher

BYTES_PER_POINT = 2 * 384 + 1
"""Of fused features, in half precision and as wide as the text encoder's, and their mask."""


def make_everything(files: Files, workers: Workers) -> None:
    """All files that the figures are read from.

    Raises:
        SasError: the disk is too small for what is still missing.
    """
    check_space(files)
    make_rooms(files, workers)
    workers.do("words", [Job(files.words, _words, (files,))])
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
        return tuple(_fused_path(files, seed, FEATURES[-1], index) for index in rooms)

    return [
        Stage(
            "teachers",
            [Job(files.teacher(n, s), _teach, (files, n, s)) for s in taught for n in TEACHERS],
        ),
        Stage(
            "capability",
            [Job(files.capability(s), _measure, (files, s), taught_for(s)) for s in seeds],
        ),
        Stage(
            "features for students",
            [
                Job(path, _fuse, (files, s, index), (files.capability(s),))
                for s in seeds
                for index, path in enumerate(fused(s))
            ],
        ),
        Stage(
            "students",
            [
                Job(files.student(row, s), _distil, (files, row, s), fused(s))
                for s in seeds
                for row in rows
            ],
        ),
        Stage(
            "teachers in held-out rooms",
            [
                Job(
                    files.predictions_2d(s, index),
                    _predict_2d,
                    (files, s, index),
                    (files.capability(s),),
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
                    _predict_3d,
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
                Job(files.learned(row, s), _compare, (files, row, s), (files.student(row, s),))
                for row in ROWS_3D
                for s in seeds
            ],
        ),
    ]


def check_space(files: Files) -> None:
    """Raise SasError where the fused features, nearly all of what is written, do not fit."""
    rooms, seeds = range(files.rooms("students")), files.seeds.runs
    paths = [_fused_path(files, s, which, i) for s in seeds for which in FEATURES for i in rooms]
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
        workers.do(
            f"clouds: {group}",
            [
                Job(superpoints_path(files.clouds(group), index), _cloud, (files, group, index))
                for index in range(files.rooms(group))
            ],
        )


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


# ------------------------------------------------------------------------------------------- jobs
def _cloud(files: Files, group: str, index: int) -> None:
    clouds = files.clouds(group)
    if not cloud_path(clouds, index).exists():
        points, seed = files.settings.rooms.points, files.world_seed(group)
        make_cloud(files.world(group), index, clouds, points, seed)
    make_superpoints(clouds, index, files.settings.superpoints)


def _words(files: Files) -> None:
    from sas_ros.language.encoder import load_encoder

    settings = files.settings
    said = [word for one in settings.teachers.by_name.values() for word in one.said]
    make_words(load_encoder(settings.text_encoder), settings.prompt, said).save(files.words)


def _teach(files: Files, name: str, seed: int) -> None:
    from sas_training.experiment.pictures import labelled_pictures
    from sas_training.experiment.teachers import TeacherFacts, save_teacher
    from sas_training.experiment.training import TeacherTraining

    settings, target = files.settings.teachers.by_name[name], files.teacher(name, seed)
    words = Words.load(files.words)
    texts = words.of(settings.said)
    pictures = labelled_pictures(
        files.world("teaching"), files.rooms("teaching"), files.frames("teaching")
    )
    # Teachers of one repetition begin and look at pictures differently.
    own = 100 * seed + TEACHERS.index(name)
    run = target.with_suffix(".checkpoint.pt")
    training = TeacherTraining(pictures, settings, texts, own, run)
    for _ in followed(training.steps(), settings.steps, training.step, name):
        pass
    outputs = training.network.kernel.shape[1]
    encoder = files.settings.text_encoder
    facts = TeacherFacts(
        name, settings.kind, settings.said, encoder, settings.width, settings.blur, outputs
    )
    save_teacher(target, training.network, facts)


def _teachers(files: Files, seed: int, words: Words) -> dict[str, PixelTeacher]:
    from sas_training.experiment.teachers import load_small_teacher

    found = {name: load_small_teacher(files.teacher(name, seed)) for name in TEACHERS}
    return {name: in_text_space(teacher, words) for name, teacher in found.items()}


def _measure(files: Files, seed: int) -> None:
    words, images = Words.load(files.words), files.settings.capability.images
    table = measure_capability(_teachers(files, seed, words), words, images, seed)
    table.save(files.capability(seed))


def _fusing(files: Files, seed: int) -> Fusing:
    settings = files.settings
    return Fusing(
        Words.load(files.words),
        CapabilityTable.load(files.capability(seed)),
        ProjectionSettings(settings.boundary, settings.occlusion),
        settings.tau,
        settings.capability.measure,
        seed,
    )


def _predict_2d(files: Files, seed: int, index: int) -> None:
    fusing, clouds = _fusing(files, seed), files.clouds("held_out")
    views = read_views(files.world("held_out"), index, files.frames("held_out"))
    points, _ = read_cloud(clouds, index)
    teachers = _teachers(files, seed, fusing.words)
    features = point_features(points, views, teachers, fusing, room_name(index))
    said = predictions(features, fusing, read_labels(clouds, index))
    save_predictions(files.predictions_2d(seed, index), said)


def _fused_path(files: Files, seed: int, which: str, index: int) -> Path:
    return files.features(seed, which) / f"{room_name(index)}{FEATURES_SUFFIX}"


def _fuse(files: Files, seed: int, index: int) -> None:
    fusing = _fusing(files, seed)
    views = read_views(files.world("students"), index, files.frames("students"))
    points, _ = read_cloud(files.clouds("students"), index)
    teachers = _teachers(files, seed, fusing.words)
    features = point_features(points, views, teachers, fusing, room_name(index))
    for which, names in zip(FEATURES, (PAIR, TEACHERS), strict=True):
        fusing.fused(features, names, "capability").save(_fused_path(files, seed, which, index))


def _distil(files: Files, row: str, seed: int) -> None:
    clouds, target = files.clouds("students"), files.student(row, seed)
    distil(
        clouds / "clouds",
        files.features(seed, _learned_from(row)),
        clouds / "superpoints",
        recipe_of(row, files.settings.student, seed),
        Words.load(files.words),
        target.with_suffix(""),
        target,
    )


def _learned_from(row: str) -> str:
    return FEATURES[1] if row == "3d/three-teachers" else FEATURES[0]


def _compare(files: Files, row: str, seed: int) -> None:
    student, words = StudentClasses(files.student(row, seed)), Words.load(files.words)
    clouds = files.clouds("students")
    recipe = recipe_of(row, files.settings.student, seed)
    temperature, over = recipe.objective.teacher_temperature, recipe.objective.targets
    rooms = []
    for index in checked_rooms(files.rooms("students")):
        features = PointFeatures.load(_fused_path(files, seed, _learned_from(row), index))
        said = student.of(*read_cloud(clouds, index))
        truth, owner = read_labels(clouds, index), None
        if over == "superpoint":
            owner = Superpoints.load(superpoints_path(clouds, index)).labels
        rooms.append(learned_in_room(features, said, truth, words, temperature, owner))
    sum(rooms[1:], start=rooms[0]).save(files.learned(row, seed))


def _predict_3d(files: Files, row: str, seed: int) -> None:
    student, clouds = StudentClasses(files.student(row, seed)), files.clouds("held_out")
    for index in range(files.rooms("held_out")):
        path = files.predictions_3d(row, seed, index)
        if not path.exists():
            save_predictions(path, {row: student.of(*read_cloud(clouds, index))})
