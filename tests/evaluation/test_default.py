"""What `rank_mean` averages is what the written rule chooses."""

import numpy as np
import pandas as pd
import pytest
from loaded_scripts import script

from seg_transfer.evaluation import SCENARIOS
from seg_transfer.metrics._rank_mean import PARTS

choose_default = script("choose_default")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_parts_are_those_that_the_rule_chooses(scenario):
    table = choose_default.summary(choose_default.known_pairs(), scenario)
    assert choose_default.choice(table) == PARTS[scenario]
    assert table.attrs["n_groups"] == 17 + 7


def world(**errors):
    """Twenty targets with five sources; each metric is the mIoU plus errors of its own."""
    rng = np.random.default_rng(0)
    pairs = pd.DataFrame([(f"s{i}", f"t{j}") for i in range(5) for j in range(20)], columns=["source", "target"])
    pairs["miou"] = rng.random(100)
    return pairs.assign(**{name: pairs["miou"] + error * rng.normal(size=100) for name, error in errors.items()})


def test_a_metric_that_is_right_everywhere_wins_against_noise():
    table = choose_default.summary([world(gbc=9.0, logme=0.0, nleep=9.0)], "fixed_target")
    assert table.index[0] == "logme"
    assert table.loc["logme", ["regret", "tau_w"]].tolist() == pytest.approx([0, 1])
    assert choose_default.choice(table) == ("logme",)


def test_of_equally_good_ones_the_fast_one_with_most_parts_is_chosen():
    table = choose_default.summary([world(gbc=0.0, logme=0.0, nleep=0.0)], "fixed_target")
    assert table["as_good"].all()
    assert choose_default.choice(table) == ("gbc", "logme")


def test_a_slow_metric_is_chosen_where_nothing_else_is_as_good():
    table = choose_default.summary([world(gbc=9.0, logme=9.0, nleep=0.0)], "fixed_target")
    assert choose_default.choice(table) == ("nleep",)
