"""Pages of races: any number of racers, and texts from outside that try to inject code or to break the page."""

import io

import numpy as np
import pandas as pd
from PIL import Image

from seg_transfer.reports.content import Fact
from seg_transfer.reports.race_page import Panels, RaceReport

SCRIPT = "<script>alert(1)</script>"
HOSTILE = (
    SCRIPT,
    "'\"><img src=x onerror=alert(1)>",
    "</style></h1><svg/onload=alert(1)>",
    "a\x1b[31mb\x07\x7f",
    "x" * 300,
    "{{ 7*7 }} & $x_y$",
    '=HYPERLINK("http://evil.example")',
    "ü 漢字 \N{RIGHT-TO-LEFT OVERRIDE}",
)
SCHEDULE = 80
KINDS = ("image", "labels", "prediction")


def names(n: int) -> list[str]:
    """Names of sources, the first of which are hostile."""
    return [*HOSTILE, *(f"source_{number:02d}" for number in range(n))][:n]


def jpeg(seed: int, size: tuple[int, int] = (360, 240)) -> bytes:
    """A small picture of few colors."""
    colors = np.random.default_rng(seed).integers(0, 256, size=(2, 3, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(colors).resize(size, Image.Resampling.NEAREST).save(stream, "JPEG")
    return stream.getvalue()


def panels(n: int) -> list[Panels]:
    """Held-out images from the best to the worst, with hostile names."""
    pictures = [tuple(jpeg(3 * number + kind) for kind in range(3)) for number in range(n)]
    return [Panels(names(n)[number], 0.9 - 0.1 * number, pictures[number]) for number in range(n)]


def curves_of(racers: list[str]) -> pd.DataFrame:
    """Half of the racers leave at each rung, the first the last of all; a better racer reaches more everywhere."""
    rows = []
    for place, name in enumerate(racers):
        last = 10 * 2 ** max(0, 3 - int(np.log2(place + 1)))
        rows += [(name, steps, 0.2 + steps / 200 - 0.01 * place) for steps in (10, 20, 40, 80) if steps <= last]
    return pd.DataFrame(rows, columns=["source", "steps", "miou"])


def race_of(racers: list[str], others: list[str], curves: pd.DataFrame, families: list[str]) -> pd.DataFrame:
    last = curves.groupby("source", sort=False).last()
    every = [*racers, *others]
    n, missing = len(racers), [None] * len(others)
    steps, miou = last.loc[racers, "steps"].tolist(), last.loc[racers, "miou"].to_numpy()
    return pd.DataFrame(
        {
            "place": pd.array([*range(1, n + 1), *missing], dtype="Int64"),
            "source": every,
            "family": [families[number % len(families)] for number in range(len(every))],
            "miou": [*miou, *missing],
            "low": [*(miou - 0.05), *missing],
            "high": [*(miou + 0.05), *missing],
            "steps": pd.array([*steps, *missing], dtype="Int64"),
            "score_rank": range(len(every), 0, -1),
            "seconds": [*(1.5 * step for step in steps), *missing],
            "left": [*("" if step == SCHEDULE else SCRIPT for step in steps), *(f"failed: {name}" for name in others)],
        }
    )


def race_report(
    n_racers: int = 6, n_others: int = 2, n_panels: int = 6, families: tuple[str, ...] = ("hrnet", SCRIPT)
) -> RaceReport:
    """A whole race in which every text that comes from outside is hostile; the first source won."""
    every = names(n_racers + n_others)
    racers, others = every[:n_racers], every[n_racers:]
    curves = curves_of(racers)
    return RaceReport(
        target=SCRIPT,
        best=racers[0],
        facts=[Fact("Which model?", (SCRIPT,)), *(Fact(name, (name, f"Also {name}.")) for name in HOSTILE)],
        race=race_of(racers, others, curves, list(families)),
        curves=curves,
        of_steps=SCHEDULE,
        panels=panels(n_panels),
        colors={name: (255, 30 * index, 0) for index, name in enumerate(HOSTILE)},
    )
