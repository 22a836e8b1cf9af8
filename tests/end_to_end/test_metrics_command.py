"""The list of metrics, for people and for programs."""

import json
import subprocess
import sys

from seg_transfer.metrics import METRICS


def test_the_table_names_every_metric(invoke):
    ended = invoke("metrics")
    assert (ended.code, ended.err) == (0, "")
    words = ended.out.split()
    assert all(words.count(name) >= 2 for name in METRICS)
    assert "probabilities" in words


def test_json_has_every_metric_with_its_settings(invoke):
    ended = invoke("metrics", "--json")
    rows = {row["name"]: row for row in json.loads(ended.out)}
    assert rows.keys() == METRICS.keys()
    assert rows["gbc"]["settings"] == dict(METRICS["gbc"].settings)
    assert (rows["leep"]["needs"], rows["leep"]["standard_error"]) == (["source_probs"], "yes")


def test_the_help_has_an_example(invoke):
    assert "Example: seg-transfer metrics" in invoke("metrics", "--help").out


def test_the_list_does_not_import_torch():
    words = [sys.executable, "-X", "importtime", "-m", "seg_transfer", "metrics"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True)
    modules = {line.rsplit("|", 1)[-1].strip() for line in shown.stderr.splitlines()}
    assert "seg_transfer.metrics" in modules
    assert not modules & {"torch", "mmengine"}
