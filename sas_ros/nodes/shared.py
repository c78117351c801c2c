"""What the parts of the node share: one object instead of six arguments each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sas_ros.nodes.diagnostics import Latencies, Tally
from sas_ros.nodes.log import Log
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.snapshot import Memory


@dataclass(frozen=True, eq=False)
class Shared:
    """Used by the executor thread and by the worker; every part is safe for both.

    Attributes:
        parameters: gives the values in force now.
        now: node clock in seconds; None while simulated time has not started.
        log: for the operator.
        memory: snapshot, target and vocabulary.
        tally: counts of clouds.
        latencies: durations of stages.
    """

    parameters: Callable[[], PerceptionParameters]
    now: Callable[[], float | None]
    log: Log
    memory: Memory = field(default_factory=Memory)
    tally: Tally = field(default_factory=Tally)
    latencies: Latencies = field(default_factory=Latencies)
