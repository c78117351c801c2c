"""What the doctor says: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sas_ros.doctor.facts import Facts
from sas_ros.doctor.rules import Finding, Severity

_MARKS = {Severity.ERROR: "ERROR", Severity.WARN: "warning", Severity.INFO: "note"}


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether there is no error among them."""
    return not any(finding.severity == Severity.ERROR for finding in findings)


def as_json(facts: Facts, findings: Sequence[Finding]) -> dict[str, Any]:
    """Findings and facts as plain JSON types; keys are documented in docs/formats.md and stable."""
    return {
        "healthy": healthy(findings),
        "findings": [
            {
                "code": finding.code,
                "severity": finding.severity.value,
                "sentence": finding.sentence,
                "remedy": finding.remedy,
            }
            for finding in findings
        ],
        "facts": asdict(facts),
    }


def as_text(facts: Facts, findings: Sequence[Finding]) -> str:
    """Findings for people: what is the matter, and below it what to do."""
    lines = [_summary(facts)]
    for finding in findings:
        lines += ["", f"{_MARKS[finding.severity]}: {finding.sentence}", f"  -> {finding.remedy}"]
    if healthy(findings):
        lines += ["", "Nothing was found that keeps results from coming out."]
    return "\n".join(lines)


def _summary(facts: Facts) -> str:
    graph = facts.graph
    if graph is None:
        return "The graph could not be looked at."
    node = graph.node
    if node is None:
        return f"Looked at {graph.namespace} for {graph.seconds:g} s."
    counts = (
        f"{node.gained.get('received', 0)} clouds received and {node.gained.get('processed', 0)} "
        "processed meanwhile"
        if node.counts
        else "no report from it"
    )
    return (
        f"Looked at {node.name} ({node.state or 'no answer'}) for {graph.seconds:g} s: {counts}; "
        f"input {node.input_topic}, {len(graph.publishers)} publishers."
    )
