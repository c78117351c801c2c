"""Every scan is asked every question: what is found, what is wrong, what should not be there.

Of a question whose classes have `THERE_POINTS` true points or more in the scan, the answer is

- a hit when at least `MOSTLY` of the labelled points of all objects found carry a wanted class,
- wrong when something else was found,
- missed when nothing was found.

A question whose classes have no point in the scan, or that has no classes, should find nothing;
whatever is found is a false find. A question whose classes have some points, but fewer than
`THERE_POINTS`, is not asked of that scan: neither answer would be wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.language.encoder import TextEncoder
from sas_ros.language.prompts import apply_prompt
from sas_ros.observation import Up
from sas_ros.query import MAX_INSTANCES, MIN_POINTS, QueryAnswer, TextQuery, answer
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_training.evaluation.labelled import IGNORED, read_objects
from sas_training.evaluation.labels import LabelSet
from sas_training.evaluation.queries import Question
from sas_training.evaluation.scoring import THERE_POINTS

MOSTLY = 0.5
"""Share of the labelled points found that must be of a wanted class for the answer to be right."""


class Verdict(Enum):
    """What one answer is worth; the value is its key in JSON."""

    HIT = "hit"
    WRONG = "wrong"
    MISSED = "missed"
    QUIET = "not_found"
    FALSE = "false_found"


@dataclass
class Tally:
    """Verdicts of some questions, and the IoU of the answers to those whose classes are there."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    iou: float = 0.0

    def add(self, verdict: Verdict, iou: float) -> None:
        self.verdicts[verdict] += 1
        self.iou += iou

    @property
    def there(self) -> int:
        """Questions whose classes are in the scan."""
        return sum(self.verdicts[v] for v in (Verdict.HIT, Verdict.WRONG, Verdict.MISSED))

    @property
    def absent(self) -> int:
        """Questions that should find nothing."""
        return self.verdicts[Verdict.QUIET] + self.verdicts[Verdict.FALSE]

    @property
    def failures(self) -> int:
        """Answers that are wrong, missed or false."""
        return sum(self.verdicts[v] for v in (Verdict.WRONG, Verdict.MISSED, Verdict.FALSE))

    def summary(self) -> dict[str, Any]:
        """JSON-able counts and rates; a rate is None where nothing was asked."""
        there, absent = self.there, self.absent
        return {
            "there": there,
            **{v.value: self.verdicts[v] for v in (Verdict.HIT, Verdict.WRONG, Verdict.MISSED)},
            "hit_rate": self.verdicts[Verdict.HIT] / there if there else None,
            "mean_iou": self.iou / there if there else None,
            "absent": absent,
            "false_found": self.verdicts[Verdict.FALSE],
            "false_rate": self.verdicts[Verdict.FALSE] / absent if absent else None,
        }


@dataclass(frozen=True)
class Report:
    """Tallies per question, in their order."""

    questions: tuple[Question, ...]
    tallies: tuple[Tally, ...]

    def total(self, wanted: Callable[[Question], bool] = lambda _: True) -> Tally:
        """The tallies of the questions that are `wanted`, summed."""
        both = zip(self.questions, self.tallies, strict=True)
        return _sum(tally for question, tally in both if wanted(question))

    def of_kind(self, kind: str) -> Tally:
        """The tallies of one kind, summed."""
        return self.total(lambda question: question.kind == kind)

    def summary(self, labels: LabelSet) -> dict[str, Any]:
        """JSON-able: `all`, `classes_absent` and `classes_none` (what should not be found: classes
        that are not there, and what no class means), `kinds`, `queries`; see docs/formats.md."""
        kinds = dict.fromkeys(question.kind for question in self.questions)
        return {
            "all": self.total().summary(),
            "classes_absent": self.total(lambda q: bool(q.classes)).summary(),
            "classes_none": self.total(lambda q: not q.classes).summary(),
            "kinds": {kind: self.of_kind(kind).summary() for kind in kinds},
            "queries": [
                {
                    "query": question.text,
                    "kind": question.kind,
                    "classes": [labels.names[k] for k in sorted(question.classes)],
                    **tally.summary(),
                }
                for question, tally in zip(self.questions, self.tallies, strict=True)
            ],
        }


def _sum(tallies: Iterable[Tally]) -> Tally:
    whole = Tally()
    for tally in tallies:
        whole.verdicts.update(tally.verdicts)
        whole.iou += tally.iou
    return whole


def embed_questions(
    questions: Sequence[Question], bundle: StudentBundle, encoder: TextEncoder | None
) -> npt.NDArray[np.float32]:
    """(Q, C) unit embeddings: of words of the vocabulary those in the bundle, all others in one
    batch by `encoder`, which may be None where there are no others."""
    rows = np.zeros((len(questions), bundle.feature_dim), dtype=np.float32)
    others = []
    for number, question in enumerate(questions):
        known = bundle.vocabulary.embedding(question.text)
        if known is None:
            others.append(number)
        else:
            rows[number] = known
    if others:
        if encoder is None:
            raise SasError(
                f"{questions[others[0]].text!r} is no word of the student and needs its text "
                "encoder."
            )
        texts = [apply_prompt(bundle.prompt, questions[number].text) for number in others]
        rows[others] = encoder.encode(texts)
    return rows


def ask(
    segmenter: Segmenter,
    files: Sequence[Path],
    questions: Sequence[Question],
    embeddings: npt.NDArray[np.float32],
    up: Up,
    labels: LabelSet,
) -> Report:
    """Segment every labelled scan once and ask it every question, as a robot would.

    Args:
        embeddings: (Q, C) of the questions, see `embed_questions`.
        up: in the frame of the scans.
        labels: of the scans and the questions.
    """
    bundle = segmenter.bundle
    tallies = tuple(Tally() for _ in questions)
    for path in files:
        scan = read_objects(path, labels)
        cloud, truth = scan.cloud, scan.labels
        scene = segmenter.segment(cloud, up)
        for question, embedding, tally in zip(questions, embeddings, tallies, strict=True):
            wanted = np.isin(truth, list(question.classes))
            if 0 < np.count_nonzero(wanted) < THERE_POINTS:
                continue
            result = answer(
                scene,
                cloud,
                TextQuery(question.text),
                embedding,
                None,
                bundle.vocabulary,
                bundle.calibration,
                default_max_instances=MAX_INSTANCES,
                min_points=MIN_POINTS,
            )
            tally.add(*judge(result, wanted, truth))
    return Report(tuple(questions), tallies)


def judge(
    result: QueryAnswer, wanted: npt.NDArray[np.bool_], truth: npt.NDArray[np.int64]
) -> tuple[Verdict, float]:
    """Verdict and IoU of an answer, over the points with a label.

    Args:
        wanted: (N,) points of a wanted class; without any, nothing should be found.
        truth: (N,) class ids, 255 where a point has none.
    """
    found = np.zeros(len(truth), dtype=np.bool_)
    for instance in result.instances:
        found[instance.point_indices] = True
    if not wanted.any():
        return (Verdict.FALSE if found.any() else Verdict.QUIET), 0.0
    if not found.any():
        return Verdict.MISSED, 0.0
    found &= truth != IGNORED
    both = np.count_nonzero(found & wanted)
    right = both > 0 and both >= MOSTLY * np.count_nonzero(found)
    return (Verdict.HIT if right else Verdict.WRONG), both / np.count_nonzero(found | wanted)
