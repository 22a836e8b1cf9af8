"""`submit`: what is handed to sbatch, what is printed, and what Slurm refuses."""

import shlex

import pytest
import yaml
from slurm_scripts import pretend, script_of, study_file

from seg_transfer.cli import main
from seg_transfer.study.run import Run


def submit(run: Run, *options: str) -> int:
    """The exit code of the command."""
    places = ["--data-root", str(run.data_root), "--run-folder", str(run.folder)]
    with pytest.raises(SystemExit) as ended:
        main(["submit", str(study_file(run)), *places, "--stage", "score", *options])
    return int(ended.value.code or 0)


def test_it_is_passed_to_sbatch_and_the_next_step_is_printed(run, commands, capsys):
    pretend(commands / "sbatch", f'printf "%s\\n" "$@" >{commands}/arguments', "echo '71;cluster'")
    assert submit(run, "--gpus", "0") == 0
    script = run.folder / "slurm/score.sh"
    assert (commands / "arguments").read_text().splitlines() == ["--parsable", str(script.resolve())]
    assert script.read_text() == script_of(run, gpus=0)
    assert (run.folder / "slurm/logs").is_dir()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("job 71: 2 targets in 2 tasks; ")
    check = said[1].partition(": ")[2]
    assert shlex.split(check)[:3] == ["seg-transfer", "plan", str(study_file(run).resolve())]
    assert shlex.split(check)[-1] == "--check"


def test_it_respects_the_limit_of_the_cluster_and_says_how(run, commands, capsys):
    pretend(commands / "sbatch", "echo 71")
    pretend(commands / "scontrol", "echo 'MaxArraySize = 1'")
    assert submit(run, "--gpus", "0", "--max-running", "3") == 0
    assert capsys.readouterr().out.startswith("job 71: 2 targets in 1 task, up to 2 in a task, 3 at a time; ")
    assert (run.folder / "slurm/score.sh").read_text() == script_of(run, max_tasks=1, gpus=0, max_running=3)


def test_a_dry_run_prints_the_script_and_writes_nothing(run, commands, capsys):
    pretend(commands / "sbatch", "exit 1")
    assert submit(run, "--dry-run") == 0
    assert capsys.readouterr().out == script_of(run) + "\n"
    assert not run.folder.exists()


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--sbatch-option", "-Ax"], 3, "sbatch option '-Ax': must be one line like --name=value"),
        (["--sbatch-option", "--comment=a\nb"], 3, "sbatch option '--comment=a\\nb': must be one line"),
        ([], 1, "score.sh: rejected by sbatch (sbatch: error: no such partition); correct the option that it names"),
    ],
)
def test_what_slurm_cannot_take_is_one_line(run, commands, capsys, options, code, reason):
    pretend(commands / "sbatch", "echo 'sbatch: error: no such partition' >&2", "exit 1")
    assert submit(run, *options) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_without_sbatch_it_says_so_and_writes_nothing(run, commands, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(commands))
    assert submit(run) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("seg-transfer: sbatch: not found on PATH; ")
    assert "--dry-run" in line
    assert not run.folder.exists()


def test_a_stage_without_anything_to_do_is_one_line(run, commands, capsys):
    study = yaml.safe_load(study_file(run).read_text())
    study_file(run).write_text(yaml.safe_dump(study | {"sources": study["sources"][-1:]}))
    assert submit(run, "--stage", "train") == 3
    assert "stage train has nothing to do" in capsys.readouterr().err


def test_an_unknown_stage_is_wrong_usage(run, commands, capsys):
    assert submit(run, "--stage", "scores", "--dry-run") == 2
    assert "no stage; choose train, sample, score, finetune, race, finish, explain" in " ".join(
        capsys.readouterr().err.replace("│", "").split()
    )


def test_a_stage_that_needs_targets_gets_them(run, commands, capsys):
    target = run.study.targets[0]
    assert submit(run, "--stage", "explain", "--dry-run") == 3
    assert submit(run, "--stage", "explain", "--target", target, "--dry-run") == 0
    assert f"--engine here --target {target} --threads" in capsys.readouterr().out


def test_a_selection_that_the_stage_does_not_have_is_wrong_usage(run, commands, capsys):
    assert submit(run, "--stage", "train", "--target", run.study.targets[0], "--dry-run") == 2
    assert "leave out --target" in " ".join(capsys.readouterr().err.replace("│", "").split())
