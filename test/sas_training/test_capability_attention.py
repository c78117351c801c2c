"""Which tokens are the class, what is recorded of a network, and what becomes of it."""

from __future__ import annotations

import re
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
from sas_training.capability.aggregation import Aggregator, min_max, resized
from sas_training.capability.tokens import Prompt, class_tokens, prompt_of, template_of

pytest.importorskip("diffusers")

from tiny_diffusion import SIZE, save_pipeline, save_tokenizer

from sas_training.capability.attention import Recording, cross_layers, recorded, token_attention

Array = npt.NDArray[np.float64]


# Tokens


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return save_tokenizer(tmp_path_factory.mktemp("words"))


def pieces(tokenizer: Any, prompt: Prompt) -> list[str]:
    names = tokenizer.convert_ids_to_tokens(tokenizer(prompt.text)["input_ids"])
    return [names[place] for place in class_tokens(tokenizer, prompt)]


@pytest.mark.parametrize(
    ("template", "word", "count"),
    [
        ("paper", "chair", 1),
        ("released", "shower curtain", 4),
        ("released", "armchair", 2),
        ("a room of {} in a room", "room", 1),
        ("{}", "chair", 1),
        ("a   photo of   {}", "  Shower   Curtain ", 4),
    ],
)
def test_tokens_of_the_class_name(tokenizer: Any, template: str, word: str, count: int) -> None:
    found = pieces(tokenizer, prompt_of(template_of(template), word))
    assert "".join(found).replace("</w>", " ").split() == word.lower().split()
    assert len(found) == count


def test_a_word_of_the_template_that_is_like_the_class_is_not_taken(tokenizer: Any) -> None:
    # "art" is in "chart", and "a" is the article; tokens are found by place.
    prompt = prompt_of("a photo of a {} in a room", "a")
    (place,) = class_tokens(tokenizer, prompt)
    assert place == 5 and prompt.text[prompt.start : prompt.end] == "a"


def test_a_tokenizer_without_offsets_gives_the_same_places(tokenizer: Any) -> None:
    class Slow:
        is_fast = False
        model_max_length = tokenizer.model_max_length

        def __call__(self, text: str, **how: Any) -> Any:
            return tokenizer(text, **how)

    for word in ("chair", "shower curtain", "armchair"):
        for template in ("paper", "released"):
            prompt = prompt_of(template_of(template), word)
            assert class_tokens(Slow(), prompt) == class_tokens(tokenizer, prompt)


def test_a_name_that_is_cut_off_is_refused(tokenizer: Any) -> None:
    prompt = prompt_of("a good photo of a room in a room in a good photo of {}", "chair")
    with pytest.raises(SasError, match="too long"):
        class_tokens(tokenizer, prompt)


def test_templates_and_names_are_checked() -> None:
    with pytest.raises(SasError, match="0 places"):
        template_of("a photo")
    with pytest.raises(SasError, match="without a name"):
        prompt_of("a {}", "  ")
    assert template_of("released") == "a good photo of a {} in a room"


@settings(max_examples=40, deadline=None)
@given(
    st.text("ab {}é\t", max_size=12).filter(lambda text: text.count("{}") == 1),
    st.text("abé \n", min_size=1, max_size=8),
)
def test_the_name_is_where_the_prompt_says(template: str, word: str) -> None:
    if not word.strip():
        return
    prompt = prompt_of(template, word)
    assert prompt.text[prompt.start : prompt.end] == re.sub(r"\s+", " ", word).strip()
    assert "  " not in prompt.text and prompt.text == prompt.text.strip()


# One layer against the equation in float64


def attention_of(layer: Any, pixels: Array, text: Array) -> Array:
    """softmax(Q K^T / sqrt(d)) of every head, mean over them: (n, tokens)."""
    query = pixels @ layer.to_q.weight.double().numpy().T
    key = text @ layer.to_k.weight.double().numpy().T
    heads, width = layer.heads, query.shape[1] // layer.heads
    total = np.zeros((len(pixels), len(text)))
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        logits = query[:, part] @ key[:, part].T / np.sqrt(width)
        each = np.exp(logits - logits.max(axis=1, keepdims=True))
        total += each / each.sum(axis=1, keepdims=True)
    return total / heads


