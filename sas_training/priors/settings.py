"""What the priors are: one TOML file per scale in `config/priors/`, typed here.

Every weight follows from this file and the code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sas_ros.errors import SasError
from sas_training.distill.optimiser import check_optimiser
from sas_training.distill.tables import config_folders, read_toml, settings_from
from sas_training.evaluation.labels import SCANNET20

SCALES = ("tiny", "small", "full")


@dataclass(frozen=True)
class PicturesSettings:
    """What is rendered to learn from.

    Attributes:
        classes: of ScanNet-20; empty: all.
        per_class: pictures of one thing in a plain room, for each class.
        rooms, frames: furnished rooms, and frames of each: SAM and the autoencoder see them too.
        size: pixels of the square pictures that the models see.
        crops: squares cut from each picture of one thing; each is seen mirrored as well.
    """

    classes: tuple[str, ...] = ()
    per_class: int = 120
    rooms: int = 60
    frames: int = 6
    size: int = 64
    crops: int = 2

    def __post_init__(self) -> None:
        for name in self.classes:
            if name not in SCANNET20.names:
                raise SasError(f"{name!r} is no class; known are {', '.join(SCANNET20.names)}.")
        for name in ("per_class", "rooms", "frames", "crops"):
            if getattr(self, name) < 1:
                raise SasError(f"{name} must be 1 or more, not {getattr(self, name)}.")
        if self.size < 16 or self.size % 16:
            raise SasError(f"The size of the pictures must be 16 times something, not {self.size}.")

    @property
    def names(self) -> tuple[str, ...]:
        """The classes of ScanNet-20 that are shown."""
        return self.classes or SCANNET20.names


@dataclass(frozen=True)
class FitSettings:
    """One training: a rate that rises for `warmup` steps and then falls as a cosine.

    Attributes:
        optimiser: one of `sas_training.distill.optimiser.OPTIMISERS`.
        steps, batch, learning_rate, warmup, weight_decay: of the optimiser.
        ema: decay of the moving average of the weights, which is what is kept.
        checkpoint: steps from one to the next.
    """

    steps: int = 1000
    batch: int = 8
    learning_rate: float = 5e-4
    warmup: int = 100
    weight_decay: float = 0.01
    ema: float = 0.995
    checkpoint: int = 100
    optimiser: str = "adamw"

    def __post_init__(self) -> None:
        check_optimiser(self.optimiser)
        for name in ("steps", "batch", "checkpoint"):
            if getattr(self, name) < 1:
                raise SasError(f"The {name} of a training must be 1 or more.")
        if not 0 < self.learning_rate < 1:
            raise SasError(f"A learning rate of {self.learning_rate:g} is not in 0 to 1.")
        if not 0 <= self.ema < 1:
            raise SasError(f"A decay of {self.ema:g} of the moving average is not in 0 to 1.")


@dataclass(frozen=True)
class AutoencoderSettings:
    """AutoencoderKL: pictures to latents, each level but the last half as large as the one before.

    Attributes:
        channels: of its levels.
        layers: residual blocks of a level.
        latents: channels of the latents.
        groups: of the group norms.
        edges: weight of the error of the differences of neighbouring pixels.
        kl: weight of the divergence per latent number.
    """

    channels: tuple[int, ...] = (24, 48, 48)
    layers: int = 1
    latents: int = 4
    groups: int = 8
    edges: float = 1.0
    kl: float = 1e-3
    fit: FitSettings = field(default_factory=lambda: FitSettings(2500))

    @property
    def shrinks(self) -> int:
        """Pixels of a picture across one latent."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class DenoiserSettings:
    """UNet2DConditionModel with cross-attention on every level, predicting v.

    Attributes:
        channels: of its levels.
        layers: residual blocks of a level.
        heads: of each attention.
        groups: of the group norms.
        text_layers: of MiniLM, from the first on, that make the text it attends to. Beyond the
            fifth every word of a sentence knows what the others say, and attention to one of them
            is no longer about it.
        words: most tokens of a caption.
        dropped: share of the captions left empty, for guidance.
        snr: most weight of the signal-to-noise ratio of a step (min-SNR).
        steps: of the noise.
    """

    channels: tuple[int, ...] = (64, 128)
    layers: int = 1
    heads: int = 4
    groups: int = 16
    text_layers: int = 3
    words: int = 24
    dropped: float = 0.1
    snr: float = 5.0
    steps: int = 1000
    fit: FitSettings = field(default_factory=lambda: FitSettings(5000, 16, ema=0.999))

    def __post_init__(self) -> None:
        if not 0 <= self.dropped < 1:
            raise SasError(f"A share of {self.dropped:g} dropped captions is not in 0 to 1.")
        if not 1 <= self.text_layers <= 6:
            raise SasError(f"MiniLM has the layers 1 to 6, not {self.text_layers}.")


@dataclass(frozen=True)
class SegmenterSettings:
    """SAM with a small image encoder.

    Attributes:
        size: pixels across its input, which pictures are enlarged to.
        patch: pixels across a token.
        width, layers, heads: of the image encoder, all of whose attention is global; the decoder
            has as many heads.
        channels: of the prompt encoder and the mask decoder.
        masks: regions of a picture asked for in a step.
    """

    size: int = 128
    patch: int = 8
    width: int = 96
    layers: int = 5
    heads: int = 4
    channels: int = 64
    masks: int = 3
    fit: FitSettings = field(default_factory=lambda: FitSettings(3000))

    def __post_init__(self) -> None:
        if self.fit.optimiser == "muon":
            raise SasError(
                'SAM is not fitted with "muon", since many of its weights are embeddings; use '
                '"adamw".'
            )
        if self.size % self.patch:
            raise SasError(f"Patches of {self.patch} pixels do not fit into {self.size}.")
        if self.heads < 1 or self.width % self.heads or self.channels % self.heads:
            raise SasError(
                f"{self.heads} heads do not share a width of {self.width} and {self.channels} "
                "channels evenly."
            )


@dataclass(frozen=True)
class PriorsSettings:
    """All of it.

    Attributes:
        scale: its name.
        seed: where chance begins.
        pictures, autoencoder, denoiser, segmenter: the parts.
    """

    scale: str = "small"
    seed: int = 5
    pictures: PicturesSettings = field(default_factory=PicturesSettings)
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)
    denoiser: DenoiserSettings = field(default_factory=DenoiserSettings)
    segmenter: SegmenterSettings = field(default_factory=SegmenterSettings)

    def __post_init__(self) -> None:
        latent = self.pictures.size // self.autoencoder.shrinks
        if latent % 2 ** (len(self.denoiser.channels) - 1):
            raise SasError(
                f"Latents of {latent} cannot be halved on {len(self.denoiser.channels)} levels."
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def load_priors_settings(scale_or_path: str) -> PriorsSettings:
    """Read the settings of a scale, or a TOML file; raises SasError for a mistake in it."""
    path = _find(scale_or_path)
    return settings_from(PriorsSettings(), read_toml(path), str(path))


def _find(scale_or_path: str) -> Path:
    path = Path(scale_or_path)
    if path.suffix == ".toml":
        return path
    for folder in config_folders("priors"):
        candidate = folder / f"{scale_or_path}.toml"
        if candidate.is_file():
            return candidate
    raise SasError(
        f"There are no priors of the scale {scale_or_path!r}; use {', '.join(SCALES)}, or the "
        "path of a .toml file."
    )
