"""`sas save -o FILE.ply`: the next labelled cloud of the running node as a PLY file."""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    from sas_ros.nodes.save import add_arguments

    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from sas_ros.nodes.save import run_save

    return run_save(arguments)
