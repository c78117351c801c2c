"""`sas bench soak` and `sas bench load`: a node in its own process under a load."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from sas_ros.commands import whole_number
from sas_ros.errors import SasError
from sas_ros.observation import Cloud


def positive(text: str) -> float:
    """A number above zero, for argparse."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of both."""
    parser.add_argument(
        "--rooms", type=whole_number(1), default=30, help="soak: clouds published in turn (30)"
    )
    parser.add_argument(
        "--minutes", type=positive, default=60.0, help="soak: how long the load lasts (60)"
    )
    parser.add_argument(
        "--sample-seconds", type=positive, default=60.0, help="soak: time between two rows (60)"
    )
    parser.add_argument(
        "--cloud-rate", type=positive, help="soak, load: clouds per second (soak 2, load 10)"
    )
    parser.add_argument(
        "--query-rate",
        type=positive,
        help="soak: questions per second (1); load: of each client (default: the next one as soon "
        "as one is answered)",
    )
    parser.add_argument(
        "--clients", type=whole_number(1), default=50, help="load: that ask at once (50)"
    )
    parser.add_argument(
        "--killed",
        type=whole_number(0),
        default=2,
        help="load: processes of clients that are killed while their calls are open (2)",
    )
    parser.add_argument(
        "--seconds", type=positive, default=30.0, help="load: how long the clients ask (30)"
    )


def soak_node(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run `sas_ros.nodes.soak.soak`; the rows go into files, the rest is returned."""
    from sas_ros.nodes.soak import soak
    from sas_training.bench.timing import machine

    if arguments.output is None:
        raise SasError("A soak needs a folder for its table: -o FOLDER.")
    result = soak(
        [room_scan(seed, arguments.points) for seed in range(arguments.rooms)],
        student=arguments.student,
        up="0,0,1",
        minutes=arguments.minutes,
        cloud_rate=arguments.cloud_rate or 2.0,
        query_rate=arguments.query_rate or 1.0,
        output=arguments.output,
        sample_seconds=arguments.sample_seconds,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
    del result["rows"]  # they are in the files
    return {**result, **machine()}


def load_node(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run `sas_ros.nodes.load.load`."""
    from sas_ros.nodes.load import load
    from sas_ros.scans import read_scan
    from sas_training.bench.timing import machine

    measured = load(
        read_scan(arguments.scan) if arguments.scan else room_scan(0, arguments.points),
        student=arguments.student,
        up="0,0,1",
        clients=arguments.clients,
        seconds=arguments.seconds,
        cloud_rate=arguments.cloud_rate or 10.0,
        query_rate=arguments.query_rate or 0.0,
        killed=arguments.killed,
    )
    return {**measured, **machine()}


def room_scan(seed: int, points: int) -> Cloud:
    """The scan of a generated room with colours, z up, at most `points` (and 60,000) of its points
    in random order."""
    from sas_training.scenes.procedural import RoomRays, make_room, scan_room
    from sas_training.scenes.procedural.frames import Studio

    rng = np.random.default_rng((78, seed))
    room = make_room(rng)
    rays = RoomRays(room)
    scan = scan_room(room, rng, rays=rays, shading=Studio(rays, rng).shading)
    keep = rng.permutation(len(scan.points))[:points]
    colors = None if scan.colors is None else scan.colors[keep]
    return Cloud(scan.points[keep].astype(np.float32), colors)
