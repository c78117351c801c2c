"""Alignment through text: head nouns, sentences, painted masks, and the comparison of rules."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from captions import CAPTIONS, LATER
from colour_teachers import BrightMasks
from encoders import HashEncoder
from hypothesis import given
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_training.alignment import (
    AlignedTeacher,
    CaptionedTeacher,
    WordListGrammar,
    sentence_of,
)
from sas_training.alignment.aligned import winners
from sas_training.alignment.captioners import cut_out, load_captioner
from sas_training.alignment.compare import CaptionLine, compare, read_captions
from sas_training.alignment.sentences import label_text
from sas_training.alignment.spacy_grammar import SpacyGrammar, load_grammar
from sas_training.cli import main
from sas_training.teachers import Description, FrameCache, LabelledMask

GRAMMAR = WordListGrammar()


def head_of(caption: str) -> str | None:
    head = GRAMMAR.head(caption)
    return None if head is None else caption[head.start : head.end]


# Head nouns


@pytest.mark.parametrize(("caption", "noun"), CAPTIONS)
def test_the_head_noun_is_found(caption: str, noun: str | None) -> None:
    assert head_of(caption) == noun


def test_captions_that_the_rules_were_not_made_for() -> None:
    right = sum(head_of(caption) == noun for caption, noun in LATER)
    assert len(CAPTIONS) >= 150
    assert right >= 0.94 * len(LATER)


@given(st.text(max_size=60))
def test_any_text_has_a_head_within_it_or_none(text: str) -> None:
    head = GRAMMAR.head(text)
    if head is not None:
        assert 0 <= head.start < head.end <= len(text)
    assert all(word == word.lower() for word in GRAMMAR.adjectives(text))


@given(st.lists(st.sampled_from(sorted({w for c, _ in CAPTIONS for w in c.split()})), max_size=9))
def test_any_order_of_words_has_a_head_within_it_or_none(words: list[str]) -> None:
    head = head_of(" ".join(words))
    assert head is None or head.strip() == head != ""


def test_endless_captions_have_an_end() -> None:
    assert head_of("a pair of " * 9 + "shoes") == "shoes"
    assert head_of("a pair of " * 9000 + "shoes") == "pair"


@pytest.mark.parametrize(
    ("caption", "adjectives"),
    [
        ("an old brown leather sofa", ("old", "brown")),
        ("a black and white chair with a red cushion", ("black", "white", "red")),
        ("a larger table", ()),  # comparatives have another tag than JJ
        ("an orange lamp", ("orange",)),
        ("an orange", ()),
        ("the top of a wooden table", ("wooden",)),
        ("a wall-mounted, reddish shelf", ("wall-mounted", "reddish")),
        ("a white, white wall", ("white",)),
        (
            "a careful, breakable, famous, headless dish",
            ("careful", "breakable", "famous", "headless"),
        ),
        ("", ()),
    ],
)
def test_adjectives_are_found(caption: str, adjectives: tuple[str, ...]) -> None:
    assert GRAMMAR.adjectives(caption) == adjectives


# Sentences


@pytest.mark.parametrize(
    ("mode", "caption", "label", "text", "rule"),
    [
        ("noun", "a wooden bench", "table", "a wooden table", "noun"),  # the paper's example
        ("noun", "A wooden bench.", "table", "A wooden table", "noun"),
        ("noun", "a bench by the door", "armchair", "an armchair by the door", "noun"),
        ("noun", "An armchair", "bench", "A bench", "noun"),
        ("noun", "an old bench", "umbrella", "an old umbrella", "noun"),
        ("noun", "a chair", "hourglass", "an hourglass", "noun"),
        ("noun", "an oven", "utensil", "a utensil", "noun"),
        ("noun", "a picture of a red bench", "chair", "a picture of a red chair", "noun"),
        ("noun", "a framed picture of a boat", "picture", "a framed picture of a boat", "noun"),
        ("noun", "a kitchen counter", "kitchen counter", "a kitchen counter", "noun"),
        ("noun", "a white chest of drawers", "cabinet", "a white cabinet", "noun"),
        ("noun", "a round dining table", "desk", "a round desk", "noun"),
        ("noun", "a   small\tétagère", "shelf", "a small shelf", "noun"),
        ("noun", "brightly white", "wall-other-merged", "a white wall in a scene", "adjectives"),
        ("noun", "it is", "wall", "a wall in a scene", "label"),
        ("noun", "", "apple", "a apple in a scene", "label"),
        ("adjectives", "a wooden bench", "table-merged", "a wooden table in a scene", "adjectives"),
        ("adjectives", "black and white", "tv", "a black and white tv in a scene", "adjectives"),
        ("adjectives", "a bench", "table", "a table in a scene", "label"),
        ("adjectives", "", "table", "a table in a scene", "label"),
        ("label", "a wooden bench", "table", "a table in a scene", "label"),
    ],
)
def test_sentences(mode: str, caption: str, label: str, text: str, rule: str) -> None:
    made = sentence_of(mode, caption, label, GRAMMAR)
    assert (made.text, made.rule) == (text, rule)


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("wall-other-merged", "wall"),
        ("window-blind", "window-blind"),
        ("food-other-stuff", "food"),
        ("bookcase, shelf;rack", "bookcase"),
        ("dining_table", "dining table"),
        ("-stuff", "-stuff"),
    ],
)
def test_labels_become_words(label: str, text: str) -> None:
    assert label_text(label) == text


def test_sentences_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(SasError, match="'verb' is no rule for sentences; known are noun"):
        sentence_of("verb", "", "table", GRAMMAR)
    with pytest.raises(SasError, match="no words"):
        sentence_of("noun", "", " , ", GRAMMAR)
    with pytest.raises(SasError, match="write exactly one"):
        sentence_of("label", "", "table", GRAMMAR, "no place")


# Painting


def boxes(*given: tuple[int, int, float], width: int = 6) -> list[LabelledMask]:
    """Masks of one row from a first to a last pixel, with scores."""
    masks = []
    for number, (first, last, score) in enumerate(given):
        mask = np.zeros((1, width), bool)
        mask[0, first : last + 1] = True
        masks.append(LabelledMask(mask, f"thing {number}", score))
    return masks


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([(0, 3, 0.5), (2, 4, 0.9)], [0, 0, 1, 1, 1, -1]),  # the higher score
        ([(2, 4, 0.9), (0, 3, 0.5)], [1, 1, 0, 0, 0, -1]),
        ([(0, 4, 0.5), (1, 2, 0.5)], [0, 1, 1, 0, 0, -1]),  # the smaller one
        ([(0, 2, 0.5), (1, 3, 0.5)], [0, 0, 0, 1, -1, -1]),  # the first one
        ([], [-1] * 6),
    ],
)
def test_overlaps_are_settled(given: list[tuple[int, int, float]], wanted: list[int]) -> None:
    assert winners(boxes(*given), 1, 6).tolist() == [wanted]


class Counting(HashEncoder):
    """Counts the texts it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        self.texts += texts
        return super().encode(texts)


