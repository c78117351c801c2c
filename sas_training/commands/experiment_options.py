"""Options that every action of `sas experiment` has, and what they do with a result."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sas_ros.commands import whole_number


def add_options(parser: argparse.ArgumentParser, seeds: str) -> None:
    """Seeds (`seeds` says what for), folder of the result, processes, JSON."""
    parser.add_argument(
        "--seeds",
        default="development",
        choices=("development", "final"),
        help=f"{seeds} (development)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder of the result (default: in --run)"
    )
    parser.add_argument("--workers", type=whole_number(1), default=2, help="processes (2)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def say(text: str) -> None:
    """To people, at once, so that standard output is the result alone."""
    print(text, file=sys.stderr, flush=True)


def show(arguments: argparse.Namespace, result: Mapping[str, Any], page: str, file: Path) -> None:
    """Print a result as it was asked for, and say where it lies."""
    print(json.dumps(result, indent=2) if arguments.json else page, end="")
    say(f"wrote {file}")
