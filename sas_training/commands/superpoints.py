"""`sas superpoints SCAN...`: cut scans into superpoints; goes on where it stopped."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sas_ros.commands import parse_up, whole_number
from sas_ros.errors import SasError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scans",
        nargs="+",
        type=Path,
        metavar="SCAN",
        help="scans, or folders of .npz; a .ply with triangles is taken as a mesh",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the files"
    )
    parser.add_argument(
        "--k", type=float, default=0.01, help="more makes larger superpoints (0.01)"
    )
    parser.add_argument(
        "--min-size", type=whole_number(1), default=60, help="points a superpoint should have (60)"
    )
    parser.add_argument(
        "--mode",
        choices=("indoor", "outdoor"),
        default="indoor",
        help="outdoor: every point is its own superpoint, as for sparse lidar",
    )
    parser.add_argument(
        "--neighbours",
        type=whole_number(2),
        default=8,
        help="clouds: nearest points that a point is joined to (8)",
    )
    parser.add_argument(
        "--normal-neighbours",
        type=whole_number(2),
        default=10,
        help="clouds: nearest points that a normal is fitted to (10)",
    )
    parser.add_argument(
        "--pictures", action="store_true", help="also draw each scan with its superpoints, .png"
    )
    parser.add_argument("--up", metavar="X,Y,Z", help="up in the pictures (default: estimated)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from sas_training.evaluation.scoring import expand
    from sas_training.superpoints import SuperpointSettings
    from sas_training.superpoints.files import SUFFIX

    settings = SuperpointSettings(
        mode=arguments.mode,
        k=arguments.k,
        min_size=arguments.min_size,
        neighbours=arguments.neighbours,
        normal_neighbours=arguments.normal_neighbours,
    )
    up = parse_up(arguments.up)
    targets: dict[Path, Path] = {}
    for scan in expand(arguments.scans):
        target = arguments.output / (scan.stem + SUFFIX)
        if target in targets:
            raise SasError(f"{targets[target]} and {scan} would both be written to {target}.")
        targets[target] = scan
    rows = []
    for target, scan in tqdm(targets.items(), unit="scan", disable=None):
        rows.append(_one(scan, target, settings, arguments.pictures, up))
    kept = sum(not row["made"] for row in rows)
    if arguments.json:
        print(json.dumps({"scans": rows, "kept": kept}, indent=2))
        return 0
    print(_table(rows))
    if kept:
        print(f"{kept} of {len(rows)} scans were done already and have been kept.")
    return 0


def _one(scan: Path, target: Path, settings: Any, pictures: bool, up: Any) -> dict[str, Any]:
    """Make or keep the superpoints of one scan; returns its figures."""
    from sas_ros.scans import read_scan
    from sas_training.superpoints import (
        Superpoints,
        cloud_superpoints,
        mesh_superpoints,
        points_hash,
    )
    from sas_training.superpoints.meshes import read_faces
    from sas_training.superpoints.quality import measure

    cloud = read_scan(scan)
    faces = read_faces(scan)
    source = "cloud" if faces is None else "mesh"
    sha256 = points_hash(cloud.points)
    found = _done(target)
    made = found is None or (found.settings, found.source, found.points_sha256) != (
        settings,
        source,
        sha256,
    )
    if found is None or made:
        if faces is None:
            labels = cloud_superpoints(cloud.points, settings)
        else:
            labels = mesh_superpoints(cloud.points, faces, settings)
        found = Superpoints(labels, settings, source, sha256)
        found.save(target)
    row = {"scan": str(scan), "output": str(target), "made": made, "source": source}
    picture = target.with_name(f"{scan.stem}.superpoints.png")
    if pictures and (made or not picture.exists()):
        _draw(picture, cloud, found.labels, up)
    figures = measure(found.labels, _labels(scan, cloud), settings.min_size)
    return {**row, "points": len(cloud.points), **figures.to_dict()}


def _labels(scan: Path, cloud: Any) -> Any:
    """The classes of a scan's points, (N,), None where it has none; those of a ScanNet room lie
    beside its vertices."""
    from sas_training.evaluation.labelled import SCANNET_CLASSES, SCANNET_VERTICES, read_labelled

    stem = str(scan).removesuffix(SCANNET_VERTICES)
    if stem != str(scan) and Path(stem + SCANNET_CLASSES).is_file():
        return read_labelled(scan)[1]
    return cloud.labels


def _done(target: Path) -> Any:
    """The superpoints that are there already; a damaged or older file counts as none."""
    from sas_training.superpoints import Superpoints

    try:
        return Superpoints.load(target)
    except SasError:
        return None


def _draw(path: Path, cloud: Any, labels: Any, up: Any) -> None:
    import numpy as np

    from sas_ros.gravity import resolve_up
    from sas_ros.pictures import render_cloud, write_png

    # Colours by chance, the same each time; what is next to each other rarely looks alike.
    tints = np.random.default_rng(0).integers(40, 240, (max(int(labels.max()), 0) + 1, 3))
    colors = np.where(labels[:, None] >= 0, tints[np.maximum(labels, 0)], 128).astype(np.uint8)
    write_png(path, render_cloud(cloud.points, colors, up=resolve_up(cloud, up).direction))


def _table(rows: list[dict[str, Any]]) -> str:
    width = max(len(Path(row["scan"]).stem) for row in rows)
    lines = [
        f"{'':<{width}}  {'from':<5} {'points':>9} {'superpoints':>11} {'median':>7} "
        f"{'largest':>8} {'small':>6} {'achievable':>10}"
    ]
    for row in rows:
        accuracy = "-" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %"
        lines.append(
            f"{Path(row['scan']).stem:<{width}}  {row['source']:<5} {row['points']:>9} "
            f"{row['superpoints']:>11} {row['median_size']:>7.0f} {row['largest']:>8} "
            f"{row['below']:>6} {accuracy:>10}"
        )
    return "\n".join(lines)
