"""The corpus of malicious models of libraries other than mmsegmentation: cards of networks, and folders."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hostile_files import BANK, EVIL, PLACE, Case, filled, put_card, text_of, transformers_folder

from seg_transfer.models.checkpoints import save_weights

CARD = ("load_source_model", "HERE/bank/evil/source.json")
DESCRIPTION = {
    "kind": "timm",
    "architecture": {"kind": "timm", "model": "test_vit"},
    **{"n_classes": 3, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "channel_order": "rgb"},
    **{"classifier": "classifier", "linear_head": [["", 0, 64, 16.0, "channels_first", 0]]},
}


def described(**changes: Any) -> Callable[[Path], None]:
    """Make a bank whose only source has a card of a network of any kind."""

    def write(here: Path) -> None:
        put_card(here / "bank/evil", here.parent, filled({**DESCRIPTION, **changes}, here))

    return write


def card(name: str, reported: str, code: int = 3, **changes: Any) -> Case:
    return Case(f"card_{name}", described(**changes), CARD, code, reported)


def built(name: str, kind: str, architecture: Any, reported: str, code: int = 3) -> Case:
    return card(name, reported, code, kind=kind, architecture=architecture)


def _own_code(here: Path) -> None:
    """A card whose digest fits code that lies beside it."""
    from seg_transfer.models.adapters._factory_code import digest_of_code

    (here / "evil_nets.py").write_text(f"open({str(here / 'marker')!r}, 'w').close()\ndef make():\n    return None\n")
    factory = {"kind": "factory", "factory": "evil_nets:make", "folder": str(here)}
    architecture = {**factory, "code": digest_of_code("evil_nets:make", here)}
    described(kind="factory", architecture=architecture)(here)


def _nested(here: Path) -> None:
    _own_code(here)
    inner = json.loads((here / "bank/evil/source.json").read_text())["model"]
    described(kind="mmseg", architecture=inner)(here)


FACTORY = {"kind": "factory", "factory": "os:getcwd", "folder": "HERE", "code": "0"}
CODE = [
    Case("factory_in_a_card", _own_code, CARD, 3, "is Python code and is not run; pass trust_code=True"),
    Case("factory_in_a_card_within_a_card", _nested, CARD, 3, "field model: None cannot be built"),
    Case(
        "factory_announced",
        described(kind="factory", architecture=FACTORY),
        ("inspect-model", "HERE/bank"),
        3,
        "warning: factory os:getcwd (looked for in",
    ),
    card("program_as_a_factory", "code", kind="factory", architecture={"factory": "subprocess:run", "folder": "/"}),
    card("kind_that_is_a_module", f"field model.kind: '{EVIL}': no kind of network", kind=EVIL),
    card("kind_that_is_a_list", "field model.kind: ['os']: must be text", kind=["os"]),
    card("kind_that_downloads", "field model.kind: 'mmseg_zoo': no kind", kind="mmseg_zoo"),
    card("kind_of_the_study", "field model.kind: 'study': no kind", kind="study"),
    built("program_of_mmseg", "mmseg", {"type": "subprocess.run", "args": ["touch", "HERE/marker"]}, "subprocess.run"),
    built("scope_of_mmseg", "mmseg", {"type": "evil_scope.Net"}, "field model.type: 'evil_scope.Net'"),
]
NUMBERS = [
    card("classes_beyond_memory", "field model.n_classes: 1099511627776: ", n_classes=1 << 40),
    card("negative_classes", "field model.n_classes: -1: ", n_classes=-1),
    card("classes_as_text", "field model.n_classes: '3': ", n_classes="3"),
    card("mean_that_is_no_number", "field model.mean.0: nan: ", mean=[float("nan"), 0, 0]),
    card("std_of_zero", "field model.std.0: 0: ", std=[0, 1, 1]),
    card("classifier_that_is_a_number", "field model.classifier: 5: must be text", classifier=5),
    card("classifier_of_another_network", "has no last layer 'head.x'", classifier="head.x", linear_head=[]),
    card("classifier_without_a_name", "has no last layer", classifier=None, linear_head=[]),
    card("head_of_letters", "field model.linear_head.0: 'abcd': ", linear_head=["abcd"]),
    card("head_beyond_memory", "linear_head.0.2: 1099511627776", linear_head=[["", 0, 1 << 40, 4.0, "tokens", 0]]),
    card("head_of_nothing", "linear_head.0.2: -1", linear_head=[["", 0, -1, 4.0, "tokens", 0]]),
    card("stride_of_nothing", "linear_head.0.3: 0", linear_head=[["", 0, 4, 0, "tokens", 0]]),
    card("layout_of_its_own", "linear_head.0.4: 'x'", linear_head=[["", 0, 4, 4.0, "x", 0]]),
    card("architecture_that_is_a_list", "field model.architecture: []", architecture=[]),
]


def timm(name: str, reported: str, code: int = 3, **architecture: Any) -> Case:
    return built(f"timm_{name}", "timm", {"kind": "timm", "model": "test_vit", **architecture}, reported, code)


LIBRARIES = [
    timm("of_the_hub", "field timm: 'hf-hub:evil/net'", model="hf-hub:evil/net"),
    timm("of_a_folder", "field timm: 'local-dir:", model="local-dir:SECRET"),
    timm("of_a_path", "has no such network", model="../../secret/net"),
    timm("of_a_list", "has no such network", model=["os", "system"]),
    timm("arguments_as_a_list", "test_vit: cannot be built", arguments=["x"]),
    timm("layer_that_is_a_function", "test_vit: cannot be built", arguments={"norm_layer": "os.system"}),
    timm("layer_that_is_a_module", "test_vit: cannot be built", arguments={"act_layer": f"{EVIL}.Net"}),
    timm("weights_of_its_own", "weights.safetensors: holds no", 5, arguments={"checkpoint_path": "SECRET/weights.pkl"}),
    timm(
        "download_of_its_own",
        "weights.safetensors: holds no",
        5,
        arguments={"pretrained": True},
        pretrained_cfg={"url": "http://127.0.0.1:9/w"},
    ),
    timm(
        "file_of_its_own",
        "weights.safetensors: holds no",
        5,
        pretrained_cfg={"file": "SECRET/weights.pkl", "custom_load": True},
    ),
    timm("of_a_billion_blocks", "has the number 1073741824", arguments={"depth": 1 << 30}),
    timm("of_many_blocks", "test_vit: cannot be built (", arguments={"depth": 1 << 14}),
    timm("of_a_terapixel", "test_vit: cannot be built", arguments={"img_size": [1 << 20, 1 << 20]}),
    timm("wide_beyond_memory", "test_vit: cannot be built", arguments={"embed_dim": 1 << 16}),
    built("smp_program", "smp", {"model": "os.system", "arguments": {}}, "smp has no architecture 'os.system'"),
    built("smp_without_arguments", "smp", {"model": "Unet"}, "are no mapping"),
    built("smp_encoder_of_the_hub", "smp", {"model": "Unet", "arguments": {"encoder_name": "tu-hf-hub:e/n"}}, "cannot"),
    built(
        "smp_encoder_of_a_folder",
        "smp",
        {"model": "Unet", "arguments": {"encoder_name": "tu-local-dir:SECRET"}},
        "smp Unet: cannot be built",
    ),
    built(
        "smp_wide_beyond_memory",
        "smp",
        {"model": "Unet", "arguments": {"encoder_name": "tu-test_resnet", "decoder_channels": [1 << 20] * 5}},
        "smp Unet: cannot be built",
    ),
    built("torchvision_module", "torchvision", {"model": f"{EVIL}.Net"}, f"'{EVIL}.Net': torchvision"),
    built("torchvision_without_a_name", "torchvision", {}, "'None': torchvision"),
    built("transformers_without_a_config", "transformers", {}, "field model.architecture is damaged"),
    built(
        "transformers_code",
        "transformers",
        {"role": "semantic", "config": {"model_type": "evil", "auto_map": {"AutoModel": "modeling.M"}}},
        "its code lies in the repository, and no code of a repository is run",
    ),
    built(
        "transformers_role",
        "transformers",
        {"role": "os.system", "config": {"model_type": "segformer"}},
        "transformers",
    ),
]


def timm_folder(config: dict[str, Any], put: Callable[[Path], object] | None = None) -> Callable[[Path], None]:
    """Make a bank with a folder of timm, or of smp if the config names a class."""

    def write(here: Path) -> None:
        folder = here / "bank/evil"
        folder.mkdir(parents=True)
        kind = {} if "_model_class" in config else {"architecture": "test_vit"}
        (folder / "config.json").write_text(json.dumps(filled({**kind, **config}, here)))
        save_weights({"weight": torch.zeros(2)}, folder / "model.safetensors")
        if put is not None:
            put(folder)

    return write


def _config_is(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / "config.json").unlink()
        make(folder / "config.json")

    return timm_folder({}, put)


def _names_without_end(folder: Path) -> None:
    """Weights whose names would take an expression that tracks back hours."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a" * (1 << 24))


