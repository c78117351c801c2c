"""The `sas` command: the robot's verbs and the workstation's."""

from __future__ import annotations

from collections.abc import Sequence

from sas_ros.cli import ROBOT_VERBS
from sas_ros.cli import main as run_verb

TRAINING_VERBS: dict[str, tuple[str, str]] = {
    "demo": ("sas_training.commands.demo", "the whole path: room, node, replay, queries, pictures"),
    "train": ("sas_training.commands.train", "train a student on labelled rooms"),
    "distill": ("sas_training.commands.distill", "distil 2D teachers' features into a student"),
    "learn": (
        "sas_training.commands.learn",
        "from a recording or posed images to a student of one's own",
    ),
    "calibrate": ("sas_training.commands.calibrate", "fit a student's answers to rooms anew"),
    "evaluate": ("sas_training.commands.evaluate", "score a student on labelled scans"),
    "evaluate-queries": (
        "sas_training.commands.evaluate_queries",
        "ask labelled scans a list of queries and count right, wrong and false answers",
    ),
    "import-checkpoint": (
        "sas_training.commands.import_checkpoint",
        "make a bundle of a published OpenScene or SAS student",
    ),
    "teach": ("sas_training.commands.teach", "ask a 2D teacher about images"),
    "capability": (
        "sas_training.commands.capability",
        "measure how well 2D teachers know classes, without annotated images",
    ),
    "fuse": ("sas_training.commands.fuse", "what 2D teachers say about images and points, fused"),
    "align-captions": (
        "sas_training.commands.align_captions",
        "what the rules of alignment through text make of captions",
    ),
    "scenes": ("sas_training.commands.scenes", "what a data set or recording holds"),
    "superpoints": ("sas_training.commands.superpoints", "cut scans into superpoints"),
    "experiment": (
        "sas_training.commands.experiment",
        "measure what every step of the method adds, in procedural rooms",
    ),
    "world": ("sas_training.commands.world", "make procedural rooms"),
    "bench": ("sas_training.commands.bench", "measure the engine, the student and the node"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    return run_verb({**ROBOT_VERBS, **TRAINING_VERBS}, argv)


if __name__ == "__main__":
    raise SystemExit(main())
