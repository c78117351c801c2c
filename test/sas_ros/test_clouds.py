"""PointCloud2 <-> numpy: every legal layout against a slow decoder, point by point."""

from __future__ import annotations

import copy
import math
import struct
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sas_ros.clouds import (
    NO_INSTANCE,
    UNLABELLED,
    copy_points,
    has_plain_xyz,
    read_cloud,
    stamp_fields,
    write_cloud,
    write_labelled_cloud,
    write_subset,
)
from sas_ros.clouds.layout import read_header
from sas_ros.errors import SasError
from sas_ros.observation import Cloud, SourceHeader

CODES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}


@dataclass
class FakeTime:
    sec: int = 0
    nanosec: int = 0


@dataclass
class FakeHeader:
    stamp: FakeTime = field(default_factory=FakeTime)
    frame_id: str = ""


@dataclass
class FakeField:
    name: str
    offset: int
    datatype: int
    count: int = 1


@dataclass
class FakeCloud:
    """The attributes of PointCloud2 without the checks of a real message."""

    header: FakeHeader = field(default_factory=FakeHeader)
    height: int = 1
    width: int = 0
    fields: list[FakeField] = field(default_factory=list)
    is_bigendian: bool = False
    point_step: int = 0
    row_step: int = 0
    data: Any = b""
    is_dense: bool = True


XYZ = [FakeField("x", 0, 7), FakeField("y", 4, 7), FakeField("z", 8, 7)]


def cloud_of(rows: list[tuple[float, ...]], fields: list[FakeField], step: int) -> FakeCloud:
    """An unorganised little-endian message with the given values per point, in field order."""
    data = bytearray(step * len(rows))
    for index, row in enumerate(rows):
        values = iter(row)
        for item in fields:
            for place in range(max(item.count, 1)):
                size = struct.calcsize(CODES[item.datatype])
                start = index * step + item.offset + place * size
                struct.pack_into("<" + CODES[item.datatype], data, start, next(values))
    return FakeCloud(
        width=len(rows), fields=fields, point_step=step, row_step=step * len(rows), data=bytes(data)
    )


def decode_slowly(message: FakeCloud) -> list[dict[str, list[float]]]:
    """Every field of every point with struct.unpack: the definition, with no thought of speed."""
    order = ">" if message.is_bigendian else "<"
    raw = bytes(message.data)
    points = []
    for row in range(message.height):
        for place in range(message.width):
            start = row * message.row_step + place * message.point_step
            values = {}
            for item in message.fields:
                code = order + str(max(item.count, 1)) + CODES[item.datatype]
                values[item.name] = list(struct.unpack_from(code, raw, start + item.offset))
            points.append(values)
    return points


