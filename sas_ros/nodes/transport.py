"""Getting clouds of megabytes through: the shared-memory profile of our own processes.

With Fast DDS's defaults a best-effort sample above half a megabyte never arrives, and only the
publishing process can change that. A profile that the user chose is never replaced.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

PROFILE = "fastdds_large_clouds.xml"
VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""The first is read by Fast DDS 3 (Kilted and newer), which warns about the second."""

_FAST_DDS_2 = ("foxy", "galactic", "humble", "iron", "jazzy")

NEEDED_BYTES = 192 * 2**20
"""Free shared memory for the profile: a segment of 64 MB for each of three participants."""


def find_config(name: str) -> Path | None:
    """A file of the package's config folder: in the checkout, or in an installed share."""
    folders = [Path(__file__).resolve().parents[2] / "config"]
    for prefix in [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]:
        if prefix:
            folders.append(Path(prefix) / "share" / "sas_ros" / "config")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    return None


def use_large_cloud_profile(
    environment: MutableMapping[str, str] | None = None,
    *,
    shared_memory: Path = Path("/dev/shm"),
) -> str:
    """Point Fast DDS to our profile before `rclpy.init`; returns a sentence on what was done."""
    environment = os.environ if environment is None else environment
    for variable in VARIABLES:
        if environment.get(variable):
            return f"Transport: the profile named by {variable} is used."
    middleware = environment.get("RMW_IMPLEMENTATION", "")
    if middleware and "fastrtps" not in middleware:
        return f"Transport: {middleware} is used as it is."
    profile = find_config(PROFILE)
    if profile is None:
        return f"Transport: {PROFILE} was not found, so the middleware's defaults are used."
    free = _free_bytes(shared_memory)
    if free < NEEDED_BYTES:
        return (
            f"Transport: {shared_memory} has {free // 2**20} MB free and the large-cloud profile "
            f"needs {NEEDED_BYTES // 2**20} MB, so the middleware's defaults are used; best-effort "
            "clouds above 0.5 MB may be lost (in a container raise --shm-size)."
        )
    older = environment.get("ROS_DISTRO", "") in _FAST_DDS_2
    environment[VARIABLES[1] if older else VARIABLES[0]] = str(profile)
    return f"Transport: large clouds go through shared memory ({profile.name})."


def _free_bytes(folder: Path) -> int:
    try:
        state = os.statvfs(folder)
    except OSError:
        return 0
    return int(state.f_bavail * state.f_frsize)
