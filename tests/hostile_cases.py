"""The corpus of malicious files: the command that reads each file, and how it must end."""

from hostile_files import (
    ESCAPES,
    EVIL,
    PLACE,
    STUDY_PLACE,
    Case,
    alias_bomb,
    images_with,
    manifest_with,
    nested,
    png_of,
    python_tag,
    study_with,
    text_of,
)
from hostile_kinds import KINDS
from hostile_models import MODELS

MANIFEST = ("rank", "HERE/bank", "--target", "HERE/manifest.yaml", *PLACE[2:])
PAIRING = {"image": "((?:[a-z]|[a-z/_0-9.])+)+$(?<!g)", "label": "(.*)"}
MANIFESTS = [
    Case("python_in_a_manifest", text_of("manifest.yaml", python_tag()), MANIFEST, 3, "not a plain YAML file"),
    Case("aliases_in_a_manifest", text_of("manifest.yaml", alias_bomb("name")), MANIFEST, 3, "its aliases expand to"),
    Case("manifest_without_end", text_of("manifest.yaml", nested(1100)), MANIFEST, 3, "nested too deeply"),
    Case(
        "root_outside", manifest_with(root="../../secret"), MANIFEST, 3, "root: '../../secret': a path must be relati"
    ),
    Case("images_of_the_machine", manifest_with(train={"images": "/etc/*", "labels": "x"}), MANIFEST, 3, "'/etc/*': "),
    Case("escapes_in_a_class", manifest_with(classes=["a", ESCAPES]), MANIFEST, 3, r"the text '\x1b]0;owned"),
    Case("bidi_in_a_title", manifest_with(title="\u202egnp.exe"), MANIFEST, 3, r"the text '\u202egnp.exe' has control"),
    Case("expression_that_never_ends", manifest_with(pairing=PAIRING), MANIFEST, 3, "takes more than"),
    Case(
        "expression_of_a_megabyte", manifest_with(pairing=dict.fromkeys(PAIRING, "(a)" * 9999)), MANIFEST, 3, "shorten"
    ),
    Case(
        "walks_without_end", manifest_with(train={"images": "**/a*/" * 9 + "b", "labels": "x"}), MANIFEST, 3, "9 times"
    ),
]
FOLDERS = ("rank", "HERE/bank", "--images", "HERE/images", "--labels", "HERE/labels", "--run-folder", "HERE/run")
OTHERS = [
    Case(
        "image_of_a_petabyte", images_with("a.png", png_of(1 << 20, 1 << 20)), FOLDERS, 4, "1099511627776 pixels, but"
    ),
    Case("escapes_in_a_file_name", images_with(f"{ESCAPES}\n.png", b"x"), FOLDERS, 4, r"\x1b]0;owned\x07\x1b[2J\u202e"),
    Case("python_in_a_bank", text_of("bank.yaml", python_tag()), ("rank", "HERE/bank.yaml", *PLACE), 3, "not a plain"),
    Case(
        "aliases_in_a_bank", text_of("bank.yaml", alias_bomb("sources")), ("rank", "HERE/bank.yaml", *PLACE), 3, "ali"
    ),
    Case(
        "name_that_is_a_path",
        text_of("bank.yaml", "sources: [{name: ../../secret/x, config: HERE/bank/good/source.json}]"),
        ("rank", "HERE/bank.yaml", *PLACE),
        3,
        "name: '../../secret/x'",
    ),
    Case(
        "timm_of_a_folder",
        text_of(
            "bank.yaml", "sources: [{name: x, timm: 'local-dir:evil', weights: HERE/bank/good/weights.safetensors}]"
        ),
        ("rank", "HERE/bank.yaml", *PLACE),
        3,
        "timm: 'local-dir:evil'",
    ),
    Case(
        "python_in_a_study",
        text_of("study.yaml", python_tag()),
        ("score-pairs", "HERE/study.yaml", *STUDY_PLACE),
        3,
        "not a plain YAML file",
    ),
    Case(
        "metric_that_is_a_module",
        text_of(
            "study.yaml", study_with("- {name: g, dataset: e, config: HERE/bank/good/source.json}").replace("gbc", EVIL)
        ),
        ("score-pairs", "HERE/study.yaml", *STUDY_PLACE),
        3,
        EVIL,
    ),
    Case(
        "python_in_results",
        text_of("run/study.yaml", python_tag()),
        ("report", "HERE/run"),
        7,
        "not the resolved study",
    ),
    Case(
        "results_that_are_paths",
        text_of(
            "run/study.yaml",
            "study: {sources: [{name: ../../secret, dataset: e}], targets: [t], metrics: [gbc]}\nmanifests: {}\n",
        ),
        ("evaluate", "HERE/run"),
        7,
        "study.sources.0.name: '../../secret'",
    ),
]
CASES = [*MODELS, *KINDS, *MANIFESTS, *OTHERS]
