"""The sentence that stands for a mask: from a caption and the teacher's word for it.

Three rules. `noun` (paper): the noun of the caption is replaced by the teacher's word: "a wooden
bench" and "table" give "a wooden table". `adjectives` (released code): only the caption's
adjectives are kept: "a wooden table in a scene". `label`: the caption is left out: "a table in a
scene". Where a caption has no noun, `noun` falls back to `adjectives`; without adjectives, and
without a caption, all three are the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sas_ros.errors import SasError
from sas_ros.language.prompts import apply_prompt, normalise_text
from sas_training.alignment.head_noun import Grammar

MODES = ("noun", "adjectives", "label")
PROMPT = "a {} in a scene"

_SUFFIXES = re.compile(r"(?:-(?:other|merged|stuff))+$")
_ARTICLE = re.compile(r"\b(an?)(\s+)$", re.IGNORECASE)
_LIKE_A_CONSONANT = re.compile(r"(?:uni|use|usu|ut|eu|one|ur[aeiou])", re.IGNORECASE)
_SILENT_H = re.compile(r"(?:hour|honest|heir)", re.IGNORECASE)


@dataclass(frozen=True)
class Sentence:
    """What is encoded for a mask, and the rule of `MODES` that made it."""

    text: str
    rule: str


def label_text(label: str) -> str:
    """A teacher's label as words: "table-merged" -> "table", "bookcase, shelf" -> "bookcase".

    Suffixes of COCO's panoptic list go, of several names the first stays, underscores are blanks.
    """
    first = normalise_text(label.replace("_", " ")).split(",")[0].split(";")[0].strip()
    return _SUFFIXES.sub("", first) or first


def sentence_of(
    mode: str, caption: str, label: str, grammar: Grammar, prompt: str = PROMPT
) -> Sentence:
    """The sentence for a mask.

    Args:
        mode: one of `MODES`.
        caption: about the part of the image; may be empty.
        label: the teacher's word, as it is in its list.
        grammar: finds nouns and adjectives.
        prompt: template with one `{}` of the rules `adjectives` and `label`; taken literally.

    Raises:
        SasError: an unknown mode, a label without words, or a prompt without one `{}`.
    """
    if mode not in MODES:
        raise SasError(f"{mode!r} is no rule for sentences; known are {', '.join(MODES)}.")
    word = label_text(label)
    if not word:
        raise SasError(f"The label {label!r} has no words.")
    caption = normalise_text(caption)
    if caption and mode == "noun":
        head = grammar.head(caption)
        if head is not None:
            if re.search(rf"\b{re.escape(word)}\s+of\b", caption[: head.start], re.IGNORECASE):
                return Sentence(caption.rstrip(". "), "noun")  # "a picture of a boat" is a picture
            replaced = _replaced(caption, head.start, head.end, word)
            return Sentence(replaced.rstrip(". "), "noun")
    if caption and mode != "label":
        found = grammar.adjectives(caption)
        if found:
            return Sentence(apply_prompt(prompt, f"{' and '.join(found)} {word}"), "adjectives")
    return Sentence(apply_prompt(prompt, word), "label")


def _replaced(caption: str, start: int, end: int, word: str) -> str:
    """The caption with `word` for its characters `start` to `end`; an article before it fits."""
    before, after = caption[:start], caption[end:]
    parts = word.split()
    for count in range(len(parts) - 1, 0, -1):  # "a kitchen" and "kitchen counter"
        repeated = re.search(
            r"\b" + r"\s+".join(map(re.escape, parts[:count])) + r"\s+$", before, re.IGNORECASE
        )
        if repeated:
            before = before[: repeated.start()]
            break
    article = _ARTICLE.search(before)
    if article:
        fitting = "an" if _sounds_like_a_vowel(word) else "a"
        fitting = fitting.capitalize() if article[1][0].isupper() else fitting
        before = before[: article.start()] + fitting + article[2]
    return normalise_text(before + word + after)


def _sounds_like_a_vowel(word: str) -> bool:
    if _SILENT_H.match(word):
        return True
    return word[0].lower() in "aeiou" and not _LIKE_A_CONSONANT.match(word)
