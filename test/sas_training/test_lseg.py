"""LSeg: the keys of its checkpoint, golden values, loading, and how images are looked at."""

from __future__ import annotations

import math
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lseg_keys import lseg_tensors, used_for_features
from safetensors.torch import save_file
from tiny_models import watch_half

from sas_ros.errors import SasError
from sas_training.teachers import TeacherOptions, load_teacher
from sas_training.teachers.lseg import LsegNetwork, LsegSettings, LsegShape, LsegTeacher
from sas_training.teachers.lseg import teacher as lseg_teacher
from sas_training.teachers.lseg.checkpoint import load_network

SMALL = LsegShape(
    width=64, depth=4, heads=1, mlp=96, grid=4, taps=(0, 1, 2, 3),
    reassembled=(8, 12, 16, 16), channels=8, out=12,
)  # fmt: skip


def numbers(place: int, count: int, start: int = 0) -> np.ndarray[Any, Any]:
    """The golden fill: elements of tensor `place`, -1 ... 1 float64 (see the reference's rule)."""
    j = np.arange(start, start + count, dtype=np.uint32)
    h = np.uint32(2654435761) * j + np.uint32((40503 * place + 12345) % 2**32)
    h ^= h >> np.uint32(15)
    h *= np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    return h / 2.0**31 - 1


def filled(name: str, shape: tuple[int, ...], place: int) -> torch.Tensor:
    """A tensor of the golden fill with the scale of its kind, float32."""
    count = math.prod(shape)
    last = name.split(".")[-1]
    offset = 0.0
    if last == "running_var":
        offset, scale = 1.0, 0.5
    elif last in ("running_mean", "bias", "in_proj_bias"):
        scale = 0.1
    elif len(shape) == 1:
        offset, scale = 1.0, 0.1
    elif last in ("weight", "in_proj_weight") and "token_embedding" not in name:
        scale = math.sqrt(3 * shape[0] / count)
    else:
        scale = 0.5
    result = np.empty(count, np.float32)
    for start in range(0, count, 1 << 18):
        part = numbers(place, min(1 << 18, count - start), start)
        result[start : start + len(part)] = offset + scale * part
    return torch.from_numpy(result).reshape(shape)


def small_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights of the small network under the checkpoint's names, with parts not read."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, tensor in LsegNetwork(SMALL).state_dict().items():
        if tensor.is_floating_point():
            tensor = torch.randn(tensor.shape, generator=generator) * 0.2
            tensor = tensor.abs() + 0.5 if name.endswith("running_var") else tensor
        weights[f"net.{name}"] = tensor
    weights["net.clip_pretrained.logit_scale"] = torch.zeros(())
    weights["net.pretrained.model.norm.weight"] = torch.ones(64)
    weights["net.scratch.refinenet4.resConfUnit1.conv1.weight"] = torch.zeros(8, 8, 3, 3)
    return weights


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_file(small_weights(), path)
    return path


