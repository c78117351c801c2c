"""Models in the layout of the Hugging Face hub: found on this machine, never fetched.

A folder as `save_pretrained` writes it, or the id of a model whose files are in the hub's local
cache already. transformers and its relatives are told to stay offline before they are imported.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sas_ros.errors import SasError
from sas_training.teachers.registry import weights_hash

_WEIGHTS = (".safetensors", ".bin")
LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""For every `from_pretrained`: nothing is fetched, and no code of a model's folder is run."""
_INSTALL = "install it with: pip install transformers pillow"


@dataclass(frozen=True)
class HubModel:
    """A model on this machine.

    Attributes:
        folder: with its files.
        model: `sha256:...` of the weights and of every JSON and text file beside them.
    """

    folder: Path
    model: str


@dataclass(frozen=True)
class Options:
    """What a user calls a model's parts, for the sentences of errors.

    Attributes:
        folder: its folder. A teacher's is `--weights`, `weights =` or `NAME:WEIGHTS`.
        model: its id of the hub; empty where only folders are taken.
    """

    folder: str
    model: str


_TEACHER = Options("weights", "model")


def find_model(
    where: Path | None, model_id: str, who: str, example: str, options: Options = _TEACHER
) -> HubModel:
    """The folder of a model, checked for the files that every model has.

    Args:
        where: a folder; takes precedence.
        model_id: of the hub, looked for in its local cache only.
        who: asks, for the sentence when it is missing: "The teacher universal".
        example: id of a model that would do.
        options: the user's, for the sentence when it is missing.

    Raises:
        SasError: no folder given or found, or its config.json or weights are missing.
    """
    if where is None and not model_id:
        by_id = f", or its id as {options.model}, such as" if options.model else ", such as that of"
        raise SasError(
            f"{who} needs a model on this machine, because nothing is downloaded; give its folder "
            f'as {options.folder}{by_id} "{example}".'
        )
    folder = Path(where) if where is not None else _cached(model_id, who, options)
    if not folder.is_dir():
        raise SasError(f"There is no folder of a model at {folder}.")
    if not (folder / "config.json").is_file():
        raise SasError(f"{folder} holds no model: its config.json is missing.")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    weights = [path for path in files if path.suffix in _WEIGHTS]
    if not weights:
        raise SasError(f"{folder} holds no weights (.safetensors); fetch the whole model.")
    if any(path.suffix == ".safetensors" for path in weights):
        weights = [path for path in weights if path.suffix == ".safetensors"]
    about = [path for path in files if path.suffix in (".json", ".txt")]
    return HubModel(folder, weights_hash([*weights, *about]))


def _cached(model_id: str, who: str, options: Options) -> Path:
    stay_offline()
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model_id, local_files_only=True))
    except ImportError:
        raise SasError(
            f"{who} needs transformers; install it with: pip install transformers"
        ) from None
    except Exception as error:  # a wrong id, no cache: the hub has an exception for each
        raise SasError(
            f'The model "{model_id}" is not in the local cache of the hub, and nothing is '
            f'downloaded. Fetch it with "hf download {model_id}", or give its folder as '
            f"{options.folder}."
        ) from error


def transformers_library(who: str) -> Any:
    """The module transformers, offline and without progress bars.

    Raises:
        SasError: it is not installed, or does not work.
    """
    if importlib.util.find_spec("transformers") is None:
        raise SasError(
            f"{who} needs transformers; install it with: pip install transformers pillow"
        )
    stay_offline()
    try:
        import transformers
    except (ImportError, RuntimeError) as error:
        raise SasError(
            f"transformers is installed but does not work ({first_line(error)})."
        ) from error
    transformers.utils.logging.disable_progress_bar()
    return transformers


def stay_offline() -> None:
    """Tell the hub's libraries not to use the network; only before their first import."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")


def first_line(error: BaseException) -> str:
    """What an exception says, short enough for a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
