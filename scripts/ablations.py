"""Ablations of the settings of GBC and of the pixel sample, on a finished study.

    python scripts/ablations.py STUDY --data-root DATA --run-folder RUN --out FOLDER

Writes one Parquet file per table. Prints tau_w and top-1 of every setting, and its gain in tau_w over the study's
setting with a paired 95 % interval. An interrupted run is resumed.
"""

import argparse
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from seg_transfer.console import console_logging, plain_console
from seg_transfer.models.devices import chosen_device
from seg_transfer.reports.tables import plain_table
from seg_transfer.selection.ablations import ablate_gbc, ablate_samples
from seg_transfer.store.results import read_performance
from seg_transfer.study.run import open_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--data-root", type=Path, default=Path())
    parser.add_argument("--run-folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--images", type=int, nargs="*", default=[25, 50, 100, 150])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = open_run(arguments.study, arguments.data_root, arguments.run_folder)
    performance = read_performance(run.folder)
    out = arguments.out or run.folder / "ablations"
    out.mkdir(parents=True, exist_ok=True)
    device = chosen_device("auto")
    with threadpool_limits(arguments.threads):
        tables = {
            "gbc_settings": ablate_gbc(run, performance, device=device),
            "samples": ablate_samples(run, performance, images=arguments.images, device=device),
        }
    for name, frame in tables.items():
        frame.drop(columns=["beaten_by"]).to_parquet(out / f"{name}.parquet", index=False)
        for (ablation, scenario), rows in frame.groupby(["ablation", "scenario"], sort=False):
            show(f"{ablation}, {scenario.replace('_', ' ')}", rows)


def show(title: str, rows: object) -> None:
    body = [
        [
            str(row["setting"]),
            row["metric"],
            f"{row['top1']:.3f}",
            f"{row['tau_w']:.3f}",
            f"{row['tau_w_low']:.2f} to {row['tau_w_high']:.2f}",
            f"{row['mean_difference']:+.3f}".replace("+nan", "n/a"),
            f"{row['difference_low']:+.2f} to {row['difference_high']:+.2f}".replace("+nan to +nan", "n/a"),
        ]
        for row in rows.to_dict("records")  # type: ignore[attr-defined]
    ]
    columns = ["setting", "metric", "top-1", "tau_w", "95 % interval", "gain", "paired interval"]
    plain_console().print(plain_table(title, columns, body, "setting"))


if __name__ == "__main__":
    with console_logging():
        main()
