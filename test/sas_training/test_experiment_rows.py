"""Capabilities from pictures of single objects, and the rows of one room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from sas_ros.errors import SasError
from sas_training.capability.table import CapabilityTable
from sas_training.distill.words import class_text
from sas_training.evaluation.labels import SCANNET20
from sas_training.evaluation.metrics import NO_PREDICTION
from sas_training.experiment.capability import measure_capability, random_capability
from sas_training.experiment.object_files import load_pictures, make_pictures, save_pictures
from sas_training.experiment.room_views import RoomView
from sas_training.experiment.rows import ROWS_2D, SILENT, Fusing, point_features, predictions
from sas_training.experiment.single_objects import PIECES, ObjectPicture, object_picture
from sas_training.experiment.words import Words, make_words
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.projection import Intrinsics, ProjectionSettings, View
from sas_training.teachers.teacher import DenseFeatures, Description, Image

from encoders import HashEncoder  # isort: skip

NAMES = tuple(class_text(name) for name in SCANNET20.names)
CHAIR, BED, WALL = (SCANNET20.id_of(name) for name in ("chair", "bed", "wall"))


def _words() -> Words:
    return make_words(HashEncoder(32), "a {} in a scene", ())


@dataclass(frozen=True)
class _Sayer:
    """Says one class where a picture is red, another elsewhere, nothing where it is black."""

    words: Words
    red: int
    rest: int
    channels: int = 32
    text_encoder: str = "hash"

    @property
    def description(self) -> Description:
        return Description("sayer", f"{self.red}-{self.rest}")

    def features(self, images: Sequence[Image]) -> list[DenseFeatures]:
        result = []
        for image in images:
            label = np.where(image[..., 0] > 200, self.red, self.rest)
            vectors = torch.from_numpy(self.words.classes[label]).half()
            valid = torch.from_numpy(image.sum(axis=2) > 0)
            result.append(DenseFeatures(vectors.permute(2, 0, 1), valid=valid))
        return result


def _table(first: float, second: float) -> CapabilityTable:
    scores = np.repeat([[first], [second], [0.0]], 20, axis=1)
    return CapabilityTable(("surfaces", "objects", "distant"), NAMES, scores, pooled=scores)


@pytest.mark.parametrize("name", ["wall", "chair", "door", "picture", "shower curtain"])
def test_a_picture_shows_one_thing_of_its_class(name: str) -> None:
    picture = object_picture(name, (3, 1))
    assert picture.image.shape == (120, 160, 3)
    assert picture.mask.shape == (120, 160)
    assert 0.005 < picture.mask.mean() < 0.9
    again = object_picture(name, (3, 1))
    assert np.array_equal(picture.image, again.image)
    assert np.array_equal(picture.mask, again.mask)
    assert not np.array_equal(picture.image, object_picture(name, (3, 2)).image)


def test_pictures_of_a_class_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "picture.npz"
    make_pictures(path, "picture", 2, 5)
    read = load_pictures(path)
    label = SCANNET20.id_of("picture")
    for number, one in enumerate(read):
        made = object_picture("picture", (5, 31, label, number))
        assert np.array_equal(one.image, made.image) and np.array_equal(one.mask, made.mask)
    assert len(read) == 2
    save_pictures(path, [ObjectPicture(one.image, one.mask[:4]) for one in read])
    with pytest.raises(SasError, match=r"masks \(2, 4, 160\) bool, not"):
        load_pictures(path)
    for damaged in (b"no numpy", path.read_bytes()[:300]):
        path.write_bytes(damaged)
        with pytest.raises(SasError, match="holds no pictures"):
            load_pictures(path)


def test_every_class_has_pictures_and_others_have_none() -> None:
    built_in = {"wall", "floor", "door", "window", "curtain", "picture", "shower curtain"}
    assert set(PIECES) | built_in == set(SCANNET20.names)
    with pytest.raises(SasError, match="'tree' is no class"):
        object_picture("tree", (1,))


def test_capability_is_the_foreground_iou() -> None:
    def picture(rows: int) -> ObjectPicture:
        image = np.full((8, 8, 3), 90, np.uint8)
        image[:4, :, 0] = 255
        mask = np.zeros((8, 8), bool)
        mask[:rows] = True
        return ObjectPicture(image, mask)

    words = _words()
    teachers = {"one": _Sayer(words, CHAIR, WALL), "two": _Sayer(words, BED, BED)}
    pictures = [[picture(2), picture(6)]] * len(NAMES)  # 16 and 48 pixels
    table = measure_capability(teachers, words, pictures, 2, 7)
    one, two = table.aligned(["one", "two"], NAMES)
    assert one[CHAIR] == pytest.approx((16 / 32 + 32 / 48) / 2)
    assert one[WALL] == pytest.approx((0 / 48 + 16 / 64) / 2)
    assert two[BED] == pytest.approx((16 / 64 + 48 / 64) / 2)
    assert one[BED] == two[CHAIR] == 0
    pooled = table.aligned(["one"], NAMES, measure="micro")[0]
    assert pooled[CHAIR] == pytest.approx((16 + 32) / (32 + 48))
    assert table.made.images_per_class == 2
    chance = random_capability(table, 3)
    assert chance.teachers == table.teachers
    assert np.array_equal(chance.scores, random_capability(table, 3).scores)
    assert not np.array_equal(chance.scores, random_capability(table, 4).scores)


def _features(words: Words, teacher: str, said: list[int | None]) -> PointFeatures:
    mask = np.array([label is not None for label in said])
    rows = [words.classes[label] for label in said if label is not None]
    return PointFeatures(np.array(rows, np.float16), mask, teacher, "room")


def test_rows_of_a_room() -> None:
    words = _words()
    #          both right  first right  second right  second silent  nobody  only the third
    first = _features(words, "surfaces", [CHAIR, CHAIR, BED, BED, None, None])
    second = _features(words, "objects", [CHAIR, WALL, CHAIR, None, None, None])
    third = _features(words, "distant", [WALL, WALL, WALL, WALL, None, WALL])
    features = {"surfaces": first, "objects": second, "distant": third}
    fusing = Fusing(words, _table(0.1, 0.9), ProjectionSettings(), 0.05, "macro", 1)
    truth = np.full(6, CHAIR)
    rows = predictions(features, fusing, truth)
    assert tuple(rows) == ROWS_2D
    assert rows["2d/surfaces"].tolist() == [CHAIR, CHAIR, BED, BED, NO_PREDICTION, SILENT]
    assert rows["2d/objects"].tolist() == [CHAIR, WALL, CHAIR, SILENT, NO_PREDICTION, SILENT]
    assert rows["2d/oracle"].tolist() == [CHAIR, CHAIR, CHAIR, BED, NO_PREDICTION, SILENT]
    # The second teacher is nine times as capable in every class.
    assert rows["2d/capability"].tolist() == [CHAIR, WALL, CHAIR, BED, NO_PREDICTION, SILENT]
    turned = Fusing(words, _table(0.9, 0.1), ProjectionSettings(), 0.05, "macro", 1)
    said = predictions(features, turned, truth)["2d/capability"]
    assert said.tolist() == [CHAIR, CHAIR, BED, BED, NO_PREDICTION, SILENT]


def test_points_get_what_their_pixels_say() -> None:
    words = _words()
    image = np.full((40, 60, 3), 90, np.uint8)
    image[:, 30:, 0] = 255
    view = View(np.eye(4), Intrinsics(30.0, 30.0, 29.5, 19.5), 60, 40, np.full((40, 60), 2.0))
    points = np.array([[-0.5, 0, 2.0], [0.5, 0, 2.0], [0.5, 0, 4.0], [9, 0, 2]], np.float32)
    teachers = {"surfaces": _Sayer(words, CHAIR, WALL)}
    fusing = Fusing(words, _table(1, 1), ProjectionSettings(3, 0.1), 0.05, "macro", 1)
    views = [RoomView(image, view)]
    found = point_features(points, views, teachers, fusing.projection, "room")["surfaces"]
    assert found.mask.tolist() == [True, True, False, False]
    wanted = words.classes[[WALL, CHAIR]].astype(np.float16)
    assert np.allclose(found.features, wanted, atol=1e-3)
