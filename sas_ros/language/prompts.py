"""Text as the encoders want it: normalised, and set into a prompt template."""

from __future__ import annotations

import re
import unicodedata

from sas_ros.errors import SasError

SLOT = "{}"
_SPACE = re.compile(r"\s+")


def normalise_text(text: str) -> str:
    """Return `text` in Unicode NFC with runs of white space as one blank, and none at the ends."""
    return _SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip()


def text_key(text: str) -> str:
    """The form under which two spellings are the same word: normalised, without letter case."""
    return normalise_text(text).casefold()


def check_prompt(prompt: str) -> None:
    """Raise `SasError` unless `prompt` has exactly one `{}`, the place where the text goes."""
    slots = prompt.count(SLOT)
    if slots != 1:
        raise SasError(
            f"The prompt {prompt!r} has {slots} places for the text; "
            'write exactly one {}, as in "a {} in a scene".'
        )


def apply_prompt(prompt: str, text: str) -> str:
    """Set `text` into `prompt`: `("a {} in a scene", "chair")` gives `"a chair in a scene"`.

    The template is taken literally. "a" stays "a" before a vowel, because the embeddings in a
    bundle were made that way and a query has to be embedded as its competitors were. Braces inside
    `text` have no meaning. Raises `SasError` for a prompt without exactly one `{}`.
    """
    check_prompt(prompt)
    before, after = prompt.split(SLOT)
    return normalise_text(f"{before}{text}{after}")
