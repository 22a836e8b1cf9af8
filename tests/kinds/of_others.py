"""Networks of timm, segmentation_models_pytorch, torchvision and of code of the user, in tiny sizes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kinds.kind import GIVEN, HALF, IMAGENET, Answer, Kind, before_classifier, with_statistics
from library_nets import library, saved, seeded
from other_nets import write_net
from safetensors.torch import save_file
from torch import Tensor

from seg_transfer.models.compat import quiet

Save = Callable[[Path], tuple[dict[str, Any], Any]]
_GIVEN = {"mean": GIVEN[0], "std": GIVEN[1]}


# timm


def _timm_file(model: str) -> Save:
    """The weights of a network, saved by torch, and its name."""

    def save(folder: Path) -> tuple[dict[str, Any], Any]:
        network = with_statistics(seeded(library("timm").create_model(model)), 160)
        return {"timm": model, "weights": saved(network, folder / "weights.pth")}, network

    return save


def _timm_folder(model: str, **options: Any) -> Save:
    """What timm uploads to the Hub."""

    def save(folder: Path) -> tuple[dict[str, Any], Any]:
        timm = library("timm")
        network = with_statistics(seeded(timm.create_model(model, **options)), 160)
        timm.models.save_for_hf(network, folder / "hub", safe_serialization=True)
        return {"timm": folder / "hub"}, network

    return save


def _timm_maps(*indices: int, norm: bool = False) -> Callable[[Any, Tensor], Answer]:
    def answer(network: Any, images: Tensor) -> Answer:
        if hasattr(network, "patch_embed") and hasattr(network.patch_embed, "strict_img_size"):
            network.set_input_size(images.shape[2:])
        with torch.inference_mode():
            maps = network.forward_intermediates(images, indices=list(indices), intermediates_only=True, norm=norm)
        return Answer(list(maps), None)

    return answer


def _hrnet_with_head(folder: Path) -> tuple[dict[str, Any], Any]:
    """The branches as timm makes them, and a 1x1 convolution on their concatenation."""
    options = {"features_only": True, "feature_location": "", "out_indices": (1, 2, 3, 4)}
    branches = with_statistics(seeded(library("timm").create_model("hrnet_w18_small", **options)))
    head = seeded(torch.nn.Conv2d(240, 5, 1))
    network = torch.nn.ModuleDict({"backbone": branches, "classifier": head})
    save_file(network.state_dict(), folder / "w.safetensors")
    return {"timm": "hrnet_w18_small", "weights": folder / "w.safetensors", **_GIVEN}, network


def _hrnet_answer(network: Any, images: Tensor) -> Answer:
    """Of images that are resized to the nearest multiples of 32, because timm takes no others."""
    nearest = [32 * round(side / 32) for side in images.shape[2:]]
    images = torch.nn.functional.interpolate(images, size=nearest, mode="bilinear", antialias=True)
    with torch.inference_mode():
        parts = network["backbone"](images)
        size = parts[0].shape[2:]
        resized = [torch.nn.functional.interpolate(part, size=size, mode="bilinear") for part in parts]
        features = torch.cat(resized, dim=1)
        return Answer([features], network["classifier"](features))


_FIVE = _timm_maps(0, 1, 2, 3, 4)
TIMM = [
    Kind("timm", "ViT", _timm_folder("test_vit", depth=8), _timm_maps(1, 3, 5, 7, norm=True), HALF, multiple=16),
    Kind("timm", "ConvNeXt", _timm_file("test_convnext"), _timm_maps(0, 1, 2, 3), HALF, multiple=32),
    Kind("timm", "ResNet", _timm_folder("test_resnet", num_classes=3), _FIVE, HALF),
    Kind("timm", "EfficientNet", _timm_file("test_efficientnet"), _FIVE, IMAGENET),
    Kind("timm", "NFNet", _timm_file("test_nfnet"), _FIVE, HALF),
    Kind("timm", "HRNet with a linear head", _hrnet_with_head, _hrnet_answer),
]


# segmentation_models_pytorch


def _smp(model: str, encoder: str, classes: int, **options: Any) -> Save:
    def save(folder: Path) -> tuple[dict[str, Any], Any]:
        smp = library("segmentation_models_pytorch")
        with quiet():
            made = getattr(smp, model)(encoder_name=encoder, encoder_weights=None, classes=classes, **options)
        network = with_statistics(seeded(made))
        network.save_pretrained(folder / "saved")
        return {"smp": folder / "saved", **_GIVEN}, network

    return save


_HEAD = before_classifier("segmentation_head.0")


def _one_channel(network: Any, images: Tensor) -> Answer:
    """A foreground score s: the logits 0 and s have the probabilities 1 - p and p."""
    maps, score = _HEAD(network, images)
    assert score is not None
    return Answer(maps, torch.cat([torch.zeros_like(score), score], dim=1))


SMP = [
    Kind("smp", "U-Net", _smp("Unet", "tu-test_efficientnet", 3, activation="softmax2d"), _HEAD),
    Kind("smp", "U-Net of one score", _smp("Unet", "tu-test_resnet", 1), _one_channel),
    Kind("smp", "FPN", _smp("FPN", "tu-test_resnet", 4), _HEAD, multiple=32),
    Kind("smp", "Linknet", _smp("Linknet", "tu-test_resnet", 3), _HEAD, multiple=32),
    Kind("smp", "SegFormer", _smp("Segformer", "tu-test_efficientnet", 4), _HEAD, multiple=32),
]


# torchvision


def _torchvision(model: str, **options: Any) -> Save:
    def save(folder: Path) -> tuple[dict[str, Any], Any]:
        models = library("torchvision").models
        network = with_statistics(seeded(models.get_model(model, weights=None, **options)))
        torch.save({"model": network.state_dict(), "epoch": 3}, folder / "model.pth")
        return {"torchvision": model, "weights": folder / "model.pth"}, network

    return save


def _lraspp(network: Any, images: Tensor) -> Answer:
    """Its scores are the sum of two layers', so that neither is the last; they are enlarged at the end."""
    with torch.inference_mode():
        return Answer(None, network(images)["out"])


