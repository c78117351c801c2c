"""The node's parameters in one typed table: what is declared, checked, documented and used.

The table and the checks know no ROS; `declare` and `refusal_of` bring them to a node.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from sas_ros.errors import SasError
from sas_ros.gravity import unit_up
from sas_ros.observation import Float64Array

if TYPE_CHECKING:
    from rclpy.node import Node

Value = bool | int | float | str | list[str]


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter: the type is that of `default`; `low` and `high` are inclusive.

    A `fixed` parameter is read by `configure`; changing it needs a `cleanup` first.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    fixed: bool = False

    @property
    def kind(self) -> str:
        """The type as ROS names it: bool, integer, double, string or string array."""
        names = {bool: "bool", int: "integer", float: "double", str: "string", list: "string array"}
        return names[type(self.default)]

    @property
    def limits(self) -> str:
        """The range or the choices in words; empty where anything of the type goes."""
        if self.choices:
            return ", ".join(self.choices)
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return ""


SPECS: tuple[ParameterSpec, ...] = (
    ParameterSpec(
        "student",
        "indoor-tiny",
        "Name of a shipped student, or the path of a student bundle (.safetensors).",
        fixed=True,
    ),
    ParameterSpec(
        "device",
        "auto",
        "Where the student runs; auto takes a CUDA GPU when there is one.",
        choices=("auto", "cpu", "cuda"),
        fixed=True,
    ),
    ParameterSpec(
        "threads",
        0,
        "CPU threads of the student; 0 leaves the choice to PyTorch.",
        low=0,
        high=256,
        fixed=True,
    ),
    ParameterSpec(
        "votes",
        1,
        "Symmetric views of each cloud whose features are averaged (1, 2, 4 or 8): "
        "more is steadier and slower in proportion.",
        low=1,
        high=8,
        fixed=True,
    ),
    ParameterSpec(
        "autostart",
        True,
        "Configure and activate at start; false waits for a lifecycle manager.",
        fixed=True,
    ),
    ParameterSpec(
        "labels",
        [""],
        "Vocabulary to start with; [''] takes the student's own. "
        "Later changes go through the set_vocabulary service.",
        fixed=True,
    ),
    ParameterSpec(
        "text_encoder",
        "auto",
        "Embeds text that is not in the vocabulary: auto takes the student's own encoder when it "
        "is installed, none works with known words only, anything else names an encoder.",
        fixed=True,
    ),
    ParameterSpec(
        "text_weights",
        "",
        "Local weights of the text encoder, for encoders that need a file; empty otherwise.",
        fixed=True,
    ),
    ParameterSpec(
        "text_queue",
        8,
        "Requests with new text that may wait for the text encoder; one more answers BUSY.",
        low=1,
        high=1024,
        fixed=True,
    ),
    ParameterSpec(
        "text_timeout",
        5.0,
        "Seconds a request waits for the text encoder before it answers BUSY.",
        low=0.01,
        high=600.0,
    ),
    ParameterSpec(
        "up",
        "",
        "Gravity's opposite in the cloud's frame as x,y,z (need not be unit); empty works it out "
        "from TF, the frame's name or the largest horizontal planes, in this order.",
    ),
    ParameterSpec(
        "inference_frame",
        "",
        "A frame whose z axis is up, such as base_link or odom: up then comes from TF at the "
        "cloud's stamp (needs tf2_ros). Empty does not ask TF.",
        fixed=True,
    ),
    ParameterSpec(
        "tf_timeout",
        0.2,
        "Seconds a cloud waits for its transform to inference_frame before it is dropped.",
        low=0.0,
        high=10.0,
    ),
    ParameterSpec(
        "points_reliability",
        "auto",
        "Reliability of the subscription to points: auto is reliable when every matched "
        "publisher is reliable, otherwise best effort.",
        choices=("auto", "reliable", "best_effort"),
    ),
    ParameterSpec(
        "max_age",
        0.0,
        "Drop clouds whose stamp is older than this many seconds; 0 takes them all.",
        low=0.0,
        high=86400.0,
    ),
    ParameterSpec(
        "max_rate",
        0.0,
        "Clouds processed per second at most; 0 processes as fast as the device allows.",
        low=0.0,
        high=1000.0,
    ),
    ParameterSpec(
        "threshold",
        0.0,
        "Probability that a point needs to belong to an answer when the request names none; "
        "0 takes the value the student was calibrated to.",
        low=0.0,
        high=1.0,
    ),
    ParameterSpec(
        "max_instances",
        10,
        "Instances in an answer when the request names no number.",
        low=1,
        high=1000,
    ),
    ParameterSpec(
        "min_points",
        20,
        "Points below which a group of points is not an instance.",
        low=1,
        high=1000000,
    ),
    ParameterSpec(
        "max_points",
        500000,
        "Points and indices in one answer at most; the message says when something was cut.",
        low=1,
        high=100000000,
    ),
    ParameterSpec(
        "target_ttl",
        30.0,
        "Seconds without finding the held target again after which it is let go; 0 never does.",
        low=0.0,
        high=86400.0,
    ),
    ParameterSpec(
        "stamp_tolerance",
        10.0,
        "Warn once when a stamp is further than this many seconds from the node's clock.",
        low=0.0,
        high=86400.0,
    ),
    ParameterSpec(
        "backward_jump",
        1.0,
        "Stamps that go back by more than this many seconds start anew: snapshot and target "
        "are cleared.",
        low=0.0,
        high=86400.0,
    ),
    ParameterSpec(
        "input_timeout",
        5.0,
        "Seconds without a cloud after which diagnostics warn and say what is missing.",
        low=0.1,
        high=86400.0,
    ),
    ParameterSpec(
        "latency_limit",
        2.0,
        "Seconds from cloud to labels (median) above which diagnostics warn.",
        low=0.01,
        high=600.0,
    ),
)


@dataclass(frozen=True)
class PerceptionParameters:
    """The checked values; names, units and defaults are those of `SPECS`."""

    student: str
    device: str
    threads: int
    votes: int
    autostart: bool
    labels: tuple[str, ...]
    text_encoder: str
    text_weights: str
    text_queue: int
    text_timeout: float
    up: str
    inference_frame: str
    tf_timeout: float
    points_reliability: str
    max_age: float
    max_rate: float
    threshold: float
    max_instances: int
    min_points: int
    max_points: int
    target_ttl: float
    stamp_tolerance: float
    backward_jump: float
    input_timeout: float
    latency_limit: float

    @property
    def up_direction(self) -> Float64Array | None:
        """(3,) float64 unit vector, or None where up is worked out."""
        return parse_up(self.up)

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> PerceptionParameters:
        """Build from a value per name (missing names take their default).

        Raises:
            SasError: what is wrong with the first bad value, and what would be right.
        """
        complete: dict[str, Any] = {spec.name: values.get(spec.name, spec.default) for spec in SPECS}
        reason = first_problem(complete)
        if reason:
            raise SasError(reason)
        complete["labels"] = tuple(label for label in complete["labels"] if label)
        return cls(**{item.name: complete[item.name] for item in fields(cls)})


def parse_up(text: str) -> Float64Array | None:
    """Read `x,y,z` as a (3,) float64 unit vector; None for empty text.

    Raises:
        SasError: the text is not three finite numbers or has no direction.
    """
    if not text.strip():
        return None
    try:
        numbers = [float(part) for part in text.strip(" []()").split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3:
        raise SasError(f"up must be three numbers such as 0,-1,0, not {text!r}.")
    return unit_up(np.array(numbers))


def first_problem(values: Mapping[str, object]) -> str | None:
    """A sentence about the first bad value or combination; None when all are fine."""
    for spec in SPECS:
        reason = _problem_of(spec, values[spec.name])
        if reason:
            return reason
    if values["votes"] not in (1, 2, 4, 8):
        return f"votes must be 1, 2, 4 or 8, not {values['votes']}."
    try:
        parse_up(str(values["up"]))
    except SasError as error:
        return str(error)
    if values["text_weights"] and values["text_encoder"] == "none":
        return "text_weights names a file but text_encoder is none; give one or the other."
    labels = [str(label).strip().casefold() for label in _as_list(values["labels"]) if label]
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        return f"labels repeats {', '.join(repeated)}; give every label once."
    return None


def _problem_of(spec: ParameterSpec, value: object) -> str | None:
    expected = type(spec.default)
    if expected is list:
        if not all(isinstance(item, str) for item in _as_list(value)):
            return f"{spec.name} must be a list of strings."
        return None
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return f"{spec.name} must be a double: write {value}.0."
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        return f"{spec.name} must be a {spec.kind}, not {value!r}."
    if isinstance(value, float) and not math.isfinite(value):
        return f"{spec.name} must be a finite number."
    if spec.choices and value not in spec.choices:
        return f"{spec.name} must be one of {', '.join(spec.choices)}, not {value!r}."
    if isinstance(value, (int, float)) and spec.low is not None and spec.high is not None:
        if not spec.low <= value <= spec.high:
            return f"{spec.name} must lie in {spec.limits}, not {value:g}."
    return None


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def fixed_change(
    current: Mapping[str, object], proposed: Mapping[str, object], *, configured: bool
) -> str | None:
    """A sentence when `proposed` changes a fixed parameter of a configured node, else None."""
    if not configured:
        return None
    for spec in SPECS:
        if not spec.fixed or spec.name not in proposed:
            continue
        if _as_list(proposed[spec.name]) != _as_list(current[spec.name]):
            extra = " or call set_vocabulary" if spec.name == "labels" else ""
            return (
                f"{spec.name} is read when the node is configured; "
                f"run the lifecycle cleanup first, then set it and configure again{extra}."
            )
    return None


def declare(node: Node) -> None:
    """Declare the whole table on an rclpy node, with descriptions, ranges and choices."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    for spec in SPECS:
        descriptor = ParameterDescriptor(
            description=spec.description,
            additional_constraints=f"one of {spec.limits}" if spec.choices else "",
        )
        if spec.low is not None and spec.high is not None:
            if isinstance(spec.default, int):
                bounds = IntegerRange(from_value=int(spec.low), to_value=int(spec.high), step=1)
                descriptor.integer_range = [bounds]
            else:
                limits = FloatingPointRange(from_value=spec.low, to_value=spec.high, step=0.0)
                descriptor.floating_point_range = [limits]
        node.declare_parameter(spec.name, spec.default, descriptor)


def values_of(node: Node) -> dict[str, object]:
    """The node's current value of every parameter of the table."""
    return {spec.name: node.get_parameter(spec.name).value for spec in SPECS}


def markdown_table() -> str:
    """The table of docs/ros_api.md: name, type, default, range or choices, description."""
    rows = ["| parameter | type | default | range | when | meaning |", "|---|---|---|---|---|---|"]
    for spec in SPECS:
        default = "" if spec.default in ("", [""]) else str(spec.default).lower()
        if isinstance(spec.default, str):
            default = spec.default
        when = "configure" if spec.fixed else "any time"
        rows.append(
            f"| `{spec.name}` | {spec.kind} | {f'`{default}`' if default else 'empty'} "
            f"| {spec.limits} | {when} | {spec.description} |"
        )
    return "\n".join(rows)
