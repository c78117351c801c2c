"""What `sas experiment capability` needs, with models that have learned nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from sas_ros.language.available import MINILM
from sas_training.capability.table import CapabilityTable
from sas_training.experiment import making
from sas_training.experiment.capability_files import VOCABULARY
from sas_training.experiment.files import Files
from sas_training.experiment.network import SmallNetwork
from sas_training.experiment.settings import TEACHERS, load_settings
from sas_training.experiment.teachers import TeacherFacts, save_teacher
from sas_training.priors.autoencoder import new_autoencoder
from sas_training.priors.denoiser import new_denoiser
from sas_training.priors.saving import PIPELINE, SEGMENTER, save_pipeline, save_segmenter
from sas_training.priors.segmenter import new_segmenter
from sas_training.priors.settings import load_priors_settings
from sas_training.priors.text import text_parts
from sas_training.scenes.procedural.dataset import write_dataset
from sas_training.scenes.procedural.manifest import WORLD_VERSION


def untrained_ablation(folder: Path, held_out: int, frames: int, points: int) -> Files:
    """An ablation whose configuration is `folder/ablation.toml`: held-out rooms, words, teachers,
    and a table drawn by chance."""
    config = folder / "ablation.toml"
    folder.mkdir(parents=True)
    config.write_text(
        f"teachers_once = true\n[rooms]\nteaching = 1\nstudents = 1\nheld_out = {held_out}\n"
        f"frames = {frames}\npoints = {points}\n[student.vocabulary]\ntext_encoder = '{MINILM}'\n"
    )
    of = load_settings(str(config))
    files = Files(folder, of, of.development)
    write_dataset(files.world("held_out"), held_out, files.world_seed("held_out"), 1, frames)
    for index in range(held_out):
        making.make_cloud_files(files, "held_out", index)
    making.make_word_file(files)
    torch.manual_seed(1)
    for name in TEACHERS:
        kind, outputs = ("masks", len(VOCABULARY)) if name == "objects" else ("pixels", 384)
        facts = TeacherFacts(name, kind, tuple(VOCABULARY), MINILM, 8, 1, outputs)
        save_teacher(files.teacher(name, 1), SmallNetwork(8, outputs).eval(), facts)
    scores = np.random.default_rng(1).random((3, len(VOCABULARY)))
    CapabilityTable(TEACHERS, VOCABULARY, scores, pooled=scores).save(files.capability(1))
    return files


def untrained_priors(folder: Path) -> None:
    """Priors of two classes."""
    about = load_priors_settings("tiny")
    coder = new_autoencoder(about.autoencoder, 32, 1)
    denoiser = new_denoiser(about.denoiser, 4, 16, 384, 2)
    save_pipeline(folder / PIPELINE, coder, denoiser, text_parts(1, 24), about)
    save_segmenter(folder / SEGMENTER, new_segmenter(about.segmenter, 3), about)
    report = {
        "kind": "sas_priors",
        "format_version": 1,
        "world_version": WORLD_VERSION,
        "weights": ["random"],
        "training": {},
        "settings": about.to_dict(),
    }
    (folder / "priors.json").write_text(json.dumps(report))
