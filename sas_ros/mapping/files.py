"""A map on disk: ONE `.safetensors` file, whole or absent, checked when it is read.

Layout (format version 1, docs/formats.md): the columns of the voxels, sorted by coordinates, and
one metadata entry `sas_map` holding JSON. The same map gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_ros.mapping.columns import LOW, POINTS, REACH, VoxelColumns, pack
from sas_ros.mapping.identity import MapIdentity
from sas_ros.mapping.observe import check_pose
from sas_ros.mapping.voxel_map import CLOUD_CAP, MapState, VoxelMap
from sas_ros.observation import Float32Array, Float64Array

FORMAT_VERSION = 1
SUFFIX = ".map.safetensors"
_METADATA_KEY = "sas_map"
_MOST = 2**31 - 1


def save_map(state: MapState, path: Path) -> None:
    """Write a map atomically; a process that is killed meanwhile leaves the old file.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    order = np.argsort(state.columns.keys)
    columns = state.columns.rows(order)
    tensors = {
        "voxel": columns.coordinates,
        "agreement": columns.agreement,
        "shape": columns.shape,
        "color": columns.colors,
        "colored": columns.colored,
        "count": columns.counts,
        "last_seen": columns.last_seen,
    }
    held = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in tensors.items()}
    held["feature"] = columns.features.to(torch.float16).contiguous()
    identity = state.identity
    metadata = {
        "format_version": FORMAT_VERSION,
        "student": identity.student,
        "student_fingerprint": identity.fingerprint,
        "feature_dim": identity.feature_dim,
        "voxel_size": identity.voxel_size,
        "frame": identity.frame,
        "voxels": len(columns),
        "version": state.version,
        "clouds": state.clouds,
        "let_go": state.let_go,
        "stamp_ns": state.stamp_ns,
        "viewpoint": [float(value) for value in state.viewpoint.reshape(-1)],
    }
    with atomic_path(Path(path)) as temporary:
        try:
            save_file(held, temporary, {_METADATA_KEY: json.dumps(metadata, sort_keys=True)})
        except SafetensorError as error:  # how it tells of a full disk
            raise OSError(str(error)) from error


