"""Building every message that the node sends; numpy scalars become Python numbers here.

rclpy does not check field types by default and a wrong one ends the process at publishing, hence
the explicit `float`, `int` and `str` everywhere.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from sas_msgs.msg import Instance, InstanceArray, LabelInfo, Timing
from sas_msgs.srv import Query
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header

from sas_ros.boxes import quaternion_xyzw
from sas_ros.clouds import stamp_fields, write_labelled_cloud, write_subset
from sas_ros.instances import ObjectInstance
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.mapping import MapView
from sas_ros.nodes.diagnostics import Status
from sas_ros.nodes.placing import Placed, moved_instance
from sas_ros.nodes.results import PointLabels
from sas_ros.nodes.snapshot import Snapshot
from sas_ros.observation import Cloud, Float64Array, SourceHeader
from sas_ros.query import QueryAnswer, QueryStatus

_UNLABELLED_COLOR = 40
"""Grey level of unlabelled points in `visualization`."""


def time_message(nanoseconds: int) -> Time:
    """A stamp from nanoseconds since the epoch of its clock."""
    seconds, rest = stamp_fields(nanoseconds)
    return Time(sec=seconds, nanosec=rest)


def header_message(header: SourceHeader) -> Header:
    """The header of the source cloud, unchanged."""
    return Header(stamp=time_message(header.stamp_ns), frame_id=str(header.frame_id))


def labelled_message(cloud: Cloud, labels: PointLabels) -> PointCloud2:
    """`labeled_points`: the input's points in its own colours, with label, confidence, instance."""
    return _labelled(cloud, labels, None)


def visual_message(cloud: Cloud, labels: PointLabels, colors: npt.NDArray[np.uint8]) -> PointCloud2:
    """`visualization`: the same in class colours ((K, 3) uint8), unlabelled points dark grey."""
    count = len(colors)
    palette = np.concatenate([colors, np.full((1, 3), _UNLABELLED_COLOR, np.uint8)])
    return _labelled(cloud, labels, palette[np.minimum(labels.label, count)])


def _labelled(cloud: Cloud, labels: PointLabels, rgb: npt.NDArray[np.uint8] | None) -> PointCloud2:
    message: PointCloud2 = write_labelled_cloud(
        PointCloud2,
        PointField,
        cloud.header,
        cloud,
        rgb=rgb,
        label=labels.label,
        confidence=labels.confidence,
        instance=labels.instance,
    )
    return message


def subset_message(
    cloud: Cloud, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.integer]
) -> PointCloud2:
    """Chosen points (a mask, or indices) as adjacent float32 x, y, z and rgb, in the same frame."""
    message: PointCloud2 = write_subset(PointCloud2, PointField, cloud.header, cloud, chosen)
    return message


def instance_message(
    instance: ObjectInstance, header: SourceHeader, indices: npt.NDArray[np.uint32] | None
) -> Instance:
    """One object; `indices` None leaves them out."""
    stamped = header_message(header)
    qx, qy, qz, qw = (float(value) for value in instance.orientation)
    message = Instance(
        header=stamped,
        id=-1,
        label=str(instance.label),
        score=float(instance.score),
        pose=Pose(
            position=point_message(instance.center), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw)
        ),
        size=_vector(instance.size),
        centroid=point_message(instance.centroid),
        num_points=len(instance.point_indices),
        support_height=float(instance.support_height),
        last_seen=stamped.stamp,
    )
    if indices is not None:
        message.indices = array("I", indices.astype(np.uint32).tobytes())
    return message


def instances_message(header: SourceHeader, found: Sequence[ObjectInstance]) -> InstanceArray:
    """`instances`: without indices, which are in the `instance` field of `labeled_points`."""
    return InstanceArray(
        header=header_message(header),
        instances=[instance_message(item, header, None) for item in found],
    )


def label_info_message(vocabulary: Vocabulary, stamp_ns: int) -> LabelInfo:
    """What the label numbers mean from now on."""
    return LabelInfo(
        header=Header(stamp=time_message(stamp_ns)),
        version=int(vocabulary.version),
        names=[str(name) for name in vocabulary.names],
        colors=[
            ColorRGBA(r=float(r) / 255, g=float(g) / 255, b=float(b) / 255, a=1.0)
            for r, g, b in vocabulary.colors
        ],
    )


