"""The `sas` verbs that need only the robot's half: each module adds its parser and runs it."""

from __future__ import annotations

import argparse
from typing import Any


def add_scan_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments shared by the verbs that read a scan and run a student on it."""
    parser.add_argument(
        "--student",
        default="indoor-tiny",
        help="name of a shipped student or path of a .safetensors bundle (default: indoor-tiny)",
    )
    parser.add_argument(
        "--up",
        metavar="X,Y,Z",
        help="direction of up in the scan's frame, e.g. 0,0,1 or 0,-1,0 for a camera's optical "
        "frame (default: estimated from the largest horizontal planes)",
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"))
    parser.add_argument(
        "--votes",
        type=int,
        default=1,
        choices=(1, 2, 4, 8),
        help="symmetric views to average: steadier and as many times slower (default: 1)",
    )


def parse_up(text: str | None) -> Any:
    """(3,) numbers of `X,Y,Z`, or None; raises SasError for anything else."""
    if text is None:
        return None
    from sas_ros.gravity import unit_up

    return unit_up([_number(part) for part in text.split(",")])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
