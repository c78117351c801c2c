"""`sas evaluate --student S --labels scannet20 FILES|DIR`: mIoU over labelled scans."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.commands import add_scan_arguments, parse_up
from sas_ros.errors import SasError
from sas_ros.observation import Cloud, Up
from sas_training.evaluation.labels import LABEL_SETS


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scans",
        nargs="+",
        type=Path,
        help=".npz files with points (N, 3) m and labels (N,), 255 ignored, or folders of them",
    )
    add_scan_arguments(parser)
    parser.add_argument("--labels", default="scannet20", choices=sorted(LABEL_SETS))
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    from sas_ros.segmenter import Segmenter
    from sas_ros.student.bundle import StudentBundle
    from sas_ros.student.locate import find_student

    bundle = StudentBundle.load(find_student(arguments.student))
    segmenter = Segmenter(bundle, device=arguments.device, votes=arguments.votes)
    # Labelled rooms are z up by contract; an estimate could only make the score worse.
    up = parse_up(arguments.up)
    direction = np.array([0.0, 0.0, 1.0]) if up is None else up
    files = expand(arguments.scans)
    result = evaluate(segmenter, files, arguments.labels, Up(direction, "parameter"))
    result = {
        "student": bundle.name,
        "labels": arguments.labels,
        "votes": arguments.votes,
        "files": [str(path) for path in files],
        **result,
    }
    print(json.dumps(result, indent=2) if arguments.json else _table(result))
    return 0


def expand(paths: list[Path]) -> list[Path]:
    """Files as given, folders as their sorted `.npz`; raises SasError when nothing is there."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(path.glob("*.npz"))
            if not found:
                raise SasError(f"The folder {path} holds no .npz files.")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise SasError(f"There is no file or folder {path}.")
    return files


def evaluate(segmenter: Any, files: list[Path], labels: str, up: Up) -> dict[str, Any]:
    """One confusion matrix over all files; keys as in `ConfusionMatrix.summary`.

    Classes are matched by name, so that a student whose vocabulary has other words, or the same in
    another order, is scored correctly: a word outside the label set is a miss.
    """
    from sas_training.distill.dataset import read_labelled
    from sas_training.evaluation.metrics import ConfusionMatrix

    label_set = LABEL_SETS[labels]
    names = [name.casefold() for name in label_set.names]
    vocabulary = segmenter.bundle.vocabulary
    to_class = np.array(
        [names.index(n.casefold()) if n.casefold() in names else -1 for n in vocabulary.names]
    )
    if (to_class < 0).all():
        raise SasError(
            f"The student {segmenter.bundle.name!r} knows no word of the label set {labels!r}."
        )
    matrix = ConfusionMatrix(label_set.names)
    for path in files:
        points, truth = read_labelled(path)
        cloud = Cloud(points)
        scene = segmenter.segment(cloud, up)
        predicted = to_class[segmenter.label(scene, vocabulary).label]
        element = scene.element_of_point
        matrix.add(truth, np.where(element >= 0, predicted[element], -1))
    return matrix.summary()


def _table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['student']} on {len(result['files'])} files, {result['points']} labelled points, "
        f"votes {result['votes']}",
        f"  mIoU over present classes {result['miou_present']:.3f}   over all classes "
        f"{result['miou_all']:.3f}   mAcc {result['macc']:.3f}",
    ]
    for name, row in result["per_class"].items():
        if row["iou"] is not None:
            lines.append(
                f"  {name:<16} IoU {row['iou']:.3f}  acc {row['acc']:.3f}  {row['points']} points"
            )
    return "\n".join(lines)
