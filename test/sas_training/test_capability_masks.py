"""Coarse masks, points, SAM and pseudo masks: what is asked, what comes back, what is rejected."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_training.capability import samples, segmenters
from sas_training.capability.files import CapabilityFiles, read_mask, write_share
from sas_training.capability.points import coarse_mask, prompt_points, without_frame
from sas_training.capability.pseudo_masks import (
    MaskSettings,
    PseudoMask,
    Quality,
    RejectionRule,
    kept_or_made,
    refine,
)
from sas_training.capability.segmenters import Segmented, load_segmenter

pytest.importorskip("scipy")

Mask = npt.NDArray[np.bool_]


def disc(size: int, x: float, y: float, radius: float) -> Mask:
    row, column = np.mgrid[:size, :size]
    return np.asarray((row - y) ** 2 + (column - x) ** 2 <= radius**2)


# Coarse masks


def test_the_threshold_means_the_same_in_the_file(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 4001).reshape(1, -1)
    write_share(tmp_path / "a.png", values)
    from sas_training.capability.files import read_plane

    stored = read_plane(tmp_path / "a.png") / 255
    np.testing.assert_array_equal(coarse_mask(stored, 0.7), values > 0.7)


def test_maps_and_thresholds_are_checked() -> None:
    for values in (np.zeros(3), np.full((2, 2), 1.5), np.full((2, 2), np.nan)):
        with pytest.raises(SasError, match="map of attention"):
            coarse_mask(values)
    with pytest.raises(SasError, match="threshold"):
        coarse_mask(np.zeros((2, 2)), 1.0)


def test_the_frame_is_a_share_of_each_side() -> None:
    inner = without_frame(np.ones((512, 256), bool))
    assert inner[70, 128] and not inner[69, 128] and inner[256, 35] and not inner[256, 34]
    assert inner.sum() == (512 - 140) * (256 - 70)
    with pytest.raises(SasError, match="frame"):
        without_frame(np.ones((4, 4), bool), 0.5)
    with pytest.raises(SasError, match="bool"):
        without_frame(np.ones((4, 4)))


# Points


def edge_distance(mask: Mask, x: int, y: int) -> float:
    """From a pixel to the nearest one that is not in the mask, the image's outside included."""
    padded = np.pad(mask, 1)
    rows, columns = np.nonzero(~padded)
    return float(np.sqrt(((rows - y - 1) ** 2 + (columns - x - 1) ** 2).min()))


def deepest(mask: Mask) -> float:
    return max(edge_distance(mask, x, y) for y, x in np.argwhere(mask))


def test_one_part_gets_three_points_each_without_the_ones_before() -> None:
    mask = disc(48, 24, 24, 9)
    found = prompt_points(mask)
    assert (found.parts, found.fallback, found.points.shape) == (1, False, (3, 2))
    assert tuple(found.points[0]) == (24, 24)
    left = mask.copy()
    for x, y in found.points:
        assert left[y, x] and edge_distance(left, x, y) == pytest.approx(deepest(left))
        left[y, x] = False


def test_two_parts_get_two_and_one() -> None:
    large, small = disc(64, 20, 32, 8), disc(64, 45, 32, 5)
    found = prompt_points(large | small)
    assert found.parts == 2
    assert [bool(large[y, x]) for x, y in found.points] == [True, True, False]
    assert tuple(found.points[2]) == (45, 32)


def test_many_parts_get_one_each_in_the_three_largest() -> None:
    discs = [disc(96, 25, 25, 6), disc(96, 70, 25, 9), disc(96, 25, 70, 4), disc(96, 70, 70, 7)]
    found = prompt_points(np.logical_or.reduce(discs))
    assert found.parts == 4
    assert found.points.tolist() == [[70, 25], [70, 70], [25, 25]]


def test_diagonal_pixels_are_one_part() -> None:
    mask = np.zeros((64, 64), bool)
    for step in range(12):
        mask[20 + step, 20 + step] = True
    assert prompt_points(mask).parts == 1


