"""Alignment through text: a teacher of masks and words becomes one of features (paper, stage 1)."""

from sas_training.alignment.aligned import AlignedTeacher
from sas_training.alignment.captioners import CaptionedTeacher, Captioner
from sas_training.alignment.head_noun import Grammar, Head, WordListGrammar
from sas_training.alignment.sentences import MODES, Sentence, sentence_of

__all__ = [
    "MODES",
    "AlignedTeacher",
    "CaptionedTeacher",
    "Captioner",
    "Grammar",
    "Head",
    "Sentence",
    "WordListGrammar",
    "sentence_of",
]
