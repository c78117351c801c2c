"""Parameter values: checked against the table, as one frozen object; declared on a node.

Only `declare` and `values_of` touch ROS.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from sas_ros.errors import SasError
from sas_ros.gravity import unit_up
from sas_ros.nodes.parameter_table import SPECS, ParameterSpec
from sas_ros.observation import Float64Array

if TYPE_CHECKING:
    from rclpy.node import Node


@dataclass(frozen=True)
class PerceptionParameters:
    """The checked values; names, units and defaults are those of `SPECS`."""

    student: str
    device: str
    threads: int
    votes: int
    memory_budget: int
    backend: str
    precision: str
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
    map: str
    map_frame: str
    map_voxel_size: float
    map_max_voxels: int
    map_clouds: int
    map_file: str
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
        defaults: dict[str, Any] = {spec.name: spec.default for spec in SPECS}
        complete = {**defaults, **{k: v for k, v in values.items() if k in defaults}}
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
    if values["map"] == "read" and not values["map_file"]:
        return "map is read, but map_file names no file; name one, or set map to build."
    if values["map"] != "none" and not str(values["map_frame"]).strip():
        return "map_frame must name a fixed frame such as map or odom; it is empty."
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
