"""Cards, configs, checkpoints and other files that try to run code, download, read files, hang or fool a terminal.

A small function writes every case into its own folder, HERE. Its payload would create the file HERE/marker, or open a
file in the folder `secret`. `write_common` writes the common files.
"""

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from seg_transfer.demo.world import build_world
from seg_transfer.models.checkpoints import save_weights
from seg_transfer.models.configs import read_model_config, with_classes, with_normalization
from seg_transfer.models.networks import build_network
from seg_transfer.resources import shipped
from seg_transfer.store.source_card import FILE_NAME

EVIL = "evil_module"
TARGET = "day_street"
ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202e"
PLACE = ("--target", f"ROOT/world/manifests/{TARGET}.yaml", "--data-root", "ROOT/world", "--run-folder", "HERE/run")
STUDY_PLACE = ("--data-root", "ROOT/world", "--run-folder", "HERE/run", "--threads", "1", "--engine", "here")
BANK = ("rank", "HERE/bank", *PLACE)


class Case(NamedTuple):
    """What is written into a folder, the command that reads it, its exit code, and a part of its one-line message."""

    name: str
    write: Callable[[Path], None]
    words: tuple[str, ...]
    code: int
    reported: str


class Harm:
    """Creates the marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def write_common(root: Path) -> None:
    """Write a target, a module that must not be imported, secrets, and a harmless model with its weights."""
    build_world(root / "world", n_train=2, n_source_train=2, n_eval=1, size=(48, 64))
    (root / "cwd").mkdir()
    text = (
        f"from pathlib import Path\nPath({str(root / 'imported')!r}).touch()\n\n\ndef Net(**_):\n    raise ValueError\n"
    )
    for package in (root / "cwd" / f"{EVIL}.py", root / "cwd" / "evil_scope" / "registry.py"):
        package.parent.mkdir(exist_ok=True)
        package.write_text(text)
    (root / "secret").mkdir()
    (root / "secret/weights.pkl").write_bytes(pickle.dumps(Harm(root / "unpickled")))
    (root / "secret/evil.py").write_text(f"open({str(root / 'ran')!r}, 'w').close()\nmodel = {{}}\n")
    model = with_classes(read_model_config(shipped("configs/models/hrnetv2_tiny.py")), 3)
    model = with_normalization(model, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1))
    (root / "good").mkdir()
    (root / "good/model.json").write_text(json.dumps(model))
    save_weights(build_network(model, seed=0).state_dict(), root / "good/weights.safetensors")


def good_model(here: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((here.parent / "good/model.json").read_text())
    return found


def put_weights(folder: Path, root: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes((root / "good/weights.safetensors").read_bytes())


def filled(value: Any, here: Path) -> Any:
    """Fill in the paths that a payload names."""
    text = json.dumps(value).replace("HERE", str(here)).replace("SECRET", str(here.parent / "secret"))
    return json.loads(text)


def changed(model: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Change values of a model config at dotted paths."""
    for path, value in changes.items():
        *parents, last = path.split(".")
        inner: Any = model
        for parent in parents:
            inner = inner[int(parent) if isinstance(inner, list) else parent]
        inner[last] = value
    return model


def put_card(folder: Path, root: Path, model: Any, **fields: Any) -> None:
    """Write a source of a model bank: a card and weights."""
    put_weights(folder, root)
    card = {
        **{"source": "evil", "dataset": "elsewhere", "classes": ["a", "b", "c"], "config": "x.py", "model": model},
        **{"weights": "weights.safetensors", "sha256": "0" * 64, "initialisation": "random", "seed": 0, "steps": 1},
        **{"schedule": {}, "n_train_images": 1, "miou": 0.5, "class_iou": [0.5, 0.5, 0.5], "absent_classes": []},
        **{"n_eval_images": 1, "seconds": 1.0, "content_key": "0", "seg_transfer_version": "0", "created_utc": "now"},
    }
    card["sha256"] = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    (folder / FILE_NAME).write_text(json.dumps({**card, **fields}))


