"""Counting and judging: what goes into /diagnostics, without ROS."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np

DROP_REASONS = (
    "busy",
    "stale",
    "layout",
    "empty",
    "up",
    "memory",
    "jump",
    "inactive",
    "error",
)
"""Why a received cloud was not processed; docs/ros_api.md explains each."""

_KEPT = 200
"""Samples per stage from which the percentiles are taken."""


class Level(IntEnum):
    """Levels of diagnostic_msgs/msg/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Status:
    """One entry of a diagnostic array."""

    name: str
    level: Level
    message: str
    values: Mapping[str, str] = field(default_factory=dict)


class Tally:
    """Counts of clouds; `received = processed + dropped + in_flight` holds at every instant."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._processed = 0
        self._dropped: Counter[str] = Counter()

    def receive(self) -> None:
        """A cloud came in."""
        with self._lock:
            self._received += 1

    def process(self) -> None:
        """A cloud became a snapshot."""
        with self._lock:
            self._processed += 1

    def drop(self, reason: str) -> None:
        """A cloud was given up; `reason` is one of `DROP_REASONS`."""
        if reason not in DROP_REASONS:
            raise ValueError(f"unknown reason {reason!r}")
        with self._lock:
            self._dropped[reason] += 1

    def snapshot(self) -> dict[str, int]:
        """Received, processed, dropped_<reason> ..., dropped, in_flight."""
        with self._lock:
            dropped = {f"dropped_{reason}": self._dropped[reason] for reason in DROP_REASONS}
            total = sum(dropped.values())
            return {
                "received": self._received,
                "processed": self._processed,
                **dropped,
                "dropped": total,
                "in_flight": self._received - self._processed - total,
            }


class Latencies:
    """The last durations of every stage, in milliseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: dict[str, deque[float]] = {}

    def add(self, stage: str, milliseconds: float) -> None:
        """Remember one duration."""
        with self._lock:
            self._samples.setdefault(stage, deque(maxlen=_KEPT)).append(milliseconds)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Remember how long the block takes, also when it raises."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, (time.perf_counter() - started) * 1e3)

    def median(self, stage: str) -> float | None:
        """Median in ms, or None before the first sample."""
        with self._lock:
            samples = list(self._samples.get(stage, ()))
        return float(np.median(samples)) if samples else None

    def values(self) -> dict[str, str]:
        """`<stage>_ms_p50` and `<stage>_ms_p95` for every stage seen so far."""
        with self._lock:
            samples = {stage: list(values) for stage, values in self._samples.items()}
        result = {}
        for stage, values in samples.items():
            p50, p95 = np.percentile(values, (50, 95))
            result[f"{stage}_ms_p50"] = f"{p50:.1f}"
            result[f"{stage}_ms_p95"] = f"{p95:.1f}"
        return result


@dataclass(frozen=True)
class InputState:
    """What is known about the subscription when a report is made.

    Attributes:
        topic: resolved name of the input.
        reliability: "reliable" or "best_effort", as the subscription is now.
        publishers: number of publishers of this topic, by reliability.
        wrong_types: types other than PointCloud2 that are published under this name.
        incompatible: how often a publisher offered an incompatible QoS.
        lost: messages the middleware reported lost.
        silent_for: seconds since the last cloud, or since activation; None while inactive.
        second_tries: how often another subscription was tried, as nothing came from a publisher.
        lost_ports: shared memory of this process that others do not find any more.
    """

    topic: str
    reliability: str
    publishers: Mapping[str, int]
    wrong_types: tuple[str, ...] = ()
    incompatible: int = 0
    lost: int = 0
    silent_for: float | None = None
    second_tries: int = 0
    lost_ports: tuple[str, ...] = ()


def input_status(state: InputState, counts: Mapping[str, int], timeout: float) -> Status:
    """Judge the input: WARN names the topic and what is missing."""
    values = {
        "topic": state.topic,
        "reliability": state.reliability,
        "publishers_reliable": str(state.publishers.get("reliable", 0)),
        "publishers_best_effort": str(state.publishers.get("best_effort", 0)),
        "qos_incompatible": str(state.incompatible),
        "messages_lost": str(state.lost),
        "second_tries": str(state.second_tries),
        **{key: str(value) for key, value in counts.items()},
    }
    if state.silent_for is None:
        return Status("input", Level.OK, "The node is not active.", values)
    values["silent_s"] = f"{state.silent_for:.1f}"
    if state.silent_for < timeout:
        dropped = {k: v for k, v in counts.items() if k.startswith("dropped_") and v}
        message = ", ".join(f"{key} {value}" for key, value in dropped.items()) or "Clouds come in."
        return Status("input", Level.OK, message, values)
    return Status("input", Level.WARN, _what_is_missing(state), values)


def _what_is_missing(state: InputState) -> str:
    since = f"No cloud on {state.topic} for {state.silent_for:.0f} s: "
    if state.wrong_types:
        return (
            since + f"it carries {', '.join(state.wrong_types)}, not sensor_msgs/msg/PointCloud2; "
            "remap the node's topic points to one that does."
        )
    best_effort = state.publishers.get("best_effort", 0)
    if not sum(state.publishers.values()):
        return (
            since + "nobody publishes it. Start the sensor or remap the node's topic points; "
            "the ROS domain id and discovery range must be the same on both sides."
        )
    if state.lost_ports:
        return (
            since + f"there is a publisher, but {', '.join(state.lost_ports)}, the shared memory "
            "of this process, was removed, so that nobody who came later reaches it. Start the "
            "node again."
        )
    if best_effort and state.reliability == "reliable":
        return (
            since + "its publisher is best effort and this subscription is reliable, so they do "
            "not match. Set points_reliability to auto or best_effort."
        )
    if best_effort or state.reliability == "best_effort":
        return (
            since + "there is a publisher, but nothing arrives. Large best-effort clouds get lost "
            "unless the publisher's process uses the large-cloud profile "
            "(FASTDDS_DEFAULT_PROFILES_FILE=fastdds_large_clouds.xml)."
        )
    return since + "there is a publisher, but it sends nothing."


def resident_megabytes() -> float:
    """Resident memory of this process in MiB (Linux); NaN where it cannot be told."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return float(line.split()[1]) / 1024.0
    except (OSError, ValueError, IndexError):
        pass
    return float("nan")
