"""`sas world train-priors`: a small text-to-image model and a small SAM of the rooms' pictures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sas_ros.commands import whole_number


def add_action(actions: Any) -> None:
    """Add `train-priors` to the actions of `sas world`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "train-priors",
        help="train a text-to-image model and a SAM of generated rooms; goes on where it stopped",
    )
    parser.add_argument(
        "--scale",
        default="small",
        metavar="SCALE",
        help="tiny (a test of the machinery), small (an hour and a half of a core), full (a GPU), "
        "or a .toml file (small)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder of all files (runs/priors-SCALE)"
    )
    parser.add_argument(
        "--now",
        action="store_true",
        help="train nothing: write the folders from what there is, checkpoints of trainings too",
    )
    parser.add_argument("--workers", type=whole_number(1), default=2, help="processes (2)")
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")
    parser.set_defaults(act=run)


def run(arguments: argparse.Namespace) -> int:
    import sys

    from sas_training.jobs import Workers
    from sas_training.priors.saving import read_report
    from sas_training.priors.settings import load_priors_settings
    from sas_training.priors.sheets import write_sheets
    from sas_training.priors.stages import PriorsFiles, make_priors, write_folders

    settings = load_priors_settings(arguments.scale)
    files = PriorsFiles(arguments.output or Path("runs") / f"priors-{settings.scale}", settings)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if arguments.now:
        write_folders(files)
    else:
        with Workers(arguments.workers, say) as workers:
            make_priors(files, workers)
    for path in write_sheets(files):
        say(f"wrote {path}")
    report = read_report(files.run)
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        for name, facts in report["training"].items():
            taken = f", unfinished, {facts['unfinished']} steps" if "unfinished" in facts else ""
            print(f"{name}: last loss {facts['loss']:.4f}{taken}")
        for name, facts in report.get("held_out", {}).get("segmenter", {}).items():
            print(f"segmenter: mean IoU {facts['iou']:.2f} of {facts['count']} unseen {name}")
    return 0