@st.composite
def layouts(draw: st.DrawFn) -> FakeCloud:
    """Random legal messages: fields shuffled, padded and repeated, rows padded, both orders."""
    names = ["x", "y", "z", *draw(st.sets(st.sampled_from(["ring", "t", "_pad", "normals"])))]
    kinds = {name: draw(st.sampled_from([7, 8])) for name in "xyz"}
    color = draw(st.sampled_from(["", "rgb", "rgba", "bgr"]))
    if color:
        names.append(color)
        kinds[color] = draw(st.sampled_from([5, 6, 7]))
    names = draw(st.permutations(names))
    fields, offset = [], draw(st.integers(0, 5))
    for name in names:
        kind = kinds.get(name) or draw(st.integers(1, 8))
        count = draw(st.integers(0, 3)) if name not in kinds else draw(st.sampled_from([0, 1, 1]))
        fields.append(FakeField(name, offset, kind, count))
        offset += struct.calcsize(CODES[kind]) * max(count, 1) + draw(st.integers(0, 4))
    fields = draw(st.permutations(fields))
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    step = offset + draw(st.integers(0, 3))
    padding = draw(st.integers(0, 7))
    row = width * step + padding
    cut = draw(st.booleans()) * padding  # drivers that do not pad the last row
    data = draw(st.binary(min_size=height * row - cut, max_size=height * row + 3))
    message = FakeCloud(
        header=FakeHeader(FakeTime(3, 4), "sensor"),
        height=height,
        width=width,
        fields=list(fields),
        is_bigendian=draw(st.booleans()),
        point_step=step,
        row_step=row,
        data=data,
    )
    if draw(st.booleans()):  # bytes at random are mostly absurd floats; use sensible ones too
        sensible = bytearray(data)
        order = ">" if message.is_bigendian else "<"
        for item in fields:
            if item.name not in "xyz":
                continue
            for index in range(height * width):
                start = (index // width) * row + (index % width) * step + item.offset
                value = draw(st.sampled_from([0.0, 1.5, -2.25, 500.125, math.nan, -math.inf]))
                struct.pack_into(order + CODES[item.datatype], sensible, start, value)
        message.data = bytes(sensible)
    return message


def container(data: bytes, kind: str) -> Any:
    """The same bytes as another container that a message may hold."""
    every_other = np.repeat(np.frombuffer(data, np.uint8), 2)[::2]
    return {
        "bytes": data,
        "bytearray": bytearray(data),
        "array": array("B", data),
        "memoryview": memoryview(data),
        "strided memoryview": memoryview(bytes(every_other.repeat(2)))[::2],
        "numpy": np.frombuffer(data, np.uint8),
        "strided numpy": every_other,
        "list": list(data),
    }[kind]


CONTAINERS = ["bytes", "bytearray", "array", "memoryview", "strided memoryview", "numpy"]
CONTAINERS += ["strided numpy", "list"]


@settings(deadline=None, derandomize=True, max_examples=150)
@given(message=layouts(), kind=st.sampled_from(CONTAINERS))
def test_every_layout_is_read_as_the_slow_decoder_reads_it(message: FakeCloud, kind: str) -> None:
    slow = decode_slowly(message)
    expected = np.array([[point[name][0] for name in "xyz"] for point in slow])
    message.data = container(message.data, kind)
    before = (bytes(message.data), copy.deepcopy(message.fields))
    cloud = read_cloud(message)
    assert (cloud.height, cloud.width) == (message.height, message.width)
    assert cloud.header == SourceHeader(3_000_000_004, "sensor")
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = (expected - cloud.origin).astype(np.float32)
    np.testing.assert_array_equal(cloud.points, wanted)
    assert (bytes(message.data), message.fields) == before, "the message was changed"
    packed = [item for item in message.fields if item.name in ("rgb", "rgba", "bgr")]
    if not packed:
        assert cloud.colors is None
        return
    assert cloud.colors is not None
    as_bits = copy.copy(message)
    as_bits.fields = [FakeField("bits", packed[0].offset, 6)]
    for point, color in zip(decode_slowly(as_bits), cloud.colors, strict=True):
        bits = int(point["bits"][0])
        rgb = [bits >> 16 & 255, bits >> 8 & 255, bits & 255]
        assert color.tolist() == (rgb[::-1] if packed[0].name == "bgr" else rgb)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(message=layouts(), data=st.data())
def test_copied_points_are_the_original_bytes(message: FakeCloud, data: st.DataObject) -> None:
    count = message.height * message.width
    indices = data.draw(st.lists(st.integers(0, count - 1), max_size=6))
    message.data = array("B", message.data)
    result = copy_points(message, np.array(indices, np.uint32))
    assert (result.height, result.width) == (1, len(indices))
    assert result.is_bigendian == message.is_bigendian and result.fields == message.fields
    assert len(result.data) == result.row_step == len(indices) * message.point_step
    for place, index in enumerate(indices):
        start = (index // message.width) * message.row_step
        start += (index % message.width) * message.point_step
        step = message.point_step
        assert result.data[place * step :][:step] == message.data[start : start + step]
    result.fields[0].offset = 9999
    result.header.stamp.sec = 77
    assert message.header.stamp.sec == 3 and message.fields[0].offset != 9999


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    height=st.integers(-1, 2**32 - 1),
    width=st.integers(-1, 2**32 - 1),
    step=st.integers(0, 40),
    row=st.integers(0, 2**32 - 1),
    length=st.integers(0, 200),
    fields=st.lists(
        st.builds(
            FakeField,
            st.sampled_from(["x", "y", "z", "rgb", "r", ""]),
            st.integers(-1, 2**32 - 1) | st.integers(0, 40),
            st.integers(0, 10) | st.just(7),
            st.integers(0, 2**32 - 1) | st.just(1),
        ),
        max_size=6,
    ),
)
def test_nonsense_is_refused_or_read_but_never_crashes(
    height: int, width: int, step: int, row: int, length: int, fields: list[FakeField]
) -> None:
    message = FakeCloud(
        height=height, width=width, point_step=step, row_step=row, fields=fields, data=bytes(length)
    )
    try:
        cloud = read_cloud(message)
    except SasError:
        return
    assert len(cloud.points) == height * width <= length


def broken(**changes: Any) -> FakeCloud:
    message = cloud_of([(1.0, 2.0, 3.0)] * 4, copy.deepcopy(XYZ), 16)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (broken(fields=XYZ[:2]), "no field z"),
        (broken(fields=[]), "Its fields: none"),
        (broken(fields=[*XYZ, FakeField("x", 12, 7)]), "2 fields named x"),
        (broken(fields=[FakeField("x", 0, 5), *XYZ[1:]]), "field x is not one float32"),
        (broken(fields=[FakeField("x", 0, 7, 3), *XYZ[1:]]), "field x is not one float32"),
        (broken(fields=[FakeField("x", 13, 7), *XYZ[1:]]), "x does not fit"),
        (broken(fields=[FakeField("x", 10, 8), *XYZ[1:]]), "x does not fit"),
        (broken(point_step=0), "point_step is 0"),
        (broken(row_step=60), "row_step 60 is shorter"),
        (broken(height=2, row_step=0), "row_step 0 is shorter"),
        (broken(data=bytes(63)), "need 64 bytes and it has 63"),
        (broken(height=2**31, width=2**31, row_step=2**32 - 1, point_step=0), "point_step is 0"),
        (broken(height=2**32 - 1), "bytes and it has 64"),
        (broken(data=[0] * 63 + [300]), "no plain bytes"),
        (broken(data=np.zeros(64, np.int64)), "no plain bytes"),
        (broken(data=None), "no plain bytes"),
    ],
)
def test_contradictions_are_refused_with_the_fields(message: FakeCloud, words: str) -> None:
    with pytest.raises(SasError) as caught:
        read_cloud(message)
    assert words in str(caught.value)
    assert all(f"{item.name} " in str(caught.value) for item in message.fields)


