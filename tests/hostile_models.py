"""The corpus of malicious models: cards, configs, checkpoints and folders of transformers."""

import json
import os
import pickle
from pathlib import Path

import torch
from hostile_files import (
    BANK,
    ESCAPES,
    EVIL,
    PLACE,
    STUDY_PLACE,
    TARGET,
    Case,
    Harm,
    alias_bomb,
    card_with,
    config_of,
    huge_header,
    nested,
    study_with,
    text_of,
    torch_script,
    transformers_folder,
    weights_as,
    wrong_header,
    zip_bomb,
)

RUN_TOUCH = {"type": "subprocess.run", "args": ["touch", "HERE/marker"]}
NORMALIZED = {"data_preprocessor": {"mean": [0, 0, 0], "std": [1, 1, 1]}}
RUN_SYSTEM = {**NORMALIZED, "type": "os.system", "command": "x", "backbone": 1, "decode_head": 1}
ONLY_REGISTERED = "only classes in mmsegmentation's registries are built"


def study_of_card(here: Path) -> None:
    card_with(backbone=RUN_TOUCH)(here)
    text = study_with("- {name: evil, dataset: elsewhere, config: HERE/bank/evil/source.json}")
    (here / "study.yaml").write_text(text.replace("HERE", str(here)).replace("ROOT", str(here.parent)))


def run_of_card(here: Path) -> None:
    """A finished run folder from elsewhere, with the card among its sources."""
    card_with(backbone=RUN_TOUCH)(here)
    (here / "run/sources").mkdir(parents=True)
    (here / "bank/evil").rename(here / "run/sources/evil")
    (here / "run/study.yaml").write_text(
        "study: {sources: [{name: evil, dataset: elsewhere}], targets: [t], metrics: [gbc]}\n"
        "manifests: {t: {classes: [a, b]}}\n"
    )


