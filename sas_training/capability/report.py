"""What a run leaves to read: scores of every image, and a page with a chart and pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.files import atomic_write
from sas_training.capability.files import CapabilityFiles
from sas_training.capability.measure import Scores
from sas_training.capability.samples import Sample
from sas_training.capability.table import CapabilityTable

SCORES_KIND = "sas_capability_scores"
FORMAT_VERSION = 1

Values = npt.NDArray[np.float64]


def rejects(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    """Class -> reason -> how many images were left out for it; classes without any are missing."""
    found: dict[str, Counter[str]] = {}
    for one in samples:
        if one.reason:
            found.setdefault(one.of, Counter())[one.reason] += 1
    return {name: dict(sorted(counts.items())) for name, counts in found.items()}


def used(samples: Sequence[Sample]) -> dict[str, int]:
    """Class -> how many images were used."""
    found = {one.of: 0 for one in samples}
    for one in samples:
        found[one.of] += not one.reason
    return found


def write_scores(files: CapabilityFiles, samples: Sequence[Sample], scores: Scores | None) -> None:
    """Write scores.json: every image with its figures, its reason, and its counts per teacher."""
    rows = []
    for one in samples:
        row: dict[str, Any] = {"class": one.of, "image": one.name, "rejected": one.reason}
        if one.quality is not None:
            row["quality"] = asdict(one.quality)
        if scores is not None and not one.reason:
            at = scores.images[one.of].index(one.name)
            row["overlap"] = scores.overlap[one.of][:, at].tolist()
            row["union"] = scores.union[one.of][:, at].tolist()
        rows.append(row)
    content = {
        "kind": SCORES_KIND,
        "format_version": FORMAT_VERSION,
        "teachers": list(scores.teachers) if scores else [],
        "images": rows,
    }
    lines = json.dumps(content, ensure_ascii=False, allow_nan=False).replace(
        '{"class"', '\n{"class"'
    )
    atomic_write(files.scores, (lines + "\n").encode())


def markdown(
    files: CapabilityFiles,
    samples: Sequence[Sample],
    table: CapabilityTable | None,
    facts: Mapping[str, str],
) -> str:
    """The page: how it was made, a table, what was left out, a sheet for every class.

    Args:
        facts: what -> how, in words.
    """
    counts, left = used(samples), rejects(samples)
    lines = ["# Capability of 2D teachers", ""]
    lines += [f"- {what}: {how}" for what, how in facts.items()]
    lines += ["", "Nobody labelled these images: scores are agreement with pseudo masks.", ""]
    if table is not None:
        lines += ["![Scores with their intervals](chart.png)", ""]
        lines += _table(table, counts)
    else:
        lines += ["| class | images | used |", "|---|---|---|"]
        for name, count in counts.items():
            of = sum(one.of == name for one in samples)
            lines.append(f"| {name} | {of} | {count} |")
    total = sum(sum(reasons.values()) for reasons in left.values())
    lines += ["", f"## Left out: {total} of {len(samples)} images", ""]
    for name, reasons in left.items():
        said = ", ".join(f"{reason} ({number})" for reason, number in reasons.items())
        which = " ".join(one.name for one in samples if one.of == name and one.reason)
        lines.append(f"- {name}: {said}; {which}")
    lines += ["", "## Images", ""]
    for name in counts:
        lines += [f"### {name}", "", f"![{name}](sheets/{files.folder(name)}.png)", ""]
    return "\n".join(lines)


def _table(table: CapabilityTable, counts: Mapping[str, int]) -> list[str]:
    """Mean IoU and pooled IoU with their intervals, in per cent."""
    end = f"[{table.level:.0%}]"
    heads = [f"{name}, mean {end} | pooled {end}" for name in table.teachers]
    lines = [
        f"| class | images | {' | '.join(heads)} |",
        "|---|---|" + "---|---|" * len(table.teachers),
    ]
    for column, name in enumerate(table.classes):
        cells = [
            _cell(values, ends, row, column)
            for row in range(len(table.teachers))
            for values, ends in (
                (table.scores, table.intervals),
                (table.pooled, table.pooled_intervals),
            )
        ]
        lines.append(f"| {name} | {counts.get(name, 0)} | {' | '.join(cells)} |")
    return lines


def _cell(values: Values | None, ends: Values | None, row: int, column: int) -> str:
    """A score with its interval, as far as there are any."""
    if values is None:
        return ""
    score = f"{100 * values[row, column]:.1f}"
    if ends is None:
        return score
    low, high = 100 * ends[row, column]
    return f"{score} [{low:.1f}, {high:.1f}]"
