"""Networks of transformers in tiny sizes, in the folders that its ``save_pretrained`` writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers_kinds as made
from kinds.kind import Answer, Kind, before_classifier
from torch import Tensor
from transformers_nets import beit, dpt, segformer, transformers_library, upernet

from seg_transfer.models.compat import quiet

_BLOCKS = (2, 3, 5, 6)
_PATCH = 8


def _save(make: Callable[[Any], Any]) -> Callable[[Path], tuple[dict[str, Any], Any]]:
    def save(folder: Path) -> tuple[dict[str, Any], Any]:
        network = made.saved(folder / "saved", transformers_library(), make)
        return {"transformers": folder / "saved"}, network

    return save


def _save_stages(make: Callable[[Any], Any], backbone: str) -> Callable[[Path], tuple[dict[str, Any], Any]]:
    """A network, and what the library's own backbone class makes of its folder."""

    def save(folder: Path) -> tuple[dict[str, Any], Any]:
        fields, _ = _save(make)(folder)
        with quiet():
            network = getattr(transformers_library(), backbone).from_pretrained(
                folder / "saved", out_features=made.STAGES
            )
        return fields, network.eval()

    return save


def _queries(network: Any, images: Tensor) -> Answer:
    """The logarithm of what the library's own post-processing takes the best of, and the maps that queries share."""
    with quiet(), torch.inference_mode():
        output = network(images)
        classes, masks = output.class_queries_logits.softmax(dim=-1)[..., :-1], output.masks_queries_logits.sigmoid()
        scores = torch.einsum("bqc,bqhw->bchw", classes, masks).log()
        if not hasattr(network, "model"):  # EoMT's queries are tokens of its ViT
            return Answer(None, scores)
        level = network.model.pixel_level_module(images)
    coarse = sorted(level.decoder_hidden_states[:3], key=lambda one: -one.shape[2])
    return Answer([level.decoder_last_hidden_state, *coarse], scores)


def _patches(states: list[Tensor], n_prefix: int, images: Tensor) -> list[Tensor]:
    grid = tuple(side // _PATCH for side in images.shape[2:])
    return [state[:, n_prefix:].unflatten(1, grid).permute(0, 3, 1, 2) for state in states]


def _dino(network: Any, images: Tensor) -> Answer:
    with quiet(), torch.inference_mode():
        states = network(images, output_hidden_states=True).hidden_states
        normed = [network.layernorm(states[block]) for block in _BLOCKS]
    return Answer(_patches(normed, 1, images), None)


def _vit(network: Any, images: Tensor) -> Answer:
    with quiet(), torch.inference_mode():
        output = network.vit(images, output_hidden_states=True, interpolate_pos_encoding=True)
    states = [*(output.hidden_states[block] for block in _BLOCKS[:-1]), output.last_hidden_state]
    return Answer(_patches(states, 1, images), None)


def _clip(network: Any, images: Tensor) -> Answer:
    with quiet(), torch.inference_mode():
        output = network.vision_model(images, output_hidden_states=True, interpolate_pos_encoding=True)
    states = [*(output.hidden_states[block] for block in _BLOCKS[:-1]), output.last_hidden_state]
    return Answer(_patches(states, 1, images), None)


def _backbone_maps(network: Any, images: Tensor) -> Answer:
    with quiet(), torch.inference_mode():
        return Answer(list(network(images).feature_maps), None)


def _kind(model: str, make: Any, answer: Any, **fields: Any) -> Kind:
    return Kind("transformers", model, _save(make), answer, **fields)


TRANSFORMERS = [
    _kind("SegFormer", segformer, before_classifier("decode_head.classifier")),
    _kind("UPerNet on ResNet", upernet, before_classifier("decode_head.classifier")),
    _kind("BEiT", beit, before_classifier("decode_head.classifier"), multiple=16),
    _kind("DPT", dpt, before_classifier("head.head.4"), multiple=16, square=True),
    _kind("Mask2Former on Swin", made.mask2former, _queries),
    _kind("EoMT on ViT", made.eomt, _queries, fixed=(48, 48)),
    _kind("DINOv2", made.dinov2, _dino, multiple=_PATCH),
    _kind("ViT, an image classifier", made.vit_classifier, _vit, multiple=_PATCH),
    _kind("CLIP", made.clip, _clip, multiple=_PATCH),
    Kind(
        "transformers",
        "ConvNeXt, an image classifier",
        _save_stages(made.convnext, "ConvNextBackbone"),
        _backbone_maps,
        multiple=32,
    ),
    Kind("transformers", "Swin", _save_stages(made.swin, "SwinBackbone"), _backbone_maps),
]