def picture(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# The published network


def test_names_and_shapes_are_those_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        state = LsegNetwork().state_dict()
    have = {f"net.{name}": tuple(t.shape) for name, t in state.items() if "num_batches" not in name}
    every = dict(lseg_tensors())
    assert have == {name: shape for name, shape in every.items() if used_for_features(name)}
    assert (len(every), len(have)) == (730, 398)
    assert sum(math.prod(shape) for shape in have.values()) == 341_658_624
    assert sum(math.prod(shape) for shape in every.values()) == 495_144_697


def test_the_fill_of_the_golden_values_is_right() -> None:
    assert numbers(0, 1)[0] == pytest.approx(-0.941700006, abs=1e-9)
    assert numbers(5, 8)[7] == pytest.approx(0.263633449, abs=1e-9)


@pytest.mark.slow
def test_golden_values_of_the_whole_network() -> None:
    """Outputs of the upstream network under a fixed fill (reference)."""
    with torch.device("meta"):
        network = LsegNetwork()
    state = {
        name.removeprefix("net."): filled(name, shape, place)
        for place, (name, shape) in enumerate(lseg_tensors())
        if used_for_features(name)
    }
    for name in network.state_dict():
        state.setdefault(name, torch.zeros((), dtype=torch.int64))
    network.load_state_dict(state, assign=True)
    network.eval()
    wanted = {
        (64, 96, 0, 0): [-0.006654, 0.013619, 0.056567, -0.048031, 0.008360, -0.051929],
        (64, 96, 15, 20): [-0.016265, -0.018149, 0.058868, -0.044241, 0.010989, -0.061137],
        (64, 96, 31, 47): [0.050552, 0.025334, -0.015484, -0.008662, 0.016421, -0.056160],
        # The size it was trained at: positions are not interpolated.
        (384, 384, 0, 0): [-0.013434, -0.014049, 0.047729, -0.085024, 0.011265, -0.076025],
        (384, 384, 100, 50): [-0.031818, -0.019347, 0.033395, -0.086600, -0.016939, -0.008287],
    }
    found = {}
    for height, width in ((64, 96), (384, 384)):
        image = torch.from_numpy(numbers(10000, 3 * height * width).astype(np.float32))
        with torch.inference_mode():
            found[height, width] = network(image.reshape(1, 3, height, width))[0]
        assert found[height, width].shape == (512, height // 2, width // 2)
    for (height, width, row, column), values in wanted.items():
        np.testing.assert_allclose(found[height, width][:6, row, column], values, atol=5e-6)


@pytest.mark.slow
def test_golden_values_of_the_text_side() -> None:
    """CLIP's text tower under the same fill (reference), by open_clip as our encoder runs it."""
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    open_clip: Any = pytest.importorskip("open_clip", exc_type=(ImportError, RuntimeError))
    network = open_clip.create_model(lseg_teacher.TEXT_ENCODER.removeprefix("open_clip:")).eval()
    del network.visual  # the checkpoint has it, and nothing reads it
    prefix = "net.clip_pretrained."
    state = {
        name.removeprefix(prefix): filled(name, shape, place)
        for place, (name, shape) in enumerate(lseg_tensors())
        if name.startswith(prefix) and not name.startswith(f"{prefix}visual.")
    }
    assert len(state) == 150  # the 149 of text, and a scale that is not used
    network.load_state_dict(state)
    tokens = torch.zeros((2, 77), dtype=torch.int64)
    tokens[0, :3] = torch.tensor([49406, 2569, 49407])
    tokens[1, :4] = torch.tensor([49406, 320, 1929, 49407])
    with torch.inference_mode():
        found = network.encode_text(tokens, normalize=True)
    wanted = [
        [0.022193, -0.035403, -0.041506, -0.026949, -0.003776, 0.030587],
        [0.029868, 0.023223, -0.059245, -0.024237, 0.022532, 0.012723],
    ]
    np.testing.assert_allclose(found[:, :6], wanted, atol=5e-6)
    assert float(found[0] @ found[1]) == pytest.approx(0.859676, abs=5e-6)


# Loading


def test_weights_are_loaded_from_both_kinds_of_file(tmp_path: Path, checkpoint: Path) -> None:
    lightning = tmp_path / "small.ckpt"
    save_like_lightning(lightning, small_weights())
    first, second = load_network(checkpoint), load_network(lightning)
    assert first.shape == second.shape == SMALL
    for (name, one), other in zip(
        first.state_dict().items(), second.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
        if one.is_floating_point() and ".refinenet4.resConfUnit1" not in name:
            assert torch.equal(one, small_weights()[f"net.{name}"])
    assert not first.training


def save_like_lightning(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """As an old Lightning did: with a callback class for a key, and the optimiser's state."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    callback = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = callback  # type: ignore[attr-defined]
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", module.__name__]
    for name in names:
        sys.modules[name] = module if name == names[-1] else types.ModuleType(name)
    try:
        content = {
            "epoch": 200,
            "pytorch-lightning_version": "1.3.5",
            "callbacks": {callback: {"best_model_score": torch.tensor(0.3)}},
            "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(3)}}}],
            "state_dict": weights,
        }
        torch.save(content, path)
    finally:
        for name in names:
            del sys.modules[name]


def test_half_precision_weights_are_taken(tmp_path: Path) -> None:
    weights = {k: v.half() if v.is_floating_point() else v for k, v in small_weights().items()}
    save_file(weights, tmp_path / "half.safetensors")
    network = load_network(tmp_path / "half.safetensors")
    assert network.scratch["head1"].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"net.scratch.head1.bias": None}, "lacks 1 of the tensors.*scratch.head1.bias"),
        ({"net.scratch.head1.weight": None}, "no LSeg with a vision transformer"),
        ({"net.pretrained.layer1.0.weight": torch.zeros(2)}, "an LSeg with a ResNet"),
        (
            {"net.scratch.head_block.depthwise.depthwise.weight": torch.zeros(1, 1, 3, 3)},
            "another version of LSeg",
        ),
        ({"net.scratch.layer1_rn.weight": torch.zeros(8, 9, 3, 3)}, r"wanted is .*\(8, 8, 3, 3\)"),
        (
            {"net.scratch.layer1_rn.weight": torch.zeros(8, 8, 3, 3, dtype=torch.int8)},
            "wanted is floating",
        ),
        ({"net.pretrained.model.pos_embed": torch.zeros(1, 16, 64)}, "not made of"),
    ],
)
def test_other_networks_are_refused(
    tmp_path: Path, change: dict[str, torch.Tensor | None], sentence: str
) -> None:
    weights = {**small_weights(), **change}
    save_file({k: v for k, v in weights.items() if v is not None}, tmp_path / "a.safetensors")
    with pytest.raises(SasError, match=sentence):
        load_network(tmp_path / "a.safetensors")


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SasError, match=r"give its path as weights"):
        load_teacher("lseg", TeacherOptions())
    with pytest.raises(SasError, match=r"no LSeg weights at .*none\.ckpt.*demo_e200\.ckpt"):
        load_teacher("lseg", TeacherOptions(weights=tmp_path / "none.ckpt"))
    (tmp_path / "a.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(SasError, match="nothing of it was run"):
        load_network(tmp_path / "a.ckpt")
    torch.save({"state_dict": {"epoch": 3}}, tmp_path / "b.ckpt")
    with pytest.raises(SasError, match="holds no tensors"):
        load_network(tmp_path / "b.ckpt")
    torch.save([1, 2], tmp_path / "c.ckpt")
    with pytest.raises(SasError, match="no state_dict"):
        load_network(tmp_path / "c.ckpt")


def test_nothing_of_a_checkpoint_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps({"state_dict": Evil()}))
    torch.save({"state_dict": Evil()}, tmp_path / "evil2.ckpt")
    for name in ("evil.ckpt", "evil2.ckpt"):
        with pytest.raises(SasError, match="nothing of it was run"):
            load_network(tmp_path / name)
    assert not (tmp_path / "ran").exists()


# How images are looked at


class Looker(LsegNetwork):
    """Instead of features: the mean colours of what it is shown, at half the resolution."""

    def __init__(self) -> None:
        super().__init__(SMALL)
        self.shown: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown += list(images)
        return torch.nn.functional.avg_pool2d(images, 2)


def test_the_image_is_doubled_and_features_have_its_resolution() -> None:
    network, image = Looker(), picture(24, 32)
    (found,) = LsegTeacher(network, "none", LsegSettings(flip=False)).features([image])
    (shown,) = network.shown
    assert shown.shape == (3, 64, 64)
    assert (found.features.shape, found.rows_per_pixel, found.columns_per_pixel) == (
        (3, 24, 32),
        1.0,
        1.0,
    )
    # Corners are aligned: those of the image stay what they are.
    wanted = torch.from_numpy(image).permute(2, 0, 1) / 255.0 * 2 - 1
    for row, column in ((0, 0), (0, -1)):
        torch.testing.assert_close(shown[:, row, column], wanted[:, row, column])
    torch.testing.assert_close(shown[:, 47, 63], wanted[:, 23, 31])
    assert bool((shown[:, 48:] == -1).all())  # black below
    # In between: pixel 1 of 64 lies at 31 / 63 of the way from pixel 0 to pixel 1 of 32.
    between = wanted[:, 0, 0] * (1 - 31 / 63) + wanted[:, 0, 1] * (31 / 63)
    torch.testing.assert_close(shown[:, 0, 1], between)


@pytest.mark.parametrize(
    ("size", "shape", "side", "cells", "scale"),
    [
        (0, (240, 320), 640, (240, 320), 1.0),  # ScanNet
        (0, (10, 33), 96, (10, 33), 1.0),  # 66 pixels in a square of 96
        (32, (24, 32), 32, (12, 16), 0.5),
        (96, (24, 32), 96, (36, 48), 1.5),
        (48, (48, 16), 64, (24, 8), 0.5),
    ],
)
def test_sizes(
    size: int, shape: tuple[int, int], side: int, cells: tuple[int, int], scale: float
) -> None:
    network = Looker()
    teacher = LsegTeacher(network, "none", LsegSettings(size, flip=False))
    (found,) = teacher.features([picture(*shape)])
    assert network.shown[0].shape == (3, side, side)
    assert tuple(found.features.shape[1:]) == cells
    assert found.rows_per_pixel == pytest.approx(scale)
    assert found.at_pixels(*shape).features.shape == (*shape, 3)


def test_the_mirrored_pass_is_mirrored_back_and_added() -> None:
    network, image = Looker(), picture()
    (once,) = LsegTeacher(network, "none", LsegSettings(flip=False)).features([image])
    (twice,) = LsegTeacher(network, "none", LsegSettings(flip=True)).features([image])
    assert torch.equal(network.shown[2], network.shown[1].flip(2))
    torch.testing.assert_close(twice.features, once.features * 2)


def test_a_small_network_end_to_end(checkpoint: Path) -> None:
    teacher: Any = load_teacher("lseg", TeacherOptions(weights=checkpoint))
    images = [picture(24, 32), picture(40, 24, 1), picture(24, 32, 2)]
    together = teacher.features(images)
    for image, found in zip(images, together, strict=True):
        assert found.features.shape == (12, *image.shape[:2])
        lengths = found.features.float().norm(dim=0)
        assert bool((lengths <= 2.01).all()) and float(lengths.max()) > 0.5
        assert torch.equal(teacher.features([image])[0].features, found.features)
        assert found.at_pixels(*image.shape[:2]).features.is_contiguous()
    assert not torch.equal(together[0].features, together[2].features)
    assert (teacher.channels, teacher.text_encoder) == (12, "open_clip:ViT-B-32-quickgelu")
    assert teacher.description.model.startswith("sha256:")
    assert teacher.description.settings == {"size": 0, "flip": True, "half": False}


def test_images_of_one_size_may_share_a_pass(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, which these do not wait for: what is said is that of each image alone."""
    teacher: Any = load_teacher("lseg", TeacherOptions(weights=checkpoint, device="cpu"))
    seen = watch_half(monkeypatch, lseg_teacher, teacher._network)
    images = [picture(seed=seed) for seed in range(3)]
    together = teacher._of_one_size(images)
    assert seen == ["cpu", "cpu"]  # as they are and mirrored, in half precision on a GPU
    assert len(together) == 3
    for image, found in zip(images, together, strict=True):
        (alone,) = teacher.features([image])
        # Sums of other lengths are rounded otherwise: at most one step of float16.
        torch.testing.assert_close(found.features, alone.features, atol=1e-3, rtol=1e-3)
        assert found.rows_per_pixel == alone.rows_per_pixel
        assert found.features.stride() == alone.features.stride()
    assert seen == ["cpu"] * 8
    assert float((together[0].features - together[1].features).abs().max()) > 0.1  # images differ


def test_settings_that_make_no_sense_are_refused(checkpoint: Path) -> None:
    with pytest.raises(SasError, match="32 pixels or more"):
        load_teacher("lseg", TeacherOptions(weights=checkpoint, settings={"size": "8"}))
    with pytest.raises(SasError, match="multiples of 32"):
        LsegNetwork(SMALL)(torch.zeros(1, 3, 48, 64))


# Against an independent transcription


def test_a_small_network_equals_the_description_in_float64(checkpoint: Path) -> None:
    """Written from the description, in the order it gives, with numpy and loops, in float64."""
    weights = {k[4:]: v.double().numpy() for k, v in small_weights().items()}
    image = np.random.default_rng(3).uniform(-1, 1, (3, 64, 96))
    wanted = transcription(weights, image)
    with torch.inference_mode():
        found = load_network(checkpoint).double()(torch.from_numpy(image)[None])[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def transcription(w: dict[str, np.ndarray[Any, Any]], image: np.ndarray[Any, Any]) -> Any:
    from scipy.special import erf

    def gelu(x: Any) -> Any:
        return x * 0.5 * (1 + erf(x / np.sqrt(2)))

    def norm(x: Any, name: str) -> Any:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def conv(x: Any, name: str, stride: int = 1, margin: int = 1) -> Any:
        kernel = w[f"{name}.weight"]
        size = kernel.shape[2]
        x = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
        rows, columns = ((n - size) // stride + 1 for n in x.shape[1:])
        out = np.zeros((len(kernel), rows, columns))
        for i in range(size):
            for j in range(size):
                part = x[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
                out += np.einsum("oc,chw->ohw", kernel[:, :, i, j], part)
        return out + w[f"{name}.bias"][:, None, None] if f"{name}.bias" in w else out

    def widen(x: Any, name: str) -> Any:  # transposed, kernel as wide as the stride
        kernel = w[f"{name}.weight"]
        out = np.einsum("chw,coij->ohiwj", x, kernel)
        size = kernel.shape[2]
        out = out.reshape(kernel.shape[1], x.shape[1] * size, x.shape[2] * size)
        return out + w[f"{name}.bias"][:, None, None]

    def resize(x: Any, rows: int, columns: int, aligned: bool) -> Any:
        def matrix(new: int, old: int) -> Any:
            m = np.zeros((new, old))
            for i in range(new):
                at = i * (old - 1) / (new - 1) if aligned else (i + 0.5) * old / new - 0.5
                at = min(max(at, 0), old - 1)
                low = min(int(at), old - 1)
                m[i, low] += 1 - (at - low)
                m[i, min(low + 1, old - 1)] += at - low
            return m

        return matrix(rows, x.shape[1]) @ x @ matrix(columns, x.shape[2]).T

    def batch_norm(x: Any, name: str) -> Any:
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        x = (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
        return x * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]

    def unit(x: Any, name: str) -> Any:
        y = batch_norm(conv(np.maximum(x, 0), f"{name}.conv1"), f"{name}.bn1")
        return x + batch_norm(conv(np.maximum(y, 0), f"{name}.conv2"), f"{name}.bn2")

    name = "pretrained.model"
    patches = conv(image, f"{name}.patch_embed.proj", 16, 0)
    rows, columns = patches.shape[1:]
    tokens = np.concatenate([w[f"{name}.cls_token"][0], patches.reshape(64, -1).T])
    places = w[f"{name}.pos_embed"][0]
    grid = resize(places[1:].T.reshape(64, 4, 4), rows, columns, False).reshape(64, -1).T
    tokens = tokens + np.concatenate([places[:1], grid])
    taps = []
    for number in range(4):
        block = f"{name}.blocks.{number}"
        q, k, v = np.split(linear(norm(tokens, f"{block}.norm1"), f"{block}.attn.qkv"), 3, axis=1)
        weight = np.exp(q @ k.T / 8)  # one head of width 64
        mixed = weight / weight.sum(1, keepdims=True) @ v
        tokens = tokens + linear(mixed, f"{block}.attn.proj")
        hidden = gelu(linear(norm(tokens, f"{block}.norm2"), f"{block}.mlp.fc1"))
        tokens = tokens + linear(hidden, f"{block}.mlp.fc2")
        both = np.concatenate([tokens[1:], np.repeat(tokens[:1], rows * columns, 0)], axis=1)
        post = f"pretrained.act_postprocess{number + 1}"
        read = gelu(linear(both, f"{post}.0.project.0")).T.reshape(64, rows, columns)
        taps.append(conv(read, f"{post}.3", margin=0))
    post = "pretrained.act_postprocess"
    taps[0], taps[1] = widen(taps[0], f"{post}1.4"), widen(taps[1], f"{post}2.4")
    taps[3] = conv(taps[3], f"{post}4.4", 2)
    path: Any = 0.0
    for number in (4, 3, 2, 1):
        skip = conv(taps[number - 1], f"scratch.layer{number}_rn")
        fusion = f"scratch.refinenet{number}"
        skip = skip if number == 4 else path + unit(skip, f"{fusion}.resConfUnit1")
        path = unit(skip, f"{fusion}.resConfUnit2")
        path = resize(path, 2 * path.shape[1], 2 * path.shape[2], True)
        path = conv(path, f"{fusion}.out_conv", margin=0)
    features = conv(path, "scratch.head1", margin=0)
    return features / np.linalg.norm(features, axis=0)
