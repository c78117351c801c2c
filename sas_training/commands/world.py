"""`sas world make|show|compare|train-priors`: rooms, looked at, measured and learned from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sas_ros.commands import png_path, whole_number
from sas_training.commands import world_priors


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = actions.add_parser("make", help="write rooms and single views; goes on where it stopped")
    make.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    make.add_argument("--rooms", type=whole_number(1), default=100, help="how many (100)")
    make.add_argument("--seed", type=whole_number(0), default=0, help="same seed, same bytes (0)")
    make.add_argument("--workers", type=whole_number(1), default=2, help="processes (2)")
    make.add_argument(
        "--frames", type=whole_number(0), default=0, help="RGB-D frames of each room (0)"
    )
    make.add_argument(
        "--motion-blur",
        type=whole_number(0),
        default=0,
        metavar="PIXELS",
        help="longest streak of the frames (0: none)",
    )
    make.add_argument(
        "--lidar", type=whole_number(0), default=0, help="LiDAR scans of each room (0)"
    )
    make.add_argument("--mesh", action="store_true", help="a mesh of each room (needs Open3D)")
    make.set_defaults(act=_make)
    show = actions.add_parser("show", help="draw a contact sheet of rooms in class colours")
    show.add_argument(
        "rooms_at", nargs="+", type=Path, metavar="ROOMS", help="folder of `world make`, or scans"
    )
    show.add_argument("-o", "--output", type=png_path, required=True, help="PNG file to write")
    show.add_argument("--rooms", type=whole_number(1), default=12, help="at most so many (12)")
    show.add_argument("--frames", action="store_true", help="single views and RGB-D frames as well")
    show.add_argument(
        "--width", type=whole_number(64), default=400, help="of each picture, pixels (400)"
    )
    show.set_defaults(act=_show)
    compare = actions.add_parser("compare", help="figures of rooms beside those of other scans")
    compare.add_argument(
        "rooms_at", nargs="+", type=Path, metavar="ROOMS", help="folder of `world make`, or scans"
    )
    compare.add_argument(
        "--with",
        dest="others",
        nargs="+",
        type=Path,
        required=True,
        metavar="SCAN",
        help="labelled .npz, ScanNet rooms (NAME_vert.npy), or folders of such",
    )
    compare.add_argument("--json", action="store_true", help="print JSON instead of a table")
    compare.set_defaults(act=_compare)
    world_priors.add_action(actions)


def run(arguments: argparse.Namespace) -> int:
    code: int = arguments.act(arguments)
    return code


def _make(arguments: argparse.Namespace) -> int:
    from sas_training.scenes.procedural.dataset import write_dataset

    write_dataset(
        arguments.output,
        arguments.rooms,
        arguments.seed,
        arguments.workers,
        frames=arguments.frames,
        lidar=arguments.lidar,
        blur=arguments.motion_blur,
        mesh=arguments.mesh,
    )
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from sas_ros.pictures import write_png
    from sas_training.scenes.procedural.showing import rooms_sheet, scans_in

    scans = scans_in(arguments.rooms_at)[: arguments.rooms]
    size = (arguments.width, arguments.width * 3 // 4)
    write_png(arguments.output, rooms_sheet(scans, size, frames=arguments.frames))
    print(f"{arguments.output}: {len(scans)} rooms")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from sas_training.scenes.procedural.showing import scans_in
    from sas_training.scenes.procedural.statistics import compare, figures_table

    rooms, others = scans_in(arguments.rooms_at), scans_in(arguments.others)
    result = compare(rooms, others)
    if arguments.json:
        counts = {"rooms": len(rooms), "with": len(others)}
        print(json.dumps({"scans": counts, **result}, indent=2))
    else:
        print(f"{len(rooms)} rooms beside {len(others)} other scans, means over scans")
        print(figures_table(result))
    return 0