class Fixed:
    """A mask teacher that always sees the same, with captions."""

    description = Description("fixed", "none")

    def __init__(self, masks: Sequence[LabelledMask]) -> None:
        self.seen = tuple(masks)

    def masks(self, images: Sequence[Any]) -> list[tuple[LabelledMask, ...]]:
        return [self.seen for _ in images]


def test_each_distinct_sentence_is_encoded_once_and_painted() -> None:
    masks = [
        LabelledMask(one.mask, label, one.score, caption)
        for one, label, caption in zip(
            boxes((0, 1, 0.5), (2, 3, 0.5), (4, 4, 0.5)),
            ("table", "table", "wall"),
            ("a red bench", "a red desk", ""),
            strict=True,
        )
    ]
    encoder = Counting()
    teacher = AlignedTeacher(Fixed(masks), encoder, "noun")
    probes = len(encoder.texts)
    image = np.zeros((1, 6, 3), np.uint8)
    first, second = teacher.features([image, image])
    assert sorted(encoder.texts[probes:]) == ["a red table", "a wall in a scene"]
    wanted = HashEncoder().encode(["a red table", "a wall in a scene"]).astype(np.float16)
    for found in (first, second):
        assert found.features.shape == (16, 1, 6) and found.valid is not None
        assert found.valid.tolist() == [[True] * 5 + [False]]
        rows = found.features[:, 0].T.numpy()
        np.testing.assert_array_equal(rows[:4], np.repeat(wanted[:1], 4, axis=0))
        np.testing.assert_array_equal(rows[4], wanted[1])
        assert not rows[5].any()
    assert (teacher.channels, teacher.text_encoder) == (16, "hash")


def test_an_image_without_masks_is_nowhere_valid() -> None:
    teacher = AlignedTeacher(Fixed([]), HashEncoder(), "label")
    (found,) = teacher.features([np.zeros((2, 3, 3), np.uint8)])
    assert found.valid is not None and not found.valid.any()
    assert found.features.shape == (16, 2, 3)


