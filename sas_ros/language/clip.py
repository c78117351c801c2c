"""The text side of CLIP through open_clip, from a weights file that is already on this machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.language.available import OPEN_CLIP_PREFIX, encoder_available

_BATCH = 64


class OpenClipEncoder:
    """Text encoder of an open_clip model, on the CPU; one call at a time per instance (a lock).

    Nothing is downloaded. Checkpoints are read with `weights_only`, so the TorchScript archives
    that OpenAI published have to be saved as a state dict first. Models with OpenAI's weights are
    those whose name ends in "-quickgelu": the plain names compute something else from the same
    file, without any error.

    Args:
        model: name of an open_clip architecture, such as "ViT-B-32".
        weights: its checkpoint, `.safetensors` or a state dict saved by torch.

    Raises `SasError` when open_clip, the model, its tokenizer or the weights are missing or do not
    fit together.
    """

    def __init__(self, model: str, weights: Path | None) -> None:
        name = OPEN_CLIP_PREFIX + model
        why_not = encoder_available(name)
        if why_not is not None:
            raise SasError(why_not)
        if weights is None:
            raise SasError(
                f'The text encoder "{name}" needs its weights as a local file, because nothing is '
                "downloaded; give the path of an open_clip checkpoint (.safetensors)."
            )
        weights = Path(weights)
        if not weights.is_file():
            raise SasError(f'There are no weights for the text encoder "{name}" at {weights}.')
        # A tokenizer from the Hugging Face hub must come from its local cache; see minilm.py.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
        try:
            import open_clip
        except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
            raise SasError(
                f'open_clip is installed but does not work ({error}); the text encoder "{name}" '
                "needs a torchvision that belongs to the installed torch."
            ) from error
        if model not in open_clip.list_models():
            raise SasError(
                f'open_clip has no model "{model}"; its list_models() shows all, '
                'for instance "ViT-B-32".'
            )
        try:
            self._tokenize: Any = open_clip.get_tokenizer(model)
        except Exception as error:  # whatever the tokenizer's own library raises when offline
            raise SasError(
                f'The tokenizer of "{model}" is not on this machine ({_first_line(error)}); use a '
                "model with open_clip's own tokenizer, or fetch it into the Hugging Face cache."
            ) from error
        try:
            network = open_clip.create_model(
                model, pretrained=str(weights), pretrained_text=False, weights_only=True
            )
        except Exception as error:  # unpickling, shapes, keys: each has its own exception
            raise SasError(
                f'The file {weights} does not hold weights of the open_clip model "{model}" '
                f"({_first_line(error)})."
            ) from error
        # Only text is encoded here; the image tower is most of the memory.
        if hasattr(network, "visual"):
            del network.visual
        self._model: Any = network.eval().requires_grad_(False)
        self._name = name
        self._lock = threading.Lock()
        self._dim = int(self._encode_batch(["a"]).shape[1])

    @property
    def name(self) -> str:
        return self._name

    @property
    def dim(self) -> int:
        return self._dim

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return (n, C) float32 unit rows; text beyond the model's context (77 tokens) is cut."""
        result = np.empty((len(texts), self.dim), dtype=np.float32)
        with self._lock:
            for start in range(0, len(texts), _BATCH):
                batch = list(texts[start : start + _BATCH])
                result[start : start + len(batch)] = self._encode_batch(batch)
        return result

    def _encode_batch(self, texts: list[str]) -> npt.NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            unit = self._model.encode_text(self._tokenize(texts), normalize=True)
        return np.asarray(unit.float().numpy(), dtype=np.float32)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
