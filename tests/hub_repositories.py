"""Tiny networks with random weights under the names of the repositories in the bank ``popular``."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from library_nets import library, seeded
from loopback import Loopback
from transformers_kinds import STAGES, dinov2, mask2former, saved
from transformers_nets import beit, dpt, segformer, transformers_library

from seg_transfer.models.compat import quiet


def upernet(library: Any) -> Any:
    backbone = library.ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], out_features=STAGES)
    config = library.UperNetConfig(
        backbone_config=backbone, hidden_size=16, num_labels=5, auxiliary_channels=8, auxiliary_in_channels=16
    )
    return library.UperNetForSemanticSegmentation(config)


TRANSFORMERS: Mapping[str, Callable[[Any], Any]] = {
    "facebook/dinov2-small": dinov2,
    "facebook/dinov2-base": dinov2,
    "nvidia/segformer-b0-finetuned-ade-512-512": segformer,
    "nvidia/segformer-b2-finetuned-ade-512-512": segformer,
    "nvidia/segformer-b0-finetuned-cityscapes-1024-1024": segformer,
    "openmmlab/upernet-convnext-tiny": upernet,
    "facebook/mask2former-swin-tiny-ade-semantic": mask2former,
    "Intel/dpt-large-ade": dpt,
    "microsoft/beit-base-finetuned-ade-640-640": beit,
}
TIMM: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "timm/convnext_tiny.in12k_ft_in1k": ("convnext_tiny", {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 20]}),
    "timm/swin_tiny_patch4_window7_224.ms_in1k": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
    ),
    "timm/tf_efficientnet_b4.ns_jft_in1k": ("test_efficientnet", {}),
}


def serve(server: Loopback, folder: Path, revisions: Mapping[str, str]) -> None:
    """Save every network with its library and serve it as its repository.

    Args:
        server: The server.
        folder: Where the networks are saved.
        revisions: Repository -> the revision that has it, where that is not the main branch.
    """
    for seed, name in enumerate([*TRANSFORMERS, *TIMM]):
        place = folder / name
        _save_transformers(place, TRANSFORMERS[name], seed) if name in TRANSFORMERS else _save_timm(place, name, seed)
        server.add_folder(name, place, revision=revisions.get(name, "main"))


def _save_transformers(folder: Path, make: Callable[[Any], Any], seed: int) -> None:
    def seeded_network(library: Any) -> Any:
        torch.manual_seed(seed)
        return make(library)

    saved(folder, transformers_library(), seeded_network)


def _save_timm(folder: Path, name: str, seed: int) -> None:
    architecture, arguments = TIMM[name]
    with quiet(), torch.random.fork_rng():
        network = seeded(library("timm").create_model(architecture, **arguments), seed)
        save = import_module("timm.models._hub").save_for_hf
        save(network, folder, model_args=dict(arguments), safe_serialization=True)
