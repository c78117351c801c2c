"""What `sas evaluate --report FOLDER` leaves behind, for people and for programs.

`report.json` (docs/formats.md), `report.md`, `confusion.csv` and `confusion.png`. Nothing in them
depends on the time or on the machine: the same student, data, protocol and commit give the same
bytes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sas_ros import __version__
from sas_ros.errors import SasError
from sas_ros.files import atomic_write
from sas_ros.pictures import write_png
from sas_training.evaluation.confusion_picture import draw_confusion
from sas_training.evaluation.metrics import Confusion, ConfusionMatrix
from sas_training.evaluation.scoring import Scores

FORMAT_VERSION = 1
_KIND = "sas_evaluation_report"
_MOST_LISTED = 6  # entries of a list that are named in report.md
_PACKAGE = ("sas_ros", "sas_training", "config", "msg")
_OUTSIDE, _NONE = "another word", "no prediction"


@dataclass(frozen=True, eq=False)
class Report:
    """A score with everything that is needed to make it again.

    Attributes:
        subject: what was scored, plain JSON: `name`, `student` and `student_sha256`, or of point
            features their `name`, `features` (files) and `features_sha256`.
        protocol: how, plain JSON: label set, words, votes, share of the points and so on.
        scores: the figures.
        more: figures of `--queries` and `--instances`, where they were asked for.
    """

    subject: Mapping[str, Any]
    protocol: Mapping[str, Any]
    scores: Scores
    more: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The content of `report.json`."""
        return {
            "kind": _KIND,
            "format_version": FORMAT_VERSION,
            "made_with": made_with(),
            "subject": dict(self.subject),
            "protocol": dict(self.protocol),
            "figures": self.scores.summary(),
            "worst_confusions": [vars(worst) for worst in self.scores.matrix.worst()],
            **self.more,
        }

    def write(self, folder: Path) -> None:
        """Write the four files; the folder is made where it is missing.

        Raises:
            SasError: no point has a class of the label set, so that there is nothing to report.
        """
        matrix = self.scores.matrix
        content = self.to_dict()
        if not content["figures"]["points"]:
            raise SasError("No point of these scans has a class of the label set: no report.")
        folder = Path(folder)
        write_png(folder / "confusion.png", draw_confusion(matrix, self._title()))
        atomic_write(folder / "confusion.csv", confusion_csv(matrix).encode())
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        atomic_write(folder / "report.json", text.encode())
        atomic_write(folder / "report.md", report_markdown(content).encode())

    def _title(self) -> str:
        points = int(self.scores.matrix.counts.sum() + self.scores.matrix.without.sum())
        return f"{self.subject['name']}, {len(self.scores.scans)} scans, {points} points"


def made_with() -> dict[str, Any]:
    """`version` of the package; `commit` of the checkout it runs from, None where it is installed
    or git does not know; `changed`, whether files of the checkout differ from that commit, or new
    ones belong to the package (`_PACKAGE`)."""
    root = Path(__file__).resolve().parents[2]
    commit = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    changed = None
    if commit is not None:
        status = _git(root, "status", "--porcelain", "--untracked-files=no")
        new = _git(root, "ls-files", "--others", "--exclude-standard", "--", *_PACKAGE)
        changed = None if status is None or new is None else bool(status or new)
    return {"version": __version__, "commit": commit, "changed": changed}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def confusion_csv(matrix: ConfusionMatrix) -> str:
    """All counts, one line a true class, as spreadsheets read them."""
    lines = [",".join(["true", *map(_quoted, (*matrix.names, _OUTSIDE, _NONE))])]
    for name, row, none in zip(matrix.names, matrix.counts, matrix.without, strict=True):
        lines.append(",".join([_quoted(name), *map(str, row.tolist()), str(none)]))
    return "\n".join(lines) + "\n"


def in_words(worst: Confusion) -> str:
    """One confusion as a sentence."""
    called = _OUTSIDE if worst.predicted is None else worst.predicted
    return (
        f"{100 * worst.share:.0f} % of {worst.truth} is called {called} ({worst.points:,} points)"
    )


def report_markdown(content: Mapping[str, Any]) -> str:
    """`report.md` of the content of `report.json`."""
    figures, made = content["figures"], content["made_with"]
    subject, protocol = content["subject"], content["protocol"]
    commit = made["commit"] or "not known"
    if made["changed"]:
        commit += ", with changes that are not committed"
    lines = [
        f"# {subject['name']} on {protocol['labels']}",
        "",
        *_table(("", "all scans"), _headline(figures)),
        "",
        "## What, with what, and how",
        "",
        *_table(
            ("", ""),
            [
                *((_words(key), _plain(value)) for key, value in subject.items()),
                *((_words(key), _plain(value)) for key, value in protocol.items()),
                ("sas_ros", made["version"]),
                ("commit", commit),
            ],
        ),
        "",
        "## Classes",
        "",
        *_table(("class", "IoU", "accuracy", "points"), _class_rows(figures["per_class"])),
        "",
        "## Confusions",
        "",
        "![Confusion matrix](confusion.png)",
        "",
        "A row is a true class; the colour and the upper number of a cell are the share of its "
        "points that was called what the column says, in percent. All counts are in "
        "[confusion.csv](confusion.csv).",
        "",
    ]
    worst = [Confusion(**row) for row in content["worst_confusions"]]
    lines += [f"{place}. {in_words(row)}" for place, row in enumerate(worst, 1)] or ["None."]
    lines += ["", "## Scans", "", *_table(_SCAN_HEAD, _scan_rows(figures["per_scan"]))]
    for key in ("queries", "instances"):
        if key in content:
            plain = {k: v for k, v in content[key].items() if not isinstance(v, dict | list)}
            lines += ["", f"## {key.capitalize()}", ""]
            lines += _table(("", ""), [(_words(k), _plain(v)) for k, v in plain.items()])
    return "\n".join(lines) + "\n"


_SCAN_HEAD = ("scan", "points", "classes", "mIoU present", "mAcc", "SHA-256 of points and labels")


def _headline(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        (f"mIoU, {figures['classes_present']} classes present", f"{figures['miou_present']:.3f}"),
        (f"mIoU, all {len(figures['per_class'])} classes", f"{figures['miou_all']:.3f}"),
        ("mAcc, classes present", f"{figures['macc']:.3f}"),
        ("mAcc, all classes", f"{figures['macc_all']:.3f}"),
        ("accuracy of points", f"{figures['accuracy']:.3f}"),
        ("labelled points", f"{figures['points']:,}"),
    ]
    if figures["without_prediction"]:
        rows.append(("of them without prediction", f"{figures['without_prediction']:,}"))
    return rows


def _class_rows(per_class: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, row in per_class.items():
        there = row["iou"] is not None
        rows.append(
            (
                name,
                f"{row['iou']:.3f}" if there else "–",
                f"{row['acc']:.3f}" if there else "–",
                f"{row['points']:,}",
            )
        )
    return rows


def _scan_rows(scans: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            row["scan"],
            f"{row['points']:,}",
            str(row["classes_present"]),
            f"{row['miou_present']:.3f}",
            f"{row['macc']:.3f}",
            f"`{row['sha256'][:16]}`",
        )
        for row in scans
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows
    ]


def _words(key: str) -> str:
    return key.replace("_", " ")


def _plain(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        if len(value) > _MOST_LISTED:
            return f"{len(value)}, see report.json"
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    return str(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') else name


def _git(root: Path, *words: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
