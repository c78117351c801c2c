"""One function for every scan file: the name says the format, trouble becomes a sentence."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

from sas_ros.errors import SasError
from sas_ros.observation import Cloud
from sas_ros.scans.arrays import parse_npy_scan, parse_npz_scan
from sas_ros.scans.lidar import parse_bin
from sas_ros.scans.pcd import parse_pcd
from sas_ros.scans.ply import parse_ply

SCAN_SUFFIXES = (".ply", ".pcd", ".npy", ".npz", ".bin")


def read_scan(path: Path | str, *, columns: int | None = None) -> Cloud:
    """Read a scan file as a cloud; the format is chosen by the name.

    Formats (docs/formats.md has the details):
        .ply  ascii or binary, with or without colours, `label` and faces;
        .pcd  ascii, binary or binary_compressed; organised clouds keep their shape;
        .npy  (N, 3 or more) or (height, width, 3 or more) floats: x y z, then red green blue when
              columns 4 to 6 can be colours; or records with fields x, y, z;
        .npz  arrays `points`, and optionally `colors` and `labels`;
        .bin  float32 rows: KITTI (4 columns), nuScenes (5) or x y z red green blue (6).

    No format says where up is or what its axes are called, so the cloud's frame is "" (a PCD of a
    depth camera is usually in an optical frame; pass `--up 0,-1,0` then). The viewpoint of a PCD
    is not applied. Nothing is ever unpickled.

    Args:
        path: the file.
        columns: number of columns of a .bin file where it is not to be guessed.

    Raises:
        SasError: the file is missing, of another format, damaged, or holds no points.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SCAN_SUFFIXES:
        raise SasError(
            f"{path} is not a scan this reads: its name must end in {', '.join(SCAN_SUFFIXES)}."
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SasError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not data:
        raise SasError(f"{path} is empty.")
    try:
        if suffix == ".ply":
            cloud = parse_ply(data)
        elif suffix == ".pcd":
            cloud = parse_pcd(data)
        elif suffix == ".npy":
            cloud = parse_npy_scan(data)
        elif suffix == ".npz":
            cloud = parse_npz_scan(data)
        else:
            columns = columns or (5 if path.name.lower().endswith(".pcd.bin") else None)
            cloud = parse_bin(data, columns=columns)
    except SasError as error:
        raise SasError(f"{path}: {error}") from error
    except (
        ValueError,  # numbers that are no numbers, text that is no text
        IndexError,
        KeyError,
        OverflowError,
        MemoryError,
        NotImplementedError,  # zip compressions
        RuntimeError,  # encrypted zip members
        EOFError,
        struct.error,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise SasError(f"{path} is damaged or is no {suffix} file ({error}).") from error
    if not len(cloud.points):
        raise SasError(f"{path} holds no points.")
    return cloud
