"""The table of kinds on the page about the code says what every kind is read as, and how it is fine-tuned."""

from collections.abc import Callable

import pytest
from kinds.listing import KINDS
from kinds.way import Way
from page_text import ROOT

from seg_transfer.models.description import describe
from seg_transfer.models.heads import LinearHead

PAGE = ROOT / "seg_transfer/README.md"
BEGIN, END = "<!-- kinds -->\n", "<!-- end of kinds -->"
HEADING = (
    "| library | model | features | strides | channels | image sizes | fine-tuned |\n|---|---|---|---|---|---|---|\n"
)


def row(way: Way) -> str:
    """The row of a kind, as it is read."""
    found = describe(way.source)
    features = "none: scores only"
    if found.features:
        is_last = found.classifier is not None and found.features[0].layer == f"input of {found.classifier.name}"
        features = "before the classifier" if is_last else "stages"
    strides = ", ".join(f"{each.stride:g}" for each in found.features) or "-"
    channels = ", ".join(str(each.channels) for each in found.features) or "-"
    sizes = found.sizes.describe().replace("sizes with sides that are ", "").replace(" with sides that are", ",")
    cells = [way.kind.library, way.kind.model, features, strides, channels, sizes, how_tuned(way)]
    return f"| {' | '.join(cells)} |\n"


def how_tuned(way: Way) -> str:
    start = way.start()
    if start.source is None:
        return "with the losses of its heads"
    if isinstance(start.source.network, LinearHead) and start.source.network is not way.source.network:
        return "linear layer on its maps" if not isinstance(way.source.network, LinearHead) else "new last layer"
    return "new last layer" if start.source.classifier_name else "new layer of classes"


def table_of(way_of: Callable[[str], Way]) -> str:
    return HEADING + "".join(row(way_of(name)) for name in KINDS)


def test_the_table_says_what_every_kind_is_read_as(way_of: Callable[[str], Way]) -> None:
    shown = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert shown.strip() == table_of(way_of).strip()


def test_the_table_has_the_kinds_that_people_use() -> None:
    counts = {kind.library: sum(other.library == kind.library for other in KINDS.values()) for kind in KINDS.values()}
    at_least = {"mmsegmentation": 6, "transformers": 8, "timm": 6, "smp": 4, "torchvision": 2, "own code": 2}
    assert {library: counts[library] >= least for library, least in at_least.items()} == dict.fromkeys(at_least, True)


@pytest.mark.parametrize("name", ["own code: a backbone", "own code: a linear layer on tokens"])
def test_a_row_is_what_the_code_of_the_network_says(name: str, way_of: Callable[[str], Way]) -> None:
    expected = {
        "own code: a backbone": "stages | 4, 8 | 4, 6 | multiples of 8 | linear layer on its maps |",
        "own code: a linear layer on tokens": "before the classifier | 8 | 12 | multiples of 8 | new last layer |",
    }
    assert row(way_of(name)).strip().endswith(expected[name])
