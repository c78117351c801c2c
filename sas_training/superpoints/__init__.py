"""Superpoints: pieces of a surface that are taken to belong to one thing."""

from sas_training.superpoints.files import Superpoints, points_hash
from sas_training.superpoints.graph import segment_graph
from sas_training.superpoints.surfaces import (
    SuperpointSettings,
    cloud_superpoints,
    mesh_superpoints,
)

__all__ = [
    "SuperpointSettings",
    "Superpoints",
    "cloud_superpoints",
    "mesh_superpoints",
    "points_hash",
    "segment_graph",
]
