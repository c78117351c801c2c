"""What teachers call pixels, the table of it, its intervals, and fusion by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_training.alignment import AlignedTeacher
from sas_training.capability.certainty import cautious
from sas_training.capability.class_maps import Caller, class_map
from sas_training.capability.files import write_image, write_mask
from sas_training.capability.measure import (
    LEAST_IMAGES,
    Example,
    Scores,
    count,
    interval,
    measure,
    pooled_interval,
    table_of,
)
from sas_training.capability.samples import examples_of
from sas_training.capability.samples import given as given_samples
from sas_training.capability.table import CapabilityTable, Measurement
from sas_training.fusion.capability_fusion import FusionSettings, fuse_teachers
from sas_training.fusion.features import PointFeatures
from sas_training.learn.settings import FusionChoice
from sas_training.teachers import FrameCache, LabelledMask
from sas_training.teachers.teacher import DenseFeatures, Description, Image

WORDS = ("red", "green", "blue")
TEXT = np.eye(3, dtype=np.float32)


class Colours:
    """A pixel teacher: the colour itself, on cells of 1 / `per_pixel` pixels, silent on black."""

    text_encoder, channels = "colours", 3

    def __init__(self, per_pixel: float = 1.0, name: str = "colours") -> None:
        self.description = Description(name, "none", {"per_pixel": per_pixel})
        self.per_pixel, self.asked = per_pixel, 0

    def features(self, images: Sequence[Image]) -> list[DenseFeatures]:
        self.asked += len(images)
        step = round(1 / self.per_pixel)
        result = []
        for image in images:
            cells = torch.from_numpy(image[::step, ::step].astype(np.float32) / 255)
            valid = cells.sum(dim=2) > 0
            result.append(
                DenseFeatures(cells.permute(2, 0, 1).half(), self.per_pixel, self.per_pixel, valid)
            )
        return result


def painting(seed: int, size: int = 8) -> npt.NDArray[np.uint8]:
    """Pixels of pure colours, some black."""
    label = np.random.default_rng(seed).integers(-1, 3, (size, size))
    return np.asarray(255 * (label[..., None] == np.arange(3)), dtype=np.uint8)


def test_every_pixel_is_called_by_its_nearest_word() -> None:
    image = painting(0)
    (dense,) = Colours().features([image])
    called = class_map(dense, TEXT, 8, 8)
    for row in range(8):
        for column in range(8):
            pixel = image[row, column].astype(float)
            wanted = int(np.argmax(TEXT @ pixel)) if pixel.any() else -1
            assert called[row, column] == wanted
    (coarse,) = Colours(0.5).features([image])
    wide = class_map(coarse, TEXT, 8, 8)
    np.testing.assert_array_equal(wide, called[::2, ::2].repeat(2, axis=0).repeat(2, axis=1))
    with pytest.raises(SasError, match="not of one text encoder"):
        class_map(dense, np.eye(4, dtype=np.float32), 8, 8)
    with pytest.raises(SasError, match="do not cover"):
        class_map(dense, TEXT, 9, 8)


def test_answers_are_kept_by_teacher_words_and_image(tmp_path: Path) -> None:
    images = [painting(1), painting(2)]
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    first = Caller(Colours(), TEXT)
    maps = first.maps(images, paths)
    again = Caller(Colours(), TEXT)
    for one, other in zip(maps, again.maps(images, paths), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (first.made, again.found, again.made) == (2, 2, 0)
    assert first.key == again.key != Caller(Colours(0.5), TEXT).key
    assert len({Caller(Colours(), TEXT[::-1]).key, Caller(Colours(), TEXT, 4).key, again.key}) == 3
    changed = images[0].copy()
    changed[0, 0] = 255 - changed[0, 0]
    again.maps([changed], paths[:1])
    assert again.made == 1
    for path in tmp_path.iterdir():
        path.write_bytes(b"broken")
    assert Caller(Colours(), TEXT).maps(images[:1], paths[:1])[0].shape == (8, 8)


class Program:
    """A teacher of masks that is best asked about three images at once."""

    description, images_a_call = Description("program", "1", {}), 3

    def __init__(self) -> None:
        self.calls: list[int] = []

    def masks(self, images: Sequence[Image]) -> list[tuple[LabelledMask, ...]]:
        self.calls.append(len(images))
        return [(LabelledMask(np.ones(one.shape[:2], bool), "red", 1.0),) for one in images]


class FirstAxis:
    """A text encoder that gives every sentence the first axis."""

    name, dim = "first-axis", 3

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.repeat(np.eye(1, 3, dtype=np.float32), len(texts), axis=0)


def test_a_program_is_asked_about_the_images_of_all_classes_at_once(tmp_path: Path) -> None:
    given = examples()
    count_all = sum(len(one) for one in given.values())

    def asked(cache: FrameCache | None) -> list[int]:
        program = Program()
        teacher = AlignedTeacher(program, FirstAxis(), "label", cache=cache)
        callers = {"program": Caller(teacher, TEXT)}
        count(callers, WORDS, given, batch=1, folder=lambda *names: tmp_path.joinpath(*names))
        return program.calls

    calls = asked(FrameCache(tmp_path / "cache"))
    assert sum(calls) == count_all and calls[:-1] == [3] * (len(calls) - 1)
    assert asked(None) == []  # answers are there


def test_a_smaller_look_is_enlarged_to_the_image() -> None:
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, :8, 0] = image[:, 8:, 1] = 200
    (called,) = Caller(Colours(), TEXT, look=4).maps([image], [None])
    assert called.shape == (8, 16)
    np.testing.assert_array_equal(called[:, [0, 4, 11, 15]], [[0, 0, 1, 1]] * 8)


# The table


def examples() -> dict[str, list[Example]]:
    rng = np.random.default_rng(5)
    return {
        word: [
            Example(f"{n}", painting(10 * label + n), rng.random((8, 8)) < 0.4) for n in range(4)
        ]
        for label, word in enumerate(WORDS[:2])
    }


def transcription(
    teacher: Colours, given: dict[str, list[Example]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Equations 3 and 4, and the pooled form, pixel by pixel."""
    macro, micro = {}, {}
    for word, these in given.items():
        each, both, either = [], 0, 0
        for one in these:
            image, mask = one.read()
            step = round(1 / teacher.per_pixel)
            overlap = union = 0
            for row in range(8):
                for column in range(8):
                    pixel = image[row // step * step, column // step * step].astype(float)
                    said = pixel.any() and WORDS[int(np.argmax(pixel))] == word
                    overlap += bool(said and mask[row, column])
                    union += bool(said or mask[row, column])
            each.append(overlap / union)
            both, either = both + overlap, either + union
        macro[word], micro[word] = sum(each) / len(each), both / either
    return macro, micro


def test_macro_and_micro_equal_the_equations() -> None:
    given = examples()
    teachers = {"fine": Colours(), "coarse": Colours(0.5)}
    callers = {name: Caller(one, TEXT) for name, one in teachers.items()}
    made = Measurement(notes={"a": 1})
    table = measure(callers, WORDS, given, made, zero=("blue",), batch=3)
    assert (table.teachers, table.classes) == (("fine", "coarse"), WORDS)
    assert table.made.notes == {"a": 1}
    assert table.pooled is not None and table.intervals is not None
    for row, teacher in enumerate(teachers.values()):
        macro, micro = transcription(teacher, given)
        for column, word in enumerate(WORDS[:2]):
            assert table.scores[row, column] == pytest.approx(macro[word])
            assert table.pooled[row, column] == pytest.approx(micro[word])
            low, high = table.intervals[row, column]
            assert low <= macro[word] <= high and low < high
    assert table.pooled_intervals is not None
    assert not table.scores[:, 2].any() and not table.intervals[:, 2].any()
    again = measure(callers, WORDS, given, made, zero=("blue",), batch=1)
    assert again.to_json() == table.to_json()


def test_classes_without_images_are_left_out() -> None:
    callers = {"one": Caller(Colours(), TEXT)}
    table = measure(callers, WORDS, {**examples(), "green": []})
    assert table.classes == ("red",)
    with pytest.raises(SasError, match="No class has an image"):
        measure(callers, WORDS, {"red": []})
    with pytest.raises(SasError, match="'pink' is no word"):
        count(callers, WORDS, {"pink": []})


def test_an_empty_mask_and_an_empty_answer_count_as_nothing() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    given = {"red": [Example("0", black, np.zeros((4, 4), bool))]}
    scores = count({"one": Caller(Colours(), TEXT)}, WORDS, given)
    assert scores.each("red").tolist() == [[0.0]]
    assert table_of(scores, Measurement()).scores.tolist() == [[0.0]]


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        each = rng.beta(2, 3, size=(1, 40))
        low, high = interval(each, (7, trial), 300, 0.9)[0]
        hits += low <= 0.4 <= high
    assert 0.82 <= hits / 200 <= 0.96


def test_few_images_leave_everything_open() -> None:
    each = np.random.default_rng(2).random((2, LEAST_IMAGES))
    for few in range(1, LEAST_IMAGES):
        ends = interval(each[:, :few], (1,), 100, 0.95)
        np.testing.assert_array_equal(ends, [[0, 1], [0, 1]])
    enough = interval(each, (1,), 100, 0.95)
    assert (0 < enough[:, 0]).all() and (enough[:, 0] < enough[:, 1]).all()
    assert (enough[:, 1] < 1).all()


def test_pooled_intervals_are_of_the_ratio_of_sums_on_the_same_draws() -> None:
    """Against a transcription that goes draw by draw, with Python's sums and numpy's quantile."""
    rng = np.random.default_rng(4)
    union = {word: rng.integers(1, 4000, (2, 9)) for word in WORDS[:2]}
    overlap = {word: rng.integers(0, counts + 1) for word, counts in union.items()}
    union["red"][1, :] = overlap["red"][1, :] = 0  # a teacher and masks that say nothing
    images = dict.fromkeys(WORDS[:2], tuple("abcdefghi"))
    scores = Scores(("one", "two"), images, overlap, union)
    found = table_of(scores, Measurement(), zero=WORDS[2:], seed=6, resamples=300, level=0.8)
    assert found.pooled_intervals is not None and found.intervals is not None
    assert not found.pooled_intervals[:, 2].any()
    assert not found.pooled_intervals[1, 0].any()
    for column, word in enumerate(WORDS[:2]):
        draws = np.random.default_rng([6, column]).integers(9, size=(300, 9)).tolist()
        for row in range(2):
            inside, outside = overlap[word][row].tolist(), union[word][row].tolist()
            ratios, means = [], []
            for draw in draws:
                both, either = sum(inside[n] for n in draw), sum(outside[n] for n in draw)
                ratios.append(both / either if either else 0.0)
                each = [inside[n] / outside[n] if outside[n] else 0.0 for n in draw]
                means.append(sum(each) / len(each))
            for ends, values in ((found.pooled_intervals, ratios), (found.intervals, means)):
                expected = [float(np.quantile(values, end)) for end in (0.1, 0.9)]
                np.testing.assert_allclose(ends[row, column], expected, rtol=0, atol=1e-12)
    few = pooled_interval(overlap["red"][:, :4], union["red"][:, :4], (1,), 100, 0.95)
    np.testing.assert_array_equal(few, [[0, 1], [0, 1]])


def test_files_of_ones_own(tmp_path: Path) -> None:
    for number in range(2):
        write_image(tmp_path / "images" / "red" / f"{number}.png", painting(number))
        write_mask(tmp_path / "masks" / "red" / f"{number}.png", np.full((8, 8), number == 1))
    samples = given_samples(WORDS, tmp_path / "images", tmp_path / "masks")
    assert [(one.of, one.name, one.reason) for one in samples] == [
        ("red", "0", "empty mask"),
        ("red", "1", ""),
    ]
    assert [one.name for one in examples_of(samples, WORDS)["red"]] == ["1"]
    image, mask = samples[1].example.read()
    np.testing.assert_array_equal(image, painting(1))
    assert mask.all()
    write_mask(tmp_path / "masks" / "red" / "1.png", np.ones((4, 4), bool))
    with pytest.raises(SasError, match="4 x 4, its image 8 x 8"):
        samples[1].example.read()
    (tmp_path / "masks" / "red" / "1.png").unlink()
    with pytest.raises(SasError, match="has no mask"):
        given_samples(WORDS, tmp_path / "images", tmp_path / "masks")
    with pytest.raises(SasError, match="no images of any class"):
        given_samples(WORDS, tmp_path / "masks" / "red", tmp_path)


# Readings of the table


def table(scores: Any, ends: Any) -> CapabilityTable:
    names = tuple("abcdefgh"[: len(scores)])
    return CapabilityTable(
        names, tuple(WORDS[: len(scores[0])]), np.array(scores), intervals=np.array(ends)
    )


def test_readings_by_hand() -> None:
    one = table(
        [[0.5, 0.5], [0.6, 0.9], [0.8, 0.1]],
        [[[0.4, 0.6], [0.4, 0.6]], [[0.55, 0.7], [0.8, 1.0]], [[0.75, 0.9], [0.0, 0.2]]],
    )
    assert cautious(one, "mean") is one
    assert cautious(one, "lower").scores.tolist() == [[0.4, 0.4], [0.55, 0.8], [0.75, 0.0]]
    found = cautious(one, "separate").scores
    np.testing.assert_allclose(found, [[0.55, 0.5], [0.55, 0.9], [0.8, 0.1]])
    bare = CapabilityTable(("a",), ("x",), np.array([[0.5]]))
    assert cautious(bare, "mean") is bare
    with pytest.raises(SasError, match="needs a table with intervals"):
        cautious(bare, "lower")
    with pytest.raises(SasError, match="no reading"):
        cautious(bare, "upper")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6)
)
def test_teachers_differ_only_where_intervals_do(given: list[tuple[float, float, float]]) -> None:
    ordered = [sorted(one) for one in given]
    one = table([[b] for _, b, _ in ordered], [[[a, c]] for a, _, c in ordered])
    found = cautious(one, "separate").scores[:, 0]
    for i in range(len(ordered)):
        for j in range(len(ordered)):
            (a, _, b), (c, _, d) = ordered[i], ordered[j]
            if a <= d and c <= b:
                assert found[i] == pytest.approx(found[j])
            elif b < c:
                assert found[i] <= found[j] + 1e-12 or found[i] == pytest.approx(found[j])
    assert found.mean() == pytest.approx(np.mean([b for _, b, _ in ordered]))


