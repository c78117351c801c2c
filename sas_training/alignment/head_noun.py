"""The noun that names what a caption is about: found with word lists and the order of words.

A caption of a part of an image is nearly always a noun phrase and what is said about it: "an old
brown chair sitting next to a table". The finder walks over the first noun phrase, steps over
whatever comes before its noun, and stops where the phrase ends: at a preposition, a clause, a
participle after the noun, a new phrase. The last noun before that is the head. It looks through
"of" where the noun before only counts or points ("a pair of shoes", "the top of a table"). English
only; needs no download.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from sas_training.alignment import lexicon as lex


@dataclass(frozen=True)
class Head:
    """The head noun of a caption: its characters from `start` up to `end`."""

    start: int
    end: int


class Grammar(Protocol):
    """What the replacement of nouns asks of a caption."""

    @property
    def name(self) -> str:
        """What files call it."""
        ...

    def head(self, caption: str) -> Head | None:
        """The head noun, or None where there is none."""
        ...

    def adjectives(self, caption: str) -> tuple[str, ...]:
        """All adjectives of the caption in lower case, in order, each once."""
        ...


_TOKEN = re.compile(
    r"close[ -]up|[^\W_]+(?:['’‐‑-][^\W_]+)*(?:['’](?=\s+\w))?|[,.;:!?()/—–&]", re.IGNORECASE
)
_OPENING = re.compile(
    r"\s*(?:(?:there|here|this|that|it|these|those)(?:['’]s| is| are| was| were)\s+"
    r"|there (?:seems|appears) to be\s+|(?:i|we|you)(?: can)? see\s+"
    r"|what (?:looks|appears|seems)(?: like| to be)\s+)+",
    re.IGNORECASE,
)
_LONGEST = 200
"""Words of a caption that are looked at; what is longer is no caption."""
_LATIN = re.compile(r"[a-zA-ZÀ-ɏ]")


@dataclass(frozen=True)
class _Token:
    """A word in lower case, its place, and what it can be."""

    word: str
    start: int
    end: int
    kind: str


class WordListGrammar:
    """The finder that comes along."""

    name = "word lists 1"

    def head(self, caption: str) -> Head | None:
        """The head noun of the caption's first noun phrase, or None."""
        opening = _OPENING.match(caption)
        tokens = _tokens(caption, opening.end() if opening else 0)[:_LONGEST]
        place = _phrase(tokens, 0)
        return None if place is None else Head(tokens[place[0]].start, tokens[place[1]].end)

    def adjectives(self, caption: str) -> tuple[str, ...]:
        """Words known as adjectives, and words that are both where a noun or adjective follows."""
        tokens = _tokens(caption, 0)
        found = []
        for number, token in enumerate(tokens):
            word = token.word
            hyphenated = token.kind == "ed" and not word.isalpha()
            if (token.kind != "adjective" and not hyphenated) or word in lex.REGIONS:
                continue
            if word not in lex.ALSO_NOUNS or _leads_on(tokens, number):
                found.append(word)
        return tuple(dict.fromkeys(found))


def _tokens(caption: str, start: int) -> list[_Token]:
    return [
        _Token(word := m[0].lower().replace(" ", "-"), m.start(), m.end(), _kind(word))
        for m in _TOKEN.finditer(caption, start)
    ]


def _kind(word: str) -> str:
    """What a word in lower case, or a mark, can be."""
    if not word[0].isalnum():
        return {",": "comma", "&": "and"}.get(word, "stop")
    if word.isdigit() or word in lex.NUMBERS:
        return "number"
    if not _LATIN.search(word):
        return "stop"
    if word.endswith(("'s", "’s", "'", "’")):
        return "owner"
    for kind, words in _LISTS:
        if word in words:
            return kind
    last = re.split(r"[-‐‑]", word)[-1]
    if last != word:
        return _kind_of_hyphenated(word, last)
    if lex.is_adjective(word):
        return "adjective"
    if word in lex.IRREGULAR_PARTICIPLES or (len(word) > 4 and _is_ed(word)):
        return "ed"
    if len(word) > 4 and word.endswith("ing") and word not in lex.ING_NOUNS:
        return "ing"
    if len(word) > 3 and word.endswith("ly") and word not in lex.LY_NOUNS:
        return "adverb"
    return "noun"


# The first list that holds a word decides.
_LISTS = (
    ("noun", lex.PICTURES),
    ("determiner", lex.DETERMINERS - lex.REGIONS),
    ("pronoun", lex.PRONOUNS),
    ("and", frozenset({"and", "or"})),
    ("adverb", lex.ADVERBS),
    ("preposition", lex.PREPOSITIONS - lex.REGIONS),
    ("adjective", lex.REGIONS),
    ("relative", lex.RELATIVES),
)


