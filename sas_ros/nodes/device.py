"""The worker's own GPU stream, so that queries do not queue up behind the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class OwnStream:
    """Runs a block on a CUDA stream of its own; on the CPU it does nothing.

    Queries run on the default stream of the same device. What the block made is complete when the
    block ends, so any stream may read it then.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # the weights are in place
            self._stream = torch.cuda.Stream(device)

    @contextmanager
    def work(self) -> Iterator[None]:
        """The block; waits for the GPU at its end."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield
            self._stream.synchronize()
