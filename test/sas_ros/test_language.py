"""Prompts, the cache, the encoders and the sentences when one is missing."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_ros.language import available
from sas_ros.language.available import encoder_available
from sas_ros.language.encoder import CachedEncoder, check_encoder, load_encoder
from sas_ros.language.prompts import apply_prompt, normalise_text, text_key

MINILM_MISSING = encoder_available("minilm-l6-v2")


class CountingEncoder:
    """Vectors from the length of the text; remembers what it was asked."""

    name = "counting"
    dim = 3

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.entered.set()
        assert self.gate.wait(10)
        self.asked.append(list(texts))
        angle = np.array([len(text) for text in texts], dtype=np.float32)
        return np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)


def test_prompts_are_taken_literally() -> None:
    assert apply_prompt("a {} in a scene", "armchair") == "a armchair in a scene"
    assert apply_prompt("{}", "  big \n chair ") == "big chair"
    assert apply_prompt("a {}", "{name}") == "a {name}"
    for prompt in ("a chair", "{} and {}", ""):
        with pytest.raises(SasError, match="exactly one"):
            apply_prompt(prompt, "chair")


@settings(deadline=None, derandomize=True)
@given(text=st.text(max_size=50))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise_text(text)
    assert normalise_text(once) == once
    assert text_key(text) == text_key(f"  {once}\n")


def test_cache_computes_each_text_once() -> None:
    inner = CountingEncoder()
    cached = CachedEncoder(inner)
    first = cached.encode(["a", "bb", "a"])
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(cached.encode(["bb", "ccc"])[0], first[1])
    assert inner.asked == [["a", "bb"], ["ccc"]]
    assert cached.peek("ccc") is not None and cached.peek("dddd") is None
    assert cached.encode([]).shape == (0, 3)
    assert (cached.name, cached.dim) == ("counting", 3)


def test_cache_forgets_what_was_used_longest_ago() -> None:
    inner = CountingEncoder()
    cached = CachedEncoder(inner, capacity=2)
    cached.encode(["a", "bb"])
    cached.encode(["a"])
    cached.encode(["ccc"])
    assert cached.peek("a") is not None and cached.peek("bb") is None
    assert cached.encode(["a", "bb", "ccc", "dddd"]).shape == (4, 3)
    with pytest.raises(SasError):
        CachedEncoder(inner, capacity=0)


def test_known_text_does_not_wait_for_new_text() -> None:
    inner = CountingEncoder()
    cached = CachedEncoder(inner)
    cached.encode(["known"])
    inner.gate.clear()
    inner.entered.clear()
    slow = threading.Thread(target=cached.encode, args=(["new"],))
    slow.start()
    assert inner.entered.wait(10)
    cached.encode(["known"])  # would hang here if it took the encoder's lock
    assert slow.is_alive()
    inner.gate.set()
    slow.join(10)
    assert cached.peek("new") is not None


def test_cache_is_right_under_many_threads() -> None:
    inner = CountingEncoder()
    cached = CachedEncoder(inner, capacity=5)
    failures: list[BaseException] = []

    def ask(seed: int) -> None:
        generator = np.random.default_rng(seed)
        try:
            for _ in range(50):
                texts = ["x" * int(n) for n in generator.integers(0, 12, size=4)]
                np.testing.assert_array_equal(cached.encode(texts), inner.encode(texts))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures


def test_unknown_encoders_are_refused() -> None:
    for name in ("word2vec", "open_clip:", ""):
        sentence = encoder_available(name)
        assert sentence is not None and sentence.endswith(".")
        with pytest.raises(SasError):
            load_encoder(name)


@pytest.mark.parametrize(
    ("name", "extra"), [("minilm-l6-v2", ".[text]"), ("open_clip:ViT-B-32", ".[clip]")]
)
def test_missing_extra_is_named(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "_installed", lambda module: False)
    with pytest.raises(SasError) as raised:
        load_encoder(name)
    assert extra in str(raised.value)


def test_encoder_must_be_the_students() -> None:
    encoder = CountingEncoder()
    check_encoder("counting", 3, encoder)
    with pytest.raises(SasError, match="was trained with"):
        check_encoder("minilm-l6-v2", 3, encoder)
    with pytest.raises(SasError, match="different models"):
        check_encoder("counting", 384, encoder)


@pytest.fixture(scope="module")
def minilm() -> CachedEncoder:
    if MINILM_MISSING is not None:
        pytest.skip(MINILM_MISSING)
    return load_encoder("minilm-l6-v2")


def test_minilm_knows_what_words_mean(minilm: CachedEncoder) -> None:
    vectors = minilm.encode(["sofa", "couch", "chair", "something to sit on", "elephant"])
    assert vectors.shape == (5, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similarity = vectors @ vectors.T
    assert similarity[0, 1] == pytest.approx(0.856, abs=0.01)  # measured with the published model
    assert similarity[3, 2] > 0.5 > similarity[4, 2]


def test_minilm_does_not_depend_on_the_batch(minilm: CachedEncoder) -> None:
    from sas_ros.language.minilm import MiniLmEncoder

    encoder = MiniLmEncoder()
    texts = ["椅子", "chair " * 400, "x"]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert encoder.encode([]).shape == (0, 384)
    check_encoder("minilm-l6-v2", 384, minilm)


def test_incomplete_minilm_folder_is_refused(tmp_path: Path) -> None:
    if MINILM_MISSING is not None:
        pytest.skip(MINILM_MISSING)
    with pytest.raises(SasError, match=r"lacks config\.json"):
        load_encoder("minilm-l6-v2", weights=tmp_path)


needs_open_clip = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="open_clip is not installed"
)


@needs_open_clip
def test_clip_from_a_local_file(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip", exc_type=(ImportError, RuntimeError))
    from safetensors.torch import save_file

    tower = {"layers": 1, "width": 32}
    config = {
        "embed_dim": 16,
        "vision_cfg": {**tower, "image_size": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": {**tower, "context_length": 77, "vocab_size": 49408, "heads": 2},
    }
    (tmp_path / "sas-tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "sas-tiny.json")
    model = open_clip.create_model("sas-tiny").eval()
    weights = tmp_path / "tiny.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)

    encoder = load_encoder("open_clip:sas-tiny", weights=weights)
    vectors = encoder.encode(["a chair", "a table", "椅子"])
    assert vectors.shape == (3, 16) and encoder.dim == 16
    expected = model.encode_text(open_clip.get_tokenizer("sas-tiny")(["a chair"]), normalize=True)
    np.testing.assert_allclose(vectors[:1], expected.detach().numpy(), atol=1e-6)
    check_encoder("open_clip:sas-tiny", 16, encoder)

    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(SasError, match="does not hold weights"):
        load_encoder("open_clip:sas-tiny", weights=tmp_path / "broken.safetensors")


@needs_open_clip
def test_clip_never_downloads(tmp_path: Path) -> None:
    pytest.importorskip("open_clip", exc_type=(ImportError, RuntimeError))
    with pytest.raises(SasError, match="nothing is downloaded"):
        load_encoder("open_clip:ViT-B-32")
    with pytest.raises(SasError, match="no weights"):
        load_encoder("open_clip:ViT-B-32", weights=tmp_path / "absent.safetensors")
    (tmp_path / "some.safetensors").write_bytes(b"x")
    with pytest.raises(SasError, match="no model"):
        load_encoder("open_clip:NoSuchModel", weights=tmp_path / "some.safetensors")
