from pathlib import Path

import pytest

from seg_transfer.data.validation import load_yaml
from seg_transfer.errors import ConfigError
from seg_transfer.resources import shipped
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
        ({"epochs": 3}, "epochs: 3: unknown field"),
    ],
)
def test_a_schedule_that_breaks_a_rule_is_refused_in_one_line(tmp_path: Path, changes: dict, excerpt: str) -> None:
    file = tmp_path / "schedule.yaml"
    file.write_text("steps: 10\nbatch_size: 2\nlearning_rate: 0.1\n")
    with pytest.raises(ConfigError, match=excerpt) as caught:
        load_yaml(file, Schedule, changes)
    assert "\n" not in str(caught.value)
