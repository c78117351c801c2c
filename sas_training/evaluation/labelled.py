"""Labelled scans on disk: `.npz` with `points` and `labels` (docs/formats.md)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError

IGNORED = 255
"""The label of a point that is not scored and not learned from."""


def read_labelled(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Points (N, 3) float32 m and labels (N,) int64 of a labelled `.npz`.

    Raises:
        SasError: not such a file, arrays of different length or of another kind, no finite point.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            points, labels = file["points"], file["labels"].reshape(-1)
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise SasError(
            f"{path} is no labelled scan: it must be an .npz with the arrays points (N, 3) and "
            f"labels (N,) ({error})."
        ) from error
    if points.ndim != 2 or points.shape[1] != 3 or len(points) != len(labels):
        raise SasError(f"{path} has points {points.shape} but {len(labels)} labels.")
    if points.dtype.kind not in "fiu" or labels.dtype.kind not in "fiu":
        raise SasError(
            f"{path} must hold numbers, not {points.dtype} points, {labels.dtype} labels."
        )
    if not np.isfinite(points).all(axis=1).any():
        raise SasError(f"{path} holds no finite point.")
    known = np.where(np.isfinite(labels), labels, IGNORED)
    return points.astype(np.float32), known.astype(np.int64)
