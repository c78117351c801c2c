"""`sas capability`: measure how well 2D teachers know classes, without any annotated image."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sas_ros.commands import whole_number
from sas_ros.errors import SasError

NOT_MADE = (
    "other",
    "otherfurniture",
    "other furniture",
    "otherstructure",
    "otherprop",
    "other flat",
)
"""Words for everything else: no images are made of them, their capability is 0."""

_ABOUT = """Images of every class are made by a text-to-image model; where it looked for the
class name is a coarse mask; SAM makes a pseudo mask of that; and a teacher is as capable as its
mask of the class agrees with it. Nothing is downloaded. A run that was stopped goes on with the
same command, and more images, classes or teachers are added to what is there."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = _ABOUT
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--words",
        required=True,
        metavar="NAME|FILE",
        help="vocabulary: a label set, or a file with a word per line",
    )
    parser.add_argument(
        "--classes", nargs="+", metavar="WORD", help="measure these alone (all, but for others)"
    )
    images = parser.add_argument_group("images")
    images.add_argument("--model", metavar="DIR|ID", help="pipeline of diffusers, text to images")
    images.add_argument(
        "-m", "--images", type=whole_number(1), default=50, help="of each class (50)"
    )
    images.add_argument(
        "--prompt",
        default="paper",
        help='paper ("a good photo of {}"), released ("a good photo of a {} in a room"), or a '
        "template of your own",
    )
    images.add_argument("--scheduler", default="", help="such as DDIM (the pipeline's own)")
    images.add_argument("--steps", type=whole_number(1), default=50, help="of the scheduler (50)")
    images.add_argument("--guidance", type=float, default=7.0, help="classifier-free (7)")
    images.add_argument(
        "--size", type=whole_number(8), default=0, help="pixels a side (the pipeline's own)"
    )
    images.add_argument(
        "--precision", default="auto", choices=("auto", "float32", "float16", "bfloat16")
    )
    masks = parser.add_argument_group("pseudo masks")
    masks.add_argument(
        "--attention", default="paper", choices=("paper", "released"), help="how it is averaged"
    )
    masks.add_argument("--threshold", type=float, default=0.7, help="of attention, 0 to 1 (0.7)")
    masks.add_argument(
        "--frame", type=float, default=70 / 512, help="cleared at the edges, a share (70/512)"
    )
    masks.add_argument(
        "--sam",
        default="segment-anything",
        choices=("segment-anything", "transformers", "none"),
        help="library of SAM; none: coarse masks stay (segment-anything)",
    )
    masks.add_argument("--sam-weights", type=Path, metavar="PATH", help="checkpoint, or folder")
    masks.add_argument(
        "--sam-model",
        default="",
        metavar="TYPE|ID",
        help="segment-anything: vit_h, vit_l, vit_b, FILE.json (vit_h); transformers: a hub id",
    )
    masks.add_argument(
        "--multimask", action="store_true", help="the best of SAM's three masks, not its single one"
    )
    masks.add_argument(
        "--keep-all", action="store_true", help="reject no image, however bad its mask looks"
    )
    given = parser.add_argument_group(
        "given images instead of made ones: a folder for each class in each of these"
    )
    given.add_argument("--given-images", type=Path, metavar="DIR")
    given.add_argument("--given-masks", type=Path, metavar="DIR", help="masks, or")
    given.add_argument("--given-coarse", type=Path, metavar="DIR", help="coarse masks, for SAM")
    teachers = parser.add_argument_group("teachers; without any, pseudo masks are the end")
    teachers.add_argument(
        "--teacher",
        action="append",
        default=[],
        metavar="[TITLE=]NAME[:WEIGHTS]",
        help="one of `sas teach --list`; several times for several",
    )
    teachers.add_argument(
        "--teachers", type=Path, metavar="FILE", help="[[teachers]] of a file of `sas learn`"
    )
    teachers.add_argument("--encoder", default="", help="text encoder (the teachers')")
    teachers.add_argument("--encoder-weights", type=Path, help="weights file of the text encoder")
    teachers.add_argument(
        "--text-prompt", default="a {} in a scene", help="of words of a file (a {} in a scene)"
    )
    teachers.add_argument(
        "--look",
        type=whole_number(0),
        default=0,
        metavar="PIXELS",
        help="longest side that teachers are shown (images as they are)",
    )
    parser.add_argument("--batch", type=whole_number(1), default=4, help="images at once (4)")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the intervals (0)")
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"))
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from sas_training.capability.images import ImageSettings
    from sas_training.capability.pipelines import load_pipeline
    from sas_training.capability.pseudo_masks import MaskSettings, RejectionRule
    from sas_training.capability.running import Plan
    from sas_training.capability.running import run as run_plan
    from sas_training.capability.segmenters import load_segmenter
    from sas_training.capability.teaching import load_callers, parse_teacher
    from sas_training.learn.settings import load_teachers
    from sas_training.vocabularies import read_words

    words = read_words(arguments.words, arguments.text_prompt)
    known = tuple(arguments.classes or (one for one in words.names if one not in NOT_MADE))
    choices = [parse_teacher(text) for text in arguments.teacher]
    if arguments.teachers is not None:
        choices += load_teachers(arguments.teachers)
    device = arguments.device
    callers, text = load_callers(
        choices,
        words,
        encoder=arguments.encoder,
        encoder_weights=arguments.encoder_weights,
        device=device,
        look=arguments.look,
        cache=arguments.output / "teacher-masks",
    )
    plan = Plan(
        output=arguments.output,
        vocabulary=words.names,
        classes=known,
        zero=tuple(one for one in words.names if one in NOT_MADE and one not in known),
        images=arguments.images,
        how_images=ImageSettings(
            arguments.prompt, arguments.steps, arguments.guidance, arguments.size
        ),
        how_masks=MaskSettings(arguments.attention, arguments.threshold, arguments.frame),
        rejection=None if arguments.keep_all else RejectionRule(),
        given_images=arguments.given_images,
        given_coarse=arguments.given_coarse,
        given_masks=arguments.given_masks,
        batch=arguments.batch,
        seed=arguments.seed,
        text=text,
    )
    segmenter = None
    if arguments.given_masks is None:
        segmenter = load_segmenter(
            arguments.sam,
            arguments.sam_weights,
            arguments.sam_model,
            device,
            multimask=arguments.multimask,
        )
    model = None
    if arguments.given_images is None:
        if arguments.model is None:
            raise SasError(
                "Images are made by a pipeline of diffusers: give its folder or id with --model, "
                "or images of your own with --given-images."
            )
        model = load_pipeline(arguments.model, arguments.scheduler, device, arguments.precision)
    outcome = run_plan(plan, model, segmenter, callers, _shown)
    _tell(arguments, plan, outcome)
    return 0


