"""Loading what `configure` needs: student, segmenter, text encoder, first vocabulary."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sas_ros.errors import SasError
from sas_ros.language.available import encoder_available
from sas_ros.language.encoder import CachedEncoder, check_encoder, load_encoder
from sas_ros.language.prompts import apply_prompt
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.services import extend
from sas_ros.nodes.text_worker import TextWorker
from sas_ros.nodes.words import Words, words_for
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.locate import find_student

_OWN_CHOICE = torch.get_num_threads()


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded and warm student with its text side; the text worker is not started yet."""

    bundle: StudentBundle
    segmenter: Segmenter
    text: TextWorker
    words: Words


def load_model(
    parameters: PerceptionParameters, *, last_version: int, tell: Callable[[str], None]
) -> Model:
    """Load and warm up everything; takes seconds.

    Args:
        parameters: student, how it is run, labels and text encoder.
        last_version: version of the vocabulary that was in force before; the new one is later.
        tell: gets sentences for the log.

    Raises:
        SasError: the student, its encoder or a label cannot be used; says why.
    """
    use_threads(student_threads(parameters))
    path = find_student(parameters.student)
    bundle = StudentBundle.load(path)
    segmenter = Segmenter(
        bundle,
        device=parameters.device,
        votes=parameters.votes,
        memory_budget=parameters.memory_budget,
        backend=parameters.backend,
        precision=parameters.precision,
    )
    segmenter.warm_up()
    encoder, why_none = load_text_encoder(bundle, parameters)
    if encoder is None and parameters.text_encoder == "auto":
        tell(f"Known words only: {why_none}")
    text = TextWorker(
        encoder,
        prompt=bundle.prompt,
        capacity=parameters.text_queue,
        known=bundle.vocabulary,
        no_encoder=why_none,
        prepare=lambda: use_threads(1),
    )
    vocabulary = first_vocabulary(bundle, parameters.labels, text, encoder)
    vocabulary = replace(vocabulary, version=max(last_version + 1, vocabulary.version))
    tell(
        f"Student {bundle.name} from {path}, {len(vocabulary)} labels, text encoder "
        f"{text.encoder_name}. Network: {segmenter.engine.description}"
    )
    words = words_for(vocabulary, bundle.vocabulary, bundle.calibration)
    return Model(bundle, segmenter, text, words)


def load_text_encoder(
    bundle: StudentBundle, parameters: PerceptionParameters
) -> tuple[CachedEncoder | None, str]:
    """The text encoder, warm, or None with the reason in a sentence.

    With text_encoder `auto` a missing encoder is no error; one that was named must load.
    """
    choice = parameters.text_encoder
    if choice == "none":
        return None, "the parameter text_encoder is none."
    name = bundle.text_encoder if choice == "auto" else choice
    weights = Path(parameters.text_weights).expanduser() if parameters.text_weights else None
    try:
        reason = encoder_available(name)
        if reason:
            raise SasError(reason)
        encoder = load_encoder(name, weights=weights)
    except SasError as error:
        if choice == "auto" and weights is None:
            return None, str(error)
        raise
    check_encoder(bundle.text_encoder, bundle.feature_dim, encoder)
    encoder.encode([apply_prompt(bundle.prompt, "thing")])
    return encoder, ""


def first_vocabulary(
    bundle: StudentBundle,
    labels: tuple[str, ...],
    text: TextWorker,
    encoder: CachedEncoder | None,
) -> Vocabulary:
    """The student's own words, or the `labels` of the parameter."""
    if not labels:
        return bundle.vocabulary
    reason = text.refusal(labels)
    if reason:
        raise SasError(f"The parameter labels cannot be used: {reason}")
    rows = []
    for label in labels:
        row = text.lookup(label)
        if row is None:
            assert encoder is not None  # or `refusal` had found the label
            row = encoder.encode([apply_prompt(bundle.prompt, label)])[0]
        rows.append(row)
    return extend(bundle.vocabulary, bundle.vocabulary, labels, np.stack(rows))


def student_threads(parameters: PerceptionParameters) -> int:
    """CPU threads of the student: the parameter, or what PyTorch chose for this process."""
    return parameters.threads or _OWN_CHOICE


def use_threads(count: int) -> None:
    """Let PyTorch use `count` CPU threads in the calling thread.

    The student gets them all; queries and text get one each. An operation spread over threads waits
    for the slowest of them, and that one waits for a core which the student is using.
    """
    torch.get_num_threads()  # a thread takes the common default at its first look
    torch.set_num_threads(count)


def release_memory() -> None:
    """Give back what allocators keep, after a student was let go."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
