"""Kinds of existing models, one file each.

How to add a kind of model:

1. Write ``adapters/KIND.py``, named after its kind, with a subclass of `SourceEntry`. It declares

   * ``kind``, its name in messages and content keys, and ``marker``, the field that only entries of this kind have;
   * the fields of its YAML entry, as pydantic fields, with validators for the rules between them. A validator raises
     ``ValueError`` with one line that names source, field, value, rule and what to do;
   * ``libraries``, whose versions are part of the key of features, besides those of torch and Pillow;
   * ``key``, the content key of everything that decides the model's outputs: contents of files, never their names.
     It must not import torch, because a study is read, planned and checked without it;
   * ``architecture``, plain data that says how to build the network, and ``build``, which builds it from that, with
     random weights; what it needs is imported inside the function. A fine-tuned network is built again by them;
   * ``load_weights``, which fills the network, with `checkpoints.load_files` where a checkpoint has its names;
   * ``input_normalization``, mean, std and channel order of the images it takes.

   Everything else is found by running the network: the sizes of images that it takes, the layer that gives its class
   scores, and its features. Where needed, it also overrides ``has_scores`` (False for a backbone, whose forward returns
   its maps), ``classifier_name`` and ``image_size`` (what its own description says about them), ``code`` (loading runs
   code from outside this package), ``supports_scores_only``, ``supports_weights_key``, ``weights_file``, ``local`` (its
   files may have to be downloaded first), and ``fields_in_folder`` with ``folder_hint`` (a folder of models is searched
   for this kind).

   The module names the class ``ENTRY``.

2. Add its name to the list below.

Studies, banks, plans, reports and messages take everything they say about kinds from `ADAPTERS`. A longer kind keeps
the code that needs its library in a private module next to its own, such as ``_timm_network.py``.

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

# In the order in which messages name them and folders are searched. Every config.json counts as one of transformers
# unless it has the fields of another kind.
_KINDS = (
    "mmseg",
    "mmseg_zoo",
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
