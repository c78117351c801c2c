"""`[fusion]` of `sas learn` and `sas fuse`: every key reaches the fused features, or is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from made_scenes import make_seven_scenes

from sas_ros.errors import SasError
from sas_ros.language.available import MINILM, encoder_available
from sas_ros.language.encoder import load_encoder
from sas_training.capability.table import CapabilityTable
from sas_training.cli import main
from sas_training.fusion.features import PointFeatures
from sas_training.learn.files import LearnFiles, Recording
from sas_training.learn.settings import FusionChoice, LearnSettings, TeacherChoice, load_settings
from sas_training.scenes.kinds import open_scenes
from sas_training.scenes.reading import SceneSettings

Matrix = npt.NDArray[np.float64]
WORDS = ("wall", "picture", "window", "otherfurniture")
MACRO = np.array([[0.9, 0.2, 0.5, 0.3], [0.1, 0.8, 0.6, 0.3]])
MICRO = np.array([[0.2, 0.7, 0.3, 0.3], [0.6, 0.1, 0.9, 0.3]])
TAU = 0.2


def by_hand(
    said: list[PointFeatures], text: Matrix, scores: Matrix, other: str, unit: bool
) -> Matrix:
    """(M, C) features of the points that somebody saw, fused as the released code does it, one
    point after the other."""
    rows = [iter(one.features.astype(np.float64)) for one in said]
    fused = []
    for seen in np.stack([one.mask for one in said], axis=1):
        there = [m for m in range(len(said)) if seen[m]]
        own = [next(rows[m]) for m in there]
        if unit:
            own = [row / np.linalg.norm(row) for row in own]
        named = [int((text @ row).argmax()) for row in own]
        if not there:
            continue
        if len(there) == 1 or WORDS[named[0]] == other:
            fused.append(own[0])
            continue
        confidence = np.array([sum(scores[m, c] for c in named) for m in there])
        weights = np.exp(confidence / confidence.sum() / TAU)
        fused.append(np.asarray(weights @ own / weights.sum()))
    return np.array(fused)


@pytest.mark.skipif(
    encoder_available(MINILM) is not None, reason="the MiniLM text encoder is not installed"
)
def test_the_released_form_of_a_configuration(tmp_path: Path) -> None:
    """From a table with pooled scores, and the user's word for everything else."""
    scenes = tmp_path / "seq-01"
    make_seven_scenes(scenes)
    count = len(open_scenes("7scenes", scenes)[0].points)
    text = load_encoder(MINILM).encode(WORDS).astype(np.float64)
    rng = np.random.default_rng(0)
    said = []
    for name in ("a", "b"):
        mask = rng.random(count) < 0.8
        # Of any length, so that it matters whether they are scaled.
        rows = (
            text[rng.integers(len(WORDS), size=mask.sum())]
            * rng.uniform(0.5, 2, mask.sum())[:, None]
        )
        said.append(PointFeatures(rows.astype(np.float16), mask, name, "seq-01"))
        said[-1].save(tmp_path / name / "seq-01.safetensors")
    CapabilityTable(("a", "b"), WORDS, MACRO, pooled=MICRO).save(tmp_path / "capability.json")
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    teachers = "".join(
        f'[[teachers]]\nname = "precomputed"\ntitle = "{name}"\nweights = "{name}"\n'
        for name in ("a", "b")
    )
    head = f'changes = ["vocabulary.labels={str(tmp_path / "words.txt")!r}"]\n{teachers}[fusion]\n'
    head += f'rule = "released"\ntable = "capability.json"\ntau = {TAU}\n'
    config, run = tmp_path / "learn.toml", tmp_path / "run"
    command = ["fuse", str(scenes), "--kind", "7scenes", "--run", str(run), "--frames", "0"]
    command += ["--config", str(config), "--up", "0,-1,0", "--device", "cpu"]
    micro, other = 'measure = "micro"\n', 'other = "otherfurniture"\n'
    for more, scores, word, unit in (
        (other, MICRO, "otherfurniture", False),
        ('measure = "macro"\n' + other, MACRO, "otherfurniture", False),
        (micro + 'other = ""\n', MICRO, "", False),
        (micro + other + 'normalise = "always"\n', MICRO, "otherfurniture", True),
    ):
        before = set(run.glob("features-*"))
        config.write_text(head + more)
        assert main(command) == 0
        (folder,) = set(run.glob("features-*")) - before
        found = PointFeatures.load(folder / "seq-01.features.safetensors")
        expected = by_hand(said, text, scores, word, unit)
        np.testing.assert_allclose(found.features, expected, rtol=2e-3, atol=2e-3, err_msg=more)
    assert len(list(run.glob("said-*"))) == 2  # the teachers were asked once

    config.write_text(head + 'other = "otherfurnitur"\n')
    assert main(command) == 2
    assert len(list(run.glob("features-*"))) == 4


def files(folder: Path, fusion: FusionChoice, teachers: int = 2) -> LearnFiles:
    choices = tuple(TeacherChoice(name) for name in "abc"[:teachers])
    recording = Recording("7scenes", folder, SceneSettings())
    return LearnFiles.plan(folder / "run", recording, LearnSettings(choices, fusion))


def test_every_key_makes_other_features_and_no_other_answers(tmp_path: Path) -> None:
    plain = FusionChoice()
    changed = [
        plain,
        replace(plain, rule="linear"),
        replace(plain, tau=0.1),
        replace(plain, certainty="lower"),
        replace(plain, measure="micro"),
        replace(plain, other="otherfurniture"),
        replace(plain, other=""),
        replace(plain, normalise="never"),
    ]
    made = [files(tmp_path, one) for one in changed]
    assert len({one.features() for one in made}) == len(changed)
    assert len({(one.said(0, "x"), one.said(1, "x")) for one in made}) == 1


def test_a_word_to_treat_apart_is_one_of_the_recipe(tmp_path: Path) -> None:
    wrong = FusionChoice(other="otherfurnitur")
    with pytest.raises(SasError, match=r"other = 'otherfurnitur' .* none of the recipe's words"):
        files(tmp_path, wrong)
    files(tmp_path, wrong, teachers=1)  # nothing is fused


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('measure = "pooled"', "measure is macro or micro, not 'pooled'"),
        ("measure = 1", "measure must be text"),
        ('normalise = "yes"', "normalise is rule or always or never, not 'yes'"),
        ("normalise = true", "normalise must be text"),
        ("other = 3", "other must be text"),
        ("tau = 0.0", "above 0"),
        ("chunk = 3", "no key 'chunk'"),
    ],
)
def test_wrong_values_are_sentences(tmp_path: Path, text: str, says: str) -> None:
    config = tmp_path / "learn.toml"
    config.write_text(f'[[teachers]]\nname = "a"\n[fusion]\n{text}\n')
    with pytest.raises(SasError, match=says) as error:
        load_settings(config)
    assert f"{config}, table fusion" in str(error.value)
