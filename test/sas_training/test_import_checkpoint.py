"""`sas import-checkpoint`: from a training checkpoint to labels on a cloud."""

from __future__ import annotations

import importlib.util
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from encoders import HashEncoder
from safetensors.torch import save_file

from sas_ros.errors import SasError
from sas_ros.language.available import encoder_available
from sas_ros.language.encoder import load_encoder
from sas_ros.scans import read_scan, write_ply
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig
from sas_ros.student.published import PROMPT, TEXT_ENCODERS, save_weights_command
from sas_training.cli import main
from sas_training.evaluation.labels import MATTERPORT21, NUSCENES16, NUSCENES43, SCANNET20
from sas_training.vocabularies import WORD_SETS, read_embeddings, read_words, words_of_set

MINILM = "minilm-l6-v2"
TO_BUNDLE = ["{checkpoint}", "-o", "{tmp}/a.safetensors"]


def write_checkpoint(path: Path, width: int, **extra: Any) -> Path:
    """A small network of the family in the form of a training checkpoint."""
    torch.manual_seed(1)
    network = MinkUNet(MinkUNetConfig(3, width, 8, (8,) * 8, (1,) * 8))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = OrderedDict((f"module.net3d.{k}", v) for k, v in network.state_dict().items())
    content = {"state_dict": state, "optimizer": optimizer.state_dict(), **extra}
    torch.save(content, path)
    return path


def write_embeddings(path: Path, names: tuple[str, ...], width: int) -> Path:
    np.savez(path, names=np.array(names), embeddings=3 * HashEncoder(width).encode(names))
    return path