def _zeros(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate((1 << 26) + 1)


NO_NORMALIZATION = {"_model_class": "Unet", "encoder_name": "resnet18"}
FOLDERS = [
    Case("config_that_is_a_queue", _config_is(os.mkfifo), BANK, 3, "evil: "),
    Case("config_without_end", _config_is(lambda file: file.symlink_to("/dev/zero")), BANK, 3, "evil: "),
    Case("config_of_a_gigabyte", _config_is(_zeros), BANK, 3, "has more than 64 MB"),
    Case("timm_config_of_the_hub", timm_folder({"architecture": "hf-hub:evil/net"}), BANK, 3, "'hf-hub:evil/net'"),
    Case(
        "timm_config_of_lists", timm_folder({"model_args": ["os.system"]}), BANK, 3, "field model_args: ['os.system']"
    ),
    Case(
        "timm_config_of_files",
        timm_folder({"model_args": {"checkpoint_path": "SECRET/weights.pkl"}, "pretrained_cfg": {"file": "SECRET/x"}}),
        BANK,
        5,
        "holds no parameter of this network",
    ),
    Case(
        "timm_config_of_no_numbers",
        timm_folder({"pretrained_cfg": {"mean": [float("nan")] * 3}}),
        BANK,
        3,
        "do not normalize",
    ),
    Case("names_without_end", timm_folder({}, _names_without_end), BANK, 5, "pytorch_model.bin: "),
    Case(
        "smp_config_of_lists", timm_folder({**NO_NORMALIZATION, "encoder_weights": ["x"]}), BANK, 3, "encoder_weights"
    ),
    Case(
        "smp_config_of_the_hub",
        timm_folder({"_model_class": "Unet", "encoder_name": "tu-hf-hub:e/n", "encoder_weights": "x"}),
        BANK,
        3,
        "evil",
    ),
    Case(
        "task_without_end",
        transformers_folder(
            {
                "model_type": "oneformer",
                "task_seq_len": 1 << 40,
                "architectures": ["OneFormerForUniversalSegmentation"],
            },
            vocab__json='{"a": 0}',
            merges__txt="",
        ),
        BANK,
        3,
        "field task_seq_len: 1099511627776",
    ),
    Case(
        "image_of_an_exapixel",
        transformers_folder({"model_type": "dinov2", "image_size": 1 << 30, "architectures": ["Dinov2Model"]}),
        BANK,
        3,
        "has the number 1073741824",
    ),
    Case(
        "layers_without_end",
        transformers_folder({"model_type": "segformer", "depths": [1 << 22, 1, 1, 1]}),
        BANK,
        3,
        "cannot be built from config.json",
    ),
    Case(
        "kind_of_code",
        text_of("bank.yaml", "sources: [{name: x, torchvision: 'os.system', weights: HERE/bank/good/weights.pth}]"),
        ("rank", "HERE/bank.yaml", *PLACE),
        3,
        "torchvision: 'os.system'",
    ),
]
KINDS = [*CODE, *NUMBERS, *LIBRARIES, *FOLDERS]
