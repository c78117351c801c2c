"""Recordings of ROS 2: point clouds out of a bag, labelled ones into another, without ROS.

Bags are read and written with the library rosbags (extra `bags`), which is imported on first use.
Types come from that library's own list, never from the definitions that a bag carries: no code is
made from a file.
"""

from sas_ros.bags.messages import MessageTypes
from sas_ros.bags.reading import Bag, BagMessage, Topic

__all__ = ["Bag", "BagMessage", "MessageTypes", "Topic"]
