"""Builds networks of all kinds from what ``source.json`` says, by nothing but torch and the library of the network."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import types
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_transfer.prediction.standalone.safety import only_registered, sealed

_LIBRARY_OF = {
    "smp": "segmentation_models_pytorch",
    **{name: name for name in ("timm", "torchvision", "transformers")},
}
_kept: list[Any] = []  # a library removes its operators when it is garbage-collected


def build_network(model: dict[str, Any], *, trust_code: bool = False) -> tuple[nn.Module, str | None]:
    """Build a network with random weights, without the linear head that it may have got.

    Args:
        model: The field ``model`` of ``source.json``.
        trust_code: Whether the code of a network that is no library's may run.

    Returns:
        The network, and the name of the layer whose output is the class scores; None if that is the network's own.
    """
    _import_torchvision()
    if "kind" not in model:
        return _mmseg(model)
    described = {**model["architecture"], "library": model.get("library")}
    if model["kind"] == "factory":
        return _factory(described, trust_code=trust_code), model["classifier"]
    importlib.import_module(_LIBRARY_OF[model["kind"]])
    with sealed():
        return _BUILDERS[model["kind"]](described), model["classifier"]


def _mmseg(model: dict[str, Any]) -> tuple[nn.Module, str]:
    if importlib.util.find_spec("mmcv._ext") is None:  # mmcv-lite has no compiled operators, but mmseg imports them
        operators: Any = types.ModuleType("mmcv._ext")
        operators.__getattr__ = lambda name: None if name.startswith("__") else print
        sys.modules["mmcv._ext"] = operators
        importlib.import_module("mmcv.ops")
        del sys.modules["mmcv._ext"]
    importlib.import_module("mmseg.models")
    from mmengine import ConfigDict
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    with sealed(), only_registered(), DefaultScope.overwrite_default_scope("mmseg"):
        network: Any = MODELS.build(ConfigDict(model))
    head = network.decode_head
    is_cascade = isinstance(head, nn.ModuleList)
    return network, f"decode_head.{len(head) - 1}.conv_seg" if is_cascade else "decode_head.conv_seg"


def _torchvision(described: dict[str, Any]) -> nn.Module:
    models: Any = importlib.import_module("torchvision.models")
    name = described["model"]
    if name in models.list_models(module=models.segmentation):
        scoring: nn.Module = models.get_model(
            name, weights=None, weights_backbone=None, num_classes=described["n_classes"]
        )
        return scoring
    renormalizes = {"transform_input": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = models.get_model(name, weights=None, **renormalizes)
    for head in ("classifier", "fc", "head", "heads"):
        if hasattr(network, head):
            setattr(network, head, nn.Flatten())
    return network


def _smp(described: dict[str, Any]) -> nn.Module:
    classes = importlib.import_module("segmentation_models_pytorch").MODEL_ARCHITECTURES_MAPPING
    network: nn.Module = classes[described["model"].lower()](**{**described["arguments"], "encoder_weights": None})
    return network


def _timm(described: dict[str, Any]) -> nn.Module:
    create: Any = importlib.import_module("timm").create_model
    name = described["model"]
    options = {"pretrained_cfg": described.get("pretrained_cfg") or None, **described.get("arguments", {})}
    if name.startswith("hrnet_"):
        maps = create(name, features_only=True, feature_location="", out_indices=(1, 2, 3, 4), **options)
        return HRNetWithLinearHead(maps) if "n_classes" in described else maps
    for sizes in ({"dynamic_img_size": True}, {"strict_img_size": False}, {}):
        try:
            network: Any = create(name, **{"num_classes": 0, **sizes, **options})
            break
        except TypeError as error:
            if not any(option in str(error) for option in sizes):
                raise
    return TimmMaps.of(network)


class HRNetWithLinearHead(nn.Module):
    """The branches of timm's HRNet, enlarged to the size of the first and concatenated, and a 1x1 convolution."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(sum(backbone.feature_info.channels()), 1, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Score images, (B, C, h, w)."""
        fitting = [max(32, round(side / 32) * 32) for side in images.shape[2:]]
        if fitting != list(images.shape[2:]):
            images = F.interpolate(images, size=fitting, mode="bilinear", antialias=True)
        first, *others = self.backbone(images)
        same = [F.interpolate(branch, size=first.shape[2:], mode="bilinear") for branch in others]
        scores: Tensor = self.classifier(torch.cat([first, *same], dim=1))
        return scores


