"""Teachers' answers: what may be one, how it is kept, and when it is asked for again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colour_teachers import BrightMasks, ColourFeatures
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pictures
from safetensors.numpy import save_file

from sas_ros.errors import SasError
from sas_training.teachers import (
    TEACHERS,
    DenseFeatures,
    FrameCache,
    LabelledMask,
    TeacherOptions,
    image_hash,
    load_teacher,
)
from sas_training.teachers.cache import frame_key
from sas_training.teachers.images import find_images, read_grey, read_image
from sas_training.teachers.mask_files import MaskFile
from sas_training.teachers.pixel_files import PixelFile
from sas_training.teachers.registry import pick_device, weights_hash
from sas_training.teachers.teacher import by_size


def picture(seed: int = 0, height: int = 6, width: int = 8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def dense(channels: int = 2, rows: int = 3, columns: int = 4, **more: Any) -> DenseFeatures:
    values = torch.arange(channels * rows * columns).reshape(channels, rows, columns).half()
    return DenseFeatures(values, **more)


# Dense features


def test_each_pixel_is_its_own_cell_without_a_copy() -> None:
    features = torch.zeros(3, 4, 2).half().permute(2, 0, 1)
    found = DenseFeatures(features).at_pixels(3, 4)
    assert found.features.shape == (3, 4, 2)
    assert found.features.is_contiguous()
    assert found.features.data_ptr() == features.data_ptr()


@pytest.mark.parametrize(
    ("pixels", "scale", "wanted"),
    [
        (4, 0.5, [0, 0, 1, 1]),  # cells of two pixels
        (2, 2.0, [1, 3]),  # two cells a pixel: the centre lies at the border, right of it
        (3, 1.0, [0, 1, 2]),  # one cell more than pixels: padding
        (5, 4 / 5, [0, 1, 2, 2, 3]),
    ],
)
def test_a_pixel_takes_the_cell_that_its_centre_lies_in(
    pixels: int, scale: float, wanted: list[int]
) -> None:
    found = dense(1, 4, 1, rows_per_pixel=scale).at_pixels(pixels, 1).features[:, 0, 0]
    assert found.tolist() == wanted


def test_what_is_not_valid_stays_so_at_the_pixels() -> None:
    valid = torch.tensor([[True, False], [False, True]])
    found = dense(1, 2, 2, rows_per_pixel=0.5, columns_per_pixel=0.5, valid=valid).at_pixels(4, 4)
    assert found.valid is not None
    np.testing.assert_array_equal(found.valid, np.kron(valid, np.ones((2, 2), bool)))


def test_features_of_a_smaller_image_are_refused() -> None:
    with pytest.raises(SasError, match="cover 3 cells, but the image's 5 pixels need 5"):
        dense().at_pixels(5, 4)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: DenseFeatures(torch.zeros(2, 3, 4)), "float16"),
        (lambda: DenseFeatures(torch.zeros(2, 3).half()), "shape"),
        (lambda: DenseFeatures(torch.zeros(2, 0, 4).half()), "none of them 0"),
        (lambda: dense(rows_per_pixel=0.0), "cannot be 0.0 cells"),
        (lambda: dense(columns_per_pixel=float("nan")), "cannot be nan cells"),
        (lambda: dense(valid=torch.ones(4, 3, dtype=torch.bool)), "mask of dense features"),
        (lambda: LabelledMask(np.zeros((2, 2), bool), "chair", 0.5), "no pixel"),
        (lambda: LabelledMask(np.ones((2, 2), bool), " ", 0.5), "no label"),
        (lambda: LabelledMask(np.ones((2, 2), bool), "chair", 1.5), "score 1.5"),
        (lambda: LabelledMask(np.ones((2, 2), bool), "chair", float("nan")), "score nan"),
        (lambda: LabelledMask(np.ones((2, 2), np.uint8), "chair", 1), "wanted is bool"),  # type: ignore[arg-type]
    ],
)
def test_parts_that_do_not_fit_are_refused(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(SasError, match=sentence):
        make()


def test_images_of_one_size_are_asked_about_together() -> None:
    asked: list[list[tuple[int, ...]]] = []

    def ask(images: list[Any]) -> list[int]:
        asked.append([image.shape[:2] for image in images])
        return [int(image[0, 0, 0]) for image in images]

    sizes = [(2, 3), (3, 2), (2, 3), (2, 3), (3, 2)]
    images = [np.full((*size, 3), number, np.uint8) for number, size in enumerate(sizes)]
    assert by_size(images, ask, 2) == [0, 1, 2, 3, 4]
    assert asked == [[(2, 3)] * 2, [(2, 3)], [(3, 2)] * 2]
    assert by_size([], ask, 2) == []
    with pytest.raises(SasError, match="uint8"):
        by_size([images[0].astype(float)], ask, 2)


# Files


def test_pixel_features_come_back(tmp_path: Path) -> None:
    valid = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    kept = PixelFile(dense(rows_per_pixel=0.5, valid=valid), {"name": "a"}, "minilm-l6-v2", "f0")
    path = tmp_path / "one.pixels.safetensors"
    kept.save(path)
    found = PixelFile.load(path)
    assert torch.equal(found.features.features, kept.features.features)
    assert found.features.valid is not None and torch.equal(found.features.valid, valid)
    assert (found.features.rows_per_pixel, found.features.columns_per_pixel) == (0.5, 1.0)
    assert (found.teacher, found.text_encoder, found.image_sha256) == (
        {"name": "a"},
        "minilm-l6-v2",
        "f0",
    )
    first = path.read_bytes()
    kept.save(path)
    assert path.read_bytes() == first
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format_version": 2}, "format 2"),
        ({"teacher": "a"}, "'teacher'"),
        ({"rows_per_pixel": "1"}, "'rows_per_pixel'"),
        ({"rows_per_pixel": -1.0}, "cells large"),
    ],
)
def test_damaged_pixel_features_are_refused(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    about = {"format_version": 1, "teacher": {}, "text_encoder": "", "image_sha256": ""}
    about |= {"rows_per_pixel": 1.0, "columns_per_pixel": 1.0, **change}
    path = tmp_path / "a.safetensors"
    save_file(
        {"features": np.zeros((2, 2, 2), np.float16)},
        path,
        {"sas_pixel_features": json.dumps(about)},
    )
    with pytest.raises(SasError, match=sentence):
        PixelFile.load(path)


def test_other_files_are_no_pixel_features(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(SasError, match="no pixel features at"):
        PixelFile.load(path)
    path.write_bytes(b"half a file")
    with pytest.raises(SasError, match="no readable safetensors file"):
        PixelFile.load(path)
    save_file({"features": np.zeros((2, 2, 2), np.float16)}, path)
    with pytest.raises(SasError, match="not a file of pixel features"):
        PixelFile.load(path)
    about = {"format_version": 1, "teacher": {}, "text_encoder": "", "image_sha256": ""}
    text = json.dumps({**about, "rows_per_pixel": 1.0, "columns_per_pixel": 1.0})
    save_file(
        {"features": np.full((2, 2, 2), np.nan, np.float16)}, path, {"sas_pixel_features": text}
    )
    with pytest.raises(SasError, match="no finite numbers"):
        PixelFile.load(path)


def overlapping() -> tuple[LabelledMask, ...]:
    masks = np.zeros((3, 4, 5), bool)
    masks[0, :2], masks[1, 1:3], masks[2, 3] = True, True, True
    return (
        LabelledMask(masks[0], "wall", 0.25, "a white wall"),
        LabelledMask(masks[1], "chaise longue à rayures", 1.0),
        LabelledMask(masks[2], "floor", 1 / 3),  # every digit counts where masks overlap
    )


def assert_same(one: tuple[LabelledMask, ...], other: tuple[LabelledMask, ...]) -> None:
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first.mask, second.mask)
        assert (first.label, first.score, first.caption) == (
            second.label,
            second.score,
            second.caption,
        )


def test_masks_come_back_and_share_pictures_where_they_do_not_overlap(tmp_path: Path) -> None:
    path = tmp_path / "a.masks.json"
    MaskFile(overlapping(), 4, 5, {"name": "t"}, "ab").save(path)
    found = MaskFile.load(path)
    assert_same(found.masks, overlapping())
    assert (found.height, found.width, found.teacher, found.image_sha256) == (
        4,
        5,
        {"name": "t"},
        "ab",
    )
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == ["a.masks-0.png", "a.masks-1.png", "a.masks.json"]


def test_more_masks_than_a_byte_counts_come_back(tmp_path: Path) -> None:
    masks = np.eye(300, dtype=bool).reshape(300, 15, 20)
    kept = tuple(LabelledMask(one, str(number), 0.5) for number, one in enumerate(masks))
    MaskFile(kept, 15, 20).save(tmp_path / "a.masks.json")
    assert_same(MaskFile.load(tmp_path / "a.masks.json").masks, kept)
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_an_image_may_show_nothing(tmp_path: Path) -> None:
    MaskFile((), 4, 5).save(tmp_path / "a.masks.json")
    assert MaskFile.load(tmp_path / "a.masks.json").masks == ()
    assert [one.name for one in tmp_path.iterdir()] == ["a.masks.json"]


def written(folder: Path, **changes: Any) -> Path:
    """A mask file of a foreign program with one mask, some entries changed; None leaves one out."""
    Pictures.fromarray(np.eye(4, 5, dtype=np.uint8) * 255).save(folder / "m.png")
    entry = {"file": "m.png", "value": 255, "label": "chair", "score": 1}
    content = {"kind": "sas_labelled_masks", "format_version": 1, "width": 5, "height": 4}
    entry |= {key: value for key, value in changes.items() if key in {*entry, "caption"}}
    content |= {key: value for key, value in changes.items() if key not in entry}
    content.setdefault("masks", [{key: v for key, v in entry.items() if v is not None}])
    path = folder / "m.masks.json"
    path.write_text(json.dumps(content))
    return path


def test_a_foreign_file_is_read(tmp_path: Path) -> None:
    (mask,) = MaskFile.load(written(tmp_path)).masks
    np.testing.assert_array_equal(mask.mask, np.eye(4, 5, dtype=bool))
    assert (mask.label, mask.score, mask.caption) == ("chair", 1.0, "")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "other"}, '"kind" is not'),
        ({"format_version": 2}, "format 2"),
        ({"format_version": True}, "format True"),
        ({"width": 6}, "is 5 x 4 pixels, but its image is 6 x 4"),
        ({"width": "5"}, 'whole number "width"'),
        ({"masks": {}}, "not a list"),
        ({"masks": [1]}, "not a list of objects"),
        ({"teacher": "me"}, '"teacher"'),
        ({"label": None}, 'text "label"'),
        ({"label": ""}, "no label"),
        ({"score": None}, 'number "score"'),
        ({"score": True}, 'number "score"'),
        ({"score": 1.01}, "score 1.01"),
        ({"score": float("nan")}, "not finite"),
        ({"value": 7}, "no pixel"),
        ({"value": -1}, 'whole number "value"'),
        ({"caption": 3}, 'text "caption"'),
        ({"file": "other.png"}, "no image at"),
        ({"file": "../m.png"}, "below the JSON"),
        ({"file": "/etc/passwd"}, "below the JSON"),
        ({"file": "m.masks.json"}, "no readable image"),
    ],
)
def test_a_wrong_mask_file_is_refused(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SasError, match=sentence):
        MaskFile.load(written(tmp_path, **changes))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_masks_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.masks.json"
    path.write_bytes(data)
    with pytest.raises(SasError):
        MaskFile.load(path)


# Images


def test_images_are_read_as_stored(tmp_path: Path) -> None:
    image = picture()
    Pictures.fromarray(image).save(tmp_path / "b.png")
    Pictures.fromarray(image[..., 0]).save(tmp_path / "a.PNG")
    (tmp_path / "notes.txt").write_text("no image")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), image)
    np.testing.assert_array_equal(read_image(tmp_path / "a.PNG")[..., 2], image[..., 0])
    assert [path.name for path in find_images([tmp_path])] == ["a.PNG", "b.png"]


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "1"])
def test_grey_images_of_any_depth_give_their_numbers(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 1], [1, 0]])
    if mode == "I;16":
        values = values * 40_000
        stored = Pictures.fromarray(values.astype(np.uint16))
    else:
        stored = Pictures.fromarray(values.astype(np.uint8))
        if mode == "P":
            stored.putpalette([10, 20, 30, 40, 50, 60])
        elif mode == "1":
            stored = Pictures.fromarray(values.astype(bool))
    stored.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "a.png", (2, 2)), values)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_depth_images_are_no_photographs(tmp_path: Path, kind: type) -> None:
    path = tmp_path / ("depth.png" if kind is np.uint16 else "depth.tif")
    Pictures.fromarray(np.full((4, 5), 2000, kind)).save(path)
    with pytest.raises(SasError, match=r"one channel of more than 8 bits: it is a depth image"):
        read_image(path)


def test_images_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    Pictures.fromarray(picture()).save(tmp_path / "colour.png")
    with pytest.raises(SasError, match="one channel"):
        read_grey(tmp_path / "colour.png", (6, 8))
    data = (tmp_path / "colour.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(SasError, match=r"cut\.png is no readable image"):
        read_image(tmp_path / "cut.png")
    with pytest.raises(SasError, match="no image at"):
        read_image(tmp_path / "none.png")
    with pytest.raises(SasError, match="no image and no folder"):
        find_images([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SasError, match="no images in"):
        find_images([tmp_path / "empty"])


# Cache


def test_a_frame_is_asked_for_once(tmp_path: Path) -> None:
    teacher, images = ColourFeatures(), [picture(seed) for seed in range(5)]
    cache = FrameCache(tmp_path, batch=2)
    first = cache.features(teacher, images)
    assert (teacher.asked, cache.found, cache.made) == ([2, 2, 1], 0, 5)
    again = FrameCache(tmp_path)
    second = again.features(teacher, images)
    assert (len(teacher.asked), again.found, again.made) == (3, 5, 0)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.features, other.features)
        assert (one.rows_per_pixel, one.columns_per_pixel) == (
            other.rows_per_pixel,
            other.columns_per_pixel,
        )


def test_other_weights_settings_or_pixels_are_asked_for_anew(tmp_path: Path) -> None:
    cache, image = FrameCache(tmp_path), picture()
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    for teacher in (ColourFeatures(), ColourFeatures(model="b"), ColourFeatures(gain=0.5)):
        for one in (image, changed, image.reshape(8, 6, 3)):
            cache.features(teacher, [one])
    assert (cache.found, cache.made) == (0, 9)


def test_a_damaged_answer_is_made_anew(tmp_path: Path) -> None:
    teacher, image = ColourFeatures(), picture()
    cache = FrameCache(tmp_path)
    cache.features(teacher, [image])
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-3])
    assert torch.equal(
        cache.features(teacher, [image])[0].features, teacher.features([image])[0].features
    )
    assert PixelFile.load(path).image_sha256 == image_hash(image)


def test_masks_are_kept_too(tmp_path: Path) -> None:
    teacher, images = BrightMasks(), [picture(1), np.zeros((6, 8, 3), np.uint8)]
    cache = FrameCache(tmp_path)
    first, second = cache.masks(teacher, images), cache.masks(teacher, images)
    assert (teacher.asked, cache.found, cache.made) == ([2], 2, 2)
    for one, other in zip(first, second, strict=True):
        assert_same(one, other)
    next(tmp_path.rglob("*.png")).unlink()
    cache.masks(teacher, images)
    assert teacher.asked == [2, 1]


def test_an_answer_that_was_being_written_when_the_process_died_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, image = BrightMasks(), picture(1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("sas_training.teachers.mask_files.atomic_write", killed)
        FrameCache(tmp_path).masks(teacher, [image])
    cache = FrameCache(tmp_path)
    assert_same(cache.masks(teacher, [image])[0], teacher.masks([image])[0])
    assert cache.made == 1


def test_features_for_fusion_have_the_image_size(tmp_path: Path) -> None:
    found = FrameCache(tmp_path).pixel_features(ColourFeatures(), picture())
    assert found.features.shape == (6, 8, 3)


def test_keys_are_the_same_on_every_machine() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert image_hash(image) == hashlib.sha256(b"2 2\n" + bytes(range(12))).hexdigest()
    text = (
        '{"image": "00", "teacher": {"model": "none", "name": "colours", '
        '"settings": {"gain": 1.0}}, "text_encoder": "hash", "version": 1}'
    )
    assert frame_key(ColourFeatures(), "00") == hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(SasError, match="uint8"):
        image_hash(image.astype(float))


# Registry


@dataclass(frozen=True)
class _Some:
    flip: bool = True
    size: int = 3
    limit: float = 0.5
    rule: str = "a"


def test_settings_are_read_by_kind() -> None:
    given = {"flip": "False", "size": "7", "limit": "1e-3", "rule": "b c"}
    options = TeacherOptions(settings=given)
    assert options.parsed("t", _Some()) == _Some(False, 7, 1e-3, "b c")
    assert TeacherOptions().parsed("t", _Some()) == _Some()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"flop": "true"}, '"t" has no setting "flop"; it has flip, size, limit, rule'),
        ({"flip": "1"}, '"flip" must be true or false'),
        ({"size": "1.5"}, '"size" must be a number'),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(SasError, match=sentence):
        TeacherOptions(settings=settings).parsed("t", _Some())


def test_unknown_teachers_are_told_with_the_known_ones() -> None:
    with pytest.raises(SasError, match='no teacher "lsegg"; known are'):
        load_teacher("lsegg", TeacherOptions())


def test_every_teacher_states_its_terms() -> None:
    for name, entry in TEACHERS.items():
        assert entry.name == name and entry.gives in ("pixels", "masks", "points")
        assert entry.summary and entry.needs and entry.licence


def test_devices_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    with pytest.raises(SasError, match="no CUDA device"):
        pick_device("cuda")
    with pytest.raises(SasError, match="no device"):
        pick_device("tpu")


def test_weights_are_told_apart_by_content(tmp_path: Path) -> None:
    for name, data in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(data)
    a, b, c = (weights_hash([tmp_path / name]) for name in "abc")
    assert a == c != b
    assert weights_hash([tmp_path / "a", tmp_path / "b"]) != weights_hash(
        [tmp_path / "b", tmp_path / "a"]
    )
