"""The autoencoder: diffusers' AutoencoderKL, pictures of -1 to 1 to latents and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_training.experiment.pictures import Picture
from sas_training.priors.settings import AutoencoderSettings

_ENCODED = 32
"""Pictures encoded at a time."""


def new_autoencoder(settings: AutoencoderSettings, size: int, seed: int) -> Any:
    """An untrained network for pictures of `size` pixels."""
    from diffusers import AutoencoderKL

    levels = len(settings.channels)
    torch.manual_seed(seed)
    network: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=settings.channels,
        layers_per_block=settings.layers,
        latent_channels=settings.latents,
        norm_num_groups=settings.groups,
        sample_size=size,
    )
    return network


def network_pictures(images: Picture) -> torch.Tensor:
    """(B, S, S, 3) uint8 to (B, 3, S, S) float32 of -1 to 1."""
    wide = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float()
    return wide / 127.5 - 1


def shown(pictures: torch.Tensor) -> Picture:
    """The way back, with what is out of range cut off."""
    bytes_ = ((pictures.detach().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.ascontiguousarray(bytes_.permute(0, 2, 3, 1).numpy())


class AutoencoderLoss:
    """Mean absolute error of a batch, of its edges too, and the divergence of its latents.

    Args:
        images: (P, S, S, 3) uint8.
    """

    def __init__(
        self, network: Any, images: Picture, settings: AutoencoderSettings, device: torch.device
    ) -> None:
        self._network, self._images = network, images
        self._settings, self._device = settings, device

    def __call__(self, rng: np.random.Generator) -> torch.Tensor:
        from sas_training.priors.fit import noise_of

        chosen = rng.integers(len(self._images), size=self._settings.fit.batch)
        pictures = mirrored(network_pictures(self._images[chosen]), rng).to(self._device)
        latent = self._network.encode(pictures).latent_dist
        noise = torch.randn(latent.mean.shape, generator=noise_of(rng)).to(self._device)
        again = self._network.decode(latent.mean + latent.std * noise).sample
        error = again - pictures
        edges = (error[..., 1:] - error[..., :-1]).abs().mean()
        edges = edges + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        spread: torch.Tensor = (latent.mean.square() + latent.var - 1 - latent.logvar).mean() / 2
        result: torch.Tensor = error.abs().mean() + self._settings.edges * edges
        return result + self._settings.kl * spread


def mirrored(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Each of the pictures (B, C, S, S) as it is or mirrored."""
    flip = torch.from_numpy(rng.random(len(pictures)) < 0.5)[:, None, None, None]
    return torch.where(flip, pictures.flip(3), pictures)


def latents_of(network: Any, images: Picture, device: torch.device) -> torch.Tensor:
    """(2, P, C, s, s) float32 latents of pictures as they are and mirrored, not scaled."""
    parts: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    with torch.no_grad():
        for start in range(0, len(images), _ENCODED):
            pictures = network_pictures(images[start : start + _ENCODED]).to(device)
            for way, seen in zip(parts, (pictures, pictures.flip(3)), strict=True):
                way.append(network.encode(seen).latent_dist.mean.cpu())
    return torch.stack([torch.cat(way) for way in parts])


def decoded(network: Any, latents: torch.Tensor) -> Picture:
    """Pictures (B, S, S, 3) of latents that are not scaled."""
    with torch.no_grad():
        return shown(network.decode(latents).sample)


def save_weights(path: Path, network: torch.nn.Module, about: dict[str, Any]) -> None:
    """Write the weights of any network as safetensors, atomically, with what they are."""
    from safetensors.torch import save_file

    # Copies: what a network has twice is written twice.
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in network.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {"sas_prior": json.dumps(about, sort_keys=True)})


def load_weights(path: Path, network: torch.nn.Module) -> dict[str, Any]:
    """Fill a network from a file of `save_weights`; returns what was said about it.

    Raises:
        SasError: no such file, damaged, or of another network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("sas_prior", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        network.load_state_dict(tensors)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise SasError(f"{path} holds no weights of this network ({error}); remove it.") from error
    if not isinstance(about, dict):
        raise SasError(f"{path} does not say what it holds; remove it.")
    return about
