"""The offline text encoder as the text encoder of a diffusers pipeline.

MiniLM's first layers, frozen, as transformers' BertModel: the standard pipeline takes any model
whose first output are vectors of words. Why not all six layers: in the last one every word knows
the whole sentence. The vectors of its other words differ between classes about as much as a third
of what the class's own word does, in the first five next to nothing, and attention to a word tells
where the thing is only as long as the others do not know of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from sas_ros.errors import SasError
from sas_ros.language.available import MINILM, encoder_available
from sas_ros.language.minilm import _packaged_model


def text_parts(layers: int, words: int) -> tuple[Any, Any]:
    """BertTokenizer and BertModel of `layers` layers, for sentences of at most `words` tokens.

    Raises:
        SasError: the package with the weights is not installed.
    """
    why_not = encoder_available(MINILM)
    if why_not is not None:
        raise SasError(why_not)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = _packaged_model()
    config = BertConfig.from_pretrained(folder, local_files_only=True)
    config.num_hidden_layers = layers
    # The pipeline then hands over which tokens are padding.
    config.use_attention_mask = True
    model: Any = BertModel(config)
    state = load_file(folder / "model.safetensors")
    missing, _ = model.load_state_dict(state, strict=False)
    if any(not key.startswith("pooler.") for key in missing):
        raise SasError(f"The weights in {folder} do not fit all-MiniLM-L6-v2: {missing[0]}.")
    with torch.no_grad():  # which nothing uses, but which a saved model has
        for name, parameter in model.named_parameters():
            if name in missing:
                parameter.zero_()
    tokenizer = BertTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.model_max_length = words
    return tokenizer, model.eval().requires_grad_(False)


class Sentences:
    """Vectors of the words of sentences, as the pipeline would hand them to its U-Net.

    Each sentence is encoded once.
    """

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self._tokenizer, self._model = tokenizer, model
        self._known: dict[str, torch.Tensor] = {}

    def of(self, texts: Sequence[str]) -> torch.Tensor:
        """(len(texts), words, C) float32; raises SasError for a sentence that is too long."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            longest = max(len(ids) for ids in self._tokenizer(new)["input_ids"])
            if longest > self._tokenizer.model_max_length:
                raise SasError(
                    f"A caption has {longest} tokens, but the most are "
                    f"{self._tokenizer.model_max_length}; raise `words`."
                )
            tokens = self._tokenizer(
                new,
                padding="max_length",
                max_length=self._tokenizer.model_max_length,
                return_tensors="pt",
            )
            with torch.no_grad():
                hidden = self._model(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
            self._known.update(zip(new, hidden, strict=True))
        return torch.stack([self._known[text] for text in texts])
