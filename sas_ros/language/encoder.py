"""What turns text into unit vectors: one small protocol, a cache, and loading by name."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.language.available import MINILM, OPEN_CLIP_PREFIX, encoder_available


class TextEncoder(Protocol):
    """Text to unit vectors.

    Attributes:
        name: what a student bundle calls this encoder, such as "minilm-l6-v2".
        dim: width C of the vectors.
    """

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return (n, C) float32 unit rows, one per text; (0, C) for no text."""
        ...


class CachedEncoder:
    """A text encoder that remembers the texts it was asked last; safe for several threads.

    Texts in the cache are answered at once even while another thread is computing new ones.
    """

    def __init__(self, encoder: TextEncoder, capacity: int = 1024) -> None:
        if capacity < 1:
            raise SasError(f"A text cache needs room for at least one text, not {capacity}.")
        self._encoder = encoder
        self._capacity = capacity
        self._entries: OrderedDict[str, npt.NDArray[np.float32]] = OrderedDict()
        self._entries_lock = threading.Lock()
        self._encoder_lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._encoder.name

    @property
    def dim(self) -> int:
        return self._encoder.dim

    def peek(self, text: str) -> npt.NDArray[np.float32] | None:
        """Return the (C,) embedding of `text` when it is known already, else None; never waits."""
        with self._entries_lock:
            vector = self._entries.get(text)
            if vector is not None:
                self._entries.move_to_end(text)
            return vector

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return (n, C) float32 unit rows; only texts not in the cache are computed."""
        rows = {text: self.peek(text) for text in texts}
        missing = [text for text, row in rows.items() if row is None]
        if missing:
            with self._encoder_lock:
                # Another thread may have computed some of them while this one waited.
                fresh = [text for text in missing if self.peek(text) is None]
                if fresh:
                    self._remember(fresh, self._encoder.encode(fresh), rows)
            for text in missing:
                if rows[text] is None:
                    rows[text] = self.peek(text)
            lost = [text for text, row in rows.items() if row is None]
            if lost:  # evicted again at once: more new texts in flight than the cache holds
                with self._encoder_lock:
                    self._remember(lost, self._encoder.encode(lost), rows)
        result = np.empty((len(texts), self.dim), dtype=np.float32)
        for position, text in enumerate(texts):
            result[position] = rows[text]
        return result

    def _remember(
        self,
        texts: Sequence[str],
        vectors: npt.NDArray[np.float32],
        rows: dict[str, npt.NDArray[np.float32] | None],
    ) -> None:
        with self._entries_lock:
            for text, vector in zip(texts, vectors, strict=True):
                row = np.array(vector, dtype=np.float32)
                row.setflags(write=False)
                rows[text] = row
                self._entries[text] = row
                self._entries.move_to_end(text)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)


def load_encoder(name: str, *, weights: Path | None = None) -> CachedEncoder:
    """Load the text encoder `name` with a cache around it; nothing is ever downloaded.

    Args:
        name: "minilm-l6-v2" or "open_clip:MODEL".
        weights: local weights file; open_clip needs one, MiniLM has its own in its package.

    Raises `SasError` with a sentence when a package or the weights are missing.
    """
    why_not = encoder_available(name)
    if why_not is not None:
        raise SasError(why_not)
    encoder: TextEncoder
    if name == MINILM:
        from sas_ros.language.minilm import MiniLmEncoder

        encoder = MiniLmEncoder(weights)
    else:
        from sas_ros.language.clip import OpenClipEncoder

        encoder = OpenClipEncoder(name.removeprefix(OPEN_CLIP_PREFIX), weights)
    return CachedEncoder(encoder)


def check_encoder(bundle_encoder: str, bundle_dim: int, encoder: TextEncoder) -> None:
    """Raise `SasError` unless `encoder` is the one whose space the student's features live in.

    Args:
        bundle_encoder: `text_encoder` of the student bundle.
        bundle_dim: `feature_dim` of the student bundle.
    """
    if encoder.name != bundle_encoder:
        raise SasError(
            f'The student was trained with the text encoder "{bundle_encoder}", but '
            f'"{encoder.name}" was given; their vectors cannot be compared, so load '
            f'"{bundle_encoder}" or another student.'
        )
    if encoder.dim != bundle_dim:
        raise SasError(
            f'The text encoder "{encoder.name}" gives {encoder.dim} numbers per text, but the '
            f"student's features have {bundle_dim}; the weights belong to different models."
        )
