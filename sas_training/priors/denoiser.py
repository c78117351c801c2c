"""The text-to-image model: diffusers' U-Net on latents, told about words by cross-attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_training.priors.captions import caption
from sas_training.priors.fit import noise_of
from sas_training.priors.settings import DenoiserSettings
from sas_training.priors.text import Sentences


def new_denoiser(settings: DenoiserSettings, latents: int, size: int, text: int, seed: int) -> Any:
    """An untrained network for `latents` channels of `size` x `size`, and words of width `text`."""
    from diffusers import UNet2DConditionModel

    levels = len(settings.channels)
    torch.manual_seed(seed)
    network: Any = UNet2DConditionModel(
        sample_size=size,
        in_channels=latents,
        out_channels=latents,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        block_out_channels=settings.channels,
        layers_per_block=settings.layers,
        cross_attention_dim=text,
        attention_head_dim=settings.heads,
        norm_num_groups=settings.groups,
    )
    return network


def new_scheduler(settings: DenoiserSettings) -> Any:
    """The noise of training, and DDIM as the pipeline's way back."""
    from diffusers import DDIMScheduler

    scheduler: Any = DDIMScheduler(
        num_train_timesteps=settings.steps,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    return scheduler


class DenoiserLoss:
    """Squared error of the predicted velocity of a batch, weighted by min-SNR.

    Args:
        latents: (2, P, C, s, s) scaled latents, as they are and mirrored.
        classes, colours: of the P pictures.
        sentences: vectors of captions.
    """

    def __init__(
        self,
        network: Any,
        latents: torch.Tensor,
        classes: npt.NDArray[np.int64],
        colours: list[str],
        sentences: Sentences,
        settings: DenoiserSettings,
        device: torch.device,
    ) -> None:
        self._network, self._latents = network, latents
        self._classes, self._colours = classes, colours
        self._sentences, self._settings, self._device = sentences, settings, device
        self._scheduler = new_scheduler(settings)
        kept = self._scheduler.alphas_cumprod
        ratio = kept / (1 - kept)
        # The weight of velocities, Hang et al. 2023, section 3.4.
        self._weights = torch.clamp(ratio, max=settings.snr) / (ratio + 1)
        self._weights = self._weights / self._weights.mean()

    def __call__(self, rng: np.random.Generator) -> torch.Tensor:
        settings = self._settings
        count = settings.fit.batch
        # Classes equally often, whatever number of pictures each has.
        names = rng.permutation(np.unique(self._classes))
        wanted = np.resize(names, count)
        chosen = [int(rng.choice(np.flatnonzero(self._classes == label))) for label in wanted]
        way = torch.from_numpy(rng.integers(2, size=count))
        clean = self._latents[way, torch.tensor(chosen)]
        texts = [
            "" if rng.random() < settings.dropped
            else caption(int(self._classes[row]), self._colours[row], rng)
            for row in chosen
        ]  # fmt: skip
        words = self._sentences.of(texts).to(self._device)
        noise = torch.randn(clean.shape, generator=noise_of(rng))
        # One in each of equal parts of the time: less chance in the loss.
        part = (np.arange(count) + rng.random(count)) / count
        times = torch.from_numpy((part * settings.steps).astype(np.int64))
        noisy = self._scheduler.add_noise(clean, noise, times).to(self._device)
        aim = self._scheduler.get_velocity(clean, noise, times).to(self._device)
        said = self._network(noisy, times.to(self._device), words).sample
        each = (said - aim).square().mean(dim=(1, 2, 3))
        result: torch.Tensor = (each * self._weights[times].to(self._device)).mean()
        return result
