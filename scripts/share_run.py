"""Copy the results of a run into a folder for publication, without weights, features, images and local paths.

    python scripts/share_run.py RUN FOLDER

`seg-transfer evaluate FOLDER` and `seg-transfer report FOLDER` give the same output as for the run folder.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import yaml

from seg_transfer.store.atomic import write_text
from seg_transfer.store.results import resolved_study

RESULTS = (
    "scores/*/*.parquet",
    "performance/*/*.parquet",
    "sources/*/source.json",
    "costs/*.json",
    "stability.parquet",
    "ablations/*.parquet",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    share(arguments.run, arguments.folder)


def share(run: Path, folder: Path) -> None:
    study = without_paths(resolved_study(run))
    write_text(folder / "study.yaml", yaml.safe_dump(study, sort_keys=False, allow_unicode=True))
    for pattern in RESULTS:
        for file in sorted(run.glob(pattern)):
            copy = folder / file.relative_to(run)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def without_paths(value: Any) -> Any:
    """Return the same data with every absolute path replaced by its last part."""
    if isinstance(value, dict):
        return {name: without_paths(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


if __name__ == "__main__":
    main()
