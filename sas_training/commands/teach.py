"""`sas teach TEACHER IMAGE...`: what a 2D teacher says about images; goes on where it stopped."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sas_ros.commands import whole_number
from sas_ros.errors import SasError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("teacher", nargs="?", metavar="TEACHER", help="see --list")
    parser.add_argument(
        "images", nargs="*", type=Path, metavar="IMAGE", help="images, or folders of them"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for the files")
    parser.add_argument("--list", action="store_true", help="show the teachers and what they need")
    parser.add_argument("--weights", type=Path, help="weights, a file or a folder")
    parser.add_argument("--model", default="", help="architecture, for teachers that know several")
    parser.add_argument("--program", default="", help="command line of a program, in quotes")
    parser.add_argument(
        "--words", help="label set, or file with a word per line, for some teachers"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"))
    parser.add_argument(
        "--batch", type=whole_number(1), default=4, help="images asked about at once (4)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the teacher"
    )
    captions = parser.add_argument_group("captions and alignment of teachers of masks")
    captions.add_argument(
        "--captioner", default="none", help="none, blip, florence-2 or program (none)"
    )
    captions.add_argument("--captioner-weights", type=Path, help="folder of the captioner's model")
    captions.add_argument("--captioner-program", default="", help="its command line, in quotes")
    captions.add_argument(
        "--captioner-timeout",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="for one call of that program (none)",
    )
    captions.add_argument(
        "--align",
        choices=("noun", "adjectives", "label"),
        help="write features instead of masks: rule for the sentence of a mask",
    )
    captions.add_argument("--encoder", help="text encoder: open_clip:MODEL or minilm-l6-v2")
    captions.add_argument("--encoder-weights", type=Path, help="weights file of the text encoder")
    captions.add_argument("--grammar", default="word-lists", help="word-lists or spacy:MODEL")
    parser.add_argument(
        "--check", action="store_true", help="only check that --program keeps to the protocol"
    )
    parser.add_argument("--pictures", action="store_true", help="also draw the masks, .png")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    if arguments.list:
        return _list(arguments.json)
    if arguments.check:
        from sas_training.teachers.conformance import check_program

        print("\n".join(check_program(_words("--program", arguments.program))))
        return 0
    if arguments.teacher is None or not arguments.images or arguments.output is None:
        raise SasError(
            "Give a teacher, images, and a folder with -o; `sas teach --list` shows the teachers."
        )
    if arguments.teacher == "precomputed":
        return _convert(arguments)
    return _teach(arguments)


def _teach(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from sas_training.teachers.folder import teach
    from sas_training.teachers.images import find_images

    images = find_images(arguments.images)
    if any(path.parent.resolve() == arguments.output.resolve() for path in images):
        raise SasError(
            f"{arguments.output} is where the images are; give another folder with -o, or masks "
            "would be taken for images the next time."
        )
    teacher = _load(arguments)
    rows = []
    for one in teach(
        teacher,
        images,
        arguments.output,
        arguments.batch,
        lambda paths: tqdm(paths, unit="image", disable=None),
    ):
        row: dict[str, Any] = {"image": str(one.image), "output": str(one.output)}
        rows.append({**row, "made": one.made, **_figures(one, arguments.pictures)})
    kept = sum(not row["made"] for row in rows)
    if arguments.json:
        about = teacher.description.to_json()
        print(json.dumps({"teacher": about, "images": rows, "kept": kept}, indent=2))
        return 0
    for row in rows:
        print(f"{Path(row['output']).name}  {row['shows']}")
    if kept:
        print(f"{kept} of {len(rows)} images were done already and have been kept.")
    return 0


def _load(arguments: argparse.Namespace) -> Any:
    """The teacher, with a captioner and alignment where they were asked for."""
    from sas_training.alignment import AlignedTeacher, CaptionedTeacher
    from sas_training.alignment.captioners import load_captioner
    from sas_training.alignment.spacy_grammar import load_grammar
    from sas_training.teachers import FrameCache, PixelTeacher, TeacherOptions
    from sas_training.teachers.registry import load_teacher
    from sas_training.vocabularies import read_words

    if arguments.align and not arguments.encoder:
        raise SasError("Alignment needs a text encoder; give --encoder.")
    teacher = load_teacher(
        arguments.teacher,
        TeacherOptions(
            weights=arguments.weights,
            model=arguments.model,
            program=_words("--program", arguments.program),
            labels=read_words(arguments.words, "{}").names if arguments.words else (),
            device=arguments.device,
            settings=_settings(arguments.set),
        ),
    )
    if isinstance(teacher, PixelTeacher):
        if arguments.align or arguments.captioner != "none":
            raise SasError(
                f'The teacher "{arguments.teacher}" gives features already; captions and '
                "alignment are for teachers of masks."
            )
        return teacher
    captioner = load_captioner(
        arguments.captioner,
        arguments.captioner_weights,
        _words("--captioner-program", arguments.captioner_program),
        arguments.device,
        arguments.captioner_timeout,
    )
    if captioner is not None:
        teacher = CaptionedTeacher(teacher, captioner)
    if not arguments.align:
        return teacher
    from sas_ros.language.encoder import load_encoder

    encoder = load_encoder(arguments.encoder, weights=arguments.encoder_weights)
    cache = FrameCache(arguments.output / "masks", arguments.batch)
    grammar = load_grammar(arguments.grammar)
    return AlignedTeacher(teacher, encoder, arguments.align, grammar, cache=cache)


def _seconds(text: str) -> float:
    """A type for argparse: a time limit."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def _words(option: str, text: str) -> tuple[str, ...]:
    """The words of a command line; raises `SasError` for a quote that is never closed."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise SasError(f"{option} is no command line: {text!r} ({error}).") from error


def _settings(given: Sequence[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    for name, sign, value in pairs:
        if not (name and sign and value):
            raise SasError(f"A setting is written NAME=VALUE, not {name + sign + value!r}.")
    return {name: value for name, _, value in pairs}


def _figures(one: Any, pictures: bool) -> dict[str, Any]:
    """What a file shows, in numbers and in words."""
    from sas_training.teachers.images import read_image
    from sas_training.teachers.mask_files import SUFFIX, MaskFile

    if not one.output.name.endswith(SUFFIX):
        return {"shows": "features"}
    masks = MaskFile.load(one.output).masks
    picture = one.output.with_name(one.output.name.removesuffix(SUFFIX) + ".masks.picture.png")
    if pictures and (one.made or not picture.exists()):
        from sas_ros.pictures import write_png
        from sas_training.teachers.showing import draw_masks

        write_png(picture, draw_masks(read_image(one.image), masks))
    labels = [mask.label for mask in masks]
    return {"shows": ", ".join(dict.fromkeys(labels)) or "nothing", "masks": len(masks)}


def _convert(arguments: argparse.Namespace) -> int:
    """Published features of points as files of ours."""
    from tqdm import tqdm

    from sas_training.fusion.features import PointFeatures
    from sas_training.teachers.precomputed import PrecomputedPoints, scenes_in

    rows, scenes = [], scenes_in(arguments.images)
    folders: dict[str, Path] = {}
    for folder, scene in scenes:
        other = folders.setdefault(scene, folder)
        if other != folder:
            raise SasError(
                f"The scene {scene} of {other} and that of {folder} would both be written to "
                f"{arguments.output / scene}.safetensors; convert them to folders of their own."
            )
    for folder, scene in tqdm(scenes, unit="scene", disable=None):
        target = arguments.output / f"{scene}.safetensors"
        points = PrecomputedPoints(folder, arguments.model or "precomputed")
        found: PointFeatures = points.published(scene)
        found.save(target)
        row: dict[str, Any] = {"scene": scene, "output": str(target), "points": found.points}
        rows.append({**row, "seen": len(found.features), "channels": found.channels})
    if arguments.json:
        print(json.dumps({"scenes": rows}, indent=2))
        return 0
    for row in rows:
        print(f"{row['scene']}  {row['seen']} of {row['points']} points, {row['channels']} wide")
    return 0


def _list(as_json: bool) -> int:
    from dataclasses import asdict

    from sas_training.teachers import TEACHERS

    entries = [asdict(entry) for entry in TEACHERS.values()]
    if as_json:
        print(json.dumps({"teachers": entries}, indent=2))
        return 0
    for entry in entries:
        print(f"{entry['name']} ({entry['gives']}): {entry['summary']}")
        print(f"  needs    {entry['needs']}")
        print(f"  licence  {entry['licence']}")
    return 0
