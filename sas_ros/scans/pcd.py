"""PCD files: ascii, binary and binary_compressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.observation import Cloud
from sas_ros.scans.lzf import decompress_lzf
from sas_ros.scans.records import cloud_from_columns

_KINDS = {"F": "f", "I": "i", "U": "u"}


@dataclass(frozen=True)
class _Header:
    names: tuple[str, ...]
    types: tuple[np.dtype[Any], ...]
    counts: tuple[int, ...]
    height: int
    width: int
    encoding: str
    size: int  # bytes of the header, its last line break included

    @property
    def points(self) -> int:
        return self.height * self.width

    @property
    def point_bytes(self) -> int:
        pairs = zip(self.types, self.counts, strict=True)
        return sum(kind.itemsize * count for kind, count in pairs)


def parse_pcd(data: bytes) -> Cloud:
    """Read the bytes of a PCD file; see `read_scan`."""
    header = _parse_header(data)
    body = memoryview(data)[header.size :]
    if header.encoding == "ascii":
        columns = _ascii_columns(header, bytes(body))
    elif header.encoding == "binary":
        columns = _binary_columns(header, body)
    elif header.encoding == "binary_compressed":
        columns = _compressed_columns(header, body)
    else:
        raise SasError(f"its data is {header.encoding}, not ascii, binary or binary_compressed.")
    return cloud_from_columns(columns, height=header.height, width=header.width)


def _parse_header(data: bytes) -> _Header:
    words: dict[str, list[str]] = {}
    place = 0
    while "DATA" not in words:
        end = data.find(b"\n", place)
        if end < 0 or end - place > 65536:
            raise SasError("it has no PCD header that ends in a DATA line.")
        line = data[place:end].decode("latin-1").split("#")[0].split()
        if line:
            words[line[0].upper()] = line[1:]
        place = end + 1
    names = words.get("FIELDS") or words.get("COLUMNS") or []
    sizes, kinds = words.get("SIZE", []), words.get("TYPE", [])
    counts = words.get("COUNT") or ["1"] * len(names)
    if not names or not len(names) == len(sizes) == len(kinds) == len(counts):
        raise SasError("its header does not give a SIZE, TYPE and COUNT for each of its FIELDS.")
    types = []
    for size, kind in zip(sizes, kinds, strict=True):
        if kind not in _KINDS or size not in ("1", "2", "4", "8") or (kind == "F" and size < "4"):
            raise SasError(f"its header has a field of TYPE {kind} and SIZE {size}.")
        types.append(np.dtype(f"<{_KINDS[kind]}{size}"))
    numbers = {name: int(words[name][0]) for name in ("WIDTH", "HEIGHT", "POINTS") if name in words}
    total = numbers.get("POINTS", numbers.get("WIDTH", 0) * numbers.get("HEIGHT", 1))
    width, height = numbers.get("WIDTH", total), numbers.get("HEIGHT", 1)
    if min(width, height, total) < 0 or width * height != total:
        raise SasError(f"its header gives {width} x {height} points and {total} points in all.")
    per_field = tuple(int(count) for count in counts)
    if min(per_field) < 0:
        raise SasError("its header gives a negative COUNT.")
    encoding = (words["DATA"] or ["nothing"])[0].lower()
    return _Header(tuple(names), tuple(types), per_field, height, width, encoding, place)


def _check_size(header: _Header, found: int) -> None:
    needed = header.points * header.point_bytes
    if found < needed:
        raise SasError(f"its {header.points} points need {needed} bytes and only {found} are left.")


def _ascii_columns(header: _Header, body: bytes) -> dict[str, npt.NDArray[Any]]:
    words = body.split()
    per_point = sum(header.counts)
    if len(words) < header.points * per_point:
        raise SasError(f"it has {len(words)} numbers for {header.points} points of {per_point}.")
    table = np.array([float(word) for word in words[: header.points * per_point]])
    table = table.reshape(header.points, per_point)
    columns, place = {}, 0
    for name, kind, count in zip(header.names, header.types, header.counts, strict=True):
        if count == 1 and name != "_":
            with np.errstate(over="ignore", invalid="ignore"):
                columns[name] = table[:, place].astype(kind)
        place += count
    return columns


def _binary_columns(header: _Header, body: memoryview) -> dict[str, npt.NDArray[Any]]:
    _check_size(header, len(body))
    step = header.point_bytes
    columns, offset = {}, 0
    for name, kind, count in zip(header.names, header.types, header.counts, strict=True):
        if count == 1 and name != "_" and header.points:
            columns[name] = np.ndarray((header.points,), kind, body, offset, (step,))
        elif count == 1 and name != "_":
            columns[name] = np.zeros(0, kind)
        offset += kind.itemsize * count
    return columns


def _compressed_columns(header: _Header, body: memoryview) -> dict[str, npt.NDArray[Any]]:
    if len(body) < 8:
        raise SasError("its compressed data is missing.")
    packed, size = (int(number) for number in np.frombuffer(body[:8], "<u4"))
    if len(body) < 8 + packed:
        raise SasError(f"its compressed data has {len(body) - 8} of {packed} bytes.")
    # The best copy turns 3 bytes into 264, so a larger claim is a lie and not worth the memory.
    if size > 88 * packed + 32:
        raise SasError(f"its {packed} compressed bytes cannot hold the {size} announced.")
    _check_size(header, size)
    raw = decompress_lzf(bytes(body[8 : 8 + packed]), size)
    columns, offset = {}, 0
    # Compressed files hold one field after another, not one point after another.
    for name, kind, count in zip(header.names, header.types, header.counts, strict=True):
        if count == 1 and name != "_":
            columns[name] = np.frombuffer(raw, kind, header.points, offset)
        offset += kind.itemsize * count * header.points
    return columns