def test_a_fields_sentence_is_readable() -> None:
    with pytest.raises(SasError, match=r"Its fields: x float32 at 0, ring uint16\[2\] at 4; point"):
        read_cloud(broken(fields=[FakeField("x", 0, 7), FakeField("ring", 4, 4, 2)]))


def test_one_row_may_leave_its_length_out() -> None:
    assert read_cloud(broken(row_step=0)).points.tolist() == [[1, 2, 3]] * 4


@pytest.mark.parametrize("shape", [(0, 0), (1, 0), (0, 7), (480, 0)])
def test_no_points(shape: tuple[int, int]) -> None:
    message = FakeCloud(height=shape[0], width=shape[1], header=FakeHeader(FakeTime(1, 0), "f"))
    cloud = read_cloud(message)
    assert cloud.points.shape == (0, 3) and (cloud.height, cloud.width) == shape
    assert cloud.header == SourceHeader(10**9, "f")
    assert copy_points(message, np.zeros(0, np.int64)).width == 0


def test_invalid_points_keep_their_place_whatever_is_dense_says() -> None:
    rows = [(1.0, 2.0, 3.0), (math.nan, 0.0, 0.0), (0.0, math.inf, 0.0)]
    cloud = read_cloud(cloud_of(rows, XYZ, 12))
    assert cloud.valid.tolist() == [True, False, False]
    np.testing.assert_array_equal(cloud.points, np.array(rows, np.float32))


