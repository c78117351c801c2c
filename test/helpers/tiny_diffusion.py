"""Small random text-to-image pipelines and SAMs, saved as the libraries save real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ("a", "good", "photo", "of", "in", "room", "chair", "table", "shower", "curtain", "art")
SIZE = 32
"""Pixels of the images along a side; their latent images have half as many."""


def save_tokenizer(folder: Path, length: int = 16) -> Any:
    """CLIP's byte-pair tokenizer with a few words, "armchair" being two tokens; returns it."""
    import transformers as tf

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    ends = [f"{letter}</w>" for letter in letters]
    words = [f"{word}</w>" for word in WORDS if len(word) > 1]
    table, merges = [*letters, *ends], []
    for word in (*WORDS, "arm"):
        whole = word != "arm"
        parts = [*word[:-1], f"{word[-1]}</w>" if whole else word[-1]]
        while len(parts) > 1:
            merge = (parts[0], parts[1])
            parts = ["".join(merge), *parts[2:]]
            if merge not in merges:
                merges.append(merge)
                table.append(parts[0])
    tokens = dict.fromkeys([*table, *words, "<|startoftext|>", "<|endoftext|>"])
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = tf.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _text(tokenizer: Any, projected: bool = False, width: int = 16) -> Any:
    import transformers as tf

    config = tf.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    kind = tf.CLIPTextModelWithProjection if projected else tf.CLIPTextModel
    return kind(config)


def save_pipeline(folder: Path, kind: str = "sd", scheduler: str = "ddim") -> Any:
    """A random pipeline: "sd", like Stable Diffusion 1.5, or "sdxl", with two text encoders.

    Returns it as it was before it was saved.
    """
    import diffusers
    import torch

    diffusers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    tokenizer = save_tokenizer(folder / "words")
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=SIZE,
    )
    shared = {
        "sample_size": SIZE // 2,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "block_out_channels": (8, 16),
        "attention_head_dim": 4,
    }
    times: dict[str, Any] = {"beta_schedule": "scaled_linear", "steps_offset": 1}
    times |= {"beta_start": 0.00085, "beta_end": 0.012}
    made: dict[str, Any] = {
        "ddim": lambda: diffusers.DDIMScheduler(**times, clip_sample=False, set_alpha_to_one=False),
        "pndm": lambda: diffusers.PNDMScheduler(**times, skip_prk_steps=True),
        "ancestral": lambda: diffusers.EulerAncestralDiscreteScheduler(**times),
    }
    if kind == "sd":
        unet = diffusers.UNet2DConditionModel(
            **shared,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16,
        )
        pipe: Any = diffusers.StableDiffusionPipeline(
            vae=vae, text_encoder=_text(tokenizer), tokenizer=tokenizer, unet=unet,
            scheduler=made[scheduler](), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    else:
        unet = diffusers.UNet2DConditionModel(
            **shared,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            transformer_layers_per_block=(1, 2),
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=16 + 6 * 4,
        )
        pipe = diffusers.StableDiffusionXLPipeline(
            vae=vae, text_encoder=_text(tokenizer), tokenizer=tokenizer,
            text_encoder_2=_text(tokenizer, projected=True), tokenizer_2=tokenizer, unet=unet,
            scheduler=made[scheduler](), add_watermarker=False,
        )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder)
    return pipe


def save_sam(folder: Path, size: int = 64) -> None:
    """A random SAM of transformers with small images."""
    import torch
    import transformers as tf

    torch.manual_seed(0)
    cells = size // 8
    config = tf.SamConfig(
        vision_config={
            "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "image_size": size, "patch_size": 8, "window_size": 4,
            "global_attn_indexes": [0], "mlp_dim": 16, "num_pos_feats": 8,
        },
        prompt_encoder_config={
            "hidden_size": 16, "image_size": size, "patch_size": 8, "mask_input_channels": 4,
            "image_embedding_size": cells,
        },
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    tf.SamModel(config).save_pretrained(folder)
    about = {
        "image_processor_type": "SamImageProcessor",
        "processor_class": "SamProcessor",
        "size": {"longest_edge": size},
        "pad_size": {"height": size, "width": size},
        "mask_size": {"longest_edge": size // 4},
        "mask_pad_size": {"height": size // 4, "width": size // 4},
        "do_resize": True, "do_rescale": True, "do_normalize": True, "do_pad": True,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(about))


def save_sam2(folder: Path, size: int = 64) -> None:
    """A random SAM 2 of transformers with small images."""
    import torch
    import transformers as tf

    torch.manual_seed(0)
    hiera = tf.Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[size, size],
        blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 4, 8], window_size_per_stage=[4, 4, 4, 4],
        global_attention_blocks=[3], window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    cells = size // 16
    vision = tf.Sam2VisionConfig(
        backbone_config=hiera, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=16,
        backbone_feature_sizes=[[4 * cells, 4 * cells], [2 * cells, 2 * cells], [cells, cells]],
    )  # fmt: skip
    config = tf.Sam2Config(
        vision_config=vision,
        prompt_encoder_config={
            "hidden_size": 16, "image_size": size, "patch_size": 16, "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    tf.Sam2Model(config).save_pretrained(folder)
    about = {
        "image_processor_type": "Sam2ImageProcessor",
        "processor_class": "Sam2Processor",
        "size": {"height": size, "width": size},
        "mask_size": {"height": size // 4, "width": size // 4},
        "do_resize": True, "do_rescale": True, "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
