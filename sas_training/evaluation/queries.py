"""The list of queries that students are measured with: text, kind, and the classes that answer it.

The file format is in docs/formats.md; the list that comes along is config/queries/scannet20.csv.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from sas_ros.errors import SasError
from sas_ros.language.prompts import normalise_text, text_key
from sas_ros.query import TextQuery, check_text
from sas_ros.student.locate import student_folders
from sas_training.evaluation.labels import LabelSet

COLUMNS = ("query", "kind", "classes")

EXACT = "exact"
"""The kind of the class names themselves."""


@dataclass(frozen=True)
class Question:
    """One line of the list.

    Attributes:
        text: what is asked.
        kind: the group it is reported in, such as "synonym".
        classes: ids of the label set that answer it; none where nothing should be found.
    """

    text: str
    kind: str
    classes: frozenset[int]


def find_queries(labels: LabelSet) -> Path:
    """The list that comes along for a label set; raises SasError where there is none."""
    for folder in student_folders():
        path = folder.parent / "queries" / f"{labels.name}.csv"
        if path.is_file():
            return path
    raise SasError(
        f"No list of queries for the label set {labels.name!r} comes along; name a file with "
        "--queries."
    )


def read_queries(path: Path, labels: LabelSet) -> tuple[Question, ...]:
    """The questions of a list, in its order.

    Raises:
        SasError: no such file, not UTF-8, another header, a line with other than three cells, a
            text that cannot be asked or is there twice, no kind, a class that is not one of
            `labels`, or no question at all. Names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SasError(f"The list of queries {path} cannot be read as UTF-8 ({error}).") from error
    rows = [
        (number, next(csv.reader([line], skipinitialspace=True)))
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not rows or tuple(cell.strip() for cell in rows[0][1]) != COLUMNS:
        raise SasError(f"The list of queries {path} must begin with the line {','.join(COLUMNS)}.")
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, cells in rows[1:]:
        try:
            question = _question(cells, labels)
        except SasError as error:
            raise SasError(f"Line {number} of {path}: {error}") from None
        earlier = seen.setdefault(text_key(question.text), number)
        if earlier != number:
            raise SasError(
                f"Line {number} of {path}: {question.text!r} is on line {earlier} already."
            )
        questions.append(question)
    if not questions:
        raise SasError(f"The list of queries {path} holds no query.")
    return tuple(questions)


def _question(cells: list[str], labels: LabelSet) -> Question:
    if len(cells) != len(COLUMNS):
        raise SasError(
            f"there are {len(cells)} cells, not {len(COLUMNS)} ({', '.join(COLUMNS)}); put text "
            "with a comma into double quotes."
        )
    text, kind, classes = (normalise_text(cell) for cell in cells)
    problem = check_text(TextQuery(text))
    if problem is not None:
        raise SasError(problem)
    if not kind:
        raise SasError(f"{text!r} has no kind.")
    ids = []
    for name in filter(None, (part.strip() for part in classes.split(";"))):
        if name not in labels.names:
            raise SasError(
                f"{name!r} is no class of {labels.name}; classes are {', '.join(labels.names)}."
            )
        ids.append(labels.id_of(name))
    return Question(text, kind, frozenset(ids))
