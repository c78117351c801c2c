"""OpenScene's `.pt` files of point features, read and written in both layouts.

Two keys: `feat` (M, C) float16 and `mask_full` (N,) bool, one row for each true point. Three keys
(older): `mask_full` marks the points of a chunk, `feat` has a row for each of those, and `mask`
says which of the rows were seen, as bool or as indices. Files are read with `weights_only` and the
allow-list of `sas_ros.student.checkpoint`, widened by plain numpy arrays (some masks are).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_ros.student.checkpoint import ALLOWED_GLOBALS, NumpyType
from sas_training.fusion.features import PointFeatures


def write_openscene(
    features: PointFeatures, path: Path, chunk: npt.NDArray[np.bool_] | None = None
) -> None:
    """Write features as OpenScene and SAS read them; names and source codes have no place in these
    files and are left out.

    Args:
        chunk: None: two keys. (N,) bool: three keys, about the points of this chunk alone; those of
            them that were not seen have a row of zeros. All true keeps every feature.

    Raises:
        SasError: a chunk of another number of points.
    """
    arrays: dict[str, npt.NDArray[Any]] = {"feat": features.features, "mask_full": features.mask}
    if chunk is not None:
        if chunk.shape != features.mask.shape or chunk.dtype != np.bool_:
            raise SasError(
                f"The chunk must be true or false for each of the {features.points} points, not "
                f"{chunk.dtype} {chunk.shape}."
            )
        seen = features.mask[chunk]
        rows = np.zeros((len(seen), features.channels), dtype=np.float16)
        rows[seen] = features.features[chunk[features.mask]]
        arrays = {"feat": rows, "mask": np.flatnonzero(seen), "mask_full": chunk}
    content = {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}
    with atomic_path(Path(path)) as temporary:
        torch.save(content, temporary)


def read_openscene(path: Path, teacher: str, scene: str) -> PointFeatures:
    """Read a file of two or three keys; the names, which it does not hold, are given.

    Raises:
        SasError: no such file, not readable without running code, keys missing, or parts that do
            not fit together.
    """
    path = Path(path)
    if not path.is_file():
        raise SasError(f"There are no point features at {path}.")
    content = read_plain(path, "point features")
    if not isinstance(content, Mapping) or not {"feat", "mask_full"} <= content.keys():
        raise SasError(
            f"{path} holds no OpenScene point features; wanted is a dict with feat and mask_full."
        )
    found = plain_array(path, "feat", content["feat"])
    full = plain_array(path, "mask_full", content["mask_full"])
    if found.ndim != 2 or found.dtype.kind != "f":
        raise SasError(f"feat of {path} is not a matrix of floating-point numbers.")
    if full.ndim != 1 or full.dtype != np.bool_:
        raise SasError(f"mask_full of {path} is not a list of true and false.")
    if "mask" in content:
        found, full = _of_chunk(path, found, full, plain_array(path, "mask", content["mask"]))
    with np.errstate(over="ignore"):  # PointFeatures says what became infinite
        stored = np.ascontiguousarray(found, dtype=np.float16)
    try:
        return PointFeatures(stored, full, teacher, scene, {"read_from": "openscene"})
    except SasError as error:
        raise SasError(f"{path} is damaged. {error}") from error


def _of_chunk(
    path: Path, found: npt.NDArray[Any], chunk: npt.NDArray[Any], mask: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Rows that were seen and the mask over all points, from the three-key layout."""
    members = np.flatnonzero(chunk)
    seen = np.zeros(len(members), dtype=bool)
    if mask.ndim == 1 and mask.dtype == np.bool_ and len(mask) == len(members):
        seen = mask
    elif (
        mask.ndim == 1
        and mask.dtype.kind in "iu"
        and (len(mask) == 0 or (mask.min() >= 0 and mask.max() < len(members)))
    ):
        seen[mask] = True
    else:
        raise SasError(f"mask of {path} does not fit the {len(members)} points of mask_full.")
    if len(found) == len(members):
        found = found[seen]
    elif len(found) != np.count_nonzero(seen):
        raise SasError(
            f"feat of {path} has {len(found)} rows; wanted is one for each of the {len(members)} "
            "points of mask_full."
        )
    full = np.zeros(len(chunk), dtype=bool)
    full[members[seen]] = True
    return found, full


def plain_array(path: Path, name: str, value: object) -> npt.NDArray[Any]:
    """An array of numbers out of `read_plain`; raises `SasError` for anything else."""
    if isinstance(value, _NumpyArray):
        value = value.values
    elif isinstance(value, torch.Tensor):
        plain = value.layout == torch.strided and not value.is_quantized
        if plain and value.dtype not in (torch.bfloat16,):
            value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        raise SasError(f"{name} of {path} is not a plain array of numbers.")
    return value


def read_plain(path: Path, what: str) -> Any:
    """Content of a file of `torch.save` that holds tensors, plain arrays and containers of them.

    Arrays of numpy come out as something that `plain_array` turns into arrays.

    Raises:
        SasError: not readable without running code; `what` says what it should hold.
    """
    safe_globals = getattr(torch.serialization, "safe_globals", None)
    if safe_globals is None:
        raise SasError(
            f"Reading {path} safely needs torch 2.6 or newer; this is {torch.__version__}."
        )
    try:
        with safe_globals([*ALLOWED_GLOBALS, *_ARRAYS]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats, for those who write files
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle raises whatever its opcodes lead to
        raise SasError(
            f"{path} cannot be read as tensors and plain numbers alone ({type(error).__name__}); "
            f"nothing of it was run. It is cut off, or no file of {what}."
        ) from error


class _NumpyArray:
    """What `numpy.ndarray` is while a file is read: numbers from bytes, never objects."""

    def __init__(self) -> None:
        self.values: npt.NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, columns_first, data = state
        if not isinstance(kind, NumpyType) or not isinstance(data, bytes):
            raise ValueError("no plain array")
        flat = np.frombuffer(data, kind.order + kind.code)
        self.values = flat.reshape(shape, order="F" if columns_first else "C").copy()


def _new_array(*_: object) -> _NumpyArray:
    """What numpy's `_reconstruct` is while a file is read: an empty array to be filled."""
    return _NumpyArray()


_ARRAYS: list[Any] = [
    (_NumpyArray, "numpy.ndarray"),
    (_new_array, "numpy.core.multiarray._reconstruct"),
    (_new_array, "numpy._core.multiarray._reconstruct"),
]
