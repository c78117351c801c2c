"""The node's publishers: lazily built messages, reliable, in the input's frame and stamp."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sas_msgs.msg import InstanceArray, LabelInfo
from sensor_msgs.msg import PointCloud2

from sas_ros.instances import ObjectInstance
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.nodes import messages
from sas_ros.nodes.results import (
    INSTANCES,
    LABELLED,
    MARKERS,
    MASK,
    OBSTACLES,
    VISUAL,
    PointLabels,
)
from sas_ros.observation import Cloud

LABEL_INFO = "label_info"


def reliable(depth: int, *, latched: bool = False) -> QoSProfile:
    """Reliable, keep last `depth`; latched (transient local) for late subscribers."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def of_services() -> QoSProfile:
    """Of our services and of clients that ask them.

    A client's reader gets the answers of all clients and drops those of others when it looks: at
    the default depth of 10 they push its own out while it does not. Questions are lost likewise.
    """
    return reliable(200)


class Publishers:
    """Everything the node publishes besides diagnostics; exists while the node is configured."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lazy: dict[str, Any] = {
            name: node.create_publisher(PointCloud2, name, reliable(2))
            for name in (LABELLED, VISUAL, MASK, OBSTACLES)
        }
        self._lazy[INSTANCES] = node.create_publisher(InstanceArray, INSTANCES, reliable(5))
        if (kind := _marker_array(node)) is not None:
            self._lazy[MARKERS] = node.create_publisher(kind, MARKERS, reliable(5))
        self._label_info = node.create_publisher(LabelInfo, LABEL_INFO, reliable(1, latched=True))

    def wanted(self) -> Collection[str]:
        """Topics that somebody listens to right now."""
        return {name for name, pub in self._lazy.items() if pub.get_subscription_count() > 0}

    def labelled(self, cloud: Cloud, labels: PointLabels) -> None:
        """Publish `labeled_points`."""
        self._lazy[LABELLED].publish(messages.labelled_message(cloud, labels))

    def visual(self, cloud: Cloud, labels: PointLabels, colors: npt.NDArray[np.uint8]) -> None:
        """Publish `visualization` in class colours."""
        self._lazy[VISUAL].publish(messages.visual_message(cloud, labels, colors))

    def instances(self, cloud: Cloud, found: Sequence[ObjectInstance]) -> None:
        """Publish `instances`."""
        self._lazy[INSTANCES].publish(messages.instances_message(cloud.header, found))

    def markers(
        self, cloud: Cloud, found: Sequence[ObjectInstance], vocabulary: Vocabulary
    ) -> None:
        """Publish `instance_markers`."""
        from sas_ros.nodes.markers import markers_message

        self._lazy[MARKERS].publish(markers_message(cloud.header, found, vocabulary))

    def subset(self, topic: str, cloud: Cloud, mask: npt.NDArray[np.bool_]) -> None:
        """Publish the masked points of a cloud on `query_mask` or `obstacles`."""
        self._lazy[topic].publish(messages.subset_message(cloud, mask))

    def label_info(self, vocabulary: Vocabulary) -> None:
        """Publish what the label numbers mean, stamped with the node's clock."""
        now = self._node.get_clock().now().nanoseconds
        self._label_info.publish(messages.label_info_message(vocabulary, now))

    def destroy(self) -> None:
        """Take all publishers off the graph."""
        for publisher in [*self._lazy.values(), self._label_info]:
            self._node.destroy_publisher(publisher)
        self._lazy = {}


def _marker_array(node: Node) -> Any:
    """The type of `instance_markers`; None without visualization_msgs, which only viewers need."""
    try:
        from visualization_msgs.msg import MarkerArray
    except ImportError as error:
        node.get_logger().warning(
            f"There is no topic {MARKERS}: visualization_msgs is not installed ({error}). "
            "Everything else works without it.",
            once=True,
        )
        return None
    return MarkerArray
