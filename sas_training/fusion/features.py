"""Features of a scene's points on disk: what a 2D teacher, or several fused, say about each point.

Layout (format version 1, see docs/formats.md): a `.safetensors` file with the tensors `features`
and `mask`, after fusion also `sources`, and one metadata entry `sas_point_features` of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_path

FORMAT_VERSION = 1
_METADATA_KEY = "sas_point_features"


@dataclass(frozen=True, eq=False)
class PointFeatures:
    """Features of the points of one scene that a teacher has seen.

    Attributes:
        features: (M, C) float16, finite; rows are the points where `mask` is true, in the order of
            the scene's points. They are not scaled to any length.
        mask: (N,) bool over all points of the scene.
        teacher: name of the 2D model, or of a fusion of several.
        scene: name of the scene.
        settings: how they were made, plain JSON, for people and for resuming.
        sources: (N,) uint8 after a fusion: bit m is set where the m-th teacher saw the point, so 0
            none, 1 the first alone, 2 the second alone, 3 both. None for one teacher.

    Raises `SasError` when the parts do not fit together.
    """

    features: npt.NDArray[np.float16]
    mask: npt.NDArray[np.bool_]
    teacher: str
    scene: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    sources: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        what = f"The point features of {self.teacher!r} for the scene {self.scene!r}"
        if self.features.ndim != 2 or self.features.dtype != np.float16:
            raise SasError(
                f"{what} are {self.features.dtype} of shape {self.features.shape}; wanted is "
                "float16 of shape (seen points, channels)."
            )
        if self.features.shape[1] == 0:
            raise SasError(f"{what} have no channels.")
        if self.mask.ndim != 1 or self.mask.dtype != np.bool_:
            raise SasError(
                f"{what} have a mask of {self.mask.dtype} with shape {self.mask.shape}; wanted is "
                "bool of shape (points,)."
            )
        count = int(np.count_nonzero(self.mask))
        if count != len(self.features):
            raise SasError(f"{what} have {len(self.features)} rows, but the mask marks {count}.")
        broken = _rows_not_finite(self.features)
        if broken:
            raise SasError(
                f"{what} hold values that are no finite numbers in {broken} of {count} rows."
            )
        if self.sources is not None:
            if self.sources.shape != self.mask.shape or self.sources.dtype != np.uint8:
                raise SasError(f"{what} need a uint8 source code for each of their points.")
            if not np.array_equal(self.sources != 0, self.mask):
                raise SasError(f"{what} have source codes that contradict the mask.")

    @property
    def channels(self) -> int:
        """Width C of the features."""
        return int(self.features.shape[1])

    @property
    def points(self) -> int:
        """Number N of the scene's points, seen or not."""
        return len(self.mask)

    def rows(self) -> npt.NDArray[np.int64]:
        """(N,) row of each point in `features`, -1 where the point was not seen."""
        rows = np.full(len(self.mask), -1, dtype=np.int64)
        rows[self.mask] = np.arange(len(self.features))
        return rows

    def save(self, path: Path) -> None:
        """Write the file atomically; equal content gives equal bytes."""
        from safetensors.numpy import save_file

        tensors: dict[str, npt.NDArray[Any]] = {
            "features": np.ascontiguousarray(self.features),
            "mask": np.ascontiguousarray(self.mask),
        }
        if self.sources is not None:
            tensors["sources"] = np.ascontiguousarray(self.sources)
        metadata = {
            "format_version": FORMAT_VERSION,
            "teacher": self.teacher,
            "scene": self.scene,
            "settings": dict(self.settings),
        }
        try:
            text = json.dumps(metadata, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SasError(f"The settings of point features must be plain JSON: {error}.") from None
        with atomic_path(Path(path)) as temporary:
            save_file(tensors, temporary, {_METADATA_KEY: text})

    @staticmethod
    def load(path: Path) -> PointFeatures:
        """Read and validate a file.

        Raises:
            SasError: no such file, not a safetensors file, not point features, another format, or
                parts that are missing or do not fit together.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        if not path.is_file():
            raise SasError(f"There are no point features at {path}.")
        try:
            with safe_open(path, framework="np") as file:
                raw = (file.metadata() or {}).get(_METADATA_KEY)
                tensors = {key: file.get_tensor(key) for key in file.keys()}
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise SasError(
                f"{path} is no readable safetensors file ({error}); it may be cut off: make it "
                "again."
            ) from error
        if raw is None:
            raise SasError(f"{path} holds tensors but no description of point features.")
        metadata = _described(path, raw)
        missing = [key for key in ("features", "mask") if key not in tensors]
        if missing:
            raise SasError(f"{path} lacks the tensor {missing[0]}.")
        try:
            return PointFeatures(
                features=tensors["features"],
                mask=tensors["mask"],
                teacher=metadata["teacher"],
                scene=metadata["scene"],
                settings=metadata["settings"],
                sources=tensors.get("sources"),
            )
        except SasError as error:
            raise SasError(f"{path} is damaged. {error}") from error


def _described(path: Path, raw: str) -> dict[str, Any]:
    try:
        metadata = json.loads(raw)
    except json.JSONDecodeError as error:
        raise SasError(f"The description inside {path} is not valid JSON ({error}).") from error
    if not isinstance(metadata, dict):
        raise SasError(f"The description inside {path} is not a JSON object.")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise SasError(
            f"{path} has point feature format {version!r}; this version reads {FORMAT_VERSION}. "
            "Update sas_ros, or make the features again."
        )
    for key, kind in (("teacher", str), ("scene", str), ("settings", dict)):
        if not isinstance(metadata.get(key), kind):
            raise SasError(f"In {path} the entry {key!r} is missing or of a wrong kind.")
    return metadata


def _rows_not_finite(features: npt.NDArray[np.float16], chunk: int = 512) -> int:
    """Rows with a NaN or infinity. Those have all bits of the exponent set, which is seen several
    times faster than with `isfinite`."""
    every = np.uint16(0x7C00)
    count = 0
    for start in range(0, len(features), chunk):
        part = np.ascontiguousarray(features[start : start + chunk])
        exponents = part.view(np.uint16) & every
        if exponents.max() == every:
            count += int(np.count_nonzero((exponents == every).any(axis=1)))
    return count
