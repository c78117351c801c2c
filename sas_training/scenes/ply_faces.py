"""What a PLY file says about its triangles beside their corners, such as a category."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.superpoints.meshes import read_faces

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class FaceTable:
    """Triangles: corners (F, 3) int64, and whole-number columns (F,) int64 by name."""

    corners: npt.NDArray[np.int64]
    columns: Mapping[str, npt.NDArray[np.int64]]


def read_face_table(path: Path) -> FaceTable | None:
    """Triangles and the whole numbers that stand beside them; None for a mesh without faces.

    Columns are read from binary little-endian files whose last element is `face`; of others only
    the corners are returned.

    Raises:
        SasError: the file is damaged or its faces are not triangles.
    """
    corners = read_faces(path)
    if corners is None:
        return None
    data = Path(path).read_bytes()
    head, _, _ = data.partition(b"end_header")
    text = head.decode("latin-1")
    elements = re.split(r"^element ", text, flags=re.MULTILINE)[1:]
    if "binary_little_endian" not in text or not elements[-1].startswith("face"):
        return FaceTable(corners, {})
    fields: list[tuple[str, str]] = []
    for line in elements[-1].splitlines()[1:]:
        words = line.split()
        if words[:2] == ["property", "list"]:
            fields.append(("list count", "<" + _TYPES[words[2]]))
            fields += [(f"corner {n}", "<" + _TYPES[words[3]]) for n in range(3)]
        elif words[:1] == ["property"]:
            fields.append((words[2], "<" + _TYPES[words[1]]))
    row = np.dtype(fields)
    # The faces end the file, so that nothing has to be known of what stands before them.
    start = len(data) - len(corners) * row.itemsize
    if start < len(head):
        raise SasError(f"The faces of {path} do not fit into the file.")
    rows = np.frombuffer(data, row, len(corners), start)
    if not (rows["list count"] == 3).all():
        raise SasError(f"The faces of {path} are not the last thing in the file.")
    names = [n for n, kind in fields if kind[1] in "iu" and not n.startswith(("list", "corner"))]
    return FaceTable(corners, {name: rows[name].astype(np.int64) for name in names})


def most_frequent(
    corners: npt.NDArray[np.int64], values: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int64]:
    """For each of `count` vertices the value (not below 0) that most of its faces have.

    The lowest of several; 0 for a vertex of no face.
    """
    span = int(values.max(initial=0)) + 1
    keys = corners.reshape(-1) * span + np.repeat(np.maximum(values, 0), 3)
    found, votes = np.unique(keys, return_counts=True)
    vertex, value = np.divmod(found, span)
    order = np.lexsort((value, -votes, vertex))
    first = np.append(True, vertex[order][1:] != vertex[order][:-1])[: len(order)]
    result = np.zeros(count, dtype=np.int64)
    result[vertex[order][first]] = value[order][first]
    return result
