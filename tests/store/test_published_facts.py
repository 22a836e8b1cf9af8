"""Facts about the sources of the published pairs: complete, plausible, and those of networks built elsewhere."""

from typing import Any

import pytest
import torch
from library_nets import library
from torch import nn

from seg_transfer.data.manifest import load_manifest
from seg_transfer.errors import ResultsError
from seg_transfer.models.network_costs import count_gflops
from seg_transfer.resources import shipped_files
from seg_transfer.store.published import load_published, published_source_facts

# Architecture -> the same network in another library; Keras alone counts the 7 statistics of its layer that normalizes
# images, which no other library has.
ELSEWHERE = {
    "vgg16": ("torchvision.models", "vgg16", 0),
    "vgg19": ("torchvision.models", "vgg19", 0),
    "densenet121": ("torchvision.models", "densenet121", 0),
    "mobilenetv2": ("torchvision.models", "mobilenet_v2", 0),
    "mobilenet": ("timm.models", "mobilenetv1_100", 0),
    "mobilenetv3": ("timm.models", "tf_mobilenetv3_large_100", 0),
    "efficientnetb0": ("timm.models", "tf_efficientnet_b0", 7),
    "efficientnetb2": ("timm.models", "tf_efficientnet_b2", 7),
    "xception": ("timm.models", "legacy_xception", 0),
}


def test_every_architecture_has_its_facts() -> None:
    facts = published_source_facts("architecture")
    assert list(facts.index) == sorted(load_published("architecture")["source_architecture"].unique())
    assert list(facts) == ["parameters", "gflops", "own_miou"]
    assert facts.notna().all(axis=None)
    assert facts["parameters"].dtype == "int64"
    assert facts["parameters"].between(3e6, 150e6).all()
    assert facts["gflops"].between(0.4, 40).all()
    assert facts["own_miou"].between(0.70, 0.82).all()
    assert facts.loc["vgg16", "parameters"] == 138357544
    assert facts["own_miou"].idxmax() == "efficientnetb3"


def test_deeper_and_wider_networks_of_a_family_are_larger_and_better() -> None:
    facts = published_source_facts("architecture")
    families = (
        ["densenet121", "densenet169", "densenet201"],
        ["efficientnetb0", "efficientnetb1", "efficientnetb2", "efficientnetb3"],
        ["resnet50", "resnet101"],
        ["resnet50v2", "resnet101v2", "resnet152v2"],
    )
    for family in families:
        growth = facts.loc[family].diff().iloc[1:]
        assert (growth > 0).all(axis=None), family


def test_every_segmentation_source_has_its_facts() -> None:
    facts = published_source_facts()
    assert list(facts.index) == sorted(load_published()["source"].unique())
    assert list(facts) == ["parameters", "n_train_images"]
    assert facts["parameters"].nunique() == 1
    assert facts["n_train_images"].dtype == "int64"
    by_size = facts["n_train_images"].sort_values()
    assert list(by_size.index[:3]) == ["kitti", "camvid", "suim"]
    assert list(by_size.index[-4:]) == ["isaid", "vkitti2", "vgallery", "coco"]
    assert not by_size.duplicated().any()


def test_counts_of_training_images_are_those_of_the_manifests() -> None:
    stated = {}
    for name in published_source_facts().index:
        count = load_manifest(shipped_files("manifest")[name]).train.count
        stated |= {name: count} if count is not None else {}
    assert len(stated) >= 10
    assert published_source_facts()["n_train_images"][list(stated)].to_dict() == stated


@pytest.mark.parametrize("name", ELSEWHERE)
def test_another_library_builds_as_many_parameters_and_operations(name: str) -> None:
    module, function, more = ELSEWHERE[name]
    library(module.partition(".")[0])
    with torch.device("meta"):
        network = getattr(library(module), function)().eval()
    fact = published_source_facts("architecture").loc[name]
    assert _n_numbers(network) + more == fact["parameters"]
    assert count_gflops(network, torch.zeros(1, 3, 224, 224)) == pytest.approx(fact["gflops"], abs=0.0005)


def _n_numbers(network: nn.Module) -> int:
    """Count the parameters and running statistics, as Keras does."""
    statistics: list[Any] = [value for name, value in network.named_buffers() if "running_" in name]
    return sum(value.numel() for value in [*network.parameters(), *statistics])


def test_unknown_table() -> None:
    with pytest.raises(ResultsError, match="'moon' is unknown; choose one of segmentation, architecture"):
        published_source_facts("moon")