DOUBLES = [FakeField("x", 0, 8), FakeField("y", 8, 8), FakeField("z", 16, 8)]


def test_far_coordinates_are_centred_before_they_lose_precision() -> None:
    place = np.array([448_262.0, 5_411_932.0, 231.0])
    rng = np.random.default_rng(0)
    near = np.round(rng.uniform(-20, 20, (50, 3)), 4)
    near[7] = np.nan
    rows = [tuple(row) for row in (near + place).tolist()]
    cloud = read_cloud(cloud_of(rows, DOUBLES, 24))
    assert cloud.origin.tolist() == [448_000.0, 5_412_000.0, 0.0]
    error = cloud.points.astype(np.float64) + cloud.origin - (near + place)
    assert np.nanmax(np.abs(error)) < 2e-5
    assert not cloud.valid[7]


def test_far_float32_coordinates_survive_the_centring_exactly() -> None:
    rows = [(448_262.03125 + step, 5_411_932.5, 1.25) for step in range(20)]
    cloud = read_cloud(cloud_of(rows, XYZ, 12))
    np.testing.assert_array_equal(cloud.points + cloud.origin, np.array(rows))


def test_near_coordinates_and_a_few_absurd_ones_are_not_moved() -> None:
    rows = [(1.0, 2.0, 3.0)] * 20 + [(1e30, 1e300, -1e38)]
    cloud = read_cloud(cloud_of(rows, DOUBLES, 24))
    assert not cloud.origin.any() and cloud.points[0].tolist() == [1, 2, 3]
    assert not cloud.valid[20] and np.isinf(cloud.points[20, 1])


@pytest.mark.parametrize(
    ("names", "kind", "values", "expected"),
    [
        ("rgb", 2, (1, 2, 3), (1, 2, 3)),
        ("bgr", 2, (3, 2, 1), (1, 2, 3)),
        ("rgb", 7, (0.0, 0.5, 1.0), (0, 128, 255)),
        ("rgb", 8, (0.0, 128.0, 255.0), (0, 128, 255)),
        ("rgb", 7, (-3.0, math.nan, 400.0), (0, 0, 255)),
        ("rgb", 4, (0, 32768, 65535), (0, 128, 255)),
        ("rgb", 4, (0, 12, 255), (0, 12, 255)),
        ("rgb", 5, (0, 12, 255), (0, 12, 255)),
    ],
)
def test_separate_colors(
    names: str, kind: int, values: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    size = struct.calcsize(CODES[kind])
    fields = [*XYZ, *(FakeField(n, 12 + size * i, kind) for i, n in enumerate(names))]
    cloud = read_cloud(cloud_of([(0.0, 0.0, 0.0, *values)], fields, 12 + 3 * size))
    assert cloud.colors is not None and tuple(cloud.colors[0].tolist()) == expected


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [("rgb", (1, 2, 3), [1, 2, 3]), ("bgra", (3, 2, 1, 255), [1, 2, 3])],
)
def test_colors_as_a_field_of_bytes(
    name: str, values: tuple[int, ...], expected: list[int]
) -> None:
    fields = [*XYZ, FakeField(name, 12, 2, len(values))]
    cloud = read_cloud(cloud_of([(0.0, 0.0, 0.0, *values)], fields, 16))
    assert cloud.colors is not None and cloud.colors.tolist() == [expected]


