"""Which tokens of a prompt are the class name: found by the place of the letters, not by looks.

The pipeline's own tokenizer says which letters every token stands for; those that overlap the class
name's place in the prompt are its tokens. A name of several words has several, and a word that also
occurs elsewhere in the prompt is not taken there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sas_ros.errors import SasError
from sas_ros.language.prompts import SLOT, check_prompt, normalise_text

PROMPTS = {
    "paper": "a good photo of {}",
    "released": "a good photo of a {} in a room",
}
"""Templates by name: the paper's, and the released code's."""


@dataclass(frozen=True)
class Prompt:
    """A class name set into a template.

    Attributes:
        text: what the pipeline gets.
        start, end: letters of the class name in it: text[start:end].
    """

    text: str
    start: int
    end: int


def template_of(name_or_text: str) -> str:
    """A template of `PROMPTS` by name, or the text itself; raises `SasError` without one `{}`."""
    template = PROMPTS.get(name_or_text, name_or_text)
    check_prompt(template)
    return template


def prompt_of(template: str, word: str) -> Prompt:
    """The prompt for a class name; white space is made regular, as for the text encoders.

    Raises:
        SasError: an empty name, or a template without exactly one `{}`.
    """
    check_prompt(template)
    name = normalise_text(word)
    if not name:
        raise SasError("A class without a name cannot be asked for.")
    before, after = template.split(SLOT)
    # A blank at an end of the template's halves is kept, runs of them are not.
    head = normalise_text(before + "|")[:-1]
    text = normalise_text(head + name + after)
    return Prompt(text, len(head), len(head) + len(name))


def class_tokens(tokenizer: Any, prompt: Prompt) -> tuple[int, ...]:
    """Positions of the class name's tokens, special ones counted, as the network sees them.

    Args:
        tokenizer: of transformers, the pipeline's first one; its text encoders are fed with tokens
            at equal positions, so that one answer serves pipelines with two of them.
        prompt: see there.

    Raises:
        SasError: the name is cut off, because the prompt is longer than the network takes, or the
            tokenizer has no token for it.
    """
    positions = _by_offsets(tokenizer, prompt)
    if positions is None:
        positions = _by_length(tokenizer, prompt)
    name = prompt.text[prompt.start : prompt.end]
    if not positions:
        raise SasError(f"The tokenizer of the pipeline has no token for {name!r}.")
    most = int(tokenizer.model_max_length)
    # The last place belongs to the end token.
    if positions[-1] >= most - 1:
        raise SasError(
            f"The prompt {prompt.text!r} is too long: {name!r} begins at token {positions[0]}, and "
            f"the network takes {most}. Shorten the template or the name."
        )
    return positions


def _by_offsets(tokenizer: Any, prompt: Prompt) -> tuple[int, ...] | None:
    """From the letters that each token stands for; None where the tokenizer does not say."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    found = tokenizer(prompt.text, return_offsets_mapping=True)
    special = tokenizer.get_special_tokens_mask(found["input_ids"], already_has_special_tokens=True)
    return tuple(
        place
        for place, (first, last) in enumerate(found["offset_mapping"])
        if first < prompt.end and last > prompt.start and not special[place]
    )


def _by_length(tokenizer: Any, prompt: Prompt) -> tuple[int, ...]:
    """From the number of tokens up to the name's beginning and end.

    Exact where words are split apart before they become tokens, as all CLIP tokenizers do.
    """
    lengths = [
        len(tokenizer(prompt.text[:end].rstrip(), add_special_tokens=False)["input_ids"])
        for end in (prompt.start, prompt.end)
    ]
    all_ids = tokenizer(prompt.text)["input_ids"]
    own = tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
    lead = next((k for k in range(len(all_ids)) if all_ids[k : k + len(own)] == own), 0)
    return tuple(range(lead + lengths[0], lead + lengths[1]))