def test_without_attention_inside_the_frame_the_middle_is_taken() -> None:
    edge = np.zeros((512, 512), bool)
    edge[:60] = True
    found = prompt_points(edge)
    assert found.fallback and found.parts == 4
    assert all(240 <= value <= 271 for value in found.points.reshape(-1))
    barely = np.zeros((512, 512), bool)
    barely[200, 100:110] = True
    assert not prompt_points(barely).fallback
    barely[200, 109] = False
    assert prompt_points(barely).fallback


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 40), st.integers(8, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_points_lie_in_the_mask_or_in_the_middle(
    height: int, width: int, seed: int, share: float
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    found = prompt_points(mask)
    inner = without_frame(mask)
    assert found.points.shape == (3, 2)
    for x, y in found.points:
        assert 0 <= x < width and 0 <= y < height
        assert found.fallback or inner[y, x]
    if not found.fallback:
        assert len({tuple(point) for point in found.points.tolist()}) == 3


# Pseudo masks


class Around:
    """A segmenter that takes a square around the first point."""

    description = {"library": "around"}  # noqa: RUF012

    def segment(self, image: Any, points: npt.NDArray[np.int64]) -> Segmented:
        mask = np.zeros(image.shape[:2], bool)
        x, y = points[0]
        mask[max(0, y - 10) : y + 11, max(0, x - 10) : x + 11] = True
        return Segmented(mask, 0.8)


def picture(size: int = 64) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)


def test_figures_of_a_pseudo_mask() -> None:
    coarse = disc(64, 30, 34, 6)
    made = refine(picture(), coarse, Around())
    quality = made.quality
    assert made.mask.sum() == 21 * 21 and quality.points[0] == (30, 34)
    assert (quality.score, quality.inside, quality.parts) == (0.8, 1.0, 1)
    assert quality.agreement == pytest.approx(coarse.sum() / 441)
    assert quality.share == pytest.approx(441 / 4096)
    assert quality.coarse_share == pytest.approx(coarse.mean())
    assert not quality.fallback and not quality.blank
    assert RejectionRule().reason(quality) == ""
    alone = refine(picture(), coarse, None)
    np.testing.assert_array_equal(alone.mask, coarse)
    assert alone.quality.score is None and alone.quality.agreement == 1
    with pytest.raises(SasError, match="does not belong"):
        refine(picture(32), coarse, None)


GOOD = Quality(((3, 4),) * 3, 1, False, 0.9, 0.9, 0.4, 0.3, 0.1, False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"score": None}, ""),
        ({"blank": True}, "blank image"),
        ({"fallback": True}, "no attention"),
        ({"score": 0.69}, "unsure mask"),
        ({"inside": 0.49}, "mask elsewhere"),
        ({"share": 0.004}, "small mask"),
        ({"share": 0.96}, "large mask"),
    ],
)
def test_the_rule_of_rejection(change: dict[str, Any], reason: str) -> None:
    assert RejectionRule().reason(replace(GOOD, **change)) == reason


def test_a_blank_image_is_noticed() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    assert refine(black, disc(64, 30, 30, 5), None).quality.blank


def test_pseudo_masks_are_kept_with_their_figures(tmp_path: Path) -> None:
    path, asked = tmp_path / "chair" / "0000.png", []

    def make() -> PseudoMask:
        asked.append(1)
        return refine(picture(), disc(64, 30, 34, 6), Around())

    first, made = kept_or_made(path, make)
    again, anew = kept_or_made(path, make)
    assert (made, anew, len(asked)) == (True, False, 1)
    assert again.quality == first.quality
    np.testing.assert_array_equal(again.mask, first.mask)
    np.testing.assert_array_equal(read_mask(path), first.mask)
    path.with_suffix(".json").unlink()
    assert kept_or_made(path, make)[1]
    for text in ("", "{}", "[]", json.dumps({"points": 3})):
        path.with_suffix(".json").write_text(text)
        with pytest.raises(SasError, match="no figures"):
            kept_or_made(path, make)


# Segmenters


def test_pseudo_masks_belong_to_the_images_they_were_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_pseudo", lambda *_: SimpleNamespace(quality=None))
    files = CapabilityFiles(tmp_path, ("chair",))

    def mask() -> Path:
        found = samples.synthetic(files, ("chair",), 1, MaskSettings(), None, None)
        return found[0].mask

    with pytest.raises(SasError, match=r"run\.json cannot be read"):
        mask()
    files.same_settings({"model": "one"})
    first = mask()
    assert mask() == first
    files.run.unlink()
    files.same_settings({"model": "another"})
    assert mask() != first


def test_segmenters_by_name(tmp_path: Path) -> None:
    assert load_segmenter("none") is None
    with pytest.raises(SasError, match="'sam' makes no masks"):
        load_segmenter("sam")


