"""PointCloud2 <-> numpy: reads every legal layout, writes our own fixed ones.

Knows the message by its attributes only, so rclpy messages, messages read from a bag and test
doubles all work, and nothing here imports ROS. Messages that are read are never changed.
"""

from sas_ros.clouds.layout import CloudMessage, stamp_fields
from sas_ros.clouds.reading import read_cloud
from sas_ros.clouds.writing import (
    NO_INSTANCE,
    UNLABELLED,
    copy_points,
    has_plain_xyz,
    write_cloud,
    write_labelled_cloud,
    write_subset,
)

__all__ = [
    "NO_INSTANCE",
    "UNLABELLED",
    "CloudMessage",
    "copy_points",
    "has_plain_xyz",
    "read_cloud",
    "stamp_fields",
    "write_cloud",
    "write_labelled_cloud",
    "write_subset",
]
