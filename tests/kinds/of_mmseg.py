"""Networks of mmsegmentation's zoo in tiny sizes, in the files that its Runner writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kinds.kind import HALF, Answer, Kind, before_classifier, with_statistics
from torch import Tensor
from zoo_networks import tiny_config

from seg_transfer.models.networks import build_network

# The numbers that its configs state, as fractions.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_ZOO = (tuple(value / 255 for value in _MEAN), tuple(value / 255 for value in _STD))


def _save(family: str) -> Callable[[Path], tuple[dict[str, Any], Any]]:
    def save(folder: Path) -> tuple[dict[str, Any], Any]:
        model = tiny_config(family)
        network = with_statistics(build_network(model, seed=1))
        from mmengine.logging import HistoryBuffer

        # An object that torch alone refuses to load lies in every checkpoint of its Runner.
        hub = {"log_scalars": {"train/loss": HistoryBuffer([1.0], [1])}, "runtime_info": {"iter": 40_000}}
        content = {"meta": {"iter": 40_000}, "state_dict": network.state_dict(), "message_hub": hub}
        torch.save(content, folder / "iter_40000.pth")
        (folder / "net.json").write_text(json.dumps({"model": model}))
        return {"config": folder / "net.json", "checkpoint": folder / "iter_40000.pth"}, network

    return save


def _segmenter(network: Any, images: Tensor) -> Answer:
    """The scores of its classes are products of tokens, so that no layer of a map is its last."""
    with torch.inference_mode():
        return Answer(None, network(images))


_LAST = "decode_head.conv_seg"
_NAMES: dict[str, tuple[str, str]] = {
    "fcn_hrnet": ("FCN on HRNetV2", _LAST),
    "deeplabv3plus": ("DeepLabV3+ on ResNet", _LAST),
    "upernet_swin": ("UPerNet on Swin", _LAST),
    "segformer": ("SegFormer on MiT", _LAST),
    "ocrnet": ("OCRNet on HRNetV2", "decode_head.1.conv_seg"),
    "bisenetv1": ("BiSeNetV1", _LAST),
}
MMSEG = [
    *(
        Kind("mmsegmentation", name, _save(family), before_classifier(last), normalization=_ZOO)
        for family, (name, last) in _NAMES.items()
    ),
    Kind("mmsegmentation", "Segmenter on ViT", _save("segmenter"), _segmenter, normalization=HALF),
]