CARDS = [
    Case("card_runs_a_program", card_with(backbone=RUN_TOUCH), BANK, 3, "source.json: field model.backbone.type: 'su"),
    Case(
        "card_in_score_pairs",
        study_of_card,
        ("score-pairs", "HERE/study.yaml", *STUDY_PLACE),
        3,
        "field model.backbone.type: 'subprocess.run': " + ONLY_REGISTERED,
    ),
    Case(
        "card_in_explain",
        study_of_card,
        ("explain", "HERE/study.yaml", "--target", TARGET, "--data-root", "ROOT/world", "--run-folder", "HERE/run"),
        3,
        "field model.backbone.type: 'subprocess.run'",
    ),
    Case("card_in_report", run_of_card, ("report", "HERE/run"), 7, "no pair"),
    Case(
        "card_in_python", card_with(backbone=RUN_TOUCH), ("load_source_model", "HERE/bank/evil/source.json"), 3, "'su"
    ),
    Case("segmentor_is_os_system", card_with(type="os.system"), BANK, 3, "field model.type: 'os.system'"),
    Case("layer_in_a_list", card_with(decode_head__loss_decode=[RUN_TOUCH]), BANK, 3, "decode_head.loss_decode.0.type"),
    Case("list_of_heads", card_with(decode_head=[RUN_TOUCH]), BANK, 3, "field model.decode_head.0.type"),
    Case("list_of_necks", card_with(neck=[{"type": EVIL}]), BANK, 3, f"field model.neck.0.type: '{EVIL}'"),
    Case("plain_name_of_a_module", card_with(backbone__conv_cfg={"type": EVIL}), BANK, 3, f"conv_cfg.type: '{EVIL}'"),
    Case("dotted_name_of_a_module", card_with(backbone__norm_cfg={"type": f"{EVIL}.Net"}), BANK, 3, f"'{EVIL}.Net'"),
    Case("scope_in_the_name", card_with(backbone__type="evil_scope.Net"), BANK, 3, "field model.backbone.type: 'evil_"),
    Case("scope_beside_the_name", card_with(backbone___scope_="evil_scope"), BANK, 3, "field model.backbone._scope_"),
    Case("type_is_no_text", card_with(backbone__type=["os", "system"]), BANK, 3, "field model.backbone.type: ['os'"),
    Case("nothing_is_imported_for_it", card_with(custom_imports={"imports": [EVIL]}), BANK, 3, "cannot be built"),
    Case("base_in_a_card", card_with(_base_="SECRET/evil.py"), BANK, 3, "cannot be built"),
    Case(
        "network_of_its_own_imports",
        card_with(backbone={"type": "VPD", "diffusion_cfg": {"target": f"{EVIL}.Net"}, "class_embed_path": "SECRET/x"}),
        BANK,
        3,
        "field model.backbone.type: 'VPD'",
    ),
    Case(
        "weights_of_timm",
        card_with(backbone={"type": "TIMMBackbone", "model_name": "hf-hub:evil/net", "checkpoint_path": "SECRET/w"}),
        BANK,
        3,
        "cannot be built (",
    ),
    Case(
        "escapes_in_a_card", card_with(type=ESCAPES), BANK, 3, r"the text '\x1b]0;owned\x07\x1b[2J\u202e' has control"
    ),
    Case("no_card", text_of("bank/evil/source.json", nested()), BANK, 0, "not a readable source card"),
]
CONFIG = ("rank", "HERE/model.json:HERE/weights.safetensors", *PLACE)
YAML_CONFIG = ("rank", "HERE/model.yaml:HERE/weights.safetensors", *PLACE)
TOUCH_TAG = "model: !!python/object/apply:os.system ['touch HERE/marker']\n"
CONFIGS = [
    Case("base_that_is_code", config_of("model.json", '{"_base_": "SECRET/evil.py"}'), CONFIG, 3, "field _base_: '"),
    Case("base_in_yaml", config_of("model.yaml", "_base_: [SECRET/evil.py]\n"), YAML_CONFIG, 3, "field _base_: ['"),
    Case("python_in_yaml", config_of("model.yaml", TOUCH_TAG), YAML_CONFIG, 3, "line 1: not a plain YAML file: could "),
    Case("aliases_without_end", config_of("model.yaml", alias_bomb("model")), YAML_CONFIG, 3, "its aliases expand to"),
    Case("json_without_end", config_of("model.json", nested()), CONFIG, 3, "model.json: not a JSON file"),
    Case("yaml_without_end", config_of("model.yaml", nested(1100)), YAML_CONFIG, 3, "nested too deeply"),
    Case("no_mapping", config_of("model.json", '["model"]'), CONFIG, 3, "holds a list instead of a mapping"),
    Case(
        "dotted_type_in_json",
        config_of("model.json", json.dumps({"model": RUN_SYSTEM})),
        CONFIG,
        3,
        "model.json: field model.type: 'os.system'",
    ),
    Case(
        "kind_of_no_config",
        config_of("model.txt", "import os; os.system('touch HERE/marker')"),
        ("rank", "HERE/model.txt:HERE/weights.safetensors", *PLACE),
        3,
        "model.txt: a model config is a .py, .json, .yaml or .yml file",
    ),
]


def weights(name: str, suffix: str, put: object, reported: str) -> Case:
    words = ("rank", f"HERE/model.json:HERE/w{suffix}", *PLACE)
    return Case(name, weights_as(f"w{suffix}", put), words, 5, reported)  # type: ignore[arg-type]


def _pickled(file: Path, here: Path) -> None:
    file.write_bytes(pickle.dumps(Harm(here / "marker")))


def _saved(file: Path, here: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "meta": Harm(here / "marker")}, file)


def _queue(file: Path, _here: Path) -> None:
    os.mkfifo(file)