def timing_message(milliseconds: Mapping[str, float]) -> Timing:
    """Stages in the order in which they ran."""
    return Timing(
        names=[str(name) for name in milliseconds],
        ms=[float(value) for value in milliseconds.values()],
    )


def diagnostics_message(statuses: Iterable[Status], *, node: str, stamp_ns: int) -> DiagnosticArray:
    """One array; entries are called `<node>: <name>` (REP 107)."""
    levels = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)
    return DiagnosticArray(
        header=Header(stamp=time_message(stamp_ns)),
        status=[
            DiagnosticStatus(
                level=levels[status.level],
                name=f"{node}: {status.name}",
                message=status.message,
                hardware_id=node,
                values=[KeyValue(key=str(k), value=str(v)) for k, v in status.values.items()],
            )
            for status in statuses
        ],
    )


def fill_refusal(response: Query.Response, status: QueryStatus, sentence: str) -> Query.Response:
    """An answer without result."""
    response.status = int(status)
    response.message = sentence
    return response


def fill_source(
    response: Query.Response,
    source: Snapshot | MapView,
    *,
    age: float,
    label_version: int,
    student: str,
) -> None:
    """What was asked: the same for every answer that looked at a snapshot or the map."""
    scene = source.scene
    response.source = header_message(scene.header)
    response.up = _vector(scene.up.direction)
    response.viewpoint = Pose(orientation=Quaternion(w=1.0))  # the source frame's origin
    if isinstance(source, MapView):
        response.viewpoint = _pose(source.state.viewpoint)
    response.age_s = float(age)
    response.label_version = int(label_version)
    response.map_version = source.state.version if isinstance(source, MapView) else 0
    response.student = str(student)


def fill_answer(
    response: Query.Response,
    answer: QueryAnswer,
    source: Snapshot | MapView,
    placed: Placed,
    *,
    return_indices: bool,
    return_cloud: bool,
    max_points: int,
) -> None:
    """Instances, indices and masked points, cut at `max_points`; the message says when it was."""
    header = replace(source.scene.header, frame_id=placed.frame)
    response.status = int(answer.status)
    response.best_score = float(answer.best_score)
    response.alternatives = [str(name) for name, _ in answer.alternatives]
    response.alternative_scores = [float(score) for _, score in answer.alternatives]
    parts = cut([item.point_indices for item in answer.instances], max_points)
    response.instances = [
        instance_message(
            moved_instance(item, placed.pose), header, part if return_indices else None
        )
        for item, part in zip(answer.instances, parts, strict=True)
    ]
    if isinstance(source, MapView):
        for item, instance in zip(answer.instances, response.instances, strict=True):
            instance.last_seen = time_message(source.last_seen(item.elements))
    if return_cloud and parts:
        chosen = np.unique(np.concatenate(parts))
        response.cloud = subset_message(source.cloud, chosen)
    sentences = [answer.message] if answer.message else []
    wanted = sum(len(item.point_indices) for item in answer.instances)
    kept = sum(len(part) for part in parts)
    if kept < wanted and (return_indices or return_cloud):
        sentences.append(
            f"Cut to {kept} of {wanted} points (parameter max_points); ask for fewer instances or "
            "a region."
        )
    response.message = " ".join(sentences)


def cut(indices: Sequence[npt.NDArray[np.uint32]], max_points: int) -> list[npt.NDArray[np.uint32]]:
    """Keep the first `max_points` indices over all instances, best instances first."""
    left, kept = max_points, []
    for part in indices:
        kept.append(part[: max(left, 0)])
        left -= len(part)
    return kept


def _pose(matrix: Float64Array) -> Pose:
    x, y, z, w = (float(value) for value in quaternion_xyzw(matrix[:3, :3]))
    return Pose(position=point_message(matrix[:3, 3]), orientation=Quaternion(x=x, y=y, z=z, w=w))


def point_message(values: npt.NDArray[np.floating]) -> Point:
    """A place from (3,) metres."""
    x, y, z = (float(value) for value in values)
    return Point(x=x, y=y, z=z)


def _vector(values: npt.NDArray[np.floating]) -> Vector3:
    x, y, z = (float(value) for value in values)
    return Vector3(x=x, y=y, z=z)
