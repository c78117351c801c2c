"""Scan files: every format and encoding, the real scans, and damage of all kinds."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_ros.scans import read_scan, write_ply
from sas_ros.scans.lzf import decompress_lzf

POINTS = np.array([[0.5, -1.25, 2.0], [3.0, np.nan, 1.0], [7.0, 8.0, -9.5], [1, 2, 3]], np.float32)
COLORS = np.array([[255, 0, 1], [2, 128, 3], [0, 0, 0], [9, 8, 7]], np.uint8)
LABELS = np.array([0, 19, 255, 4])


def save(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


# PLY

PLY_RECORD = [("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("alpha", "u1")]
PLY_RECORD += [("y", "f4"), ("x", "f4"), ("label", "i4")]
PLY_HEADER = """ply
format {} 1.0
comment made by hand
element camera 1
property float focal
element vertex 4
property float z
property uchar red
property uint8 green
property uchar blue
property uchar alpha
property float32 y
property float x
property int label
element face 1
property list uchar int vertex_indices
end_header
"""


def ply_records(order: str) -> npt.NDArray[Any]:
    records = np.zeros(4, [(name, order + kind) for name, kind in PLY_RECORD])
    for axis, name in enumerate("xyz"):
        records[name] = POINTS[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        records[name] = COLORS[:, channel]
    records["label"] = LABELS
    return records


def ply_file(encoding: str) -> bytes:
    header = PLY_HEADER.format(encoding).encode()
    if encoding == "ascii":
        rows = [" ".join(str(value) for value in row) for row in ply_records("<").tolist()]
        return header + ("585.0\n" + "\n".join(rows) + "\n3 0 1 2\n").encode()
    order = "<" if encoding == "binary_little_endian" else ">"
    face = struct.pack(order + "Biii", 3, 0, 1, 2)
    return header + struct.pack(order + "f", 585) + ply_records(order).tobytes() + face


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_ply(tmp_path: Path, encoding: str, line_end: str) -> None:
    data = ply_file(encoding)
    if line_end == "\r\n":
        size = data.index(b"end_header\n") + 11
        body = data[size:].replace(b"\n", b"\r\n") if encoding == "ascii" else data[size:]
        data = data[:size].replace(b"\n", b"\r\n") + body
    cloud = read_scan(save(tmp_path, "scan.PLY", data))
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.colors, COLORS)
    np.testing.assert_array_equal(cloud.labels, LABELS)
    assert cloud.header.frame_id == "" and cloud.height == 1


def test_ply_with_float_colors_and_doubles(tmp_path: Path) -> None:
    header = "ply\nformat ascii 1.0\nelement vertex 2\n"
    header += "".join(f"property double {name}\n" for name in ("x", "y", "z", "red", "green"))
    text = header + "property float blue\nend_header\n500000 0 1 0 0.5 1\n500001.25 2 3 1 1 1\n"
    cloud = read_scan(save(tmp_path, "a.ply", text))
    assert cloud.colors is not None and cloud.colors.tolist() == [[0, 128, 255], [255] * 3]
    expected = [[500000, 0, 1], [500001.25, 2, 3]]
    np.testing.assert_array_equal(cloud.points + cloud.origin, expected)


def test_ply_writes_what_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "out.ply"
    write_ply(
        path,
        POINTS,
        colors=COLORS,
        label=LABELS,
        confidence=np.linspace(0, 1, 4),
        instance=np.array([0, 1, 1, 2]),
    )
    cloud = read_scan(path)
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.colors, COLORS)
    np.testing.assert_array_equal(cloud.labels, LABELS)
    header = path.read_bytes().split(b"end_header")[0].decode()
    properties = [line.split()[1:] for line in header.splitlines() if line.startswith("property")]
    assert properties[-3:] == [["int", "label"], ["float", "confidence"], ["int", "instance"]]
    write_ply(path, POINTS + np.array([500000.123, 0, 0]))
    far = read_scan(path)
    np.testing.assert_allclose(far.points[0] + far.origin, [500000.623, -1.25, 2.0], atol=1e-4)
    with pytest.raises(SasError, match="4 points cannot have 3 values of label"):
        write_ply(path, POINTS, label=LABELS[:3])


def test_open3d_reads_what_we_write(tmp_path: Path) -> None:
    open3d = pytest.importorskip("open3d")
    write_ply(tmp_path / "out.ply", POINTS, colors=COLORS, label=LABELS)
    cloud = open3d.t.io.read_point_cloud(str(tmp_path / "out.ply"))
    np.testing.assert_array_equal(cloud.point.positions.numpy(), POINTS)
    np.testing.assert_array_equal(cloud.point.colors.numpy(), COLORS)
    assert cloud.point.label.numpy().ravel().tolist() == LABELS.tolist()


# PCD

PCD_HEADER = """# .PCD v0.7 - Point Cloud Data file format
VERSION 0.7
FIELDS x _ y z rgb normals label
SIZE 4 1 4 4 4 4 2
TYPE F U F F {rgb_type} F U
COUNT 1 3 1 1 1 3 1
WIDTH 2
HEIGHT 2
VIEWPOINT 0 0 0 1 0 0 0
POINTS 4
DATA {encoding}
"""


def lzf_compress(data: bytes) -> bytes:
    """A plain LZF compressor: greedy three-byte matches, all forms of the format."""
    result, literals, seen, place = bytearray(), bytearray(), dict[bytes, int](), 0

    def flush() -> None:
        while literals:
            part = literals[:32]
            result.append(len(part) - 1)
            result.extend(part)
            del literals[:32]

    while place < len(data):
        key = data[place : place + 3]
        match = seen.get(key, -1) if len(key) == 3 else -1
        seen[key] = place
        distance = place - match - 1
        if match < 0 or distance >= 8192:
            literals.append(data[place])
            place += 1
            continue
        flush()
        length = 3
        while (
            length < 264
            and place + length < len(data)
            and data[match + length] == data[place + length]
        ):
            length += 1
        if length < 9:
            result.append((length - 2) << 5 | distance >> 8)
        else:
            result.append(7 << 5 | distance >> 8)
            result.append(length - 9)
        result.append(distance & 255)
        place += length
    flush()
    return bytes(result)


def pcd_file(encoding: str, rgb_type: str = "F") -> bytes:
    packed = (COLORS.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(1, dtype=np.uint32)
    fields: list[tuple[str, Any]] = [("x", "<f4"), ("_", "u1", (3,)), ("y", "<f4"), ("z", "<f4")]
    fields += [("rgb", "<u4"), ("normals", "<f4", (3,)), ("label", "<u2")]
    records = np.zeros(4, fields)
    for axis, name in enumerate("xyz"):
        records[name] = POINTS[:, axis]
    records["rgb"], records["label"], records["_"] = packed, LABELS, 7
    header = PCD_HEADER.format(encoding=encoding, rgb_type=rgb_type).encode()
    if encoding == "binary":
        return header + records.tobytes()
    if encoding == "binary_compressed":
        raw = b"".join(np.ascontiguousarray(records[field[0]]).tobytes() for field in fields)
        packed_bytes = lzf_compress(raw)
        return header + struct.pack("<II", len(packed_bytes), len(raw)) + packed_bytes
    rows = []
    for record, bits in zip(records, packed, strict=True):
        color = repr(bits.view(np.float32).item()) if rgb_type == "F" else str(bits)
        x, y, z = (str(record[name]) for name in "xyz")
        rows.append(f"{x} 7 7 7 {y} {z} {color} 0 0 0 {record['label']}")
    return header + ("\n".join(rows) + "\n").encode()


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("rgb_type", ["F", "U", "I"])
def test_pcd(tmp_path: Path, encoding: str, rgb_type: str) -> None:
    cloud = read_scan(save(tmp_path, "scan.pcd", pcd_file(encoding, rgb_type)))
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.colors, COLORS)
    np.testing.assert_array_equal(cloud.labels, LABELS)
    assert (cloud.height, cloud.width) == (2, 2)


@pytest.mark.parametrize("compressed", [False, True])
def test_pcd_of_open3d(tmp_path: Path, compressed: bool) -> None:
    open3d = pytest.importorskip("open3d")
    rng = np.random.default_rng(0)
    points = np.round(rng.normal(size=(3000, 3)), 1)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    cloud.colors = open3d.utility.Vector3dVector(rng.integers(0, 2, (3000, 3)).astype(float))
    path = tmp_path / "scan.pcd"
    open3d.io.write_point_cloud(str(path), cloud, compressed=compressed)
    ours = read_scan(path)
    np.testing.assert_allclose(ours.points, points, atol=1e-6)
    np.testing.assert_array_equal(ours.colors, np.asarray(cloud.colors) * 255)


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=300) | st.lists(st.sampled_from(b"abc"), max_size=3000).map(bytes))
def test_lzf_round_trip(data: bytes) -> None:
    assert decompress_lzf(lzf_compress(data), len(data)) == data


@settings(deadline=None, derandomize=True)
@given(data=st.binary(max_size=60), size=st.integers(0, 300))
def test_lzf_of_noise(data: bytes, size: int) -> None:
    with contextlib.suppress(SasError):
        assert len(decompress_lzf(data, size)) == size


# NumPy


def npy(array: npt.NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["<f4", ">f4", "f8", "f2"])
@pytest.mark.parametrize("fortran", [False, True])
def test_npy(tmp_path: Path, kind: str, fortran: bool) -> None:
    table = np.hstack([POINTS, COLORS.astype(np.float32)]).astype(kind)
    data = npy(np.asfortranarray(table) if fortran else table)
    cloud = read_scan(save(tmp_path, "scan.npy", data))
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.colors, COLORS)


def test_npy_with_colors_of_zero_to_one(tmp_path: Path) -> None:
    table = np.hstack([POINTS, COLORS.astype(np.float32) / 255])
    cloud = read_scan(save(tmp_path, "scan.npy", npy(table)))
    np.testing.assert_array_equal(cloud.colors, COLORS)


@pytest.mark.parametrize("columns", [3, 4, 6])
def test_npy_columns_that_are_no_colors(tmp_path: Path, columns: int) -> None:
    normals = np.array([[0, 0, 1], [0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    table = np.hstack([POINTS, normals])[:, :columns]
    cloud = read_scan(save(tmp_path, "scan.npy", npy(table)))
    assert cloud.colors is None and len(cloud.points) == 4


def test_npy_organised_and_records(tmp_path: Path) -> None:
    cloud = read_scan(save(tmp_path, "a.npy", npy(POINTS.reshape(2, 2, 3))))
    assert (cloud.height, cloud.width) == (2, 2)
    np.testing.assert_array_equal(cloud.points, POINTS)
    cloud = read_scan(save(tmp_path, "b.npy", npy(ply_records("<"))))
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.colors, COLORS)


@pytest.mark.parametrize("compressed", [False, True])
def test_npz(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "scan.npz"
    saver = np.savez_compressed if compressed else np.savez
    saver(path, points=POINTS, labels=LABELS[:, None].astype(np.uint8), colors=COLORS / 255)
    cloud = read_scan(path)
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.colors, COLORS)
    np.testing.assert_array_equal(cloud.labels, LABELS)
    np.savez(path, points=POINTS)
    bare = read_scan(path)
    assert bare.colors is None and bare.labels is None


# .bin


def lidar_table(columns: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(3)
    table = np.zeros((60, columns), np.float32)
    table[:, :3] = rng.normal(size=(60, 3)) * 20
    if columns == 6:
        table[:, 3:] = rng.random((60, 3))
    else:
        table[:, 3] = rng.random(60)
    if columns == 5:
        table[:, 4] = rng.integers(0, 32, 60)
    return table


@pytest.mark.parametrize("columns", [4, 5, 6])
def test_bin_finds_the_number_of_columns(tmp_path: Path, columns: int) -> None:
    table = lidar_table(columns)
    cloud = read_scan(save(tmp_path, "scan.bin", table.tobytes()))
    np.testing.assert_array_equal(cloud.points, table[:, :3])
    assert (cloud.colors is not None) == (columns == 6)


def test_bin_columns_by_name_and_by_word(tmp_path: Path) -> None:
    table = lidar_table(5)
    table[:, 4] = 0.05  # a time, not a ring
    cloud = read_scan(save(tmp_path, "scan.pcd.bin", table.tobytes()))
    np.testing.assert_array_equal(cloud.points, table[:, :3])
    seven = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32)
    path = save(tmp_path, "seven.bin", seven.tobytes())
    with pytest.raises(SasError, match="number of columns"):
        read_scan(path)
    np.testing.assert_array_equal(read_scan(path, columns=7).points, seven[:, :3])
    with pytest.raises(SasError, match="whole number of points of 5"):
        read_scan(path, columns=5)
    with pytest.raises(SasError, match="at least 3"):
        read_scan(path, columns=2)


# What is refused


PLY_ASCII = PLY_HEADER.format("ascii")
ROWS = "585\n" + "1 1 1 1 1 1 1 1\n" * 4
PCD_ASCII = PCD_HEADER.format(encoding="ascii", rgb_type="F")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.las", b"LASF", "must end in .ply, .pcd"),
        ("a.ply", b"", "is empty"),
        ("a.ply", b"solid cube\n", "no PLY header"),
        ("a.ply", PLY_ASCII.replace("ascii", "morse"), "not understood: 'format morse"),
        ("a.ply", PLY_ASCII.replace("vertex 4", "vertex many"), "damaged"),
        ("a.ply", PLY_ASCII.replace("vertex 4", "vertex -4"), "-4 of element vertex"),
        ("a.ply", PLY_ASCII.replace("element vertex", "element node"), "no element `vertex`"),
        ("a.ply", PLY_ASCII.replace("float x", "float u") + ROWS, "no float column x"),
        ("a.ply", PLY_ASCII.replace("float x", "int x") + ROWS, "x (int32)"),
        ("a.ply", PLY_ASCII + "0\n1 2 3", "4 vertices of 8 values"),
        ("a.ply", PLY_ASCII + "0\n" + "1 2 3 4 5 6 7 b\n" * 4, "damaged"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\n"
                  "property float z\nend_header\n", "holds no points"),
        ("a.ply", "ply\nformat binary_little_endian 1.0\nelement vertex 99999999999\n"
                  "property float x\nproperty float y\nproperty float z\nend_header\n", "need"),
        ("a.ply", ply_file("binary_little_endian")[:-40], "only"),
        ("a.pcd", b"hello\n", "no PCD header"),
        ("a.pcd", PCD_ASCII + "1 2 3", "3 numbers for 4 points of 11"),
        ("a.pcd", PCD_ASCII.replace("DATA ascii", "DATA smoke"), "its data is smoke"),
        ("a.pcd", PCD_ASCII.replace("WIDTH 2", "WIDTH 3"), "3 x 2 points and 4 points in all"),
        ("a.pcd", PCD_ASCII.replace("SIZE 4 1", "SIZE 4"), "SIZE, TYPE and COUNT"),
        ("a.pcd", PCD_ASCII.replace("SIZE 4 1", "SIZE 3 1"), "TYPE F and SIZE 3"),
        ("a.pcd", pcd_file("binary")[:-5], "bytes and only"),
        ("a.pcd", pcd_file("binary_compressed")[:-5], "of"),
        ("a.npy", b"\x93NUMPY", "damaged"),
        ("a.npy", npy(POINTS)[:-1], "announces an array"),
        ("a.npy", npy(np.zeros((0, 3), np.float32)), "holds no points"),
        ("a.npy", npy(np.zeros((4, 2), np.float32)), "shape (4, 2)"),
        ("a.npy", npy(np.zeros((4, 3), np.int32)), "int32"),
        ("a.npy", npy(np.array([{}]), allow_pickle=True), "Python objects"),
        ("a.npz", b"PK nothing", "damaged"),
        ("a.bin", b"abc", "number of columns"),
        ("a.bin", np.full((50, 4), 1e20, np.float32).tobytes(), "number of columns"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, name: str, data: bytes | str, words: str) -> None:
    path = save(tmp_path, name, data)
    with pytest.raises(SasError) as caught:
        read_scan(path)
    assert words in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"xyz": POINTS}, "no array `points`; its arrays: xyz"),
        ({"points": POINTS, "labels": LABELS[:3]}, "4 points but 3 labels"),
        ({"points": POINTS, "labels": LABELS + 0.5}, "not whole numbers"),
        ({"points": POINTS, "colors": np.zeros((4, 2))}, "its colours are float64"),
        ({"points": POINTS, "colors": np.zeros((3, 3))}, "4 points but 3 colors"),
    ],
)
def test_refused_npz(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "scan.npz", **arrays)
    with pytest.raises(SasError, match=words):
        read_scan(tmp_path / "scan.npz")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(SasError, match="No such file"):
        read_scan(tmp_path / "none.ply")
    (tmp_path / "folder.pcd").mkdir()
    with pytest.raises(SasError, match="directory"):
        read_scan(tmp_path / "folder.pcd")


def zip_of(member: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.npy", member)
    return stream.getvalue()


SOUND = {
    "a.ply": ply_file("ascii"),
    "b.ply": ply_file("binary_little_endian"),
    "a.pcd": pcd_file("ascii"),
    "b.pcd": pcd_file("binary"),
    "c.pcd": pcd_file("binary_compressed"),
    "a.npy": npy(np.hstack([POINTS, COLORS.astype(np.float32)])),
    "b.npy": npy(ply_records(">")),
    "a.npz": zip_of(npy(POINTS)),
    "a.bin": lidar_table(4).tobytes(),
}


@settings(
    deadline=None,
    derandomize=True,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.sampled_from(sorted(SOUND)),
    keep=st.floats(0, 1),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=3) | st.sampled_from(b"0919- ")),
        max_size=4,
    ),
    tail=st.binary(max_size=20),
)
def test_damage_is_told_and_never_crashes(
    tmp_path: Path, name: str, keep: float, edits: list[tuple[float, Any]], tail: bytes
) -> None:
    data = bytearray(SOUND[name])
    for where, new in edits:
        start = int(where * (len(data) - 1))
        piece = bytes([new]) if isinstance(new, int) else new
        data[start : start + len(piece)] = piece
    if keep < 0.5:
        del data[int(2 * keep * len(data)) :]
        data += tail
    path = save(tmp_path, name, bytes(data))
    try:
        cloud = read_scan(path)
    except SasError as error:
        assert str(path) in str(error)
        return
    assert 0 < len(cloud.points) <= len(data) * 2000


@settings(
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(suffix=st.sampled_from([".ply", ".pcd", ".npy", ".npz", ".bin"]), data=st.binary())
def test_noise(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = save(tmp_path, "noise" + suffix, data)
    with contextlib.suppress(SasError):
        read_scan(path)


# Real scans


@pytest.mark.parametrize(
    ("name", "count", "colored"),
    [
        ("kinect_pcd_organised/learn20.pcd", 307_200, True),
        ("kinect_pcd_organised/region_growing_rgb_tutorial.pcd", 307_200, True),
        ("lidar_room_scan/room_scan1.pcd", 112_586, False),
        ("rgbd_7scenes_redkitchen/fused_cloud.ply", 128_262, True),
        ("scannet_rooms/scene0000_00_vert.npy", 50_000, True),
        ("semantickitti_frame/000750_points.npy", 86_139, False),
        ("kitti_object/000000_velodyne.bin", 115_384, False),
        ("kitti_object/000008_velodyne_fov.bin", 17_238, False),
        ("sunrgbd_single_view/000017.bin", 50_000, True),
    ],
)
def test_real_scans(test_data: Path, name: str, count: int, colored: bool) -> None:
    cloud = read_scan(test_data / name)
    assert len(cloud.points) == count and (cloud.colors is not None) == colored
    if colored:
        assert cloud.colors is not None and cloud.colors.std() > 20
    assert not cloud.origin.any()


def test_real_nuscenes_scan(test_data: Path) -> None:
    (path,) = (test_data / "nuscenes_frame_a").glob("*.pcd.bin")
    assert len(read_scan(path).points) == 34_688


@pytest.mark.parametrize(
    ("name", "finite"),
    [("region_growing_rgb_tutorial.pcd", 259_847), ("learn20.pcd", 194_137)],
)
def test_compressed_kinect_clouds_as_open3d_reads_them(
    test_data: Path, name: str, finite: int
) -> None:
    path = test_data / "kinect_pcd_organised" / name
    cloud = read_scan(path)
    assert (cloud.height, cloud.width) == (480, 640)
    assert int(cloud.valid.sum()) == finite
    if name == "learn20.pcd":
        assert cloud.labels is not None and {1, 20} <= set(np.unique(cloud.labels))
    open3d = pytest.importorskip("open3d")
    theirs = open3d.t.io.read_point_cloud(str(path))
    np.testing.assert_array_equal(cloud.points, theirs.point.positions.numpy())
    np.testing.assert_array_equal(cloud.colors, theirs.point.colors.numpy())
