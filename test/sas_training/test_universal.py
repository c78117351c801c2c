"""Universal segmentation models and captioners of transformers: small random ones, as saved."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import LABELS, save_captioner, save_universal, watch_half

from sas_ros.errors import SasError
from sas_training.alignment import caption_models
from sas_training.alignment.captioners import load_captioner
from sas_training.teachers import LabelledMask, TeacherOptions, load_teacher, universal
from sas_training.teachers.hub_models import find_model
from sas_training.teachers.query_masks import QueryRules, read_queries
from sas_training.teachers.registry import half_on

FAMILIES = ("mask2former", "oneformer", "maskformer")
EVERYTHING = {"threshold": "0", "overlap": "0"}


def picture(height: int = 40, width: int = 70, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Reading queries


def upsampled(masks: np.ndarray[Any, Any], rows: int, columns: int) -> np.ndarray[Any, Any]:
    """Bilinear, corners not aligned, edges repeated, float64."""

    def matrix(new: int, old: int) -> np.ndarray[Any, Any]:
        found = np.zeros((new, old))
        for i in range(new):
            at = min(max((i + 0.5) * old / new - 0.5, 0), old - 1)
            low = int(at)
            found[i, low] += 1 - (at - low)
            found[i, min(low + 1, old - 1)] += at - low
        return found

    return matrix(rows, masks.shape[1]) @ masks @ matrix(columns, masks.shape[2]).T


def probabilities(
    classes: torch.Tensor, masks: torch.Tensor
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Of classes (Q, K + 1) and of masks at 9 x 12 pixels of an image padded to 16 x 16."""
    logits = classes.double().numpy()
    each = np.exp(logits - logits.max(1, keepdims=True))
    wide = upsampled(masks.double().numpy(), 16, 16)[:, :12, :16]
    wide = upsampled(wide, 9, 12)
    return each / each.sum(1, keepdims=True), 1 / (1 + np.exp(-wide))


def some_queries(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(7, 4, generator=generator) * 2
    return classes, torch.randn(7, 4, 4, generator=generator) * 4


@pytest.mark.parametrize("seed", range(5))
def test_semantic_reading_equals_the_equation(seed: int) -> None:
    classes, masks = some_queries(seed)
    found = read_queries(
        classes, masks, LABELS, QueryRules("semantic"), (16, 16), (12, 16), (9, 12)
    )
    each, wide = probabilities(classes, masks)
    sums = np.einsum("qk,qhw->khw", each[:, :-1], wide)
    winner, share = sums.argmax(0), sums.max(0) / sums.sum(0)
    assert {one.label for one in found} == {LABELS[k] for k in np.unique(winner)}
    for one in found:
        wanted = winner == next(k for k, word in LABELS.items() if word == one.label)
        np.testing.assert_array_equal(one.mask, wanted)
        assert one.score == pytest.approx(share[wanted].mean(), abs=1e-5)
    assert np.sum([one.mask for one in found], axis=0).min() == 1  # every pixel, once


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("threshold", "overlap"), [(0.0, 0.0), (0.4, 0.8), (0.3, 0.5)])
def test_panoptic_reading_equals_the_rule(seed: int, threshold: float, overlap: float) -> None:
    classes, masks = some_queries(seed)
    rules = QueryRules("panoptic", threshold, overlap)
    found = read_queries(classes, masks, LABELS, rules, (16, 16), (12, 16), (9, 12))
    each, wide = probabilities(classes, masks)
    score, label = each.max(1), each.argmax(1)
    sure = [q for q in range(7) if label[q] != 3 and score[q] > threshold]
    wanted = []
    for q in sure:
        winner = np.array(sure)[np.argmax([score[p] * wide[p] for p in sure], axis=0)]
        own = wide[q] >= 0.5
        won = own & (winner == q)
        if won.any() and won.sum() >= overlap * own.sum():
            wanted.append((score[q], LABELS[label[q]], won))
    wanted.sort(key=lambda one: -one[0])
    assert [one.label for one in found] == [word for _, word, _ in wanted]
    for one, (sure_of, _, won) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.mask, won)
        assert one.score == pytest.approx(sure_of, abs=1e-6)


