"""Draw one target of the published results: the scores, and the results of fine-tuning.

    python scripts/figure.py .github/figure.svg

One target of the study real7: GBC with its standard error beside the fine-tuned mIoU of the same sources. The text of
the SVG stays text, and its colors follow the light or dark mode of the reader.
"""

import argparse
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seg_transfer.observations.uncertainty import first_place
from seg_transfer.resources import shipped
from seg_transfer.store.atomic import write_text
from seg_transfer.store.run_results import read_run

RUN, TARGET, METRIC = "data_manifests/published/real7", "camvid", "gbc"
WIDTH, TOP, ROW = 820, 74, 30
# x of the names (right-aligned), the scores, P(best) (centered) and the mIoU bars.
NAMES, SCORES, CHANCE, BARS = 118, (140, 440), 492, (556, 740)

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.head { font-weight: 600; } .small { font-size: 12px; } .pale { fill: #59636e; } .end { text-anchor: end; }
.mid { text-anchor: middle; } .first { fill: #0969da; stroke: #0969da; } .other { fill: #818b98; stroke: #818b98; }
.bar { stroke: none; } .axis { stroke: #d1d9e0; } .whisker { stroke-width: 2; } .scratch { stroke: #bc4c00; }
.scratch-text { fill: #bc4c00; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; } .pale { fill: #9198a1; } .first { fill: #4493f8; stroke: #4493f8; }
.other { fill: #7d8590; stroke: #7d8590; } .axis { stroke: #3d444d; } .scratch { stroke: #f0883e; }
.scratch-text { fill: #f0883e; }
}"""


class Source(NamedTuple):
    """One row of the figure."""

    name: str
    score: float
    error: float
    tied: bool
    probability: float
    miou: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    write_text(parser.parse_args().file, figure())


def figure() -> str:
    """Draw the SVG."""
    sources, scratch, n_images = published()
    height = TOP + ROW * len(sources) + 52
    parts = [*headings(n_images), *score_panel(sources), *miou_panel(sources, scratch)]
    title = f"Sources for the target {TARGET}: {METRIC.upper()} and fine-tuned mIoU"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img">\n<title>{escape(title)}</title>\n<style>{STYLE}\n</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def published() -> tuple[list[Source], float, int]:
    """Return the sources of the target, highest score first; the mIoU from scratch; the number of images scored."""
    results = read_run(shipped(RUN))
    scores = results.scores[(results.scores["target"] == TARGET) & (results.scores["metric"] == METRIC)]
    miou = results.miou[results.miou["target"] == TARGET].set_index("source")["miou"]
    place = first_place(scores["score"].to_numpy(), np.stack(list(scores["replicates"])))
    columns = (scores["source"], scores["score"], scores["standard_error"], place.tied, place.probability)
    rows = [Source(*row, miou=miou[row[0]]) for row in zip(*columns, strict=True)]
    return sorted(rows, key=lambda row: -row.score), miou["scratch"], int(scores["n_images"].iloc[0])


def text(x: float, y: float, words: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def headings(n_images: int) -> list[str]:
    return [
        text(NAMES, 44, "source", "end pale"),
        text(SCORES[0], 22, f"Before: one forward pass over {n_images} images", "head"),
        text(SCORES[0], 44, f"{METRIC.upper()} of the target {TARGET}, with standard error", "pale"),
        text(CHANCE, 44, "P(best)", "mid pale"),
        text(BARS[0], 22, "After: fine-tuning all of them", "head"),
        text(BARS[0], 44, "mIoU, mean of three seeds", "pale"),
    ]


def score_panel(sources: list[Source]) -> list[str]:
    """Draw names, scores with whiskers, and the probability of being the best."""
    low, high = min(row.score - row.error for row in sources), max(row.score + row.error for row in sources)

    def x(score: float) -> float:
        return SCORES[0] + (score - low) / (high - low) * (SCORES[1] - SCORES[0])

    bottom = TOP + ROW * len(sources)
    parts = [line(SCORES[0], bottom, SCORES[1], bottom, "axis")]
    parts += [text(x(tick), bottom + 18, f"\N{MINUS SIGN}{-tick}", "small mid pale") for tick in range(-25, 0, 5)]
    for place, row in enumerate(sources):
        y, style = TOP + ROW * (place + 0.5), "first" if row.tied else "other"
        parts += [
            text(NAMES, y + 4, row.name, "end"),
            line(x(row.score - row.error), y, x(row.score + row.error), y, f"{style} whisker"),
            f'<circle cx="{x(row.score):.1f}" cy="{y:.1f}" r="5" class="{style}"/>',
            text(CHANCE, y + 4, f"{row.probability:.2f}", "mid"),
        ]
    return [*parts, text(SCORES[0], bottom + 40, "blue: tied for first, the ones worth fine-tuning", "small pale")]


def miou_panel(sources: list[Source], scratch: float) -> list[str]:
    """Draw bars of mIoU, and a line for fine-tuning from scratch."""
    highest = max(row.miou for row in sources)

    def x(miou: float) -> float:
        return BARS[0] + miou / highest * (BARS[1] - BARS[0])

    bottom = TOP + ROW * len(sources)
    parts = []
    for place, row in enumerate(sources):
        y, style = TOP + ROW * (place + 0.5), "first" if row.tied else "other"
        parts += [
            f'<rect x="{BARS[0]}" y="{y - 9:.1f}" width="{x(row.miou) - BARS[0]:.1f}" height="18" '
            f'class="{style} bar"/>',
            text(x(row.miou) + 8, y + 4, f"{row.miou:.3f}", ""),
        ]
    label = text(x(scratch), bottom + 18, f"from scratch: {scratch:.3f}", "small mid scratch-text")
    return [*parts, line(x(scratch), TOP - 4, x(scratch), bottom + 4, "scratch"), label]


if __name__ == "__main__":
    main()
