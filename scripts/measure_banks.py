"""Print the parameters and GFLOPs of the networks that the shipped banks name, built with random weights.

    python scripts/measure_banks.py [BANK ...]

Nothing is downloaded: networks of timm, torchvision and mmsegmentation are built by their names, and those of
transformers from the sizes that are listed here, which are those of their repositories.
"""

import importlib.metadata
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from seg_transfer.evaluation import in_millions, three_digits
from seg_transfer.models.compat import import_torchvision, quiet
from seg_transfer.models.configs import n_classes_of, read_model_config
from seg_transfer.models.network_costs import SIDE, network_costs
from seg_transfer.models.networks import build_network
from seg_transfer.models.normalization import Normalization
from seg_transfer.models.reading import read_network
from seg_transfer.resources import shipped_files
from seg_transfer.store.network_costs import NetworkCosts

STAGES = ["stage1", "stage2", "stage3", "stage4"]
SEGFORMER_B2 = {
    "hidden_sizes": [64, 128, 320, 512],
    "depths": [3, 4, 6, 3],
    "num_attention_heads": [1, 2, 5, 8],
    "decoder_hidden_size": 768,
}
DPT_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "backbone_out_indices": [5, 11, 17, 23],
    "neck_hidden_sizes": [256, 512, 1024, 1024],
    "image_size": 480,
}
BEIT_BASE = {
    "image_size": 640,
    "out_indices": [3, 5, 7, 11],
    "use_relative_position_bias": True,
    "use_auxiliary_head": False,
}
# Repository -> class, configuration class, and what differs from its defaults.
TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "facebook/dinov2-small": (
        "Dinov2Backbone",
        "Dinov2Config",
        {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518, "patch_size": 14},
    ),
    "facebook/dinov2-base": ("Dinov2Backbone", "Dinov2Config", {"image_size": 518, "patch_size": 14}),
    "nvidia/segformer-b0-finetuned-ade-512-512": ("SegformerForSemanticSegmentation", "SegformerConfig", {}),
    "nvidia/segformer-b2-finetuned-ade-512-512": ("SegformerForSemanticSegmentation", "SegformerConfig", SEGFORMER_B2),
    "nvidia/segformer-b0-finetuned-cityscapes-1024-1024": (
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        {"num_labels": 19},
    ),
    "openmmlab/upernet-convnext-tiny": ("UperNetForSemanticSegmentation", "UperNetConfig", {}),
    "facebook/mask2former-swin-tiny-ade-semantic": ("Mask2FormerForUniversalSegmentation", "Mask2FormerConfig", {}),
    "Intel/dpt-large-ade": ("DPTForSemanticSegmentation", "DPTConfig", DPT_LARGE),
    "microsoft/beit-base-finetuned-ade-640-640": (
        "BeitForSemanticSegmentation",
        "BeitConfig",
        BEIT_BASE,
    ),
}
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Part(nn.Module):
    """Returns one part of what a network of transformers returns: the maps of a backbone, or masks as the answer."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name

    def forward(self, images: Any) -> Any:
        return self.network(images)[self.name]


def costs_of(entry: dict[str, Any]) -> NetworkCosts:
    """Build the network of an entry and count."""
    import_torchvision()
    with quiet():
        network, has_scores, n_classes = built(entry)
        source = read_network(network.eval(), IMAGENET, has_scores=has_scores, n_classes=n_classes, features="stages")
        return network_costs(source)


def built(entry: dict[str, Any]) -> tuple[nn.Module, bool, int | None]:
    """Return the network of an entry, whether it gives class scores, and its number of classes."""
    if "timm" in entry:
        import timm

        name = entry["timm"].rpartition("/")[2]
        return timm.create_model(name, pretrained=False, features_only=True), False, None
    if "torchvision" in entry:
        import torchvision

        return torchvision.models.get_model(entry["torchvision"], weights=None, weights_backbone=None), True, 21
    if "mmseg" in entry:
        model = read_model_config(zoo()[entry["mmseg"]])
        model.pop("auxiliary_head", None)
        return build_network(model, seed=0), True, n_classes_of(model)
    return of_transformers(entry["transformers"])


@cache
def zoo() -> dict[str, Path]:
    """Return the config file of every model of mmsegmentation's zoo."""
    files = importlib.metadata.files("mmsegmentation") or []
    metafiles = [Path(str(file.locate())) for file in files if file.name == "metafile.yaml"]
    root = metafiles[0].parents[2]
    models = [model for file in metafiles for model in yaml.safe_load(file.read_text("utf-8")).get("Models", ())]
    return {model["Name"]: root / model["Config"] for model in models}


def of_transformers(repository: str) -> tuple[nn.Module, bool, int | None]:
    import transformers

    kind, config_kind, fields = TRANSFORMERS[repository]
    if kind == "Dinov2Backbone":
        config = transformers.Dinov2Config(**fields, reshape_hidden_states=True)
        return Part(transformers.Dinov2Backbone(config), "feature_maps"), False, None
    if kind == "UperNetForSemanticSegmentation":
        backbone = transformers.ConvNextConfig(
            hidden_sizes=[96, 192, 384, 768], depths=[3, 3, 9, 3], out_features=STAGES
        )
        fields = {"backbone_config": backbone, "use_auxiliary_head": False}
    if kind == "Mask2FormerForUniversalSegmentation":
        backbone = transformers.SwinConfig(
            depths=[2, 2, 6, 2], embed_dim=96, num_heads=[3, 6, 12, 24], window_size=7, out_features=STAGES
        )
        fields = {"backbone_config": backbone}
    config = getattr(transformers, config_kind)(**{"num_labels": 150, **fields})
    network = getattr(transformers, kind)(config)
    if kind == "Mask2FormerForUniversalSegmentation":
        return Part(network, "masks_queries_logits"), True, None
    return network, True, config.num_labels


def main() -> None:
    banks = shipped_files("bank")
    for bank in sys.argv[1:] or banks:
        print(f"\n`{bank}`:\n\n| source | parameters | GFLOPs | license |\n|---|---|---|---|")
        for entry in yaml.safe_load(banks[bank].read_text(encoding="utf-8"))["sources"]:
            costs = costs_of(entry)
            cells = (f"`{entry['name']}`", in_millions(costs.parameters), gflops_of(costs), entry["license"])
            print(f"| {' | '.join(cells)} |", flush=True)


def gflops_of(costs: NetworkCosts) -> str:
    """Format the operations, with the size of the image unless it is the usual one."""
    if costs.gflops is None:
        return "unknown"
    is_usual = (costs.height, costs.width) == (SIDE, SIDE)
    return three_digits(costs.gflops) + ("" if is_usual else f" at {costs.height} x {costs.width}")


if __name__ == "__main__":
    main()
