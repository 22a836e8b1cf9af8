"""A published run: it gives the same results, and does not name the machine it comes from."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

SCRIPT = Path(__file__).parents[2] / "scripts/share_run.py"


def test_a_published_run_gives_the_same_results_and_names_no_machine(
    finished: Any, copy_of: Any, invoke: Any, tmp_path: Path
) -> None:
    workspace, folder = copy_of(finished), tmp_path / "published"
    (workspace.run / "ablations/gbc").mkdir(parents=True)
    table = pd.DataFrame({"setting": ["64"], "tau_w": [0.5]})
    table.to_parquet(workspace.run / "ablations/samples.parquet", index=False)
    (workspace.run / "ablations/gbc/single.parquet").write_bytes(b"only what is evaluated is published")
    subprocess.run([sys.executable, SCRIPT, workspace.run, folder], check=True)

    said = invoke("evaluate", folder).out
    assert said == invoke("evaluate", workspace.run).out
    for origin, name in ((workspace.run, "of_run"), (folder, "of_copy")):
        ended = invoke("report", origin, "--out", tmp_path / name)
        assert ended.code == 0, ended.err
    pages = [(tmp_path / name / "answer.csv").read_bytes() for name in ("of_run", "of_copy")]
    assert pages[0] == pages[1]
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "ablations/samples.parquet"), table)

    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".parquet", ".json", ".yaml"}
    assert not (folder / "ablations/gbc").exists()
    machine = str(tmp_path.parent)
    assert machine in (workspace.run / "study.yaml").read_text()
    for file in files:
        assert machine.encode() not in file.read_bytes(), file

    next(folder.glob("sources/*/source.json")).write_text("torn")
    torn = invoke("evaluate", folder)
    assert (torn.code, torn.err) == (0, "")
    assert "own_miou" in said
    assert "own_miou" not in torn.out, "a damaged card costs the control that needs it, and nothing else"
