"""The triangles of a PLY file; its vertices are read by `sas_ros.scans`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_LISTS = ("vertex_indices", "vertex_index")


def read_faces(path: Path) -> npt.NDArray[np.int64] | None:
    """(F, 3) int64 vertex numbers of a PLY file; None for other files and where there are no faces.

    Faces may have more properties than their list of vertices, but no second list.

    Raises:
        SasError: the file is cut off, or its faces are not triangles.
    """
    path = Path(path)
    if path.suffix.lower() != ".ply":
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SasError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        return _faces(data)
    except SasError as error:
        raise SasError(f"The faces of {path} cannot be read: {error}") from error
    except (ValueError, KeyError, IndexError) as error:
        raise SasError(f"The faces of {path} cannot be read ({error}).") from error


def _faces(data: bytes) -> npt.NDArray[np.int64] | None:
    head, found, body = data.partition(b"end_header")
    if not found:
        raise SasError("it has no PLY header that ends in end_header.")
    body = body[body.index(b"\n") + 1 :]
    order = ""
    elements: list[tuple[str, int, list[list[str]]]] = []  # name, count, words of properties
    for line in head.decode("latin-1").splitlines():
        words = line.split()
        if words[:1] == ["format"]:
            order = _ORDERS[words[1]]
        elif words[:1] == ["element"]:
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"]:
            elements[-1][2].append(words[1:])
    at = [place for place, element in enumerate(elements) if element[0] == "face"]
    if not at or elements[at[0]][1] == 0:
        return None
    _, count, properties = elements[at[0]]
    lists = [place for place, words in enumerate(properties) if words[0] == "list"]
    if len(lists) != 1 or properties[lists[0]][3] not in _LISTS:
        raise SasError("they must have one list, vertex_indices.")
    before = elements[: at[0]]
    if any(words[0] == "list" for _, _, others in before for words in others):
        raise SasError("another list stands before them.")
    if not order:
        lines = body.splitlines()[sum(element[1] for element in before) :][:count]
        table = np.array([line.split() for line in lines], dtype=np.float64)
        if len(table) != count:
            raise SasError(f"{count} are announced and {len(table)} are there.")
        counts = table[:, lists[0]]
        corners = table[:, lists[0] + 1 : lists[0] + 4]
    else:
        start = sum(_row(others, order).itemsize * number for _, number, others in before)
        row = _row(properties, order)
        if len(body) - start < count * row.itemsize:
            raise SasError(f"{count} triangles do not fit into what is left of the file.")
        rows = np.frombuffer(body, row, count, start)
        counts, corners = rows["list count"], rows["list"]
    if not (counts == 3).all():
        raise SasError("some are not triangles; triangulate the mesh first.")
    return np.asarray(corners).astype(np.int64)


def _row(properties: list[list[str]], order: str) -> np.dtype[Any]:
    """Layout of one element whose list, if any, has three entries."""
    fields: list[tuple[Any, ...]] = []
    for number, words in enumerate(properties):
        if words[0] == "list":
            fields.append(("list count", order + _TYPES[words[1]]))
            fields.append(("list", order + _TYPES[words[2]], (3,)))
        else:
            fields.append((f"value {number}", order + _TYPES[words[0]]))
    return np.dtype(fields)