def _kind_of_hyphenated(word: str, last: str) -> str:
    """Words with hyphens are mostly adjectives: "wall-mounted", "built-in", "flat-screen"."""
    if word in lex.MATERIALS:
        return "noun"
    if _is_ed(last) or last in lex.IRREGULAR_PARTICIPLES:
        return "ed"
    if last in lex.PREPOSITIONS:
        return "adjective"
    if last.endswith("ing") and last not in lex.ING_NOUNS:
        return "adjective"
    pure = last in lex.ADJECTIVES and last not in lex.ALSO_NOUNS
    return "adjective" if pure or last in ("screen", "style", "size", "quality", "like") else "noun"


def _is_ed(word: str) -> bool:
    return word.endswith("ed") and word not in lex.ED_NOUNS and not word.endswith("bed")


def _leads_on(tokens: list[_Token], number: int) -> bool:
    """Whether the phrase goes on with a noun, or a word before one, after this token."""
    for place in range(number + 1, len(tokens)):
        kind = tokens[place].kind
        if kind == "noun":
            return not _is_verb(tokens, place, True)
        if kind not in ("and", "comma", "adverb"):
            before_noun = kind in ("ed", "ing", "number") and _noun_after(tokens, place)
            return kind == "adjective" or before_noun
    return False


def _noun_after(tokens: list[_Token], number: int) -> bool:
    following = tokens[number + 1] if number + 1 < len(tokens) else None
    return following is not None and following.kind in ("noun", "adjective")


def _is_verb(tokens: list[_Token], number: int, after_noun: bool) -> bool:
    """Whether a word is what the noun before it does."""
    if tokens[number].word not in lex.VERBS:
        return False
    # "two tv stands" ends with a noun, "a lamp stands on ..." goes on.
    follows = number + 1 < len(tokens) and tokens[number + 1].kind != "stop"
    return tokens[number].word in _ALWAYS_VERBS or (after_noun and follows)


_ALWAYS_VERBS = frozenset("is are was were be been am has have had does do did".split())


def _phrase(tokens: list[_Token], start: int) -> tuple[int, int] | None:
    """First and last token of the head of the noun phrase that begins at `start`."""
    head, counted, place = None, False, start
    while place < len(tokens):
        token = tokens[place]
        if token.kind == "owner":
            head = None
        elif _is_verb(tokens, place, head is not None):
            break
        elif token.kind == "noun":
            head = place
        elif token.kind == "adjective" and token.word in lex.ALSO_NOUNS:
            if not _leads_on(tokens, place):
                head = place
        elif head is None:
            counted = counted or token.kind in ("determiner", "number")
            if token.kind in ("pronoun", "preposition", "relative", "stop"):
                break
            if token.kind in ("ed", "ing") or token.word == "close":
                place += _particles(tokens, place, start)
        elif not _goes_on(tokens, place, head):
            break
        place += 1
    of = place < len(tokens) and tokens[place].word == "of"
    if of and (counted if head is None else tokens[head].word in lex.LOOKED_THROUGH):
        through = _phrase(tokens, place + 1)
        if through is not None:
            return through
    if head is None:
        return None
    if of and place + 1 < len(tokens):
        if (tokens[head].word, tokens[place + 1].word) in lex.OF_COMPOUNDS:
            return head, place + 1
    if head > start and (tokens[head - 1].word, tokens[head].word) in lex.COMPOUNDS:
        return head - 1, head
    return head, head


def _particles(tokens: list[_Token], place: int, start: int) -> int:
    """How many tokens after a participle before the noun belong to it: "rolled up towel"."""
    following = tokens[place + 1] if place + 1 < len(tokens) else None
    if following is None or following.word not in lex.PARTICLES:
        return 0
    if following.word == "in" and place == start:
        return 0
    return 1 if _noun_after(tokens, place + 1) else 0


def _goes_on(tokens: list[_Token], place: int, head: int) -> bool:
    """Whether a phrase that has a noun already goes on with this token towards another noun."""
    kind, material = tokens[place].kind, tokens[head].word in lex.MATERIALS
    if kind == "ed":  # "a snow covered roof", but "a bed covered in blankets"
        return _noun_after(tokens, place)
    if kind == "ing":  # "a metal folding chair", but "a man riding a horse"
        return material and _noun_after(tokens, place)
    if kind == "adjective":
        return material and _leads_on(tokens, place)
    if kind == "and":  # "a metal and glass table", but "wood and metal"
        return material and _noun_after(tokens, place) and _noun_after(tokens, place + 1)
    return False
