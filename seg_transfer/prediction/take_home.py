"""What lies beside the weights of a trained network, so that it can be used anywhere: its input, and a loader."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.models.source_model import SourceModel
from seg_transfer.store.atomic import write_text
from seg_transfer.store.source_card import NetworkInput

LOADER = "load.py"
_STANDALONE = Path(__file__).with_name("standalone")
_FUTURE = "from __future__ import annotations\n"
_IMPORTS = {
    "networks.py": "from seg_transfer.prediction.standalone.networks import build_network\n",
    "safety.py": "from seg_transfer.prediction.standalone.safety import only_registered, sealed\n",
}
"""Module -> the import that its text takes the place of."""


def network_input(trained: SourceModel, manifest: DatasetManifest) -> NetworkInput:
    """Describe how images become the input of a network, as they do when it is evaluated.

    Args:
        trained: The network.
        manifest: The dataset it was trained on.
    """
    normalization = trained.normalization
    return NetworkInput(
        short_side=min(manifest.crop_size),
        mean=normalization.mean,
        std=normalization.std,
        channel_order="bgr" if normalization.channel_order == "bgr" else "rgb",
        images=manifest.images,
        tiles=manifest.tiles,
        **asdict(trained.sizes),
    )


def model_description(model: Mapping[str, Any], network: nn.Module) -> dict[str, Any]:
    """Add to the description of a network what its library needs to build it without this package.

    For networks of transformers, that is the class, its config and attention, and where the maps of a backbone are.

    Args:
        model: As in a source card.
        network: The network.
    """
    of_library: Any = next((module for module in network.modules() if hasattr(module, "_from_config")), None)
    if model.get("kind") != "transformers" or of_library is None:
        return dict(model)
    layouts: list[Any] = [module.layout for module in network.modules() if hasattr(module, "layout")]
    library = {
        "class": type(of_library).__name__,
        "config": json.loads(of_library.config.to_json_string(use_diff=False)),
        "attention": of_library.config._attn_implementation,
        "layout": list(layouts[0]) if layouts else None,
    }
    return {**model, "library": library}


def write_loader(folder: Path) -> None:
    """Write ``load.py`` into the folder of a trained network: it predicts without this package."""
    write_text(folder / LOADER, loader_text())


def loader_text() -> str:
    """Return the text of ``load.py``: the modules in `standalone` in one file."""
    text = (_STANDALONE / LOADER).read_text(encoding="utf-8")
    for name, line in _IMPORTS.items():
        before, after = text.split(line)
        module = (_STANDALONE / name).read_text(encoding="utf-8")
        text = before + module.partition(_FUTURE)[2].strip() + "\n" + after
    return text
