"""Furnished rooms made from a seed, and a simulated depth camera that walks through them."""

from .camera import render_view, scan_room, view_room
from .model import LabelledScan, Room, RoomObject
from .rays import RoomRays
from .rooms import make_room

__all__ = [
    "LabelledScan",
    "Room",
    "RoomObject",
    "RoomRays",
    "make_room",
    "render_view",
    "scan_room",
    "view_room",
]