def test_masks_of_an_aligned_teacher_are_kept(tmp_path: Path) -> None:
    masks, image = BrightMasks(), np.full((4, 6, 3), 200, np.uint8)
    cache = FrameCache(tmp_path)
    first = AlignedTeacher(masks, HashEncoder(), "noun", cache=cache).features([image])[0]
    second = AlignedTeacher(masks, HashEncoder(), "label", cache=cache).features([image])[0]
    assert masks.asked == [1]
    assert torch.equal(first.features, second.features)  # no captions: the rules agree


def test_aligned_teachers_are_told_apart() -> None:
    def about(dim: int = 16, **more: Any) -> str:
        return json.dumps(
            AlignedTeacher(BrightMasks(), HashEncoder(dim), **more).description.to_json()
        )

    every = [about(), about(mode="label"), about(prompt="{}"), about(dim=8)]
    assert len(set(every)) == 4 and about() == every[0]
    with pytest.raises(SasError, match="no rule"):
        about(mode="verb")


# Captions


class Numbers:
    """Says how many pixels a mask has; forgets one caption when told to."""

    description = Description("numbers", "none")

    def __init__(self, forgets: bool = False) -> None:
        self.forgets = forgets

    def captions(self, images: Any, masks: Sequence[Sequence[LabelledMask]]) -> list[list[str]]:
        texts = [[f" {one.mask.sum()}  pixels" for one in each] for each in masks]
        return [each[1:] if self.forgets else each for each in texts]


def test_captions_come_to_their_masks() -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    image[0, 0] = 255
    teacher = CaptionedTeacher(BrightMasks(), Numbers())
    (found,) = teacher.masks([image])
    assert [(one.label, one.caption) for one in found] == [
        ("wall", "4 pixels"),
        ("lamp", "1 pixels"),
    ]
    assert teacher.description.settings["captioner"]["name"] == "numbers"
    with pytest.raises(SasError, match="one caption for each mask"):
        CaptionedTeacher(BrightMasks(), Numbers(forgets=True)).masks([image])


def test_a_mask_is_cut_out_with_what_is_around_it() -> None:
    image = np.arange(300).reshape(10, 10, 3).astype(np.uint8)
    mask = np.zeros((10, 10), bool)
    mask[0:4, 4:8] = True
    np.testing.assert_array_equal(cut_out(image, mask, 0.25), image[0:5, 3:9])
    np.testing.assert_array_equal(cut_out(image, mask, 0.0), image[0:4, 4:8])
    assert cut_out(image, mask, 9.0).shape == image.shape


def test_captioners_by_name() -> None:
    assert load_captioner("none") is None
    with pytest.raises(SasError, match="no captioner 'tap'; known are none, blip"):
        load_captioner("tap")


# spaCy, as far as it can be imitated


class FakeSpacy:
    """The part of spaCy's interface that is used; "the N of ..." has two chunks.

    A package index has spaCy itself, but none of its models, which are fetched from its authors'
    releases: no test asks one of these.
    """

    @staticmethod
    def load(model: str) -> Any:
        if model != "en":
            raise OSError("no such model")

        def parse(text: str) -> Any:
            nouns = [word for word in ("pair", "top", "leg", "shoes", "chair") if word in text]
            chunks = [
                SimpleNamespace(root=SimpleNamespace(text=n, idx=text.index(n), pos_="NOUN"))
                for n in sorted(nouns, key=text.index)
            ]
            tokens = [SimpleNamespace(text="Red", tag_="JJ"), SimpleNamespace(text="x", tag_="NN")]

            class Document(list):  # type: ignore[type-arg]
                noun_chunks = chunks

            return Document(tokens)

        parse.meta = {"version": "3.1"}  # type: ignore[attr-defined]
        return parse


@pytest.mark.parametrize(
    ("caption", "noun"),
    [
        ("a pair of red shoes", "shoes"),
        ("the leg of a chair", "leg"),
        ("the top of", "top"),
        ("a red chair", "chair"),
        ("red", None),
    ],
)
def test_spacy_is_used_where_it_is(
    monkeypatch: pytest.MonkeyPatch, caption: str, noun: str | None
) -> None:
    monkeypatch.setitem(sys.modules, "spacy", FakeSpacy)  # type: ignore[arg-type]
    grammar = load_grammar("spacy:en")
    head = grammar.head(caption)
    assert (None if head is None else caption[head.start : head.end]) == noun
    assert grammar.adjectives(caption) == ("red",)
    assert grammar.name == "spacy:en 3.1"


