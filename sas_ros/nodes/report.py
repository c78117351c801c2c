"""One diagnostic report: gathers what the parts of the node know into statuses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sas_ros.nodes.diagnostics import (
    InputState,
    Latencies,
    Level,
    Status,
    input_status,
    resident_megabytes,
)
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.shared import Shared
from sas_ros.nodes.snapshot import Memory
from sas_ros.observation import Up


@dataclass(frozen=True)
class NodeState:
    """What only the node itself knows when a report is made.

    Attributes:
        lifecycle: label of the lifecycle state.
        student, device, text_encoder: names, or "none".
        engine: sentence on how the network is run.
        text_waiting: requests that wait for the text encoder.
        busy_for: seconds since the cloud in work was begun; 0 when there is none.
        worker_restarts: how often the worker thread had to be started again.
        up: the direction used last, or None.
        transport: sentence about the middleware profile.
    """

    lifecycle: str
    student: str = "none"
    device: str = "none"
    engine: str = "none"
    text_encoder: str = "none"
    text_waiting: int = 0
    busy_for: float = 0.0
    worker_restarts: int = 0
    up: Up | None = None
    transport: str = ""


def make_report(
    state: NodeState,
    source: InputState,
    shared: Shared,
) -> list[Status]:
    """The statuses of /diagnostics, see docs/ros_api.md for every key."""
    parameters = shared.parameters()
    return [
        input_status(source, shared.tally.snapshot(), parameters.input_timeout),
        _student(state, shared.latencies, parameters),
        _gravity(state.up),
        _words(state, shared.memory),
    ]


def _student(state: NodeState, latencies: Latencies, parameters: PerceptionParameters) -> Status:
    level, message = Level.OK, f"{state.lifecycle}: {state.student} on {state.device}."
    median = latencies.median("total")
    if state.lifecycle != "active":
        level, message = Level.WARN, f"The node is {state.lifecycle}, not active."
    elif state.worker_restarts:
        level, message = Level.ERROR, "The worker thread died and was started again; see the log."
    elif state.busy_for > max(5.0 * parameters.latency_limit, 10.0):
        level = Level.WARN
        message = f"One cloud has been in work for {state.busy_for:.0f} s; crop or thin the clouds."
    elif median is not None and median > parameters.latency_limit * 1e3:
        level = Level.WARN
        message = (
            f"A cloud takes {median / 1e3:.1f} s (median), above latency_limit "
            f"{parameters.latency_limit:g} s; crop or thin the cloud, or use a faster device."
        )
    values: dict[str, str] = {
        "lifecycle": state.lifecycle,
        "student": state.student,
        "device": state.device,
        "engine": state.engine,
        "busy_s": f"{state.busy_for:.1f}",
        "worker_restarts": str(state.worker_restarts),
        "memory_rss_mb": f"{resident_megabytes():.0f}",
        **_gpu_memory(state.device),
        **latencies.values(),
        "transport": state.transport,
    }
    return Status("student", level, message, values)


def _gpu_memory(device: str) -> Mapping[str, str]:
    if not device.startswith("cuda"):
        return {}
    import torch

    return {"memory_gpu_mb": f"{torch.cuda.memory_allocated() / 2**20:.0f}"}


def _gravity(up: Up | None) -> Status:
    if up is None:
        return Status("gravity", Level.OK, "No cloud yet.", {"up_source": "none"})
    x, y, z = (float(value) for value in up.direction)
    angle = math.degrees(math.acos(float(np.clip(z, -1.0, 1.0))))
    values = {
        "up_source": up.source,
        "up": f"{x:.4f},{y:.4f},{z:.4f}",
        "angle_to_z_deg": f"{angle:.1f}",
    }
    if up.source in ("planes", "assumed"):
        return Status(
            "gravity",
            Level.WARN,
            f"Up is not known but {'estimated' if up.source == 'planes' else 'assumed'}; set the "
            "parameter up or inference_frame.",
            values,
        )
    return Status("gravity", Level.OK, f"Up comes from the {up.source}.", values)


def _words(state: NodeState, memory: Memory) -> Status:
    vocabulary, target, snapshot = memory.vocabulary, memory.target, memory.snapshot
    values = {
        "label_version": str(vocabulary.version if vocabulary is not None else 0),
        "labels": str(len(vocabulary) if vocabulary is not None else 0),
        "text_encoder": state.text_encoder,
        "text_waiting": str(state.text_waiting),
        "target": target.query.text if target is not None else "",
        "snapshots": str(snapshot.number if snapshot is not None else 0),
    }
    encoder = state.text_encoder
    message = f"New text goes to {encoder}." if encoder != "none" else "Known words only."
    return Status("words", Level.OK, message, values)
