"""The chain of `sas capability`, and the same with one link after the other replaced by the truth.

Everything is done by the unchanged `sas_training.capability.running`; what is true is handed to it
as given images and masks. True images are pictures of one thing in a plain room, cut as the priors'
own were, from other seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_training.capability.aggregation import min_max
from sas_training.capability.attention import Recording, recorded
from sas_training.capability.files import folder_names, write_image, write_mask
from sas_training.capability.images import ImageSettings
from sas_training.capability.pipelines import TextToImage, load_pipeline
from sas_training.capability.points import coarse_mask
from sas_training.capability.pseudo_masks import MaskSettings, RejectionRule
from sas_training.capability.running import NothingLeft, Plan, run
from sas_training.capability.segmenters import load_segmenter
from sas_training.capability.tokens import class_tokens, prompt_of, template_of
from sas_training.distill.words import class_text
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.capability_files import LINKS, VOCABULARY, CapabilityRun
from sas_training.experiment.capability_tables import Nothing
from sas_training.experiment.pictures import Picture
from sas_training.experiment.single_objects import object_picture
from sas_training.jobs import Job, Workers
from sas_training.priors.autoencoder import network_pictures
from sas_training.priors.pictures import cut_square, square_around
from sas_training.priors.saving import PIPELINE, SEGMENTER, read_report


def measure_links(about: CapabilityRun, workers: Workers) -> None:
    """Write what every link has measured, where it is not written yet."""
    last = f"{about.settings.images - 1:04d}.png"
    folders = folder_names(VOCABULARY)
    jobs, looked = [], []
    for name in about.classes:
        folder = folders[class_text(name)]
        jobs.append(Job(about.pictures / "masks" / folder / last, _true_pictures, (about, name)))
        looked.append(Job(about.pictures / "coarse" / folder / last, _true_coarse, (about, name)))
    workers.do("true pictures", jobs)
    workers.do("their attention", looked)
    for name in LINKS:  # one after the other: two of them share their images
        workers.do(f"capabilities: {LINKS[name]}", [Job(about.table(name), _link, (about, name))])


def plan_of(about: CapabilityRun, name: str) -> Plan:
    """What `sas capability` is told for one of `LINKS`."""
    settings, true = about.settings, about.pictures
    given: dict[str, Any] = {}
    if name in ("truth", "sam", "attention"):
        given["given_images"] = true / "images"
        part = "given_masks" if name == "truth" else "given_coarse"
        given[part] = true / ("coarse" if name == "attention" else "masks")
    return Plan(
        output=about.link(name),
        vocabulary=VOCABULARY,
        classes=tuple(class_text(one) for one in about.classes),
        images=settings.images,
        how_images=ImageSettings(settings.prompt, settings.steps, settings.guidance),
        how_masks=MaskSettings(settings.rule, settings.threshold),
        rejection=RejectionRule() if settings.reject else None,
        batch=settings.batch,
        seed=settings.seed,
        text={"encoder": about.ablation.settings.text_encoder},
        **given,
    )


def _link(about: CapabilityRun, name: str) -> None:
    from tqdm import tqdm

    model = segmenter = None
    if name in ("coarse", "generated"):
        model = load_pipeline(about.priors / PIPELINE)
    if name in ("sam", "attention", "generated"):
        segmenter = load_segmenter("transformers", about.priors / SEGMENTER)

    def shown(title: str, work: Sequence[Any]) -> Iterable[Any]:
        bar: Iterable[Any] = tqdm(work, desc=title, leave=False, disable=None)
        return bar

    try:
        table = run(plan_of(about, name), model, segmenter, about.callers(), shown).table
    except NothingLeft as nothing:
        Nothing(nothing.rejected).save(about.table(name))
        return
    assert table is not None
    table.save(about.table(name))


# ------------------------------------------------------------------------------------ true pictures
def _true_pictures(about: CapabilityRun, name: str) -> None:
    folder = folder_names(VOCABULARY)[class_text(name)]
    label, size = SCANNET20.id_of(name), _size(about)
    for number in range(about.settings.images):
        seed = (about.settings.seed, 62, label, number)
        found = object_picture(name, seed)
        cut = square_around(found.mask, np.random.default_rng(seed))
        image, mask = cut_square(found.image, found.mask, cut, size)
        write_image(about.pictures / "images" / folder / f"{number:04d}.png", image)
        write_mask(about.pictures / "masks" / folder / f"{number:04d}.png", mask)


def _size(about: CapabilityRun) -> int:
    return int(read_report(about.priors)["settings"]["pictures"]["size"])


def _true_coarse(about: CapabilityRun, name: str) -> None:
    from sas_training.teachers.images import read_image

    settings = about.settings
    folder = folder_names(VOCABULARY)[class_text(name)]
    names = [f"{number:04d}.png" for number in range(settings.images)]
    images = np.stack([read_image(about.pictures / "images" / folder / one) for one in names])
    model = load_pipeline(about.priors / PIPELINE)
    seed = (settings.seed, 63, SCANNET20.id_of(name))
    maps = attention_of(
        model, images, template_of(settings.prompt), class_text(name), settings.noise,
        settings.rule, seed,
    )  # fmt: skip
    for one, attention in zip(names, maps, strict=True):
        mask = coarse_mask(attention, settings.threshold)
        write_mask(about.pictures / "coarse" / folder / one, mask)


@torch.no_grad()
def attention_of(
    model: TextToImage,
    images: Picture,
    template: str,
    word: str,
    noise: Sequence[float],
    rule: str,
    seed: tuple[int, ...],
) -> npt.NDArray[np.float32]:
    """(B, S, S) float32 from 0 to 1: where the network looks for a word in given images.

    The images are encoded, a share of the noise of training is added, and the network is asked once
    for each share.

    Args:
        images: (B, S, S, 3) uint8, of the size the pipeline was trained with.
        template, word: of the prompt.
        noise: shares of the steps of the noise, 0 to below 1.
        rule: of aggregation.
        seed: of the noise.
    """
    pipe = model.pipe
    prompt = prompt_of(template, word)
    count, device = len(images), pipe.device
    text = pipe.encode_prompt([prompt.text] * count, device, 1, False)[0]
    pictures = network_pictures(images).to(device, pipe.vae.dtype)
    clean = pipe.vae.encode(pictures).latent_dist.mean * pipe.vae.config.scaling_factor
    chance = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**62)))
    recording = Recording(count, class_tokens(pipe.tokenizer, prompt), (rule,))
    with recorded(pipe.unet, recording):
        for share in noise:
            drawn = torch.randn(clean.shape, generator=chance).to(clean)
            time = torch.tensor([int(share * pipe.scheduler.config.num_train_timesteps)])
            noisy = pipe.scheduler.add_noise(clean, drawn, time.to(device))
            pipe.unet(noisy, time.to(device), encoder_hidden_states=text)
    maps = recording.maps.finish(rule, *images.shape[1:3])
    return np.asarray(min_max(maps).clamp(0, 1).numpy(), dtype=np.float32)