def _nodes(*names: str) -> Callable[[Any, Tensor], Answer]:
    def answer(network: Any, images: Tensor) -> Answer:
        from torchvision.models.feature_extraction import create_feature_extractor

        with torch.inference_mode():
            return Answer(list(create_feature_extractor(network, list(names))(images).values()), None)

    return answer


_SEGMENTATION = {"weights_backbone": None, "num_classes": 5}
_SMALL = _nodes("features.0", "features.1", "features.3", "features.8", "features.12")
TORCHVISION = [
    Kind(
        "torchvision",
        "DeepLabV3 on MobileNetV3",
        _torchvision("deeplabv3_mobilenet_v3_large", aux_loss=True, **_SEGMENTATION),
        before_classifier("classifier.4"),
        IMAGENET,
    ),
    Kind("torchvision", "LR-ASPP", _torchvision("lraspp_mobilenet_v3_large", **_SEGMENTATION), _lraspp, IMAGENET),
    Kind("torchvision", "MobileNetV3, an image classifier", _torchvision("mobilenet_v3_small"), _SMALL, IMAGENET),
]


# Code of the user


def _factory(network: str, **fields: Any) -> Save:
    def save(folder: Path) -> tuple[dict[str, Any], Any]:
        net = write_net(folder, network)
        named = {"factory": f"nets:{network}", "factory_folder": folder, "weights": folder / f"{network}.safetensors"}
        return {**named, **_GIVEN, **fields}, net

    return save


def _maps(network: Any, images: Tensor) -> Answer:
    with torch.inference_mode():
        return Answer(list(network(images)), None)


def _scores(network: Any, images: Tensor) -> Answer:
    with torch.inference_mode():
        return Answer(None, network(images))


def _head(network: Any, images: Tensor) -> Answer:
    return before_classifier("head")(network, images)


def _foreground(network: Any, images: Tensor) -> Answer:
    maps, score = _head(network, images)
    assert score is not None
    return Answer(maps, torch.cat([torch.zeros_like(score), score], dim=1))


FACTORIES = [
    Kind("own code", "a linear layer on tokens", _factory("Tokens"), _head, multiple=8),
    Kind("own code", "a 3 x 3 convolution at the end", _factory("Wide"), _head),
    Kind("own code", "sides of multiples of 16", _factory("Halves"), _head, multiple=16),
    Kind("own code", "one score for two classes", _factory("One"), _foreground),
    Kind("own code", "scores that no layer gives", _factory("Prototypes", scores_only=True), _scores, multiple=4),
    Kind("own code", "a backbone", _factory("Backbone", features="stages"), _maps, multiple=8),
]
