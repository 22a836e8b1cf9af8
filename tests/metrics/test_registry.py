"""External metrics: what is accepted, what is refused, and that a broken package stops no other work."""

import logging
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from toy_package import CONTRAST, install

from seg_transfer import metrics
from seg_transfer.errors import ConfigError
from seg_transfer.evaluation import CONTROLS, SCRATCH
from seg_transfer.evaluation import _pairs as pairs
from seg_transfer.metrics import METRICS, Metric, _registry, score_all
from seg_transfer.metrics._registry import RESERVED_NAMES, Registry
from seg_transfer.observations import Observations

_FOLDER = Path(_registry.__file__).parent
BUILT_IN = {name: METRICS[name] for name in ("gbc", "logme")}


def width(observations: Observations, *, scale: float = 1.0, note: str = "") -> float:
    return scale * observations.features.shape[1]


def metric(**fields) -> Metric:
    return replace(Metric.from_function(width, needs={"features"}, version=1), **fields)


# Metrics made from functions


def test_the_settings_of_a_function_are_its_parameters():
    made = metric()
    assert made.name == "width"
    assert made.settings == {"scale": 1.0, "note": ""}
    assert not made.additive


@pytest.mark.parametrize("function", [lambda observations, k: k, lambda observations, **settings: 0.0])
def test_a_parameter_without_a_default_is_refused(function):
    with pytest.raises(ConfigError, match="has no default"):
        Metric.from_function(function, name="strange", needs=(), version=1)


def test_a_function_is_scored_and_its_groups_on_request_alone(world, monkeypatch):
    registry = Registry(BUILT_IN)
    registry.add(Metric.from_function(lambda o: o.features[:, 0].mean(), name="first", needs={"features"}, version=1))
    monkeypatch.setattr("seg_transfer.metrics.METRICS", registry)
    observations = world()
    assert score_all(observations, ["first"])["first"].standard_error is None
    score = score_all(observations, ["first"], "all")["first"]
    assert score.score == observations.features[:, 0].mean()
    groups, first = observations.image_index % 10, observations.features[:, 0]
    np.testing.assert_allclose(score.replicates, [first[groups != group].mean() for group in range(10)], rtol=1e-14)


# What content keys hold of a metric


def test_the_key_parts_of_built_in_metrics_are_settings_and_version():
    for name, built_in in METRICS.items():
        assert built_in.key_parts == {"settings": dict(built_in.settings), "version": built_in.version}, name


def test_the_key_parts_of_an_external_metric_name_its_package_too():
    package = __name__.partition(".")[0]
    assert metric(version=4).key_parts == {"settings": {"scale": 1.0, "note": ""}, "version": 4, "package": package}
    assert metric(scores=partial(partial(width), scale=2.0)).package == package


# Registering


def test_registered_metrics_follow_the_built_in_ones_in_alphabetical_order():
    registry = Registry(BUILT_IN)
    registry.add(metric(name="b"))
    registry.add(metric(name="a"))
    registry.add(metric(name="a"))
    assert list(registry) == ["gbc", "logme", "a", "b"]
    assert len(registry) == 4
    assert registry["a"] == metric(name="a")
    assert list(registry | {"c": metric()}) == ["gbc", "logme", "a", "b", "c"]
    assert repr(registry) == "<metrics gbc, logme, a, b>"
    with pytest.raises(KeyError):
        registry["d"]


def test_a_metric_of_a_notebook_may_be_defined_again():
    def cell():
        def in_cell(observations: Observations) -> float:
            return 0.0

        in_cell.__module__ = "__main__"
        return Metric.from_function(in_cell, needs=(), version=1)

    registry = Registry(BUILT_IN)
    registry.add(cell())
    second = cell()
    registry.add(second)
    assert registry["in_cell"] is second


REFUSED = {
    "taken": (metric(name="gbc"), "package seg_transfer already has a metric of this name"),
    "registered": (metric(name="known", version=2), "already has a metric of this name"),
    "upper case": (metric(name="Width"), "lower-case letters"),
    "space": (metric(name="a b"), "lower-case letters"),
    "line": (metric(name="a\n"), "lower-case letters"),
    "long": (metric(name="a" * 65), "1 to 64"),
    "column": (metric(name="miou"), "reserved"),
    "control": (metric(name="random"), "reserved"),
    "needs": (metric(needs=frozenset({"features", "labels"})), "needs 'labels'; choose among features, source_probs"),
    "of scores": (metric(needs=frozenset({"scores"})), "needs 'scores'"),
    "version": (metric(version=0), "version is 0"),
    "version text": (metric(version="1"), "version is '1'"),
    "setting": (metric(settings={"sizes": [1, 2]}), r"setting sizes is \[1, 2\]"),
    "extra": (metric(extra="ot"), "declare dependencies in your package"),
    "function": (width, "is a function, not a Metric"),
}


