"""The networks whose configs come with the software: their sizes, and that of mmsegmentation where it has the same."""

from pathlib import Path

import torch

from seg_transfer.models.compat import import_mmseg
from seg_transfer.models.configs import n_classes_of, read_model_config, with_classes
from seg_transfer.models.networks import build_network, classifier_name
from seg_transfer.resources import shipped

CONFIGS = shipped("configs/models")


def test_size_of_the_small_network():
    """The paper's network is counted in test_hrnet_w48.py, where it is built once."""
    model = read_model_config(CONFIGS / "hrnetv2_w18_small.py")
    network = build_network(model, seed=0)
    assert n_classes_of(model) == 19
    assert network.get_submodule(classifier_name(network)).weight.shape == (19, 270, 1, 1)
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_865_869


def test_shipped_configs_are_all_tested():
    assert {file.name for file in Path(CONFIGS).glob("*.py")} == {
        "hrnetv2_w48.py",
        "hrnetv2_w18_small.py",
        "hrnetv2_tiny.py",
        "segformer_b0.py",
    }


def test_segformer_b0_is_that_of_mmsegmentation():
    import_mmseg()
    import mmseg

    file = Path(mmseg.__file__).parent / ".mim/configs/segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py"
    own, published = (
        build_network(with_classes(read_model_config(path), 150), seed=0).eval()
        for path in (CONFIGS / "segformer_b0.py", file)
    )
    published.load_state_dict(own.state_dict())
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(own(image), published(image))
