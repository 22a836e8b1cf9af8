"""Score a bank of several architectures under several readings of their features.

    python scripts/mixed_banks.py configs/studies/mixed.yaml --data-root DATA --shard 0/2

Scores are stored in `readings/` of the study's run folder, one Parquet file per pair. An interrupted run is resumed;
with `--shard`, several processes share the work, target by target.
"""

import argparse
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from seg_transfer.console import console_logging
from seg_transfer.models.devices import chosen_device
from seg_transfer.selection.readings import score_readings
from seg_transfer.stages.base import pair_items, parse_shard
from seg_transfer.study.run import open_run, prepare_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--data-root", type=Path, default=Path())
    parser.add_argument("--run-folder", type=Path)
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="every N-th target, from the I-th on (from 0)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = open_run(arguments.study, arguments.data_root, arguments.run_folder)
    first, step = parse_shard(arguments.shard)
    prepare_folder(run)
    with threadpool_limits(arguments.threads):
        score_readings(run, pair_items(run, (), run.study.targets[first::step]), device=chosen_device("auto"))


if __name__ == "__main__":
    with console_logging():
        main()
