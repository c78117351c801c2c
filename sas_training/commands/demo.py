"""`sas demo`: the whole path in one command."""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scan", type=Path, help="your own scan instead of a generated room")
    parser.add_argument("--up", metavar="X,Y,Z", help="direction of up in that scan")
    parser.add_argument("--student", default="indoor-tiny")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder (demo)")


def run(arguments: argparse.Namespace) -> int:
    from sas_training.demo import run_demo

    return run_demo(
        arguments.output, scan=arguments.scan, up=arguments.up, student=arguments.student
    )
