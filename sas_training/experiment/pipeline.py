"""The experiment from settings to the counts that its figures are made of."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
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
from sas_training.experiment.making import fused_path, room_files
from sas_training.experiment.room_views import read_labels
from sas_training.experiment.rows import ROWS_2D
from sas_training.experiment.stages import stages_of
from sas_training.experiment.students import ROWS_3D
from sas_training.jobs import Workers
from sas_training.scenes.procedural.dataset import Extras, begin_dataset

BYTES_PER_POINT = 2 * 384 + 1
"""Of fused features, in half precision and as wide as the text encoder's, and their mask."""


def make_everything(files: Files, workers: Workers) -> None:
    """All files that the figures are read from.

    Raises:
        SasError: the disk is too small for what is still missing.
    """
    check_space(files)
    begin_rooms(files, GROUPS)
    workers.do_all(stages_of(files))


def begin_rooms(files: Files, groups: Sequence[str]) -> None:
    """Make the folders of some of `GROUPS` ready, where a room of theirs is missing."""
    for group in groups:
        rooms = files.rooms(group)
        last = (room_files(files, group, index)[-1] for index in range(rooms))
        if not all(path.exists() for path in last):
            wanted = Extras(frames=files.frames(group))
            begin_dataset(files.world(group), rooms, files.world_seed(group), wanted)


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


def counts_of_rows(
    files: Files, more: Mapping[str, Callable[[int, int], Path]] = MappingProxyType({})
) -> dict[str, RowCounts]:
    """The confusions of every row, read from the predictions.

    Args:
        more: rows beside those of the ablation: name -> where its predictions lie, by seed of the
            repetition and room.
    """
    clouds, seeds, rooms = files.clouds("held_out"), files.seeds.runs, files.rooms("held_out")
    truths = [read_labels(clouds, index) for index in range(rooms)]
    two: dict[str, list[Counts]] = {name: [] for name in (*ROWS_2D, *ROWS_3D, *more)}
    seen: dict[str, list[Counts]] = {name: [] for name in two}
    for seed in seeds:
        for index, truth in enumerate(truths):
            said = load_predictions(files.predictions_2d(seed, index))
            shown = said[ROWS_2D[0]] != NO_PREDICTION
            for row in ROWS_3D:
                said |= load_predictions(files.predictions_3d(row, seed, index))
            for path in more.values():
                said |= load_predictions(path(seed, index))
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