@torch.no_grad()
def test_a_layer_equals_the_equation() -> None:
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(3)
    layer = Attention(query_dim=12, cross_attention_dim=10, heads=3, dim_head=4)
    layer.to_q.weight *= 4
    pixels, text = torch.randn(2, 20, 12), torch.randn(2, 7, 10) * 3
    found = token_attention(layer, pixels, text, (2, 5))
    assert found.shape == (2, 2, 20)
    for image in range(2):
        wanted = attention_of(layer, pixels[image].double().numpy(), text[image].double().numpy())
        np.testing.assert_allclose(found[image].numpy(), wanted[:, [2, 5]].T, rtol=2e-5)


# Aggregation


def cubic(new: int, old: int) -> Array:
    """Bicubic interpolation (a = -0.75, corners not aligned, edges repeated) as a matrix."""

    def weight(x: float) -> float:
        a, x = -0.75, abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    found = np.zeros((new, old))
    for row in range(new):
        at = (row + 0.5) * old / new - 0.5
        base = int(np.floor(at))
        for tap in range(base - 1, base + 3):
            found[row, min(max(tap, 0), old - 1)] += weight(at - tap)
    return found


def enlarged(map_: Array, size: int) -> Array:
    return np.asarray(cubic(size, map_.shape[0]) @ map_ @ cubic(size, map_.shape[1]).T)


def scaled(map_: Array) -> Array:
    return (map_ - map_.min()) / (map_.max() - map_.min())


Given = list[tuple[int, bool, Array]]
"""Factor, whether of the middle block, and (tokens, h, w) of one layer at one step."""


def paper(layers: Given, size: int) -> Array:
    """Equation 2: the mean over layers and steps of M / max(M); then tokens, then 0 to 1."""
    tokens = len(layers[0][2])
    maps = [
        np.mean([enlarged(m[token] / m[token].max(), size) for _, _, m in layers], axis=0)
        for token in range(tokens)
    ]
    return scaled(np.mean(maps, axis=0))


def released(layers: Given, size: int) -> Array:
    """Mean over layers and steps first, then divided by the maximum for each resolution."""
    tokens = []
    for token in range(len(layers[0][2])):
        parts = []
        for factor in (1, 2, 4):
            of = [m[token] for f, middle, m in layers if f == factor and not middle]
            if of:
                wide = enlarged(np.mean(of, axis=0), size)
                parts.append(wide / wide.max())
        tokens.append(np.mean(parts, axis=0))
    return scaled(np.mean(tokens, axis=0))


def some_layers(seed: int, steps: int = 3) -> Given:
    rng = np.random.default_rng(seed)
    shapes = [
        (1, False, 8),
        (1, False, 8),
        (2, False, 4),
        (4, False, 2),
        (4, True, 2),
        (8, True, 1),
    ]
    return [
        (factor, middle, rng.random((2, size, size)) ** 3 / 50)
        for _ in range(steps)
        for factor, middle, size in shapes
    ]


@pytest.mark.parametrize("seed", range(3))
def test_both_rules_equal_their_equations(seed: int) -> None:
    first, second = some_layers(seed), some_layers(seed + 100)
    sums = Aggregator()
    for (factor, middle, one), (_, _, two) in zip(first, second, strict=True):
        sums.add(torch.from_numpy(np.stack([one, two])), factor, middle=middle)
    for rule, transcription in (("paper", paper), ("released", released)):
        found = sums.finish(rule, 16, 16).numpy()
        assert found.min() == 0 and found.max() == 1
        for image, layers in enumerate((first, second)):
            np.testing.assert_allclose(found[image], transcription(layers, 16), atol=2e-6)


def test_memory_does_not_grow_with_layers_or_steps() -> None:
    sums = Aggregator()
    sizes = []
    for seed in range(4):
        for factor, middle, one in some_layers(seed, steps=5):
            sums.add(torch.from_numpy(one[None]), factor, middle=middle)
        sizes.append(sums.bytes)
    assert len(set(sizes)) == 1 and sizes[0] < 4 * 4 * 2 * 2 * 8 * 8


def test_the_rules_say_what_they_lack() -> None:
    with pytest.raises(SasError, match="no rule"):
        Aggregator(["mean"])
    sums = Aggregator(["released"])
    sums.add(torch.rand(1, 1, 2, 2), 8)
    assert not sums.has("released")
    with pytest.raises(SasError, match="Take the rule paper"):
        sums.finish("released", 8, 8)
    with pytest.raises(SasError, match="No attention was kept"):
        sums.finish("paper", 8, 8)


