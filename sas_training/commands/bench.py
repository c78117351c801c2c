"""`sas bench WHAT`: measure, print a table or JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.commands import parse_up, whole_number
from sas_ros.errors import SasError
from sas_ros.observation import Cloud
from sas_training.commands import bench_robot


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=tuple(_BENCHES))
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
        "--train", action="store_true", help="student: forward and backward as well"
    )
    parser.add_argument(
        "--elements", type=whole_number(1), default=150_000, help="query, map: features to search"
    )
    parser.add_argument(
        "--queries", type=whole_number(1), default=40, help="node: questions of each kind"
    )
    parser.add_argument(
        "--scan",
        type=Path,
        help="node, precision: the cloud (default: a generated 640 x 480 frame); load: the cloud, "
        "z up (default: a generated room)",
    )
    parser.add_argument(
        "--up", default="0,-1,0", help="node, precision: up in the cloud's frame (0,-1,0)"
    )
    parser.add_argument(
        "--points",
        type=whole_number(100),
        default=307_200,
        help="codec, voxels, superpoints, fusion, map: of the cloud; soak, load: of a cloud at "
        "most",
    )
    parser.add_argument(
        "--frames", type=whole_number(1), default=48, help="fusion: posed images (48)"
    )
    parser.add_argument(
        "--channels", type=whole_number(1), default=512, help="fusion: numbers per pixel (512)"
    )
    parser.add_argument(
        "--voxel-size", type=float, default=0.02, help="voxels: edge in metres (0.02)"
    )
    parser.add_argument(
        "--sizes",
        type=whole_number(100),
        nargs="+",
        default=[50_000, 150_000, 500_000, 1_500_000, 5_000_000],
        help="sweep: numbers of points",
    )
    parser.add_argument(
        "--memory-budget",
        type=whole_number(0),
        default=0,
        metavar="MIB",
        help="node, sweep: memory for one pass of the network (default: half of what is free)",
    )
    bench_robot.add_arguments(parser)
    parser.add_argument(
        "--unet", choices=("sd15", "tiny"), default="sd15", help="attention: size of the network"
    )
    parser.add_argument(
        "--images", type=whole_number(1), default=1, help="attention: made at once (1)"
    )
    parser.add_argument(
        "--device", default="cpu", choices=("cuda", "cpu"), help="attention: where (cpu)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="sweep, soak: folder for sweep.json, sweep.csv and sweep.png, soak.json and soak.csv",
    )


def run(arguments: argparse.Namespace) -> int:
    result = _BENCHES[arguments.what](arguments)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        result = flat(result)
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
    return bench_student(config, arguments.voxels, arguments.rounds, arguments.train)


def _query(arguments: argparse.Namespace) -> dict[str, Any]:
    from sas_training.bench.query import bench_query

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
        memory_budget=arguments.memory_budget,
    )
    return {**measured, **machine()}


def _precision(arguments: argparse.Namespace) -> dict[str, Any]:
    from sas_ros.gravity import resolve_up
    from sas_ros.scans import read_scan
    from sas_training.bench.precision import bench_precision

    cloud = read_scan(arguments.scan) if arguments.scan else camera_frame()
    up = resolve_up(cloud, parse_up(arguments.up))
    return bench_precision(_bundle(arguments), cloud, up, arguments.rounds)


def _codec(arguments: argparse.Namespace) -> dict[str, Any]:
    from sas_training.bench.codec import bench_codec

    return bench_codec(arguments.points, arguments.rounds)


def _voxels(arguments: argparse.Namespace) -> dict[str, Any]:
    from sas_training.bench.voxels import bench_voxels

    if not 0.001 <= arguments.voxel_size <= 10:
        raise SasError(f"--voxel-size must lie in 0.001 to 10, not {arguments.voxel_size:g}.")
    return bench_voxels(arguments.points, arguments.voxel_size, arguments.rounds)


def _fusion(arguments: argparse.Namespace) -> dict[str, Any]:
    from sas_training.bench.fusion import bench_fusion

    return bench_fusion(arguments.points, arguments.frames, arguments.channels, arguments.rounds)


def _superpoints(arguments: argparse.Namespace) -> dict[str, Any]:
    from sas_training.bench.superpoints import bench_superpoints

    return bench_superpoints(arguments.points, arguments.rounds)


def _sweep(arguments: argparse.Namespace) -> dict[str, Any]:
    from sas_ros.student.locate import find_student
    from sas_training.bench.sweep import bench_sweep

    if arguments.output is None:
        raise SasError("A sweep needs a folder for its table and plot: -o FOLDER.")
    return bench_sweep(
        find_student(arguments.student),
        arguments.sizes,
        arguments.rounds,
        arguments.memory_budget,
        arguments.output,
    )


def _map(arguments: argparse.Namespace) -> dict[str, Any]:
    from sas_training.bench.map import bench_map

    return bench_map(_bundle(arguments), arguments.elements, arguments.points, arguments.rounds)


def _world(arguments: argparse.Namespace) -> dict[str, Any]:
    from sas_training.bench.world import bench_world

    return bench_world(arguments.rounds)


def _attention(arguments: argparse.Namespace) -> dict[str, Any]:
    from sas_training.bench.attention import bench_attention
    from sas_training.teachers.registry import pick_device

    device = pick_device(arguments.device)
    return bench_attention(arguments.unet, arguments.images, arguments.rounds, device)


_BENCHES = {
    "student": _student,
    "query": _query,
    "node": _node,
    "precision": _precision,
    "codec": _codec,
    "voxels": _voxels,
    "superpoints": _superpoints,
    "fusion": _fusion,
    "sweep": _sweep,
    "map": _map,
    "soak": bench_robot.soak_node,
    "load": bench_robot.load_node,
    "world": _world,
    "attention": _attention,
}


def flat(result: dict[str, Any]) -> dict[str, Any]:
    """Nested results with their keys joined by dots, lists by their index."""
    lines: dict[str, Any] = {}
    for key, value in result.items():
        if isinstance(value, list):
            value = {str(index): item for index, item in enumerate(value)}
        if isinstance(value, dict):
            lines.update({f"{key}.{name}": item for name, item in flat(value).items()})
        else:
            lines[key] = value
    return lines


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
