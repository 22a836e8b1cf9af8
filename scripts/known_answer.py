"""Count how often `rank` finds the related source of the demo world, and how many sources are tied for first.

    python scripts/known_answer.py runs/demo --seeds 20

For every seed, which chooses the images and pixels, sources are ranked for every target on 3, 6, 12 and 24 of its
images. Needs a finished demo. An interrupted run is resumed.
"""

import argparse
import json
from pathlib import Path

import pandas as pd
import torch
from threadpoolctl import threadpool_limits

import seg_transfer
from seg_transfer.data.manifest import DatasetManifest, load_manifests

IMAGES = (3, 6, 12, 24)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--metric", default="rank_mean")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = arguments.demo / f"known_answer_{arguments.metric}.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    with threadpool_limits(1), file.open("a") as log:
        for seed in range(arguments.seeds):
            for n_images in IMAGES:
                for manifest in load_manifests(arguments.demo / "world/manifests").values():
                    key = {"seed": seed, "images": n_images, "target": manifest.name}
                    if not any(key.items() <= row.items() for row in done):
                        row = key | ranked(arguments.demo, manifest, seed, n_images, arguments.metric)
                        log.write(json.dumps(row) + "\n")
                        log.flush()
                        done.append(row)
    show(pd.DataFrame(done)[lambda frame: frame["seed"] < arguments.seeds])


def ranked(demo: Path, manifest: DatasetManifest, seed: int, n_images: int, metric: str) -> dict[str, object]:
    low_shot = manifest.low_shot.model_copy(update={"limit": n_images, "seed": seed})
    ranking = seg_transfer.rank_sources(
        manifest.model_copy(update={"low_shot": low_shot}),
        demo / "run/sources",
        metric=metric,
        seed=seed,
        data_root=demo / "world",
        device="cpu",
    )
    # The two domains of a family: day_street and dusk_street, cells_dark and cells_light.
    (related,) = [name for name in ranking.scores if family(name) == family(manifest.name)]
    return {"won": ranking.best == related, "in_group": related in ranking.tied, "n_tied": len(ranking.tied)}


def family(name: str) -> str:
    return "street" if "street" in name else "cells"


def show(frame: pd.DataFrame) -> None:
    by_images = frame.groupby("images")
    table = by_images.agg(rankings=("won", "size"), related_wins=("won", "sum"), related_in_group=("in_group", "sum"))
    table["mean_tied"] = by_images["n_tied"].mean()
    print(table.round(3).to_string())
    per_seed = frame.groupby(["seed", "images"])["n_tied"].mean().unstack()
    shrinks = per_seed[IMAGES[-1]] < per_seed[IMAGES[0]]
    always = frame.groupby("seed")["won"].all()
    fewest, most = IMAGES[0], IMAGES[-1]
    print(f"the group is smaller with {most} images than with {fewest} in {shrinks.sum()} of {len(shrinks)} seeds")
    print(f"the related source wins for every target and number of images in {always.sum()} of {len(always)} seeds")


if __name__ == "__main__":
    main()
