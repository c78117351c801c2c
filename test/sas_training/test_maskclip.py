"""MaskCLIP's dense features: against a transcription, and through open_clip where it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import watch_half
from torch import nn

from sas_ros.errors import SasError
from sas_training.teachers import TeacherOptions, load_teacher, maskclip
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


def test_positions_keep_their_rows_and_columns() -> None:
    """One channel grows with the rows, one with the columns, and one marks a corner."""
    side, rows, columns = 8, 4, 16
    row, column = np.mgrid[:side, :side]
    corner = (row == 0) & (column == side - 1)
    table = np.stack([row, column, corner], axis=-1).reshape(-1, 3)
    table = np.concatenate([[[-1.0, -2.0, -3.0]], table])
    tower = SimpleNamespace(positional_embedding=torch.from_numpy(table).float())
    found = positions(tower, (rows, columns)).numpy()
    np.testing.assert_array_equal(found[0], [-1, -2, -3])
    down, right, marked = np.moveaxis(found[1:].reshape(rows, columns, 3), -1, 0)
    # What is linear stays so under interpolation, but for the edges.
    np.testing.assert_allclose(down, np.repeat(down[:, :1], columns, axis=1), atol=1e-5)
    np.testing.assert_allclose(right, np.repeat(right[:1], rows, axis=0), atol=1e-5)
    np.testing.assert_allclose(down[1:-1, 0], (np.arange(1, rows - 1) + 0.5) * 2 - 0.5, atol=0.05)
    middle = (np.arange(4, columns - 4) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(right[0, 4:-4], middle, atol=0.05)
    assert np.unravel_index(marked.argmax(), marked.shape) == (0, columns - 1)


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


@pytest.mark.parametrize("reading", ["maskclip", "values"])
def test_images_of_one_size_may_share_a_pass(
    tower: Tower, reading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, which these do not wait for: what is said is that of each image alone."""
    teacher = MaskClipTeacher(tower, "small", "none", MaskClipSettings(12, reading))
    seen = watch_half(monkeypatch, maskclip, tower)
    drawn = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)
    together = teacher._of_one_size(list(drawn))
    assert seen == ["cpu"]  # one pass, in half precision where there is a GPU
    assert len(together) == 3
    for image, found in zip(drawn, together, strict=True):
        (alone,) = teacher.features([image])
        # Sums of other lengths are rounded otherwise: at most one step of float16.
        torch.testing.assert_close(found.features, alone.features, atol=1e-3, rtol=1e-3)
        assert found.columns_per_pixel == alone.columns_per_pixel
    assert seen == ["cpu"] * 4
    assert float((together[0].features - together[1].features).abs().max()) > 0.02  # they differ


def test_what_is_no_plain_transformer_is_refused(tower: Tower) -> None:
    tower.attn_pool = nn.Identity()
    for tower_like in (tower, nn.Conv2d(3, 3, 1), SimpleNamespace(conv1=None)):
        with pytest.raises(SasError, match='"odd" is no plain vision transformer'):
            check_tower(tower_like, "odd")
    tower.attn_pool = None  # type: ignore[assignment]
    check_tower(tower, "plain")
    tower.transformer.resblocks[-1].attn = nn.Identity()  # type: ignore[union-attr, index]
    with pytest.raises(SasError, match='"odd" is no plain vision transformer'):
        check_tower(tower, "odd")
    with pytest.raises(SasError, match="reading maskclip or values"):
        MaskClipSettings(reading="keys")


def test_missing_parts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(there: bool) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if there else None)

    found(False)
    with pytest.raises(SasError, match="needs open_clip; install the extra"):
        load_teacher("maskclip", TeacherOptions(model="ViT-B-16"))
    found(True)
    with pytest.raises(SasError, match="needs the name of an open_clip model"):
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


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_model_of_open_clip_is_loaded_and_used(
    small_model: tuple[str, Path], tmp_path: Path, suffix: str
) -> None:
    from safetensors.torch import load_file

    name, whole = small_model
    weights = whole
    if suffix != whole.suffix:
        weights = tmp_path / f"small{suffix}"
        torch.save(load_file(whole), weights)
    options = TeacherOptions(model=name, weights=weights, settings={"size": "32"})
    teacher: Any = load_teacher("maskclip", options)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    (found,) = teacher.features([image])
    assert tuple(found.features.shape) == (24, 4, 6)
    assert teacher.description.model.startswith("sha256:")
    assert teacher.text_encoder == "open_clip:sas-small"
    other: Any = load_teacher("maskclip", TeacherOptions(model=name, weights=whole))
    assert other.description.settings["size"] == 448
    same: Any = load_teacher("maskclip", replace(options, weights=whole))
    assert torch.equal(same.features([image])[0].features, found.features)


@pytest.mark.parametrize("reading", ["maskclip", "values"])
@pytest.mark.parametrize("shape", [(32, 32), (32, 48), (64, 32)])
def test_dense_features_are_those_of_open_clips_own_tower(
    small_model: tuple[str, Path], shape: tuple[int, int], reading: str
) -> None:
    """Its own forward from an image file's pixels on, each token of the last block seeing itself.

    For `values` the residual path is taken from what comes out, and the two layers are silenced.
    """
    import open_clip
    from open_clip.model import resize_pos_embed
    from PIL import Image

    name, weights = small_model
    options = TeacherOptions(
        model=name, weights=weights, device="cpu", settings={"size": "32", "reading": reading}
    )
    teacher: Any = load_teacher("maskclip", options)
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (found,) = teacher.features([image])

    network = open_clip.create_model(name, pretrained=str(weights), weights_only=True).eval()
    tower = network.visual
    prepare = open_clip.image_transform(shape, is_train=False, mean=tower.image_mean)
    pixels = prepare(Image.fromarray(image))[None]
    grid = (shape[0] // 8, shape[1] // 8)
    state = {"visual.positional_embedding": tower.positional_embedding.detach()}
    resize_pos_embed(state, SimpleNamespace(visual=SimpleNamespace(grid_size=grid)))
    tower.positional_embedding = nn.Parameter(state["visual.positional_embedding"])
    tower.output_tokens = True
    last, count = tower.transformer.resblocks[-1], 1 + grid[0] * grid[1]
    alone = torch.full((count, count), float("-inf")).fill_diagonal_(0.0)
    whole = last.forward

    def seeing_itself(tokens: torch.Tensor, **_: Any) -> torch.Tensor:
        after: torch.Tensor = whole(tokens, attn_mask=alone)
        return after if reading == "maskclip" else after - tokens

    last.forward = seeing_itself
    if reading == "values":
        for one in last.mlp[-1].parameters():
            one.data.zero_()
    with torch.inference_mode():
        _, tokens = tower(pixels)
        wanted = nn.functional.normalize(tokens @ tower.proj, dim=-1)[0].T.unflatten(1, grid)
    assert float(wanted.flatten(1).std(dim=1).mean()) > 0.02  # patches differ
    torch.testing.assert_close(found.features.float(), wanted, atol=2e-3, rtol=0)


def test_wrong_weights_and_models_are_named(small_model: tuple[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    name, weights = small_model
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(SasError, match='does not hold weights of the open_clip model "sas-small"'):
        load_teacher("maskclip", TeacherOptions(model=name, weights=tmp_path / "a.safetensors"))
    with pytest.raises(SasError, match='open_clip has no model "none"'):
        load_teacher("maskclip", TeacherOptions(model="none", weights=weights))
