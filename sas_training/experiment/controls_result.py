"""The result of the controls: controls.json and the same as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros import __version__
from sas_ros.files import atomic_write
from sas_training.evaluation.labels import SCANNET20
from sas_training.evaluation.report import made_with
from sas_training.experiment.checks import (
    Learned,
    checked_rooms,
    learned_figures,
    students_markdown,
)
from sas_training.experiment.controls import ABLATION_ROWS, CONTROLS, NOISE, STEPS, ControlFiles
from sas_training.experiment.figures import LEVEL, RowCounts, all_figures, room_counts
from sas_training.experiment.files import load_predictions
from sas_training.experiment.pipeline import counts_of_rows
from sas_training.experiment.report import BOOTSTRAP_SEED, rows_markdown, steps_markdown
from sas_training.experiment.room_views import read_labels
from sas_training.scenes.procedural.manifest import WORLD_VERSION

FORMAT_VERSION = 1
KIND = "sas_controls"
NAME = "controls"


def result_of(files: ControlFiles, group: str) -> dict[str, Any]:
    """The content of controls.json, from the files of the controls and of their ablation."""
    own, made = files.ablation, made_with()
    rows = _counts(files)
    steps = [step for step in STEPS if set(step) <= set(rows)]
    parts = {
        control.name: [Learned.load(files.learned(control, seed)) for seed in own.seeds.runs]
        for control in sorted(CONTROLS, key=lambda one: one.name)
    }
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "world_version": WORLD_VERSION,
        "scale": own.settings.scale,
        "seeds": {"group": group, "world": own.seeds.world, "runs": list(own.seeds.runs)},
        "held_out_rooms": own.rooms("held_out"),
        "level": LEVEL,
        "noise": NOISE,
        "made_with": f"sas_ros {__version__}",
        "commit": made["commit"],
        "changed": made["changed"],
        **_without_seen(all_figures(rows, BOOTSTRAP_SEED, steps)),
        "rooms": len(checked_rooms(own.rooms("students"))),
        **learned_figures(parts),
        "settings": own.settings.to_dict(),
    }


def _without_seen(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures of all points alone."""
    rows = [{key: row[key] for key in row if key != "miou_seen"} for row in figures["rows"]]
    return {**figures, "rows": rows}


def _counts(files: ControlFiles) -> dict[str, RowCounts]:
    """The confusions of the controls, and of some rows of the ablation where it is finished."""
    own, names = files.ablation, sorted(files.rows())
    if files.finished():
        every = counts_of_rows(own, files.rows())
        return {name: every[name] for name in (*ABLATION_ROWS, *names)}
    rooms = range(own.rooms("held_out"))
    truths = [read_labels(own.clouds("held_out"), index) for index in rooms]
    rows = {}
    for name in names:
        path = files.rows()[name]
        counts = [
            [
                room_counts(truths[index], load_predictions(path(seed, index))[name])
                for index in rooms
            ]
            for seed in own.seeds.runs
        ]
        # Which points frames show is known to the ablation alone.
        rows[name] = RowCounts(np.array(counts), np.array(counts))
    return rows


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write controls.json and controls.md."""
    text = json.dumps(result, indent=2, sort_keys=False, allow_nan=False)
    atomic_write(folder / f"{NAME}.md", markdown(result).encode())
    atomic_write(folder / f"{NAME}.json", (text + "\n").encode())


def markdown(result: Mapping[str, Any]) -> str:
    """The result as tables in Markdown."""
    seeds, rows = result["seeds"], result["rows"]
    runs = ", ".join(str(run) for run in seeds["runs"])
    lines = [
        f"# Controls: scale {result['scale']}, {seeds['group']} seeds, "
        f"{result['held_out_rooms']} rooms",
        "",
        "Students that are told the truth, or worse, in the place of what teachers say. mIoU in "
        "per cent over all held-out rooms, mean over the repetitions (seeds "
        f"{runs}); the interval is a {100 * result['level']:.0f} % bootstrap over rooms. Rooms are "
        f"of version {result['world_version']} of the world.",
        "",
        *rows_markdown(rows, seen=False),
        "",
        *steps_markdown(rows, result["steps"]),
        "",
        *students_markdown(result),
        "",
        "IoU of each class in the held-out rooms, in per cent.",
        "",
        "| class | " + " | ".join(row["name"] for row in rows) + " |",
        "|---" * (len(rows) + 1) + "|",
    ]
    for name in SCANNET20.names:
        values = [row["per_class"][name] for row in rows]
        cells = ["" if value is None else f"{100 * value:.0f}" for value in values]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
