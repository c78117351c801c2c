"""`sas scenes KIND PATH`: what a data set or recording holds, and whether it fits together."""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from sas_ros.commands import parse_up, png_path, whole_number
from sas_ros.errors import SasError

_PANEL = (480, 360)


def configure(parser: argparse.ArgumentParser) -> None:
    from sas_training.scenes.kinds import KINDS

    width = max(map(len, KINDS))
    kinds = "\n".join(f"  {name:<{width}}  {kind.title}" for name, kind in KINDS.items())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"kinds:\n{kinds}"
    parser.add_argument("kind", choices=tuple(KINDS), metavar="KIND", help="see below")
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of the data set, or bag")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these scenes")
    parser.add_argument("--first", type=whole_number(1), metavar="N", help="only the first N")
    parser.add_argument("--names", action="store_true", help="print names of scenes, read nothing")
    add_settings(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="fuse the frames' colours onto the points and compare with the points' own",
    )
    parser.add_argument(
        "--occlusion",
        type=float,
        metavar="T",
        help="for --check: share of the depth by which a point may lie off it (the data set's)",
    )
    parser.add_argument("--up", metavar="X,Y,Z", help="up in the picture (default: estimated)")
    parser.add_argument("--picture", type=png_path, metavar="PNG", help="draw a contact sheet")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Arguments that become `SceneSettings`; for all verbs that read scenes."""
    group = parser.add_argument_group("reading")
    group.add_argument("--every", type=whole_number(1), metavar="K", help="use every Kth frame")
    group.add_argument("--most", type=whole_number(1), metavar="N", help="at most N frames a scene")
    group.add_argument("--size", metavar="WxH", help="resize images, for example 320x240")
    group.add_argument(
        "--voxel", type=float, default=0.02, metavar="M", help="of built clouds, m (0.02)"
    )
    group.add_argument("--scan", type=Path, help="take this scan instead of building a cloud")
    group.add_argument("--depth-units", type=float, metavar="U", help="depth values in one metre")
    group.add_argument("--far", type=float, metavar="M", help="depths beyond M metres are unknown")
    group.add_argument(
        "--labels", default="", metavar="SET", help="Matterport3D: label set, as matterport160"
    )
    group.add_argument(
        "--nearest",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="Matterport3D: views of a region that has none inside (0)",
    )
    group.add_argument(
        "--window", type=float, default=0.5, metavar="S", help="nuScenes: seconds of sweeps (0.5)"
    )
    group.add_argument(
        "--topics", nargs="+", default=[], metavar="TOPIC", help="bags: images and clouds to use"
    )
    group.add_argument("--world", default="", metavar="FRAME", help="bags: frame of the scene")
    group.add_argument("--still", action="store_true", help="bags: the sensor stood still")


def settings_of(arguments: argparse.Namespace) -> Any:
    """The `SceneSettings` of the arguments of `add_settings`; raises `SasError` for unfit ones."""
    from sas_training.scenes.reading import SceneSettings

    size = None
    if arguments.size is not None:
        width, _, height = arguments.size.partition("x")
        if not (width.isdigit() and height.isdigit()):
            raise SasError(f"A size is written 320x240, not {arguments.size!r}.")
        size = (int(width), int(height))
    return SceneSettings(
        every=arguments.every,
        most=arguments.most,
        size=size,
        voxel=arguments.voxel,
        scan=arguments.scan,
        depth_units=arguments.depth_units,
        far=arguments.far,
        labels=arguments.labels,
        nearest=arguments.nearest,
        window=arguments.window,
        topics=tuple(arguments.topics),
        world=arguments.world,
        still=arguments.still,
    )


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from sas_training.scenes.kinds import open_scenes

    parse_up(arguments.up)  # a wrong one is refused before anything is read
    scenes = open_scenes(arguments.kind, arguments.path, settings_of(arguments))
    names = scenes.names
    for name in arguments.only:
        if name not in names:
            scenes.named(name)  # says which there are
    names = tuple(arguments.only) or names[: arguments.first]
    if arguments.names:
        print(json.dumps(list(names), indent=2) if arguments.json else "\n".join(names))
        return 0
    rows: list[dict[str, Any]] = []
    panels = []
    unreadable: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what they say is in the table
        for name in tqdm(names, unit="scene", disable=None):
            try:
                row, drawn = _one(scenes.named(name), arguments)
            except SasError as error:  # the others may be well
                if len(names) == 1:
                    raise
                unreadable[name] = str(error)
                continue
            rows.append(row)
            panels.append(drawn)
    if arguments.picture is not None and panels:
        from sas_ros.pictures import write_png
        from sas_training.scenes.sheet import draw_panels

        write_png(arguments.picture, draw_panels(panels, _PANEL))
    if arguments.json:
        told = {"kind": arguments.kind, "path": str(arguments.path), "scenes": rows}
        print(json.dumps({**told, "unreadable": unreadable}, indent=2))
    else:
        print(_table(rows))
        for name, why in unreadable.items():
            print(f"{name} cannot be read: {why}")
    return 0 if rows else 2


def _one(scene: Any, arguments: argparse.Namespace) -> tuple[dict[str, Any], list[Any]]:
    """What is said about a scene, and its pictures."""
    from sas_training.scenes.fusing import color_agreement, projection_of
    from sas_training.scenes.sheet import panels_of

    usable, sizes, known = 0, set(), []
    for _, frame in scene.frames.usable():
        usable += 1
        sizes.add(frame.image.shape[1::-1])
        if frame.depth is not None:
            known.append(float((frame.depth > 0).mean()))
    agreement = None
    if arguments.check:
        settings = projection_of(arguments.kind)
        if arguments.occlusion is not None:
            settings = replace(settings, occlusion=arguments.occlusion)
        agreement = color_agreement(scene, settings)
    row = {
        "name": scene.name,
        "points": len(scene.points),
        "low": [round(float(v), 3) for v in scene.points.min(axis=0)],
        "high": [round(float(v), 3) for v in scene.points.max(axis=0)],
        "has": _has(scene),
        "label_set": scene.label_set,
        "frames": usable,
        "sizes": sorted(list(size) for size in sizes),
        "depth_known": sum(known) / len(known) if known else None,
        "skipped": scene.frames.skipped.counts,
        "check": None
        if agreement is None
        else {
            "mean_error": agreement.mean_error,
            "median_error": agreement.median_error,
            "seen": agreement.seen,
            "views": agreement.views,
        },
    }
    if arguments.picture is None:
        return row, []
    return row, panels_of(scene, _PANEL, agreement, parse_up(arguments.up))


def _has(scene: Any) -> list[str]:
    parts = ("colors", "normals", "labels", "instances", "faces")
    return [part for part in parts if getattr(scene, part) is not None]


def _table(rows: list[dict[str, Any]]) -> str:
    width = max([5, *(len(row["name"]) for row in rows)])
    lines = [
        f"{'scene':<{width}} {'points':>9} {'size, m':>19} {'frames':>7} {'pixels':>10} "
        f"{'depth':>6} {'skipped':>8}  has"
    ]
    for row in rows:
        extent = [high - low for low, high in zip(row["low"], row["high"], strict=True)]
        pixels = ", ".join(f"{w}x{h}" for w, h in row["sizes"]) or "-"
        depth = "-" if row["depth_known"] is None else f"{100 * row['depth_known']:.0f} %"
        has = ", ".join(row["has"]) + (f" ({row['label_set']})" if row["label_set"] else "")
        lines.append(
            f"{row['name']:<{width}} {row['points']:>9} "
            f"{' x '.join(f'{length:.1f}' for length in extent):>19} {row['frames']:>7} "
            f"{pixels:>10} {depth:>6} {sum(row['skipped'].values()):>8}  {has or '-'}"
        )
        lines += [f"  skipped: {reason} ({count})" for reason, count in row["skipped"].items()]
        if row["check"] is not None:
            check = row["check"]
            lines.append(
                f"  fused colours are off by {check['mean_error']:.1f} of 255 in the mean (median "
                f"of points {check['median_error']:.1f}); {100 * check['seen']:.1f} % of the "
                f"points are seen, by {check['views']:.1f} frames each"
            )
    return "\n".join(lines)