@pytest.mark.parametrize("name", ["intensity", "label", "reflectivity", "rgb"])
def test_a_cloud_without_readable_colors_has_none(name: str) -> None:
    kind = 8 if name == "rgb" else 7  # nobody packs colours into a float64
    message = cloud_of([(0.0, 0.0, 0.0, 9.0)], [*XYZ, FakeField(name, 12, kind)], 24)
    assert read_cloud(message).colors is None


def test_plain_xyz_is_what_simple_consumers_read() -> None:
    assert has_plain_xyz(broken())
    assert not has_plain_xyz(broken(is_bigendian=True))
    assert not has_plain_xyz(broken(fields=XYZ[:2]))
    assert not has_plain_xyz(broken(fields=DOUBLES))
    swapped = [FakeField("y", 0, 7), FakeField("x", 4, 7), FakeField("z", 8, 7)]
    assert not has_plain_xyz(broken(fields=swapped))


# What we write, with the real message classes and their element checks.


@pytest.fixture
def ros_types(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    monkeypatch.setenv("ROS_PYTHON_CHECK_FIELDS", "1")
    messages = pytest.importorskip("sensor_msgs.msg")
    return messages.PointCloud2, messages.PointField


def some_cloud(**changes: Any) -> Cloud:
    rng = np.random.default_rng(1)
    values: dict[str, Any] = {
        "points": rng.normal(size=(12, 3)).astype(np.float32),
        "colors": rng.integers(0, 256, (12, 3), np.uint8),
        "header": SourceHeader(1_699_999_999_900_000_001, "camera_optical"),
        "height": 3,
        "width": 4,
    }
    return Cloud(**(values | changes))


def labelled(types: tuple[Any, Any], cloud: Cloud, **changes: Any) -> Any:
    count = len(cloud.points)
    values: dict[str, Any] = {
        "rgb": None,
        "label": np.arange(count),
        "confidence": np.linspace(0, 1, count),
        "instance": np.arange(count) + 1,
    }
    return write_labelled_cloud(*types, cloud.header, cloud, **(values | changes))


def test_labelled_cloud_has_the_promised_layout(ros_types: tuple[Any, Any]) -> None:
    cloud = some_cloud()
    message = labelled(ros_types, cloud)
    found = [(f.name, f.offset, f.datatype, f.count) for f in message.fields]
    assert found == [
        ("x", 0, 7, 1),
        ("y", 4, 7, 1),
        ("z", 8, 7, 1),
        ("rgb", 12, 7, 1),
        ("label", 16, 6, 1),
        ("confidence", 20, 7, 1),
        ("instance", 24, 6, 1),
    ]
    assert (message.point_step, message.row_step) == (32, 128)
    assert (message.height, message.width) == (3, 4)
    assert (message.is_bigendian, message.is_dense) == (False, True)
    stamp = message.header.stamp
    assert (stamp.sec, stamp.nanosec) == (1_699_999_999, 900_000_001)
    assert message.header.frame_id == "camera_optical"
    assert isinstance(message.data, array) and len(message.data) == 12 * 32
    assert cloud.colors is not None
    for index, point in enumerate(decode_slowly(message)):
        assert [point[name][0] for name in "xyz"] == cloud.points[index].tolist()
        assert (point["label"][0], point["instance"][0]) == (index, index + 1)
        assert point["confidence"][0] == pytest.approx(index / 11)
        red, green, blue = cloud.colors[index].tolist()
        packed = message.data[index * 32 + 12 : index * 32 + 16].tolist()
        assert packed == [blue, green, red, 0]


def test_labelled_cloud_reads_back(ros_types: tuple[Any, Any]) -> None:
    cloud = some_cloud()
    back = read_cloud(labelled(ros_types, cloud))
    np.testing.assert_array_equal(back.points, cloud.points)
    np.testing.assert_array_equal(back.colors, cloud.colors)
    assert back.header == cloud.header and (back.height, back.width) == (3, 4)


def test_invalid_points_are_written_unlabelled(ros_types: tuple[Any, Any]) -> None:
    points = np.zeros((3, 3), np.float32)
    points[1, 2] = np.nan
    points[2, 0] = -np.inf
    cloud = Cloud(points=points)
    message = labelled(ros_types, cloud, confidence=np.ones(3))
    written = decode_slowly(message)
    assert [point["label"][0] for point in written] == [0, UNLABELLED, UNLABELLED]
    assert [point["confidence"][0] for point in written] == [1, 0, 0]
    assert [point["instance"][0] for point in written] == [1, NO_INSTANCE, NO_INSTANCE]
    assert not message.is_dense
    np.testing.assert_array_equal(read_cloud(message).points, points)
    assert message.data[12:16].tolist() == [128, 128, 128, 0], "grey where no colour is known"


@pytest.mark.parametrize("kind", ["labelled", "plain", "subset"])
def test_writers_put_the_origin_back(ros_types: tuple[Any, Any], kind: str) -> None:
    cloud = some_cloud(origin=np.array([1000.0, 0.0, -2000.0]))
    header = cloud.header
    message = {
        "labelled": lambda: labelled(ros_types, cloud),
        "plain": lambda: write_cloud(*ros_types, header, cloud),
        "subset": lambda: write_subset(*ros_types, header, cloud, np.arange(12)),
    }[kind]()
    wanted = (cloud.points.astype(np.float64) + cloud.origin).astype(np.float32)
    np.testing.assert_array_equal(read_cloud(message).points, wanted)


def test_an_empty_cloud_is_written(ros_types: tuple[Any, Any]) -> None:
    empty = Cloud(points=np.zeros((0, 3), np.float32))
    message = labelled(ros_types, empty)
    assert (message.height, message.width, len(message.data)) == (1, 0, 0)
    assert len(read_cloud(message).points) == 0
    assert write_cloud(*ros_types, empty.header, empty).width == 0
    assert write_subset(*ros_types, empty.header, empty, np.zeros(0, np.int64)).width == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": np.zeros(3, int)}, r"\(12,\) labels"),
        ({"confidence": np.zeros((12, 1))}, r"\(12,\) confidences"),
        ({"instance": np.zeros(11, int)}, r"\(12,\) instances"),
        ({"label": np.full(12, -1)}, "Labels must be"),
        ({"label": np.full(12, 65536)}, "Labels must be"),
        ({"rgb": np.zeros((11, 3), np.uint8)}, "colours"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    ros_types: tuple[Any, Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SasError, match=words):
        labelled(ros_types, some_cloud(), **changes)


def test_headers_come_from_messages_too(ros_types: tuple[Any, Any]) -> None:
    header = ros_types[0]().header
    header.stamp.sec, header.stamp.nanosec, header.frame_id = 5, 6, "map"
    message = write_cloud(*ros_types, header, some_cloud())
    assert message.header == header and message.header is not header


def test_subset_takes_indices_or_a_mask(ros_types: tuple[Any, Any]) -> None:
    cloud = some_cloud()
    mask = np.zeros(12, bool)
    mask[[2, 9]] = True
    for chosen in (mask, np.array([2, 9], np.uint32)):
        back = read_cloud(write_subset(*ros_types, cloud.header, cloud, chosen))
        np.testing.assert_array_equal(back.points, cloud.points[[2, 9]])
        assert cloud.colors is not None
        np.testing.assert_array_equal(back.colors, cloud.colors[[2, 9]])
    red = np.array([[255, 0, 0]] * 2, np.uint8)
    back = read_cloud(write_subset(*ros_types, cloud.header, cloud, mask, rgb=red))
    np.testing.assert_array_equal(back.colors, red)


def test_indices_outside_the_cloud_are_refused(ros_types: tuple[Any, Any]) -> None:
    cloud = some_cloud()
    source = write_cloud(*ros_types, cloud.header, cloud)
    for wrong in (np.array([12]), np.array([-1]), np.zeros(11, bool)):
        with pytest.raises(SasError):
            write_subset(*ros_types, cloud.header, cloud, wrong)
        with pytest.raises(SasError):
            copy_points(source, wrong)


def test_copies_of_real_messages_pass_their_checks(ros_types: tuple[Any, Any]) -> None:
    cloud = some_cloud()
    source = labelled(ros_types, cloud)
    result = copy_points(source, np.array([11, 0]))
    assert type(result) is ros_types[0] and isinstance(result.data, array)
    assert bytes(result.data) == bytes(source.data[11 * 32 :]) + bytes(source.data[:32])
    assert (source.height, source.width, len(source.data)) == (3, 4, 384)
    assert result.header == source.header and result.header is not source.header


def test_our_clouds_read_the_same_through_sensor_msgs_py(ros_types: tuple[Any, Any]) -> None:
    point_cloud2 = pytest.importorskip("sensor_msgs_py.point_cloud2")
    cloud = some_cloud()
    message = labelled(ros_types, cloud)
    points = point_cloud2.read_points_numpy(message, field_names=["x", "y", "z"])
    np.testing.assert_array_equal(points, cloud.points)
    labels = point_cloud2.read_points(message, field_names=["label"])["label"]
    np.testing.assert_array_equal(labels.reshape(-1), np.arange(12))


def test_five_million_points(ros_types: tuple[Any, Any]) -> None:
    points: npt.NDArray[np.float32] = np.zeros((5_000_000, 3), np.float32)
    points[:, 0] = np.arange(len(points)) % 4096
    cloud = Cloud(points=points)
    back = read_cloud(write_cloud(*ros_types, cloud.header, cloud))
    np.testing.assert_array_equal(back.points, points)


# Recorded messages.


def bag_clouds(folder: Path, topic: str) -> list[Any]:
    highlevel = pytest.importorskip("rosbags.highlevel")
    typesys = pytest.importorskip("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    with highlevel.AnyReader([folder], default_typestore=store) as bag:
        chosen = [connection for connection in bag.connections if connection.topic == topic]
        return [bag.deserialize(raw, c.msgtype) for c, _, raw in bag.messages(connections=chosen)]


def test_recorded_depth_camera(test_data: Path) -> None:
    messages = bag_clouds(test_data / "ros2_bag_d435_tutorial" / "bag_trimmed", "/point_cloud")
    assert len(messages) == 5
    for message in messages:
        cloud = read_cloud(message)
        assert len(cloud.points) == message.width and cloud.colors is None and cloud.valid.all()
        assert cloud.header.frame_id == "d435_depth_optical_frame"
        part = copy_points(message, np.arange(0, message.width, 7))
        np.testing.assert_array_equal(read_cloud(part).points, cloud.points[::7])


def test_recorded_organised_colour_camera(test_data: Path) -> None:
    folder = test_data / "ros2_bag_redkitchen" / "bag"
    message = bag_clouds(folder, "/camera/depth/color/points")[0]
    cloud = read_cloud(message)
    assert (cloud.height, cloud.width) == (480, 640)
    assert cloud.colors is not None and cloud.colors.std() > 20
    assert 0.5 < cloud.valid.mean() < 1.0
    assert np.nanmedian(cloud.points[:, 2]) > 0.5, "z is forward in an optical frame"
    room = read_cloud(bag_clouds(folder, "/map_cloud")[0])
    assert (room.height, len(room.points)) == (1, 128_262)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1))
@example(2**31 - 1, 2**32 - 1)
@example(-(2**31), 0)
def test_every_stamp_that_a_message_can_hold_can_be_written(seconds: int, nanoseconds: int) -> None:
    stamp = FakeTime(seconds, nanoseconds)
    source = read_header(FakeHeader(stamp))
    again = stamp_fields(source.stamp_ns)
    assert again[0] * 10**9 + again[1] == source.stamp_ns
    assert -(2**31) <= again[0] < 2**31 and 0 <= again[1] < 2**32
    if nanoseconds < 10**9:
        assert again == (seconds, nanoseconds)
