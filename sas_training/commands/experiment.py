"""`sas experiment ablation|capability|controls`: what every step adds, in the procedural world."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sas_ros.commands import whole_number
from sas_training.commands import experiment_capability, experiment_controls


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    ablation = actions.add_parser(
        "ablation", help="teachers, fusion and students, row by row; goes on where it stopped"
    )
    ablation.add_argument(
        "--scale",
        default="small",
        metavar="SCALE",
        help="tiny (a test of the machinery), small (two cores, 75 minutes), full (a GPU), or a "
        ".toml file (small)",
    )
    ablation.add_argument(
        "--seeds",
        default="development",
        choices=("development", "final"),
        help="to choose settings with, or to measure with, once (development)",
    )
    ablation.add_argument(
        "--run", type=Path, help="folder of all files (default: runs/ablation-SCALE)"
    )
    ablation.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder of the result (default: in --run)"
    )
    ablation.add_argument("--workers", type=whole_number(1), default=2, help="processes (2)")
    ablation.add_argument("--json", action="store_true", help="print the result as JSON")
    ablation.set_defaults(act=_ablation)
    experiment_capability.add_action(actions)
    experiment_controls.add_action(actions)


def run(arguments: argparse.Namespace) -> int:
    code: int = arguments.act(arguments)
    return code


def _ablation(arguments: argparse.Namespace) -> int:
    import sys

    from sas_training.experiment.files import Files
    from sas_training.experiment.pipeline import checks_of, counts_of_rows, make_everything
    from sas_training.experiment.report import markdown, result_of, write_result
    from sas_training.experiment.settings import load_settings
    from sas_training.jobs import Workers

    settings = load_settings(arguments.scale)
    group = arguments.seeds
    folder = arguments.run or Path("runs") / f"ablation-{settings.scale}"
    files = Files(folder, settings, settings.seeds(group))

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with Workers(arguments.workers, say) as workers:
        make_everything(files, workers)
    rows = counts_of_rows(files)
    result = result_of(settings, group, rows, checks_of(files, rows))
    output = arguments.output or folder / group
    write_result(output, result)
    print(json.dumps(result, indent=2) if arguments.json else markdown(result), end="")
    say(f"wrote {output / 'ablation.json'}")
    return 0
