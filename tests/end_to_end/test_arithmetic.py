"""The key of a training says what it was computed in: machines of different kinds do not undo each other's work."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from files import found_below

from seg_transfer.engines.here import run_items
from seg_transfer.stages import STAGES, finetuning, training
from seg_transfer.stages.base import Item
from seg_transfer.stages.finetune import fine_tuning_keys, start_key
from seg_transfer.stages.train import training_keys
from seg_transfer.store.content_key import content_key, manifest_key
from seg_transfer.store.key_parts import KEY_PARTS, parts_entry, parts_in
from seg_transfer.store.source_card import FILE_NAME, read_source_card, write_source_card
from seg_transfer.store.tables import PERFORMANCE, read_metadata, read_rows, write_rows
from seg_transfer.study.definition import schedule_of
from seg_transfer.study.run import Run, open_run
from seg_transfer.training import fit

ARITHMETIC = {True: "bfloat16", False: "float32"}
TRAINING, TUNING = ("train", "source day_street"), ("finetune", "day_street -> dusk_street, seed 0")


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """From now on it is a machine with matrix units for bfloat16, or without."""
    return lambda has_them: monkeypatch.setattr(fit, "multiplies_bfloat16", lambda: has_them)


@pytest.fixture
def small(workspace: Any) -> Any:
    """One source to be trained and one fine-tuning from it."""
    fields = workspace.study_fields()
    workspace.change(targets=["dusk_street"], fine_tuning=fields["fine_tuning"] | {"scratch": False})
    (workspace.run / "sources/day_street" / FILE_NAME).unlink()
    return workspace


def parts_of(workspace: Any) -> list[dict[str, str]]:
    """Those of the training, and of the fine-tuning."""
    file = workspace.run / "performance/day_street/dusk_street.parquet"
    tuned = parts_in(read_metadata(file, PERFORMANCE, [KEY_PARTS])[KEY_PARTS])["0"]
    return [read_source_card(workspace.run / "sources/day_street" / FILE_NAME).key_parts, tuned]


def planned(workspace: Any, invoke: Any) -> dict[tuple[str, str], dict[str, Any]]:
    items = json.loads(invoke("plan", *workspace.place(), "--json").out)["items"]
    return {(item["kind"], item["name"]): item for item in items if item["kind"] != "score"}


@pytest.mark.parametrize("trained_on", [True, False])
def test_results_of_one_machine_are_finished_on_another(small, on, invoke, trained_on):
    on(trained_on)
    small.done("train-sources")
    small.done("finetune-pairs")
    assert [parts["arithmetic"] for parts in parts_of(small)] == [ARITHMETIC[trained_on]] * 2
    before = small.state()
    on(not trained_on)
    small.done("train-sources")
    small.done("finetune-pairs")
    assert small.state() == before
    items = planned(small, invoke)
    for what in (TRAINING, TUNING):
        assert (items[what]["state"], items[what]["arithmetic"]) == ("done", ARITHMETIC[trained_on])


def test_without_mixed_precision_it_is_float32_on_every_machine(small, on):
    fields = small.study_fields()
    for stage in ("source_training", "fine_tuning"):
        changes = fields[stage]["changes"] | {"mixed_precision": False}
        small.change(**{stage: fields[stage] | {"changes": changes}})
    on(True)
    small.done("train-sources")
    small.done("finetune-pairs")
    assert [parts["arithmetic"] for parts in parts_of(small)] == ["float32"] * 2


class StoppedError(BaseException):
    """As when a process is stopped: no failure of the item."""


def stops_at(step: int, seen: list[int]) -> Any:
    """In place of the progress of a stage: notes its steps, and stops it after this one."""

    class Progress:
        def __init__(self, _title: str) -> None:
            pass

        def __enter__(self) -> Callable[[int, int], None]:
            return self.tick

        def __exit__(self, *_: object) -> None:
            pass

        def tick(self, done: int, _steps: int) -> None:
            seen.append(done)
            if done == step:
                raise StoppedError

    return Progress


@pytest.mark.parametrize(("module", "stage"), [(training, "train"), (finetuning, "finetune")])
def test_a_training_is_resumed_in_its_own_arithmetic_only(small, on, monkeypatch, module, stage):
    on(True)
    if module is finetuning:
        small.done("train-sources")
    seen: list[int] = []
    stopped = stops_at(2, seen)
    monkeypatch.setattr(module, "progress_of", stopped)
    with pytest.raises(StoppedError):
        start(stage, open_run(small.study, small.world, small.run))
    on(False)
    monkeypatch.setattr(module, "progress_of", stops_at(99, seen))
    small.done(STAGES[stage].command)
    assert seen == [1, 2, 1, 2, 3, 4]
    assert parts_of_stage(small, module)["arithmetic"] == "float32"
    assert found_below(small.run, "resume.pth") == []  # that of the other machine neither


def start(name: str, run: Run) -> None:
    stage = STAGES[name]
    run_items(stage, run, stage.items(run), stage.settings_type())


def parts_of_stage(workspace: Any, module: Any) -> dict[str, str]:
    if module is finetuning:
        return parts_of(workspace)[1]
    return read_source_card(workspace.run / "sources/day_street" / FILE_NAME).key_parts


def earlier_keys(run: Run) -> list[Any]:
    """The keys of a training and of a fine-tuning as they were before the arithmetic was noted."""
    study = run.study
    of_training = content_key(
        model=read_source_card(run.source_folder("day_street") / FILE_NAME).model,
        schedule=schedule_of(study.source_training).model_dump(mode="json"),
        seed=study.source_training.seed,
        initialisation=None,
        manifest=manifest_key(run.manifests["day_street"]),
        train=run.records_key("day_street", run.records("day_street", "source_train")),
        eval=run.records_key("day_street", run.records("day_street", "eval")),
    )
    of_tuning = content_key(
        start=start_key(run, Item("day_street", "dusk_street", 0)),
        normalisation=study.normalisation,
        schedule=schedule_of(study.fine_tuning).model_dump(mode="json"),
        seed=0,
        manifest=manifest_key(run.manifests["dusk_street"]),
        train=run.records_key("dusk_street", run.low_shot("dusk_street")),
        eval=run.records_key("dusk_street", run.records("dusk_street", "eval")),
    )
    return [of_training, of_tuning]


def test_trainings_of_earlier_versions_are_valid_while_their_settings_are(small, on, invoke):
    on(True)
    small.done("train-sources")
    small.done("finetune-pairs")
    run = open_run(small.study, small.world, small.run)
    of_training, of_tuning = earlier_keys(run)
    card = read_source_card(run.source_folder("day_street") / FILE_NAME)
    changed = card.model_copy(update={"content_key": of_training, "key_parts": of_training.parts})
    write_source_card(changed, run.source_folder("day_street"))
    file = run.performance_file("day_street", "dusk_street")
    origin = read_metadata(file, PERFORMANCE, ["settings_key", "source_key"])
    rows = [{**row, "content_key": of_tuning} for row in read_rows(file, PERFORMANCE)]
    write_rows(file, PERFORMANCE, rows, origin | parts_entry({"0": of_tuning.parts}))

    before, items = small.state(), planned(small, invoke)
    assert {(items[what]["state"], items[what]["arithmetic"]) for what in (TRAINING, TUNING)} == {("done", "")}
    small.done("train-sources")
    small.done("finetune-pairs")
    assert small.state() == before
    fields = small.study_fields()
    for stage in ("source_training", "fine_tuning"):
        small.change(**{stage: fields[stage] | {"changes": fields[stage]["changes"] | {"mixed_precision": False}}})
    items = planned(small, invoke)
    assert items[TRAINING]["reasons"] == ["schedule.mixed_precision: true -> false"]


def test_keys_of_the_arithmetics_differ(small):
    run = open_run(small.study, small.world, small.run)
    entry = run.study.source("day_street")
    keys = [*training_keys(run, entry).values()]
    small.done("train-sources")
    keys += fine_tuning_keys(run, Item("day_street", "dusk_street", 0)).values()
    found = [key for of_both in keys for key in of_both]
    assert len(set(found)) == len(found) == 16
