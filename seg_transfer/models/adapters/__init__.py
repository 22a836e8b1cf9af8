"""Kinds of existing models, one file each.

How to add a kind of model:

1. Write ``adapters/KIND.py``, named after its kind, with a subclass of `SourceEntry`. It declares

   * ``kind``, its name in messages and content keys, and ``marker``, the field that only entries of this kind have;
   * the fields of its YAML entry, as pydantic fields, with validators for the rules between them. A validator raises
     ``ValueError`` with one line that names source, field, value, rule and what to do;
   * ``libraries``, whose versions are part of the key of features, besides those of torch and Pillow;
   * ``key``, the content key of everything that decides the model's outputs: contents of files, never their names.
     It must not import torch, because a study is read, planned and checked without it;
   * ``load``, which imports what it needs inside the function, builds the network, and returns a `SourceModel`, with
     `source_of` for any network that ends in a linear or 1x1 layer, or with `source_of_scores`.

   Where needed, it also overrides ``code`` (loading runs code from outside this package), ``supports_scores_only``,
   ``weights_file``, and ``fields_in_folder`` with ``folder_hint`` (a folder of models is searched for this kind).

   The module names the class ``ENTRY``.

2. Add its name to the list below.

Studies, banks, plans, reports and messages take everything they say about kinds from `ADAPTERS`. A longer kind keeps
the code that needs its library in a private module next to its own, such as ``_timm_network.py``. Only networks of
mmsegmentation can be fine-tuned here; every other kind is scored.

Example:
    >>> from seg_transfer.models.sources import parse_entry
    >>> entry = parse_entry({"name": "web", "dataset": "town", "timm": "hrnet_w18", "weights": "w.safetensors"})
    >>> type(entry) is ADAPTERS["timm"], entry.kind, entry.network()
    (True, 'timm', None)
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from seg_transfer.models.entry import SourceEntry

# In the order in which messages name them and folders are searched.
_KINDS = (
    "mmseg",
    "timm",
    "torchvision",
    "smp",
    "transformers",
    "factory",
)
ADAPTERS: Mapping[str, type[SourceEntry]] = MappingProxyType(
    {kind: import_module(f"{__name__}.{kind}").ENTRY for kind in _KINDS}
)
"""Kind of model -> the class of its entries."""
