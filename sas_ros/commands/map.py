"""`sas map show|merge|save|reset`: map files (without ROS), and the map of a running node."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sas_ros.commands import whole_number
from sas_ros.errors import SasError


def configure(parser: argparse.ArgumentParser) -> None:
    from sas_ros.mapping.voxel_map import CLOUD_CAP

    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="check map files and say what is in them")
    show.add_argument("maps", nargs="+", type=Path, metavar="FILE")
    show.add_argument("--json", action="store_true", help="print JSON instead of a table")
    show.set_defaults(act=_show)
    merge = actions.add_parser("merge", help="one map of all clouds of several")
    merge.add_argument("maps", nargs="+", type=Path, metavar="FILE")
    merge.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    merge.add_argument(
        "--map-clouds",
        type=whole_number(1),
        default=CLOUD_CAP,
        help=f"clouds that the mean of a voxel remembers ({CLOUD_CAP})",
    )
    merge.add_argument("--json", action="store_true", help="print JSON instead of a table")
    merge.set_defaults(act=_merge)
    for name, text in (
        ("save", "let the running node write its map to its map_file"),
        ("reset", "let the running node forget its map; the file stays"),
    ):
        call = actions.add_parser(name, help=text)
        call.add_argument("--namespace", default="sas", help="ROS namespace of the node (sas)")
        call.add_argument("--timeout", type=float, default=60.0, help="seconds to wait (60)")
        call.set_defaults(act=_call)


def run(arguments: argparse.Namespace) -> int:
    code: int = arguments.act(arguments)
    return code


def _show(arguments: argparse.Namespace) -> int:
    from sas_ros.mapping import load_map

    _tell([_facts(path, load_map(path)) for path in arguments.maps], arguments.json)
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    from sas_ros.mapping import load_map, merge_maps, save_map

    if len(arguments.maps) < 2:
        raise SasError("Two maps or more are needed to merge.")
    states = [load_map(path) for path in arguments.maps]
    for path, state in zip(arguments.maps[1:], states[1:], strict=True):
        reason = states[0].identity.difference(state.identity)
        if reason:
            raise SasError(f"{path} cannot be merged with {arguments.maps[0]}: it {reason}.")
    merged = merge_maps(states, cap=arguments.map_clouds)
    save_map(merged, arguments.output)
    _tell([_facts(arguments.output, merged)], arguments.json)
    return 0


def _call(arguments: argparse.Namespace) -> int:
    from sas_ros.nodes.map_client import call_map_service

    if not arguments.timeout > 0:
        raise SasError(f"--timeout must be positive, not {arguments.timeout}.")
    sentence = call_map_service(
        f"{arguments.action}_map",
        namespace=arguments.namespace,
        timeout=arguments.timeout,
        ros_arguments=arguments.ros_arguments,
    )
    print(sentence)
    return 0


def _facts(path: Path, state: Any) -> dict[str, Any]:
    """What a map is, as plain JSON types; docs/formats.md names the keys."""
    identity, columns = state.identity, state.columns
    low = high = None
    if len(state):
        cells = columns.coordinates
        low = [round(float(v), 3) for v in cells.min(axis=0) * identity.voxel_size]
        high = [round(float(v), 3) for v in (cells.max(axis=0) + 1) * identity.voxel_size]
    return {
        "map": str(path),
        "student": identity.student,
        "student_fingerprint": identity.fingerprint,
        "frame": identity.frame,
        "voxel_size": identity.voxel_size,
        "voxels": len(state),
        "clouds": state.clouds,
        "let_go": state.let_go,
        "version": state.version,
        "stamp": state.stamp_ns * 1e-9,
        "low": low,
        "high": high,
        "megabytes": round(columns.nbytes / 2**20, 1),
    }


def _tell(maps: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"maps": maps}, indent=2))
        return
    for facts in maps:
        print(facts.pop("map"))
        for key, value in facts.items():
            print(f"  {key:<20} {value}")
