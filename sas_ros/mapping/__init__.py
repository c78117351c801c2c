"""A map of what the student saw: a voxel grid in a fixed frame, its view for queries, its file.

No ROS here: poses come in as matrices. `sas_ros.nodes.map_keeper` gets them from TF.
"""

from sas_ros.mapping.files import load_map, merge_maps, save_map
from sas_ros.mapping.identity import MapIdentity, student_fingerprint
from sas_ros.mapping.observe import observe
from sas_ros.mapping.view import MapView, view_of
from sas_ros.mapping.voxel_map import MapState, VoxelMap

__all__ = [
    "MapIdentity",
    "MapState",
    "MapView",
    "VoxelMap",
    "load_map",
    "merge_maps",
    "observe",
    "save_map",
    "student_fingerprint",
    "view_of",
]
