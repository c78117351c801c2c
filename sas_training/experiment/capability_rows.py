"""The ablation's fusion of two teachers, with capabilities from different sources: of its own pair,
and of the other pairs, whose teachers differ in other ways."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from sas_training.capability.table import CapabilityTable, Measurement
from sas_training.evaluation.metrics import NO_PREDICTION
from sas_training.experiment.capability import random_capability
from sas_training.experiment.capability_files import VOCABULARY, WHOLE, CapabilityRun
from sas_training.experiment.capability_tables import completed, load_measured
from sas_training.experiment.checks import known_words
from sas_training.experiment.figures import RowCounts, all_figures, room_counts
from sas_training.experiment.files import load_predictions, save_predictions
from sas_training.experiment.room_views import read_cloud, read_labels, read_views, room_name
from sas_training.experiment.rows import SILENT, Fusing, classes_of, point_features
from sas_training.experiment.settings import PAIR, TEACHERS
from sas_training.experiment.words import Words
from sas_training.fusion.projection import ProjectionSettings
from sas_training.jobs import Job, Workers

ROWS = (
    "2d/addition",
    "2d/known-words",
    "2d/diffusion",
    "2d/true-pictures",
    "2d/true-rooms",
    "2d/random-capability",
)
"""No capability, whether a teacher has the word, the whole chain, the ablation's own table, the
truth, chance."""
STEPS = (
    *((before, "2d/diffusion") for before in ROWS if before != "2d/diffusion"),
    ("2d/addition", "2d/known-words"),
    ("2d/addition", "2d/true-rooms"),
)
OTHER_PAIRS = tuple(pair for pair in combinations(TEACHERS, 2) if pair != PAIR)
CHANCE = "2d/random-capability"


def pair_name(pair: tuple[str, ...]) -> str:
    """As a pair of teachers is called in the result."""
    return " - ".join(pair)


def known_table(about: CapabilityRun) -> CapabilityTable:
    """A control that measures nothing: 1 where a teacher was taught a word for the class, else 0;
    from the ablation's settings alone."""
    scores = known_words(about.ablation.settings.teachers).astype(np.float64)
    notes = {"control": "whether the teacher has a word for the class"}
    return CapabilityTable(
        TEACHERS, VOCABULARY, scores, pooled=scores, made=Measurement(notes=notes)
    )


def tables_of(about: CapabilityRun, truth: Path) -> dict[str, Path]:
    """The file of each row's table; `truth` is that of the true IoU."""
    return {
        "2d/diffusion": about.table(WHOLE),
        "2d/true-pictures": about.ablation.capability(about.seed),
        "2d/true-rooms": truth,
    }


def fuse_rooms(
    about: CapabilityRun, truth: Path, workers: Workers
) -> dict[tuple[str, ...], dict[str, RowCounts]]:
    """The confusions of every row in the held-out rooms, of `PAIR` and of `OTHER_PAIRS`.

    Those of `PAIR` are repeated for each table by chance, which the others do without.
    """
    tables = tables_of(about, truth)
    rooms = range(about.ablation.rooms("held_out"))
    known = known_table(about).scores.tolist()
    paths = [about.rows(index, tuple(tables.values()), known) for index in rooms]
    workers.do(
        "fusions in held-out rooms",
        [Job(path, _fuse, (about, index, tables, path)) for index, path in enumerate(paths)],
    )
    clouds = about.ablation.clouds("held_out")
    counts = [
        {name: room_counts(true, said) for name, said in load_predictions(path).items()}
        for path, true in ((path, read_labels(clouds, k)) for k, path in enumerate(paths))
    ]
    chances = about.settings.chances
    result: dict[tuple[str, ...], dict[str, RowCounts]] = {}
    for pair in (PAIR, *OTHER_PAIRS):
        result[pair] = {}
        for name in ROWS if pair == PAIR else (row for row in ROWS if row != CHANCE):
            entries = [_entry(pair, name)] * (chances if pair == PAIR else 1)
            if name == CHANCE:
                entries = [f"{CHANCE}-{k}" for k in range(chances)]
            each = np.array([[room[entry] for room in counts] for entry in entries])
            # No point without a view has a prediction here: both figures are the same.
            result[pair][name] = RowCounts(each, each)
    return result


def other_pairs(
    rows: Mapping[tuple[str, ...], Mapping[str, RowCounts]], seed: int
) -> dict[str, dict[str, Any]]:
    """`rows` and `steps` of `OTHER_PAIRS`, by the pair's name."""
    found = {}
    for pair in OTHER_PAIRS:
        if pair in rows:
            steps = [step for step in STEPS if CHANCE not in step]
            found[pair_name(pair)] = all_figures(rows[pair], seed, steps)
    return found


def _entry(pair: tuple[str, ...], name: str) -> str:
    """What a row of a pair is called in the files of predictions."""
    return name if pair == PAIR else f"{'+'.join(pair)}/{name}"


def _fuse(about: CapabilityRun, index: int, tables: dict[str, Path], path: Path) -> None:
    settings, clouds = about.ablation.settings, about.ablation.clouds("held_out")
    words = Words.load(about.ablation.words)
    loaded = {name: completed(load_measured(where)) for name, where in tables.items()}
    fusing = Fusing(
        words,
        loaded["2d/true-pictures"],
        ProjectionSettings(settings.boundary, settings.occlusion),
        settings.tau,
        settings.capability.measure,
        about.seed,
    )
    views = read_views(about.ablation.world("held_out"), index, about.ablation.frames("held_out"))
    points, _ = read_cloud(clouds, index)
    teachers = about.teachers(words)
    features = point_features(points, views, teachers, fusing.projection, room_name(index))
    found = {}
    for pair in (PAIR, *OTHER_PAIRS):
        found[_entry(pair, "2d/addition")] = fusing.fused(features, pair, "addition")
        for name, table in {**loaded, "2d/known-words": known_table(about)}.items():
            found[_entry(pair, name)] = fusing.fused(features, pair, "capability", table)
    for chance in range(about.settings.chances):
        table = random_capability(loaded["2d/true-pictures"], 1000 * about.seed + chance)
        found[f"{CHANCE}-{chance}"] = fusing.fused(features, PAIR, "capability", table)
    shown = np.logical_or.reduce([features[name].mask for name in TEACHERS])
    said = {}
    for name, fused in found.items():
        classes = classes_of(fused, words)
        said[name] = np.where(shown & (classes == NO_PREDICTION), SILENT, classes)
    save_predictions(path, said)
