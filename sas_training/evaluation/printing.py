"""What `sas evaluate` says on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sas_training.evaluation.metrics import Confusion
from sas_training.evaluation.report import in_words


def score_table(result: Mapping[str, Any]) -> str:
    """The lines that `sas evaluate` prints, of what `--json` prints."""
    lines = [
        f"{result['student']} on {len(result['files'])} scans, {result['points']} labelled points, "
        f"{_how(result)}",
        f"  mIoU over present classes {result['miou_present']:.3f}   over all classes "
        f"{result['miou_all']:.3f}   mAcc {result['macc']:.3f}",
    ]
    without = result["protocol"].get("words_without_class")
    if without:
        lines.append(f"  no class of {result['labels']}: {', '.join(without)}")
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
    lines += ["worst confusions:"] if result["worst_confusions"] else []
    lines += [f"  {in_words(Confusion(**row))}" for row in result["worst_confusions"]]
    if len(result["files"]) > 1:
        lines.append("per scan, mIoU over its present classes:")
        lines += [
            f"  {row['miou_present']:.3f}  {Path(row['scan']).name}" for row in result["per_scan"]
        ]
    if "finer" in result:
        lines += _finer_lines(result["finer"])
    if "instances" in result:
        lines += _object_lines(result["instances"])
    return "\n".join(lines)


def _finer_lines(found: Mapping[str, Any]) -> list[str]:
    if not found["groups"]:
        return ["finer names: none of the scans has two of a group"]
    lines = [f"finer names: recall {found['recall']:.3f}, by chance {found['chance']:.3f}"]
    return lines + [
        f"  {name:<16} recall {row['recall']:.3f}  by chance {row['chance']:.3f}  {row['names']} "
        f"names, {row['points']} points"
        for name, row in found["groups"].items()
    ]


def _how(result: Mapping[str, Any]) -> str:
    share, left_out = result["points_share"], result["without_prediction"]
    parts = ["2D features" if result["votes"] is None else f"votes {result['votes']}"]
    parts += ["voting released"] if result["protocol"].get("voting") == "released" else []
    parts += [] if result["protocol"].get("colours", True) else ["colours hidden"]
    parts += [] if share == 1 else [f"{share:g} of the points"]
    parts += [f"{left_out} points without prediction"] if left_out else []
    return ", ".join(parts)


def _object_lines(found: Mapping[str, Any]) -> list[str]:
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
    given = found["given_boxes"]
    if given is not None:
        lines.append(
            f"  against {given['boxes']} boxes of the data: "
            f"{_number(given['center_error_m'])} m  {_number(given['size_error_m'])} m; "
            "ours around the true points "
            f"{_number(given['true_center_error_m'])} m  {_number(given['true_size_error_m'])} m"
        )
    return lines


def _number(value: float | None) -> str:
    return "    -" if value is None else f"{value:.3f}"
