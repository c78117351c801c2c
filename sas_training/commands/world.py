"""`sas world make`: procedural rooms as labelled scans."""

from __future__ import annotations

import argparse
from pathlib import Path

from sas_ros.commands import whole_number


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = actions.add_parser("make", help="write rooms and single views; goes on where it stopped")
    make.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    make.add_argument("--rooms", type=whole_number(1), default=100)
    make.add_argument("--seed", type=whole_number(0), default=0, help="same seed, same bytes")
    make.add_argument("--workers", type=whole_number(1), default=2, help="processes")


def run(arguments: argparse.Namespace) -> int:
    from sas_training.scenes.procedural.dataset import write_dataset

    write_dataset(arguments.output, arguments.rooms, arguments.seed, arguments.workers)
    return 0
