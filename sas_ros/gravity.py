"""Which way is up, and the rotation that puts it along z.

The student expects metres and z up; sensors publish optical frames, tilted heads, anything. Points
are rotated before the network and never resampled; all outputs stay in the input's frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.observation import Cloud, Float64Array, Up
from sas_ros.patches import surface_patches, thin_out
from sas_ros.up_estimate import estimate_up

__all__ = [
    "canonical_yaw",
    "estimate_up",
    "resolve_up",
    "rotation_to_z_up",
    "unit_up",
    "up_from_frame_name",
]

Vector = Sequence[float] | npt.NDArray[np.floating]

_SNAP = 1e-6
"""Radians. An `up` this close to an axis is taken as the axis, so that grids stay aligned."""
_AXIS = math.radians(3.0)
"""Up estimated this close to an axis is taken as the axis."""
_LEVEL = math.radians(6.0)
"""An optical frame whose planes say up within this of -y is level: closer than planes can tell."""
_HEAD_PITCH = math.radians(60.0)
"""A camera pitched further than this is not believed: the planes are walls or furniture."""
_BODY_CONE = math.cos(math.radians(45.0))
_DOWN_CONE = math.cos(math.radians(20.0))
_CLEAR_YAW = 0.1
"""Strength in [0, 1] that the direction of walls needs, to be more than an accident."""
_YAW_WIDTHS = (15.0, 8.0, 5.0, 4.0, 4.0)
"""Degrees around the heading that count, step after step."""
_YAW_PASSES = 4
_YAW_SETTLED = math.radians(0.1)


def unit_up(up: Vector) -> Float64Array:
    """Check and normalise an up vector: (3,) float64 of length 1, exact along axes.

    Raises:
        SasError: it is not three finite numbers, or it is zero.
    """
    try:
        vector = np.asarray(up, np.float64)
    except (TypeError, ValueError):
        vector = np.zeros(0)
    length = float(np.linalg.norm(vector)) if vector.shape == (3,) else 0.0
    if not math.isfinite(length) or length < 1e-9:
        raise SasError(
            f"The up direction must be three finite numbers, not all zero, such as 0,0,1; got {up}."
        )
    vector = vector / length
    vector[np.abs(vector) < _SNAP] = 0.0
    return np.asarray(vector / np.linalg.norm(vector) + 0.0)


def rotation_to_z_up(up: Vector) -> Float64Array:
    """The rotation R (3, 3) float64 with `R @ p_source = p_up`, where p_up has z up.

    For up = +z it is the identity; for up = -y, the up of an optical frame (x right, y down, z
    forward), it is the rotation from optical to body axes (x_body = z, y_body = -x, z_body = -y).
    In between, the new x axis is the source's forward axis made horizontal: x for frames within 45
    degrees of z up (bodies, maps), z otherwise (cameras, however rolled). Straight down, where a
    camera's forward axis is vertical, x is forward again. For any up along an axis the matrix
    holds only 0, 1 and -1: it moves a grid onto itself.

    Args:
        up: (3,) up direction in the source frame, any length.

    Raises:
        SasError: as in `unit_up`.
    """
    z_axis = unit_up(up)
    as_body = z_axis[2] > _BODY_CONE or z_axis[2] < -_DOWN_CONE
    forward = np.array([1.0, 0.0, 0.0] if as_body else [0.0, 0.0, 1.0])
    x_axis = forward - z_axis * (z_axis @ forward)
    x_axis /= np.linalg.norm(x_axis)
    return np.stack([x_axis, np.cross(z_axis, x_axis), z_axis]) + 0.0


def up_from_frame_name(frame_id: str) -> Up | None:
    """Up is -y in a frame that is called optical (REP 103), and unknown in any other."""
    if "optical" in frame_id.lower():
        return Up(np.array([0.0, -1.0, 0.0]), "frame name")
    return None


def resolve_up(cloud: Cloud, parameter: Vector | None = None, tf_up: Vector | None = None) -> Up:
    """Decide which way is up, from the surest source to the least sure.

    Args:
        cloud: the cloud; its frame name and, last, its largest planes are asked.
        parameter: (3,) what the user said, or None.
        tf_up: (3,) the z axis of the inference frame in the cloud's frame at its stamp, or None.

    Returns:
        Up with source "parameter", "tf", "frame name", "frame name and planes" (an optical frame
        whose camera is pitched or rolled: the name says -y roughly, the planes say it exactly),
        "planes", or "assumed" where the cloud shows no planes; a caller should warn about the last
        two.

    Raises:
        SasError: `parameter` or `tf_up` is no direction.
    """
    if parameter is not None:
        return Up(unit_up(parameter), "parameter")
    if tf_up is not None:
        return Up(unit_up(tf_up), "tf")
    named = up_from_frame_name(cloud.header.frame_id)
    seen = estimate_up(cloud.points)
    if named is None:
        return Up(_on_axis(seen.direction), seen.source)
    angle = math.acos(float(np.clip(named.direction @ seen.direction, -1.0, 1.0)))
    if seen.source == "planes" and _LEVEL < angle < _HEAD_PITCH:
        return Up(seen.direction, "frame name and planes")
    return named


def _on_axis(direction: Float64Array) -> Float64Array:
    """The nearest axis where it is nearer than planes can tell: scans are mostly saved level, and
    the same room must not be seen half a voxel differently for an error of one degree."""
    axis = int(np.abs(direction).argmax())
    if abs(direction[axis]) < math.cos(_AXIS):
        return direction
    exact = np.zeros(3)
    exact[axis] = math.copysign(1.0, direction[axis])
    return exact


def canonical_yaw(points_up: npt.NDArray[np.floating]) -> float:
    """The heading of the walls: an angle about z that does not depend on how the sensor stood.

    Turning the points by -yaw about z lays the dominant walls along x and y. Turning the points
    by any angle changes the result by that angle, modulo 90 degrees.

    Args:
        points_up: (N, 3) metres, z up; rows that are not finite are ignored.

    Returns:
        Radians in (-pi/4, pi/4]; 0.0 where no direction of walls stands out.
    """
    points = thin_out(points_up, 40_000)
    heading = _wall_heading(points, None)
    if heading is None:
        return 0.0
    for _ in range(_YAW_PASSES):
        # The grid that patches are cut by has axes of its own. Laid along the walls, it cuts the
        # same patches however the cloud came in, so that the same heading is found again.
        aligned = points @ _turn(-heading).T
        change = _wall_heading(aligned, 0.0)
        if change is None:
            break
        heading += change
        if abs(change) < _YAW_SETTLED:
            break
    return -math.remainder(-heading, math.pi / 2)


def _wall_heading(points: Float64Array, guess: float | None) -> float | None:
    """Heading of the upright patches near `guess`, or of all (None where there is no direction)."""
    patches = surface_patches(points)
    upright = np.abs(patches.normals[:, 2]) < 0.25
    weights = patches.weights[upright]
    headings = np.arctan2(patches.normals[upright, 1], patches.normals[upright, 0])
    if guess is None:
        # Four-fold angles make the four directions of a rectangular room one.
        total = np.sum(weights * np.exp(4j * headings))
        chance = math.sqrt(float(np.sum(weights**2)))  # what patches that point anywhere give
        if abs(total) < max(_CLEAR_YAW * float(weights.sum()), 2.0 * chance):
            return None
        guess = float(np.angle(total)) / 4
    for width in _YAW_WIDTHS:  # furniture at other angles pulls the mean; the walls alone do not
        away = np.angle(np.exp(4j * (headings - guess))) / 4
        near = weights * np.exp(-0.5 * (away / math.radians(width)) ** 2)
        if not near.sum():
            return None
        guess += float(np.sum(near * away) / np.sum(near))
    return guess


def _turn(angle: float) -> Float64Array:
    """Rotation about z by `angle` radians, (3, 3)."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