def test_sam_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    from tiny_diffusion import save_sam
    from tiny_models import watch_half

    save_sam(tmp_path / "sam")
    image, points = picture(40)[:30], np.array([[3, 4], [20, 11], [39, 29]])
    for multimask in (False, True):
        sam = load_segmenter("transformers", tmp_path / "sam", device="cpu", multimask=multimask)
        assert sam is not None
        assert sam.description["family"] == "sam" and sam.description["multimask"] is multimask
        halves = watch_half(monkeypatch, segmenters, sam._network)  # type: ignore[attr-defined]
        found = sam.segment(image, points)
        assert halves == ["cpu"]
        assert found.mask.shape == (30, 40) and found.mask.dtype == np.bool_
        again = sam.segment(image, points)
        np.testing.assert_array_equal(found.mask, again.mask)
        assert found.score == again.score and 0 <= found.score <= 1
        np.testing.assert_array_equal(found.mask, by_hand(sam, image, points, multimask))


def by_hand(sam: Any, image: Any, points: Any, multimask: bool) -> Mask:
    """The same question put to the network without the library's processor."""
    from PIL import Image

    network = sam._network
    size = network.config.vision_config.image_size
    scale = size / max(image.shape[:2])
    height, width = (int(side * scale + 0.5) for side in image.shape[:2])
    small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = np.zeros((size, size, 3))
    pixels[:height, :width] = (small / 255 - mean) / deviation
    with torch.no_grad():
        answer = network(
            pixel_values=torch.from_numpy(pixels).float().permute(2, 0, 1)[None],
            input_points=torch.tensor(points * [width / 40, height / 30]).float()[None, None],
            input_labels=torch.ones(1, 1, len(points), dtype=torch.long),
            multimask_output=multimask,
        )
    best = int(answer.iou_scores.reshape(-1).argmax())
    resize = torch.nn.functional.interpolate
    wide = resize(answer.pred_masks[0, 0, best][None, None], (size, size), mode="bilinear")
    inner = resize(wide[..., :height, :width], image.shape[:2], mode="bilinear")
    return np.asarray(inner[0, 0] > 0)