def test_padding_is_no_part_of_the_image() -> None:
    """A mask over the upper half of the picture that the network saw, padding included."""
    masks = torch.full((1, 8, 8), -9.0)
    masks[0, :4] = 9.0
    classes = torch.tensor([[9.0, 0.0, 0.0, 0.0]])
    seen = read_queries(classes, masks, LABELS, QueryRules(), (64, 64), (32, 64), (16, 32))
    assert seen[0].mask.all()  # its image is that half
    whole = read_queries(classes, masks, LABELS, QueryRules(), (64, 64), (64, 64), (16, 32))
    np.testing.assert_array_equal(whole[0].mask, np.arange(16)[:, None] < np.full(32, 8))


def test_small_masks_are_left_out() -> None:
    classes, masks = some_queries(0)
    every = read_queries(
        classes, masks, LABELS, QueryRules("panoptic", 0.0, 0.0), (16, 16), (12, 16), (9, 12)
    )
    least = sorted(int(one.mask.sum()) for one in every)[1]
    fewer = read_queries(
        classes, masks, LABELS, QueryRules("panoptic", 0.0, 0.0, least), (16, 16), (12, 16), (9, 12)
    )
    assert len(fewer) == len(every) - 1
    with pytest.raises(SasError, match="between 0 and 1"):
        QueryRules(threshold=1.5)


# Models


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp(request.param)
    save_universal(folder, request.param)
    return folder


def test_a_model_of_each_family_is_loaded_and_used(model: Path) -> None:
    teacher: Any = load_teacher("universal", TeacherOptions(weights=model, settings=EVERYTHING))
    images = [picture(), picture(64, 48, 1)]
    found = teacher.masks(images)
    assert teacher.labels == tuple(LABELS.values())
    assert any(found)
    for image, masks in zip(images, found, strict=True):
        assert all(one.mask.shape == image.shape[:2] for one in masks)
        assert all(one.label in LABELS.values() and 0 <= one.score <= 1 for one in masks)
    # An image does not depend on what else it is asked about with.
    alone = teacher.masks(images[:1])[0]
    assert [(one.label, one.score) for one in alone] == [(m.label, m.score) for m in found[0]]
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(alone, found[0], strict=True))
    assert teacher.masks([]) == []
    assert teacher.description.model.startswith("sha256:")


def forward(model: Path, kind: str, image: np.ndarray[Any, Any]) -> tuple[Any, Any, Any]:
    """The library's own preparation and pass: what reads, what it reads, and the size looked at.

    What reads is Mask2Former's: it alone enlarges logits first, and OneFormer's needs torchvision.
    """
    import transformers as tf

    network: Any = tf.AutoModelForUniversalSegmentation.from_pretrained(model).eval()
    if network.config.model_type == "oneformer":
        pixels: Any = tf.AutoImageProcessor.from_pretrained(model, class_info_file=None)
        words = tf.AutoTokenizer.from_pretrained(model)
        task = words(
            f"the task is {kind}", padding="max_length", truncation=True, max_length=9,
            return_tensors="pt",
        )  # fmt: skip
        more = {"task_inputs": task.input_ids}
    else:
        pixels, more = tf.AutoImageProcessor.from_pretrained(model), {}
    given = pixels(images=[image], return_tensors="pt")
    with torch.inference_mode():
        answer = network(**{**given, **more})
    return tf.Mask2FormerImageProcessor(), answer, given["pixel_values"].shape[-2:]


