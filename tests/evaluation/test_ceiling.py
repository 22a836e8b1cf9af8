"""What one fine-tuning per pair reaches, and the share of it that a metric reaches."""

import numpy as np
import pandas as pd
import pytest
from all_columns import on_all_columns
from pair_tables import random_pairs, row

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import MEASURES, evaluate, fine_tuning_noise

evaluate = on_all_columns(evaluate)

# Two seeds. On t, seed 0 chooses c and seed 1 chooses a; on u, both choose a.
BY_HAND = {
    ("a", "t"): (0.50, 0.60),
    ("b", "t"): (0.40, 0.50),
    ("c", "t"): (0.55, 0.30),
    ("a", "u"): (0.90, 0.90),
    ("b", "u"): (0.80, 0.80),
}
CEILING = [f"{name}{end}" for name in ("top1", "tau_w", "regret") for end in ("", "_low", "_high")]


def fine_tunings_of(pairs: dict[tuple[str, str], tuple[float, ...]]) -> pd.DataFrame:
    rows = [(*pair, seed, miou) for pair, values in pairs.items() for seed, miou in enumerate(values)]
    return pd.DataFrame(rows, columns=["source", "target", "seed", "miou"])


def pairs_by_hand() -> pd.DataFrame:
    """Mean mIoU over seeds; `m` chooses b on t (regret 0.1) and a on u."""
    means = fine_tunings_of(BY_HAND).groupby(["source", "target"], as_index=False)["miou"].mean()
    by_source = means["source"].map({"a": 1.0, "b": 2.0, "c": 0.0})
    return means.assign(m=by_source.where(means["target"] == "t", means["miou"]))


def noisy(pairs: pd.DataFrame, n_seeds: int = 3, sd: float = 0.05) -> pd.DataFrame:
    noise = sd * np.random.default_rng(0).standard_normal((n_seeds, len(pairs)))
    parts = [pairs.assign(seed=seed, miou=pairs["miou"] + noise[seed]) for seed in range(n_seeds)]
    return pd.concat(parts)[["source", "target", "seed", "miou"]]


def test_ceiling_and_shares_by_hand() -> None:
    frame = evaluate(pairs_by_hand(), fine_tunings=fine_tunings_of(BY_HAND), scenarios=["fixed_target"])
    last = frame.iloc[-1]
    assert last[["metric", "kind", "n_groups", "n_too_small", "n_tau_undefined"]].tolist() == [
        "one_fine_tuning", "ceiling", 2, 0, 0,
    ]  # fmt: skip
    # On t, seed 0 chooses c, the last of seed 1 (0.30 of 0.60); seed 1 chooses a, the second of seed 0 (0.50 of 0.55).
    assert last["top1"] == pytest.approx((0 + 1) / 2)
    assert last["regret"] == pytest.approx(((0.30 + 0.05) / 2 + 0) / 2)
    m = row(frame, "fixed_target", "m")
    assert (m["top1"], m["regret"]) == (0.5, pytest.approx((0.1 + 0) / 2))
    assert m["top1_share"] == pytest.approx(1)
    assert m["tau_w_share"] == pytest.approx(m["tau_w"] / last["tau_w"])
    assert row(frame, "fixed_target", "random")["tau_w_share"] == 0


def test_noise_counts_the_given_pairs_alone() -> None:
    tuned = fine_tunings_of(BY_HAND | {("scratch", "t"): (0.1, 0.9), ("d", "t"): (0.9, 0.1)})
    scratch = pd.DataFrame({"source": ["scratch"], "target": ["t"], "miou": [0.5]})
    pairs = pd.concat([pairs_by_hand(), scratch])
    noise = fine_tuning_noise(tuned, pairs=pairs)
    pd.testing.assert_frame_equal(noise, fine_tuning_noise(fine_tunings_of(BY_HAND)))
    last = evaluate(pairs, fine_tunings=tuned, scenarios=["fixed_target"]).iloc[-1]
    assert last[CEILING].tolist() == pytest.approx(noise.loc[0, CEILING].tolist())
    # A pair without a second seed leaves nothing to compare.
    alone = tuned.drop(index=tuned.index[1])
    assert fine_tuning_noise(alone, pairs=pairs).empty
    assert evaluate(pairs, fine_tunings=alone)["kind"].isin(["metric", "control"]).all()


