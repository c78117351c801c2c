"""`sas replay SCAN`: publish a scan file as PointCloud2, or play a bag."""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    from sas_ros.nodes.replay import add_arguments

    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from sas_ros.nodes.replay import run_replay

    return run_replay(arguments, arguments.ros_arguments)
