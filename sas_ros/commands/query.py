"""`sas query TEXT`: a client of the running node's query service."""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    from sas_ros.client import add_arguments

    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from sas_ros.client import run_query

    return run_query(arguments, arguments.ros_arguments)
