"""`sas bench attention`: what recording cross-attention costs while images are made."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from sas_ros.errors import SasError
from sas_training.bench.timing import machine
from sas_training.capability.attention import Recording, recorded
from sas_training.capability.pipelines import diffusers_library

TOKENS = (5, 6)
"""Of the prompt: a class name of two words."""
PROMPT_TOKENS = 77

NETWORKS: dict[str, dict[str, Any]] = {
    # The published size of Stable Diffusion 1.5: 860 M parameters, 64 x 64 for images of 512.
    "sd15": {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
    },
    "tiny": {
        "sample_size": 16,
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D",) * 2,
        "up_block_types": ("CrossAttnUpBlock2D",) * 2,
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": 16,
        "norm_num_groups": 4,
    },
}


def bench_attention(network: str, images: int, rounds: int, device: str = "cpu") -> dict[str, Any]:
    """Time passes of a random U-Net with guidance, alternately plain and recorded.

    A pipeline also encodes text and decodes images, so that its own overhead is smaller. One pass
    of each kind warms up. Both must give the same numbers.

    Args:
        network: one of `NETWORKS`, float32 on a CPU, float16 on a GPU.
        images: in a batch; the network sees each with and without its prompt.
        rounds: timed passes of each kind.
        device: "cpu" or "cuda".

    Returns:
        `plain_s` and `recorded_s`, medians; `plain_cpu_s` and `recorded_cpu_s`, the processor's
        time, which other work on the machine hardly changes; `overhead`, the median over rounds of
        their ratio less 1 (of the processor's time on a CPU); `plain_gflop` and `arithmetic`, the
        share by which recording adds to it, counted and not measured; `layers` recorded, `kept_mib`
        (what the sums take, whatever the number of steps), `peak_growth_mib` (by which recording
        raised the highest memory in use), and what `timing.machine` tells.

    Raises:
        SasError: no such network, or diffusers is missing.
    """
    if network not in NETWORKS:
        raise SasError(f"{network!r} is no network to measure; known are {', '.join(NETWORKS)}.")
    plain_flop, recorded_flop = count_flop(network, images)
    unet, given = _network(network, images, device)
    recording = Recording(images, TOKENS)

    def plain() -> torch.Tensor:
        return _pass(unet, given)

    def seen() -> torch.Tensor:
        with recorded(unet, recording):
            return _pass(unet, given)

    before = _timed(plain, device)[2]
    high = _highest(device)
    after = _timed(seen, device)[2]
    growth = _highest(device) - high
    if not torch.equal(before, after):
        raise SasError("Recording changed what the network computes.")
    times = np.array([[_timed(job, device)[:2] for job in (plain, seen)] for _ in range(rounds)])
    which = 1 if device == "cpu" else 0
    middle = np.median(times, axis=0)
    return {
        "overhead": float(np.median(times[:, 1, which] / times[:, 0, which]) - 1),
        "plain_s": float(middle[0, 0]),
        "recorded_s": float(middle[1, 0]),
        "plain_cpu_s": float(middle[0, 1]),
        "recorded_cpu_s": float(middle[1, 1]),
        "plain_gflop": plain_flop / 1e9,
        "arithmetic": recorded_flop / plain_flop - 1,
        "kept_mib": recording.maps.bytes / 2**20,
        "peak_growth_mib": growth / 2**20,
        "network": network,
        "parameters": sum(one.numel() for one in unet.parameters()),
        "layers": len([name for name in unet.attn_processors if "attn2" in name]),
        "images": images,
        "rounds": rounds,
        "device": device,
        **machine(),
    }


def count_flop(network: str, images: int) -> tuple[int, int]:
    """Floating-point operations of matrix products and convolutions in one pass, plain and
    recorded; nothing is computed."""
    from torch.utils.flop_counter import FlopCounterMode

    library = diffusers_library()
    side, width = (NETWORKS[network][key] for key in ("sample_size", "cross_attention_dim"))
    found = []
    with torch.device("meta"), torch.inference_mode():
        unet = library.UNet2DConditionModel(**NETWORKS[network]).eval()
        sample = torch.empty(2 * images, 4, side, side)
        text = torch.empty(2 * images, PROMPT_TOKENS, width)
        for around in (nullcontext(), recorded(unet, Recording(images, TOKENS))):
            with around, FlopCounterMode(display=False) as counter:
                unet(sample, torch.empty(()), text)
            found.append(int(counter.get_total_flops()))
    return found[0], found[1]


def _network(name: str, images: int, device: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """A network with random weights, and inputs for a batch with guidance."""
    library = diffusers_library()
    made = torch.Generator(device).manual_seed(0)
    with torch.device("meta"):
        unet = library.UNet2DConditionModel(**NETWORKS[name])
    unet = unet.to_empty(device=device).eval().requires_grad_(False)
    for one in unet.parameters():
        one.uniform_(-0.02, 0.02, generator=made)
    kind = torch.float16 if device == "cuda" else torch.float32
    unet = unet.half() if device == "cuda" else unet
    side, width = NETWORKS[name]["sample_size"], NETWORKS[name]["cross_attention_dim"]
    shapes = {
        "sample": (2 * images, 4, side, side),
        "encoder_hidden_states": (2 * images, PROMPT_TOKENS, width),
    }
    given = {
        key: torch.randn(shape, generator=made, device=device).to(kind)
        for key, shape in shapes.items()
    }
    return unet, {**given, "timestep": torch.tensor(500, device=device)}


@torch.inference_mode()
def _pass(unet: Any, given: dict[str, torch.Tensor]) -> torch.Tensor:
    made: torch.Tensor = unet(**given).sample
    return made


def _timed(job: Callable[[], torch.Tensor], device: str) -> tuple[float, float, torch.Tensor]:
    """Seconds by the clock and of the processor, and the result."""
    if device == "cuda":
        torch.cuda.synchronize()
    wall, own = time.perf_counter(), time.process_time()
    result = job()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - own, result


def _highest(device: str) -> int:
    """Bytes of memory that were in use at most so far."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024
