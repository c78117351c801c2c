"""The folders that `sas capability` takes: a pipeline of diffusers and a SAM of transformers."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sas_ros.errors import SasError
from sas_training.distill.tables import settings_from
from sas_training.priors.denoiser import new_scheduler
from sas_training.priors.segmenter import new_processor
from sas_training.priors.settings import PriorsSettings

PIPELINE, SEGMENTER = "diffusion", "sam"
"""Names of the folders in a run."""
REPORT = "priors.json"
KIND, FORMAT_VERSION = "sas_priors", 1


def save_pipeline(
    folder: Path,
    autoencoder: Any,
    denoiser: Any,
    text: tuple[Any, Any],
    settings: PriorsSettings,
) -> None:
    """Write a StableDiffusionPipeline.

    Args:
        autoencoder: whose `scaling_factor` is set.
        text: tokenizer and model of `text.text_parts`.
    """
    from diffusers import StableDiffusionPipeline

    pipe: Any = StableDiffusionPipeline(
        vae=autoencoder.float().cpu().eval(),
        text_encoder=text[1],
        tokenizer=text[0],
        unet=denoiser.float().cpu().eval(),
        scheduler=new_scheduler(settings.denoiser),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with _whole(folder) as temporary:
        pipe.save_pretrained(temporary, safe_serialization=True)


def save_segmenter(folder: Path, network: Any, settings: PriorsSettings) -> None:
    """Write a SamModel with its processor."""
    with _whole(folder) as temporary:
        network.cpu().eval().save_pretrained(temporary)
        new_processor(settings.segmenter).save_pretrained(temporary)


def read_report(run: Path) -> dict[str, Any]:
    """The content of a run's priors.json; raises SasError where there is none that is whole."""
    path = run / REPORT
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SasError(
            f"There are no priors in {run}; make them with `sas world train-priors`."
        ) from None
    except (OSError, ValueError) as error:
        raise SasError(f"{path} is no readable JSON file ({error}).") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise SasError(f"{path} is no file of `sas world train-priors`.")
    if content.get("format_version") != FORMAT_VERSION:
        raise SasError(
            f"{path} has the format {content.get('format_version')!r}; this version reads "
            f"{FORMAT_VERSION}."
        )
    weights, training = content.get("weights"), content.get("training")
    if not isinstance(weights, list) or not all(isinstance(one, str) for one in weights):
        raise SasError(f"{path} is damaged: weights are no list of names.")
    if not isinstance(training, dict) or not all(_are_facts(one) for one in training.values()):
        raise SasError(f"{path} is damaged: training is not the last loss of every model.")
    if not isinstance(content.get("settings"), dict):
        raise SasError(f"{path} is damaged: it lacks its settings.")
    settings_from(PriorsSettings(), content["settings"], f"{path}, settings")
    for name in (PIPELINE, SEGMENTER):
        if not (run / name).is_dir():
            raise SasError(f"{run} lacks the folder {name}; start `sas world train-priors` again.")
    return content


def _are_facts(one: object) -> bool:
    """`loss`, and `unfinished` steps where a training has not ended."""
    if not isinstance(one, dict) or type(one.get("loss")) not in (int, float):
        return False
    return "unfinished" not in one or type(one["unfinished"]) is int


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of `folder` when the block succeeds.

    A run that is killed in the middle leaves the old one or none, never half of one; what was left
    behind goes with the next try.
    """
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
