"""Reading LSeg weights: the published `.ckpt`, or a `.safetensors` with the same keys.

The published file was written by an old PyTorch Lightning: beside `state_dict` it holds a callback
class as a dictionary key. It is read with `weights_only`; that one name stands for an empty class
of ours, and nothing of the file is run.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sas_ros.errors import SasError
from sas_ros.student.checkpoint import ALLOWED_GLOBALS
from sas_training.teachers.lseg.network import LsegNetwork, LsegShape

PREFIX = "net."
_HEAD_WIDTH = 64

_NOT_READ = re.compile(
    r"clip_pretrained\.|pretrained\.model\.(?:norm|head)\.|scratch\.refinenet4\.resConfUnit1\."
    r"|.*num_batches_tracked$"
)
"""Tensors of the published file that pixel features do not need."""


class _Callback:
    """What a Lightning callback class is while a checkpoint is read: a name."""


_LIGHTNING = (_Callback, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")


def load_network(path: Path) -> LsegNetwork:
    """The network with the weights of a file, in evaluation mode, float32, on the CPU.

    Raises:
        SasError: no such file, not readable without running code, another network (the ResNet
            versions, those with a head block), or tensors that are missing or of another shape.
    """
    weights = read_weights(path)
    network = _without_memory(shape_of(weights, path))
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in weights and not _NOT_READ.match(name)]
    if missing:
        raise SasError(
            f"{path} lacks {len(missing)} of the tensors of LSeg, the first being {missing[0]}."
        )
    strange = sorted(name for name in weights if name not in wanted and not _NOT_READ.match(name))
    if strange:
        raise SasError(
            f"{path} holds {strange[0]} and {len(strange) - 1} more tensors that LSeg's demo "
            "network has not; it is another version of LSeg."
        )
    state = {}
    for name, like in wanted.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.int64)
            continue
        tensor = weights[name]
        if tensor.shape != like.shape or not tensor.is_floating_point():
            raise SasError(
                f"The tensor {name} of {path} is {tensor.dtype} {tuple(tensor.shape)}; wanted is "
                f"floating point {tuple(like.shape)}."
            )
        state[name] = tensor.float()
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def shape_of(weights: Mapping[str, torch.Tensor], path: Path) -> LsegShape:
    """Sizes of the network that weights belong to; heads are 64 wide, taps a quarter apart.

    Raises `SasError` when they are no LSeg with a vision transformer.
    """
    if any(name.startswith("pretrained.layer1.") for name in weights):
        raise SasError(
            f"{path} is an LSeg with a ResNet; the one with ViT-L/16 is wanted (demo_e200.ckpt)."
        )
    try:
        positions = weights["pretrained.model.pos_embed"].shape
        blocks = {name.split(".")[3] for name in weights if ".model.blocks." in name}
        depth, width, grid = len(blocks), int(positions[2]), round((positions[1] - 1) ** 0.5)
        mlp = int(weights["pretrained.model.blocks.0.mlp.fc1.bias"].shape[0])
        names = [f"pretrained.act_postprocess{number}.3.bias" for number in range(1, 5)]
        reassembled = tuple(int(weights[name].shape[0]) for name in names)
        channels = int(weights["scratch.head1.weight"].shape[1])
        out = int(weights["scratch.head1.weight"].shape[0])
    except (KeyError, IndexError) as error:
        raise SasError(f"{path} holds no LSeg with a vision transformer ({error}).") from error
    if depth % 4 or width % _HEAD_WIDTH or grid**2 + 1 != positions[1]:
        raise SasError(f"{path} holds a vision transformer that LSeg is not made of.")
    taps = tuple(depth * quarter // 4 - 1 for quarter in range(1, 5))
    heads = width // _HEAD_WIDTH
    return LsegShape(width, depth, heads, mlp, grid, taps, reassembled, channels, out)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of the file by their names without `net.`, as stored.

    Raises:
        SasError: no such file, or not readable as tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise SasError(
            f"There are no LSeg weights at {path}. Nothing is downloaded: fetch LSeg's demo "
            "checkpoint, demo_e200.ckpt, and give its path as weights."
        )
    content = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise SasError(f"{path} holds no state_dict.")
    tensors = {k: v for k, v in state.items() if isinstance(k, str) and torch.is_tensor(v)}
    if not tensors:
        raise SasError(f"{path} holds no tensors.")
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise SasError(f"{path} is no readable safetensors file ({error}).") from error


def _torch(path: Path) -> Any:
    safe_globals = getattr(torch.serialization, "safe_globals", None)
    if safe_globals is None:
        raise SasError(
            f"Reading {path} safely needs torch 2.6 or newer; this is {torch.__version__}."
        )
    try:
        with safe_globals([*ALLOWED_GLOBALS, _LIGHTNING]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Mapped, so that the optimiser's half of the file is never read.
            mapped = zipfile.is_zipfile(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a broken pickle raises whatever its opcodes lead to
        raise SasError(
            f"{path} cannot be read as tensors and plain values alone ({type(error).__name__}); "
            "nothing of it was run. It is cut off, or no checkpoint of LSeg."
        ) from error


def _without_memory(shape: LsegShape) -> LsegNetwork:
    """The network before it has weights: no gigabyte is filled only to be thrown away."""
    with torch.device("meta"):
        return LsegNetwork(shape)
