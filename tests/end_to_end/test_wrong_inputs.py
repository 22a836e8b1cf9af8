"""Wrong inputs end in one line that says what and where, with the documented exit code, and stop nothing else."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

TRAIN = "dusk_street/train"


# Images and labels


def halve(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def truncate_png(world: Path) -> None:
    halve(world / TRAIN / "images/train_0001.png")


def truncate_jpeg(world: Path) -> None:
    file = world / TRAIN / "images/train_0001.png"
    Image.open(file).save(file, "JPEG")
    halve(file)


def truncate_label(world: Path) -> None:
    halve(world / TRAIN / "labels/train_0002.png")


def write_no_image(world: Path) -> None:
    (world / TRAIN / "images/train_0000.png").write_text("<html>404</html>")


def write_unknown_value(world: Path) -> None:
    file = world / TRAIN / "labels/train_0003.png"
    pixels = np.array(Image.open(file))
    pixels[5, 7] = 77
    Image.fromarray(pixels).save(file)


def enlarge_label(world: Path) -> None:
    file = world / TRAIN / "labels/train_0003.png"
    Image.open(file).resize((64, 49), Image.Resampling.NEAREST).save(file)


def remove_image(world: Path) -> None:
    (world / TRAIN / "images/train_0001.png").unlink()


def remove_label(world: Path) -> None:
    (world / TRAIN / "labels/train_0001.png").unlink()


def empty_split(world: Path) -> None:
    for file in (world / TRAIN).glob("*/*.png"):
        file.unlink()


def remove_dataset(world: Path) -> None:
    shutil.rmtree(world / "dusk_street")


def show_one_class(world: Path) -> None:
    for file in (world / TRAIN / "labels").glob("*.png"):
        pixels = np.array(Image.open(file))
        Image.fromarray(np.where(pixels == 255, 255, 3).astype(np.uint8)).save(file)


BAD_DATA = [
    (remove_image, ["dusk_street train", "labels/train_0001.png has no image", "add the image or exclude"]),
    (remove_label, ["dusk_street train", "images/train_0001.png has no label", "add the label or exclude"]),
    (truncate_png, ["train/images/train_0001.png", "cannot be decoded", "truncated", "replace the file"]),
    (truncate_jpeg, ["train/images/train_0001.png", "cannot be decoded", "truncated", "replace the file"]),
    (truncate_label, ["train/labels/train_0002.png", "cannot be decoded", "replace the file"]),
    (write_no_image, ["train/images/train_0000.png", "cannot be decoded", "replace the file"]),
    (write_unknown_value, ["labels/train_0003.png", "value 77 at row 5, column 7", "labels.map or labels.ignore"]),
    (enlarge_label, ["labels/train_0003.png", "49", "48", "replace one of the"]),
    (empty_split, ["dusk_street train", "no image in", "train/images/*.png", "correct the pattern"]),
    (remove_dataset, ["dusk_street train", "is not a folder", "correct the data root"]),
]


@pytest.mark.parametrize(("harm", "reported"), BAD_DATA)
def test_bad_files_of_a_target_are_named_and_the_other_pair_is_scored(workspace, harm, reported):
    harm(workspace.world)
    line = workspace.call("score-pairs").reason(4)
    assert line.startswith("day_street -> dusk_street: ")
    assert all(part in line for part in reported), line
    assert {row["target"] for row in workspace.rows("scores")} == {"cells_dark"}


@pytest.mark.parametrize(("harm", "reported"), BAD_DATA)
def test_bad_files_of_a_target_are_named_by_fine_tuning_and_the_other_pair_is_fine_tuned(workspace, harm, reported):
    harm(workspace.world)
    tuning = yaml.safe_load(workspace.study.read_text())["fine_tuning"]
    workspace.change(
        fine_tuning={**tuning, "scratch": False, "changes": {**tuning["changes"], "batch_size": 4, "steps": 1}}
    )
    line = workspace.call("finetune-pairs").reason(4)
    assert line.startswith("day_street -> dusk_street, seed 0: ")
    assert all(part in line for part in reported), line
    assert {row["target"] for row in workspace.rows("performance")} == {"cells_dark"}


def test_a_process_that_reads_images_sends_its_reason_in_one_line_too(workspace):
    truncate_png(workspace.world)
    line = workspace.call("finetune-pairs", "--source", "day_street", "--workers", "1").reason(4)
    assert re.fullmatch(r"day_street -> dusk_street, seed 0: \S+/train_0001\.png: cannot be decoded \(.*\); .*", line)
    assert {row["target"] for row in workspace.rows("performance")} == {"cells_dark"}


def test_bad_files_of_a_source_are_named_and_the_other_source_is_trained(workspace):
    workspace.change(sources=["dusk_street", "cells_dark"])
    shutil.rmtree(workspace.run / "sources")
    file = workspace.world / "dusk_street/source_train/images/source_train_0002.png"
    file.unlink()
    line = workspace.call("train-sources").reason(4)
    assert line.startswith("source dusk_street: ")
    assert "source_train_0002.png has no image" in line
    assert [path.parent.name for path in workspace.run.glob("sources/*/source.json")] == ["cells_dark"]


def test_a_target_of_one_class_is_named_and_the_other_pair_is_scored(workspace):
    show_one_class(workspace.world)
    line = workspace.call("score-pairs").reason(4)
    assert "target dusk_street: its 4 low-shot images show 1 class(es)" in line
    assert "choose more images or another label map" in line
    assert {row["target"] for row in workspace.rows("scores")} == {"cells_dark"}


def test_a_bad_target_stops_no_other_pair_and_the_same_command_finishes_after_the_fix(finished, copy_of):
    workspace = copy_of(finished)
    for file in workspace.run.glob("s[ac]*/**/*.parquet"):
        file.unlink()
    good = (workspace.world / TRAIN / "images/train_0001.png").read_bytes()
    truncate_png(workspace.world)

    ended = workspace.call("score-pairs")
    assert ended.reason(4).startswith("day_street -> dusk_street: ")
    summary = ended.err.splitlines()[1]
    assert "failed: day_street -> dusk_street, cells_dark -> dusk_street; all others are finished" in summary
    scored = workspace.rows("scores")
    assert {row["target"] for row in scored} == {"day_street", "cells_dark"}
    assert len(scored) == 4 * 2

    (workspace.world / TRAIN / "images/train_0001.png").write_bytes(good)
    workspace.done("score-pairs")
    again = workspace.rows("scores")
    assert [row for row in again if row["target"] != "dusk_street"] == scored
    reported = ("source", "target", "metric", "score", "content_key")
    assert [[row[name] for name in reported] for row in again] == [
        [row[name] for name in reported] for row in finished.rows("scores")
    ]


def test_two_kinds_of_reasons_are_both_reported_and_end_with_the_code_for_several(trained, copy_of):
    workspace = copy_of(trained)
    truncate_png(workspace.world)
    (workspace.run / "sources/cells_dark/weights.safetensors").write_bytes(b"torn")
    ended = workspace.call("score-pairs", "--target", "dusk_street", "--target", "day_street")
    assert ended.code == 8
    *reasons, summary = ended.err.splitlines()
    assert len(reasons) == 2
    assert "train_0001.png: cannot be decoded" in ended.err
    assert "cells_dark/weights.safetensors: its contents differ from what" in ended.err
    assert "all others are finished and kept" in summary
    assert {(row["source"], row["target"]) for row in workspace.rows("scores")} == {("dusk_street", "day_street")}


# Studies and manifests


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        ({"metrics": ["gbc", "gbd"]}, ["metrics", "unknown metric 'gbd'", "choose among gbc, logme, h_score"]),
        ({"targets": ["dusk_street", "mars"]}, ["targets", "unknown dataset 'mars'", "cells_dark, "]),
        ({"sources": ["mars"]}, ["sources", "unknown dataset 'mars'"]),
        ({"pixels": 10}, ["pixels: 10: unknown field; remove it"]),
        ({"sampling": {"pixels_per_image": 0}}, ["sampling.pixels_per_image: 0", "greater than 0"]),
        ({"manifests": ["nowhere.yaml"]}, ["nowhere.yaml: no such file, and no shipped manifest of that name"]),
    ],
)
def test_a_wrong_study_is_refused_before_anything_runs(workspace, change, reported):
    before = workspace.state()
    workspace.change(**change)
    for stage in ("train-sources", "score-pairs", "finetune-pairs"):
        line = workspace.call(stage).reason(3)
        assert all(part in line for part in reported), line
    assert workspace.state() == before


def test_a_missing_and_a_damaged_study_are_reported_with_the_location(workspace, invoke):
    line = invoke("score-pairs", workspace.study.with_name("none.yaml")).reason(3)
    assert line.endswith("none.yaml: no such file, and no shipped study of that name; correct the path of the study")
    workspace.study.write_text("name: tiny\nsources: [a, b\ntargets: [c]\n")
    line = workspace.call("score-pairs").reason(3)
    assert f"{workspace.study}, line 3: not a plain YAML file" in line


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        ({"labels": {"encoding": "id", "map": {0: 0, 1: 9}}}, "labels.map maps the raw value 1 to class index 9"),
        ({"root": "../elsewhere"}, "root: '../elsewhere': a path must be relative"),
        ({"classes": ["sky"]}, "classes: ['sky']: "),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_file_and_field(workspace, change, reported):
    file = workspace.world / "manifests/dusk_street.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | change))
    line = workspace.call("score-pairs").reason(3)
    assert line.startswith(f"{file}: ")
    assert reported in line


@pytest.mark.parametrize(
    ("stage", "options", "reported"),
    [
        ("train-sources", ("--source", "mars"), "--source mars: not in the study; choose among day_street"),
        ("score-pairs", ("--source", "scratch"), "--source scratch: not in the study; choose among day_street"),
        ("score-pairs", ("--target", "mars"), "--target mars: not in the study; choose among dusk_street, cells"),
        (
            "finetune-pairs",
            ("--source", "mars"),
            "--source mars: not in the study; choose among scratch, day_str",
        ),
        ("sample", ("--target", "mars"), "--target mars: not in the study; choose among dusk_street, cells_dark"),
        ("score-pairs", ("--device", "abacus"), "--device abacus: not usable here"),
    ],
)
def test_an_option_that_names_nothing_is_refused(workspace, invoke, stage, options, reported):
    words = workspace.place() if stage == "sample" else workspace.words()
    assert reported in invoke(stage, *words, *options).reason(3)
    assert workspace.rows("scores") == workspace.rows("performance") == []


def test_a_stage_that_the_study_says_nothing_about_is_refused_with_the_field(workspace):
    workspace.change(fine_tuning=None)
    assert "field fine_tuning is missing" in workspace.call("finetune-pairs").reason(3)
    workspace.change(model=None)
    assert "field model is missing" in workspace.call("score-pairs").reason(3)


# Run folders


def test_a_folder_without_a_study_is_no_run_folder(invoke, tmp_path):
    line = invoke("evaluate", tmp_path).reason(7)
    assert line == f"{tmp_path / 'study.yaml'}: no such file; name the run folder of a study"


def test_a_run_without_results_says_which_stages_to_run(trained, invoke):
    line = invoke("evaluate", trained.run).reason(7)
    assert line.endswith("no pair has all scores and an actual performance; run score-pairs and finetune-pairs")


def test_a_file_where_the_run_folder_should_be_is_one_line(workspace, invoke, tmp_path):
    file = tmp_path / "file"
    file.touch()
    line = invoke("score-pairs", workspace.study, "--run-folder", file).reason(1)
    assert str(file) in line
    assert "check the path" in line


def test_a_damaged_score_file_is_named_and_the_other_pair_is_scored(workspace):
    workspace.done("score-pairs", "--target", "dusk_street")
    file = workspace.run / "scores/day_street/dusk_street.parquet"
    halve(file)
    line = workspace.call("score-pairs").reason(7)
    assert f"{file}: damaged result file" in line
    assert "delete it and run the same command again" in line
    file.unlink()
    workspace.done("score-pairs")
    assert {row["target"] for row in workspace.rows("scores")} == {"dusk_street", "cells_dark"}


def test_wrong_usage_ends_with_code_2(invoke, tmp_path):
    assert invoke("score-pairs").code == 2
    assert invoke("evaluate").code == 2
    assert invoke("evaluate", tmp_path, "--published").code == 2


def test_debug_shows_the_traceback(invoke, tmp_path):
    from seg_transfer.cli import main
    from seg_transfer.errors import ResultsError

    with pytest.raises(ResultsError, match="no such file"):
        main(["evaluate", str(tmp_path), "--debug"])
