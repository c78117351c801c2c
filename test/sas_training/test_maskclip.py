"""MaskCLIP's dense features: against a transcription, and through open_clip where it is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sas_ros.errors import SasError
from sas_training.teachers import TeacherOptions, load_teacher
from sas_training.teachers.maskclip import (
    MaskClipSettings,
    MaskClipTeacher,
    check_tower,
    dense_tokens,
    positions,
)

WIDTH, OUT, PATCH = 8, 6, 4


class Block(nn.Module):
    """A residual block with open_clip's names."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 12), nn.GELU(), nn.Linear(12, WIDTH))
        self.ls_1, self.ls_2 = nn.Identity(), nn.Identity()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        normed = self.ln_1(tokens)
        tokens = tokens + self.attn(normed, normed, normed, need_weights=False)[0]
        return tokens + self.mlp(self.ln_2(tokens))


class Tower(nn.Module):
    """An image tower with open_clip's names, for 12 x 12 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn(10, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList([Block(), Block()])
        self.proj = nn.Parameter(torch.randn(WIDTH, OUT))


@pytest.fixture
def tower() -> Tower:
    torch.manual_seed(0)
    tower = Tower()
    for parameter in tower.parameters():
        nn.init.normal_(parameter, std=0.5)
    return tower


@pytest.mark.parametrize("reading", ["maskclip", "values"])
def test_the_last_attention_is_left_out(tower: Tower, reading: str) -> None:
    """With an attention that looks at its own token alone, the block itself gives the same."""
    images = torch.randn(2, 3, 12, 12)
    found = dense_tokens(tower, images, reading)
    tokens = tower.conv1(images).flatten(2).transpose(1, 2)
    tokens = torch.cat([tower.class_embedding.expand(2, 1, -1), tokens], dim=1)
    first, last = tower.transformer.resblocks  # type: ignore[union-attr, misc]
    tokens = first(tower.ln_pre(tokens + tower.positional_embedding))
    alone = torch.full((10, 10), float("-inf")).fill_diagonal_(0.0)
    normed = last.ln_1(tokens)
    values = last.attn(normed, normed, normed, attn_mask=alone, need_weights=False)[0]
    if reading == "maskclip":
        tokens = tokens + values
        tokens = tokens + last.mlp(last.ln_2(tokens))
    else:
        tokens = values
    wanted = (tower.ln_post(tokens) @ tower.proj)[:, 1:]
    torch.testing.assert_close(found, wanted)


def test_positions_of_other_grids(tower: Tower) -> None:
    assert positions(tower, (3, 3)) is tower.positional_embedding
    wide = positions(tower, (3, 7))
    assert wide.shape == (22, WIDTH)
    torch.testing.assert_close(wide[0], tower.positional_embedding[0])
    constant = SimpleNamespace(positional_embedding=torch.ones(10, WIDTH))
    torch.testing.assert_close(positions(constant, (5, 2)), torch.ones(11, WIDTH))


@pytest.mark.parametrize(
    ("shape", "size", "grid"),
    [((30, 40), 12, (3, 4)), ((9, 9), 12, (3, 3)), ((50, 10), 8, (10, 2))],
)
def test_patches_cover_the_image(
    tower: Tower, shape: tuple[int, int], size: int, grid: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    teacher = MaskClipTeacher(tower, "small", "none", MaskClipSettings(size))
    (found,) = teacher.features([image])
    assert tuple(found.features.shape) == (OUT, *grid)
    lengths = found.features.float().norm(dim=0)
    torch.testing.assert_close(lengths, torch.ones(grid), atol=2e-3, rtol=0)
    pixels = found.at_pixels(*shape).features
    assert pixels.shape == (*shape, OUT)
    torch.testing.assert_close(pixels[-1, -1], found.features[:, -1, -1])
    assert (teacher.channels, teacher.text_encoder) == (OUT, "open_clip:small")


def test_what_is_no_plain_transformer_is_refused(tower: Tower) -> None:
    tower.attn_pool = nn.Identity()
    for tower_like in (tower, nn.Conv2d(3, 3, 1), SimpleNamespace(conv1=None)):
        with pytest.raises(SasError, match='"odd" is no plain vision transformer'):
            check_tower(tower_like, "odd")
    with pytest.raises(SasError, match="reading maskclip or values"):
        MaskClipSettings(reading="keys")


def test_missing_parts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(there: bool) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if there else None)

    found(False)
    with pytest.raises(SasError, match="needs open_clip; install the extra"):
        load_teacher("maskclip", TeacherOptions(model="ViT-B-16"))
    found(True)
    with pytest.raises(SasError, match="needs an open_clip model"):
        load_teacher("maskclip", TeacherOptions())
    with pytest.raises(SasError, match="nothing is downloaded"):
        load_teacher("maskclip", TeacherOptions(model="ViT-B-16"))
    with pytest.raises(SasError, match='no weights for "ViT-B-16" at'):
        load_teacher("maskclip", TeacherOptions(model="ViT-B-16", weights=tmp_path / "none"))


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A small random open_clip model: its name and weights."""
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    open_clip: Any = pytest.importorskip("open_clip", exc_type=(ImportError, RuntimeError))
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("open_clip")
    sizes = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 24, "vision_cfg": sizes, "text_cfg": text}
    (folder / "sas-small.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "sas-small.json")
    torch.manual_seed(0)
    network = open_clip.create_model("sas-small")
    weights = folder / "small.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, weights)
    return "sas-small", weights


def test_a_model_of_open_clip_is_loaded_and_used(small_model: tuple[str, Path]) -> None:
    name, weights = small_model
    options = TeacherOptions(model=name, weights=weights, settings={"size": "32"})
    teacher: Any = load_teacher("maskclip", options)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    (found,) = teacher.features([image])
    assert tuple(found.features.shape) == (24, 4, 6)
    assert teacher.description.model.startswith("sha256:")
    assert teacher.text_encoder == "open_clip:sas-small"
    other = load_teacher("maskclip", TeacherOptions(model=name, weights=weights))
    assert other.description.settings["size"] == 448


def test_wrong_weights_and_models_are_named(small_model: tuple[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    name, weights = small_model
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(SasError, match='does not hold weights of the open_clip model "sas-small"'):
        load_teacher("maskclip", TeacherOptions(model=name, weights=tmp_path / "a.safetensors"))
    with pytest.raises(SasError, match='open_clip has no model "none"'):
        load_teacher("maskclip", TeacherOptions(model="none", weights=weights))
