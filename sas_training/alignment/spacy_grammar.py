"""Nouns and adjectives by a spaCy model, for those who have one; the rules are those of spaCy's
noun chunks, and the look through "of" is that of the word lists."""

from __future__ import annotations

import importlib
from typing import Any

from sas_ros.errors import SasError
from sas_training.alignment.head_noun import Grammar, Head, WordListGrammar
from sas_training.alignment.lexicon import LOOKED_THROUGH

GRAMMARS = ("word-lists", "spacy:MODEL")


class SpacyGrammar:
    """A grammar of a spaCy pipeline with a tagger and a parser, such as en_core_web_sm.

    Args:
        model: name of an installed package, or the path of a model.

    Raises `SasError` when spaCy or the model is not there.
    """

    def __init__(self, model: str) -> None:
        try:
            spacy: Any = importlib.import_module("spacy")
        except ImportError:
            raise SasError(
                'The grammar "spacy" needs spaCy, which is not installed; the word lists that '
                'come along need nothing: take the grammar "word-lists".'
            ) from None
        try:
            self._parse: Any = spacy.load(model)
        except (OSError, ValueError) as error:
            raise SasError(
                f'spaCy has no model "{model}" on this machine, and nothing is downloaded; '
                'install it, or take the grammar "word-lists".'
            ) from error
        self.name = f"spacy:{model} {self._parse.meta.get('version', '')}".strip()

    def head(self, caption: str) -> Head | None:
        """Root of the first noun chunk whose "of" is not looked through."""
        every = self._parse(caption).noun_chunks
        chunks = [chunk for chunk in every if chunk.root.pos_ in ("NOUN", "PROPN")]
        for number, chunk in enumerate(chunks):
            root = chunk.root
            after = caption[root.idx + len(root.text) :].split()
            through = after[:1] == ["of"] and root.text.lower() in LOOKED_THROUGH
            if not through or number + 1 == len(chunks):
                return Head(root.idx, root.idx + len(root.text))
        return None

    def adjectives(self, caption: str) -> tuple[str, ...]:
        """Words with the tag JJ, as in the released code."""
        found = (token.text.lower() for token in self._parse(caption) if token.tag_ == "JJ")
        return tuple(dict.fromkeys(found))


def load_grammar(name: str) -> Grammar:
    """ "word-lists" or "spacy:MODEL"; raises `SasError` for others and for what is missing."""
    if name == "word-lists":
        return WordListGrammar()
    if name.startswith("spacy:") and name != "spacy:":
        return SpacyGrammar(name.removeprefix("spacy:"))
    raise SasError(f"There is no grammar {name!r}; known are {' and '.join(GRAMMARS)}.")