def test_fusion_weighs_by_the_reading() -> None:
    mask = np.ones(1, bool)
    say = [
        PointFeatures(np.eye(3, dtype=np.float16)[:1], mask, "a", "s"),
        PointFeatures(np.eye(3, dtype=np.float16)[1:2], mask, "b", "s"),
    ]
    ends = [[[0.2, 0.8]] * 3, [[0.5, 0.6]] * 3]
    one = table([[0.6] * 3, [0.55] * 3], ends)
    weights = {}
    for certainty in ("mean", "lower", "separate"):
        fused = fuse_teachers(say, TEXT, WORDS, one, FusionSettings(certainty=certainty))
        weights[certainty] = fused.features[0, :2].astype(float)
        assert fused.settings["certainty"] == certainty

    def softmax(first: float, second: float) -> npt.NDArray[np.float64]:
        each = np.exp(np.array([first, second]) / 0.05)
        return np.asarray(each / each.sum())

    np.testing.assert_allclose(weights["mean"], softmax(0.6, 0.55), atol=1e-3)
    np.testing.assert_allclose(weights["lower"], softmax(0.2, 0.5), atol=1e-3)
    np.testing.assert_allclose(weights["separate"], [0.5, 0.5], atol=1e-3)


def test_fusion_reads_pooled_scores_by_their_own_intervals() -> None:
    mask = np.ones(1, bool)
    say = [
        PointFeatures(np.eye(3, dtype=np.float16)[:1], mask, "a", "s"),
        PointFeatures(np.eye(3, dtype=np.float16)[1:2], mask, "b", "s"),
    ]
    macro = table([[0.9] * 3, [0.1] * 3], [[[0.8, 1.0]] * 3, [[0.0, 0.2]] * 3])
    ends = np.array([[[0.35, 0.6]] * 3, [[0.3, 0.55]] * 3])
    one = replace(macro, pooled=np.array([[0.5] * 3, [0.4] * 3]), pooled_intervals=ends)

    def share(certainty: str, of: CapabilityTable = one) -> float:
        how = FusionSettings(certainty=certainty, measure="micro")
        fused = fuse_teachers(say, TEXT, WORDS, of, how).features[0].astype(float)
        return float(fused[0] / fused[:2].sum())

    assert share("mean") == pytest.approx(1 / (1 + np.exp(-0.1 / 0.05)), abs=1e-3)
    assert share("lower") == pytest.approx(1 / (1 + np.exp(-0.05 / 0.05)), abs=1e-3)
    assert share("separate") == pytest.approx(0.5, abs=1e-3)
    older = replace(one, pooled_intervals=None)
    assert share("mean", older) == share("mean")
    with pytest.raises(SasError, match="intervals of its macro scores alone"):
        share("lower", older)
    with pytest.raises(SasError, match="needs a table with intervals"):
        share("lower", replace(older, intervals=None))


def test_readings_are_checked_where_they_are_chosen() -> None:
    with pytest.raises(SasError, match="no reading"):
        FusionSettings(certainty="upper")
    assert FusionSettings(certainty="lower", measure="micro").measure == "micro"
    with pytest.raises(SasError, match="certainty is mean or lower or separate"):
        FusionChoice(certainty="upper")
    assert FusionChoice("capability", "a.json", certainty="lower").certainty == "lower"
