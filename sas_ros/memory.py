"""How much memory a network pass takes, how much there is, and how many voxels that makes."""

from __future__ import annotations

from pathlib import Path

import torch

from sas_ros.student.minkunet import MinkUNetConfig

# What one pass of a MinkUNet takes at its peak. Measured on surfaces and on filled blocks of 28,000
# to 100,000 voxels with indoor-tiny and MinkUNet18A, then rounded up; a test holds the engine to
# it.
PASS_BYTES = 256 * 2**20
"""Whatever the size: scratch memory and what allocators keep."""
MAP_BYTES_PER_VOXEL = 3_000
"""Neighbourhoods of all strides."""
LIVE_LAYERS = 4
"""Layers of the first stride whose values exist at the same time, beside the output."""

SMALLEST_TILE = 16**3
"""Voxels of one block, the smallest piece a cloud is cut into."""

_MOST = 4 * 2**30
_LEAST = 512 * 2**20
_UNKNOWN = 4 * 2**30


def voxel_bytes(config: MinkUNetConfig, value_bytes: int) -> int:
    """Bytes each voxel adds to the peak of a pass in numbers of `value_bytes` (4 or 2)."""
    layer = config.stem + config.planes[7]
    return MAP_BYTES_PER_VOXEL + value_bytes * (config.out_channels + LIVE_LAYERS * layer)


def pass_bytes(config: MinkUNetConfig, voxels: int, value_bytes: int) -> int:
    """Peak bytes of one pass over `voxels` voxels, beside the weights."""
    return PASS_BYTES + voxels * voxel_bytes(config, value_bytes)


def voxels_within(budget: int, config: MinkUNetConfig, value_bytes: int) -> int:
    """Voxels whose pass stays within `budget` bytes, at least `SMALLEST_TILE`."""
    return max((budget - PASS_BYTES) // voxel_bytes(config, value_bytes), SMALLEST_TILE)


def default_budget(device: torch.device) -> int:
    """Half of the free memory of a device, within 0.5 to 4 GiB: larger tiles gain nothing."""
    return min(max(free_bytes(device) // 2, _LEAST), _MOST)


def free_bytes(device: torch.device) -> int:
    """Memory that can still be had on a device: of the GPU, or of the machine and its container."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [limit for limit in (_free_in_machine(), _free_in_container()) if limit is not None]
    return min(limits, default=_UNKNOWN)


def _free_in_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _free_in_container(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            return max(int((root / limit).read_text()) - int((root / used).read_text()), 0)
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None
