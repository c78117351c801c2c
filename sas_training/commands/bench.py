"""`sas bench WHAT`: measure, print a table or JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.commands import whole_number
from sas_ros.observation import Cloud


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("student", "query", "node"))
    parser.add_argument("--student", default="indoor-tiny")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=whole_number(1), default=7, help="timed repetitions (7)")
    parser.add_argument(
        "--voxels", type=whole_number(1), default=50_000, help="student: about this many"
    )
    parser.add_argument(
        "--architecture",
        choices=("bundle", "minkunet14a", "minkunet18a", "minkunet34c"),
        default="bundle",
        help="student: the bundle's own network, or a standard one",
    )
    parser.add_argument(
        "--elements", type=whole_number(1), default=150_000, help="query: features to search"
    )
    parser.add_argument(
        "--queries", type=whole_number(1), default=40, help="node: questions of each kind"
    )
    parser.add_argument(
        "--scan", type=Path, help="node: cloud to publish (default: a generated 640 x 480 frame)"
    )
    parser.add_argument("--up", default="0,-1,0", help="node: up in the cloud's frame (0,-1,0)")


def run(arguments: argparse.Namespace) -> int:
    result = {"student": _student, "query": _query, "node": _node}[arguments.what](arguments)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        width = max(len(key) for key in result)
        for key, value in result.items():
            shown = f"{value:.4g}" if isinstance(value, float) else value
            print(f"{key:<{width}}  {shown}")
    return 0


def _student(arguments: argparse.Namespace) -> dict[str, Any]:
    from sas_ros.student import minkunet
    from sas_training.bench.student import bench_student

    if arguments.architecture == "bundle":
        config = _bundle(arguments).network().config
    else:
        config = getattr(minkunet, arguments.architecture)()
    return bench_student(config, arguments.voxels, arguments.rounds)


def _query(arguments: argparse.Namespace) -> dict[str, Any]:
    from sas_training.bench.student import bench_query

    return bench_query(_bundle(arguments), arguments.elements, arguments.rounds)


def _node(arguments: argparse.Namespace) -> dict[str, Any]:
    from sas_ros.nodes.bench import bench_node
    from sas_ros.scans import read_scan
    from sas_training.bench.timing import machine

    cloud = read_scan(arguments.scan) if arguments.scan else camera_frame()
    measured = bench_node(
        cloud,
        student=arguments.student,
        rounds=arguments.rounds,
        queries=arguments.queries,
        up=arguments.up,
    )
    return {**measured, **machine()}


def _bundle(arguments: argparse.Namespace) -> Any:
    from sas_ros.student.bundle import StudentBundle
    from sas_ros.student.locate import find_student

    return StudentBundle.load(find_student(arguments.student))


def camera_frame(seed: int = 0) -> Cloud:
    """An organised 640 x 480 cloud of a generated room as a depth camera sees it: optical frame,
    metres, NaN where nothing is measured."""
    from sas_training.scenes.procedural import make_room, render_view
    from sas_training.scenes.procedural.rays import pixel_rays
    from sas_training.scenes.procedural.walk import random_view

    rng = np.random.default_rng((77, seed))
    room = make_room(rng)
    width, height, fov = 640, 480, 1.02
    depth, _, _ = render_view(room, random_view(room, rng), width, height, fov=fov, rng=rng)
    rays = pixel_rays(width, height, fov)
    points = rays / rays[:, 2:] * depth.reshape(-1, 1)
    return Cloud(points.astype(np.float32), height=height, width=width)
