"""Small random models in the layouts of transformers: what tests load in place of real weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

LABELS = {0: "wall-other-merged", 1: "chair", 2: "table"}
_WORDS = (
    "a the task is panoptic semantic chair table red wooden with on image of what does describe"
)


def watch_half(patch: Any, module: ModuleType, network: Any) -> list[str]:
    """Where images go through a network: the device that half precision was asked for, "" for none.

    Args:
        patch: pytest's `monkeypatch`.
        module: of the adapter, which uses `half_on`.
        network: of torch, with a convolution that sees images first.
    """
    import torch

    asked: list[str] = []
    now = [""]

    @contextmanager
    def half_on(device: Any) -> Iterator[None]:
        now.append(str(device))
        yield
        now.pop()

    patch.setattr(module, "half_on", half_on)
    first = next(one for one in network.modules() if isinstance(one, torch.nn.Conv2d))
    first.register_forward_pre_hook(lambda *_: asked.append(now[-1]))
    return asked


def save_universal(folder: Path, family: str) -> None:
    """A universal segmentation model of a family: "mask2former", "oneformer", "maskformer"."""
    import torch
    import transformers as tf

    torch.manual_seed(0)
    names = {"id2label": LABELS, "label2id": {word: key for key, word in LABELS.items()}}
    sizes = {"image_size": 64, "embed_dim": 8, "depths": [1] * 4, "num_heads": [1, 1, 2, 2]}
    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = tf.SwinConfig(**sizes, window_size=4, out_features=stages)
    if family == "maskformer":
        detr = tf.DetrConfig(
            num_queries=6, d_model=32, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=16, decoder_ffn_dim=16,
        )  # fmt: skip
        config: Any = tf.MaskFormerConfig(
            backbone_config=swin, decoder_config=detr, fpn_feature_size=32, mask_feature_size=32,
            **names,
        )  # fmt: skip
        network: Any = tf.MaskFormerForInstanceSegmentation(config)
        kind = "MaskFormerImageProcessor"
    elif family == "mask2former":
        config = tf.Mask2FormerConfig(
            backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32,
            encoder_feedforward_dim=16, dim_feedforward=16, num_attention_heads=2,
            encoder_layers=1, decoder_layers=2, num_queries=6, **names,
        )  # fmt: skip
        network = tf.Mask2FormerForUniversalSegmentation(config)
        kind = "Mask2FormerImageProcessor"
    else:
        config = tf.OneFormerConfig(
            backbone_config=swin, hidden_dim=32, conv_dim=32, mask_dim=32, num_queries=6,
            encoder_feedforward_dim=16, dim_feedforward=16, num_attention_heads=2,
            encoder_layers=1, decoder_layers=2, query_dec_layers=1, task_seq_len=9,
            text_encoder_width=16, text_encoder_n_ctx=2, text_encoder_num_layers=1,
            text_encoder_context_length=9, text_encoder_vocab_size=40, is_training=False, **names,
        )  # fmt: skip
        network = tf.OneFormerForUniversalSegmentation(config)
        kind = "OneFormerImageProcessor"
        save_words(folder)
    _enliven(network, 0.15)
    network.save_pretrained(folder)
    about = {
        "image_processor_type": kind,
        "size": {"shortest_edge": 64, "longest_edge": 128},
        "size_divisor": 32,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
        "num_labels": 3,
    }
    if family == "oneformer":
        about |= {"class_info_file": "coco_panoptic.json", "repo_path": "shi-labs/oneformer_demo"}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))


def _enliven(network: Any, noise: float) -> None:
    """Weights as drawn give every query, crop or phrase nearly the same answer; these do not."""
    import torch

    for name, one in network.named_parameters():
        if "embedd" in name and "quer" in name:
            one.data.add_(torch.randn_like(one))
        head = "class_predictor" in name or "class_embed." in name
        one.data.add_((0.4 if head else noise) * torch.randn_like(one))
        if head and name.endswith("bias"):
            one.data[-1] -= 4.0  # "no object" would win everywhere


def save_words(folder: Path, extra: tuple[str, ...] = ()) -> Any:
    """A tokenizer of a few words, as `tokenizers` saves it; returns it."""
    import transformers as tf
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", *extra]
    words = [*special, *_WORDS.split(), "?"]
    table = {word: number for number, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=32,
        extra_special_tokens={"image_token": extra[0]} if extra else {},
    )
    folder.mkdir(parents=True, exist_ok=True)
    fast.save_pretrained(folder)
    return fast


def save_captioner(folder: Path, name: str) -> None:
    """A captioner: "blip" or "florence-2"."""
    import torch
    import transformers as tf

    torch.manual_seed(0)
    if name == "blip":
        folder.mkdir(parents=True, exist_ok=True)
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS.split()]
        words = list(dict.fromkeys(words))
        (folder / "vocab.txt").write_text("\n".join(words) + "\n")
        tf.BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
        small = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
        ends = {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
        text = {**small, **ends, "num_hidden_layers": 1, "vocab_size": len(words)}
        text["encoder_hidden_size"] = 16
        vision = {**small, "num_hidden_layers": 1, "image_size": 32, "patch_size": 16}
        config: Any = tf.BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
        network: Any = tf.BlipForConditionalGeneration(config)
        _enliven(network, 0.3)
        network.save_pretrained(folder)
        about = {"image_processor_type": "BlipImageProcessor", "size": {"height": 32, "width": 32}}
        (folder / "preprocessor_config.json").write_text(json.dumps(about))
        processor = {"processor_class": "BlipProcessor"}
        (folder / "processor_config.json").write_text(json.dumps(processor))
        return
    tokenizer = save_words(folder, ("<image>",))
    vision = {"depths": [1, 1, 1, 1], "embed_dim": [4, 8, 8, 16], "num_heads": [1, 1, 1, 2],
              "num_groups": [1, 1, 1, 2], "window_size": 4, "projection_dim": 16}  # fmt: skip
    text = {"model_type": "bart", "vocab_size": len(tokenizer), "d_model": 16, "encoder_layers": 1,
            "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
            "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 64,
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
            "forced_eos_token_id": 2}  # fmt: skip
    config = tf.Florence2Config(
        vision_config=vision, text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    network = tf.Florence2ForConditionalGeneration(config)
    _enliven(network, 0.3)
    network.save_pretrained(folder)
    about = {"image_processor_type": "CLIPImageProcessor", "size": {"height": 64, "width": 64},
             "image_seq_length": 5, "do_center_crop": False}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    processor = {"processor_class": "Florence2Processor"}
    (folder / "processor_config.json").write_text(json.dumps(processor))


def save_clipseg(folder: Path) -> None:
    """CLIPSeg of 32 x 32 pixels."""
    import torch
    import transformers as tf
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    # As in CLIP, the end of a phrase has the highest number: it is what the phrase is read from.
    words = [*dict.fromkeys(["<pad>", "<s>", "<unk>", *_WORDS.split()]), "</s>"]
    last = len(words) - 1
    rule = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    rule.pre_tokenizer = pre_tokenizers.Whitespace()
    rule.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", last)]
    )
    ends = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    folder.mkdir(parents=True, exist_ok=True)
    tf.PreTrainedTokenizerFast(tokenizer_object=rule, model_max_length=32, **ends).save_pretrained(
        folder
    )
    small = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    text = {**small, "num_hidden_layers": 1, "vocab_size": len(words), "bos_token_id": 1,
            "eos_token_id": last, "pad_token_id": 0, "max_position_embeddings": 32}  # fmt: skip
    vision = {**small, "num_hidden_layers": 3, "image_size": 32, "patch_size": 8}
    config = tf.CLIPSegConfig(
        text_config=text, vision_config=vision, projection_dim=8, extract_layers=[0, 2],
        reduce_dim=8, decoder_num_attention_heads=2, decoder_intermediate_size=16,
    )  # fmt: skip
    network = tf.CLIPSegForImageSegmentation(config)
    _enliven(network, 0.3)
    network.save_pretrained(folder)
    about = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
