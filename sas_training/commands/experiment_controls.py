"""`sas experiment controls`: why students of the ablation are as they are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sas_ros.commands import whole_number
from sas_training.commands.experiment_options import add_options, say, show


def add_action(actions: Any) -> None:
    """Add `controls` to the actions of `sas experiment`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "controls",
        help="students that are told the truth, or worse, in the ablation's rooms; goes on where "
        "it stopped",
    )
    parser.add_argument(
        "--scale", default="small", metavar="SCALE", help="of the ablation, or a .toml file (small)"
    )
    parser.add_argument(
        "--run",
        type=Path,
        help="folder of the ablation, whose rooms are taken, and made where they are missing "
        "(default: runs/ablation-SCALE)",
    )
    parser.add_argument(
        "--repetitions", type=whole_number(1), metavar="N", help="of the ablation (all)"
    )
    add_options(parser, "those of the ablation")
    parser.set_defaults(act=run)


def run(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from sas_training.experiment.controls import ROOMS, ControlFiles, stages_of
    from sas_training.experiment.controls_result import markdown, result_of, write_result
    from sas_training.experiment.files import Files
    from sas_training.experiment.pipeline import begin_rooms
    from sas_training.experiment.settings import load_settings
    from sas_training.jobs import Workers

    settings = load_settings(arguments.scale)
    group = arguments.seeds
    folder = arguments.run or Path("runs") / f"ablation-{settings.scale}"
    seeds = settings.seeds(group)
    own = Files(folder, settings, replace(seeds, runs=seeds.runs[: arguments.repetitions]))
    files = ControlFiles(own)

    begin_rooms(own, ROOMS)
    with Workers(arguments.workers, say) as workers:
        workers.do_all(stages_of(files))
    result = result_of(files, group)
    output = arguments.output or folder / group
    write_result(output, result)
    show(arguments, result, markdown(result), output / "controls.json")
    return 0
