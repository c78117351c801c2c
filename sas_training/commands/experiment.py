"""`sas experiment ablation|capability|controls`: what every step adds, in the procedural world."""

from __future__ import annotations

import argparse
from pathlib import Path

from sas_training.commands import experiment_capability, experiment_controls
from sas_training.commands.experiment_options import add_options, say, show


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    ablation = actions.add_parser(
        "ablation", help="teachers, fusion and students, row by row; goes on where it stopped"
    )
    ablation.add_argument(
        "--scale",
        default="small",
        metavar="SCALE",
        help="tiny (a test of the machinery), small (two cores, about an hour), full (a GPU), or a "
        ".toml file (small)",
    )
    ablation.add_argument(
        "--run", type=Path, help="folder of all files (default: runs/ablation-SCALE)"
    )
    add_options(ablation, "to choose settings with, or to measure with, once")
    ablation.set_defaults(act=_ablation)
    experiment_capability.add_action(actions)
    experiment_controls.add_action(actions)


def run(arguments: argparse.Namespace) -> int:
    code: int = arguments.act(arguments)
    return code


def _ablation(arguments: argparse.Namespace) -> int:
    from sas_training.experiment.files import Files
    from sas_training.experiment.pipeline import checks_of, counts_of_rows, make_everything
    from sas_training.experiment.report import markdown, result_of, write_result
    from sas_training.experiment.settings import load_settings
    from sas_training.jobs import Workers

    settings = load_settings(arguments.scale)
    group = arguments.seeds
    folder = arguments.run or Path("runs") / f"ablation-{settings.scale}"
    files = Files(folder, settings, settings.seeds(group))

    with Workers(arguments.workers, say) as workers:
        make_everything(files, workers)
    rows = counts_of_rows(files)
    result = result_of(settings, group, rows, checks_of(files, rows))
    output = arguments.output or folder / group
    write_result(output, result)
    show(arguments, result, markdown(result), output / "ablation.json")
    return 0
