import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from training.trainings import SCHEDULE, same_weights

from seg_transfer.data.records import list_records
from seg_transfer.errors import CheckpointError, TrainingError
from seg_transfer.models.configs import read_model_config, with_classes, with_normalization
from seg_transfer.models.loading import as_source_model
from seg_transfer.models.networks import build_network
from seg_transfer.resources import shipped
from seg_transfer.training.crops import TrainingCrops
from seg_transfer.training.evaluate import evaluate_on, predict
from seg_transfer.training.fit import _loader, arithmetic_here, fit, multiplies_bfloat16, resume_step


def network_for(crops: TrainingCrops) -> nn.Module:
    return build_network(model_for(crops), seed=3)


def model_for(crops: TrainingCrops) -> dict[str, Any]:
    model = with_classes(read_model_config(shipped("configs/models/hrnetv2_tiny.py")), len(crops.manifest.classes))
    return with_normalization(model, crops.manifest.mean, crops.manifest.std)


class Killed(Exception):
    pass


def stop_at(step: int) -> Any:
    def tick(done: int, _total: int) -> None:
        if done == step:
            raise Killed

    return tick


@pytest.mark.parametrize("n_workers", [0, 1])
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(
    crops: TrainingCrops, tmp_path: Path, n_workers: int
) -> None:
    whole = fit(network_for(crops), crops, tmp_path / "whole")
    for step in (3, 5):  # killed twice, each time one step after a checkpoint
        with pytest.raises(Killed):
            fit(network_for(crops), crops, tmp_path / "killed", progress=stop_at(step), n_workers=n_workers)
    seen: list[int] = []
    resumed = fit(network_for(crops), crops, tmp_path / "killed", progress=lambda done, _: seen.append(done))
    assert seen == [5, 6]
    assert same_weights(whole, resumed)
    assert not same_weights(whole, network_for(crops))


def test_trainings_up_to_a_step_and_on_from_there_are_one_training(crops: TrainingCrops, tmp_path: Path) -> None:
    whole = fit(network_for(crops), crops, tmp_path / "whole")
    seen: list[tuple[int, int]] = []
    networks = []
    for until in (1, 3, 3, None):
        began = len(seen)
        trained = fit(
            network_for(crops), crops, tmp_path / "parts", until=until, progress=lambda *step: seen.append(step)
        )
        networks.append(trained)
        assert resume_step(tmp_path / "parts") == (until or SCHEDULE.steps)
        assert all(stop == (until or SCHEDULE.steps) for _, stop in seen[began:])
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert same_weights(networks[1], networks[2])
    assert not same_weights(networks[2], whole)
    assert same_weights(networks[3], whole)


@pytest.mark.parametrize("spoilt", ["loss", "weights"])
def test_neither_a_loss_nor_weights_that_are_not_finite_are_saved(
    crops: TrainingCrops, tmp_path: Path, spoilt: str
) -> None:
    # The loss of the first step is that before it.
    changes = {"learning_rate": 1e38, "weight_decay": 1e3} if spoilt == "weights" else {}
    crops.schedule = SCHEDULE.model_copy(update={"warmup_steps": 0, "checkpoint_every": 1, **changes})
    network = network_for(crops)
    if spoilt == "loss":
        next(network.parameters()).data.fill_(float("nan"))
    with pytest.raises(TrainingError, match=f"the {spoilt} (is|are) not finite at step 1; lower learning_rate"):
        fit(network, crops, tmp_path)
    assert resume_step(tmp_path) == 0


class KillingCrops(TrainingCrops):
    def __getitem__(self, number: int) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_process_that_reads_images_and_is_killed_is_the_machines_fault(crops: TrainingCrops, tmp_path: Path) -> None:
    killing = KillingCrops(crops.records, crops.manifest, crops.schedule, crops.seed)
    with pytest.raises(ChildProcessError, match="a process that reads images was killed"):
        fit(network_for(crops), killing, tmp_path, n_workers=1)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_first_step_equals_one_by_hand(
    crops: TrainingCrops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bfloat16: bool
) -> None:
    monkeypatch.setattr("seg_transfer.training.fit.multiplies_bfloat16", lambda: bfloat16)
    one_step = SCHEDULE.model_copy(update={"steps": 1, "warmup_steps": 0})
    crops.schedule = one_step
    trained = fit(network_for(crops), crops, tmp_path)

    by_hand = network_for(crops).train()
    samples = [crops[0], crops[1]]
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (crops.manifest.mean, crops.manifest.std))
    images = torch.stack([(sample["inputs"].flip(0) - mean) / std for sample in samples])
    labels = torch.cat([sample["data_samples"].gt_sem_seg.data for sample in samples])
    images = images.contiguous(memory_format=torch.channels_last)
    by_hand.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        scores = by_hand(images)
        assert scores.dtype == (torch.bfloat16 if bfloat16 else torch.float32)
        enlarged = nn.functional.interpolate(scores, labels.shape[1:], mode="bilinear")
        loss = nn.functional.cross_entropy(enlarged, labels, ignore_index=255)
    loss.backward()
    expected = {
        name: parameter - one_step.learning_rate * (parameter.grad + one_step.weight_decay * parameter)
        for name, parameter in by_hand.named_parameters()
    }
    for name, parameter in trained.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cpu_has_it", [False, True])
