"""Names and shapes of the 730 tensors of LSeg's demo checkpoint, in the file's order.

The order is part of the golden values: the numbers a tensor is filled with depend on its place.
"""

from __future__ import annotations

from collections.abc import Iterator

Entry = tuple[str, tuple[int, ...]]


def lseg_tensors() -> list[Entry]:
    """(name, shape) of each tensor, names with the prefix `net.`."""
    return [(f"net.{name}", shape) for name, shape in (*_clip(), *_vit(), *_taps(), *_scratch())]


def used_for_features(name: str) -> bool:
    """Whether pixel features depend on the tensor."""
    parts = name.removeprefix("net.")
    unused = ("clip_pretrained.", "pretrained.model.norm.", "pretrained.model.head.")
    return not (
        parts.startswith((*unused, "scratch.refinenet4.resConfUnit1."))
        or parts.endswith("num_batches_tracked")
    )


def _clip() -> Iterator[Entry]:
    yield from ((f"clip_pretrained.{name}", shape) for name, shape in _clip_names())


def _clip_names() -> Iterator[Entry]:
    yield from (("positional_embedding", (77, 512)), ("text_projection", (512, 512)))
    yield from (("logit_scale", ()), ("visual.class_embedding", (768,)))
    yield from (("visual.positional_embedding", (50, 768)), ("visual.proj", (768, 512)))
    yield ("visual.conv1.weight", (768, 3, 32, 32))
    yield from _both("visual.ln_pre", (768,), 768)
    yield from _clip_blocks("visual.transformer", 768)
    yield from _both("visual.ln_post", (768,), 768)
    yield from _clip_blocks("transformer", 512)
    yield ("token_embedding.weight", (49408, 512))
    yield from _both("ln_final", (512,), 512)


def _clip_blocks(name: str, width: int) -> Iterator[Entry]:
    for number in range(12):
        block = f"{name}.resblocks.{number}"
        yield (f"{block}.attn.in_proj_weight", (3 * width, width))
        yield (f"{block}.attn.in_proj_bias", (3 * width,))
        yield from _both(f"{block}.attn.out_proj", (width, width), width)
        yield from _both(f"{block}.ln_1", (width,), width)
        yield from _both(f"{block}.mlp.c_fc", (4 * width, width), 4 * width)
        yield from _both(f"{block}.mlp.c_proj", (width, 4 * width), width)
        yield from _both(f"{block}.ln_2", (width,), width)


def _vit() -> Iterator[Entry]:
    name = "pretrained.model"
    yield from ((f"{name}.cls_token", (1, 1, 1024)), (f"{name}.pos_embed", (1, 577, 1024)))
    yield from _both(f"{name}.patch_embed.proj", (1024, 3, 16, 16), 1024)
    for number in range(24):
        block = f"{name}.blocks.{number}"
        yield from _both(f"{block}.norm1", (1024,), 1024)
        yield from _both(f"{block}.attn.qkv", (3072, 1024), 3072)
        yield from _both(f"{block}.attn.proj", (1024, 1024), 1024)
        yield from _both(f"{block}.norm2", (1024,), 1024)
        yield from _both(f"{block}.mlp.fc1", (4096, 1024), 4096)
        yield from _both(f"{block}.mlp.fc2", (1024, 4096), 1024)
    yield from _both(f"{name}.norm", (1024,), 1024)
    yield from _both(f"{name}.head", (1000, 1024), 1000)


def _taps() -> Iterator[Entry]:
    for number, (channels, kernel) in enumerate(((256, 4), (512, 2), (1024, 0), (1024, 3)), 1):
        name = f"pretrained.act_postprocess{number}"
        yield from _both(f"{name}.0.project.0", (1024, 2048), 1024)
        yield from _both(f"{name}.3", (channels, 1024, 1, 1), channels)
        if kernel:
            yield from _both(f"{name}.4", (channels, channels, kernel, kernel), channels)


def _scratch() -> Iterator[Entry]:
    for number, channels in enumerate((256, 512, 1024, 1024), 1):
        yield (f"scratch.layer{number}_rn.weight", (256, channels, 3, 3))
    for number in range(1, 5):
        fusion = f"scratch.refinenet{number}"
        yield from _both(f"{fusion}.out_conv", (256, 256, 1, 1), 256)
        for unit in (f"{fusion}.resConfUnit1", f"{fusion}.resConfUnit2"):
            yield from ((f"{unit}.conv{n}.weight", (256, 256, 3, 3)) for n in (1, 2))
            for norm in (f"{unit}.bn1", f"{unit}.bn2"):
                for part in ("weight", "bias", "running_mean", "running_var"):
                    yield (f"{norm}.{part}", (256,))
                yield (f"{norm}.num_batches_tracked", ())
    yield from _both("scratch.head1", (512, 256, 1, 1), 512)


def _both(name: str, weight: tuple[int, ...], bias: int) -> Iterator[Entry]:
    yield (f"{name}.weight", weight)
    yield (f"{name}.bias", (bias,))