def card_with(**changes: Any) -> Callable[[Path], None]:
    """Make a bank whose only source has a card with these values; ``__`` stands for the dot in a path."""
    values = {path.replace("__", "."): value for path, value in changes.items()}

    def write(here: Path) -> None:
        put_card(here / "bank/evil", here.parent, changed(good_model(here), filled(values, here)))

    return write


def config_of(name: str, text: str | Callable[[Path], str]) -> Callable[[Path], None]:
    """A config file beside good weights."""

    def write(here: Path) -> None:
        put_weights(here, here.parent)
        content = text(here) if callable(text) else text
        (here / name).write_text(content.replace("HERE", str(here)).replace("SECRET", str(here.parent / "secret")))

    return write


def weights_as(name: str, put: Callable[[Path, Path], None]) -> Callable[[Path], None]:
    """A good config beside other weights."""

    def write(here: Path) -> None:
        (here / "model.json").write_text(json.dumps({"model": good_model(here)}))
        put(here / name, here)

    return write


def zip_bomb(file: Path, _here: Path) -> None:
    """Write a file of 64 kB that expands to 64 MB although its header says 16 bytes."""
    saved = io.BytesIO()
    torch.save({"weight": torch.zeros(4)}, saved)
    with zipfile.ZipFile(saved) as small, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as large:
        for name in small.namelist():
            large.writestr(name, bytes(1 << 26) if name.endswith("data/0") else small.read(name))


def huge_header(file: Path, _here: Path) -> None:
    file.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def wrong_header(file: Path, _here: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]}}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")


def torch_script(file: Path, _here: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(3, 3, 1)), str(file))


def transformers_folder(config: dict[str, Any], **files: str) -> Callable[[Path], None]:
    """Make a bank with a transformers folder; further files are keyword arguments, with ``__`` for the dot."""

    def write(here: Path) -> None:
        folder = here / "bank/evil"
        folder.mkdir(parents=True)
        save_weights({"weight": torch.zeros(2)}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(filled(config, here)))
        (folder / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}')
        for name, text in files.items():
            place = folder / name.replace("__", ".")
            place.write_text(text.replace("HERE", str(here)))

    return write


def manifest_with(**fields: Any) -> Callable[[Path], None]:
    """The target's manifest with other fields, and a good source."""

    def write(here: Path) -> None:
        content = yaml.safe_load((here.parent / f"world/manifests/{TARGET}.yaml").read_text())
        (here / "manifest.yaml").write_text(yaml.safe_dump({**content, **filled(fields, here)}))
        put_card(here / "bank/good", here.parent, good_model(here))

    return write


def text_of(name: str, text: str) -> Callable[[Path], None]:
    """A text file, and a good source."""

    def write(here: Path) -> None:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text.replace("HERE", str(here)).replace("SECRET", str(here.parent / "secret")))
        put_card(here / "bank/good", here.parent, good_model(here))

    return write


def images_with(name: str, content: bytes) -> Callable[[Path], None]:
    """Make folders of images and label maps whose only image has this content."""

    def write(here: Path) -> None:
        for folder, file in (("images", name), ("labels", name)):
            (here / folder).mkdir()
            (here / folder / file).write_bytes(content)
        put_card(here / "bank/good", here.parent, good_model(here))

    return write


def alias_bomb(last: str) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    return "\n".join([*lines, f"{last}: *a29"])


def python_tag() -> str:
    return "sources: !!python/object/apply:os.system ['touch HERE/marker']\n"


def nested(n: int = 100_000) -> str:
    return "[" * n + "]" * n


def png_of(width: int, height: int) -> bytes:
    """Return the beginning of a PNG that claims this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def study_with(sources: str) -> str:
    return (
        f"name: hostile\nmanifests: [ROOT/world/manifests]\nsources:\n{sources}\ntargets: [{TARGET}]\n"
        "metrics: [gbc]\nfine_tuning: null\nsampling: {pixels_per_image: 50}\n"
    )
