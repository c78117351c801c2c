"""Message bytes of a bag <-> objects with the attributes of ROS messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from sas_ros.bags.library import rosbags
from sas_ros.bags.reading import CLOUD
from sas_ros.clouds import stamp_fields, write_labelled_cloud
from sas_ros.errors import SasError
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.observation import Cloud

if TYPE_CHECKING:
    from sas_ros.point_labels import PointLabels  # imports torch, which replaying needs not

LABEL_INFO = "sas_msgs/msg/LabelInfo"

LABEL_INFO_DEFINITION = """\
uint32 UNLABELLED=65535
std_msgs/Header header
uint32 version
string[] names
std_msgs/ColorRGBA[] colors
"""
"""That of msg/msg/LabelInfo.msg: an installed robot has the generated code only."""


class MessageTypes:
    """The message types that we read and write, from a fixed list (ROS 2 Humble's)."""

    def __init__(self) -> None:
        typesys = rosbags("typesys")
        self.store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        self.store.register(typesys.get_types_from_msg(LABEL_INFO_DEFINITION, LABEL_INFO))

    def knows(self, message_type: str) -> bool:
        """Whether messages of this type can be written."""
        return message_type in self.store.fielddefs

    def hash_of(self, message_type: str) -> str:
        """The type's hash (REP 2011), as newer bags state it."""
        return str(self.store.hash_rihs01(message_type))

    def read_cloud_message(self, data: bytes) -> Any:
        """The PointCloud2 of serialised bytes (CDR).

        Raises:
            SasError: the bytes are no such message.
        """
        try:
            return self.store.deserialize_cdr(data, CLOUD)
        # Damaged bytes fail in as many ways as there are types inside.
        except Exception as error:
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise SasError(f"The message is damaged: {reason}.") from error

    def labelled_cloud(self, cloud: Cloud, labels: PointLabels) -> bytes:
        """The cloud with its labels as bytes, in the layout of `labeled_points`."""
        types = self.store.types
        plain = write_labelled_cloud(
            _blank_cloud,
            types["sensor_msgs/msg/PointField"],
            cloud.header,
            cloud,
            rgb=None,
            label=labels.label,
            confidence=labels.confidence,
            instance=labels.instance,
        )
        message = types[CLOUD](
            header=self._header(cloud.header.stamp_ns, cloud.header.frame_id),
            height=plain.height,
            width=plain.width,
            fields=plain.fields,
            is_bigendian=plain.is_bigendian,
            point_step=plain.point_step,
            row_step=plain.row_step,
            data=np.frombuffer(plain.data, np.uint8),
            is_dense=plain.is_dense,
        )
        return bytes(self.store.serialize_cdr(message, CLOUD))

    def label_info(self, vocabulary: Vocabulary, stamp_ns: int) -> bytes:
        """What the label numbers mean, as bytes of a LabelInfo."""
        color = self.store.types["std_msgs/msg/ColorRGBA"]
        message = self.store.types[LABEL_INFO](
            header=self._header(stamp_ns, ""),
            version=int(vocabulary.version),
            names=[str(name) for name in vocabulary.names],
            colors=[
                color(r=float(r) / 255, g=float(g) / 255, b=float(b) / 255, a=1.0)
                for r, g, b in vocabulary.colors
            ],
        )
        return bytes(self.store.serialize_cdr(message, LABEL_INFO))

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        seconds, nanoseconds = stamp_fields(stamp_ns)
        stamp = self.store.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
        return self.store.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def _blank_cloud() -> SimpleNamespace:
    stamp = SimpleNamespace(sec=0, nanosec=0)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp, frame_id=""))