def test_mixed_precision_is_only_used_where_requested_and_available(
    crops: TrainingCrops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu_has_it: bool
) -> None:
    monkeypatch.setattr("seg_transfer.training.fit.multiplies_bfloat16", lambda: cpu_has_it)
    trained = []
    for mixed_precision in (False, True):
        crops.schedule = SCHEDULE.model_copy(update={"steps": 2, "mixed_precision": mixed_precision})
        trained.append(fit(network_for(crops), crops, tmp_path / str(mixed_precision)))
    assert same_weights(*trained) != cpu_has_it


@pytest.mark.parametrize("unit", ["_is_amx_tile_supported", "_is_avx512_bf16_supported"])
def test_either_unit_multiplies_bfloat16(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == unit)
    assert multiplies_bfloat16()
    monkeypatch.setattr(torch.cpu, unit, lambda: False)
    assert not multiplies_bfloat16()


def test_float32_is_no_tf32(crops: TrainingCrops, tmp_path: Path) -> None:
    """CUDA convolves in TF32 unless that is switched off."""
    seen, network = [], network_for(crops)
    network.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.conv.fp32_precision))
    crops.schedule = SCHEDULE.model_copy(update={"steps": 1, "mixed_precision": False})
    before = torch.backends.cudnn.conv.fp32_precision
    fit(network, crops, tmp_path)
    assert (set(seen), torch.backends.cudnn.conv.fp32_precision) == ({"ieee"}, before)


@pytest.mark.parametrize(("asked", "device", "matrix_units", "expected"), [
    (False, "cuda", True, "float32"),
    (True, "cuda", True, "float16"),
    (True, "cpu", True, "bfloat16"),
    (True, "cpu", False, "float32"),
])  # fmt: skip
def test_the_arithmetic_is_one_that_the_schedule_allows(
    monkeypatch: pytest.MonkeyPatch, asked: bool, device: str, matrix_units: bool, expected: str
) -> None:
    monkeypatch.setattr("seg_transfer.training.fit.get_device", lambda: device)
    monkeypatch.setattr("seg_transfer.training.fit.multiplies_bfloat16", lambda: matrix_units)
    schedule = SCHEDULE.model_copy(update={"mixed_precision": asked})
    assert arithmetic_here(schedule) == expected
    assert expected in schedule.arithmetics


def test_processes_share_every_batch_and_a_resumed_run_begins_where_it_stopped(
    crops: TrainingCrops, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = list(_loader(crops, range(2, SCHEDULE.steps), 0, pin_memory=False).batch_sampler)
    assert alone == [[4, 5], [6, 7], [8, 9], [10, 11]]
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        shares.append(list(_loader(crops, range(2, SCHEDULE.steps), 0, pin_memory=False).batch_sampler))
    assert [first + second for first, second in zip(*shares, strict=True)] == alone
    monkeypatch.setattr(distributed, "get_world_size", lambda: 4)
    with pytest.raises(TrainingError, match="batch_size 2 cannot be shared by 4 processes"):
        _loader(crops, range(SCHEDULE.steps), 0, pin_memory=False)


def test_a_loss_that_is_not_finite_stops_the_training(crops: TrainingCrops, tmp_path: Path) -> None:
    crops.schedule = SCHEDULE.model_copy(update={"learning_rate": 1e30, "warmup_steps": 0})
    with pytest.raises(TrainingError, match="not finite at step 2; lower learning_rate"):
        fit(network_for(crops), crops, tmp_path)
    assert not (tmp_path / "resume.pth").exists()


def test_training_lowers_the_loss_and_raises_the_evaluation(crops: TrainingCrops, tmp_path: Path, world: Path) -> None:
    crops.schedule = SCHEDULE.model_copy(update={"steps": 40, "batch_size": 4, "checkpoint_every": 100})
    records, model = list_records(crops.manifest, world, "eval"), model_for(crops)
    before = evaluate_on(as_source_model(network_for(crops), model), records, crops.manifest)
    trained = as_source_model(fit(network_for(crops), crops, tmp_path), model)
    after = evaluate_on(trained, records, crops.manifest)
    assert after.miou > before.miou + 0.05
    assert after.n_images == 2


def test_predictions_come_at_the_size_of_the_label_map(crops: TrainingCrops) -> None:
    source = as_source_model(network_for(crops), model_for(crops))
    image = torch.randint(0, 255, (48, 64, 3), dtype=torch.uint8).numpy()
    assert predict(source, image, (101, 203)).shape == (101, 203)


def test_a_damaged_checkpoint_is_named_with_what_to_do(crops: TrainingCrops, tmp_path: Path) -> None:
    fit(network_for(crops), crops, tmp_path)
    resume = tmp_path / "resume.pth"
    resume.write_bytes(resume.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"resume\.pth: damaged; delete it"):
        fit(network_for(crops), crops, tmp_path)