@pytest.fixture(scope="module")
def indoor(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint of 512 features and embeddings of the ScanNet words."""
    folder = tmp_path_factory.mktemp("indoor")
    checkpoint = write_checkpoint(
        folder / "model_best.pth.tar", 512, epoch=42, best_iou=np.float64(0.5)
    )
    return checkpoint, write_embeddings(folder / "words.npz", SCANNET20.names, 512)


@pytest.fixture
def room(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    floor = np.c_[rng.uniform(0, 1, (3000, 2)), np.zeros(3000)]
    wall = np.c_[rng.uniform(0, 1, 3000), np.zeros(3000), rng.uniform(0, 1, 3000)]
    write_ply(tmp_path / "room.ply", np.concatenate([floor, wall]).astype(np.float32))
    return tmp_path / "room.ply"


# ---------------------------------------------------------------- the whole way
def test_from_a_checkpoint_to_labels_and_answers(
    indoor: tuple[Path, Path], room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, embeddings = indoor
    output = tmp_path / "published.safetensors"
    command = ["import-checkpoint", str(checkpoint), "-o", str(output), "--json"]
    command += ["--labels", "scannet20", "--embeddings", str(embeddings)]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["epoch"] == 42 and report["best_iou"] == 0.5
    assert report["text_encoder"] == TEXT_ENCODERS[512] and report["voxel_size"] == 0.02
    assert report["labels"] == list(SCANNET20.names) and report["out_channels"] == 512

    bundle = StudentBundle.load(output)
    assert bundle.name == "published" and bundle.inputs == ("one", "one", "one")
    assert bundle.provenance["source_sha256"] == report["sha256"]
    assert "non-commercial" in bundle.provenance["licence"]
    assert bundle.calibration.temperature == 100
    np.testing.assert_allclose(
        bundle.vocabulary.embeddings, HashEncoder(512).encode(SCANNET20.names), atol=1e-6
    )

    labelled = tmp_path / "labelled.ply"
    segment = ["segment", str(room), "--student", str(output), "--up", "0,0,1", "--json"]
    assert main([*segment, "--query", "chair", "Shower  curtain", "-o", str(labelled)]) == 0
    answered = json.loads(capsys.readouterr().out)
    assert sum(answered["labels"].values()) == 6000
    assert answered["labels"].keys() <= set(SCANNET20.names)
    assert [q["status"] in ("OK", "NOT_FOUND") for q in answered["queries"]] == [True, True]
    labels = read_scan(labelled).labels
    assert labels is not None and labels.max() < 20

    assert main([*segment, "--query", "elephant"]) == 2
    error = capsys.readouterr().err
    assert "'elephant' is not in the student's vocabulary" in error
    assert "open_clip" in error and "\n" not in error.strip()


def test_it_prints_what_it_recognised(
    indoor: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(indoor[0], weights_only=False)
    content["state_dict"]["module.clip.positional"] = torch.zeros(4)
    torch.save(content, tmp_path / "a.pth")
    output = tmp_path / "new" / "a.safetensors"
    command = ["import-checkpoint", str(tmp_path / "a.pth"), "-o", str(output)]
    assert main([*command, "--embeddings", str(indoor[1]), "--name", "mine"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "MinkUNet of stem 8",
        "512 numbers",
        TEXT_ENCODERS[512],
        "words.npz: wall, floor",
        "epoch 42, best_iou 0.5",
        "1 tensors outside the 3D network (clip 1)",
        "voxels of 0.02 m",
        "nothing was calibrated",
        "non-commercial",
        f"wrote {output}",
    ):
        assert words in printed
    bundle = StudentBundle.load(output)
    assert bundle.name == "mine" and bundle.vocabulary.names == SCANNET20.names
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_streets_by_width_and_rooms_by_label_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = write_checkpoint(tmp_path / "outdoor.pth", 768)
    for labels, names, size in (
        (("--labels", "nuscenes16"), NUSCENES16.names, 0.05),
        (("--labels", "nuscenes43"), NUSCENES43.names, 0.05),
        (("--labels", "matterport21"), MATTERPORT21.names, 0.02),
        (("--labels", "matterport21", "--voxel-size", "0.1"), MATTERPORT21.names, 0.1),
    ):
        embeddings = write_embeddings(tmp_path / "words.npz", names, 768)
        output = tmp_path / "out.safetensors"
        command = ["import-checkpoint", str(checkpoint), "-o", str(output), "--json", "--force"]
        assert main([*command, *labels, "--embeddings", str(embeddings)]) == 0
        assert json.loads(capsys.readouterr().out)["text_encoder"] == TEXT_ENCODERS[768]
        bundle = StudentBundle.load(output)
        assert bundle.vocabulary.names == names and bundle.voxel_size == size
    assert main(["import-checkpoint", str(checkpoint), "-o", str(tmp_path / "b.safetensors")]) == 2
    error = capsys.readouterr().err
    assert "16 labels" in error and "create_model('ViT-L-14-336-quickgelu'" in error


@pytest.mark.slow
def test_the_encoder_embeds_the_labels_where_it_is_there(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if encoder_available(MINILM) is not None:
        pytest.skip("the MiniLM encoder is not installed")
    checkpoint = write_checkpoint(tmp_path / "a.pth", 384)
    output, words = tmp_path / "a.safetensors", tmp_path / "words.txt"
    words.write_text("wall\n# a comment\n\nshelf  # for books\nrest = other\n", encoding="utf-8")
    command = ["import-checkpoint", str(checkpoint), "-o", str(output), "--labels", str(words)]
    assert main([*command, "--text-encoder", MINILM, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == ["wall", "shelf", "rest"]
    bundle = StudentBundle.load(output)
    texts = ["a wall in a scene", "a shelf in a scene", "other"]
    expected = load_encoder(MINILM).encode(texts)
    np.testing.assert_allclose(bundle.vocabulary.embeddings, expected, atol=1e-5)
    segment = ["segment", str(room), "--student", str(output), "--up", "0,0,1", "--json"]
    assert main([*segment, "--query", "something else"]) == 0


def test_a_clip_checkpoint_embeds_the_labels(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not installed")
    open_clip = pytest.importorskip("open_clip", exc_type=(ImportError, RuntimeError))
    tower = {"layers": 1, "width": 32}
    config = {
        "embed_dim": 16,
        "vision_cfg": {**tower, "image_size": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": {**tower, "context_length": 77, "vocab_size": 49408, "heads": 2},
    }
    (tmp_path / "sas-import.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "sas-import.json")
    model = open_clip.create_model("sas-import").eval()
    weights = tmp_path / "clip.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)

    checkpoint = write_checkpoint(tmp_path / "a.pth", 16)
    output = tmp_path / "a.safetensors"
    command = ["import-checkpoint", str(checkpoint), "-o", str(output), "--labels", "scannet20"]
    command += ["--text-encoder", "open_clip:sas-import", "--text-weights", str(weights)]
    assert main(command) == 0
    segment = ["segment", str(room), "--student", str(output), "--up", "0,0,1"]
    assert main([*segment, "--query", "zebra", "--text-weights", str(weights)]) == 0
    capsys.readouterr()
    assert main([*segment, "--query", "zebra"]) == 2
    assert "--text-weights" in capsys.readouterr().err


# ---------------------------------------------------------------- sentences
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (TO_BUNDLE, "labels must be embedded once"),
        (TO_BUNDLE, "ViT-B-32-quickgelu"),
        (["{checkpoint}", "-o", "{tmp}/a.pth"], "is a .safetensors file"),
        (["{tmp}/absent.pth", "-o", "{tmp}/a.safetensors"], "no checkpoint at"),
        (["{checkpoint}", "-o", "{taken}"], "--force"),
        (["{taken}", "-o", "{taken}", "--force"], "checkpoint itself"),
        ([*TO_BUNDLE, "--labels", "cityscapes"], "nuscenes16"),
        ([*TO_BUNDLE, "--labels", "{empty}"], "holds no word"),
        ([*TO_BUNDLE, "--labels", "{checkpoint}"], "UTF-8"),
        ([*TO_BUNDLE, "--embeddings", "{empty}"], "no embeddings"),
        (
            [*TO_BUNDLE, "--embeddings", "{tmp}/none.npz"],
            "no embeddings at",
        ),
        (
            [*TO_BUNDLE, "--embeddings", "{narrow}"],
            "different text encoders",
        ),
        (
            [*TO_BUNDLE, "--labels", "matterport21", "--embeddings", "{embeddings}"],
            "lack other, ceiling of the labels matterport21",
        ),
        (
            [*TO_BUNDLE, "--embeddings", "{embeddings}", "--voxel-size", "50"],
            "voxel size",
        ),
    ],
)
def test_errors_are_one_sentence_and_leave_no_file(
    arguments: list[str],
    words: str,
    indoor: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint, embeddings = indoor
    taken, empty = tmp_path / "taken.safetensors", tmp_path / "empty.txt"
    taken.write_bytes(b"precious")
    empty.write_text("# nothing\n", encoding="utf-8")
    narrow = write_embeddings(tmp_path / "narrow.npz", SCANNET20.names, 8)
    known = {"checkpoint": checkpoint, "embeddings": embeddings, "narrow": narrow}
    filled = [a.format(tmp=tmp_path, taken=taken, empty=empty, **known) for a in arguments]
    assert main(["import-checkpoint", *filled]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sas import-checkpoint: ") and words in error
    assert "Traceback" not in error and error.count("\n") == 1
    assert taken.read_bytes() == b"precious" and not (tmp_path / "a.safetensors").exists()


def test_the_node_labels_without_the_encoder_and_says_why(
    indoor: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rclpy")
    pytest.importorskip("sas_msgs.srv")
    from sas_ros.nodes.model import load_model
    from sas_ros.nodes.parameters import PerceptionParameters

    output = tmp_path / "a.safetensors"
    command = ["import-checkpoint", str(indoor[0]), "-o", str(output), "--embeddings"]
    assert main([*command, str(indoor[1])]) == 0
    told: list[str] = []
    parameters = PerceptionParameters.from_values({"student": str(output), "threads": 1})
    model = load_model(parameters, last_version=0, tell=told.append)
    assert "Known words only" in told[0] and "open_clip" in told[0]
    assert model.text.refusal(["Sofa", "shower curtain"]) is None
    assert "open_clip" in (model.text.refusal(["zebra"]) or "")
    named = PerceptionParameters.from_values(
        {"student": str(output), "text_weights": str(tmp_path / "absent.safetensors")}
    )
    with pytest.raises(SasError, match="open_clip"):
        load_model(named, last_version=0, tell=told.append)


# ---------------------------------------------------------------- words
def test_prompts_of_the_label_sets() -> None:
    scannet, matterport = words_of_set(SCANNET20), words_of_set(MATTERPORT21)
    assert scannet.texts[4] == ("a chair in a scene",)
    assert scannet.names[19] == "otherfurniture" and scannet.texts[19] == ("other",)
    assert matterport.names[19:] == ("other", "ceiling")
    assert matterport.texts[19:] == (("other",), ("a ceiling in a scene",))
    for labels in WORD_SETS.values():
        assert len(labels.names) == len(labels.prompts) == len(labels.colors) == len(labels)
        assert len(set(labels.names)) == len(labels)
        texts = [text for group in labels.prompts for text in group]
        assert all(t == "other" or (t[:2] == "a " and t.endswith(" in a scene")) for t in texts)
    assert len(NUSCENES43) == 43 == sum(len(group) for group in NUSCENES16.prompts)
    words = words_of_set(NUSCENES16).vocabulary(HashEncoder(8).encode(NUSCENES16.names))
    assert words.things[words.names.index("car")] and not words.things[words.index("terrain") or 0]


def test_a_class_of_several_names_lies_between_them() -> None:
    encoder = HashEncoder(32)
    rows = words_of_set(NUSCENES16).embedded(encoder)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    pair = encoder.encode(["a person in a scene", "a pedestrian in a scene"])
    cosines = pair @ rows[NUSCENES16.id_of("person")]
    assert cosines[0] == pytest.approx(cosines[1], abs=1e-6) and cosines[0] > 0.5
    car = encoder.encode(["a car in a scene"])[0]
    np.testing.assert_allclose(rows[NUSCENES16.id_of("car")], car, atol=1e-6)


def test_word_files(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("big  chair\n= nothing\n", encoding="utf-8")
    words = read_words(str(path), PROMPT)
    assert words.texts[0] == ("a big chair in a scene",)
    with pytest.raises(SasError, match="empty"):
        words.vocabulary(np.eye(2, dtype=np.float32))


def test_embeddings_from_safetensors(tmp_path: Path) -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float16)
    path = tmp_path / "words.safetensors"
    save_file({"embeddings": rows}, path, {"names": json.dumps(["a", "b"])})
    names, unit = read_embeddings(path)
    assert names == ("a", "b") and unit.dtype == np.float32
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 1]], atol=1e-6)


def test_embeddings_with_damaged_bytes_are_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, names=np.array(["a"] * 500), embeddings=np.eye(500, 3))
    data = bytearray(path.read_bytes())
    start = data.index(b"names.npy") + 40
    data[start : start + 20] = b"\xff" * 20
    path.write_bytes(data)
    with pytest.raises(SasError, match="no embeddings file"):
        read_embeddings(path)


def array(*rows: list[float]) -> npt.NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"names": np.array(["a"])}, "no embeddings file"),
        ({"names": np.array(["a"]), "embeddings": array([1, 0], [0, 1])}, "names 1 words"),
        ({"names": np.array([1]), "embeddings": array([1, 0])}, "must be .K,. text"),
        ({"names": np.array(["a"]), "embeddings": array([0, 0])}, "zero or not finite"),
        ({"names": np.array(["a"]), "embeddings": array([np.nan, 0])}, "zero or not finite"),
        ({"names": np.array(["a"]), "embeddings": np.array([[1, 0]])}, "real numbers"),
    ],
)
def test_wrong_embeddings_are_sentences(
    arrays: dict[str, npt.NDArray[Any]], words: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(SasError, match=words):
        read_embeddings(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("metadata", "words"), [({}, "JSON list"), ({"names": "{"}, "no embeddings file")]
)
def test_wrong_safetensors_embeddings(metadata: dict[str, str], words: str, tmp_path: Path) -> None:
    save_file({"embeddings": torch.eye(2)}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(SasError, match=words):
        read_embeddings(tmp_path / "a.safetensors")


def test_the_command_that_saves_weights_is_python() -> None:
    for encoder in TEXT_ENCODERS.values():
        command = save_weights_command(encoder)
        assert command is not None
        compile(command.split('"')[1], "command", "exec")
    assert save_weights_command(MINILM) is None
