"""`sas run`: the perception node where there is no `ros2 run`; same node, namespace `sas`."""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Parameters as for any ROS 2 node: sas run --ros-args -p device:=cpu, or "
        "--ros-args --params-file my.yaml. docs/ros_api.md lists them."
    )


def run(arguments: argparse.Namespace) -> int:
    from sas_ros.nodes.perception_node import main

    return main(arguments.ros_arguments, namespace="sas")