def test_documents_of_spacy_itself_are_read(tmp_path: Path) -> None:
    """Where spaCy is installed, which set-up does not do: a pipeline with annotations by hand."""
    spacy: Any = pytest.importorskip("spacy")
    known = {
        "a": ("DET", "DT", "det"),
        "pair": ("NOUN", "NN", "ROOT"),
        "of": ("ADP", "IN", "prep"),
        "Red": ("ADJ", "JJ", "amod"),
        "shoes": ("NOUN", "NNS", "pobj"),
    }
    heads = {"a": 1, "pair": 1, "of": 1, "Red": 4, "shoes": 2}

    @spacy.Language.component("by_hand")
    def by_hand(document: Any) -> Any:
        words = [token.text for token in document]
        places, tags, roles = zip(*(known[word] for word in words), strict=True)
        return spacy.tokens.Doc(
            document.vocab,
            words=words,
            spaces=[bool(token.whitespace_) for token in document],
            pos=list(places),
            tags=list(tags),
            deps=list(roles),
            heads=[heads[word] for word in words],
        )

    pipeline = spacy.blank("en")
    pipeline.add_pipe("by_hand")
    pipeline.to_disk(tmp_path / "model")
    grammar = load_grammar(f"spacy:{tmp_path / 'model'}")
    head = grammar.head("a pair of Red shoes")
    assert head is not None and (head.start, head.end) == (14, 19)
    assert grammar.adjectives("a pair of Red shoes") == ("red",)
    with pytest.raises(SasError, match='no model "en_core_web_none" on this machine'):
        load_grammar("spacy:en_core_web_none")


def test_missing_spacy_and_models_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(SasError, match="needs spaCy, which is not installed"):
        SpacyGrammar("en")
    monkeypatch.setitem(sys.modules, "spacy", FakeSpacy)  # type: ignore[arg-type]
    with pytest.raises(SasError, match='no model "de" on this machine'):
        load_grammar("spacy:de")
    with pytest.raises(SasError, match="no grammar 'nltk'"):
        load_grammar("nltk")


# Comparison


LINES = """caption,label,class
a wooden bench,table,table
# a remark
"a small, red sofa",couch,sofa

,wall-other-merged,wall
black and white,tv-merged,
"""


def test_caption_lists_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(LINES)
    assert read_captions(tmp_path / "a.csv") == [
        CaptionLine("a wooden bench", "table", "table"),
        CaptionLine("a small, red sofa", "couch", "sofa"),
        CaptionLine("", "wall-other-merged", "wall"),
        CaptionLine("black and white", "tv-merged", ""),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "first line"),
        (b"text,label\n", "first line"),
        (b"caption,label\n", "holds no captions"),
        (b"caption,label\na,b,c\n", "Line 2"),
        (b"caption,label\na chair\n", "Line 2"),
        (b"caption,label\na chair,\n", "a label"),
        (b'caption,label\n"a,b\n', "comma separated"),
        (b"caption,label\n\xff,b\n", "UTF-8"),
    ],
)
def test_wrong_caption_lists_are_refused(tmp_path: Path, text: bytes, sentence: str) -> None:
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises(SasError, match=sentence):
        read_captions(tmp_path / "a.csv")


def test_rules_are_compared(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(LINES)
    words = ("table", "sofa", "wall")
    found = compare(
        read_captions(tmp_path / "a.csv"), GRAMMAR, "a {} in a scene", HashEncoder(), words
    )
    assert found["noun"]["sentences"] == [
        "a wooden table",
        "a small, red couch",
        "a wall in a scene",
        "a black and white tv in a scene",
    ]
    assert found["noun"]["by_rule"] == {"noun": 2, "adjectives": 1, "label": 1}
    assert found["label"]["by_rule"] == {"noun": 0, "adjectives": 0, "label": 4}
    assert found["label"]["cosine_to_label"] == pytest.approx(1.0)
    assert found["adjectives"]["cosine_to_label"] < 0.9
    assert found["label"]["nearest"][0] == "table" and found["label"]["nearest"][2] == "wall"
    hits = [found["label"]["nearest"][n] == w for n, w in enumerate(words)]
    assert found["label"]["right"] == pytest.approx(np.mean(hits))
    with pytest.raises(SasError, match="'sofa' of the captions is none"):
        compare(read_captions(tmp_path / "a.csv"), GRAMMAR, "{}", HashEncoder(), ("table", "wall"))


def test_the_command_prints_all_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text(LINES)
    assert main(["align-captions", str(tmp_path / "a.csv")]) == 0
    shown = capsys.readouterr().out
    assert "a wooden bench + table" in shown and "noun        a wooden table" in shown
    assert main(["align-captions", str(tmp_path / "a.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["captions"] == 4 and set(found["rules"]) == {"noun", "adjectives", "label"}
    assert main(["align-captions", str(tmp_path / "a.csv"), "--words", "scannet20"]) != 0
    assert "give --encoder" in capsys.readouterr().err