@pytest.mark.parametrize(("wrong", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_breaks_a_rule_is_refused_in_one_line(wrong, reason):
    registry = Registry(BUILT_IN)
    registry.add(metric(name="known"))
    with pytest.raises(ConfigError, match=reason) as caught:
        registry.add(wrong)
    assert "\n" not in str(caught.value)
    assert list(registry) == ["gbc", "logme", "known"]


def test_columns_and_controls_are_reserved_names():
    assert {*pairs._NOT_METRICS, *CONTROLS, SCRATCH} <= RESERVED_NAMES
    assert not RESERVED_NAMES & METRICS.keys()


# Entry points


BROKEN = {
    "fails": ("raise RuntimeError('no driver\\nfound')", "no driver found"),
    "exits": ("import sys; sys.exit('bye')", "bye"),
    "no_such_library": ("import no_such_library_at_all", "No module named 'no_such_library_at_all'"),
    "wrong_type": ("METRIC = len", "is a builtin_function_or_method, not a Metric"),
    "lacks_it": ("", "has no attribute 'METRIC'"),
    "clashes": (CONTRAST.replace("VERSION", "1, name='gbc'"), "package seg_transfer already has a metric of this name"),
    "misnamed": (CONTRAST.replace("VERSION", "1, name='Contrast!'"), "lower-case letters"),
}


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder on the search path; modules that are imported from it are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    return tmp_path


def test_metrics_of_installed_packages_are_known(packages, caplog):
    install(packages, "toy", CONTRAST.replace("VERSION", "1"), {"contrast": "METRIC"})
    registry = Registry(BUILT_IN)
    assert "contrast" in registry
    assert registry["contrast"].package == "toy"
    assert list(registry) == ["gbc", "logme", "contrast"]
    assert caplog.records == []


def test_built_in_metrics_are_available_without_loading_any_package(packages):
    install(packages, "toy", CONTRAST.replace("VERSION", "1"), {"contrast": "METRIC"})
    assert Registry(BUILT_IN)["gbc"] is METRICS["gbc"]
    assert "toy" not in sys.modules


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_package_is_left_out_with_one_warning(packages, caplog, name):
    code, reason = BROKEN[name]
    install(packages, name, code, {"its_metric": "METRIC"})
    install(packages, "toy", CONTRAST.replace("VERSION", "1"), {"contrast": "METRIC"})
    registry = Registry(BUILT_IN)
    for _ in range(2):
        assert list(registry) == ["gbc", "logme", "contrast"]
    assert registry["gbc"] is METRICS["gbc"]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("seg_transfer.metrics._registry", logging.WARNING)
    message = record.getMessage()
    assert message.startswith(f"package {name}: metric its_metric (entry point {name}:METRIC) is left out: ")
    assert reason in message
    assert "\n" not in message


def test_of_two_packages_with_one_name_the_first_in_the_alphabet_has_it(packages, caplog):
    for name in ("toy_b", "toy_a"):
        install(packages, name, CONTRAST.replace("VERSION", "1"), {"contrast": "METRIC"})
    assert Registry(BUILT_IN)["contrast"].package == "toy_a"
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["package toy_b"]


def test_metadata_that_cannot_be_read_leaves_the_built_in_metrics(monkeypatch, caplog):
    def refuse(**_):
        raise ValueError("not an entry point")

    monkeypatch.setattr(_registry, "entry_points", refuse)
    assert list(Registry(BUILT_IN)) == ["gbc", "logme"]
    assert "cannot be read (not an entry point)" in caplog.text


def test_a_package_may_look_at_the_metrics_while_it_is_imported(packages, caplog):
    code = "from seg_transfer.metrics import METRICS\nassert len(METRICS) > 10\n" + CONTRAST
    install(packages, "toy", code.replace("VERSION", "1"), {"contrast": "METRIC"})
    assert "contrast" in Registry(BUILT_IN)
    assert caplog.records == []


def test_neither_the_package_nor_the_metrics_load_other_packages_when_imported(packages):
    install(packages, "toy", "raise SystemExit('loaded')", {"contrast": "METRIC"})
    code = (
        f"import sys; sys.path.insert(0, {str(packages)!r}); import seg_transfer, seg_transfer.metrics as m;"
        "m.METRICS['gbc']; print('toy' in sys.modules, 'gbc' in m.METRICS, len(m.METRICS))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", str(len(METRICS))]
    assert done.stderr.splitlines() == ["package toy: metric contrast (entry point toy:METRIC) is left out: loaded"]


# Built-in metrics


def test_every_built_in_metric_has_its_line_and_its_function():
    files = [path for path in sorted(_FOLDER.glob("_*.py")) if "\nMETRIC = Metric(" in path.read_text()]
    assert {path.stem.removeprefix("_") for path in files} == METRICS.keys()
    assert all(callable(getattr(metrics, name)) for name in METRICS)
    assert METRICS.keys() <= set(metrics.__all__)
