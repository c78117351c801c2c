"""`sas evaluate-queries SCAN...`: asks labelled scans a list of queries and counts the answers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sas_ros.commands import add_scan_arguments, parse_up, whole_number
from sas_training.evaluation.labels import LABEL_SETS


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scans",
        nargs="+",
        type=Path,
        help=".npz files with points (N, 3) m and labels (N,), 255 ignored; ScanNet rooms, "
        "NAME_vert.npy; or folders of such",
    )
    add_scan_arguments(parser, up="0,0,1, as labelled scans are")
    parser.add_argument("--labels", default="scannet20", choices=sorted(LABEL_SETS))
    parser.add_argument(
        "--queries",
        type=Path,
        metavar="FILE",
        help="list of queries, .csv (default: the one that comes along for the label set)",
    )
    parser.add_argument("--text-weights", type=Path, help="local weights of the text encoder")
    parser.add_argument(
        "--worst",
        type=whole_number(0),
        default=15,
        metavar="N",
        help="queries to name that fail most often (default: 15)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    import numpy as np

    from sas_ros.language.encoder import check_encoder, load_encoder
    from sas_ros.observation import Up
    from sas_ros.segmenter import Segmenter
    from sas_ros.student.bundle import StudentBundle
    from sas_ros.student.locate import find_student
    from sas_training.evaluation.queries import find_queries, read_queries
    from sas_training.evaluation.queries_asked import ask, embed_questions
    from sas_training.evaluation.scoring import expand

    labels = LABEL_SETS[arguments.labels]
    path = arguments.queries or find_queries(labels)
    questions = read_queries(path, labels)
    files = expand(arguments.scans)
    up = parse_up(arguments.up)
    bundle = StudentBundle.load(find_student(arguments.student))
    encoder = None
    if any(bundle.vocabulary.index(question.text) is None for question in questions):
        encoder = load_encoder(bundle.text_encoder, weights=arguments.text_weights)
        check_encoder(bundle.text_encoder, bundle.feature_dim, encoder)
    segmenter = Segmenter(
        bundle,
        device=arguments.device,
        votes=arguments.votes,
        memory_budget=arguments.memory_budget,
        backend=arguments.backend,
        precision=arguments.precision,
    )
    # Labelled rooms are z up by contract, as for `sas evaluate`.
    direction = np.array([0.0, 0.0, 1.0]) if up is None else up
    embeddings = embed_questions(questions, bundle, encoder)
    report = ask(segmenter, files, questions, embeddings, Up(direction, "parameter"), labels)
    result = {
        "student": bundle.name,
        "labels": labels.name,
        "votes": arguments.votes,
        "list": str(path),
        "calibration": bundle.calibration.to_metadata(),
        "files": [str(file) for file in files],
        **report.summary(labels),
    }
    print(json.dumps(result, indent=2) if arguments.json else _table(result, arguments.worst))
    return 0


def _table(result: dict[str, Any], worst: int) -> str:
    lines = [
        f"{result['student']} asked {len(result['queries'])} queries in {len(result['files'])} "
        f"scans, votes {result['votes']}",
        f"  {'':<16}{'there':>7}{'hit':>8}{'wrong':>8}{'missed':>8}{'IoU':>7}"
        f"{'absent':>9}{'found':>8}",
        *(_row(kind, row) for kind, row in result["kinds"].items()),
        _row("all", result["all"]),
        _row("- with classes", result["classes_absent"]),
        _row("- without", result["classes_none"]),
    ]
    failing = [
        (failures, row)
        for row in result["queries"]
        if (failures := row["wrong"] + row["missed"] + row["false_found"])
    ]
    failing.sort(key=lambda pair: -pair[0] / max(pair[1]["there"] + pair[1]["absent"], 1))
    if worst and failing:
        lines.append("worst queries:")
    for failures, row in failing[:worst]:
        lines.append(
            f"  {row['query']!r} ({', '.join(row['classes']) or 'nothing'}): {failures} of "
            f"{row['there'] + row['absent']} fail: {row['wrong']} wrong, {row['missed']} missed, "
            f"{row['false_found']} false"
        )
    return "\n".join(lines)


def _row(name: str, row: dict[str, Any]) -> str:
    def percent(count: int, of: int) -> str:
        return f"{100 * count / of:.1f} %" if of else "-"

    there, absent = row["there"], row["absent"]
    iou = "-" if row["mean_iou"] is None else f"{row['mean_iou']:.2f}"
    shares = "".join(f"{percent(row[key], there):>8}" for key in ("hit", "wrong", "missed"))
    return (
        f"  {name:<16}{there:>7}{shares}{iou:>7}{absent:>9}{percent(row['false_found'], absent):>8}"
    )
