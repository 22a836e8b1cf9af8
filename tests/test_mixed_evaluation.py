"""The script that evaluates a bank of several architectures, on results that are made by hand."""

from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from loaded_scripts import script

from seg_transfer.store.tables import write_rows

NETWORKS = [f"{family}_{dataset}" for family in ("hrnet", "unet") for dataset in "abc"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with six networks of two families on three targets.

    Read at stages, GBC is the mIoU; read at the last layer, it is so within a family, but shifted between families.
    """
    loaded = script("mixed_evaluation")
    monkeypatch.setattr(loaded, "FOLDER", tmp_path)
    monkeypatch.setattr(loaded, "FAMILIES", {"hrnet": "black", "unet": "gray"})
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
    for family, target in product(loaded.FAMILIES, "xyz"):
        tuned.append({"source": f"{family}_scratch", "family": family, "target": target, "seed": 0, "miou": 0.125})
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
    found = module.evaluated(pairs, n_draws=4)
    first = pd.DataFrame(found).set_index(["part", "reading", "metric", "measure"])["value"]
    assert first["across", "stages", "gbc", "regret"] == first["within", "last", "gbc", "regret"] == 0
    by_target = pairs.set_index("source").groupby("target")["miou"]
    unet = pairs[pairs["family"] == "unet"].groupby("target")["miou"].max()
    lost = 100 * (by_target.max() - unet).mean()
    assert lost > 0
    assert first["across", "last", "gbc", "regret"] == pytest.approx(lost)
    assert first["across", "stages", "default", "regret"] == 0
    assert first["across", "none", "leep", "regret"] == pytest.approx(lost)
    assert first["across", "stages", "gbc", "change"] == pytest.approx(-lost)
    assert first["within", "stages", "gbc", "change"] == 0
    chance = first["across", "none", "random", "regret"]
    assert first["across", "coarse", "default", "over_chance"] == pytest.approx(-chance)
    assert first["across", "last", "gbc, standardized", "regret"] < lost


def test_the_tables_are_printed_and_the_figure_is_drawn(module, tmp_path, monkeypatch, capsys) -> None:
    file = tmp_path / "figure.png"
    monkeypatch.setattr("sys.argv", ["mixed_evaluation.py", "--figure", str(file)])
    found = module.evaluated(module.published(), n_draws=4)
    write_rows(tmp_path / "evaluation.parquet", module.EVALUATION, found)
    module.main()
    shown = capsys.readouterr().out
    key = {"part": "across", "reading": "last", "metric": "gbc", "measure": "regret"}
    cell = next("{value:.2f} ({low:.2f} to {high:.2f})".format(**one) for one in found if key.items() <= one.items())
    assert f"| gbc | {cell} | 0.00 (0.00 to 0.00) |" in shown
    best = pd.read_parquet(tmp_path / "performance.parquet").query("family == 'unet'")
    best = best.groupby(["target", "source"])["miou"].mean().groupby("target").max()
    assert f"| unet | {' | '.join(f'{value:.3f} (0.125)' for value in best)} |" in shown
    columns = [line.count("|") for line in shown.splitlines() if line.startswith("|")]
    assert set(columns) == {5, 6, 8}
    assert file.read_bytes().startswith(b"\x89PNG")
