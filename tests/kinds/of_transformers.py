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


def _queries(network: Any, images: Tensor) -> Answer:
    """The logarithm of what the library's own post-processing takes the best of, and the maps that queries share."""
    with quiet(), torch.inference_mode():
        output = network(images)
        classes, masks = output.class_queries_logits.softmax(dim=-1)[..., :-1], output.masks_queries_logits.sigmoid()
        scores = torch.einsum("bqc,bqhw->bchw", classes, masks).log()
        if not hasattr(network.model, "pixel_level_module"):
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


def _hidden_states(trunk: str) -> Callable[[Any, Tensor], Answer]:
    """The last of the library's hidden states of every size."""

    def answer(network: Any, images: Tensor) -> Answer:
        inner = network.get_submodule(trunk) if trunk else network
        with quiet(), torch.inference_mode():
            output = inner(images, output_hidden_states=True)
        states = output.reshaped_hidden_states if "reshaped_hidden_states" in output else output.hidden_states
        by_size = {state.shape[2:]: state for state in states}
        return Answer(list(by_size.values()), None)

    return answer


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
    _kind("ConvNeXt, an image classifier", made.convnext, _hidden_states("convnext"), multiple=32),
    _kind("Swin", made.swin, _hidden_states("")),
]
