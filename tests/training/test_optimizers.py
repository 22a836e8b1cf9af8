"""Optimizers, rates of layers and frozen backbones, each against numbers computed by hand."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from training.trainings import SCHEDULE, Blocks, Stages, TwoLayers, task_for
from zoo_networks import tiny_config

from seg_transfer.models.configs import read_model_config, resolve, with_classes
from seg_transfer.models.networks import build_network, class_dependent
from seg_transfer.resources import shipped
from seg_transfer.training.crops import as_tensors
from seg_transfer.training.fit import fit
from seg_transfer.training.layers import find_units
from seg_transfer.training.optimizers import make_optimizer, parameter_groups
from seg_transfer.training.schedule import Schedule

HEAD = ("head.weight", "head.bias")


def rates(network: nn.Module, schedule: Schedule, head: tuple[str, ...]) -> dict[str, float]:
    """The learning rate of every parameter."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, schedule, head)
    return {names[id(parameter)]: group["lr"] for group in groups for parameter in group["params"]}


def test_the_default_is_plain_sgd_in_one_group():
    network = TwoLayers()
    optimizer = make_optimizer(network, SCHEDULE, HEAD)
    (group,) = optimizer.param_groups
    assert type(optimizer) is torch.optim.SGD
    assert [id(one) for one in group["params"]] == [id(one) for one in network.parameters()]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.05, 0.9, 0.0005)


def test_the_head_learns_at_its_own_rate():
    found = rates(TwoLayers(), SCHEDULE.model_copy(update={"head_learning_rate_factor": 10}), HEAD)
    assert {name: rate for name, rate in found.items() if rate != 0.05} == dict.fromkeys(HEAD, 0.5)


def test_rates_fall_from_block_to_block():
    """Three blocks: 0.5 for the last, 0.25, 0.125; what comes before counts with the first, what follows keeps 1."""
    schedule = SCHEDULE.model_copy(update={"layer_decay": 0.5, "learning_rate": 1.0})
    found = rates(Blocks(), schedule, ())
    assert found.pop("unused.weight") == found.pop("unused.bias") == 0.125  # nobody uses them
    by_hand = {"pos_embed": 0.125, "patches": 0.125, "blocks.0": 0.125, "blocks.1": 0.25, "blocks.2": 0.5, "last": 1.0}
    assert found == {name: next(v for part, v in by_hand.items() if name.startswith(part)) for name in found}


def test_rates_fall_from_stage_to_stage():
    """Strides 2, 4 and 8 are three stages; a layer belongs as a whole to the stage that its stride begins."""
    schedule = SCHEDULE.model_copy(
        update={"layer_decay": 0.1, "learning_rate": 1.0, "head_learning_rate_factor": 3.0, "optimizer": "adamw"}
    )
    by_hand = {"stem": 0.001, "first": 0.01, "second": 0.1, "decoder": 1.0, "head": 3.0}
    network = Stages()
    network.train()
    assert rates(network, schedule, HEAD) == {
        name: pytest.approx(by_hand[name.partition(".")[0]]) for name, _ in network.named_parameters()
    }
    assert network.training


def test_the_stages_of_an_hrnet_are_its_stages():
    network = build_network(read_model_config(shipped("configs/models/hrnetv2_tiny.py")), seed=0)
    before = copy.deepcopy(network.state_dict())
    units = find_units(network)
    assert units.count == 5  # a stem of stride 2, and stages whose coarsest strides are 4, 8, 16 and 32
    unit = {name.removeprefix("backbone."): index for name, index in units.of_parameter.items()}
    assert unit["conv1.weight"] == 0
    for stage in (1, 2, 3, 4):
        found = {index for name, index in unit.items() if name.startswith(("layer1.", f"stage{stage}.")[stage > 1])}
        assert found == {stage}
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in before.items())


def test_adamw_decays_no_bias_norm_or_position():
    network = Blocks()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, SCHEDULE.model_copy(update={"optimizer": "adamw"}), ())
    decayed = {names[id(one)] for group in groups if group["weight_decay"] for one in group["params"]}
    mlps = {f"blocks.{block}.mlp.{layer}.weight" for block in range(3) for layer in (0, 2)}
    assert decayed == {"patches.weight", "unused.weight"} | mlps
    everything = parameter_groups(network, SCHEDULE, ())
    assert [group["weight_decay"] for group in everything] == [SCHEDULE.weight_decay]


def test_a_step_of_adamw_by_hand(crops, tmp_path: Path):
    """After one step both moments are known: a parameter moves by lr g / (|g| + eps), after its decay."""
    crops.schedule = Schedule(steps=1, batch_size=2, learning_rate=0.01, optimizer="adamw", weight_decay=0.2)
    crops.schedule = crops.schedule.model_copy(update={"mixed_precision": False})
    by_hand = task_for(Stages, crops).train()
    samples = [crops.packed(as_tensors)[number] for number in (0, 1)]
    loss = by_hand([one["inputs"] for one in samples], [one["labels"] for one in samples], mode="loss")["loss_ce"]
    loss.backward()
    trained = dict(fit(task_for(Stages, crops), crops, tmp_path).named_parameters())
    for name, parameter in by_hand.named_parameters():
        gradient, decay = parameter.grad, 0.2 if parameter.dim() > 1 else 0.0
        expected = parameter * (1 - 0.01 * decay) - 0.01 * gradient / (gradient.abs() + 1e-8)
        significant = gradient.abs() > 1e-6  # the sign of others is rounding
        torch.testing.assert_close(trained[name][significant], expected[significant], rtol=1e-3, atol=1e-5)


def test_a_frozen_backbone_stays_bit_for_bit_and_the_head_is_trained(crops, tmp_path: Path):
    crops.schedule = SCHEDULE.model_copy(update={"freeze": "backbone"})
    start = task_for(TwoLayers, crops)
    trained = fit(task_for(TwoLayers, crops), crops, tmp_path).state_dict()
    changed = {name for name, tensor in start.state_dict().items() if not torch.equal(tensor, trained[name])}
    assert changed == {"network.head.weight", "network.head.bias"}


def test_a_frozen_segmentor_of_mmsegmentation_keeps_its_statistics(crops, segmentor, tmp_path: Path):
    crops.schedule = SCHEDULE.model_copy(update={"freeze": "backbone", "steps": 2})
    start, trained = segmentor().state_dict(), fit(segmentor(), crops, tmp_path).state_dict()
    changed = {name for name, tensor in start.items() if not torch.equal(tensor, trained[name])}
    assert changed == {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"}


@pytest.mark.parametrize("family", ["segmenter", "knet"])
def test_frozen_heads_without_the_usual_classifier_train_what_depends_on_the_classes(crops, tmp_path: Path, family):
    """K-Net's head returns what its loss needs in training mode only."""
    model = with_classes(resolve(tiny_config(family), None)[0], len(crops.manifest.classes))
    crops.schedule = SCHEDULE.model_copy(update={"freeze": "backbone", "steps": 2})
    head = class_dependent(model)
    start = build_network(model, seed=0).state_dict()
    trained = fit(build_network(model, seed=0), crops, tmp_path, head=head).state_dict()
    changed = {name for name, tensor in start.items() if not torch.equal(tensor, trained[name])}
    assert changed
    assert changed <= head
