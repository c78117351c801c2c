"""`sas experiment controls`: why students of the ablation are as they are."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sas_ros.commands import whole_number


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
        "--seeds",
        default="development",
        choices=("development", "final"),
        help="those of the ablation (development)",
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
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder of the result (default: in --run)"
    )
    parser.add_argument("--workers", type=whole_number(1), default=2, help="processes (2)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(act=run)


def run(arguments: argparse.Namespace) -> int:
    import sys
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

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    begin_rooms(own, ROOMS)
    with Workers(arguments.workers, say) as workers:
        workers.do_all(stages_of(files))
    result = result_of(files, group)
    output = arguments.output or folder / group
    write_result(output, result)
    print(json.dumps(result, indent=2) if arguments.json else markdown(result), end="")
    say(f"wrote {output / 'controls.json'}")
    return 0
