"""Text-to-image pipelines of diffusers: found on this machine, never fetched.

A folder as `save_pretrained` writes it, or the id of a model in the hub's local cache. Weights are
read as safetensors alone, and no code of a model's folder is run.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sas_ros.errors import SasError
from sas_training.teachers.hub_models import first_line, stay_offline, transformers_library
from sas_training.teachers.registry import pick_device, weights_hash

EXAMPLE = "stable-diffusion-v1-5/stable-diffusion-v1-5"
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_ASKED = ("prompt", "height", "width", "num_inference_steps", "guidance_scale", "generator")
_ABOUT = (".safetensors", ".json", ".txt")


@dataclass(frozen=True, eq=False)
class TextToImage:
    """A pipeline that is ready to make images.

    Attributes:
        pipe: of diffusers, with `unet`, `tokenizer` and `scheduler`.
        model: `sha256:...` of its parts' weights and settings.
        kind: name of its class.
        scheduler: name of its scheduler's class.
        precision: one of `PRECISIONS`.
    """

    pipe: Any
    model: str
    kind: str
    scheduler: str
    precision: str

    @property
    def size(self) -> int:
        """Pixels of the images that it was trained with, along a side."""
        halvings = len(self.pipe.vae.config.block_out_channels) - 1
        return int(self.pipe.unet.config.sample_size) << halvings


def load_pipeline(
    where: str | Path,
    scheduler: str = "",
    device: str = "auto",
    precision: str = "auto",
) -> TextToImage:
    """Load a pipeline by its folder or its id.

    Args:
        where: a folder, or the id of a model in the hub's local cache.
        scheduler: one that fits, such as "DDIM" or "PNDMScheduler"; "": the pipeline's own.
        device: "auto", "cpu" or "cuda".
        precision: one of `PRECISIONS`, or "auto": float16 on a GPU, else float32.

    Raises:
        SasError: diffusers or the model is missing, the model is damaged or of another kind, or
            the scheduler does not fit.
    """
    if precision != "auto" and precision not in PRECISIONS:
        raise SasError(f"{precision!r} is no precision; known are auto, {', '.join(PRECISIONS)}.")
    library = diffusers_library()
    folder = find_pipeline(where)
    on = pick_device(device)
    if precision == "auto":
        precision = "float16" if on == "cuda" else "float32"
    try:
        with _quiet():
            pipe = library.DiffusionPipeline.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=PRECISIONS[precision],
                # Else it asks for a package that only speeds up reading.
                low_cpu_mem_usage=False,
            )
    except Exception as error:  # the library has an exception for each way to fail
        raise SasError(
            f"The pipeline in {folder} cannot be loaded ({first_line(error)}); it may not have "
            "been fetched whole, with its weights as .safetensors."
        ) from error
    _check(pipe, folder)
    if scheduler:
        pipe.scheduler = _scheduler(pipe, scheduler)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(on)
    return TextToImage(
        pipe, _hash(folder), type(pipe).__name__, type(pipe.scheduler).__name__, precision
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' hints about packages that would make loading faster."""
    import transformers

    loggers = transformers.utils.logging
    before = loggers.get_verbosity()
    loggers.set_verbosity_error()
    try:
        yield
    finally:
        loggers.set_verbosity(before)


def diffusers_library() -> Any:
    """The module diffusers, offline; raises `SasError` where it is missing or does not work."""
    if importlib.util.find_spec("diffusers") is None:
        raise SasError(
            "Images are made with diffusers; install the extra in a checkout of sas_ros with: "
            'pip install ".[capability]"'
        )
    stay_offline()
    try:
        import diffusers
    except (ImportError, RuntimeError) as error:
        raise SasError(f"diffusers is installed but does not work ({first_line(error)}).") from None
    diffusers.utils.logging.disable_progress_bar()
    transformers_library("A pipeline of diffusers")
    return diffusers


def find_pipeline(where: str | Path) -> Path:
    """The folder of a pipeline on this machine; raises `SasError` naming the one missing."""
    folder = Path(where)
    if not folder.is_dir():
        if isinstance(where, Path) or where.startswith((".", "/", "~")) or where.count("/") != 1:
            raise SasError(
                f"There is no folder of a pipeline at {where}. Give one as diffusers saves it, or "
                f'the id of a model in the hub\'s local cache, such as "{EXAMPLE}".'
            )
        folder = _cached(str(where))
    if not (folder / "model_index.json").is_file():
        raise SasError(
            f"{folder} holds no pipeline of diffusers: its model_index.json is missing. A single "
            ".ckpt or .safetensors file must be converted by diffusers first."
        )
    return folder


def _cached(model_id: str) -> Path:
    stay_offline()
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model_id, local_files_only=True))
    except Exception as error:  # a wrong id, no cache: the hub has an exception for each
        raise SasError(
            f'The pipeline "{model_id}" is not in the local cache of the hub, and nothing is '
            f'downloaded. Fetch it with "hf download {model_id}", or give its folder.'
        ) from error


def _hash(folder: Path) -> str:
    """Of the files in the folders that model_index.json names, and of itself."""
    index = folder / "model_index.json"
    try:
        parts = sorted(name for name in json.loads(index.read_text()) if name[:1] != "_")
    except (OSError, ValueError) as error:
        raise SasError(f"{index} is damaged ({error}).") from error
    inside = [
        path
        for part in parts
        if (folder / part).is_dir()
        for path in sorted((folder / part).iterdir())
        if path.suffix in _ABOUT
    ]
    return weights_hash([index, *inside])


def _check(pipe: Any, folder: Path) -> None:
    """Raise `SasError` for a pipeline that makes no images of text through a U-Net."""
    missing = [name for name in ("unet", "tokenizer", "scheduler", "vae") if _lacks(pipe, name)]
    known = inspect.signature(pipe.__call__).parameters
    missing += [name for name in _ASKED if name not in known]
    if missing:
        raise SasError(
            f"{folder} holds a pipeline of the kind {type(pipe).__name__}, which has no "
            f"{missing[0]}; attention is read from pipelines of text to images with a U-Net, such "
            "as Stable Diffusion's."
        )


def _lacks(pipe: Any, name: str) -> bool:
    return getattr(pipe, name, None) is None


def _scheduler(pipe: Any, name: str) -> Any:
    """A scheduler by name, with the settings of the pipeline's own."""
    fitting = {one.__name__: one for one in (type(pipe.scheduler), *pipe.scheduler.compatibles)}
    wanted = name if name.endswith("Scheduler") else name + "Scheduler"
    if wanted not in fitting:
        names = ", ".join(sorted(one.removesuffix("Scheduler") for one in fitting))
        raise SasError(f"The scheduler {name!r} does not fit this pipeline; these do: {names}.")
    return fitting[wanted].from_config(pipe.scheduler.config)