def test_a_map_without_contrast_is_nothing() -> None:
    assert not min_max(torch.full((1, 3, 3), 0.2)).any()
    assert resized(torch.ones(1, 1, 2, 2), 5, 7).shape == (1, 1, 5, 7)


# A whole pipeline


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def pipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return save_pipeline(tmp_path_factory.mktemp(request.param), request.param)


PROMPT = "a good photo of a armchair in a room"
TOKENS = (6, 7)


def call(pipe: Any, seeds: list[int], guidance: float = 5.0) -> npt.NDArray[np.float32]:
    made = pipe(
        prompt=[PROMPT] * len(seeds),
        num_inference_steps=2,
        height=SIZE,
        width=SIZE,
        guidance_scale=guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="np",
    )
    return np.asarray(made.images)


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_a_pipeline_is_recorded_as_it_is_computed(pipe: Any, guidance: float) -> None:
    """All cross-attentions, seen through hooks of the test alone, in float64."""
    seeds = [4, 5]
    kept: dict[int, Given] = {0: [], 1: []}
    hooks = []
    layers = [(n, one) for n, one in pipe.unet.named_modules() if n.endswith("attn2")]
    for name, module in layers:

        def look(layer: Any, given: Any, named: Any, name: str = name) -> None:
            pixels = (given[0] if given else named["hidden_states"]).double().numpy()[-2:]
            text = named["encoder_hidden_states"].double().numpy()[-2:]
            side = int(np.sqrt(pixels.shape[1]))
            for image in range(2):
                shares = attention_of(layer, pixels[image], text[image])[:, list(TOKENS)]
                maps = shares.T.reshape(len(TOKENS), side, side)
                kept[image].append((SIZE // 2 // side, "mid_block" in name, maps))

        hooks.append(module.register_forward_pre_hook(look, with_kwargs=True))
    recording = Recording(2, TOKENS)
    with recorded(pipe.unet, recording):
        call(pipe, seeds, guidance)
    for hook in hooks:
        hook.remove()
    recording.check(2)
    assert kept[0]
    for rule, transcription in (("paper", paper), ("released", released)):
        found = recording.maps.finish(rule, SIZE, SIZE).numpy()
        for image in range(2):
            np.testing.assert_allclose(found[image], transcription(kept[image], SIZE), atol=1e-4)


def test_recording_changes_nothing_and_is_undone(pipe: Any) -> None:
    before = dict(pipe.unet.attn_processors)
    plain = call(pipe, [1, 2])
    with recorded(pipe.unet, Recording(2, TOKENS)):
        assert dict(pipe.unet.attn_processors) != before
        seen = call(pipe, [1, 2])
    np.testing.assert_array_equal(plain, seen)
    assert dict(pipe.unet.attn_processors) == before
    with pytest.raises(KeyboardInterrupt), recorded(pipe.unet, Recording(1, TOKENS)):
        raise KeyboardInterrupt
    assert dict(pipe.unet.attn_processors) == before
    assert not pipe.unet._forward_pre_hooks


def test_what_cannot_be_told_apart_is_refused(pipe: Any) -> None:
    with (
        pytest.raises(SasError, match="for 3 images"),
        recorded(pipe.unet, Recording(3, TOKENS)),
    ):
        call(pipe, [1, 2])
    with (
        pytest.raises(SasError, match="the class name ends at number 41"),
        recorded(pipe.unet, Recording(1, (40,))),
    ):
        call(pipe, [1])
    recording = Recording(1, TOKENS)
    recording.passes = 4
    with pytest.raises(SasError, match="4 times in 2 steps"):
        recording.check(2)


def test_networks_without_readable_attention_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SasError, match="no attention processors"):
        cross_layers(torch.nn.Linear(1, 1))
    layer = SimpleNamespace(is_cross_attention=False, added_kv_proj_dim=None)
    network = SimpleNamespace(
        attn_processors={"a.processor": 0},
        set_attn_processor=None,
        get_submodule=lambda name: layer,
    )
    with pytest.raises(SasError, match="no cross-attention"):
        cross_layers(network)
    layer.added_kv_proj_dim = 4
    with pytest.raises(SasError, match="adds keys of its own"):
        cross_layers(network)
