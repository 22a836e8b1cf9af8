"""The benchmark of growth runs at a tiny size, fits exponents, and reads the orders that metrics state."""

import pytest
from loaded_scripts import script

from seg_transfer.metrics import METRICS

growth = script("benchmark_growth")
Work = growth.Work


def works(**sizes: int) -> list[object]:
    return [Work(20_000, 180, 20, 40), growth.replace(Work(20_000, 180, 20, 40), **sizes)]


def test_it_measures_every_metric_in_every_dimension(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = Work(80, 3, 2, 2)
    for name, value in {
        "LEAST": tiny,
        "KEPT": tiny,
        "PIXELS_PER_IMAGE": 20,
        "LEAST_SOURCES": 1,
        "DOUBLINGS": 1,
    }.items():
        monkeypatch.setattr(growth, name, value)
    growth.main([])
    *tables, sources = capsys.readouterr().out.strip().split("\n\n")
    scored = [name for name, metric in METRICS.items() if "scores" not in metric.needs and metric.installed]
    assert [table.split()[0] for table in tables] == ["N", "D", "C", "C_s"]
    for table in tables:
        assert [line.split()[0] for line in table.splitlines()[2:]] == scored
    assert sources.splitlines()[2].startswith("rank_sources ")


def test_growth_by_hand() -> None:
    assert growth.growth([1.0, 2.0, 4.0, 8.0]) == 1
    assert growth.growth([1.0, 5.0, 9.0, 64.0]) == 2


@pytest.mark.parametrize(
    ("metric", "sizes", "exponent"),
    [
        ("gbc", {"D": 360}, 2),  # N D^2
        ("gbc", {"N": 40_000}, 1),
        ("gbc", {"C_s": 80}, 0),
        ("leep", {"C_s": 80}, 1),  # N C_s, and not C
        ("leep", {"C": 40}, 0),
        ("trans_rate", {"D": 360}, 3),  # N D^2 + C D^3
        ("parc", {"N": 40_000}, 0),  # n^2 D, of a sample of 2000
        ("ids", {"N": 40_000}, 1),  # M M_s D
        ("ccfv", {"N": 40_000}, 0),  # M^2 C D, of 20 images
        ("nleep", {"C": 40}, 1),  # N D^2 + N C d^2
        ("probe_miou", {"D": 360}, 3),  # as ridge_probe
    ],
)
def test_the_order_is_that_of_the_stated_cost(metric: str, sizes: dict[str, int], exponent: float) -> None:
    assert growth.order(METRICS[metric], works(**sizes)) == exponent


def test_growth_beyond_the_order_is_marked() -> None:
    def mark(stated: float, *seconds: float) -> bool:
        return "! " in growth._line("metric", [(one, None) for one in seconds], stated)

    assert mark(1.0, 0.1, 0.2, 0.5, 1.6)
    assert not mark(1.0, 0.1, 0.2, 0.4, 0.8)
    assert not mark(1.0, 0.001, 0.002, 0.005, 0.016)  # of calls
