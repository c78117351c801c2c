"""The report of a labelled bag: totals, gates, and what was bad; JSON and Markdown.

Nothing in it depends on the time, on the machine's paths or on how long anything took: the same
bag, student and settings give the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sas_ros.bags.gates import GateResult
from sas_ros.bags.records import (
    HISTOGRAM_BINS,
    BadMessage,
    CloudFigures,
    Record,
    figures_from,
)
from sas_ros.errors import SasError
from sas_ros.files import atomic_write

FORMAT_VERSION = 1
KIND = "sas_bag_label_report"
JSON_NAME, MARKDOWN_NAME = "report.json", "report.md"


@dataclass(frozen=True)
class BagReport:
    """Everything that is known after a bag was labelled.

    Attributes:
        settings: what the labels depend on, plain JSON: bag, topics, every, student and so on.
        records: a labelled cloud or a bad message each, in the order of recording.
        damaged: a sentence where the bag could not be read to its end, else empty.
        outputs: `name`, `bytes`, `sha256` of each file.
        gates: what was asked for and what came out.
    """

    settings: Mapping[str, Any]
    records: Sequence[Record]
    damaged: str = ""
    outputs: Sequence[Mapping[str, Any]] = ()
    gates: Sequence[GateResult] = field(default=())

    @property
    def clouds(self) -> list[CloudFigures]:
        """The labelled clouds."""
        return [record for record in self.records if isinstance(record, CloudFigures)]

    @property
    def bad(self) -> list[BadMessage]:
        """The messages that could not be labelled."""
        return [record for record in self.records if isinstance(record, BadMessage)]

    @property
    def passed(self) -> bool:
        """Something was labelled, the bag could be read to its end, and every gate is open."""
        return bool(self.clouds) and not self.damaged and all(gate.passed for gate in self.gates)

    def histogram(self) -> list[int]:
        """Finite points of all clouds by confidence, in 100 steps of 0.01."""
        return [sum(counts) for counts in zip(*(c.confidence for c in self.clouds), strict=True)]

    def totals(self) -> dict[str, Any]:
        """Sums over all clouds; `share` is of the finite points, `clouds` counts clouds."""
        points: Counter[str] = Counter()
        seen: Counter[str] = Counter()
        objects: Counter[str] = Counter()
        most: Counter[str] = Counter()
        for cloud in self.clouds:
            points.update(cloud.labels)
            seen.update(cloud.labels.keys())
            objects.update(cloud.objects)
            for name, count in cloud.labels.items():
                most[name] = max(most[name], count)
        finite = sum(cloud.finite_points for cloud in self.clouds)
        names = sorted(points, key=lambda name: (-points[name], name))
        return {
            "messages": len(self.records),
            "labelled": len(self.clouds),
            "bad": len(self.bad),
            "points": sum(cloud.points for cloud in self.clouds),
            "finite_points": finite,
            "labels": {
                name: {
                    "points": points[name],
                    "share": round(points[name] / max(finite, 1), 6),
                    "clouds": seen[name],
                    "most_in_one_cloud": most[name],
                    "objects": objects[name],
                }
                for name in names
            },
        }

    def to_dict(self) -> dict[str, Any]:
        """The content of `report.json` (docs/formats.md)."""
        return {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "settings": dict(self.settings),
            "passed": self.passed,
            "gates": [asdict(gate) for gate in self.gates],
            "totals": self.totals(),
            "confidence_histogram": self.histogram() or [0] * HISTOGRAM_BINS,
            "damaged": self.damaged,
            "bad": [asdict(record) for record in self.bad],
            "clouds": [asdict(record) for record in self.clouds],
            "outputs": [dict(row) for row in self.outputs],
        }

    def save(self, folder: Path) -> None:
        """Write `report.md`, and `report.json` last: it says that all else is there."""
        atomic_write(folder / MARKDOWN_NAME, self.markdown().encode())
        atomic_write(folder / JSON_NAME, (json.dumps(self.to_dict(), indent=1) + "\n").encode())

    @staticmethod
    def load(folder: Path) -> BagReport:
        """Read and validate `report.json`; gates are not read back.

        Raises:
            SasError: there is none, or it is damaged or of another version.
        """
        path = folder / JSON_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            kind, version = content["kind"], content["format_version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SasError(f"{path} is no readable report of `sas label` ({error}).") from error
        if (kind, version) != (KIND, FORMAT_VERSION):
            raise SasError(
                f"{path} is {kind!r} of format {version!r}; this version reads {KIND} of format "
                f"{FORMAT_VERSION}."
            )
        try:
            records: list[Record] = [figures_from(values) for values in content["clouds"]]
            records += [BadMessage(**values) for values in content["bad"]]
            records.sort(key=lambda record: (record.time_ns, record.topic, record.number))
            outputs = [
                {"name": str(o["name"]), "bytes": int(o["bytes"]), "sha256": str(o["sha256"])}
                for o in content["outputs"]
            ]
            return BagReport(dict(content["settings"]), records, str(content["damaged"]), outputs)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SasError(f"{path} is damaged ({error}); label the bag anew.") from error

    def markdown(self) -> str:
        """The report for people."""
        totals, settings = self.totals(), self.settings
        lines = [
            f"# {settings['bag']}, labelled by {settings['student']}",
            "",
            f"{totals['labelled']} clouds of {totals['messages']} chosen messages, "
            f"{totals['finite_points']} finite points of {totals['points']}; "
            f"topics {', '.join(settings['topics'])}, every {_ordinal(settings['every'])} message.",
            "",
        ]
        if self.damaged:
            lines += [f"**{self.damaged}** What came before was labelled.", ""]
        for sentence in settings.get("not_copied", ()):
            lines += [_plain(sentence), ""]
        if self.gates:
            lines += [f"## Gates: {'passed' if self.passed else 'FAILED'}", ""]
            lines += [f"- {'ok' if g.passed else 'FAILED'}: {g.sentence}" for g in self.gates]
            lines.append("")
        lines += [
            "## Labels",
            "",
            "Confidence is the student's own, not a measure of being right.",
            "",
            "| label | points | share | clouds | objects |",
            "|---|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {name} | {row['points']} | {100 * row['share']:.1f} % | {row['clouds']} "
            f"| {row['objects']} |"
            for name, row in totals["labels"].items()
        ]
        if self.bad:
            lines += ["", f"## {len(self.bad)} messages that were not labelled", ""]
            lines += [f"- {bad.topic} {bad.number}: {_plain(bad.reason)}" for bad in self.bad]
        return "\n".join(lines) + "\n"


def _ordinal(every: int) -> str:
    return {1: "single", 2: "second", 3: "third"}.get(every, f"{every}th")


def _plain(text: str) -> str:
    """Text from a bag on one line, without what Markdown would read as markup."""
    return "".join(c if c.isprintable() and c not in "<>[]`|*" else " " for c in text)
