"""Small networks of the transformers library of many kinds, with random weights, saved by the library's own means."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers_nets import PREPROCESSOR

from seg_transfer.models.compat import quiet

STAGES = ["stage1", "stage2", "stage3", "stage4"]
N_QUERIES, N_CLASSES = 6, 5
# The words of "the task is semantic", as a byte-pair encoding of whole words.
TASK = ("the", "task", "is", "semantic")
_TRANSFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 8,
}
_QUERIES = {"num_queries": N_QUERIES, "num_labels": N_CLASSES, "num_attention_heads": 2, "encoder_layers": 1}


def swin_config(library: Any, **fields: Any) -> Any:
    sizes = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4, "image_size": 64}
    return library.SwinConfig(**sizes, **fields)


def mask2former(library: Any) -> Any:
    widths = {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "encoder_feedforward_dim": 16}
    backbone = swin_config(library, out_features=STAGES)
    config = library.Mask2FormerConfig(
        backbone_config=backbone, decoder_layers=2, dim_feedforward=16, **widths, **_QUERIES
    )
    return library.Mask2FormerForUniversalSegmentation(config)


def maskformer(library: Any) -> Any:
    decoder = library.DetrConfig(
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=N_QUERIES,
    )
    config = library.MaskFormerConfig(
        backbone_config=swin_config(library, out_features=STAGES),
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
        num_labels=N_CLASSES,
    )
    return library.MaskFormerForInstanceSegmentation(config)


def oneformer(library: Any) -> Any:
    widths = {"hidden_dim": 32, "conv_dim": 32, "mask_dim": 32, "encoder_feedforward_dim": 16, "dim_feedforward": 16}
    config = library.OneFormerConfig(
        backbone_config=swin_config(library, out_features=STAGES),
        decoder_layers=3,
        is_training=False,
        text_encoder_width=16,
        text_encoder_num_layers=1,
        **widths,
        **_QUERIES,
    )
    return library.OneFormerForUniversalSegmentation(config)


def eomt(library: Any) -> Any:
    config = library.EomtConfig(
        **_TRANSFORMER | {"image_size": 48, "num_hidden_layers": 4},
        num_blocks=1,
        num_upscale_blocks=1,
        num_queries=N_QUERIES,
        num_labels=N_CLASSES,
    )
    return library.EomtForUniversalSegmentation(config)


def detr(library: Any) -> Any:
    backbone = library.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], out_features=STAGES
    )
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    config = library.DetrConfig(
        use_timm_backbone=False,
        backbone_config=backbone,
        use_pretrained_backbone=False,
        d_model=64,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        num_queries=N_QUERIES,
        num_labels=N_CLASSES,
        **layers,
    )
    return library.DetrForSegmentation(config)


def vit_classifier(library: Any) -> Any:
    return library.ViTForImageClassification(library.ViTConfig(**_TRANSFORMER, num_labels=7))


def vit_mae(library: Any) -> Any:
    decoder = {"decoder_hidden_size": 8, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 8}
    return library.ViTMAEForPreTraining(library.ViTMAEConfig(**_TRANSFORMER, decoder_num_hidden_layers=1, **decoder))


def deit(library: Any) -> Any:
    return library.DeiTModel(library.DeiTConfig(**_TRANSFORMER))


def dinov2(library: Any) -> Any:
    return library.Dinov2Model(library.Dinov2Config(**_TRANSFORMER))


def dinov2_with_registers(library: Any) -> Any:
    config = library.Dinov2WithRegistersConfig(**_TRANSFORMER, num_register_tokens=3)
    return library.Dinov2WithRegistersForImageClassification(config)


def dinov3(library: Any) -> Any:
    return library.DINOv3ViTModel(library.DINOv3ViTConfig(**_TRANSFORMER, num_register_tokens=2))


def clip(library: Any) -> Any:
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = library.CLIPConfig(text_config={**text, "vocab_size": 50}, vision_config=_TRANSFORMER, projection_dim=8)
    return library.CLIPModel(config)


def siglip(library: Any) -> Any:
    return library.SiglipVisionModel(library.SiglipVisionConfig(**_TRANSFORMER))


def sam(library: Any) -> Any:
    vision = _TRANSFORMER | {"image_size": 48, "output_channels": 8, "window_size": 4, "global_attn_indexes": [5]}
    decoder = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "mlp_dim": 8,
        "iou_head_hidden_dim": 8,
    }
    prompts = {"hidden_size": 8, "image_size": 48, "patch_size": 8}
    config = library.SamConfig(vision_config=vision, mask_decoder_config=decoder, prompt_encoder_config=prompts)
    return library.SamModel(config)


def swin(library: Any) -> Any:
    return library.SwinModel(swin_config(library))


def convnext(library: Any) -> Any:
    config = library.ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], num_labels=7)
    return library.ConvNextForImageClassification(config)


def resnet(library: Any) -> Any:
    config = library.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1])
    return library.ResNetForImageClassification(config)


def segformer_encoder(library: Any) -> Any:
    config = library.SegformerConfig(
        hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4]
    )
    return library.SegformerForImageClassification(config)


def saved(folder: Path, library: Any, make: Callable[[Any], Any]) -> Any:
    """Save a network of random weights with the library's ``save_pretrained``, and return it in evaluation mode."""
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(4)
        network = make(library).eval()
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
        network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    if make is oneformer:
        save_tokenizer(folder)
    return network


def save_tokenizer(folder: Path) -> None:
    """Write the vocabulary and merges of a tokenizer of the words of `TASK`."""
    merges, vocabulary = [], ["<|startoftext|>", "<|endoftext|>"]
    for word in TASK:
        *letters, last = word
        parts = [*letters, f"{last}</w>"]
        vocabulary += [part for part in parts if part not in vocabulary]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts[:2] = ["".join(parts[:2])]
            vocabulary += [parts[0]] if parts[0] not in vocabulary else []
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
