"""Opening the map that the parameters ask for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sas_ros.mapping import MapIdentity, load_map, student_fingerprint
from sas_ros.mapping.voxel_map import empty_state
from sas_ros.nodes.map_keeper import Lookup, MapKeeper
from sas_ros.nodes.model import use_threads
from sas_ros.nodes.shared import Shared
from sas_ros.student.bundle import StudentBundle


def open_map(
    bundle: StudentBundle, shared: Shared, lookup: Lookup, tell: Callable[[str], None]
) -> MapKeeper | None:
    """The map of the parameters `map*`, from its file where there is one; None where it is none.

    Raises:
        SasError: the file is damaged or was made with another student, voxel size or frame; the
            map is only to be read and there is no file, or to be built and the file has more than
            `map_max_voxels`.
    """
    settings = shared.parameters()
    if settings.map == "none":
        return None
    identity = MapIdentity(
        student=bundle.name,
        fingerprint=student_fingerprint(bundle),
        feature_dim=bundle.feature_dim,
        voxel_size=settings.map_voxel_size or bundle.voxel_size,
        frame=settings.map_frame,
    )
    building = settings.map == "build"
    path = Path(settings.map_file).expanduser() if settings.map_file else None
    state = empty_state(identity)
    if building and path is not None:
        warn_where_it_cannot_be_saved(path, shared)
    if path is not None and (path.exists() or not building):
        state = load_map(path, identity)
        tell(f"Map {path}: {len(state)} voxels of {state.clouds} clouds in {identity.frame!r}.")
    return MapKeeper(
        state,
        shared,
        bundle.calibration,
        lookup,
        building=building,
        path=path,
        prepare=lambda: use_threads(1),
    )


def warn_where_it_cannot_be_saved(path: Path, shared: Shared) -> None:
    """Tell of a folder of `map_file` that is missing or not writable now, not in the evening when
    the map is to be saved; it may still be mounted meanwhile."""
    if not os.access(path.parent, os.W_OK | os.X_OK):
        shared.log.warn(
            "map_file",
            f"The map cannot be saved to {path}: the folder {path.parent} is not there, or this "
            "user may not write to it. Make it, or name another map_file.",
        )
