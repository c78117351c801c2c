"""The `sas` verbs that need only the robot's half: each module adds its parser and runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sas_ros.errors import SasError


def add_scan_arguments(
    parser: argparse.ArgumentParser, up: str = "estimated from the largest horizontal planes"
) -> None:
    """Arguments shared by the verbs that read a scan and run a student on it; `up` says what the
    verb takes for up where nothing is given."""
    parser.add_argument(
        "--student",
        default="indoor-tiny",
        help="name of a shipped student or path of a .safetensors bundle (default: indoor-tiny)",
    )
    parser.add_argument(
        "--up",
        metavar="X,Y,Z",
        help="direction of up in the scan's frame, e.g. 0,0,1 or 0,-1,0 for a camera's optical "
        f"frame (default: {up})",
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"))
    parser.add_argument(
        "--votes",
        type=int,
        default=1,
        choices=(1, 2, 4, 8),
        help="symmetric views to average: steadier and as many times slower (default: 1)",
    )
    parser.add_argument(
        "--backend",
        default="auto",
        choices=("auto", "native", "minkowski"),
        help="library for sparse convolution (default: native, unless MinkowskiEngine is clearly "
        "faster)",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="numbers of the network (default: float16 on a GPU, else float32)",
    )
    parser.add_argument(
        "--memory-budget",
        type=whole_number(0),
        default=0,
        metavar="MIB",
        help="memory for one pass of the network; larger clouds go through it in overlapping tiles "
        "(default: 2048, or half of what is free where that is less)",
    )


def whole_number(low: int) -> Callable[[str], int]:
    """A type for argparse: a whole number of at least `low`."""

    def number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"must be {low} or more, not {value}")
        return value

    return number


def png_path(text: str) -> Path:
    """A type for argparse: a picture to write."""
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"pictures are PNG files: {text} must end in .png")
    return Path(text)


def parse_up(text: str | None) -> Any:
    """(3,) numbers of `X,Y,Z`, or None; raises SasError for anything else."""
    if text is None:
        return None
    from sas_ros.gravity import unit_up

    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise SasError(
            f"The up direction must be three numbers such as 0,0,1; got {text!r}."
        ) from None
    return unit_up(numbers)
