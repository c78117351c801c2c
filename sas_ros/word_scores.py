"""What of a query does not depend on its text: every element against every word, once per scene.

An element's share in a softmax over scaled cosines is the same whatever is subtracted from all of
them. So with `peak` the element's largest cosine with a word, kept are

    E_c = exp(s (cos(f, word c) - peak))    and    T = sum_c E_c,    1 <= T <= K

and a query that stands for the words A and for itself, with the cosine q, has the probability

    p = (sum_A E_c h + exp(s (q - top))) / (T h + exp(s (q - top))),
    top = max(peak, q),    h = exp(s (peak - top))

in which nothing can overflow at any temperature and the denominator is at least 1. A query is one
product of the features with its own embedding, and none at all when it is a word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.observation import ElementLabels, SceneFeatures
from sas_ros.sparse.parallel import for_each

Float32Array = npt.NDArray[np.float32]

_FEW = 4
"""Up to so many texts, reading the features once for each is quicker than one product on a CPU."""

_SURE = 80.0
"""An exponent of float32 that leaves all words together, K <= 65535, below rounding."""

_WORTH_THREADS = 4_000_000
"""Below so many numbers a second thread takes longer to wake than it saves."""

_DOT_BLOCK = 4096
"""Rows that a thread multiplies at a time: few enough that all threads end together."""

_BLOCK = 512
"""Rows of half precision that are made float32 at a time: they stay in a core's cache."""

_dot_rows: Callable[[Float32Array, Float32Array], Float32Array] = getattr(
    np, "vecdot", partial(np.einsum, "ij,j->i")
)
"""(n, C), (C,) -> (n,) in one thread: `vecdot` came with NumPy 2 and is a little quicker."""


@dataclass(frozen=True, eq=False)
class WordScores:
    """Elements against the words of a vocabulary; immutable, shared between threads.

    The features stay on their device. What is kept of the words lies in main memory, (K + 3) M
    float32 and M int64: for 20 words and 384 numbers per element 7 % of float32 features. NumPy
    computes with it: PyTorch's threads would wait for a busy core in each of a dozen small steps.

    Attributes:
        features: (M, C) unit rows, as in `SceneFeatures`.
        vocabulary: K words.
        temperature: scale s of the cosines.
        exponentials: (K, M) float32, E above.
        total: (M,) float32, T above.
        peak: (M,) float32, the largest cosine with a word.
        labels: the most probable word of each element; its probability is 1 / T.
    """

    features: torch.Tensor
    vocabulary: Vocabulary
    temperature: float
    exponentials: Float32Array
    total: Float32Array
    peak: Float32Array
    labels: ElementLabels

    def probability(
        self, same: npt.NDArray[np.bool_], mine: Float32Array, others: Float32Array
    ) -> Float32Array:
        """Return (M,) float32: the share of one side in the softmax over everything.

        Args:
            same: (K,) words on that side; all other words are on the other side.
            mine: (a, C) unit embeddings of further texts on that side.
            others: (b, C) unit embeddings of further texts on the other side. A word of the
                vocabulary may be among them: it counts again.
        """
        repeated = [self._word(row) for row in others]
        new = np.array([word is None for word in repeated], dtype=np.bool_)
        on_side = [int(word) for word in np.flatnonzero(same)]
        again = [word for word in repeated if word is not None]
        texts = np.concatenate([mine, others[new]])
        cosine_of = _cosines_by_block(self.features, texts)
        result = np.empty(len(self.total), dtype=np.float32)

        def run(start: int) -> None:
            block = slice(start, start + _DOT_BLOCK)
            side = self._sum(on_side, block)
            whole = self._sum(again, block)
            whole += self.total[block]
            if len(texts):
                self._add_texts(side, whole, cosine_of(block), len(mine), block)
            side /= whole
            np.minimum(side, np.float32(1), out=result[block])

        starts = range(0, len(self.total), _DOT_BLOCK)
        if self.features.numel() < _WORTH_THREADS:
            for start in starts:
                run(start)
        else:
            for_each(starts, run)
        return result

    def _add_texts(
        self,
        side: Float32Array,
        whole: Float32Array,
        scaled: Float32Array,
        mine: int,
        block: slice,
    ) -> None:
        """Add the exponentials of further texts, of which `scaled` (t, n) are the cosines and the
        first `mine` are on the side, to both sums (n,); all in place."""
        peak = self.peak[block]
        if len(scaled) == mine:
            # No second text whose ratio to this one would matter: it may simply be `_SURE`.
            scaled -= peak
            scaled *= self.temperature
            np.minimum(scaled, _SURE, out=scaled)
        else:
            top = np.maximum(peak, scaled.max(axis=0))
            shrink = np.exp(self.temperature * (peak - top))
            side *= shrink
            whole *= shrink
            scaled -= top
            scaled *= self.temperature
        np.exp(scaled, out=scaled)
        for number, row in enumerate(scaled):
            whole += row
            if number < mine:
                side += row

    def _word(self, row: Float32Array) -> int | None:
        """The word whose embedding is exactly `row`."""
        found = np.flatnonzero((self.vocabulary.embeddings == row).all(axis=1))
        return int(found[0]) if len(found) else None

    def _sum(self, words: list[int], block: slice) -> Float32Array:
        result = np.zeros_like(self.total[block])
        for word in words:
            result += self.exponentials[word, block]
        return result


