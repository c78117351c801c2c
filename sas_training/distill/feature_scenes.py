"""Scenes to distil from: points, what the 2D teachers say about them, superpoints; no labels.

A scene NAME is a set of files (docs/formats.md), in one folder or in one folder per kind:

    NAME.npz                        points (N, 3) float32 metres, z up; optional colors
    NAME.features.safetensors       `PointFeatures`: what fused teachers say about the points
    NAME.superpoints.safetensors    `sas superpoints` of the points; not needed by pixel targets

Labels that an .npz may hold are not read.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import UNREADABLE, whole_files
from sas_training.fusion.features import PointFeatures
from sas_training.superpoints.files import SUFFIX as SUPERPOINTS_SUFFIX
from sas_training.superpoints.files import Superpoints

FEATURES_SUFFIX = ".features.safetensors"


@dataclass(frozen=True, eq=False)
class FeatureScene:
    """One scene in memory.

    Attributes:
        name: of its files.
        points: (N, 3) float32 metres, z up.
        colors: (N, 3) uint8 RGB, or None.
        features: (M, C) float16, of the points that a teacher has seen.
        rows: (N,) int64 row of each point in `features`, -1 for none.
        superpoint: (N,) int32, 0 ... L-1, -1 for none.
    """

    name: str
    points: npt.NDArray[np.float32]
    colors: npt.NDArray[np.uint8] | None
    features: npt.NDArray[np.float16]
    rows: npt.NDArray[np.int64]
    superpoint: npt.NDArray[np.int32]

    @property
    def nbytes(self) -> int:
        """Memory it takes, roughly."""
        colors = 0 if self.colors is None else self.colors.nbytes
        parts = (self.points, self.features, self.rows, self.superpoint)
        return colors + sum(part.nbytes for part in parts)


@dataclass(frozen=True)
class SceneFacts:
    """What the headers of a scene's files say, without reading them.

    Attributes:
        points: N.
        seen: M, points with features.
        channels: C.
        teacher: who made the features.
        settings: how, plain JSON.
        superpoints: hash of the points the superpoints belong to, "" without superpoints.
    """

    points: int
    seen: int
    channels: int
    teacher: str
    settings: Mapping[str, Any]
    superpoints: str


class FeatureScenes:
    """The scenes of a run; loads them one at a time and keeps the last ones in memory.

    Args:
        points: folder of the .npz files.
        features, superpoints: folders of the other files; None: the same.
        superpoints_needed: without, every point is a superpoint of its own where a file is missing.
        cache_mib: memory for scenes that were loaded before, in each process.

    Raises:
        SasError: no scenes, a file that is missing or damaged, features of different width.
    """

    def __init__(
        self,
        points: Path,
        features: Path | None = None,
        superpoints: Path | None = None,
        *,
        superpoints_needed: bool = True,
        cache_mib: int = 512,
    ) -> None:
        points = Path(points)
        self._features, self._superpoints = Path(features or points), Path(superpoints or points)
        self._files = whole_files(points, "*.npz")
        if not self._files:
            raise SasError(
                f"There are no scenes in {points}; wanted are NAME.npz with points, "
                f"NAME{FEATURES_SUFFIX} and NAME{SUPERPOINTS_SUFFIX} (docs/train.md)."
            )
        self.names = tuple(path.stem for path in self._files)
        self.facts = tuple(self._facts(name, superpoints_needed) for name in self.names)
        self.channels = self.facts[0].channels
        for name, facts in zip(self.names, self.facts, strict=True):
            if facts.channels != self.channels:
                raise SasError(
                    f"The features of {name} have {facts.channels} numbers, those of "
                    f"{self.names[0]} {self.channels}; take scenes of the same teachers."
                )
        if not any(facts.seen for facts in self.facts):
            raise SasError(f"No teacher has seen any point of the scenes in {self._features}.")
        self._cache: OrderedDict[tuple[int, bool], FeatureScene] = OrderedDict()
        self._cache_bytes = cache_mib * 2**20

    def __len__(self) -> int:
        return len(self.names)

    @property
    def teachers(self) -> tuple[str, ...]:
        """Who made the features, each once."""
        return tuple(dict.fromkeys(facts.teacher for facts in self.facts))

    def check_space(self, text_encoder: str) -> None:
        """Raise SasError for features that say they lie in the space of another text encoder than
        the words do; of equal width they would be learned without a sound."""
        for name, facts in zip(self.names, self.facts, strict=True):
            own = facts.settings.get("text_encoder")
            if isinstance(own, str) and own and own != text_encoder:
                raise SasError(
                    f"The features of {name} lie in the space of {own}, the recipe's words in that "
                    f"of {text_encoder}; choose another recipe, or change its "
                    "vocabulary.text_encoder."
                )

    def first(self, count: int) -> FeatureScenes:
        """The same with only the first scenes."""
        scenes = object.__new__(FeatureScenes)
        scenes.__dict__.update(self.__dict__)
        scenes._files, scenes._cache = self._files[:count], OrderedDict()
        scenes.names, scenes.facts = self.names[:count], self.facts[:count]
        return scenes

    def fingerprint(self) -> str:
        """Hash of the names and headers: a resumed run must not go on with other scenes."""
        listing = [
            [name, f.points, f.seen, f.channels, f.teacher, dict(f.settings), f.superpoints]
            for name, f in zip(self.names, self.facts, strict=True)
        ]
        return hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()

    def load(self, number: int, *, features: bool = True) -> FeatureScene:
        """Read and check a scene.

        Args:
            features: False where nobody looks at the teachers' features, most of a scene's bytes:
                they may be left out, as if no point had been seen.

        Raises:
            SasError: files that are damaged or do not belong together.
        """
        for key in ((number, True), (number, False)):
            if key in self._cache and (key[1] or not features):
                self._cache.move_to_end(key)
                return self._cache[key]
        scene = self._cache[number, features] = self._read(number, features)
        while sum(kept.nbytes for kept in self._cache.values()) > self._cache_bytes:
            self._cache.popitem(last=False)
        return scene

    def _read(self, number: int, with_features: bool) -> FeatureScene:
        name, facts = self.names[number], self.facts[number]
        points, colors = read_points(self._files[number])
        if len(points) != facts.points:
            raise SasError(
                f"{self._files[number]} has {len(points)} points, but {name}{FEATURES_SUFFIX} is "
                f"about {facts.points}; make the features of these points."
            )
        features = np.empty((0, facts.channels), dtype=np.float16)
        rows = np.full(len(points), -1, dtype=np.int64)
        if with_features:
            found = PointFeatures.load(self._features / f"{name}{FEATURES_SUFFIX}")
            features, rows = found.features, found.rows()
        path = self._superpoints / f"{name}{SUPERPOINTS_SUFFIX}"
        if facts.superpoints:
            superpoints = Superpoints.load(path)
            try:
                superpoints.check_points(points)
            except SasError as error:
                raise SasError(f"{path}: {error}") from error
            labels = superpoints.labels
        else:
            labels = np.arange(len(points), dtype=np.int32)
        return FeatureScene(name, points, colors, features, rows, labels)

    def _facts(self, name: str, superpoints_needed: bool) -> SceneFacts:
        path = self._features / f"{name}{FEATURES_SUFFIX}"
        if not path.is_file():
            raise SasError(
                f"The scene {name} has no features: {path} is missing (docs/train.md says what "
                "belongs there)."
            )
        shapes, described = _header(path, "sas_point_features")
        try:
            (seen, channels), (points,) = shapes["features"], shapes["mask"]
            teacher, settings = str(described["teacher"]), dict(described["settings"])
        except (KeyError, TypeError, ValueError) as error:
            raise SasError(f"{path} holds no point features; make it again.") from error
        path = self._superpoints / f"{name}{SUPERPOINTS_SUFFIX}"
        digest = ""
        if path.is_file():
            shapes, described = _header(path, "sas_superpoints")
            digest = str(described.get("points_sha256", "unknown"))
            if shapes.get("superpoint") != (points,):
                raise SasError(
                    f"{path} is about {shapes.get('superpoint', (0,))[0]} points, the features of "
                    f"the scene about {points}; make them anew with `sas superpoints`."
                )
        elif superpoints_needed:
            raise SasError(
                f"The scene {name} has no superpoints: {path} is missing; `sas superpoints` makes "
                "it. Only the targets `pixel` do without."
            )
        return SceneFacts(points, seen, channels, teacher, settings, digest)


def read_points(
    path: Path,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8] | None]:
    """Points (N, 3) float32 metres and colours (N, 3) uint8, or None, of an .npz.

    Raises:
        SasError: no such arrays, or no finite point.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            points = file["points"]
            colors = file["colors"] if "colors" in file else None
    except UNREADABLE as error:
        raise SasError(
            f"{path} is no scene: it must be an .npz with the array points (N, 3) ({error})."
        ) from error
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "fiu":
        raise SasError(f"{path} must hold points (N, 3), not {points.dtype} {points.shape}.")
    if not np.isfinite(points).all(axis=1).any():
        raise SasError(f"{path} holds no finite point.")
    if colors is not None and (colors.dtype != np.uint8 or colors.shape != points.shape):
        raise SasError(
            f"{path} must hold colours uint8 {points.shape}, not {colors.dtype} {colors.shape}."
        )
    return points.astype(np.float32), colors


def _header(path: Path, key: str) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """Shapes of the tensors of a safetensors file, and its metadata entry `key` as JSON."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            described = json.loads((file.metadata() or {}).get(key, "null"))
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise SasError(
            f"{path} is no readable safetensors file ({error}); it may be cut off: make it again."
        ) from error
    if not isinstance(described, dict):
        raise SasError(f"{path} lacks the description {key}; it is another kind of file.")
    return shapes, described
