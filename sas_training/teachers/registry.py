"""The teachers by name: what they need, under which licence, and how they are loaded.

Loading never downloads anything. A loader gets `TeacherOptions` and either returns a teacher or
raises `SasError` with a sentence that names the file, folder, package or program that is missing.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from sas_ros.errors import SasError
from sas_training.teachers.teacher import Teacher

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class TeacherOptions:
    """What a user says about a teacher.

    Attributes:
        weights: file or folder of its weights.
        model: architecture, for libraries that know many: "ViT-B-16".
        program: command line of a foreign program, for the teacher `program`.
        labels: words for teachers that take some.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        settings: the teacher's own settings as text, name -> value.
    """

    weights: Path | None = None
    model: str = ""
    program: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    device: str = "auto"
    settings: Mapping[str, str] = field(default_factory=dict)

    def parsed(self, teacher: str, default: Settings) -> Settings:
        """`default`, a dataclass of plain values, with the given settings put in.

        Raises:
            SasError: a name that it has not, or a value of another kind.
        """
        known: dict[str, Any] = {one.name: getattr(default, one.name) for one in fields(default)}  # type: ignore[arg-type]
        for name, text in self.settings.items():
            if name not in known:
                raise SasError(
                    f'The teacher "{teacher}" has no setting "{name}"; '
                    f"it has {', '.join(known) or 'none'}."
                )
            known[name] = _value(name, text, known[name])
        return type(default)(**known)


def _value(name: str, text: str, like: object) -> object:
    """`text` as a value of the kind of `like`."""
    try:
        if isinstance(like, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(like, int):
            return int(text)
        if isinstance(like, float):
            return float(text)
    except (ValueError, KeyError):
        kind = "true or false" if isinstance(like, bool) else "a number"
        raise SasError(f'The setting "{name}" must be {kind}, not {text!r}.') from None
    return text


@dataclass(frozen=True)
class TeacherEntry:
    """A teacher that can be loaded by name.

    Attributes:
        name: what it is called on the command line.
        gives: "pixels" (a `PixelTeacher`), "masks" (a `MaskTeacher`), or "points" (features of
            points that are there already: no teacher to load).
        summary: what it is, in a line.
        needs: the weights it needs and how they are given.
        licence: of code and weights, as far as known; the weights' own terms count.
        loader: "module:function" with `TeacherOptions` -> the teacher.
    """

    name: str
    gives: str
    summary: str
    needs: str
    licence: str
    loader: str


_ENTRIES = (
    TeacherEntry(
        name="lseg",
        gives="pixels",
        summary="LSeg with ViT-L/16 and CLIP ViT-B/32 text, 512 channels",
        needs="demo_e200.ckpt of LSeg, 1.7 to 3.1 GB: --weights FILE (.ckpt or .safetensors)",
        licence="MIT (LSeg's repository, which publishes the weights)",
        loader="sas_training.teachers.lseg:load",
    ),
    TeacherEntry(
        name="maskclip",
        gives="pixels",
        summary="patches of any CLIP vision transformer of open_clip, without training",
        needs="--model NAME of open_clip and its checkpoint: --weights FILE (.safetensors)",
        licence="code: MIT (open_clip); weights: each model's own, OpenAI's are MIT",
        loader="sas_training.teachers.maskclip:load",
    ),
    TeacherEntry(
        name="universal",
        gives="masks",
        summary="Mask2Former, OneFormer or MaskFormer of transformers, with their own label lists",
        needs="a model's folder: --weights DIR, or --model ID of one in the hub's local cache",
        licence="code: Apache-2.0 (transformers); weights: each model's own, often CC BY-NC 4.0",
        loader="sas_training.teachers.universal:load",
    ),
    TeacherEntry(
        name="clipseg",
        gives="masks",
        summary="CLIPSeg of transformers: marks the words that it is asked for",
        needs="--words, and a model's folder: --weights DIR, or --model ID of one in the cache",
        licence="code: Apache-2.0 (transformers); weights: each model's own",
        loader="sas_training.teachers.clipseg:load",
    ),
    TeacherEntry(
        name="precomputed",
        gives="points",
        summary="features of points that OpenScene and SAS have published, as files of ours",
        needs="their .pt files: give these, or their folder, for images",
        licence="terms of ScanNet, Matterport3D and nuScenes, which they were made from",
        loader="sas_training.teachers.precomputed:load",
    ),
    TeacherEntry(
        name="program",
        gives="masks",
        summary="any model in an environment of its own, called as a program",
        needs='its command line: --program "/path/to/python plugin.py"',
        licence="the program's own; it says so with --describe",
        loader="sas_training.teachers.program:load",
    ),
    TeacherEntry(
        name="small",
        gives="pixels",
        summary="a small network trained on generated rooms: for trials without other weights",
        needs="a teacher of `sas experiment`, of pixels or of masks: --weights FILE.safetensors",
        licence="Apache-2.0",
        loader="sas_training.experiment.teachers:load",
    ),
)

TEACHERS: dict[str, TeacherEntry] = {entry.name: entry for entry in _ENTRIES}
"""All of them, by name."""


def load_teacher(name: str, options: TeacherOptions) -> Teacher:
    """Load the teacher of that name.

    Raises:
        SasError: no such teacher, or a package, file, program or setting is missing or wrong.
    """
    entry = TEACHERS.get(name)
    if entry is None:
        close = difflib.get_close_matches(name, TEACHERS, n=1)
        hint = f' Did you mean "{close[0]}"?' if close else ""
        raise SasError(f'There is no teacher "{name}"; known are {", ".join(TEACHERS)}.{hint}')
    module, function = entry.loader.split(":")
    teacher: Teacher = getattr(importlib.import_module(module), function)(options)
    return teacher


def pick_device(device: str) -> str:
    """ "cuda" or "cpu" for a user's choice; raises `SasError` for a GPU that is not there."""
    import torch

    there = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if there else "cpu"
    if device == "cuda" and not there:
        raise SasError("There is no CUDA device that torch can use; choose the device cpu.")
    if device not in ("cpu", "cuda"):
        raise SasError(f"{device!r} is no device; known are auto, cpu and cuda.")
    return device


def half_on(device: Any) -> Any:
    """Half precision within a `with`, on a GPU; as it is on a CPU.

    Args:
        device: a `torch.device`.
    """
    import torch

    return torch.autocast(device.type, torch.float16, enabled=device.type == "cuda")


def weights_hash(paths: Iterable[Path]) -> str:
    """`sha256:...` over the content of files in the given order: which weights these are."""
    digest = hashlib.sha256()
    for path in paths:
        part = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                part.update(block)
        digest.update(part.digest())
    return "sha256:" + digest.hexdigest()
