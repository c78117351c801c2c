"""`sas evaluate SCANS`: a student, or point features, against labelled scans."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sas_ros.commands import add_scan_arguments, parse_up, whole_number
from sas_ros.errors import SasError
from sas_ros.observation import Up
from sas_training.evaluation.instances import CLUSTERINGS
from sas_training.evaluation.labels import LABEL_SETS

if TYPE_CHECKING:
    from sas_ros.segmenter import Segmenter
    from sas_training.evaluation.given import GivenScans
    from sas_training.evaluation.protocol import ProtocolWords
    from sas_training.evaluation.report import Report


_OF_STUDENTS = (
    *("student", "up", "device", "votes", "voting", "backend", "precision", "memory_budget"),
    "seed",
)
"""Options that say how a student is run."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scans",
        nargs="+",
        type=Path,
        help=".npz files with points (N, 3) m and labels (N,), 255 ignored; OpenScene's .pth; "
        "ScanNet rooms (*_vert.npy beside *_sem_label.npy and *_ins_label.npy); folders of them",
    )
    add_scan_arguments(parser, up="0,0,1, as labelled scans are")
    parser.add_argument(
        "--voting",
        choices=("symmetric", "released"),
        default="symmetric",
        help="what votes are: the --votes symmetric views, or, as in the released evaluation, five "
        "random turns and scales whose products with the words are summed (default: symmetric)",
    )
    parser.add_argument(
        "--scenes",
        metavar="KIND",
        help="the scans are a data set or recording of this kind instead: scannet, matterport, "
        "nuscenes and others that `sas scenes` reads",
    )
    parser.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="for --scenes: only these, a name per line, such as scannetv2_val.txt",
    )
    parser.add_argument("--labels", default="scannet20", choices=sorted(LABEL_SETS))
    parser.add_argument(
        "--words",
        choices=("own", "protocol"),
        default="own",
        help="what points are compared with: the student's own words, which become classes by "
        "name, or the prompts of the published evaluation (default: own)",
    )
    parser.add_argument(
        "--embeddings",
        type=Path,
        metavar="FILE",
        help="for --words protocol, --features: .npz or .safetensors with names and embeddings",
    )
    parser.add_argument(
        "--text-encoder", help="for --words protocol, --features: by default by the width"
    )
    parser.add_argument("--text-weights", type=Path, help="local weights of the text encoder")
    parser.add_argument(
        "--features",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="score point features instead of a student: one .safetensors or OpenScene .pt for "
        "each scan, called as the scan is, or a folder of them",
    )
    parser.add_argument(
        "--unseen",
        choices=("left-out", "wrong", "nearest"),
        default="left-out",
        help="for --features: points that have none count as wrong in the accuracies and are left "
        "out of every IoU, as published; or are wrong; or are what the nearest other point is",
    )
    parser.add_argument(
        "--points",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="keep only this share of the points of each scan, chosen at random (default: 1)",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0),
        default=0,
        help="of the choice of --points and of the turns of --voting released (default: 0)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="also write report.json, report.md, confusion.csv and confusion.png there",
    )
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
        "--finer",
        action="store_true",
        help="also ask generated rooms for finer names: armchair or office chair?",
    )
    parser.add_argument(
        "--no-colours", action="store_true", help="hide the scans' colours from the student"
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
    parser.set_defaults(of_students={name: parser.get_default(name) for name in _OF_STUDENTS})


def run(arguments: argparse.Namespace) -> int:
    _refuse_what_does_not_fit(arguments)
    from sas_training.evaluation.printing import score_table

    score = _score_features if arguments.features else _score_student
    report = score(arguments)
    if arguments.report is not None:
        report.write(arguments.report)
    result = {
        "student": report.subject["name"],
        "labels": arguments.labels,
        "votes": report.protocol.get("votes"),
        "points_share": arguments.points,
        "files": [scan.name for scan in report.scores.scans],
        "protocol": dict(report.protocol),
        **report.scores.summary(),
        "worst_confusions": [vars(worst) for worst in report.scores.matrix.worst()],
        **report.more,
    }
    print(json.dumps(result, indent=2) if arguments.json else score_table(result))
    if arguments.report is not None and not arguments.json:
        print(f"wrote {arguments.report / 'report.md'}")
    return 0


def _refuse_what_does_not_fit(arguments: argparse.Namespace) -> None:
    """Raise SasError for options that would be passed over in silence."""
    clustering = arguments.true_labels or arguments.clustering != CLUSTERINGS[0]
    if clustering and not arguments.instances:
        raise SasError("--true-labels and --clustering say how --instances is done: add it.")
    asked = arguments.instances or arguments.queries or arguments.finer
    if arguments.no_colours and (asked or arguments.features):
        raise SasError("--no-colours is for a student's labels.")
    if arguments.points != 1 and asked:
        raise SasError(
            "--points is for labels: --queries, --instances and --finer take all points."
        )
    if arguments.voting == "released" and (asked or arguments.votes != 1):
        raise SasError(
            "--voting released is for labels, and has its own five votes: leave out --votes, "
            "--queries, --instances and --finer."
        )
    if arguments.words == "protocol" and asked:
        raise SasError("--queries, --instances and --finer are asked in the student's own words.")
    if arguments.features and (asked or arguments.points != 1):
        raise SasError("--features scores labels of all points: no student runs, nothing is asked.")
    given = [
        name for name, usual in arguments.of_students.items() if vars(arguments)[name] != usual
    ]
    if arguments.features and given:
        options = ", ".join("--" + name.replace("_", "-") for name in given)
        raise SasError(f"--features scores features as they are: no student runs, so no {options}.")
    if arguments.scenes and asked:
        raise SasError("--queries, --instances and --finer read files, not --scenes.")
    if arguments.list and not arguments.scenes:
        raise SasError("--list names scenes of a data set: say of which kind with --scenes.")
    if arguments.scenes and len(arguments.scans) != 1:
        raise SasError("--scenes wants one folder or recording.")
    if arguments.unseen != "left-out" and not arguments.features:
        raise SasError("--unseen is for --features: a student labels every point.")
    texts = arguments.embeddings or arguments.text_encoder or arguments.text_weights
    if texts and not arguments.features and arguments.words != "protocol":
        raise SasError(
            "--embeddings, --text-encoder and --text-weights are for --words protocol: the "
            "student's own words have their embeddings."
        )


def _score_student(arguments: argparse.Namespace) -> Report:
    from sas_ros.segmenter import Segmenter
    from sas_ros.student.bundle import StudentBundle
    from sas_ros.student.locate import find_student
    from sas_training.evaluation.instances_scoring import score_instances
    from sas_training.evaluation.released_voting import RELEASED_VOTES, released_predictions
    from sas_training.evaluation.report import Report, file_sha256
    from sas_training.evaluation.scoring import (
        ask_for_things,
        colourless,
        score_scans,
        student_predictions,
        words_without_class,
    )

    given = _given(arguments)
    path = find_student(arguments.student)
    bundle = StudentBundle.load(path)
    segmenter = Segmenter(
        bundle,
        device=arguments.device,
        votes=arguments.votes,
        memory_budget=arguments.memory_budget,
        backend=arguments.backend,
        precision=arguments.precision,
    )
    # Labelled rooms are z up by contract; an estimate could only make the score worse.
    direction = parse_up(arguments.up)
    up = Up(np.array([0.0, 0.0, 1.0]) if direction is None else direction, "parameter")
    labels = LABEL_SETS[arguments.labels]
    words, without = None, []
    if arguments.words == "protocol":
        encoder = arguments.text_encoder or bundle.text_encoder
        words = _prompts(arguments, bundle.feature_dim, encoder)
    else:
        without = list(words_without_class(segmenter, labels.name))
    released = arguments.voting == "released"
    if released:
        predict = released_predictions(segmenter, labels.name, up, words, arguments.seed)
    else:
        predict = student_predictions(segmenter, labels.name, up, words)
    scores = score_scans(
        given.scans(),
        labels,
        colourless(predict) if arguments.no_colours else predict,
        share=arguments.points,
        seed=arguments.seed,
    )
    more: dict[str, Any] = {}
    if arguments.queries:
        more["queries"] = ask_for_things(segmenter, given.files, labels.name, up)
    if arguments.instances:
        more["instances"] = score_instances(
            segmenter,
            given.files,
            labels.name,
            up,
            true_labels=arguments.true_labels,
            clustering=arguments.clustering,
        )
    if arguments.finer:
        more["finer"] = _finer(segmenter, given.files, up)
    subject = {
        "name": bundle.name,
        "student": arguments.student,
        "student_sha256": file_sha256(path),
        "voxel_size_m": bundle.voxel_size,
    }
    protocol = {
        "labels": labels.name,
        "scenes": arguments.scenes,
        "words": _said(words),
        "words_without_class": without,
        "votes": RELEASED_VOTES if released else arguments.votes,
        "voting": arguments.voting,
        "colours": not arguments.no_colours,
        "points_share": arguments.points,
        "seed": arguments.seed if arguments.points < 1 or released else None,
        "up": [float(number) for number in up.direction],
        "device": segmenter.device.type,
        "backend": segmenter.engine.backend.name,
        "precision": str(segmenter.engine.dtype).removeprefix("torch."),
        # As it was asked for: the default follows the memory of the machine.
        "memory_budget_mib": arguments.memory_budget or None,
    }
    return Report(subject, protocol, scores, more)


def _finer(segmenter: Segmenter, files: list[Path], up: Up) -> dict[str, Any]:
    from sas_ros.language.encoder import load_encoder
    from sas_training.evaluation.finer import finer_names

    return finer_names(segmenter, files, load_encoder(segmenter.bundle.text_encoder), up)


def _score_features(arguments: argparse.Namespace) -> Report:
    from sas_training.evaluation.feature_predictions import (
        expand_features,
        feature_predictions,
        paired,
        read_features,
    )
    from sas_training.evaluation.report import Report, file_sha256
    from sas_training.evaluation.scoring import score_scans

    given = _given(arguments)
    pairs = paired(given.names, expand_features(arguments.features))
    first = read_features(next(iter(pairs.values())))
    words = _prompts(arguments, first.channels, arguments.text_encoder)
    labels = LABEL_SETS[arguments.labels]
    predict = feature_predictions(pairs, words, arguments.unseen)
    scores = score_scans(given.scans(), labels, predict)
    subject = {
        "name": first.teacher,
        "features": [str(path) for path in pairs.values()],
        "features_sha256": [file_sha256(path) for path in pairs.values()],
        "settings_of_the_first": dict(first.settings),
    }
    protocol = {
        "labels": labels.name,
        "scenes": arguments.scenes,
        "words": _said(words),
        "points_share": 1.0,
        "unseen": arguments.unseen,
    }
    return Report(subject, protocol, scores, {})


def _given(arguments: argparse.Namespace) -> GivenScans:
    from sas_training.evaluation.given import GivenScans

    labels = LABEL_SETS[arguments.labels]
    if arguments.scenes is None:
        return GivenScans.of_files(arguments.scans, labels)
    return GivenScans.of_scenes(arguments.scenes, arguments.scans[0], labels, arguments.list)


def _prompts(arguments: argparse.Namespace, width: int, encoder: str | None) -> ProtocolWords:
    from sas_training.evaluation.protocol import embedded_prompts

    return embedded_prompts(
        LABEL_SETS[arguments.labels],
        width,
        embeddings=arguments.embeddings,
        encoder=encoder,
        weights=arguments.text_weights,
    )


def _said(words: ProtocolWords | None) -> str:
    """What points were compared with, for the report."""
    if words is None:
        return "the student's own, by name"
    return f"{len(words.vocabulary)} prompts of the label set, {words.source}"
