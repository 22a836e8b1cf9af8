"""Three factories and a SegFormer as sources of a study: their entries, their files, and changes to an entry."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from other_nets import MEAN, STD, write_net
from transformers_nets import transformers_library

from seg_transfer.models.compat import quiet

TARGETS = ["dusk_street", "cells_dark"]
NETS = {"tokens": "Tokens", "dictionary": "Dictionary", "prototypes": "Prototypes"}


def factory(name: str, **fields: Any) -> dict[str, Any]:
    network = NETS[name]
    return {
        "name": name,
        "dataset": "elsewhere",
        "factory": f"nets:{network}",
        "classifier": "head",
        "weights": f"{network}.safetensors",
        "mean": list(MEAN),
        "std": list(STD),
        **fields,
    }


ENTRIES = [
    factory("tokens", channel_order="bgr"),
    factory("dictionary"),
    {key: value for key, value in factory("prototypes", scores_only=True).items() if key != "classifier"},
    {"name": "segformer", "dataset": "cells_dark", "transformers": "hub"},
]


def write_segformer(folder: Path) -> None:
    with quiet():
        library = transformers_library()
        config = library.SegformerConfig(
            num_labels=5,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 2, 4],
            decoder_hidden_size=24,
        )
        torch.manual_seed(1)
        library.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    preprocessor = {"do_normalize": True, "image_mean": list(MEAN), "image_std": list(STD)}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))


def write_sources(folder: Path) -> None:
    """Write the files that the entries name."""
    for network in NETS.values():
        write_net(folder, network)
    write_segformer(folder / "hub")


def scores(workspace: Any) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(row["source"], row["target"], row["metric"]): row for row in workspace.rows("scores")}


def other_field(place: int, **fields: Any) -> Callable[[Any], None]:
    def change(workspace: Any) -> None:
        entries = [{**entry, **(fields if number == place else {})} for number, entry in enumerate(ENTRIES)]
        workspace.change(sources=["day_street", *entries])

    return change
