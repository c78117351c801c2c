"""`instance_markers`: the instances as RViz and Foxglove draw them; needs visualization_msgs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Pose, Quaternion, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from sas_ros.boxes import rotation_matrix
from sas_ros.instances import ObjectInstance
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.nodes.messages import header_message, instance_message, point_message
from sas_ros.observation import SourceHeader

BOXES, TEXTS = "boxes", "texts"
"""Namespaces of the markers; ids count from 1 in each, as `instance` of `labeled_points` does."""

_BOX_ALPHA = 0.35
_MIN_SIDE = 0.01  # metres; viewers refuse a box without a height
_TEXT_HEIGHT = 0.12  # metres
_GAP = 0.1  # metres between a box and the middle of its text


def markers_message(
    header: SourceHeader, found: Sequence[ObjectInstance], vocabulary: Vocabulary
) -> MarkerArray:
    """One upright box and one text for each instance, in the colour of its label.

    The first marker takes away those of the cloud before, so an array without instances clears the
    view. Boxes are in the source's frame, as in `instances`; a text floats above its box along up.
    """
    colors = dict(zip(vocabulary.names, vocabulary.colors, strict=True))
    markers = [Marker(header=header_message(header), action=Marker.DELETEALL)]
    for number, item in enumerate(found, start=1):
        markers += _drawn(number, item, header, colors)
    return MarkerArray(markers=markers)


def _drawn(
    number: int,
    item: ObjectInstance,
    header: SourceHeader,
    colors: Mapping[str, npt.NDArray[np.uint8]],
) -> Iterator[Marker]:
    described = instance_message(item, header, None)
    red, green, blue = (float(value) / 255 for value in colors[item.label])
    length, width, height = (float(value) for value in item.size)
    yield Marker(
        header=described.header,
        ns=BOXES,
        id=number,
        type=Marker.CUBE,
        action=Marker.ADD,
        pose=described.pose,
        scale=Vector3(x=max(length, _MIN_SIDE), y=max(width, _MIN_SIDE), z=max(height, _MIN_SIDE)),
        color=ColorRGBA(r=red, g=green, b=blue, a=_BOX_ALPHA),
    )
    up = rotation_matrix(tuple(item.orientation.tolist()))[:, 2]
    above = item.center + (height / 2 + _GAP) * up
    yield Marker(
        header=described.header,
        ns=TEXTS,
        id=number,
        type=Marker.TEXT_VIEW_FACING,
        action=Marker.ADD,
        pose=Pose(position=point_message(above), orientation=Quaternion(w=1.0)),
        scale=Vector3(z=_TEXT_HEIGHT),
        color=ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0),
        text=f"{item.label} {item.score:.2f}\n{length:.2f} x {width:.2f} x {height:.2f} m",
    )
