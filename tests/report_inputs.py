"""Inputs for reports: small studies with known numbers, and with names that try to inject code."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd

from seg_transfer.reports.inputs import Explanation, ReportInput

ATTACK = "</script><img src=x onerror=alert(1)>"
OTHERS = ('=HYPERLINK("http://evil.example")', "a|b`c", "$x_y$", "{{ 7*7 }}", "'\"><svg/onload=alert(1)>", "ü 漢字")


def names(n: int) -> list[str]:
    """Return names of datasets, the first of which are hostile."""
    return [ATTACK, *OTHERS, *(f"dataset_{number:02d}" for number in range(n))][:n]


def pairs_of(datasets: list[str], metrics: list[str], seed: int = 0) -> pd.DataFrame:
    """Make all pairs of different datasets; scores follow mIoU with noise, and targets differ in spread."""
    rng = np.random.default_rng(seed)
    rows = []
    for place, target in enumerate(datasets):
        sources = [name for name in datasets if name != target]
        miou = 0.3 + 0.02 * place + (0.01 + 0.01 * (place % 5)) * rng.standard_normal(len(sources))
        scores = {metric: 5 * miou + 0.05 * rng.standard_normal(len(sources)) - 100 for metric in metrics}
        for number, source in enumerate(sources):
            own = {metric: values[number] for metric, values in scores.items()}
            rows.append(
                {"source": source, "target": target, "miou": miou[number], "n_target_classes": 3 + place, **own}
            )
    return pd.DataFrame(rows)


def scores_of(pairs: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """Return scores in the long form of a run folder."""
    long = pairs.melt(["source", "target"], metrics, "metric", "score")
    return long.assign(
        standard_error=0.125,
        replicates=[[score - 0.01, score + 0.01, score + 0.02] for score in long["score"]],
        seconds=2.5,
        n_images=12,
        n_observations=12000,
        n_classes=5,
        note="",
        content_key=[f"{number:064x}" for number in range(len(long))],
        created_utc="2026-01-02T03:04:05+00:00",
    )


def hostile_input(n: int = 5, metrics: tuple[str, ...] = ("gbc", "logme", ATTACK)) -> ReportInput:
    """Make a whole study in which every text that comes from outside is hostile."""
    datasets, every = names(n), list(metrics)
    pairs = pairs_of(datasets, every)
    scratch = pd.DataFrame({"source": "scratch", "target": datasets, "miou": 0.01})
    performance = pd.concat([pairs[["source", "target", "miou"]], scratch]).assign(seed=0, seconds=60.0)
    cards = pd.DataFrame(
        {
            "source": datasets,
            "dataset": datasets,
            "config": ATTACK,
            "seconds": 600.0,
            "sha256": "f" * 64,
            "license": ATTACK,
        }
    )
    described = pd.DataFrame({"dataset": datasets, "title": ATTACK, "classes": f"road, {ATTACK}", "notes": ATTACK})
    draws = [(images, seed, ATTACK, 0.5 + images / 40, 2) for images in (5, 10, 20) for seed in (0, 1)]
    return ReportInput(
        title=ATTACK,
        origin=(ATTACK,),
        created="2026-01-02T03:04:05+00:00",
        scores=scores_of(pairs, every).assign(note=ATTACK),
        miou=performance[["source", "target", "miou"]],
        pairs=pd.concat([pairs, scratch], ignore_index=True),
        performance=performance,
        skipped=(f"{ATTACK} is left out.",),
        warnings=(f"gbc: {ATTACK}.",),
        sources=cards,
        datasets=described,
        settings={ATTACK: ATTACK},
        stability=pd.DataFrame(draws, columns=["n_images", "seed", "winner", "tau_w_to_full", "n_tied"]),
        explanations=(explanation(datasets[0], datasets[1]),),
    )


def explanation(source: str, target: str) -> Explanation:
    """Make an explanation with three classes, one of them hostile, and a map of 60 pixels."""
    classes = ["road", ATTACK, "sky"]
    overlaps = [("road", ATTACK, 0.75), ("road", "sky", 0.125), (ATTACK, "sky", 0.5)]
    rng = np.random.default_rng(0)
    where = pd.DataFrame({"x": rng.normal(size=60), "y": rng.normal(size=60), "label": np.arange(60) % 3})
    return Explanation(
        source,
        target,
        overlaps=pd.DataFrame(overlaps, columns=["class_a", "class_b", "overlap"]),
        classes=pd.DataFrame({"class_index": range(3), "name": classes, "n_pixels": 20}),
        map=where,
        map_fine_tuned=where,
    )


class Parsed(HTMLParser):
    """A page as a browser parses it: elements with attributes, and the texts in each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text_in(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def table_rows(page: str, name: str) -> list[list[str]]:
    """Return the cells of a table of a page; numbers with their exact value."""
    parser = _Cells(f"table-{name}")
    parser.feed(page)
    parser.close()
    return parser.rows


class _Cells(HTMLParser):
    def __init__(self, wanted: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._wanted, self._inside, self._number, self._cell = wanted, False, None, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "table":
            self._inside = attributes.get("id") == self._wanted
        elif self._inside and tag == "tr":
            self.rows.append([])
        elif self._inside and tag in ("td", "th"):
            self._cell, self._number = True, attributes.get("data-number")
            self.rows[-1].append("" if self._number is None else self._number)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._inside and self._cell and self._number is None:
            self.rows[-1][-1] += data