def test_the_ceiling_is_the_row_of_fine_tuning_noise() -> None:
    pairs = random_pairs()
    tuned = noisy(pairs)
    frame, noise = evaluate(pairs, fine_tunings=tuned), fine_tuning_noise(tuned).set_index("scenario")
    for scenario in ("fixed_target", "fixed_source"):
        found = row(frame, scenario, "one_fine_tuning")
        assert found[CEILING].tolist() == noise.loc[scenario, CEILING].tolist()
        assert found[[name for name in MEASURES if name not in CEILING]].isna().all()
        assert found[["fidelity", "tau_w_share", "top1_share"]].isna().all()
        assert found["beaten_by"] is None
    assert frame.groupby("scenario")["metric"].last().tolist() == ["one_fine_tuning"] * 2
    assert frame["n_groups"].dtype == int
    others = frame[frame["kind"] != "ceiling"].reset_index(drop=True)
    shares = ["tau_w_share", "top1_share"]
    pd.testing.assert_frame_equal(others.drop(columns=shares), evaluate(pairs).drop(columns=shares))


def test_only_the_pairs_that_are_ranked_count() -> None:
    pairs = random_pairs()
    tuned = noisy(pairs)
    some = pairs[pairs["target"] != "d5"]
    elsewhere = tuned.assign(miou=tuned["miou"].where(tuned["target"] != "d5", 0.0))
    expected, found = (evaluate(some, fine_tunings=of, scenarios=["fixed_target"]) for of in (tuned, elsewhere))
    pd.testing.assert_frame_equal(found, expected)
    scratch = pd.DataFrame({"source": ["scratch"], "target": ["d1"], "seed": [0], "miou": [0.5]})
    pd.testing.assert_frame_equal(
        evaluate(some, fine_tunings=pd.concat([scratch, tuned]), scenarios=["fixed_target"]), expected
    )


def test_without_noise_the_ceiling_is_perfect_and_shares_are_the_measures() -> None:
    pairs = random_pairs()
    frame = evaluate(pairs, fine_tunings=noisy(pairs, sd=0.0), scenarios=["fixed_target"])
    assert frame.iloc[-1][["top1", "tau_w", "regret"]].tolist() == [1, pytest.approx(1), 0]
    metrics = frame.iloc[:-1]
    assert metrics["tau_w_share"].tolist() == pytest.approx(metrics["tau_w"].tolist())
    assert metrics["top1_share"].tolist() == pytest.approx(metrics["top1"].tolist())


@pytest.mark.parametrize("missing", ["all", "one pair", "second seed", "second seed of a pair", "no fine-tunings"])
def test_without_two_seeds_of_every_pair_there_is_no_ceiling(missing: str) -> None:
    pairs = random_pairs()
    tuned = noisy(pairs, n_seeds=2)
    first = (tuned["source"] == "d0") & (tuned["target"] == "d1")
    left = {
        "all": tuned.iloc[:0],
        "one pair": tuned[~first],
        "second seed": tuned[tuned["seed"] == 0],
        "second seed of a pair": tuned[~first | (tuned["seed"] == 0)],
        "no fine-tunings": None,
    }
    frame = evaluate(pairs, fine_tunings=left[missing])
    assert "ceiling" not in set(frame["kind"])
    assert frame[["tau_w_share", "top1_share"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(frame, evaluate(pairs))


def test_a_share_of_nothing_is_unknown() -> None:
    # The two seeds order the items in opposite ways, so that one never predicts the other.
    tuned = fine_tunings_of({("a", "t"): (0.5, 0.4), ("b", "t"): (0.4, 0.5)})
    pairs = pd.DataFrame({"source": ["a", "b"], "target": ["t", "t"], "miou": [0.46, 0.45], "m": [2.0, 1.0]})
    frame = evaluate(pairs, fine_tunings=tuned, scenarios=["fixed_target"])
    assert frame.iloc[-1][["top1", "tau_w"]].tolist() == [0, pytest.approx(-1)]
    assert frame[["tau_w_share", "top1_share"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tuned: tuned.drop(columns="seed"), "fine_tunings: column 'seed' is missing .*add it"),
        (lambda tuned: pd.concat([tuned, tuned[:1]]), "fine_tunings: pair d0 -> d1 has seed 0 twice; keep one row"),
    ],
)
def test_wrong_fine_tunings_are_refused_in_one_line(damage, message) -> None:
    tuned = damage(noisy(random_pairs()))
    for function in (fine_tuning_noise, lambda frame: evaluate(random_pairs(), fine_tunings=frame)):
        with pytest.raises(ResultsError, match=message) as caught:
            function(tuned)
        assert "\n" not in str(caught.value)


def test_the_name_of_the_ceiling_is_no_metric() -> None:
    pairs = random_pairs().assign(one_fine_tuning=1.0)
    with pytest.raises(ResultsError, match="metric 'one_fine_tuning' has the name of the ceiling; rename the column"):
        evaluate(pairs)