class TimmMaps:
    """The forward pass of a network of timm whose output are its maps: the last of every stride, or of four blocks."""

    def __init__(self, network: Any) -> None:
        strides = [int(stage["reduction"]) for stage in network.feature_info]
        n = len(strides)
        self.forward_intermediates = network.forward_intermediates
        self.is_plain = len(set(strides)) == 1
        last = {stride: index for index, stride in enumerate(strides)}
        blocks = {-(-n * (place + 1) // 4) - 1 for place in range(4)}
        self.indices = sorted(blocks if self.is_plain else last.values())

    @classmethod
    def of(cls, network: Any) -> nn.Module:
        """Replace the forward pass of a network; its weights keep their names."""
        network.forward = cls(network)
        changed: nn.Module = network
        return changed

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps (B, C, h, w) of images."""
        options = {"indices": self.indices, "norm": self.is_plain, "output_fmt": "NCHW", "intermediates_only": True}
        return tuple(self.forward_intermediates(images, **options))


def _transformers(described: dict[str, Any]) -> nn.Module:
    library = described["library"]
    transformers: Any = importlib.import_module("transformers")
    of_library: Any = getattr(transformers, library["class"])
    if not issubclass(of_library, transformers.PreTrainedModel) or library["attention"] not in ("eager", "sdpa"):
        raise ValueError(f"source.json: {library['class']} with attention {library['attention']} is no network")
    config = of_library.config_class.from_dict(library["config"])
    settings = {"dtype": torch.float32, "attn_implementation": library["attention"]}
    without_pooling = {"add_pooling_layer": False} if library["layout"] and _takes_pooling(of_library) else {}
    network: nn.Module = of_library._from_config(config, **settings, **without_pooling)
    if described["role"] == "universal":
        return ScoresOfQueries(network, described.get("task_tokens"))
    return BackboneMaps(network, *library["layout"]) if library["layout"] else network


def _takes_pooling(of_library: Any) -> bool:
    return "add_pooling_layer" in inspect.signature(of_library).parameters


class ScoresOfQueries(nn.Module):
    """A network of queries, each with classes and a mask: the score of a class is the sum of masks of its queries."""

    def __init__(self, model: nn.Module, task_tokens: list[int] | None) -> None:
        super().__init__()
        if hasattr(model, "criterion"):
            del model.criterion
        self.model = model
        self.register_buffer("task", None if task_tokens is None else torch.tensor([task_tokens]), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Score images, (B, C, h, w)."""
        task: Any = self.task
        output: Any = self.model(images, *([] if task is None else [task.expand(len(images), -1)]))
        is_detr = "pred_masks" in output
        classes = output["logits" if is_detr else "class_queries_logits"]
        masks = output["pred_masks" if is_detr else "masks_queries_logits"]
        scores = torch.einsum("bqc,bqhw->bchw", classes.softmax(dim=-1)[..., :-1], masks.sigmoid())
        return scores.clamp_min(torch.finfo(scores.dtype).tiny).log()


class BackboneMaps(nn.Module):
    """A network of transformers without a head, whose output are its maps."""

    def __init__(
        self, model: Any, kept: list[int], multiple: list[int], n_prefix_tokens: int, channels_last: bool
    ) -> None:
        super().__init__()
        self.model = model
        self.kept = kept
        self.multiple = multiple
        self.n_prefix_tokens = n_prefix_tokens
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps (B, C, h, w) of images."""
        takes_sizes = "interpolate_pos_encoding" in inspect.signature(type(self.model).forward).parameters
        options = {"interpolate_pos_encoding": True} if takes_sizes else {}
        if hasattr(self.model, "out_features"):
            states = list(self.model(images, **options)["feature_maps"])
        else:
            output = self.model(images, output_hidden_states=True, **options)
            *first, last = output["hidden_states"]
            final = output["last_hidden_state"]
            states = [*first, final if final.shape == last.shape else last]
        return tuple(self._as_map(states[position], images) for position in self.kept)

    def _as_map(self, state: Tensor, images: Tensor) -> Tensor:
        if state.dim() == 4:
            return state.movedim(-1, 1) if self.channels_last else state
        height, width = (side // step for side, step in zip(images.shape[2:], self.multiple, strict=True))
        patches = state[:, self.n_prefix_tokens : self.n_prefix_tokens + height * width]
        return patches.transpose(1, 2).reshape(len(state), state.shape[2], height, width)


def _factory(described: dict[str, Any], *, trust_code: bool) -> nn.Module:
    """Call the function that builds the network, which is code of its own."""
    if not trust_code:
        raise PermissionError(
            f"the network is built by {described['factory']}, Python code beside load.py or in {described['folder']}; "
            "read it, and pass trust_code=True (--trust-code) if you trust it"
        )
    module, function = described["factory"].split(":")
    sys.path += [str(Path(__file__).parent), described["folder"]]
    try:
        network: nn.Module = getattr(importlib.import_module(module), function)()
    except ModuleNotFoundError as error:
        raise ImportError(f"{described['factory']}: {error}; copy the code of the network beside load.py") from error
    return network


def _import_torchvision() -> None:
    """Import torchvision even beside a build of torch for which it cannot load its operators, which are not needed."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library
        _kept.append(library("torchvision", "DEF"))
        pooled = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
        for name in ("nms", "qnms", "qroi_align", *pooled, *(f"_{each}_backward" for each in pooled)):
            _kept[0].define(f"{name}(Tensor x) -> Tensor")
        importlib.import_module("torchvision")


_BUILDERS = {
    "smp": _smp,
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
}
