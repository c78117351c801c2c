"""`sas evaluate --student S --labels scannet20 FILES|DIR`: labels and objects of labelled scans."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.commands import add_scan_arguments, parse_up
from sas_ros.errors import SasError
from sas_ros.observation import Up
from sas_training.evaluation.instances import CLUSTERINGS
from sas_training.evaluation.labels import LABEL_SETS


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scans",
        nargs="+",
        type=Path,
        help=".npz files with points (N, 3) m and labels (N,), 255 ignored, ScanNet rooms "
        "(*_vert.npy beside *_sem_label.npy and *_ins_label.npy), or folders of them",
    )
    add_scan_arguments(parser)
    parser.add_argument("--labels", default="scannet20", choices=sorted(LABEL_SETS))
    parser.add_argument(
        "--queries",
        action="store_true",
        help="also ask every scan for every thing: is it found where it is, and only there?",
    )
    parser.add_argument(
        "--instances",
        action="store_true",
        help="also compare the objects found with those of the scans: AP25, AP50, boxes, splits",
    )
    parser.add_argument(
        "--true-labels",
        action="store_true",
        help="for --instances: make objects of the true labels, which shows the clustering alone",
    )
    parser.add_argument(
        "--clustering",
        default=CLUSTERINGS[0],
        choices=CLUSTERINGS,
        help="for --instances: how the robot finds objects, or plain DBSCAN to compare with",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    only_objects = arguments.true_labels or arguments.clustering != CLUSTERINGS[0]
    if only_objects and not arguments.instances:
        raise SasError("--true-labels and --clustering say how --instances is done: add it.")
    from sas_ros.segmenter import Segmenter
    from sas_ros.student.bundle import StudentBundle
    from sas_ros.student.locate import find_student
    from sas_training.evaluation.instances_scoring import score_instances
    from sas_training.evaluation.scoring import ask_for_things, evaluate, expand

    bundle = StudentBundle.load(find_student(arguments.student))
    segmenter = Segmenter(
        bundle,
        device=arguments.device,
        votes=arguments.votes,
        memory_budget=arguments.memory_budget,
        backend=arguments.backend,
        precision=arguments.precision,
    )
    # Labelled rooms are z up by contract; an estimate could only make the score worse.
    up = parse_up(arguments.up)
    direction = np.array([0.0, 0.0, 1.0]) if up is None else up
    files = expand(arguments.scans)
    result = evaluate(segmenter, files, arguments.labels, Up(direction, "parameter"))
    if arguments.queries:
        result["queries"] = ask_for_things(
            segmenter, files, arguments.labels, Up(direction, "parameter")
        )
    if arguments.instances:
        result["instances"] = score_instances(
            segmenter,
            files,
            arguments.labels,
            Up(direction, "parameter"),
            true_labels=arguments.true_labels,
            clustering=arguments.clustering,
        )
    result = {
        "student": bundle.name,
        "labels": arguments.labels,
        "votes": arguments.votes,
        "files": [str(path) for path in files],
        **result,
    }
    print(json.dumps(result, indent=2) if arguments.json else _table(result))
    return 0


def _table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['student']} on {len(result['files'])} files, {result['points']} labelled points, "
        f"votes {result['votes']}",
        f"  mIoU over present classes {result['miou_present']:.3f}   over all classes "
        f"{result['miou_all']:.3f}   mAcc {result['macc']:.3f}",
    ]
    if "queries" in result:
        asked = result["queries"]
        lines.append(
            f"  asked for things: found {asked['found_there']} of {asked['there']} that are there, "
            f"{asked['found_absent']} of {asked['absent']} that are not"
        )
    for name, row in result["per_class"].items():
        if row["iou"] is not None:
            lines.append(
                f"  {name:<16} IoU {row['iou']:.3f}  acc {row['acc']:.3f}  {row['points']} points"
            )
    if "instances" in result:
        lines += _object_lines(result["instances"])
    return "\n".join(lines)


def _object_lines(found: dict[str, Any]) -> list[str]:
    source = "true labels" if found["true_labels"] else "the student's labels"
    lines = [
        f"objects ({found['clustering']}, of {source}): "
        "AP25, AP50, true, found, split, merged, centre and size error"
    ]
    for name, row in [("all", found), *found["per_class"].items()]:
        if row["true"]:
            lines.append(
                f"  {name:<16} {_number(row['ap25'])}  {_number(row['ap50'])}  {row['true']:4d}  "
                f"{row['found']:4d}  {row['split']:3d}  {row['merged']:3d}  "
                f"{_number(row['center_error_m'])} m  {_number(row['size_error_m'])} m"
            )
    return lines


def _number(value: float | None) -> str:
    return "    -" if value is None else f"{value:.3f}"
