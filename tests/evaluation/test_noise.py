import numpy as np
import pandas as pd
import pytest
from all_columns import on_all_columns

from seg_transfer.evaluation import evaluate, fine_tuning_noise, scratch_report

evaluate = on_all_columns(evaluate)

COLUMNS = ["source", "target", "seed", "miou"]
# Seeds 0 and 1 of every pair. On t the seeds disagree about c, on u they agree.
BY_HAND = {
    ("a", "t"): (0.50, 0.60),
    ("b", "t"): (0.40, 0.50),
    ("c", "t"): (0.55, 0.30),
    ("a", "u"): (0.90, 0.90),
    ("b", "u"): (0.80, 0.80),
}


def fine_tunings_of(pairs: dict[tuple[str, str], tuple[float, ...]]) -> pd.DataFrame:
    rows = [(*pair, seed, miou) for pair, values in pairs.items() for seed, miou in enumerate(values)]
    return pd.DataFrame(rows, columns=COLUMNS)


def row_of(frame: pd.DataFrame, scenario: str) -> "pd.Series[float]":
    return frame.set_index("scenario").loc[scenario]


def test_by_hand():
    found = fine_tuning_noise(fine_tunings_of(BY_HAND))
    targets, sources = row_of(found, "fixed_target"), row_of(found, "fixed_source")
    # Variances of two values: half the square of their difference.
    sd = np.sqrt((0.005 + 0.005 + 0.03125 + 0 + 0) / 5)
    assert (targets["sd"], sources["sd"]) == (pytest.approx(sd), pytest.approx(sd))
    assert (targets["n_groups"], targets["n_seeds"], sources["n_groups"]) == (2, 2, 2)  # c has one target
    # Means on t: .55, .45, .425, which differ by less than 1.96 times the sd on t, .117. Seeds on u do not differ, so
    # the .1 between .9 and .8 is enough there.
    assert targets["fraction_distinguishable"] == pytest.approx(1 / 4)
    assert sources["fraction_distinguishable"] == 1
    # On t one ranking is a b c and the other c a b. Of the weights 1, 1/2, 1/3 of places, added per pair, (a, b)
    # has 3/2 of 11/3 by the one and 5/6 of 11/3 by the other: tau = 2 * 7/22 - 1 = -4/11. Neither first is the other's.
    assert targets["tau_w"] == pytest.approx((-4 / 11 + 1) / 2)
    assert targets["top1"] == pytest.approx((0 + 1) / 2)
    # Seed 0 chooses c, which seed 1 finds .30 short of a; seed 1 chooses a, which seed 0 finds .05 short of c.
    assert targets["regret"] == pytest.approx(((0.30 + 0.05) / 2 + 0) / 2)
    assert (sources["tau_w"], sources["top1"], sources["regret"]) == (1, 1, 0)
    assert (targets["tau_w_low"], targets["tau_w_high"]) == (pytest.approx(-4 / 11), 1)


def test_scratch_and_seeds_of_single_pairs_are_ignored():
    fine_tunings = fine_tunings_of(BY_HAND)
    scratch = pd.DataFrame([("scratch", "t", 0, 0.1), ("scratch", "t", 1, 0.9)], columns=COLUMNS)
    single = pd.DataFrame([("a", "t", 7, 0.0)], columns=COLUMNS)
    more = pd.concat([fine_tunings, scratch, single]).sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(fine_tuning_noise(more), fine_tuning_noise(fine_tunings))


def test_three_seeds_are_each_judged_by_the_mean_of_the_other_two():
    rng = np.random.default_rng(1)
    performance = {name: 0.3 + 0.05 * rng.standard_normal() for name in "abcdef"}
    seeds = {name: tuple(mean + 0.04 * rng.standard_normal(3)) for name, mean in performance.items()}
    found = row_of(
        fine_tuning_noise(fine_tunings_of({(name, "t"): values for name, values in seeds.items()})), "fixed_target"
    )

    def judged(seed: int) -> float:
        others = {name: (sum(values) - values[seed]) / 2 for name, values in seeds.items()}
        pairs = [{"source": name, "target": "t", "miou": others[name], "score": seeds[name][seed]} for name in seeds]
        return float(evaluate(pd.DataFrame(pairs), scenarios=["fixed_target"])["tau_w"].iloc[0])

    expected = [judged(seed) for seed in range(3)]
    assert len(set(expected)) > 1
    assert found["tau_w"] == pytest.approx(np.mean(expected))


def test_without_noise_one_fine_tuning_ranks_as_well_as_all():
    found = fine_tuning_noise(fine_tunings_of({pair: (values[0],) * 3 for pair, values in BY_HAND.items()}))
    assert (found["sd"] < 1e-12).all()
    assert (found[["tau_w", "top1", "fraction_distinguishable"]] == 1).all(axis=None)


@pytest.mark.parametrize(
    "fine_tunings", [fine_tunings_of({("a", "t"): (0.5,)}), fine_tunings_of({("a", "t"): (0.5, 0.6)}).iloc[:0]]
)
def test_without_a_second_seed_there_are_no_rows(fine_tunings):
    assert fine_tuning_noise(fine_tunings).empty


def test_a_single_pair_has_nothing_to_rank():
    assert fine_tuning_noise(fine_tunings_of({("a", "t"): (0.5, 0.6)})).empty


def test_a_source_must_beat_scratch_by_more_than_seeds_differ():
    fine_tunings = fine_tunings_of(BY_HAND)
    pairs = fine_tunings.groupby(["source", "target"], as_index=False)["miou"].mean()
    scratch = pd.DataFrame([("scratch", "t", 0.40), ("scratch", "u", 0.89)], columns=["source", "target", "miou"])
    pairs = pd.concat([pairs, scratch])
    alone, report = scratch_report(pairs), scratch_report(pairs, fine_tunings).set_index("target")
    assert alone["beats_scratch"].to_list() == [True, True]
    assert alone["margin"].to_list() == [0, 0]
    # Means of two seeds on t scatter by the root of 0.01375 / 2, differences by the root of twice that.
    assert report["margin"].to_dict() == {"t": pytest.approx(1.96 * 0.01375**0.5), "u": 0}
    assert report["beats_scratch"].to_dict() == {"t": False, "u": True}
    one_seed = fine_tunings[fine_tunings["seed"] == 0]
    pd.testing.assert_frame_equal(scratch_report(pairs, one_seed), alone)
