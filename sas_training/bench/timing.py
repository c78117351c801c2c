"""Timing that can be compared: alternating runs, medians."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch


def alternate(jobs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each job over `rounds` rounds in which every job runs once, after one
    round to warm up: what slows the machine for a while slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def compared(seconds: Mapping[str, float]) -> dict[str, float]:
    """The times with `ratio_to_floor` and `speedup` over the alternative; needs `ours_s`,
    `alternative_s` and `floor_s`."""
    ours = seconds["ours_s"]
    return {
        **seconds,
        "ratio_to_floor": ours / seconds["floor_s"],
        "speedup": seconds["alternative_s"] / ours,
    }


def machine() -> dict[str, Any]:
    """What was measured on: processor, the widest instructions that PyTorch uses on it (AVX512,
    AVX2, DEFAULT, …: processors of one name differ by a factor of two there), threads, versions."""
    return {
        "processor": processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def processor_name() -> str:
    """Model name of the CPU where the system tells it (Linux), else the architecture."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()
