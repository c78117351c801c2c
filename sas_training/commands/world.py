"""`sas world make`: procedural rooms as labelled scans."""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = actions.add_parser("make", help="write rooms and single views; goes on where it stopped")
    make.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    make.add_argument("--rooms", type=int, default=100)
    make.add_argument("--seed", type=int, default=0, help="same seed, same bytes")
    make.add_argument("--workers", type=int, default=2, help="processes")


def run(arguments: argparse.Namespace) -> int:
    from sas_training.scenes.procedural.dataset import write_dataset

    write_dataset(arguments.output, arguments.rooms, arguments.seed, arguments.workers)
    return 0