def _shown(title: str, work: Sequence[Any]) -> Iterable[Any]:
    from tqdm import tqdm

    bar: Iterable[Any] = tqdm(work, desc=title, disable=None)
    return bar


def _tell(arguments: argparse.Namespace, plan: Any, outcome: Any) -> None:
    from sas_training.capability.report import rejects, used

    left, counts = rejects(outcome.samples), used(outcome.samples)
    table = outcome.table
    if arguments.json:
        rows: dict[str, Any] = {}
        for column, name in enumerate(table.classes if table is not None else ()):
            rows[name] = {
                teacher: {
                    "iou": float(table.scores[row, column]),
                    "low": float(table.intervals[row, column, 0]),
                    "high": float(table.intervals[row, column, 1]),
                    "pooled": float(table.pooled[row, column]),
                    "pooled_low": float(table.pooled_intervals[row, column, 0]),
                    "pooled_high": float(table.pooled_intervals[row, column, 1]),
                }
                for row, teacher in enumerate(table.teachers)
            }
        about = {"output": str(plan.output), "images_made": outcome.made, "used": counts}
        print(json.dumps({**about, "rejected": left, "capability": rows}, indent=2))
        return
    print(f"{outcome.made} images were made now; {len(outcome.samples)} are there.")
    rejected = sum(sum(reasons.values()) for reasons in left.values())
    print(f"{rejected} images were left out; {plan.output / 'report.md'} lists them.")
    without = [name for name in plan.classes if not counts.get(name)]
    if without:
        print(f"No image is left of {', '.join(without)}: the table does not have these.")
    if table is None:
        return
    width = max(len(name) for name in table.classes)
    print(f"{'':{width}}  {'  '.join(table.teachers)}")
    for column, name in enumerate(table.classes):
        cells = [
            f"{table.scores[row, column]:{len(teacher)}.2f}"
            for row, teacher in enumerate(table.teachers)
        ]
        print(f"{name:{width}}  {'  '.join(cells)}")
    print(f"The table is {plan.output / 'capability.json'}.")
