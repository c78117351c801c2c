"""Frames of a question and its answer: the region goes into the source's frame, poses out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sas_ros.boxes import quaternion_xyzw, rotation_matrix
from sas_ros.errors import SasError
from sas_ros.instances import ObjectInstance
from sas_ros.observation import Float64Array, SourceHeader
from sas_ros.query import RegionOfInterest, TextQuery

Between = Callable[[str, str, int], Float64Array]
"""(target, source, stamp in ns, 0: the newest) -> (4, 4) from source to target; SasError says why
not."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A question in the source's frame, and where its answer belongs.

    Attributes:
        query: with the region in the source's frame.
        frame: of the poses in the answer.
        pose: (4, 4) from the source's frame to `frame`; None when they are the same.
    """

    query: TextQuery
    frame: str
    pose: Float64Array | None = None


def place(
    request: Any, query: TextQuery, source: SourceHeader, between: Between, *, stays: bool = False
) -> Placed:
    """Bring a sas_msgs/srv/Query request and the source it asks together.

    Args:
        source: header of what is asked.
        between: asks TF; at the source's stamp, because its frame may move with the robot.
        stays: the source is a map, whose frame does not move and whose stamp may be older than all
            that TF remembers: the newest transform is asked for (stamp 0), for a region that at
            the stamp of `roi_pose` where it has one.

    Raises:
        SasError: a frame cannot be transformed, or a held target's region would have to be.
    """
    frame, pose = source.frame_id, None
    stamp_ns = 0 if stays else source.stamp_ns
    if request.target_frame and request.target_frame != source.frame_id:
        frame = request.target_frame
        pose = _named("target_frame", between, frame, source.frame_id, stamp_ns)
    region = request.roi_pose.header.frame_id if request.roi_enabled else ""
    if region and region != source.frame_id and query.roi is not None:
        if request.set_target:
            raise SasError(
                f"roi_pose is given in {region!r}; the region of a held target goes with the "
                f"clouds: give it in their frame, {source.frame_id!r}."
            )
        if stays:
            given = request.roi_pose.header.stamp
            stamp_ns = given.sec * 10**9 + given.nanosec
        move = _named("roi_pose", between, source.frame_id, region, stamp_ns)
        query = replace(query, roi=_moved(query.roi, move))
    return Placed(query, frame, pose)


def moved_instance(item: ObjectInstance, pose: Float64Array | None) -> ObjectInstance:
    """An object with box and centroid in another frame; `pose` (4, 4) or None for the same."""
    if pose is None:
        return item
    turn, shift = pose[:3, :3], pose[:3, 3]
    axes = rotation_matrix(tuple(float(value) for value in item.orientation))
    return replace(
        item,
        center=turn @ item.center + shift,
        centroid=turn @ item.centroid + shift,
        orientation=quaternion_xyzw(turn @ axes),
    )


def _moved(roi: RegionOfInterest, pose: Float64Array) -> RegionOfInterest:
    turn = pose[:3, :3]
    return RegionOfInterest(
        np.asarray(turn @ roi.center + pose[:3, 3]), np.asarray(turn @ roi.rotation), roi.size
    )


def _named(what: str, between: Between, target: str, source: str, stamp_ns: int) -> Float64Array:
    try:
        return between(target, source, stamp_ns)
    except SasError as error:
        raise SasError(f"{what}: {error}") from error
