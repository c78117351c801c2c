"""The small 2D teachers: what they are taught, training, files, features and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sas_ros.errors import SasError
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.network import TRUNK, SmallNetwork, network_input
from sas_training.experiment.pictures import LabelledPictures, cells, halved
from sas_training.experiment.settings import TeacherSettings
from sas_training.experiment.sources import class_map, in_text_space, pixel_features
from sas_training.experiment.teachers import (
    SmallMaskTeacher,
    SmallPixelTeacher,
    TeacherFacts,
    load_small_teacher,
    save_teacher,
)
from sas_training.experiment.training import TeacherTraining, taught_labels
from sas_training.experiment.words import Words, make_words

from encoders import HashEncoder  # isort: skip

CHAIR, SOFA, BED, WALL = (SCANNET20.id_of(name) for name in ("chair", "sofa", "bed", "wall"))


def _pictures(count: int = 6, seed: int = 0) -> LabelledPictures:
    """Red chairs on the left and blue walls on the right."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, 32, 64, 3)).astype(np.uint8)
    images[:, :, :32, 0] += 150
    images[:, :, 32:, 2] += 150
    labels = np.full((count, 16, 32), WALL, np.uint8)
    labels[:, :, :16] = CHAIR
    objects = np.zeros((count, 16, 32), np.int64)
    objects[:, :, :16] = 1 + np.arange(count)[:, None, None]
    return LabelledPictures(images, labels, objects)


def _words(*names: str) -> Words:
    return make_words(HashEncoder(24), "a {} in a scene", names)


class _Plain(torch.nn.Module):
    """Gives each cell the colours of its upper left pixel, -1 ... 1."""

    kernel = torch.eye(3)

    def rows(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures[:, :, ::2, ::2].permute(0, 2, 3, 1) * 20


def _mask_teacher(*words: str) -> SmallMaskTeacher:
    facts = TeacherFacts("colours", "masks", words, "hash", 8, 1, 3)
    return SmallMaskTeacher(_Plain(), facts, "sha256:0")  # type: ignore[arg-type]


def test_frames_are_halved_and_cells_lie_in_their_middle() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2, :2] = [[[0], [40]], [[80], [120]]]
    assert halved(image)[0, 0].tolist() == [60, 60, 60]
    values = np.arange(64).reshape(8, 8)
    assert cells(values).tolist() == [[18, 22], [50, 54]]


def test_an_unknown_class_is_not_taught() -> None:
    taught = taught_labels(_pictures(), TeacherSettings(known=("bed", "wall")), 1)
    assert set(np.unique(taught)) == {-1, 1}
    assert (taught[:, :, :16] == -1).all()


def test_noise_renames_whole_objects_by_one_other_class() -> None:
    pictures = _pictures(400)
    settings = TeacherSettings(noisy=("chair", "sofa", "bed"), noise=0.4)
    taught = taught_labels(pictures, settings, 3)
    assert (taught[:, :, 16:] == WALL).all()  # no noisy class
    by_object = taught[:, :, :16].reshape(400, -1)
    assert (by_object == by_object[:, :1]).all()
    wrong = by_object[:, 0] != CHAIR
    assert 0.3 < wrong.mean() < 0.5
    assert len(np.unique(by_object[wrong, 0])) == 1
    assert by_object[wrong, 0][0] in (SOFA, BED)
    assert np.array_equal(taught, taught_labels(pictures, settings, 3))
    assert not np.array_equal(taught, taught_labels(pictures, settings, 4))


@pytest.mark.parametrize(("kind", "optimiser"), [("pixels", "adamw"), ("masks", "muon")])
def test_a_killed_training_ends_with_the_same_weights(
    tmp_path: Path, kind: str, optimiser: str
) -> None:
    settings = TeacherSettings(
        kind=kind, known=("chair", "wall"), steps=6, batch=2, width=4, optimiser=optimiser
    )
    texts = _words().of(settings.said)

    def training(name: str) -> TeacherTraining:
        return TeacherTraining(_pictures(), settings, texts, 5, tmp_path / name)

    through = training("through.pt")
    assert list(through.steps()) == [1, 2, 3, 4, 5, 6]
    first = training("killed.pt")
    for step in first.steps():
        if step == 3:
            first._save()
        if step == 4:  # killed here: step 4 is lost
            break
    again = training("killed.pt")
    assert again.step == 3
    assert list(again.steps()) == [4, 5, 6]
    for name, value in through.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    settings = TeacherSettings(known=("chair", "wall"), steps=1, batch=1, width=4)
    texts = _words().of(settings.said)
    list(TeacherTraining(_pictures(), settings, texts, 1, path).steps())
    with pytest.raises(SasError, match="other settings"):
        TeacherTraining(_pictures(), settings, texts, 2, path)
    path.write_bytes(b"cut off")
    with pytest.raises(SasError, match="cannot be read"):
        TeacherTraining(_pictures(), settings, texts, 1, path)
    with pytest.raises(SasError, match="No picture shows"):
        nothing = TeacherSettings(known=("bed", "sofa"), width=4)
        TeacherTraining(_pictures(), nothing, texts, 1, tmp_path / "none.pt")


