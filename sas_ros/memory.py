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

_MOST = 2 * 2**30
_LEAST = 512 * 2**20
_UNKNOWN = 4 * 2**30


def voxel_bytes(config: MinkUNetConfig, value_bytes: int, votes: int = 1) -> int:
    """Bytes each voxel adds to the peak of a pass in numbers of `value_bytes` (4 or 2); with
    several votes their float32 sum exists beside the pass."""
    layer = config.stem + config.planes[7]
    kept = 4 * config.out_channels if votes > 1 else 0
    return MAP_BYTES_PER_VOXEL + value_bytes * (config.out_channels + LIVE_LAYERS * layer) + kept


def pass_bytes(config: MinkUNetConfig, voxels: int, value_bytes: int, votes: int = 1) -> int:
    """Peak bytes of one pass over `voxels` voxels, beside the weights."""
    return PASS_BYTES + voxels * voxel_bytes(config, value_bytes, votes)


def voxels_within(budget: int, config: MinkUNetConfig, value_bytes: int, votes: int = 1) -> int:
    """Voxels whose pass stays within `budget` bytes, at least `SMALLEST_TILE`."""
    return max((budget - PASS_BYTES) // voxel_bytes(config, value_bytes, votes), SMALLEST_TILE)


def default_budget(device: torch.device) -> int:
    """2 GiB, or half of what is free where that is less, at least 0.5 GiB.

    Larger tiles gain nothing; and a budget that followed the free memory further would move the
    borders of tiles, and a few labels with them, from one run to the next.
    """
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


def _free_in_container(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int | None:
    """What the control groups of this process leave it, version 2 or 1; None where they set no
    limit."""
    free = [_free_in(folder) for folder in _groups(root, membership)]
    return min((value for value in free if value is not None), default=None)


def _groups(root: Path, membership: Path) -> list[Path]:
    """The folder of this process's own group and those above it; a container sees one, `root`."""
    folders = [root, root / "memory"]
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, _, controllers_and_path = line.partition(":")
        controllers, _, path = controllers_and_path.partition(":")
        if controllers in ("", "memory"):
            base = root / controllers
            own = Path(path.lstrip("/"))
            folders += [base / part for part in (own, *own.parents)]
    return list(dict.fromkeys(folders))


def _free_in(group: Path) -> int | None:
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            free = int((group / limit).read_text()) - int((group / used).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        # Files that were read lately count as used, and are given up when memory is needed.
        return max(free + _statistic(group / "memory.stat", cache), 0)
    return None


def _statistic(file: Path, name: str) -> int:
    try:
        for line in file.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        pass
    return 0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch or Python says that memory, of the device or not, is used up."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or (
        "can't allocate memory" in text or "not enough memory" in text or "out of memory" in text
    )
