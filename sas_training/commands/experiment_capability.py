"""`sas experiment capability`: capabilities without annotation, against the truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sas_ros.commands import whole_number


def add_action(actions: Any) -> None:
    """Add `capability` to the actions of `sas experiment`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "capability",
        help="capabilities from generated pictures against true ones; goes on where it stopped",
    )
    parser.add_argument(
        "--scale",
        default="small",
        metavar="SCALE",
        help="tiny (a test of the machinery), small (one core, ten minutes), full, or a .toml file "
        "(small)",
    )
    parser.add_argument(
        "--seeds",
        default="development",
        choices=("development", "final"),
        help="those of the ablation (development)",
    )
    parser.add_argument(
        "--run", type=Path, help="folder of all files (default: runs/capability-SCALE)"
    )
    parser.add_argument(
        "--ablation",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of `sas experiment ablation`, whose teachers are measured",
    )
    parser.add_argument(
        "--priors",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of `sas world train-priors`",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder of the result (default: in --run)"
    )
    parser.add_argument("--workers", type=whole_number(1), default=2, help="processes (2)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(act=run)


def run(arguments: argparse.Namespace) -> int:
    import sys

    from sas_training.experiment.capability_files import CapabilityRun
    from sas_training.experiment.capability_page import markdown
    from sas_training.experiment.capability_result import write_result
    from sas_training.experiment.capability_settings import load_capability_settings
    from sas_training.experiment.capability_stages import everything
    from sas_training.experiment.files import Files
    from sas_training.experiment.settings import load_settings
    from sas_training.jobs import Workers

    settings = load_capability_settings(arguments.scale)
    group = arguments.seeds
    of_ablation = load_settings(settings.ablation)
    files = Files(arguments.ablation, of_ablation, of_ablation.seeds(group))
    folder = arguments.run or Path("runs") / f"capability-{settings.scale}"
    about = CapabilityRun(folder, settings, files, arguments.priors)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with Workers(arguments.workers, say) as workers:
        result = everything(about, group, workers)
    output = arguments.output or folder / group
    write_result(output, result)
    print(json.dumps(result, indent=2) if arguments.json else markdown(result), end="")
    say(f"wrote {output / 'capability.json'}")
    return 0
