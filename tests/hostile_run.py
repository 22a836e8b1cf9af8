"""Runs the whole corpus in one monitored process: python hostile_run.py FOLDER prints the results as JSON.

It first proves that the payloads are malicious: without this project's protections, each of them does its harm.
"""

import contextlib
import io
import json
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hostile_cases import CASES
from hostile_files import EVIL, Case, write_common

from seg_transfer.cli import main
from seg_transfer.errors import SegTransferError
from seg_transfer.models import load_source_model
from seg_transfer.models.compat import bring_timm, import_mmseg, quiet

_EVENTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile")
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostby", "urllib.Request")
MARKERS = ("ran", "imported", "unpickled")
_seen: list[str] = []
_watched: list[Path] = []


def watch(event: str, details: tuple[Any, ...]) -> None:
    """Record events that no case may cause."""
    if not _watched:
        return
    if event.startswith((*_EVENTS, *_NETWORK)):
        _seen.append(f"{event} {details!r:.80}")
    elif event == "import" and str(details[0]).startswith((EVIL, "evil_scope")):
        _seen.append(f"import {details[0]}")
    elif event == "open" and isinstance(details[0], str | os.PathLike):
        file = Path(os.path.abspath(details[0]))  # noqa: PTH100  links must not be resolved
        if file.is_relative_to(_watched[0] / "secret"):
            _seen.append(f"open {file}")


def _ended(case: Case, here: Path) -> tuple[object, str, str]:
    words = [word.replace("HERE", str(here)).replace("ROOT", str(here.parent)) for word in case.words]
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if words[0] == "load_source_model":
                load_source_model(words[1])
            else:
                main(words)
        except SegTransferError as error:
            code = error.exit_code
            print(f"seg-transfer: {error}", file=sys.stderr)
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
    return code, out.getvalue(), err.getvalue()


def _result(case: Case, root: Path) -> dict[str, Any]:
    here = root / case.name
    here.mkdir()
    case.write(here)
    _seen.clear()
    _watched.append(root)
    code, out, err = _ended(case, here)
    _watched.clear()
    done = [path for path in (here / "marker", *(root / name for name in MARKERS)) if path.exists()]
    for path in done:
        path.unlink()
    return {"code": code, "out": out, "err": err, "seen": list(_seen), "done": list(map(str, done))}


def _built(_root: Path, **backbone: Any) -> Any:
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    import_mmseg()
    with quiet(), DefaultScope.overwrite_default_scope("mmseg"):
        return MODELS.build(backbone)


def _class_weights(root: Path) -> None:
    from mmseg.models.losses import CrossEntropyLoss

    CrossEntropyLoss(class_weight=str(root / "secret/weights.pkl"))


def _config(root: Path) -> None:
    from mmengine import Config

    (root / "base.json").write_text(json.dumps({"_base_": str(root / "secret/evil.py")}))
    Config.fromfile(root / "base.json")


def _swin(root: Path) -> None:
    from mmseg.models.backbones import SwinTransformer

    with quiet():
        checkpoint = {"checkpoint": str(root / "secret/weights.pkl"), "type": "Kaiming"}
        sizes = {"embed_dims": 6, "depths": (1,), "num_heads": (1,), "strides": (4,), "out_indices": (0,)}
        SwinTransformer(**sizes, init_cfg=checkpoint).init_weights()


# What happens without protection, and its marker or a part of the recorded event.
PROOFS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a type is run": (lambda root: _built(root, type="subprocess.run", args=["touch", str(root / "ran")]), "ran"),
    "a type is imported": (lambda root: _built(root, type=EVIL), "imported"),
    "a scope is imported": (lambda root: _built(root, type="evil_scope.Net"), "imported"),
    "class weights are unpickled": (_class_weights, "unpickled"),
    "an initialization is opened": (_swin, "secret/weights.pkl"),
    "a base is run": (_config, "ran"),
    "a pickle is run": (lambda root: pickle.loads((root / "secret/weights.pkl").read_bytes()), "unpickled"),
    "a tag is run": (lambda root: yaml.unsafe_load(f"!!python/object/apply:os.system ['touch {root / 'ran'}']"), "ran"),
    "a download is tried": (
        lambda root: _built(
            root, type="ResNet", depth=18, init_cfg={"type": "Pretrained", "checkpoint": "http://127.0.0.1:9/w.pth"}
        ).init_weights(),
        "socket.connect",
    ),
}


def _proven(root: Path) -> dict[str, bool]:
    """Return whether each payload does its harm without protection."""
    found = {}
    for name, (do, marker) in PROOFS.items():
        _seen.clear()
        _watched.append(root)
        with contextlib.suppress(Exception), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            do(root)
        _watched.clear()
        found[name] = (root / marker).exists() if marker in MARKERS else any(marker in event for event in _seen)
        for path in (root / marker_name for marker_name in MARKERS):
            path.unlink(missing_ok=True)
        for module in [module for module in sys.modules if module.startswith((EVIL, "evil_scope"))]:
            del sys.modules[module]
    return found


def run(root: Path, only: Sequence[str] = ()) -> dict[str, Any]:
    """Write and run all cases below a folder, or `only` those with the given names."""
    write_common(root)
    os.chdir(root / "cwd")
    sys.path.insert(0, str(root / "cwd"))
    # What timm imports asks ldconfig for libraries, which is no payload.
    import_mmseg()
    with contextlib.suppress(SegTransferError):
        bring_timm("timm")
    sys.addaudithook(watch)
    cases = [case for case in CASES if not only or case.name in only]
    return {"proven": _proven(root), "cases": {case.name: _result(case, root) for case in cases}}


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]).resolve(), sys.argv[2:])))
