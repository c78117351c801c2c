"""Superpoints of one scene on disk: a `.safetensors` file (docs/formats.md)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_training.superpoints.surfaces import SuperpointSettings

FORMAT_VERSION = 1
SUFFIX = ".superpoints.safetensors"
SOURCES = ("mesh", "cloud")
_METADATA_KEY = "sas_superpoints"
_TENSOR = "superpoint"


@dataclass(frozen=True, eq=False)
class Superpoints:
    """The superpoint of every point of a scene.

    Attributes:
        labels: (N,) int32, 0 ... L-1 numbered by first point; -1 where a point is not finite.
        settings: how they were made.
        source: "mesh" or "cloud": what they were made from.
        points_sha256: `points_hash` of the points they belong to.
    """

    labels: npt.NDArray[np.int32]
    settings: SuperpointSettings
    source: str
    points_sha256: str

    @property
    def count(self) -> int:
        """L, the number of superpoints."""
        return int(self.labels.max(initial=-1)) + 1

    def check_points(self, points: npt.NDArray[np.floating[Any]]) -> None:
        """Raise SasError unless these are the points (N, 3) that the superpoints were made of."""
        if len(points) != len(self.labels) or points_hash(points) != self.points_sha256:
            raise SasError(
                f"The superpoints belong to {len(self.labels)} other points than these "
                f"{len(points)}; make them anew with `sas superpoints`."
            )

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        from safetensors.numpy import save_file

        metadata = {
            "format_version": FORMAT_VERSION,
            "source": self.source,
            "settings": asdict(self.settings),
            "points": len(self.labels),
            "superpoints": self.count,
            "points_sha256": self.points_sha256,
        }
        with atomic_path(Path(path)) as temporary:
            save_file(
                {_TENSOR: np.ascontiguousarray(self.labels, np.int32)},
                temporary,
                {_METADATA_KEY: json.dumps(metadata, sort_keys=True)},
            )

    @staticmethod
    def load(path: Path) -> Superpoints:
        """Read and validate a file.

        Raises:
            SasError: no such file, not one of superpoints, damaged, or of another version.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        if not path.is_file():
            raise SasError(f"There are no superpoints at {path}.")
        try:
            with safe_open(path, framework="numpy") as file:
                raw = (file.metadata() or {}).get(_METADATA_KEY)
                labels = file.get_tensor(_TENSOR) if _TENSOR in file.keys() else None
        except (SafetensorError, OSError, ValueError) as error:
            raise SasError(
                f"{path} is no readable safetensors file ({error}); it may be cut off: "
                "make it again with `sas superpoints`."
            ) from error
        if raw is None or labels is None:
            raise SasError(f"{path} is not a file of superpoints; `sas superpoints` makes those.")
        return _from_parts(path, raw, labels)


def points_hash(points: npt.NDArray[np.floating[Any]]) -> str:
    """SHA-256 of the points (N, 3) as little-endian float32 rows: what ties files to a scene."""
    return hashlib.sha256(np.ascontiguousarray(points, "<f4").tobytes()).hexdigest()


def _from_parts(path: Path, raw: str, labels: npt.NDArray[Any]) -> Superpoints:
    try:
        metadata = json.loads(raw)
        version = metadata["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise SasError(f"The description inside {path} is damaged ({error}).") from error
    if version != FORMAT_VERSION:
        raise SasError(
            f"{path} has superpoint format {version!r}; this version reads {FORMAT_VERSION}. "
            "Update sas_ros, or make it again with `sas superpoints`."
        )
    try:
        settings = SuperpointSettings(**metadata["settings"])
        source, sha256 = metadata["source"], metadata["points_sha256"]
        expected = (int(metadata["points"]),), int(metadata["superpoints"])
    except (KeyError, TypeError, ValueError) as error:
        raise SasError(f"The description inside {path} is damaged ({error}).") from error
    except SasError as error:
        raise SasError(f"{path}: {error}") from error
    if source not in SOURCES or not isinstance(sha256, str) or len(sha256) != 64:
        raise SasError(f"The description inside {path} names no source or no points.")
    if labels.dtype != np.int32 or labels.shape != expected[0]:
        raise SasError(
            f"{path} must hold int32 superpoints {expected[0]}, not {labels.dtype} {labels.shape}."
        )
    found, first = np.unique(labels[labels >= 0], return_index=True)
    in_order = np.array_equal(found, np.arange(expected[1])) and bool((np.diff(first) > 0).all())
    if not in_order or labels.min(initial=-1) < -1:
        raise SasError(f"The superpoints in {path} are not numbered 0 to {expected[1] - 1}.")
    return Superpoints(labels, settings, source, sha256)
