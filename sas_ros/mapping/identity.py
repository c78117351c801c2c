"""What two maps must have in common to be compared: student, voxel size and frame."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from sas_ros.errors import SasError
from sas_ros.student.bundle import StudentBundle

SMALLEST_VOXEL, LARGEST_VOXEL = 0.01, 2.0
"""Metres."""


@dataclass(frozen=True)
class MapIdentity:
    """What a map is made with.

    Attributes:
        student: name, for people.
        fingerprint: `student_fingerprint`, hexadecimal: features of two students are strangers.
        feature_dim: C, numbers of a feature.
        voxel_size: metres.
        frame: the fixed frame the map lives in, z up.
    """

    student: str
    fingerprint: str
    feature_dim: int
    voxel_size: float
    frame: str

    def __post_init__(self) -> None:
        if not SMALLEST_VOXEL <= self.voxel_size <= LARGEST_VOXEL:  # also refuses NaN
            raise SasError(
                f"A map's voxel size must lie in {SMALLEST_VOXEL:g} to {LARGEST_VOXEL:g} m, not "
                f"{self.voxel_size:g}."
            )
        if self.feature_dim < 1:
            raise SasError(f"A map needs features of 1 number or more, not {self.feature_dim}.")
        if not self.frame:
            raise SasError("A map needs the name of the fixed frame it lives in; it is empty.")

    def difference(self, other: MapIdentity) -> str | None:
        """How `other` differs, as the end of a sentence; None when both can be one map."""
        if (other.fingerprint, other.feature_dim) != (self.fingerprint, self.feature_dim):
            return (
                f"was made with the student {other.student!r} ({other.fingerprint[:12]}), and this "
                f"is {self.student!r} ({self.fingerprint[:12]}): their features cannot be compared"
            )
        if other.voxel_size != self.voxel_size:
            return f"has voxels of {other.voxel_size:g} m, and here they are {self.voxel_size:g} m"
        if other.frame != self.frame:
            return f"lives in the frame {other.frame!r}, and this one in {self.frame!r}"
        return None


def student_fingerprint(bundle: StudentBundle) -> str:
    """SHA-256 of all that a student's features depend on: network, weights, inputs, voxel size.

    Words and calibration are left out: they can change without a new map.
    """
    about = {
        "architecture": bundle.architecture,
        "inputs": list(bundle.inputs),
        "kind": bundle.kind,
        "text_encoder": bundle.text_encoder,
        "voxel_size": bundle.voxel_size,
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(bundle.weights):
        values = bundle.weights[name].detach().cpu().numpy()
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
