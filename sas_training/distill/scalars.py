"""Curves of a run for TensorBoard, where that is installed (extra `tensorboard`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Scalars:
    """Writes numbers by step; writes nothing where TensorBoard is not installed.

    Args:
        folder: of the event files.
        step: the run goes on after this step: what was written for later ones no longer counts.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._writer: Any = None
        if available():
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def available() -> bool:
    """Whether TensorBoard is installed."""
    return importlib.util.find_spec("tensorboard") is not None
