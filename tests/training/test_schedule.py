from pathlib import Path

import pytest

from seg_transfer.data.validation import load_yaml
from seg_transfer.errors import ConfigError
from seg_transfer.resources import shipped
from seg_transfer.stages.training_keys import keys_by_arithmetic
from seg_transfer.store.content_key import content_key
from seg_transfer.training.schedule import Schedule


@pytest.mark.parametrize("name", ["source_training", "fine_tuning"])
def test_the_shipped_schedules_are_valid(name: str) -> None:
    schedule = load_yaml(shipped(f"configs/schedules/{name}.yaml"), Schedule)
    assert schedule.warmup_steps < schedule.steps


@pytest.mark.parametrize(
    ("changes", "excerpt"),
    [
        ({"scale_range": [2.0, 0.5]}, "scale_range.*lowest factor must come first"),
        ({"learning_rate": 0}, "learning_rate: 0"),
        ({"flip_probability": 1.5}, "flip_probability: 1.5"),
        ({"optimizer": "adam"}, "optimizer: 'adam'"),
        ({"layer_decay": 1.5}, "layer_decay: 1.5"),
        ({"head_learning_rate_factor": 0}, "head_learning_rate_factor: 0"),
        ({"freeze": "head"}, "freeze: 'head'"),
        ({"epochs": 3}, "epochs: 3: unknown field"),
    ],
)
def test_a_schedule_that_breaks_a_rule_is_refused_in_one_line(tmp_path: Path, changes: dict, excerpt: str) -> None:
    file = tmp_path / "schedule.yaml"
    file.write_text("steps: 10\nbatch_size: 2\nlearning_rate: 0.1\n")
    with pytest.raises(ConfigError, match=excerpt) as caught:
        load_yaml(file, Schedule, changes)
    assert "\n" not in str(caught.value)


PLAIN = {
    "steps": 10,
    "batch_size": 2,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "power": 0.9,
    "warmup_steps": 0,
    "scale_range": [0.5, 2.0],
    "flip_probability": 0.5,
    "crop_size": None,
    "checkpoint_every": 500,
    "mixed_precision": True,
}


def test_keys_of_earlier_versions_stay_valid():
    """The keys were computed before there were other optimizers than SGD."""
    schedule = Schedule(steps=10, batch_size=2, learning_rate=0.1)
    assert schedule.model_dump(mode="json") == PLAIN
    keys = keys_by_arithmetic(schedule, {"seed": 1}, content_key(eval=1))
    assert keys["float32"][0] == "11e43b8993b3b6f60358290bf3a17eab44205c045ae959fa04f97c5f2918a4fc"
    assert keys["float32"][1] == "4ab4078ae823a0c1254ca9d7e3915c8c8b39b4bfa66d88e2f32def1a05430df2"
    assert keys["not recorded"][1] == "58baee6daf50fddceff0455ce651e296aec676b66ec49090d01684a2db803da2"


@pytest.mark.parametrize(
    "changes",
    [{"optimizer": "adamw"}, {"head_learning_rate_factor": 10.0}, {"layer_decay": 0.75}, {"freeze": "backbone"}],
)
def test_what_a_schedule_sets_differently_is_in_its_keys(changes: dict):
    schedule = Schedule(**PLAIN, **changes)
    assert schedule.model_dump(mode="json") == PLAIN | changes
    assert Schedule.model_validate(schedule.model_dump(mode="json")) == schedule


def test_a_learning_rate_of_its_own_replaces_that_of_the_schedule():
    schedule = Schedule(**PLAIN)
    assert schedule.at_rate(None) is schedule
    assert schedule.at_rate(0.003).model_dump(mode="json") == PLAIN | {"learning_rate": 0.003}
