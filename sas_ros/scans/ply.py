"""PLY files: ascii and binary ones of either byte order are read, binary ones written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_write
from sas_ros.observation import Cloud
from sas_ros.scans.records import cloud_from_columns

_TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str]] = field(default_factory=list)  # (name, numpy type)
    has_list: bool = False


def parse_ply(data: bytes) -> Cloud:
    """Read the vertices of a PLY file; see `read_scan`."""
    encoding, elements, start = _parse_header(data)
    before: list[_Element] = []
    for element in elements:
        if element.name == "vertex":
            break
        before.append(element)
    else:
        raise SasError("it has no element `vertex`.")
    if element.has_list:
        raise SasError("its vertices have a property of type list, which is not read.")
    if not element.properties:
        raise SasError("its vertices have no properties.")
    if encoding == "ascii":
        columns = _ascii_columns(data, start, sum(other.count for other in before), element)
    else:
        columns = _binary_columns(data, start, _ORDERS[encoding], before, element)
    return cloud_from_columns(columns)


def _parse_header(data: bytes) -> tuple[str, list[_Element], int]:
    encoding, elements = "", list[_Element]()
    place = 0
    while True:
        end = data.find(b"\n", place)
        if end < 0 or end - place > 65536 or (place == 0 and data[:end].strip() != b"ply"):
            raise SasError("it has no PLY header that ends in end_header.")
        line = data[place:end].decode("latin-1").strip()
        words = line.split()
        place = end + 1
        if not words or words[0] in ("ply", "comment", "obj_info"):
            continue
        if words[0] == "end_header":
            break
        if words[0] == "format" and len(words) == 3 and words[1] in _ORDERS:
            encoding = words[1]
        elif words[0] == "element" and len(words) == 3:
            elements.append(_Element(words[1], int(words[2])))
            if elements[-1].count < 0:
                raise SasError(f"it announces {words[2]} of element {words[1]}.")
        elif words[0] == "property" and elements and len(words) == 5 and words[1] == "list":
            elements[-1].has_list = True
        elif words[0] == "property" and elements and len(words) == 3 and words[1] in _TYPES:
            elements[-1].properties.append((words[2], _TYPES[words[1]]))
        else:
            raise SasError(f"its header has a line that is not understood: {line[:80]!r}.")
    if not encoding:
        raise SasError("its header names no format.")
    return encoding, elements, place


def _ascii_columns(
    data: bytes, start: int, lines_before: int, vertices: _Element
) -> dict[str, npt.NDArray[Any]]:
    # One element a line is how every ascii file is written, so that other elements can be skipped.
    lines = data[start:].splitlines()[lines_before : lines_before + vertices.count]
    words = b" ".join(lines).split()
    per_point = len(vertices.properties)
    if len(lines) < vertices.count or len(words) != vertices.count * per_point:
        raise SasError(
            f"it announces {vertices.count} vertices of {per_point} values, "
            f"and has {len(lines)} lines with {len(words)} values."
        )
    table = np.array([float(word) for word in words]).reshape(vertices.count, per_point)
    columns = {}
    with np.errstate(over="ignore", invalid="ignore"):
        for place, (name, kind) in enumerate(vertices.properties):
            columns[name] = table[:, place].astype(kind)
    return columns


def _binary_columns(
    data: bytes, start: int, order: str, before: list[_Element], vertices: _Element
) -> dict[str, npt.NDArray[Any]]:
    for element in before:
        if element.has_list:
            raise SasError(f"lists of element {element.name} stand before its vertices.")
        start += element.count * sum(np.dtype(kind).itemsize for _, kind in element.properties)
    step = sum(np.dtype(kind).itemsize for _, kind in vertices.properties)
    needed = vertices.count * step
    if len(data) - start < needed:
        raise SasError(
            f"its {vertices.count} vertices need {needed} bytes, "
            f"and only {max(len(data) - start, 0)} are left."
        )
    columns = {}
    for name, kind in vertices.properties:
        dtype = np.dtype(order + kind)
        if vertices.count:
            columns[name] = np.ndarray((vertices.count,), dtype, data, start, (step,))
        else:
            columns[name] = np.zeros(0, dtype)
        start += dtype.itemsize
    return columns


def write_ply(
    path: Path,
    points: npt.NDArray[np.floating[Any]],
    *,
    colors: npt.NDArray[np.uint8] | None = None,
    label: npt.NDArray[np.integer[Any]] | None = None,
    confidence: npt.NDArray[np.floating[Any]] | None = None,
    instance: npt.NDArray[np.integer[Any]] | None = None,
) -> None:
    """Write points as a binary little-endian PLY, atomically.

    Properties: x y z, then those given of red green blue (uchar), label (int), confidence (float)
    and instance (int).

    Args:
        path: the file to write.
        points: (N, 3) metres. float64 is written as double, which a cloud with an origin needs:
            pass `cloud.points + cloud.origin`; anything else as float.
        colors: (N, 3) uint8 RGB.
        label, confidence, instance: (N,) each.

    Raises:
        SasError: an array has another number of points.
    """
    kind = "f8" if points.dtype == np.float64 else "f4"
    columns = [(name, kind, points[:, axis]) for axis, name in enumerate("xyz")]
    if colors is not None:
        named = zip(("red", "green", "blue"), np.asarray(colors).T, strict=True)
        columns += [(name, "u1", values) for name, values in named]
    for name, kind, values in (
        ("label", "i4", label),
        ("confidence", "f4", confidence),
        ("instance", "i4", instance),
    ):
        if values is not None:
            columns.append((name, kind, np.asarray(values)))
    names = {"u1": "uchar", "i4": "int", "f4": "float", "f8": "double"}
    records = np.zeros(len(points), [(name, "<" + kind) for name, kind, _ in columns])
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    for name, kind, values in columns:
        if values.shape != (len(points),):
            raise SasError(f"{len(points)} points cannot have {len(values)} values of {name}.")
        records[name] = values
        header.append(f"property {names[kind]} {name}")
    header.append("end_header")
    atomic_write(Path(path), "\n".join(header).encode() + b"\n" + records.tobytes())
