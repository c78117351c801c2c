"""A text encoder for tests: random but fixed unit vectors, no weights, no packages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class HashEncoder:
    """Each text gets the unit vector its hash seeds; the same text always the same one."""

    def __init__(self, dim: int = 16, name: str = "hash") -> None:
        self.name, self.dim = name, dim

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = np.empty((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
            row[:] = np.random.default_rng(seed).normal(size=self.dim)
            row /= np.linalg.norm(row)
        return rows
