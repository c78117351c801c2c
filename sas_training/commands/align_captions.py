"""`sas align-captions FILE`: what the three rules of alignment make of captions and labels."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "captions", type=Path, metavar="FILE", help=".csv with caption,label or caption,label,class"
    )
    parser.add_argument(
        "--grammar",
        default="word-lists",
        help="what finds nouns: word-lists, or spacy:MODEL where spaCy is installed",
    )
    parser.add_argument("--prompt", default="a {} in a scene", help="template with one {}")
    parser.add_argument(
        "--encoder", help="text encoder, to compare vectors too: minilm-l6-v2 or open_clip:MODEL"
    )
    parser.add_argument("--encoder-weights", type=Path, help="weights file of the encoder")
    parser.add_argument(
        "--words",
        help="label set, or file with a word per line: which is nearest to each sentence",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    from sas_ros.errors import SasError
    from sas_ros.language.encoder import load_encoder
    from sas_training.alignment.compare import compare, read_captions
    from sas_training.alignment.spacy_grammar import load_grammar
    from sas_training.vocabularies import read_words

    if arguments.words and not arguments.encoder:
        raise SasError("To find the nearest words a text encoder is needed; give --encoder.")
    lines = read_captions(arguments.captions)
    grammar = load_grammar(arguments.grammar)
    words = read_words(arguments.words, arguments.prompt).names if arguments.words else ()
    encoder = None
    if arguments.encoder:
        encoder = load_encoder(arguments.encoder, weights=arguments.encoder_weights)
    rules = compare(lines, grammar, arguments.prompt, encoder, words)
    if arguments.json:
        about = {"captions": len(lines), "grammar": grammar.name, "encoder": arguments.encoder}
        print(json.dumps({**about, "rules": rules}, indent=2, ensure_ascii=False))
        return 0
    for number, line in enumerate(lines):
        print(f"{line.caption or '(no caption)'} + {line.label}")
        for rule, figures in rules.items():
            nearest = f"  [{figures['nearest'][number]}]" if "nearest" in figures else ""
            print(f"  {rule:<10}  {figures['sentences'][number]}{nearest}")
    print(_table(rules, len(lines)))
    return 0


def _table(rules: dict[str, Any], lines: int) -> str:
    rows = [f"\n{lines} captions   distinct  made by noun/adjectives/label  cosine to label  right"]
    for rule, figures in rules.items():
        counts = "/".join(str(count) for count in figures["by_rule"].values())
        cosine = figures.get("cosine_to_label")
        right = figures.get("right")
        rows.append(
            f"{rule:<12} {figures['distinct']:>10}  {counts:>29}  "
            f"{'-' if cosine is None else f'{cosine:.3f}':>15}  "
            f"{'-' if right is None else f'{100 * right:.0f} %':>5}"
        )
    return "\n".join(rows)
