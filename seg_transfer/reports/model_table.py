"""Shows what a network is read as, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from seg_transfer.errors import printable
from seg_transfer.evaluation import in_millions, three_digits
from seg_transfer.models.description import MapDescription, ModelDescription
from seg_transfer.models.entry import SourceEntry


def model_table(entry: SourceEntry, model: ModelDescription) -> Table:
    """Make a table with one row per fact about a network.

    Args:
        entry: The source.
        model: What its network is read as.
    """
    table = Table(title=Text(printable(entry.name)), box=box.SIMPLE, show_header=False, padding=(0, 1, 0, 0))
    table.title_justify = "left"
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for fact, text in _facts(entry, model):
        table.add_row(fact, Text(printable(text)))
    return table


def _facts(entry: SourceEntry, model: ModelDescription) -> Iterator[tuple[str, str]]:
    yield "network", f"{model.network} ({entry.network_kind}), trained on {entry.dataset}"
    if model.costs.family is not None:
        yield "family", model.costs.family
    yield "class scores", _scores(model)
    yield "features", _features(model)
    yield from (("", _map(one)) for one in model.features)
    if model.stages and model.stages != model.features:
        yield "features: stages", _total(model.stages)
        yield from (("", _map(one)) for one in model.stages)
    yield "images", _images(model)
    yield "parameters", in_millions(model.costs.parameters)
    yield "GFLOPs", _gflops(model)
    if model.costs.revision is not None:
        yield "commit", model.costs.revision
    if entry.license is not None:
        yield "license", entry.license


def _scores(model: ModelDescription) -> str:
    if not model.n_classes:
        return "none: a backbone without a head"
    classes = f"{model.n_classes} classes"
    if model.classifier is None:
        what = "probabilities" if model.outputs_probabilities else "logits"
        return f"{classes}: {what}, the output of the network itself"
    height, width = model.classifier.kernel
    size = "" if model.classifier.kind == "linear layer" else f"{height} x {width} "
    return f"{classes}, by {size}{model.classifier.kind} {model.classifier.name}"


def _features(model: ModelDescription) -> str:
    return _total(model.features) if model.features else "none: class scores only"


def _total(maps: Sequence[MapDescription]) -> str:
    channels = sum(one.channels for one in maps)
    return f"{channels} channels" if len(maps) == 1 else f"{channels} channels together"


def _map(one: MapDescription) -> str:
    return f"{one.channels} at stride {one.stride:g}: {one.layer}"


def _images(model: ModelDescription) -> str:
    mean, std = (", ".join(f"{value:.3f}" for value in values) for values in model.normalization[:2])
    return f"{model.sizes.describe()}; {model.normalization.channel_order.upper()}, mean {mean}, std {std}"


def _gflops(model: ModelDescription) -> str:
    costs = model.costs
    if costs.gflops is None:
        return "unknown: the operations of this network cannot be counted"
    return f"{three_digits(costs.gflops)} for an image of {costs.height} x {costs.width} pixels"
