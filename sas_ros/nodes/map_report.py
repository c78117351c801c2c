"""The map in /diagnostics."""

from __future__ import annotations

from sas_ros.nodes.diagnostics import Level, Status
from sas_ros.nodes.map_keeper import MapReport

SKIPPED = ("busy", "stamp", "pose", "up", "error")
"""Why a cloud is not on the map; docs/ros_api.md explains each."""


def map_status(report: MapReport) -> Status:
    """The entry `map`: WARN says why the newest cloud is not on it."""
    values = {
        "map": report.mode,
        "map_frame": report.frame,
        "map_version": str(report.version),
        "map_version_shown": str(report.shown),
        "voxels": str(report.voxels),
        "clouds": str(report.clouds),
        **{f"skipped_{reason}": str(report.skipped.get(reason, 0)) for reason in SKIPPED},
        "voxels_let_go": str(report.let_go),
        "memory_mb": f"{report.megabytes:.1f}",
    }
    if report.trouble:
        return Status("map", Level.WARN, f"The newest cloud is not on it: {report.trouble}", values)
    sentence = f"{report.voxels} voxels of {report.clouds} clouds in {report.frame!r}."
    return Status("map", Level.OK, sentence, values)
