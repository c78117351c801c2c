"""`sas experiment capability`: capabilities without annotation, against the truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sas_training.commands.experiment_options import add_options, say, show


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
    add_options(parser, "those of the ablation")
    parser.set_defaults(act=run)


def run(arguments: argparse.Namespace) -> int:
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

    with Workers(arguments.workers, say) as workers:
        result = everything(about, group, workers)
    output = arguments.output or folder / group
    write_result(output, result)
    show(arguments, result, markdown(result), output / "capability.json")
    return 0
