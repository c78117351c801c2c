"""`sas run`: the perception node where there is no `ros2 run`; same node, namespace `sas`."""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "ros_arguments",
        nargs=argparse.REMAINDER,
        metavar="ARGS",
        help="passed to the node, e.g. --ros-args -p device:=cpu --params-file my.yaml",
    )


def run(arguments: argparse.Namespace) -> int:
    from sas_ros.nodes.perception_node import main

    return main(arguments.ros_arguments, namespace="sas")