def test_sam_that_is_missing_is_named(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(
        SasError, match="segmenter transformers needs a model on this machine"
    ) as said:
        load_segmenter("transformers")
    assert "as --sam-weights, or its id as --sam-model, such as" in str(said.value)
    with pytest.raises(SasError, match=r"nobody/nothing.*give its folder as --sam-weights"):
        load_segmenter("transformers", model="nobody/nothing")
    with pytest.raises(SasError, match="no folder of a model"):
        load_segmenter("transformers", tmp_path / "none")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(SasError, match="kind 'bert'; the segmenter transformers takes sam"):
        load_segmenter("transformers", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    with pytest.raises(SasError, match="cannot be loaded"):
        load_segmenter("transformers", tmp_path)


def test_sam_2_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    from tiny_diffusion import save_sam2
    from tiny_models import watch_half

    save_sam2(tmp_path)
    sam = load_segmenter("transformers", tmp_path, device="cpu")
    assert sam is not None and sam.description["family"] == "sam2"
    image, points = picture(40)[:30], np.array([[3, 4], [20, 11], [39, 29]])
    halves = watch_half(monkeypatch, segmenters, sam._network)  # type: ignore[attr-defined]
    found = sam.segment(image, points)
    assert halves == ["cpu"]
    assert found.mask.shape == (30, 40) and found.mask.dtype == np.bool_
    wanted, score = by_hand_2(sam._network, image, points)  # type: ignore[attr-defined]
    assert found.score == pytest.approx(score, abs=1e-5)
    assert 0.05 < wanted.mean() < 0.95 and (found.mask != wanted).mean() < 0.02
    # Points count, and which of their numbers is which.
    other, _ = by_hand_2(sam._network, image, points[:, ::-1])  # type: ignore[attr-defined]
    assert (other != wanted).mean() > 0.1


def by_hand_2(network: Any, image: Any, points: Any) -> tuple[Mask, float]:
    """The same question put to SAM 2 without the library's processor: its images are squeezed."""
    resize = torch.nn.functional.interpolate
    size = network.config.vision_config.backbone_config.image_size[0]
    height, width = image.shape[:2]
    colours = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    small = resize(colours, (size, size), mode="bilinear", antialias=True).round() / 255
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.no_grad():
        answer = network(
            pixel_values=(small - mean) / deviation,
            input_points=torch.tensor(points * [size / width, size / height]).float()[None, None],
            input_labels=torch.ones(1, 1, len(points), dtype=torch.long),
            multimask_output=False,
        )
    wide = resize(answer.pred_masks[0, 0][None], (height, width), mode="bilinear")
    return np.asarray(wide[0, 0] > 0), float(answer.iou_scores.reshape(-1)[0])


SMALL: dict[str, Any] = {
    "img_size": 64, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2,
    "window_size": 4, "global_attn_indexes": [0], "out_chans": 256,
}  # fmt: skip


def test_the_reference_sam_without_its_package_is_named(tmp_path: Path) -> None:
    try:
        import segment_anything  # noqa: F401
    except (ImportError, RuntimeError):
        with pytest.raises(SasError, match=r"pip install \"\.\[capability\]\""):
            load_segmenter("segment-anything", tmp_path / "sam.pth")
    else:
        with pytest.raises(SasError, match="needs its checkpoint"):
            load_segmenter("segment-anything")


def by_hand_reference(network: Any, image: Any, points: Any) -> tuple[Mask, float]:
    """The same question put to the package's network, without its predictor and its transforms."""
    from PIL import Image

    size = SMALL["img_size"]
    height, width = image.shape[:2]
    scale = size / max(height, width)
    small = Image.fromarray(image).resize(
        (int(width * scale + 0.5), int(height * scale + 0.5)), Image.Resampling.BILINEAR
    )
    asked = {
        "image": torch.from_numpy(np.array(small)).permute(2, 0, 1),  # RGB, 0 to 255
        "original_size": (height, width),
        "point_coords": torch.tensor(points * [small.width / width, small.height / height])[None],
        "point_labels": torch.ones(1, len(points)),
    }
    (answer,) = network([asked], multimask_output=False)
    return answer["masks"][0, 0].numpy(), float(answer["iou_predictions"][0, 0])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_reference_sam(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    pytest.importorskip("segment_anything")
    from safetensors.torch import save_file
    from tiny_models import watch_half

    from sas_training.capability import sam_reference
    from sas_training.capability.sam_reference import _ENCODER, small_sam

    torch.manual_seed(0)
    about, weights = tmp_path / "small.json", tmp_path / f"sam{suffix}"
    about.write_text(json.dumps(SMALL))
    network = small_sam({**_ENCODER, **SMALL})
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, weights) if suffix == ".safetensors" else torch.save(state, weights)
    image, points = picture(40)[:30], np.array([[3, 4], [20, 11], [39, 29]])
    sam = load_segmenter("segment-anything", weights, str(about), "cpu")
    assert sam is not None
    halves = watch_half(monkeypatch, sam_reference, sam._predictor.model)  # type: ignore[attr-defined]
    found = sam.segment(image, points)
    assert halves == ["cpu"]
    assert found.mask.shape == (30, 40) and 0 <= found.score <= 1
    network = small_sam({**_ENCODER, **SMALL}).eval()
    network.load_state_dict(state)
    wanted, score = by_hand_reference(network, image, points)
    assert 0.05 < wanted.mean() < 0.95 and (found.mask != wanted).mean() < 0.005
    assert found.score == pytest.approx(min(1.0, max(0.0, score)), abs=1e-4)
    assert (by_hand_reference(network, image, points[:, ::-1])[0] != wanted).mean() > 0.02
    # Colours count: RGB is not BGR.
    other = sam.segment(np.ascontiguousarray(image[..., ::-1]), points)
    assert other.score != found.score
    with pytest.raises(SasError, match="no checkpoint of SAM at"):
        load_segmenter("segment-anything", tmp_path / "none.pth")
    with pytest.raises(SasError, match="not those of a SAM"):
        about.write_text(json.dumps({**SMALL, "depth": 2}))
        load_segmenter("segment-anything", weights, str(about), "cpu")
    with pytest.raises(SasError, match="no type of SAM"):
        load_segmenter("segment-anything", weights, "vit_x", "cpu")
    about.write_text('{"size": 3}')
    with pytest.raises(SasError, match="no description of SAM"):
        load_segmenter("segment-anything", weights, str(about), "cpu")
    weights.write_bytes(b"nothing")
    about.write_text(json.dumps(SMALL))
    with pytest.raises(SasError, match="no readable checkpoint"):
        load_segmenter("segment-anything", weights, str(about), "cpu")
