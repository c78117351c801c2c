"""What the experiment about capabilities is: `config/experiment/capability-SCALE.toml`, typed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sas_ros.errors import SasError
from sas_training.distill.tables import config_folders, read_toml, settings_from
from sas_training.experiment.settings import SCALES


@dataclass(frozen=True)
class CapabilityExperiment:
    """How capabilities are measured, and what they are compared with.

    Attributes:
        ablation: scale of the ablation whose teachers and held-out rooms are taken.
        seed: of pictures, noise and bootstraps.
        images: of each class, true ones and generated ones.
        prompt, steps, guidance, batch: of the text-to-image model, see `capability.images`.
        rule, threshold: of attention, see `capability.pseudo_masks`.
        reject: leave images out by the rule of `capability.pseudo_masks`.
        noise: shares of the noise steps at which true pictures are looked at for their attention.
        look: pixels that teachers are shown pictures at; the rooms' frames are 160 x 120.
        frames: of each held-out room that the true IoU is measured on.
        chances: tables drawn by chance for the control.
    """

    scale: str = "small"
    ablation: str = "small"
    seed: int = 9
    images: int = 16
    prompt: str = "paper"
    steps: int = 20
    guidance: float = 3.0
    batch: int = 8
    rule: str = "paper"
    threshold: float = 0.7
    reject: bool = True
    noise: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    look: int = 96
    frames: int = 10
    chances: int = 3

    def __post_init__(self) -> None:
        for name in ("images", "steps", "batch", "look", "frames", "chances"):
            if getattr(self, name) < 1:
                raise SasError(f"{name} must be 1 or more, not {getattr(self, name)}.")
        if not self.noise or not all(0 <= share < 1 for share in self.noise):
            raise SasError("True pictures are looked at with shares of noise from 0 to below 1.")

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def load_capability_settings(scale_or_path: str) -> CapabilityExperiment:
    """Read the settings of a scale, or a TOML file; raises SasError for a mistake in it."""
    path = Path(scale_or_path)
    if path.suffix != ".toml":
        found = [
            folder / f"capability-{scale_or_path}.toml" for folder in config_folders("experiment")
        ]
        path = next((one for one in found if one.is_file()), path)
    if path.suffix != ".toml":
        raise SasError(
            f"There is no such experiment of the scale {scale_or_path!r}; use "
            f"{', '.join(SCALES)}, or the path of a .toml file."
        )
    return settings_from(CapabilityExperiment(), read_toml(path), str(path))
