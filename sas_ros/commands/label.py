"""`sas label BAG -o DIR`: label the point clouds of a recording, without a ROS graph."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sas_ros.commands import add_scan_arguments, parse_up, whole_number
from sas_ros.errors import SasError

if TYPE_CHECKING:
    from sas_ros.bags.gates import Gates
    from sas_ros.bags.job import LabelJob
    from sas_ros.bags.reading import BagMessage
    from sas_ros.bags.records import BadMessage
    from sas_ros.bags.report import BagReport

_TOLD = 10
"""Bad messages that are printed; the report has them all."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, help="a bag's folder, or its .mcap or .db3 file")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for everything"
    )
    parser.add_argument(
        "--topic",
        nargs="+",
        default=[],
        metavar="NAME",
        help="topics of point clouds (default: all the bag has)",
    )
    parser.add_argument(
        "--every",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="of each topic, one message of N (1)",
    )
    parser.add_argument(
        "--format",
        choices=("bag", "ply"),
        default="bag",
        help="a labelled bag (default), or a PLY for each cloud",
    )
    parser.add_argument(
        "--copy", action="store_true", help="with --format bag: copy the bag's own messages as well"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the results of another run in DIR"
    )
    add_scan_arguments(parser)
    # The same bytes every time: not the engine that happens to be faster today, nor tiles that
    # depend on what else is in memory.
    parser.set_defaults(backend="native", memory_budget=2048)
    gates = parser.add_argument_group("gates", "what must come out; exit code 1 where it does not")
    gates.add_argument(
        "--expect",
        nargs="+",
        default=[],
        metavar="WORD[:SHARE]",
        help="words that must be there: as an object's worth of points in some cloud, or as a "
        "share of all finite points",
    )
    gates.add_argument(
        "--fail-below",
        type=float,
        metavar="SHARE",
        help="share of the finite points whose label must be as sure as --confidence",
    )
    gates.add_argument(
        "--confidence",
        type=float,
        default=0.5,
        help="for --fail-below, in steps of 0.01 (0.5): the student's own estimate",
    )
    gates.add_argument(
        "--max-bad", type=whole_number(0), metavar="N", help="messages that may be bad"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Label, write the report, judge; returns 0, or 1 where a gate failed, the bag is damaged or
    nothing could be labelled."""
    from dataclasses import replace

    from sas_ros.bags.gates import judge
    from sas_ros.bags.messages import MessageTypes
    from sas_ros.bags.reading import Bag
    from sas_ros.student.bundle import StudentBundle
    from sas_ros.student.locate import find_student

    if arguments.copy and arguments.format == "ply":
        raise SasError("--copy is for a labelled bag; leave it out with --format ply.")
    up = parse_up(arguments.up)
    path = find_student(arguments.student)
    bundle = StudentBundle.load(path)
    gates = _gates(arguments, bundle.vocabulary.names)
    started = time.perf_counter()
    with Bag(arguments.bag) as bag:
        types = MessageTypes()
        job = _job(arguments, bag, types, bundle, hashlib.sha256(path.read_bytes()), up)
        report = job.finished(_tell, overwrite=arguments.overwrite)
        if report is None:
            report = _label(job, arguments, types, bundle, up)
        report = replace(report, gates=judge(gates, report.totals(), report.histogram()))
        job.finish(report)
    seconds = time.perf_counter() - started
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        _show(report, arguments.output, seconds)
    return 0 if report.passed else 1


def _job(
    arguments: argparse.Namespace,
    bag: Any,
    types: Any,
    bundle: Any,
    student: Any,
    up: Any,
) -> LabelJob:
    from sas_ros import __version__
    from sas_ros.bags.job import LabelJob, check_definition, copied_topics
    from sas_ros.student.inputs import choose_device

    topics = bag.cloud_topics(arguments.topic)
    check_definition(topics, types)
    copied, not_copied = copied_topics(bag, topics, types) if arguments.copy else ((), ())
    for sentence in not_copied:
        _tell(sentence)
    settings = {
        "version": __version__,
        "bag": bag.path.resolve().name,
        "topics": [topic.name for topic in topics],
        "every": arguments.every,
        "format": arguments.format,
        "copy": [topic.name for topic in copied],
        "not_copied": list(not_copied),
        "student": bundle.name,
        "student_sha256": student.hexdigest(),
        "up": None if up is None else [float(value) for value in up],
        "device": choose_device(arguments.device).type,
        "votes": arguments.votes,
        "backend": arguments.backend,
        "precision": arguments.precision,
        "memory_budget": arguments.memory_budget,
    }
    return LabelJob(
        bag=bag,
        topics=topics,
        every=arguments.every,
        folder=arguments.output,
        as_ply=arguments.format == "ply",
        copied=copied,
        settings=settings,
        vocabulary=bundle.vocabulary,
    )


def _label(
    job: LabelJob, arguments: argparse.Namespace, types: Any, bundle: Any, up: Any
) -> BagReport:
    from sas_ros.bags.labelling import BagLabeller
    from sas_ros.segmenter import Segmenter

    segmenter = Segmenter(
        bundle,
        device=arguments.device,
        votes=arguments.votes,
        memory_budget=arguments.memory_budget,
        backend=arguments.backend,
        precision=arguments.precision,
    )
    total = sum(-(-topic.messages // job.every) for topic in job.topics)

    def progress(messages: Iterator[BagMessage]) -> Iterable[BagMessage]:
        try:
            from tqdm import tqdm
        except ImportError:  # an extra
            return messages
        bar: Iterable[BagMessage] = tqdm(messages, total=total, unit="cloud", disable=None)
        return bar

    return job.run(BagLabeller(segmenter, types, up), types, progress)


def _gates(arguments: argparse.Namespace, names: tuple[str, ...]) -> Gates:
    from sas_ros.bags.gates import Gates, parse_expectation

    for name in ("fail_below", "confidence"):
        value = getattr(arguments, name)
        if value is not None and not 0 <= value <= 1:
            raise SasError(f"--{name.replace('_', '-')} must lie in 0 to 1, not {value:g}.")
    return Gates(
        expected=tuple(parse_expectation(text, names) for text in arguments.expect),
        least_confident=arguments.fail_below,
        confidence=round(arguments.confidence, 2),
        most_bad=arguments.max_bad,
    )


def _show(report: BagReport, folder: Path, seconds: float) -> None:
    totals = report.totals()
    print(
        f"{totals['labelled']} of {totals['messages']} clouds labelled, "
        f"{totals['finite_points']} finite points, {seconds:.1f} s"
    )
    for name, row in totals["labels"].items():
        print(
            f"  {name:<18} {row['points']:>9} points {100 * row['share']:5.1f} % "
            f"in {row['clouds']} clouds, {row['objects']} objects"
        )
    _show_bad(report.bad)
    if report.damaged:
        _tell(report.damaged)
    for gate in report.gates:
        print(f"{'passed' if gate.passed else 'FAILED'}: {gate.sentence}")
    if not report.clouds:
        _tell("Nothing was labelled.")
    print(f"wrote {folder}")


def _show_bad(bad: list[BadMessage]) -> None:
    for item in bad[:_TOLD]:
        _tell(f"{item.topic} {item.number}: {item.reason}")
    if len(bad) > _TOLD:
        _tell(f"{len(bad) - _TOLD} more messages were bad; the report has them all.")


def _tell(sentence: str) -> None:
    print(f"sas label: {sentence}", file=sys.stderr)