def word_scores(features: torch.Tensor, vocabulary: Vocabulary, temperature: float) -> WordScores:
    """Compare `features` (M, C), unit rows, with every word: one product on their device.

    Raises `SasError` when features and vocabulary have different widths.
    """
    check_width(features, vocabulary.dim, "the vocabulary")
    scaled = cosines(features, vocabulary.embeddings)
    peak, label = scaled.max(dim=0)
    exponentials = scaled.sub_(peak).mul_(temperature).exp_()
    total = exponentials.sum(dim=0)
    return WordScores(
        features,
        vocabulary,
        temperature,
        _plain(exponentials),
        _plain(total),
        _plain(peak),
        ElementLabels(label=_plain(label), confidence=_plain(total.reciprocal())),
    )


def _plain(values: torch.Tensor) -> npt.NDArray[Any]:
    """The values in main memory, read-only."""
    array = np.asarray(values.cpu().numpy())
    array.setflags(write=False)
    return array


def scene_scores(scene: SceneFeatures, vocabulary: Vocabulary, temperature: float) -> WordScores:
    """`word_scores` of a scene, computed once and kept with the scene until it is asked about
    another vocabulary or temperature."""
    return scene.kept.get(
        "word scores",
        (vocabulary, temperature),
        lambda: word_scores(scene.features, vocabulary, temperature),
    )


def cosines(features: torch.Tensor, texts: Float32Array) -> torch.Tensor:
    """(t, M) float32 on the features' device, of `features` (M, C) with `texts` (t, C).

    On a CPU all sums are float32; on a GPU features in half precision are multiplied in half
    precision. The temperature is applied later, because scaled embeddings would lose digits.
    """
    texts = np.ascontiguousarray(texts, dtype=np.float32)
    columns = torch.tensor(texts).to(device=features.device, dtype=features.dtype)
    if features.device.type != "cpu":
        return (columns @ features.T).float()
    if features.dtype != torch.float32:
        rows = torch.tensor(texts)
        return torch.cat([rows @ block.float().T for block in features.split(_BLOCK)], dim=1)
    return columns @ features.T


def _cosines_by_block(
    features: torch.Tensor, texts: Float32Array
) -> Callable[[slice], Float32Array]:
    """A function that gives the cosines (t, n) of a block of rows with `texts` (t, C), to be
    changed by whoever asks.

    For few texts on a CPU the block is multiplied when it is asked for, so that what follows finds
    its numbers in the cache, and at the speed of memory. BLAS misses that: PyTorch's takes two to
    three times as long, NumPy's far longer where a core is busy.
    """
    texts = np.ascontiguousarray(texts, dtype=np.float32)
    here = features.device.type == "cpu" and features.dtype == torch.float32
    if not here or len(texts) > _FEW:
        whole = cosines(features, texts).cpu().numpy()
        return lambda block: whole[:, block]
    array = features.detach().numpy()
    return lambda block: np.stack([_dot_rows(array[block], text) for text in texts])


def check_width(features: torch.Tensor, width: int, what: str) -> None:
    """Raise `SasError` unless `features` are (M, `width`)."""
    if features.ndim != 2 or features.shape[1] != width:
        raise SasError(
            f"The features have shape {tuple(features.shape)}, but {what} has embeddings of width "
            f"{width}; use the text encoder that the student was trained with."
        )
