"""The node's parameters in one typed table: what is declared, checked, documented and used."""

from __future__ import annotations

from dataclasses import dataclass

from sas_ros.mapping.voxel_map import CLOUD_CAP, MAX_VOXELS
from sas_ros.query import MAX_INSTANCES, MIN_POINTS

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
        "memory_budget",
        0,
        "Memory in MiB for one pass of the network; 0 takes 2048, or half of what is free "
        "where that is less. "
        "Larger clouds go through it in overlapping tiles.",
        low=0,
        high=1000000,
        fixed=True,
    ),
    ParameterSpec(
        "backend",
        "auto",
        "Library for sparse convolution: native (PyTorch alone) or minkowski (MinkowskiEngine); "
        "auto measures where both can be used, and prefers native.",
        choices=("auto", "native", "minkowski"),
        fixed=True,
    ),
    ParameterSpec(
        "precision",
        "auto",
        "Numbers of the network: float32; bfloat16, for CPUs with instructions for it; float16, "
        "for GPUs, where auto takes it.",
        choices=("auto", "float32", "bfloat16", "float16"),
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
        "Seconds a cloud waits for its transform to inference_frame before it is dropped, and for "
        "that to map_frame before it is left out of the map.",
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
        MAX_INSTANCES,
        "Instances in an answer when the request names no number; ten times as many on the topic.",
        low=1,
        high=1000,
    ),
    ParameterSpec(
        "min_points",
        MIN_POINTS,
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
        "map",
        "none",
        "Map for queries with source SOURCE_MAP: build makes it from the clouds, beginning with "
        "map_file where that exists; read only answers from map_file.",
        choices=("none", "build", "read"),
        fixed=True,
    ),
    ParameterSpec(
        "map_frame",
        "map",
        "Fixed frame of the map, z up. Clouds in other frames need TF (tf2_ros) at their stamps.",
        fixed=True,
    ),
    ParameterSpec(
        "map_voxel_size",
        0.0,
        "Edge of the map's voxels in metres; 0 takes the student's.",
        low=0.0,
        high=2.0,
        fixed=True,
    ),
    ParameterSpec(
        "map_max_voxels",
        MAX_VOXELS,
        "Voxels of the map at most; those seen longest ago are let go, the farthest first.",
        low=1000,
        high=10000000,
        fixed=True,
    ),
    ParameterSpec(
        "map_clouds",
        CLOUD_CAP,
        "Clouds that the mean of a voxel remembers: after so many, older ones fade.",
        low=1,
        high=10000,
        fixed=True,
    ),
    ParameterSpec(
        "map_file",
        "",
        "File of the map (.map.safetensors): read by configure, written by the service save_map; "
        "empty keeps the map in memory only.",
        fixed=True,
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
