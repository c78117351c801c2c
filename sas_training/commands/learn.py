"""`sas learn PATH`: from a recording or posed images to a student of one's own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sas_ros.commands import parse_up, whole_number


def configure(parser: argparse.ArgumentParser) -> None:
    from sas_training.commands.scenes import add_settings
    from sas_training.scenes.kinds import KINDS

    parser.add_argument("path", type=Path, help="recording, or folder of posed images")
    parser.add_argument("--kind", choices=tuple(KINDS), help="(default: as its layout says)")
    parser.add_argument(
        "--config", type=Path, required=True, help="teachers, fusion, recipe: .toml (docs/learn.md)"
    )
    parser.add_argument("--name", required=True, help="of the student")
    parser.add_argument("-o", "--output", type=Path, help="the bundle (RUN/NAME.safetensors)")
    parser.add_argument("--run", type=Path, help="folder of everything in between (runs/NAME)")
    parser.add_argument("--only", nargs="+", default=[], metavar="SCENE", help="only these scenes")
    parser.add_argument(
        "--up", metavar="X,Y,Z", help="up in the scenes' frame (default: estimated)"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"))
    parser.add_argument(
        "--workers", type=whole_number(1), default=1, help="processes, each one scene at a time (1)"
    )
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="spread scenes over the Ray cluster there (docs/learn.md)"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON at the end")
    add_settings(parser)


def run(arguments: argparse.Namespace) -> int:
    import sys

    from sas_training.commands.scenes import settings_of
    from sas_training.jobs import Workers
    from sas_training.learn.files import LearnFiles, Recording
    from sas_training.learn.learning import learn
    from sas_training.learn.settings import load_settings
    from sas_training.scenes.kinds import kind_of, open_scenes

    settings = load_settings(arguments.config)
    reading = settings_of(arguments)
    kind = arguments.kind or kind_of(arguments.path)
    scenes = open_scenes(kind, arguments.path, reading)
    for name in arguments.only:
        if name not in scenes.names:
            scenes.named(name)  # says which there are
    up = parse_up(arguments.up)
    recording = Recording(
        kind,
        arguments.path,
        reading,
        None if up is None else (float(up[0]), float(up[1]), float(up[2])),
    )
    run_folder = arguments.run or Path("runs") / arguments.name
    files = LearnFiles.plan(run_folder, recording, settings)
    output = arguments.output or run_folder / f"{arguments.name}.safetensors"
    names = tuple(arguments.only) or scenes.names

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    if arguments.ray:
        from sas_training.learn.cluster import RayWorkers

        hands: Workers = RayWorkers(arguments.ray, say)
    else:
        hands = Workers(arguments.workers, say)
    with hands as workers:
        learn(files, names, output, workers=workers, device=arguments.device, say=say)
    report = json.loads((run_folder / "report" / "report.json").read_text())
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        print(f"wrote {output}; look at {run_folder / 'report' / 'report.md'}")
    return 0
