"""The three rules for sentences side by side, on captions whose labels are known."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.errors import SasError
from sas_ros.language.encoder import TextEncoder
from sas_ros.language.prompts import apply_prompt, normalise_text, text_key
from sas_training.alignment.head_noun import Grammar
from sas_training.alignment.sentences import MODES, Sentence, label_text, sentence_of


@dataclass(frozen=True)
class CaptionLine:
    """A mask as words: what the captioner said, what the teacher, and what it really is ("" where
    nobody knows)."""

    caption: str
    label: str
    truth: str = ""


def read_captions(path: Path) -> list[CaptionLine]:
    """Read a list of captions (`.csv`, docs/formats.md): caption, label and, if known, class.

    Raises:
        SasError: no such file, not UTF-8, another first line, or a line with a wrong number of
            entries or without a label (numbered).
    """
    path = Path(path)
    if not path.is_file():
        raise SasError(f"There is no list of captions at {path}.")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SasError(f"{path} is no UTF-8 text of comma separated values ({error}).") from error
    header = [name.strip() for name in rows[0]] if rows else []
    if header not in (["caption", "label"], ["caption", "label", "class"]):
        raise SasError(f"The first line of {path} must be caption,label or caption,label,class.")
    lines = []
    for number, row in enumerate(rows[1:], 2):
        if not row or row[0].startswith("#"):
            continue
        if len(row) != len(header) or not row[1].strip():
            raise SasError(
                f"Line {number} of {path} must have {len(header)} entries and a label, as in "
                '"a wooden bench",table; a caption with a comma stands in double quotes.'
            )
        lines.append(CaptionLine(*(normalise_text(entry) for entry in row)))
    if not lines:
        raise SasError(f"{path} holds no captions.")
    return lines


def compare(
    lines: Sequence[CaptionLine],
    grammar: Grammar,
    prompt: str,
    encoder: TextEncoder | None = None,
    words: Sequence[str] = (),
) -> dict[str, Any]:
    """What each rule makes of the lines, as plain JSON.

    Per rule: `sentences`, `distinct` (so many have to be encoded), `by_rule` (how many the rule
    made itself, and what it fell back to). With an encoder also `cosine_to_label`: mean cosine of a
    sentence to that of the label alone, so how far the caption moves it. With `words` also
    `nearest`, the nearest of them per line, and `right`: the share of lines with a class whose
    nearest word is that class (null without any).

    Raises:
        SasError: a class that is none of the words.
    """
    keys = [text_key(word) for word in words]
    strange = [
        one.truth for one in lines if words and one.truth and text_key(one.truth) not in keys
    ]
    if strange:
        raise SasError(f"The class {strange[0]!r} of the captions is none of the words.")
    targets = None
    if encoder is not None and words:
        targets = encoder.encode([apply_prompt(prompt, word) for word in words])
    result: dict[str, Any] = {}
    for mode in MODES:
        made = [sentence_of(mode, one.caption, one.label, grammar, prompt) for one in lines]
        result[mode] = _figures(made)
        if encoder is None:
            continue
        rows = encoder.encode([one.text for one in made])
        plain = encoder.encode([apply_prompt(prompt, label_text(one.label)) for one in lines])
        result[mode]["cosine_to_label"] = float((rows * plain).sum(axis=1).mean())
        if targets is not None:
            nearest = (rows @ targets.T).argmax(axis=1)
            known = [n for n, one in enumerate(lines) if one.truth]
            hits = [keys[nearest[n]] == text_key(lines[n].truth) for n in known]
            result[mode]["nearest"] = [words[number] for number in nearest]
            result[mode]["right"] = float(np.mean(hits)) if hits else None
    return result


def _figures(made: Sequence[Sentence]) -> dict[str, Any]:
    texts = [one.text for one in made]
    counts = {rule: sum(one.rule == rule for one in made) for rule in MODES}
    return {"sentences": texts, "distinct": len(set(texts)), "by_rule": counts}
