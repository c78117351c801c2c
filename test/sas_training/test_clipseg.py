"""CLIPSeg as a teacher: a small random model, loaded as the real ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import save_clipseg, watch_half

from sas_ros.errors import SasError
from sas_training.teachers import TeacherOptions, clipseg, load_teacher
from sas_training.teachers.clipseg import ClipSegTeacher

WORDS = ("chair", "table", "red image", "wooden")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clipseg")
    save_clipseg(folder)
    return folder


def teacher_of(model: Path, **settings: str) -> ClipSegTeacher:
    options = TeacherOptions(weights=model, labels=WORDS, device="cpu", settings=settings)
    found = load_teacher("clipseg", options)
    assert isinstance(found, ClipSegTeacher)
    return found


def picture(height: int = 40, width: int = 70, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_the_library(model: Path, image: np.ndarray[Any, Any], prompt: str) -> torch.Tensor:
    """(K, S, S): the library's own forward, of one image and one phrase at a time."""
    import transformers as tf

    network = tf.CLIPSegForImageSegmentation.from_pretrained(model).eval()
    tokens = tf.AutoTokenizer.from_pretrained(model)
    pixels = tf.AutoImageProcessor.from_pretrained(model)(images=image, return_tensors="pt")
    with torch.inference_mode():
        return torch.stack(
            [
                network(
                    pixel_values=pixels["pixel_values"],
                    **{
                        key: value
                        for key, value in tokens(prompt.format(word), return_tensors="pt").items()
                        if key in ("input_ids", "attention_mask")
                    },
                ).logits.reshape(32, 32)
                for word in WORDS
            ]
        )


def test_words_together_equal_the_library_one_by_one(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipseg, "_TOGETHER", 3)
    image = picture()
    wanted = by_the_library(model, image, "a photo of a {}")
    assert float((wanted[0] - wanted[1]).abs().max()) > 1e-3  # phrases differ
    torch.testing.assert_close(
        next(teacher_of(model).logits([image])), wanted, rtol=1e-4, atol=1e-4
    )


def test_images_share_a_pass_and_are_read_as_alone(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = teacher_of(model)
    seen = watch_half(monkeypatch, clipseg, teacher._network)
    images = [picture(), picture(20, 30, 1), picture(64, 48, 2)]
    together = list(teacher.logits(images))
    assert seen == ["cpu"]  # one pass, in half precision where there is a GPU
    for number, image in enumerate(images):
        wanted = by_the_library(model, image, "a photo of a {}")
        torch.testing.assert_close(together[number], wanted, rtol=1e-4, atol=1e-4)
    assert float((together[0] - together[1]).abs().max()) > 1e-3  # images differ
    seen.clear()
    assert len(teacher.masks(images)) == 3 and seen == ["cpu"]


def test_each_pixel_has_its_likeliest_word_or_none(model: Path) -> None:
    image = picture()
    logits = by_the_library(model, image, "the {}").double()
    wide = torch.nn.functional.interpolate(
        torch.sigmoid(logits)[None], size=(40, 70), mode="bilinear", align_corners=False
    )[0]
    best, word = wide.max(dim=0)
    threshold = float(best.median())
    masks = teacher_of(model, threshold=str(threshold), prompt="the {}").masks([image])[0]
    said = np.full((40, 70), -1)
    for one in masks:
        assert (said[one.mask] == -1).all()
        said[one.mask] = WORDS.index(one.label)
        assert one.score == pytest.approx(float(best.numpy()[one.mask].mean()), abs=1e-5)
    wanted = np.where(best.numpy() >= threshold, word.numpy(), -1)
    near = (best - threshold).abs().numpy() < 1e-5
    assert (said == wanted)[~near].all() and 0.3 < (said >= 0).mean() < 0.7
    labels = [one.label for one in masks]
    assert labels == sorted(labels, key=WORDS.index)


def test_images_of_several_sizes(model: Path) -> None:
    teacher = teacher_of(model, threshold="0")
    images = [picture(), picture(20, 30, 1)]
    found = teacher.masks(images)
    for image, masks in zip(images, found, strict=True):
        assert (
            np.sum([one.mask for one in masks], axis=0).tolist()
            == np.ones(image.shape[:2]).astype(int).tolist()
        )
    assert teacher.masks([]) == []
    assert teacher_of(model, threshold="1").masks(images) == [(), ()]
    about = teacher.description
    assert about.model.startswith("sha256:") and about.settings["words"] == list(WORDS)


def test_what_is_missing_is_told(model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text((model / "config.json").read_text())
    (broken / "model.safetensors").write_bytes(b"cut off")
    for options, sentence in (
        (TeacherOptions(weights=model), "give them with --words"),
        (TeacherOptions(labels=WORDS), "as weights, or its id as model, such as"),
        (TeacherOptions(weights=tmp_path / "none", labels=WORDS), "no folder of a model at"),
        (TeacherOptions(weights=tmp_path, labels=WORDS), "of the kind 'bert', not clipseg"),
        (TeacherOptions(weights=broken, labels=WORDS), "cannot be loaded"),
        (TeacherOptions(weights=model, labels=WORDS, settings={"threshold": "2"}), "between 0"),
        (TeacherOptions(weights=model, labels=WORDS, settings={"prompt": "chair"}), "{}"),
    ):
        with pytest.raises(SasError, match=sentence):
            load_teacher("clipseg", options)


def test_no_code_of_its_folder_is_run(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers as tf

    asked: list[bool] = []

    class Recorded:
        def __getattr__(self, part: str) -> Any:
            class Loader:
                @staticmethod
                def from_pretrained(folder: Path, **settings: Any) -> Any:
                    asked.append(settings == clipseg.LOCAL)
                    return getattr(tf, part).from_pretrained(folder, **settings)

            return Loader

    monkeypatch.setattr(clipseg, "transformers_library", lambda _: Recorded())
    teacher_of(model)
    assert len(asked) == 4 and all(asked) and clipseg.LOCAL["trust_remote_code"] is False
