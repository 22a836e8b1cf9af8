"""mmsegmentation's model zoo: names of models, their configs, and the addresses of their weights; without torch.

Configs and metafiles come from the installed mmsegmentation, which has both in its package.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from seg_transfer.data.plain import read_yaml
from seg_transfer.errors import ConfigError
from seg_transfer.models.compat import require_mmseg
from seg_transfer.models.downloads import mirrored

MIRROR = "SEG_TRANSFER_MMSEG_URL"
"""Environment variable: the address that takes the place of `SERVER`."""
SERVER = "https://download.openmmlab.com"
_MODEL_LINE = re.compile(r"^- Name: (\S+)\s*$", re.MULTILINE)
# What the names of configs call a dataset -> its name here, where it has one. Images of COCO-Stuff are those of COCO.
_DATASETS = {
    "cityscapes": "cityscapes",
    "ade20k": "ade20k",
    "voc12aug": "pascal_voc",
    "coco-stuff": "coco",
    "pascal-context": "pascal_context",
    "mapillary": "mapillary",
    "isaid": "isaid",
    "potsdam": "isprs",
    "vaihingen": "isprs",
    **{name: name for name in ("loveda", "drive", "stare", "hrf", "chase-db1")},
}


class ZooModel(NamedTuple):
    """A model of the zoo: its config file, and the address of its weights."""

    config: Path
    url: str


def find_model(name: str, origin: str) -> ZooModel:
    """Find a model by the name of its config.

    Args:
        name: Such as ``fcn_hr48_4xb2-160k_cityscapes-512x1024``.
        origin: Error messages begin with it.

    Raises:
        ConfigError: mmsegmentation is not installed or comes without its zoo, or the zoo has no such model, no weights
            for it, or several.
    """
    for metafile in _metafiles(origin):
        if name in _names_in(metafile):
            return ZooModel(metafile.parent / f"{name}.py", _url(name, metafile, origin))
    names = [known for metafile in _metafiles(origin) for known in _names_in(metafile)]
    nearest = get_close_matches(name, names, n=3, cutoff=0.5)
    advice = f"did you mean {', '.join(nearest)}?" if nearest else "take one from mmsegmentation's configs"
    raise ConfigError(f"{origin}: field mmseg: {name!r}: mmsegmentation's zoo has no such model; {advice}")


def dataset_in(name: str) -> str | None:
    """Return the dataset that the name of a config names; None if it names none, or several.

    >>> dataset_in("fcn_hr48_4xb2-160k_cityscapes-512x1024"), dataset_in("vpd_sd_4xb8-25k_nyu-480x480")
    ('cityscapes', None)
    """
    found = {dataset for part, dataset in _DATASETS.items() if part in name}
    return found.pop() if len(found) == 1 else None


def _metafiles(origin: str) -> Iterator[Path]:
    """Yield the metafiles of the installed mmsegmentation, or of the checkout that it is installed from."""
    require_mmseg(origin)
    spec = importlib.util.find_spec("mmseg")
    package = Path(spec.origin).parent if spec and spec.origin else Path()
    folders = (package / ".mim/configs", package.parent / "configs")
    files = next((found for folder in folders if (found := sorted(folder.glob("*/metafile.y*ml")))), [])
    if not files:
        raise ConfigError(
            f"{origin}: the installed mmsegmentation has no configs; install a release, or name config and checkpoint"
        )
    yield from files


@cache
def _names_in(metafile: Path) -> tuple[str, ...]:
    """Return the names in a metafile; parsing all metafiles would take seconds."""
    return tuple(_MODEL_LINE.findall(metafile.read_text(encoding="utf-8")))


@cache
def _urls_in(metafile: Path, name: str) -> tuple[str, ...]:
    content: Any = read_yaml(metafile)
    models = [model for model in content["Models"] if model.get("Name") == name]
    return tuple(model["Weights"] for model in models if model.get("Weights"))


def _url(name: str, metafile: Path, origin: str) -> str:
    """Return the address of a model's weights."""
    urls = _urls_in(metafile, name)
    config = metafile.parent / f"{name}.py"
    by_hand = f"name one as checkpoint, with config: {config}"
    if len(urls) != 1 or not config.is_file():
        what = f"lists {len(urls)} weights ({', '.join(urls)})" if config.is_file() else "has no config"
        raise ConfigError(f"{origin}: field mmseg: {name!r}: mmsegmentation's zoo {what} for it; {by_hand}")
    url = urls[0]
    if not url.startswith(f"{SERVER}/"):
        raise ConfigError(
            f"{origin}: field mmseg: {name!r}: mmsegmentation's zoo names weights outside {SERVER} ({url}); {by_hand}"
        )
    return mirrored(url, SERVER, MIRROR)
