"""Factories whose networks leave open which scores count, or which size they take."""

from typing import Any

import pytest
from other_nets import factory_entry
from toy_nets import seeded

from seg_transfer.errors import ConfigError
from seg_transfer.models.checkpoints import save_weights

NETS = """
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.main, self.coarse = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, images):
        one = self.stem(images)
        return [self.coarse(one), self.main(one)]

class Tall(Two):
    def forward(self, images):
        assert tuple(images.shape[2:]) == (64, 32), "only 64 x 32"
        return self.main(self.stem(images))
"""


def loaded(folder, network, classifier=None, **fields):
    (folder / "nets.py").write_text(NETS)
    scope: dict[str, Any] = {}
    exec(NETS, scope)
    save_weights(seeded(scope[network]()).state_dict(), folder / "net.safetensors")
    return factory_entry(f"nets:{network}", folder, folder / "net.safetensors", classifier, **fields).load()


def test_of_several_maps_of_as_many_classes_a_factory_names_the_layer(tmp_path):
    with pytest.raises(ConfigError, match="returns 2 maps, of its layers coarse, main: which are its class scores"):
        loaded(tmp_path, "Two")
    assert loaded(tmp_path, "Two", "main").classifier_name == "main"


def test_a_factory_may_state_its_only_size(tmp_path):
    with pytest.raises(ConfigError, match=r"sizes that were tried; .*; if it takes one size only, state that as input"):
        loaded(tmp_path, "Tall")
    assert loaded(tmp_path, "Tall", input_size=(64, 32)).sizes.fixed == (64, 32)
