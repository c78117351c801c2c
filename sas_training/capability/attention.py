"""Cross-attention of a diffusion network, recorded while images are made.

Through the attention-processor interface of diffusers: every cross-attention layer keeps its own
processor, which makes the layer's output as before, and a recorder beside it computes what the
pixels' queries say about the tokens of the class name. So images are the same, bit for bit, with
and without recording, whatever processor a pipeline came with. Only the text-conditioned half of
the batch is looked at. When the recording ends, also with an error, the processors are as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from sas_ros.errors import SasError
from sas_training.capability.aggregation import RULES, Aggregator


class Recording:
    """What is recorded of one call of a pipeline.

    Args:
        images: B, made in the call.
        tokens: positions of the class name's tokens in the prompt.
        rules: of aggregation.

    Attributes:
        maps: the sums.
        passes: of the network, so far.
    """

    def __init__(self, images: int, tokens: Sequence[int], rules: Sequence[str] = RULES) -> None:
        if images < 1 or not tokens:
            raise SasError("Recording needs an image and a token at least.")
        self.images, self.tokens = images, tuple(tokens)
        self.maps = Aggregator(rules)
        self.passes = 0
        self.latent: tuple[int, int] = (0, 0)

    def begin_pass(self, sample: torch.Tensor) -> None:
        """Told of every pass of the network, before its layers; `sample (n, c, h, w)`."""
        self.passes += 1
        self.latent = (int(sample.shape[-2]), int(sample.shape[-1]))

    def add(
        self, layer: Any, pixels: torch.Tensor, text: torch.Tensor, mask: Any, middle: bool
    ) -> None:
        """Told of every cross-attention, with its inputs.

        Args:
            layer: `diffusers.models.attention_processor.Attention`.
            pixels: (n, h w, c) with n = B, or 2 B, the text-conditioned half last.
            text: (n, L, e) embeddings of the prompt's tokens.
            mask: of attention, or None.
            middle: of the middle block.
        """
        if mask is not None:
            raise SasError("Pipelines that mask their prompt's tokens cannot be recorded.")
        if pixels.ndim != 3 or len(pixels) not in (self.images, 2 * self.images):
            raise SasError(
                f"A layer of the network got {tuple(pixels.shape)} for {self.images} images; known "
                "are networks that get each image once, or without and with its prompt."
            )
        if self.tokens[-1] >= text.shape[1]:
            raise SasError(
                f"The network sees {text.shape[1]} tokens, the class name ends at number "
                f"{self.tokens[-1] + 1}."
            )
        factor, height, width = _grid(self.latent, int(pixels.shape[1]))
        found = token_attention(layer, pixels[-self.images :], text[-self.images :], self.tokens)
        self.maps.add(found.unflatten(2, (height, width)), factor, middle=middle)

    def check(self, steps: int) -> None:
        """Raise `SasError` unless there was exactly one pass for each of `steps` steps.

        More would be passes without the prompt on their own, which cannot be told apart.
        """
        if self.passes != steps:
            raise SasError(
                f"The pipeline ran its network {self.passes} times in {steps} steps; recording "
                "needs one pass a step, with the prompt in the last half of the batch."
            )


@torch.no_grad()
def token_attention(
    layer: Any, pixels: torch.Tensor, text: torch.Tensor, tokens: Sequence[int]
) -> torch.Tensor:
    """Softmaxed attention of pixels to some tokens, mean over the heads: (B, T, h w) float32.

    The softmax goes over all tokens of the text, as in the layer itself; computed from its own
    projections.

    Args:
        layer: `diffusers.models.attention_processor.Attention`.
        pixels: (B, h w, c), the layer's input.
        text: (B, L, e), the text's.
        tokens: T positions.
    """
    if layer.norm_cross:
        text = layer.norm_encoder_hidden_states(text)
    query, key = layer.to_q(pixels), layer.to_k(text)
    query, key = (one.unflatten(2, (layer.heads, -1)).transpose(1, 2) for one in (query, key))
    if layer.norm_q is not None:
        query = layer.norm_q(query)
    if layer.norm_k is not None:
        key = layer.norm_k(key)
    # Products of half-precision features may be too large for half precision.
    logits = query.float() @ key.float().transpose(-1, -2) * layer.scale
    chosen = logits[..., list(tokens)]
    shares = torch.exp(chosen - torch.logsumexp(logits, dim=-1, keepdim=True))
    return shares.mean(dim=1).transpose(1, 2)


def _grid(latent: tuple[int, int], places: int) -> tuple[int, int, int]:
    """Factor, height and width of a layer with so many places for a latent image of a size.

    Every halving rounds up, as a convolution of stride 2 with padding does.
    """
    (height, width), factor = latent, 1
    while height * width > places and max(height, width) > 1:
        height, width, factor = -(-height // 2), -(-width // 2), 2 * factor
    if height * width != places:
        raise SasError(
            f"A layer with {places} places does not belong to a latent image of {latent[0]} x "
            f"{latent[1]}."
        )
    return factor, height, width


class _Beside:
    """A processor that lets the layer's own do the work, and shows its inputs to the recording."""

    def __init__(self, own: Any, recording: Recording, middle: bool) -> None:
        self.own, self.recording, self.middle = own, recording, middle

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        if encoder_hidden_states is not None:
            self.recording.add(
                attn, hidden_states, encoder_hidden_states, attention_mask, self.middle
            )
        made: torch.Tensor = self.own(
            attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs
        )
        return made


@contextmanager
def recorded(network: Any, recording: Recording) -> Iterator[Recording]:
    """Record the cross-attention of a `UNet2DConditionModel` while the block runs.

    Args:
        network: with `attn_processors` and `set_attn_processor`, as diffusers' U-Nets have them.
        recording: is told.

    Raises:
        SasError: the network has no such interface, no cross-attention, or one of a kind that
            cannot be recorded (with keys added to those of the text).
    """
    layers = cross_layers(network)
    before: Mapping[str, Any] = dict(network.attn_processors)
    beside = {
        name: _Beside(own, recording, "mid_block" in name) if name in layers else own
        for name, own in before.items()
    }
    told = network.register_forward_pre_hook(
        lambda _, given, named: recording.begin_pass(given[0] if given else named["sample"]),
        with_kwargs=True,
    )
    network.set_attn_processor(beside)
    try:
        yield recording
    finally:
        told.remove()
        network.set_attn_processor(dict(before))


def cross_layers(network: Any) -> dict[str, Any]:
    """Cross-attention layers of a network by the name of their processor; see `recorded`."""
    if not hasattr(network, "set_attn_processor") or not hasattr(network, "attn_processors"):
        raise SasError(
            f"A network of the kind {type(network).__name__} has no attention processors that can "
            "be set; recording needs a U-Net of diffusers."
        )
    layers = {}
    for name in network.attn_processors:
        layer = network.get_submodule(name.removesuffix(".processor"))
        if getattr(layer, "is_cross_attention", False):
            layers[name] = layer
        norms = (getattr(layer, name, None) for name in ("group_norm", "spatial_norm"))
        if getattr(layer, "added_kv_proj_dim", None) is not None or (
            name in layers and any(one is not None for one in norms)
        ):
            raise SasError(
                "This network adds keys of its own to those of the text, or normalises inside its "
                "attention, which is not read here; take a pipeline like Stable Diffusion's."
            )
    if not layers:
        raise SasError("This network has no cross-attention to text; nothing can be recorded.")
    return layers
