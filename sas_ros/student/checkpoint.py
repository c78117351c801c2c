"""Reading a published training checkpoint: its tensors and two numbers, and nothing that can run.

A file of OpenScene or SAS is a pickled dict of `epoch`, `state_dict`, `optimizer` and `best_iou`, a
numpy scalar (reference 6.2). It is read with `weights_only` and an allow-list of three names more.
"""

from __future__ import annotations

import hashlib
import math
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sas_ros.errors import SasError

_WRAPPER = "module."
_NETWORK = "net3d."
_OF_A_NETWORK = re.compile(r"(conv\d|convtr\d|bn\d|bntr\d|block\d|final\.)")
_NUMBER = re.compile(r"[fiu][1248]|b1")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint file holds of a network.

    Attributes:
        path: the file.
        sha256: of the whole file, hexadecimal.
        weights: tensors as stored, under their names without `module.` and `net3d.`.
        ignored: first part of the names of other tensors -> how many there are.
        epoch: number of the training epoch, where the file says.
        best_iou: best score of the training, where the file says.
    """

    path: Path
    sha256: str
    weights: Mapping[str, torch.Tensor]
    ignored: Mapping[str, int] = field(default_factory=dict)
    epoch: int | None = None
    best_iou: float | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a training checkpoint or a bare state dict: `.pth`, `.pth.tar`, `.pt`, `.safetensors`.

    Raises:
        SasError: no such file, not readable, a class in it that tensors and numbers do not need
            (named; nothing of the file was run), or no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise SasError(f"There is no checkpoint at {path}.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not isinstance(content, Mapping):
        raise SasError(
            f"{path} holds a {type(content).__name__}, not a checkpoint; wanted is a dict with "
            "the entry state_dict, or the state dict itself."
        )
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping):
        raise SasError(f"The entry state_dict of {path} is a {type(state).__name__}, not a dict.")
    tensors = {k: v for k, v in state.items() if isinstance(k, str) and torch.is_tensor(v)}
    if not tensors:
        raise SasError(f"{path} holds no tensors; it is not a checkpoint of a network.")
    weights, ignored = _network_part(path, tensors)
    return Checkpoint(
        path=path,
        sha256=_sha256(path),
        weights=weights,
        ignored=ignored,
        epoch=_whole(content.get("epoch")),
        best_iou=_finite(content.get("best_iou")),
    )


def _network_part(
    path: Path, tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """The 3D network's tensors under their own names, and what the others are called."""
    prefixed = any(name.removeprefix(_WRAPPER).startswith(_NETWORK) for name in tensors)
    weights: dict[str, torch.Tensor] = {}
    ignored: Counter[str] = Counter()
    for name, tensor in tensors.items():
        bare = name.removeprefix(_WRAPPER)
        belongs = bare.startswith(_NETWORK) if prefixed else bool(_OF_A_NETWORK.match(bare))
        if not belongs:
            ignored[_printable(bare.split(".")[0][:40])] += 1
            continue
        bare = bare.removeprefix(_NETWORK)
        if bare in weights:
            name = _printable(bare)
            raise SasError(f"{path} holds the tensor {name} twice, with and without a prefix.")
        if not _is_plain(tensor):
            raise SasError(f"The tensor {_printable(bare)} of {path} holds no plain numbers.")
        weights[bare] = tensor
    return weights, dict(ignored)


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if "sas_student" in metadata:
                raise SasError(f"{path} is a student bundle already; use it as it is.")
            state = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise SasError(
            f"{path} is no readable safetensors file ({error}); it may be cut off: copy it again."
        ) from error
    return {"state_dict": state}


def _read_torch(path: Path) -> Any:
    safe_globals: Callable[[list[Any]], Any] | None
    safe_globals = getattr(torch.serialization, "safe_globals", None)
    if safe_globals is None or not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        raise SasError(
            f"Reading {path} safely needs torch 2.6 or newer; this is {torch.__version__}. "
            "Import it elsewhere, or give it as .safetensors."
        )
    try:
        _refuse_compressed(path)
        with safe_globals(ALLOWED_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats, for those who write files
            return torch.load(path, map_location="cpu", weights_only=True)
    except SasError:
        raise
    except Exception as error:  # a broken pickle raises whatever its opcodes lead to
        forbidden = re.search(
            r"GLOBAL (\S+)|(?:unrecognized function|but got) (.{1,80})", str(error)
        )
        if forbidden:
            name = (forbidden[1] or forbidden[2])[:80]
            raise SasError(
                f"{path} can only be read by running {name!r}, and a checkpoint may hold nothing "
                "but tensors, numbers, text and containers of them. Nothing was run. Have its "
                "state_dict saved alone, or as .safetensors, by those who made it."
            ) from error
        raise SasError(
            f"{path} is no readable checkpoint ({type(error).__name__}); it may be cut off: copy "
            "it again."
        ) from error


class NumpyType:
    """What `numpy.dtype` is while a checkpoint is read: a number's kind and size, nothing else."""

    def __init__(self, code: str, *_: object) -> None:
        if not (isinstance(code, str) and _NUMBER.fullmatch(code)):
            raise ValueError("no number type")
        self.code = code
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _numpy_number(kind: NumpyType, data: bytes) -> bool | int | float:
    """What `numpy.core.multiarray.scalar` is while a checkpoint is read: a plain number.

    numpy's own would make values of any type, objects included, out of bytes from the file.
    """
    number: bool | int | float = np.frombuffer(data, kind.order + kind.code, count=1)[0].item()
    return number


# numpy 1 and numpy 2 call the same function by different names.
ALLOWED_GLOBALS: list[Any] = [
    (NumpyType, "numpy.dtype"),
    (_numpy_number, "numpy.core.multiarray.scalar"),
    (_numpy_number, "numpy._core.multiarray.scalar"),
]


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether it is a dense array of real numbers, all of which are really there."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_nested or tensor.is_quantized or tensor.is_complex())
        # A few bytes can be shown as billions of numbers; a copy would have them all.
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _printable(name: str) -> str:
    """The name with everything escaped that a terminal might obey."""
    return ascii(name)[1:-1]


def _refuse_compressed(path: Path) -> None:
    """PyTorch stores tensors as they are; a compressed member may be a thousand times larger."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise SasError(
                f"{path} is a compressed archive, which PyTorch does not write; unpack it first."
            )


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) < 10**9 else None


def _finite(value: object) -> float | None:
    if isinstance(value, torch.Tensor) and _is_plain(value) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e6 and math.isfinite(value) else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
