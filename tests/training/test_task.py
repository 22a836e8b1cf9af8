"""Networks of any library as tasks: their loss by hand, training, resuming, and what is said where it cannot work."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training.trainings import SCHEDULE, Blocks, Stages, TwoLayers, same_weights, task_for

from seg_transfer.data.records import list_records
from seg_transfer.errors import TrainingError
from seg_transfer.models.checkpoints import load_checkpoint, save_weights
from seg_transfer.models.sizes import Extent
from seg_transfer.training.crops import as_tensors
from seg_transfer.training.evaluate import evaluate_on
from seg_transfer.training.fit import fit
from seg_transfer.training.task import labeled_cross_entropy


def batch_of(crops: Any, *numbers: int) -> tuple[list[Tensor], list[Tensor]]:
    samples = [crops.packed(as_tensors)[number] for number in numbers]
    return [one["inputs"] for one in samples], [one["labels"] for one in samples]


def test_crops_come_as_rgb_tensors_and_as_mmseg_takes_them(crops):
    (image,), (label,) = batch_of(crops, 4)
    packed = crops[4]
    assert torch.equal(image, packed["inputs"].flip(0))
    assert torch.equal(label, packed["data_samples"].gt_sem_seg.data[0])


def test_the_loss_is_the_cross_entropy_of_the_labeled_pixels():
    scores = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 255]).repeat(10).view(2, 4, 5)
    total, count = 0.0, 0
    for image, row, column in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(5)).tolist():
        if labels[image, row, column] != 255:
            logits = scores[image, :, row, column].double()
            total += float(logits.logsumexp(0) - logits[labels[image, row, column]])
            count += 1
    assert count == 30
    assert float(labeled_cross_entropy(scores, labels, 255)) == pytest.approx(total / count, rel=1e-5)


def test_a_batch_without_labels_costs_nothing():
    scores = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = labeled_cross_entropy(scores, torch.full((1, 2, 2), 255), 255)
    loss.backward()
    assert (loss.item(), float(scores.grad.abs().sum())) == (0.0, 0.0)


def test_the_loss_of_a_padded_batch_is_that_of_its_pixels(crops):
    """45 x 61 pixels become 48 x 64; scores of the padding belong to no pixel."""
    crops.schedule = SCHEDULE.model_copy(update={"crop_size": (45, 61)})
    task = task_for(Blocks, crops, has_scores=False).eval()
    assert task.source.sizes.multiple == 8
    images, labels = batch_of(crops, 0, 1)
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (crops.manifest.mean, crops.manifest.std))
    normalized = torch.stack([(image - mean) / std for image in images])
    scores = task.network(F.pad(normalized, (0, 3, 0, 3)))
    assert scores.shape[2:] == (6, 8)
    enlarged = F.interpolate(scores, scale_factor=8, mode="bilinear")[:, :, :45, :61]
    by_hand = F.cross_entropy(enlarged, torch.stack(labels), ignore_index=255)
    found = task(images, labels, mode="loss")["loss_ce"]
    assert found.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert Extent(45 / 48, 61 / 64) == task.source.class_scores(normalized)[1]


class Killed(Exception):
    pass


def stop_at(step: int) -> Any:
    def tick(done: int, _total: int) -> None:
        if done == step:
            raise Killed

    return tick


@pytest.mark.parametrize(("network", "reading"), [(TwoLayers, {}), (Blocks, {"has_scores": False})])
@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw", "layer_decay": 0.7, "head_learning_rate_factor": 10}])
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(
    crops, tmp_path: Path, network, reading, changes
):
    """Also where dropout draws random numbers."""
    crops.schedule = SCHEDULE.model_copy(update=changes)
    whole = fit(task_for(network, crops, **reading), crops, tmp_path / "whole")
    for step in (3, 5):  # killed twice, each time one step after a checkpoint
        with pytest.raises(Killed):
            fit(task_for(network, crops, **reading), crops, tmp_path / "killed", progress=stop_at(step))
    resumed = fit(task_for(network, crops, **reading), crops, tmp_path / "killed")
    assert same_weights(whole, resumed)
    assert not same_weights(whole, task_for(network, crops, **reading))


@pytest.mark.parametrize(("network", "reading"), [(Stages, {}), (Blocks, {"has_scores": False})])
def test_training_lowers_the_loss(crops, tmp_path: Path, network, reading):
    crops.schedule = SCHEDULE.model_copy(update={"steps": 40, "batch_size": 4, "checkpoint_every": 100})
    task, batch = task_for(network, crops, **reading), batch_of(crops, *range(8))
    before = task.eval()(*batch, mode="loss")["loss_ce"].item()
    after = fit(task, crops, tmp_path).eval()(*batch, mode="loss")["loss_ce"].item()
    assert after < 0.93 * before


def test_an_evaluation_counts_the_pixels_of_padded_images(crops, world: Path):
    """Images of 45 x 61 pixels are padded to 48 x 64: what is predicted there counts for nothing."""
    crops.manifest = crops.manifest.model_copy(update={"crop_size": (45, 61)})
    task = task_for(Blocks, crops, has_scores=False)
    quality = evaluate_on(task.eval().source, list_records(crops.manifest, world, "eval"), crops.manifest)
    assert quality.n_images == 2
    assert 0 <= quality.miou <= 1


def test_mixed_precision_computes_scores_in_bfloat16_and_the_loss_in_float32(crops, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("seg_transfer.training.fit.multiplies_bfloat16", lambda: True)
    seen, trained = [], []
    for mixed_precision in (True, False):
        crops.schedule = SCHEDULE.model_copy(update={"steps": 2, "mixed_precision": mixed_precision})
        task = task_for(Stages, crops)
        task.network.head.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
        trained.append(fit(task, crops, tmp_path / str(mixed_precision)))
    assert seen == [torch.bfloat16] * 2 + [torch.float32] * 2
    assert not same_weights(*trained)
    assert all(parameter.dtype == torch.float32 for parameter in trained[0].parameters())


class Pooled(nn.Module):
    """A norm after global pooling, as pyramid heads have it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, stride=4)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        return self.head(maps + self.norm(maps.mean((2, 3), keepdim=True)))


def test_a_batch_of_one_image_is_too_small_for_a_norm_after_pooling(crops, tmp_path: Path):
    crops.schedule = SCHEDULE.model_copy(update={"batch_size": 1})
    with pytest.raises(TrainingError, match=r"^batch_size 1: a BatchNorm layer of the network sees a single value"):
        fit(task_for(Pooled, crops), crops, tmp_path)


def test_a_frozen_norm_after_pooling_needs_no_larger_batch(crops, tmp_path: Path):
    crops.schedule = SCHEDULE.model_copy(update={"batch_size": 1, "freeze": "backbone", "steps": 1})
    fit(task_for(Pooled, crops), crops, tmp_path)


class Tied(nn.Module):
    """Two layers that share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, stride=4)
        self.first = nn.Conv2d(4, 4, 1)
        self.second = nn.Conv2d(4, 4, 1)
        self.second.weight = self.first.weight
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.second(torch.relu(self.first(self.stem(images)))))


def test_weights_that_layers_share_are_trained_once_and_saved(crops, tmp_path: Path):
    trained = fit(task_for(Tied, crops), crops, tmp_path / "work")
    save_weights(trained.network.state_dict(), tmp_path / "weights.safetensors")
    state = load_checkpoint(tmp_path / "weights.safetensors")
    assert torch.equal(state["first.weight"], state["second.weight"])
    assert torch.equal(state["first.weight"], trained.network.first.weight)