def test_images_of_one_size_share_a_pass(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher: Any = load_teacher("universal", TeacherOptions(weights=model, device="cpu"))
    seen = watch_half(monkeypatch, universal, teacher._network)
    teacher.masks([picture(), picture(64, 48, 1), picture(seed=2)])
    assert seen == ["cpu", "cpu"]


def test_half_precision_is_for_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("torch.autocast", lambda *given, **more: asked.append((*given, more)))
    for device in ("cuda", "cpu"):
        half_on(torch.device(device))
    half = torch.float16
    assert asked == [("cuda", half, {"enabled": True}), ("cpu", half, {"enabled": False})]


@pytest.mark.parametrize("shape", [(40, 70), (64, 48)])
def test_panoptic_masks_are_the_librarys(model: Path, shape: tuple[int, int]) -> None:
    image = picture(*shape, seed=1)
    teacher: Any = load_teacher("universal", TeacherOptions(weights=model, settings=EVERYTHING))
    (found,) = teacher.masks([image])
    library, answer, sizes = forward(model, "panoptic", image)  # these sizes need no padding
    wanted = read_queries(
        answer.class_queries_logits[0], answer.masks_queries_logits[0], LABELS,
        QueryRules("panoptic", 0, 0), sizes, sizes, shape,
    )  # fmt: skip
    assert len(found) == len(wanted) >= 2
    for one, other in zip(found, wanted, strict=True):
        assert (one.label, one.score) == (other.label, pytest.approx(other.score, abs=1e-5))
        assert (one.mask == other.mask).mean() > 0.999
    # The library's own reading, which asks no more of a pixel than to be won.
    read = library.post_process_panoptic_segmentation(
        answer, threshold=0, mask_threshold=0, overlap_mask_area_threshold=0,
        label_ids_to_fuse=set(), target_sizes=[shape],
    )[0]  # fmt: skip
    segments = {round(one["score"], 4): one for one in read["segments_info"]}
    large = [one for one in found if one.mask.sum() >= 20]
    assert len(large) >= 2
    agreed = []
    for one in large:
        segment = segments[round(one.score, 4)]
        assert LABELS[segment["label_id"]] == one.label
        agreed.append(read["segmentation"].numpy()[one.mask] == segment["id"])
    # It resizes probabilities where we resize logits, which decides between equally sure queries.
    assert np.concatenate(agreed).mean() > 0.85


@pytest.mark.parametrize("shape", [(40, 70), (64, 48)])
def test_semantic_masks_are_the_librarys(model: Path, shape: tuple[int, int]) -> None:
    image = picture(*shape, seed=1)
    options = TeacherOptions(weights=model, settings={"kind": "semantic"})
    teacher: Any = load_teacher("universal", options)
    (found,) = teacher.masks([image])
    library, answer, _ = forward(model, "semantic", image)
    (read,) = library.post_process_semantic_segmentation(
        answer, target_sizes=[shape], return_segmentation_scores=True
    )
    shares = (read["segmentation_scores"] / read["segmentation_scores"].sum(0)).numpy()
    assert {one.label for one in found if one.mask.sum() >= 20} <= {
        LABELS[number] for number in read["segmentation"].unique().tolist()
    }
    said = np.full(shape, -1)
    for one in found:
        number = next(key for key, word in LABELS.items() if word == one.label)
        said[one.mask] = number
        if one.mask.sum() >= 20:
            assert one.score == pytest.approx(shares[number][one.mask].mean(), abs=0.02)
    assert (said == read["segmentation"].numpy()).mean() > 0.97


def test_semantic_masks_cover_the_image(model: Path) -> None:
    options = TeacherOptions(weights=model, settings={"kind": "semantic"})
    teacher: Any = load_teacher("universal", options)
    (masks,) = teacher.masks([picture()])
    assert np.sum([one.mask for one in masks], axis=0).tolist() == np.ones((40, 70)).tolist()


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    for settings, sentence in (
        ({"kind": "instance"}, "panoptic or semantic, not 'instance'"),
        ({"overlap": "2"}, "between 0 and 1"),
        ({"size": "2"}, 'no setting "size"; it has kind, threshold'),
    ):
        with pytest.raises(SasError, match=sentence):
            load_teacher("universal", TeacherOptions(weights=tmp_path, settings=settings))


def test_missing_models_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    for options, sentence in (
        (TeacherOptions(), "as weights, or its id as model, such as"),
        (TeacherOptions(weights=tmp_path / "none"), "no folder of a model at"),
        (TeacherOptions(weights=tmp_path / "empty"), r"config\.json is missing"),
        (TeacherOptions(model="some/model-of-mine"), '"hf download some/model-of-mine"'),
    ):
        with pytest.raises(SasError, match=sentence):
            load_teacher("universal", options)
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(SasError, match="holds no weights"):
        load_teacher("universal", TeacherOptions(weights=tmp_path / "empty"))
    (tmp_path / "empty" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(SasError, match="cannot be loaded"):
        load_teacher("universal", TeacherOptions(weights=tmp_path / "empty"))


def test_a_model_in_the_hubs_cache_is_found_by_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--some--model"
    folder = place / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"1")
    found = find_model(None, "some/model", "", "")
    assert found.folder.samefile(folder)
    assert found.model == find_model(folder, "", "", "").model


def test_other_kinds_of_models_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(SasError, match=r"of the kind 'bert'; .* takes mask2former, oneformer"):
        load_teacher("universal", TeacherOptions(weights=tmp_path))
    for name in ("blip", "florence-2"):
        with pytest.raises(SasError, match=f"'bert', which is no captioner {name}"):
            load_captioner(name, tmp_path)


@pytest.mark.parametrize("name", [*FAMILIES, "blip", "florence-2"])
def test_no_code_of_a_models_folder_is_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every `from_pretrained` is told so, whatever the library would do by itself."""
    pytest.importorskip("transformers")
    asked: list[bool] = []

    def config() -> Any:
        kind = "florence2" if name == "florence-2" else name
        return SimpleNamespace(model_type=kind, id2label={0: "chair"})

    class Recorded:
        def __getattr__(self, part: str) -> Any:
            def load(folder: Path, **settings: Any) -> Any:
                asked.append(settings.get("trust_remote_code") is False)
                assert settings["local_files_only"] is True
                return config() if part == "AutoConfig" else torch.nn.Identity()

            if part == "OneFormerProcessor":
                return lambda *_, **__: None
            return SimpleNamespace(from_pretrained=load)

    for module in ("teachers.universal", "alignment.caption_models"):
        monkeypatch.setattr(f"sas_training.{module}.transformers_library", lambda _: Recorded())
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    if name in FAMILIES:
        load_teacher("universal", TeacherOptions(weights=tmp_path, device="cpu"))
    else:
        load_captioner(name, tmp_path, device="cpu")
    assert len(asked) >= 3 and all(asked)


def test_models_are_told_apart_by_weights_and_words(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    first = find_model(tmp_path, "", "", "").model
    (tmp_path / "README.md").write_text("about")
    assert find_model(tmp_path, "", "", "").model == first
    (tmp_path / "config.json").write_text('{"id2label": {}}')
    second = find_model(tmp_path, "", "", "").model
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert len({first, second, find_model(tmp_path, "", "", "").model}) == 3


def test_without_transformers_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for load in (
        lambda: load_teacher("universal", TeacherOptions(weights=tmp_path)),
        lambda: load_captioner("blip", tmp_path),
    ):
        with pytest.raises(SasError, match="needs transformers; install it with"):
            load()


# Captioners


def boxes(shape: tuple[int, int], *places: tuple[slice, slice]) -> list[LabelledMask]:
    masks = []
    for rows, columns in places:
        mask = np.zeros(shape, bool)
        mask[rows, columns] = True
        masks.append(LabelledMask(mask, "thing", 0.5))
    return masks


@pytest.mark.parametrize("name", ["blip", "florence-2"])
def test_captioners_are_loaded_and_used(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    save_captioner(tmp_path, name)
    captioner = load_captioner(name, tmp_path, device="cpu")
    assert captioner is not None
    images = [picture(), picture(30, 30, 1), picture(50, 20, 2)]
    masks = [
        boxes((40, 70), (slice(3, 20), slice(5, 40)), (slice(9, 10), slice(8, 9))),
        [],
        boxes((50, 20), (slice(0, 50), slice(0, 20))),
    ]
    texts = captioner.captions(images, masks)
    assert [len(one) for one in texts] == [2, 0, 1]
    assert all(isinstance(text, str) and "<" not in text for each in texts for text in each)
    assert any(text for each in texts for text in each)
    assert captioner.captions(images, masks) == texts
    assert captioner.description.model.startswith("sha256:")


@pytest.mark.parametrize("name", ["blip", "florence-2"])
def test_captioners_see_what_lies_around_a_mask(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tensors and the texts are those of the library's processor and search, crop by crop."""
    tf = pytest.importorskip("transformers")
    from PIL import Image

    save_captioner(tmp_path, name)
    captioner: Any = load_captioner(name, tmp_path, device="cpu")
    images = [picture(), picture(50, 20, 2)]
    masks = [
        boxes((40, 70), (slice(3, 20), slice(5, 40)), (slice(9, 10), slice(8, 9))),
        boxes((50, 20), (slice(30, 50), slice(10, 14))),
    ]
    # 15 % of each side's length more, as far as the image goes; slivers are enlarged to 32 pixels.
    cuts = [images[0][0:23, 0:45], images[0][9:10, 8:9], images[1][27:50, 9:15]]
    pictures = []
    for cut in cuts:
        one = Image.fromarray(cut)
        pictures.append(one.resize((max(32, one.width), max(32, one.height))))
    processor = tf.AutoProcessor.from_pretrained(tmp_path)
    kind = {
        "blip": "BlipForConditionalGeneration",
        "florence-2": "Florence2ForConditionalGeneration",
    }
    network = getattr(tf, kind[name]).from_pretrained(tmp_path).eval()
    prompt = {} if name == "blip" else {"text": ["<CAPTION>"]}
    halves = watch_half(monkeypatch, caption_models, captioner._network)
    seen: list[torch.Tensor] = []
    generate = captioner._network.generate

    def recorded(**given: Any) -> Any:
        seen.extend(given["pixel_values"])
        return generate(**given)

    captioner._network.generate = recorded
    texts = captioner.captions(images, masks)
    assert halves == ["cpu"]  # all in one pass
    wanted = []
    for number, one in enumerate(pictures):
        given = processor(images=[one], return_tensors="pt", **prompt)
        torch.testing.assert_close(seen[number], given["pixel_values"][0], rtol=0, atol=1e-6)
        made = network.generate(**given, num_beams=3, do_sample=False, max_new_tokens=30)
        wanted.append(processor.batch_decode(made, skip_special_tokens=True)[0].strip())
    assert texts == [wanted[:2], wanted[2:]]
    assert len(set(wanted)) == 3


@pytest.mark.parametrize("name", ["blip", "florence-2"])
def test_missing_captioners_are_named(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(SasError, match=rf"captioner {name} needs a model on this machine") as said:
        load_captioner(name)
    assert "give its folder as captioner weights, such as that of" in str(said.value)
    with pytest.raises(SasError, match="no folder of a model"):
        load_captioner(name, tmp_path / "none")


def test_nothing_heavy_is_imported_by_name(tmp_path: Path) -> None:
    """`sas teach --list` and the errors above must not wait for transformers."""
    import subprocess

    code = "import sys, sas_training.teachers, sas_training.alignment.captioners\n"
    code += "print([m for m in ('transformers', 'open_clip', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
