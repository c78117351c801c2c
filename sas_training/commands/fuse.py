"""`sas fuse PATH --kind KIND`: what 2D teachers say about images and points, fused."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sas_ros.commands import parse_up, whole_number
from sas_ros.errors import SasError

_IMAGES = "images"


def configure(parser: argparse.ArgumentParser) -> None:
    from sas_training.commands.scenes import add_settings
    from sas_training.scenes.kinds import KINDS

    parser.add_argument(
        "path", type=Path, help="data set or recording; an image or a folder of them"
    )
    parser.add_argument(
        "--kind",
        choices=(*KINDS, _IMAGES),
        help="as of `sas scenes` (default: as its layout says), or images: without poses, so that "
        "no points are fused",
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="teachers and fusion: .toml (docs/learn.md)"
    )
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        help="folder of all files; `sas learn` with the same goes on from there",
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--only", nargs="+", default=[], metavar="SCENE", help="only these scenes")
    chosen.add_argument(
        "--list", type=Path, metavar="FILE", help="only these, a name per line (scannetv2_val.txt)"
    )
    parser.add_argument(
        "--words",
        default="",
        metavar="SET|FILE",
        help="words of the report: label set, or file with a word per line (the recipe's)",
    )
    parser.add_argument(
        "--numbers",
        type=Path,
        metavar="FILE",
        help="what the numbers of labels stand for, NUMBER = WORD per line",
    )
    parser.add_argument(
        "--frames",
        type=whole_number(0),
        default=4,
        metavar="N",
        help="of each scene, looked at pixel by pixel (4)",
    )
    parser.add_argument(
        "--up", metavar="X,Y,Z", help="up in the scenes' frame (default: estimated)"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"))
    parser.add_argument(
        "--workers", type=whole_number(1), default=1, help="processes, each one scene at a time (1)"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    add_settings(parser)


def run(arguments: argparse.Namespace) -> int:
    from sas_training.learn.asked_words import AskedWords
    from sas_training.learn.files import LearnFiles
    from sas_training.learn.fusion_report import Wanted, write_fusion_report
    from sas_training.learn.settings import load_settings
    from sas_training.scenes.kinds import kind_of
    from sas_training.teachers.images import find_images

    arguments.kind = arguments.kind or kind_of(arguments.path)
    settings = load_settings(arguments.config)
    files = LearnFiles.plan(arguments.run, _recording(arguments), settings)
    asked = AskedWords.of(files, arguments.words, arguments.numbers)
    if arguments.kind == _IMAGES:
        images = tuple(find_images([arguments.path]))
        wanted = Wanted(images=images, device=arguments.device)
    else:
        names = _fused(files, arguments)
        wanted = Wanted(names, frames=arguments.frames, device=arguments.device)
    report = write_fusion_report(files, asked, wanted)
    if arguments.json:
        print(json.dumps(report, indent=2, sort_keys=True))
        return 0
    for what in ("pixels", "points"):
        for who, one in report[what].items():
            words = ", ".join(f"{word} {share:.0%}" for word, share in one["words"].items())
            figures = one["figures"]
            score = f"mIoU {figures['miou_present']:.1%}, " if figures else ""
            print(f"{what} of {who}: {score}silent about {one['silent']:.1%}; {words}")
    print(f"look at {arguments.run / 'fusion' / 'report.md'}")
    return 0


def _recording(arguments: argparse.Namespace) -> Any:
    from sas_training.commands.scenes import settings_of
    from sas_training.learn.files import Recording

    up = parse_up(arguments.up)
    return Recording(
        arguments.kind,
        arguments.path,
        settings_of(arguments),
        None if up is None else (float(up[0]), float(up[1]), float(up[2])),
    )


def _fused(files: Any, arguments: argparse.Namespace) -> tuple[str, ...]:
    """Names of the scenes, after their points have got features."""
    import sys

    from sas_training.evaluation.foreign import read_names
    from sas_training.jobs import Workers
    from sas_training.learn.learning import make_clouds, make_features
    from sas_training.scenes.kinds import open_scenes

    recording = files.recording
    scenes = open_scenes(recording.kind, recording.path, recording.reading)
    names = tuple(arguments.only) or scenes.names
    if arguments.list is not None:
        names = read_names(arguments.list)
    for name in names:
        if name not in scenes.names:
            scenes.named(name)  # says which there are
    if not names:
        raise SasError(f"There is no scene in {recording.path}.")
    with Workers(arguments.workers, lambda text: print(text, file=sys.stderr)) as workers:
        make_clouds(files, names, workers)
        make_features(files, names, workers=workers, device=arguments.device)
    return names
