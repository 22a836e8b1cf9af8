"""The script that evaluates a bank of several architectures, on results that are made by hand."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from loaded_scripts import script

from seg_transfer.evaluation import two_way_draws as draws_of

NETWORKS = [f"{family}_{dataset}" for family in ("hrnet", "unet") for dataset in "abc"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with six networks of two families on three targets.

    Read at stages, GBC is the mIoU; read at the last layer, it is so within a family, but shifted between families.
    """
    loaded = script("mixed_evaluation")
    monkeypatch.setattr(loaded, "FOLDER", tmp_path)
    rng = np.random.default_rng(0)
    scores, tuned = [], []
    for source in NETWORKS:
        for target in "xyz":
            miou = rng.random()
            for seed, shift in ((0, -0.01), (1, 0.01)):
                row = {"source": source, "family": loaded.family_of(source), "target": target, "seed": seed}
                tuned.append({**row, "miou": miou + shift, "own_miou": 0.5, "parameters": 10**6})
            for reading in loaded.READING_NAMES:
                for metric in (*loaded.METRICS_OF_READINGS, *loaded.VARIANTS):
                    score = miou + (9 if reading == "last" and source.startswith("unet") else 0)
                    scores.append(
                        {"source": source, "target": target, "reading": reading, "metric": metric, "score": score}
                    )
    pd.DataFrame(scores).to_parquet(tmp_path / "scores.parquet")
    pd.DataFrame(tuned).to_parquet(tmp_path / "performance.parquet")
    return loaded


def test_pairs_have_the_mean_of_the_seeds_and_a_column_per_reading_and_metric(module) -> None:
    pairs = module.published()
    assert len(pairs) == 18
    np.testing.assert_allclose(pairs["stages: gbc"], pairs["miou"])
    standardized = pairs.groupby(["target", "family"])["last: gbc, standardized"]
    np.testing.assert_allclose(standardized.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(standardized.std(ddof=0), 1)


def test_a_shift_between_families_costs_regret_across_them_alone(module) -> None:
    pairs = module.published()
    draws = module.two_way_draws(pairs, module.metrics_of(pairs), n_draws=4)
    first = draws.iloc[0]
    assert first["across", "stages: gbc", "regret"] == first["within", "last: gbc", "regret"] == 0
    by_target = pairs.set_index("source").groupby("target")["miou"]
    unet = pairs[pairs["family"] == "unet"].groupby("target")["miou"].max()
    assert first["across", "last: gbc", "regret"] == pytest.approx((by_target.max() - unet).mean())
    assert first["across", "stages: default", "regret"] == 0
    assert first["across", "leep", "regret"] == first["across", "last: gbc", "regret"]
    _title, columns, rows = module.reading_table(draws)
    cells = next(row for row in rows if row[0] == "stages: gbc")
    assert float(cells[1]) == pytest.approx(-100 * first["across", "last: gbc", "regret"], abs=0.006)
    assert cells[3:] == ["+0.00", "+0.00 to +0.00"]
    assert all(len(row) == len(columns) for row in rows)


def test_the_tables_are_printed_and_the_figure_is_drawn(module, tmp_path, monkeypatch, capsys) -> None:
    file = tmp_path / "figure.png"
    monkeypatch.setattr("sys.argv", ["mixed_evaluation.py", "--figure", str(file)])
    monkeypatch.setattr(module, "two_way_draws", lambda *args: draws_of(*args, n_draws=2))
    module.main()
    shown = capsys.readouterr().out
    assert "Rankings under every reading" in shown
    assert "encoder: three" in shown
    assert file.read_bytes().startswith(b"\x89PNG")
