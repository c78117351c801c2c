"""Dense features of one image on disk: a `.safetensors` file (docs/formats.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_training.teachers.teacher import DenseFeatures

FORMAT_VERSION = 1
SUFFIX = ".pixels.safetensors"
_METADATA_KEY = "sas_pixel_features"


@dataclass(frozen=True, eq=False)
class PixelFile:
    """What a pixel teacher said about one image.

    Attributes:
        features: of its pixels.
        teacher: the teacher's `Description` as JSON.
        text_encoder: whose vectors they can be compared with.
        image_sha256: `image_hash` of the image.
    """

    features: DenseFeatures
    teacher: Mapping[str, Any]
    text_encoder: str
    image_sha256: str

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        from safetensors.torch import save_file

        dense = self.features
        tensors = {"features": dense.features.permute(1, 2, 0).contiguous()}
        if dense.valid is not None:
            tensors["valid"] = dense.valid.contiguous()
        metadata = {
            "format_version": FORMAT_VERSION,
            "teacher": dict(self.teacher),
            "text_encoder": self.text_encoder,
            "image_sha256": self.image_sha256,
            "rows_per_pixel": dense.rows_per_pixel,
            "columns_per_pixel": dense.columns_per_pixel,
        }
        try:
            text = json.dumps(metadata, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SasError(f"A teacher's settings must be plain JSON: {error}.") from None
        with atomic_path(Path(path)) as temporary:
            save_file(tensors, temporary, {_METADATA_KEY: text})

    @staticmethod
    def load(path: Path) -> PixelFile:
        """Read and validate a file.

        Raises:
            SasError: no such file, not one of pixel features, damaged, or of another version.
        """
        metadata, tensors = _read(Path(path), with_tensors=True)
        return _from_parts(Path(path), metadata, tensors)


def read_about(path: Path) -> tuple[Mapping[str, Any], str]:
    """Teacher and image hash of a file, without reading its features; raises as `load` does."""
    metadata, _ = _read(Path(path), with_tensors=False)
    return metadata["teacher"], metadata["image_sha256"]


def _read(path: Path, with_tensors: bool) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise SasError(f"There are no pixel features at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            raw = (file.metadata() or {}).get(_METADATA_KEY)
            names = list(file.keys())
            tensors = {key: file.get_tensor(key) for key in names} if with_tensors else {}
    except (SafetensorError, OSError, ValueError) as error:
        raise SasError(
            f"{path} is no readable safetensors file ({error}); it may be cut off: make it again."
        ) from error
    if raw is None or "features" not in names:
        raise SasError(f"{path} is not a file of pixel features.")
    return _described(path, raw), tensors


def _described(path: Path, raw: str) -> dict[str, Any]:
    try:
        metadata: dict[str, Any] = json.loads(raw)
        version = metadata["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise SasError(f"The description inside {path} is damaged ({error}).") from error
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise SasError(
            f"{path} has pixel feature format {version!r}; this version reads {FORMAT_VERSION}."
        )
    kinds: tuple[tuple[str, type], ...] = (
        ("teacher", dict),
        ("text_encoder", str),
        ("image_sha256", str),
        ("rows_per_pixel", float),
        ("columns_per_pixel", float),
    )
    for key, kind in kinds:
        if not isinstance(metadata.get(key), kind):
            raise SasError(f"In {path} the entry {key!r} is missing or of a wrong kind.")
    return metadata


def _from_parts(
    path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> PixelFile:
    if tensors["features"].ndim != 3:
        raise SasError(f"{path} holds features of shape {tuple(tensors['features'].shape)}.")
    try:
        dense = DenseFeatures(
            tensors["features"].permute(2, 0, 1),
            metadata["rows_per_pixel"],
            metadata["columns_per_pixel"],
            tensors.get("valid"),
        )
    except SasError as error:
        raise SasError(f"{path} is damaged. {error}") from error
    if not bool(torch.isfinite(dense.features).all()):
        raise SasError(f"{path} holds features that are no finite numbers.")
    return PixelFile(dense, metadata["teacher"], metadata["text_encoder"], metadata["image_sha256"])
