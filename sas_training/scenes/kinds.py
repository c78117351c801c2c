"""The kinds of scenes that can be read, and the one function that opens them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from sas_ros.errors import SasError

if TYPE_CHECKING:  # the readers import torch, which `sas scenes --help` can do without
    from sas_training.scenes.reading import Scenes, SceneSettings


@dataclass(frozen=True)
class Kind:
    """One kind of scenes: what it is, and which function of which module of this folder opens it.

    The function takes a path and `SceneSettings` and returns `Scenes`; readers of several layouts
    take the kind first.
    """

    title: str
    module: str
    function: str
    named: bool = False


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "7scenes": Kind(
            "7-Scenes and 3DMatch folders of frames", "seven_scenes", "open_seven_scenes"
        ),
        "bag": Kind("a ROS 1 or ROS 2 recording", "bag", "open_bag"),
        "matterport": Kind("Matterport3D, its regions", "matterport", "open_matterport"),
        "matterport-openscene": Kind(
            "Matterport3D preprocessed by OpenScene", "openscene", "open_openscene", named=True
        ),
        "nuscenes": Kind("nuScenes, its key frames", "nuscenes", "open_nuscenes"),
        "replica": Kind("Replica rendered along trajectories", "replica", "open_replica"),
        "replica-openscene": Kind(
            "Replica preprocessed by OpenScene", "openscene", "open_openscene", named=True
        ),
        "rooms": Kind("generated rooms of `sas world make --frames`", "rooms", "open_rooms"),
        "scannet": Kind("ScanNet with exported frames", "scannet", "open_scannet"),
        "scannet-openscene": Kind(
            "ScanNet preprocessed by OpenScene", "openscene", "open_openscene", named=True
        ),
    }
)
"""Kinds by name; the modules document folders, axes and units."""


def open_scenes(kind: str, path: Path | str, settings: SceneSettings | None = None) -> Scenes:
    """The scenes of a data set or recording; nothing but names is read yet.

    Args:
        kind: one of `KINDS`.
        path: the folder or file.
        settings: defaults where None.

    Raises:
        SasError: no such kind, or a folder that is none of that kind: says what was expected; a
            label set for a kind that has only its own.
    """
    if kind not in KINDS:
        raise SasError(f"{kind!r} is no kind of scenes; known are {', '.join(KINDS)}.")
    from sas_training.scenes.reading import SceneSettings

    settings = settings or SceneSettings()
    if settings.labels and not kind.startswith("matterport"):
        raise SasError(
            f"Scenes of the kind {kind} have labels of their own set alone; {settings.labels!r} "
            "cannot be chosen (--labels is for Matterport3D)."
        )
    found = KINDS[kind]
    reader = getattr(importlib.import_module(f"{__package__}.{found.module}"), found.function)
    arguments = (kind, Path(path)) if found.named else (Path(path),)
    return cast("Scenes", reader(*arguments, settings))


def kind_of(path: Path | str) -> str:
    """The kind of scenes that lie at a path, by their layout alone.

    Raises:
        SasError: there is nothing, it has the layout of no kind, or that of several.
    """
    if not Path(path).exists():
        raise SasError(f"{path} is not there.")
    fitting = [kind for kind in KINDS if _opens(kind, path)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise SasError(
            f"{path} may hold scenes of the kinds {' or '.join(fitting)}; say which (--kind)."
        )
    raise SasError(
        f"{path} has the layout of none of the kinds of scenes: {', '.join(KINDS)}. What is wrong "
        "for one of them: sas scenes KIND PATH."
    )


def _opens(kind: str, path: Path | str) -> bool:
    try:
        open_scenes(kind, path)
    except SasError:
        return False
    return True