def test_a_pixel_teacher_learns_and_is_kept(tmp_path: Path) -> None:
    words = _words()
    settings = TeacherSettings(
        known=("chair", "wall"), steps=60, batch=2, width=4, learning_rate=1e-2
    )
    run = TeacherTraining(_pictures(), settings, words.of(settings.said), 1, tmp_path / "run.pt")
    list(run.steps())
    path = tmp_path / "teacher.safetensors"
    facts = TeacherFacts("small", "pixels", settings.said, "hash", 4, 1, 24)
    save_teacher(path, run.network, facts)
    teacher = load_small_teacher(path)
    assert isinstance(teacher, SmallPixelTeacher)
    assert (teacher.channels, teacher.text_encoder, teacher.facts) == (24, "hash", facts)
    image = _pictures(1, seed=9).images[0][:31, :63]  # no whole cells
    dense = teacher.features([image])[0]
    assert dense.features.shape == (24, 16, 32)
    lengths = dense.features.float().norm(dim=0)
    assert torch.allclose(lengths, torch.ones(()), atol=2e-3)
    texts = torch.from_numpy(words.of(settings.said))
    best = (dense.features.float().permute(1, 2, 0) @ texts.T).argmax(dim=-1)
    assert (best[:, :14] == 0).float().mean() > 0.9
    assert (best[:, 18:] == 1).float().mean() > 0.9
    assert class_map(teacher, image, words).shape == (31, 63)


def test_a_damaged_teacher_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    with pytest.raises(SasError, match="There is no teacher"):
        load_small_teacher(path)
    network = SmallNetwork(4, 24)
    for outputs, words, message in ((23, (), "not those of its network"), (24, ("a",), "damaged")):
        kind = "masks" if words else "pixels"
        save_teacher(path, network, TeacherFacts("x", kind, words, "hash", 4, 1, outputs))
        with pytest.raises(SasError, match=message):
            load_small_teacher(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SasError, match="no readable teacher"):
        load_small_teacher(path)


def test_masks_are_connected_regions_with_words() -> None:
    image = np.zeros((24, 40, 3), np.uint8)
    image[..., 1] = 255  # the word "wall"
    image[4:16, 4:12, :] = [255, 0, 0]
    image[4:16, 20:32, :] = [255, 0, 0]
    image[20:22, 36:38, :] = [0, 0, 255]  # one cell: too small
    masks = _mask_teacher("chair", "wall", "bed").masks([image])[0]
    assert [one.label for one in masks] == ["chair", "chair", "wall"]
    assert [int(one.mask.sum()) for one in masks] == [12 * 8, 12 * 12, 24 * 40 - 12 * 20 - 4]
    assert all(one.mask.shape == (24, 40) and one.score > 0.99 for one in masks)


def test_words_are_painted_on_masks_and_silence_stays() -> None:
    words = _words("couch")
    teacher = in_text_space(_mask_teacher("couch", "wall", "bed"), words)
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, :8, 0] = image[:, 8:, 1] = 255
    image[0:2, 14:16] = [0, 0, 255]
    found = pixel_features(teacher, image)
    assert found.valid is not None
    wanted = torch.from_numpy(words.of(["couch"])).half()
    assert torch.equal(found.features[3, 3], wanted[0])
    assert not found.valid[0, 15]
    assert int(found.valid.sum()) == 256 - 4
    classes = class_map(teacher, image, words)
    assert (classes[0, 14:] == -1).all()
    assert (classes[2:, 8:] == WALL).all()
    nearest = (words.classes @ words.of(["couch"])[0]).argmax()
    assert (classes[:, :8] == nearest).all()


def test_what_is_doubtful_gets_no_mask() -> None:
    image = np.full((16, 16, 3), 128, np.uint8)
    teacher = _mask_teacher("chair", "wall", "bed")
    shares = torch.softmax(teacher._outputs(image), dim=-1)
    assert float(shares.max()) < 0.34
    assert len(teacher.masks([image])[0]) == 1
    four = TeacherFacts("four", "masks", ("chair", "wall", "bed", "desk"), "hash", 8, 1, 4)
    plain = _Plain()
    plain.kernel = torch.zeros(3, 4)
    assert SmallMaskTeacher(plain, four, "sha256:0").masks([image]) == [()]  # type: ignore[arg-type]


def test_blur_hides_detail_and_keeps_the_size() -> None:
    picture = torch.zeros(1, 6, 10, 3, dtype=torch.uint8)
    picture[0, ::2] = 255
    sharp, soft = network_input(picture, 1), network_input(picture, 2)
    assert sharp.shape == soft.shape == (1, 3, 6, 10)
    assert float(sharp.max()) == 1.0
    assert float(soft.abs().max()) < 1e-6
    assert SmallNetwork(4, 5).trunk(torch.zeros(1, 3, 32, 64)).shape == (1, TRUNK, 16, 32)


def test_words_have_vectors_or_a_sentence_says_not(tmp_path: Path) -> None:
    words = _words("couch")
    assert words.classes.shape == (20, 24)
    with pytest.raises(SasError, match="no text vector of 'a tree in a scene'"):
        words.of(["tree"])
    path = tmp_path / "words.npz"
    words.save(path)
    again = Words.load(path)
    assert (again.name, again.prompt, again.texts) == (words.name, words.prompt, words.texts)
    assert np.array_equal(again.vectors, words.vectors)
    path.write_bytes(b"nothing")
    with pytest.raises(SasError, match="no text vectors"):
        Words.load(path)