def load_map(path: Path, expected: MapIdentity | None = None) -> MapState:
    """Read and validate a map.

    Args:
        expected: student, voxel size and frame it must have; None takes any.

    Raises:
        SasError: no such file, no map, damaged, of another version, or not the expected one.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise SasError(f"There is no map at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            raw = (file.metadata() or {}).get(_METADATA_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()} if raw else {}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise SasError(
            f"{path} is no readable safetensors file ({error}); it may be cut off: take another "
            "copy, or let the robot make a new map."
        ) from error
    if raw is None:
        raise SasError(f"{path} is not a map; the service save_map of the node writes those.")
    try:
        state = _state(raw, tensors)
    except _Damaged as error:
        raise SasError(
            f"The map {path} is damaged: {error} Take another copy, or make a new map."
        ) from error
    except SasError as error:
        raise SasError(f"{path}: {error}") from error
    reason = expected.difference(state.identity) if expected is not None else None
    if reason:
        raise SasError(
            f"The map {path} {reason}. Name another file, or put the settings back that it was "
            "made with."
        )
    return state


def merge_maps(states: Sequence[MapState], *, cap: int = CLOUD_CAP) -> MapState:
    """One map of all clouds of several: the order matters only beyond `cap` clouds of a voxel.

    Raises SasError when there is none, or student, voxel size or frame differ.
    """
    if not states:
        raise SasError("There is no map to merge.")
    room = sum(len(state) for state in states)
    merged = VoxelMap(states[0], max_voxels=max(room, 1), cap=cap)
    for state in states[1:]:
        merged.merge(state)
    return merged.state


class _Damaged(Exception):
    """What is wrong inside a file, as a sentence."""


def _state(raw: str, tensors: dict[str, torch.Tensor]) -> MapState:
    try:
        metadata = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _Damaged(f"its description is not JSON ({error}).") from error
    if not isinstance(metadata, dict):
        raise _Damaged("its description is not a JSON object.")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise SasError(
            f"it has map format {version!r}; this version reads {FORMAT_VERSION}. Update sas_ros, "
            "or make a new map."
        )

    def whole(key: str, low: int, high: int) -> int:
        value = metadata.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _Damaged(f"the entry {key!r} is missing or no number from {low} to {high}.")
        return value

    def text(key: str) -> str:
        value = metadata.get(key)
        if not isinstance(value, str):
            raise _Damaged(f"the entry {key!r} is missing or no text.")
        return value

    size = metadata.get("voxel_size")
    # Whole numbers of JSON may be too large for a float.
    if not isinstance(size, (int, float)) or isinstance(size, bool) or abs(size) > 1e300:
        raise _Damaged("the entry 'voxel_size' is missing or no number.")
    identity = MapIdentity(
        text("student"), text("student_fingerprint"), whole("feature_dim", 1, 2**20), float(size),
        text("frame"),
    )  # fmt: skip
    viewpoint = _viewpoint(metadata.get("viewpoint"))
    columns = _columns(tensors, whole("voxels", 0, _MOST), identity)
    return MapState(
        identity=identity,
        columns=columns,
        version=whole("version", 1, _MOST),
        clouds=whole("clouds", 0, _MOST),
        let_go=whole("let_go", 0, 2**62),
        stamp_ns=whole("stamp_ns", 0, 2**63 - 1),
        viewpoint=viewpoint,
    )


def _viewpoint(values: object) -> Float64Array:
    try:
        pose = np.array(values, dtype=np.float64).reshape(4, 4)
        check_pose(pose)
    except (SasError, TypeError, ValueError, OverflowError) as error:
        raise _Damaged("the entry 'viewpoint' is no pose of 16 numbers.") from error
    return pose


def _columns(tensors: dict[str, torch.Tensor], rows: int, identity: MapIdentity) -> VoxelColumns:
    """Check shapes, types and values of every tensor."""
    wanted: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "voxel": ((rows, 3), torch.int32),
        "feature": ((rows, identity.feature_dim), torch.float16),
        "agreement": ((rows,), torch.float32),
        "shape": ((rows, 10), torch.float32),
        "color": ((rows, 3), torch.float32),
        "colored": ((rows,), torch.int32),
        "count": ((rows,), torch.int32),
        "last_seen": ((rows,), torch.int64),
    }
    for name, (shape, dtype) in wanted.items():
        given = tensors.get(name)
        if given is None:
            raise _Damaged(f"it lacks the tensor {name!r}.")
        if tuple(given.shape) != shape or given.dtype != dtype:
            raise _Damaged(
                f"the tensor {name!r} is {tuple(given.shape)} {given.dtype}, not {shape} {dtype}."
            )
    plain: dict[str, Any] = {
        name: np.array(tensors[name].numpy()) for name in wanted if name != "feature"
    }
    feature = tensors["feature"]
    lengths = torch.linalg.vector_norm(feature, dim=1, dtype=torch.float32)
    unit = (lengths - 1).abs() < 0.01
    within = identity.voxel_size * 1.001
    shape = plain["shape"]
    for good, sentence in (
        (bool((unit | (lengths == 0)).all()), "a feature is no unit vector."),
        ((np.abs(plain["voxel"]) < REACH).all(), "a voxel lies beyond the map's reach."),
        (_between(plain["agreement"], 0, 1.01), "an agreement is not between 0 and 1."),
        (_between(shape[:, LOW.start - 3 : POINTS], 0, within), "a point lies outside its voxel."),
        (_between(shape[:, POINTS], 0, 1e9), "a voxel has no number of points."),
        (_between(plain["color"], 0, 255), "a colour is not between 0 and 255."),
        ((plain["colored"] >= 0).all() and (plain["count"] >= 1).all(), "a count is negative."),
        ((plain["last_seen"] >= 0).all(), "a voxel was seen before the epoch."),
    ):
        if not good:
            raise _Damaged(sentence)
    keys = pack(plain["voxel"])
    if len(keys) > 1 and not (np.diff(keys) > 0).all():
        raise _Damaged("its voxels are not sorted, or one is there twice.")
    return VoxelColumns(
        keys, feature, plain["agreement"], shape, plain["color"], plain["colored"],
        plain["count"], plain["last_seen"],
    )  # fmt: skip


def _between(values: Float32Array, low: float, high: float) -> bool:
    """Whether all values lie in [low, high]; NaN does not."""
    return bool(((values >= low) & (values <= high)).all())