CHECKPOINTS = [
    weights("pickle_runs", ".pth", _pickled, "w.pth: holds no weights"),
    weights("object_beside_tensors", ".pth", _saved, "w.pth: holds no parameter of this network"),
    weights("pickle_named_safetensors", ".safetensors", _pickled, "not a readable safetensors file"),
    weights("header_of_an_exabyte", ".safetensors", huge_header, "not a readable safetensors file"),
    weights("tensor_of_a_yottabyte", ".safetensors", wrong_header, "not a readable safetensors file"),
    weights("code_of_torch_script", ".pt", torch_script, "w.pt: "),
    weights("zip_bomb", ".pth", zip_bomb, "w.pth: "),
    weights("queue_that_never_answers", ".pth", _queue, "w.pth: no such checkpoint file"),
    weights("endless_device", ".pth", lambda file, _here: file.symlink_to("/dev/zero"), "zero: no such checkpoint"),
]
TRANSFORMERS = [
    Case(
        "remote_code",
        transformers_folder(
            {"model_type": "evil", "auto_map": {"AutoConfig": "modeling.C", "AutoModel": "modeling.M"}},
            modeling__py="import os\nos.system('touch HERE/marker')\n",
        ),
        BANK,
        3,
        "not a config of transformers",
    ),
    Case(
        "remote_code_of_a_known_kind",
        transformers_folder(
            {"model_type": "segformer", "auto_map": {"AutoModel": "modeling.M"}},
            modeling__py="import os\nos.system('touch HERE/marker')\n",
        ),
        BANK,
        5,
        "keys in its weights",
    ),
    Case(
        "backbone_of_the_hub",
        transformers_folder({"model_type": "upernet", "backbone": "evil/net", "use_pretrained_backbone": True}),
        BANK,
        3,
        "not a config of transformers",
    ),
    Case(
        "backbone_of_a_folder",
        transformers_folder({"model_type": "dpt", "backbone": "SECRET", "is_hybrid": True}),
        BANK,
        3,
        "not a config of transformers",
    ),
    Case(
        "quantization",
        transformers_folder({"model_type": "segformer", "quantization_config": {"quant_method": "bitsandbytes"}}),
        BANK,
        3,
        "quantization_config",
    ),
    Case(
        "kernel_of_the_hub",
        transformers_folder(
            {"model_type": "beit", "attn_implementation": "evil/kernel", "hidden_size": 24, "num_hidden_layers": 4}
            | {"num_attention_heads": 2, "intermediate_size": 8, "out_indices": [1, 2, 3, 4]}
        ),
        BANK,
        5,
        "evil: ",
    ),
    Case(
        "shard_outside",
        transformers_folder(
            {"model_type": "segformer"}, model__safetensors__index__json='{"weight_map": {"w": "../../secret/x"}}'
        ),
        BANK,
        5,
        "keys in its weights",
    ),
]

# Parts of a config that would make mmseg read a file: they are dropped, and the source is ranked.
_PRETRAINED = {"type": "Pretrained", "checkpoint": "SECRET/weights.pkl"}
DROPPED = {
    "pretrained": {"pretrained": "SECRET/weights.pkl"},
    "download": {"backbone__pretrained": "http://127.0.0.1:9/w.pth"},
    "init_cfg": {"backbone__init_cfg": _PRETRAINED},
    "init_cfg_of_the_head": {"decode_head__init_cfg": {**_PRETRAINED, "prefix": "decode_head."}},
    "list_of_init_cfg": {"backbone__init_cfg": [{"type": "Kaiming", "layer": "Conv2d"}, _PRETRAINED]},
    "other_spelling": {"backbone__init_cfg": {**_PRETRAINED, "type": "PretrainedInit"}},
    "spelling_with_scope": {"backbone__init_cfg": {**_PRETRAINED, "type": "mmengine.Pretrained"}},
    "spelling_of_a_class": {"backbone__init_cfg": {**_PRETRAINED, "type": "mmengine.model.weight_init.PretrainedInit"}},
    "part": {"decode_head__init_cfg": {**_PRETRAINED, "type": "Pretrained_Part"}},
    "other_type": {"backbone__init_cfg": {"type": "Kaiming", "checkpoint": "SECRET/weights.pkl"}},
    "override": {"decode_head__init_cfg": {"type": "Normal", "override": {**_PRETRAINED, "name": "conv_seg"}}},
    "class_weights": {
        "decode_head__loss_decode": {"type": "CrossEntropyLoss", "class_weight": "SECRET/weights.pkl"},
    },
}
DROPPED_CASES = [
    Case(f"dropped_{name}", card_with(**changes), ("load_source_model", "HERE/bank/evil/source.json"), 0, "")
    for name, changes in DROPPED.items()
]
DROPPED_CASES += [Case("dropped_and_ranked", card_with(**DROPPED["init_cfg"]), BANK, 0, "evil")]
MODELS = [*CARDS, *CONFIGS, *CHECKPOINTS, *TRANSFORMERS, *DROPPED_CASES]
